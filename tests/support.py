"""What several test modules use."""

import contextlib
import ctypes
import functools
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import types
from pathlib import Path

import pytest
import sock
from held import ASAN

TESTS = Path(__file__).parent
EXAMPLES = TESTS.parent / 'examples'

LINUX = sys.platform == 'linux'

#: Whether who sends a unix datagram waits until there is room: elsewhere the system says at once that there is none.
UNIX_DATAGRAMS_WAIT = LINUX

#: Bytes of a long unix datagram, which each system takes as it is: macOS' net.local.dgram.maxdgram is 2,048.
LONG_UNIX_DATAGRAM = 150_000 if LINUX else 1_000

#: Of UDP, the most that each system takes: on macOS and FreeBSD net.inet.udp.maxdgram is 9,216.
LONGEST_DATAGRAM = 65_507 if LINUX or sys.platform == 'win32' else 9_216

#: Windows, and not the real one.
WINE = sys.platform == 'win32' and hasattr(ctypes.WinDLL('ntdll'), 'wine_get_version')

#: What a test says of itself that passes since Wine refuses an option, as it has to.
REFUSED_BY_WINE = ('refused by', 'Wine')

#: How many times as long as elsewhere something may take: most system calls of Wine go through a server, and
#: AddressSanitizer looks at each access to memory, and at each allocation.
SLOWER = 4 if WINE or ASAN else 1

#: The environment of programs of others, at which AddressSanitizer does not look.
OTHERS = {name: value for name, value in os.environ.items() if not (ASAN and name == 'LD_PRELOAD')}

#: Wine does not say how many there are.
PROCESSORS = os.cpu_count() or 1

#: Who runs this may do everything.
ROOT = bool(ctypes.WinDLL('shell32').IsUserAnAdmin()) if sys.platform == 'win32' else os.geteuid() == 0


def run(func):
    """Runs a coroutine (function) of a test to its end, for 20 seconds at most."""
    thread = sock.newthread(func, name='test')
    if not sock.start(20 * SLOWER):
        thread.cancel()
        sock.start(5)
        pytest.fail(f'not done after {20 * SLOWER} s')
    return thread.result()


def busy():
    """How many times as long as on a free machine something may take that waits for a processor."""
    if hasattr(os, 'getloadavg'):
        load = os.getloadavg()[0]
    elif WINE:
        # By its drive: a test may be on another one.
        load = float(Path('Z:/proc/loadavg').read_text().split()[0])
    else:
        load = 0
    return SLOWER * max(1, load / PROCESSORS)


@contextlib.contextmanager
def polling(count, poll=lambda: sock.start(30 * SLOWER)):
    """So many OS threads more that poll this one's Poller until the block ends; gives what `poll` returned in each."""
    poller = sock.poller()
    results = []

    def target():
        sock.poller(poller)
        results.append(poll())

    os_threads = [threading.Thread(target=target) for _ in range(count)]
    for os_thread in os_threads:
        os_thread.start()
    try:
        yield results
    finally:
        for os_thread in os_threads:
            os_thread.join(30 * SLOWER)
        assert not any(os_thread.is_alive() for os_thread in os_threads), 'an OS thread did not come back'


@functools.cache
def _mortal():
    before = ['setpriv', '--pdeathsig', 'KILL', '--']
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        subprocess.run([*before, 'true'], capture_output=True, check=True)
        return before
    return []


def mortal(command):
    """The command of a program that is killed when this OS thread ends, however that ends: Linux's, with util-linux."""
    return [*_mortal(), *map(str, command)]


@contextlib.contextmanager
def short_folder():
    """A folder for unix sockets, whose paths have 103 bytes at most on macOS and FreeBSD: pytest's may have more."""
    posix = os.name == 'posix'
    # What a program that was ended still has open cannot be removed on Windows.
    with tempfile.TemporaryDirectory('', 'sock-', '/tmp' if posix else None, ignore_cleanup_errors=not posix) as folder:
        yield Path(folder)


def certify(folder, *, openssl=True):
    """Makes a certificate for localhost, 127.0.0.1 and ::1, by openssl where it is wanted and there, else by trustme.

    Its file, which has whom to trust for it too, and that of its key.
    """
    certificate, key = folder / 'certificate.pem', folder / 'key.pem'
    if not openssl or shutil.which('openssl') is None:
        why = 'neither openssl nor trustme is there: one that makes the certificate is not installed'
        authority = pytest.importorskip('trustme', reason=why).CA()
        made = authority.issue_cert('localhost', '127.0.0.1', '::1')
        made.private_key_pem.write_to_path(key)
        for part in (*made.cert_chain_pems, authority.cert_pem):
            part.write_to_path(certificate, append=True)
        return certificate, key
    command = ['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes']
    command += ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1']
    subprocess.run([*command, '-keyout', key, '-out', certificate], capture_output=True, timeout=10, check=True)
    return certificate, key


def python(code, *args, **options):
    """Runs a program that has to end quietly; what it printed."""
    command = [sys.executable, '-W', 'error', '-c', textwrap.dedent(code), *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50 * SLOWER, **options)
    assert (done.returncode, done.stderr) == (0, ''), f'{done.returncode}: {done.stderr}'
    return done.stdout


@contextlib.contextmanager
def serving(*command, interrupt=True):
    """Runs a server of its own process on any free port; gives its `port`, and when it has ended what it `printed`.

    It is ended as Ctrl-C does, or else by the end of its input, and must have nothing to complain of.
    """
    command = mortal([sys.executable, *command, '--port', '0'])
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        line = process.stdout.readline()
        found = re.fullmatch(r'listening on 127\.0\.0\.1:(\d+)\n', line)
        assert found, (line, process.stderr.read() if process.poll() is not None else '')
        server = types.SimpleNamespace(port=int(found[1]))
        yield server
        if interrupt:
            process.send_signal(signal.SIGINT if os.name != 'nt' else signal.SIGTERM)
        server.printed, errors = process.communicate(timeout=10)
        assert errors == ''
        assert process.returncode == 0 or (interrupt and os.name == 'nt')
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def descriptors(count):
    """At least so many descriptors for this process."""
    if sys.platform == 'win32':
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f'needs {count} descriptors, and may have {hard}')
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def is_open(fd):
    """Whether the OS has a socket of that number."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, fileno=fd).detach()
    except OSError:
        return False
    return True


def interrupt(code, within):
    """Runs a program that prints 'ready', sends it Ctrl-C, and sees it print 'interrupted' within so many seconds."""
    # As from a terminal: where the tests run in the background, Ctrl-C may be ignored, and programs inherit that.
    begin = 'import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n'
    program = [sys.executable, '-c', begin + textwrap.dedent(code)]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == 'ready\n'
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == 'interrupted\n'
        assert time.monotonic() - begin < within
        _, errors = process.communicate(timeout=10)
        assert errors == ''
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()


def reset_on_close(other):
    other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))


def unread(s):
    """Whatever is there for a stdlib socket until its end."""
    return b''.join(iter(lambda: s.recv(1 << 20), b''))


class Counted:
    """An operation that counts how often its thread had to wait in it: each wait is one resumption."""

    def __init__(self, operation):
        self.operation = operation
        self.waits = 0

    def __await__(self):
        steps = self.operation.__await__()
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                return end.value
            self.waits += 1
            yield step
