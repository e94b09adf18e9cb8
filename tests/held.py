"""What a process holds, and how much of it the system allows."""

import contextlib
import ctypes
import os

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


def descriptors():
    return len(os.listdir('/proc/self/fd')) if os.path.isdir('/proc/self/fd') else 0


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
