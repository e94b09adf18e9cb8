"""What a process holds, and how much of it the system allows."""

import contextlib
import ctypes
import os
import stat
import sys

#: AddressSanitizer watches, and keeps what was freed.
ASAN = 'libasan' in os.environ.get('LD_PRELOAD', '')


def resident():
    """The process's memory, in bytes; 0 where the system does not tell, or where it says nothing."""
    if ASAN:
        return 0
    try:
        with open('/proc/self/statm') as file:
            return int(file.read().split()[1]) * os.sysconf('SC_PAGESIZE')
    except (AttributeError, OSError):
        # Under Wine there is /proc, and no `sysconf`.
        return 0


def give_back():
    """Lets glibc give back to the system the memory that it keeps for later."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


#: Where systems list the descriptors of a process. FreeBSD's second one has three in it, unless fdescfs is mounted.
LISTS = ('/proc/self/fd', '/dev/fd')

#: Where nothing lists them, numbers up to this one are tried: they are given from the lowest on.
TRIED = 1 << 16


def listed(folder):
    """The numbers that are listed there; None where that is not all there are."""
    probe = os.open(os.devnull, os.O_RDONLY)
    try:
        numbers = {int(name) for name in os.listdir(folder)}
    except OSError:
        return None
    finally:
        os.close(probe)
    return numbers if probe in numbers else None


def open_descriptors():
    """The numbers that are open, each with what it is. On Windows sockets are none: a ResourceWarning tells of them."""
    if sys.platform == 'win32':
        return {}
    numbers = next((found for found in map(listed, LISTS) if found is not None), None)
    if numbers is None:
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        numbers = range(TRIED if limit == resource.RLIM_INFINITY else min(limit, TRIED))
    found = {}
    for number in numbers:
        # That of the listing itself is closed by now.
        with contextlib.suppress(OSError):
            found[number] = description(number)
    return found


def description(number):
    """Where a descriptor leads to, or which inode it is: on macOS those of /dev/fd are no links."""
    for folder in LISTS:
        with contextlib.suppress(OSError):
            return os.readlink(f'{folder}/{number}')
    its = os.fstat(number)
    return f'{stat.filemode(its.st_mode)} {its.st_dev}:{its.st_ino}'


def descriptors():
    return len(open_descriptors())


def descriptors_allowed(wanted):
    """Raises the limit of open descriptors as far as is wanted, or allowed; what it is then."""
    try:
        import resource
    except ImportError:
        return wanted  # Windows has no such limit
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Root may raise the hard limit too.
    for limits in ((wanted, hard), (wanted, wanted), (hard, hard)):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            break
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if limit == resource.RLIM_INFINITY else limit
