"""Faults with real causes: descriptors run out, system calls that fail, links that go down, lose, delay and reorder."""

import contextlib
import ctypes
import heapq
import io
import os
import random
import re
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import textwrap
import threading
import time

import pytest
import sock
from support import OTHERS

with contextlib.suppress(ImportError):
    # Of Unix.
    import fcntl
    import resource
    import termios

# Descriptors


@contextlib.contextmanager
def no_descriptors():
    """No descriptor is left for this process. Gives a function that lets go of so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir('/dev/fd'))) + 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (used, hard))
    taken = []
    try:
        with contextlib.suppress(OSError):
            while True:
                # Holes below the limit.
                taken.append(os.dup(0))
        if not taken:
            # One more, so that there is one to let go of.
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, hard))
            taken.append(os.dup(0))
        yield lambda count: [os.close(taken.pop()) for _ in range(count)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in taken:
            os.close(fd)


def pair_after(close, number):
    """Closes a socket of that number, and makes a connection at once: two stdlib sockets, the first of which has taken
    the number over if one has.

    Not socketpair(), which on Windows makes a listener first, that takes the number and is gone at its end.
    """
    with contextlib.ExitStack() as others, socket.create_server(('127.0.0.1', 0)) as listener:

        def pair():
            return socket.create_connection(listener.getsockname(), 10), listener.accept()[0]

        close()
        ours, theirs = pair()
        for _ in range(10):
            if number in (ours.fileno(), theirs.fileno()):
                break
            # Lower ones were free.
            others.push(ours)
            others.push(theirs)
            ours, theirs = pair()
    return (theirs, ours) if theirs.fileno() == number else (ours, theirs)


class Canaries:
    """Connections that take the numbers of closed descriptors over: nobody else may read from them or write to them."""

    def __init__(self):
        #: How many got the very number.
        self.reused = 0

    async def close_under(self, conn, threads):
        """Closes a connection in another OS thread while those threads use it, and sees what became of its number."""
        made = []

        def close():
            number = conn.fileno()
            made.extend(pair_after(conn.close, number))
            made[1].sendall(b'canary')
            self.reused += made[0].fileno() == number

        closer = threading.Thread(target=close)
        closer.start()
        for thread in threads:
            with contextlib.suppress(sock.Error):
                await thread
        closer.join()
        with made[0] as ours, made[1] as theirs:
            for each in made:
                each.setblocking(False)
            assert ours.recv(100) == b'canary', 'somebody else read from it'
            with pytest.raises(BlockingIOError):
                theirs.recv(1)

    async def close_file_under(self, file, write, threads):
        """The same of a pipe's reading end, a file; `write` is the other one, which is closed then."""
        with contextlib.ExitStack() as others, contextlib.ExitStack() as writing:
            made = []

            def close():
                number = file.fileno()
                # One read after the other.
                for _ in range(20):
                    os.write(write, b'data')
                file.close()
                for _ in range(10):
                    made[:] = os.pipe()
                    others.callback(os.close, made[0])
                    writing.callback(os.close, made[1])
                    if made[0] == number:
                        break
                os.write(made[1], b'canary')
                self.reused += made[0] == number
                os.close(write)

            closer = threading.Thread(target=close)
            closer.start()
            for thread in threads:
                # Where the read had begun before, it finds the pipe's end instead.
                with contextlib.suppress(ValueError):
                    await thread
            closer.join()
            # Where somebody else has read it, there is the end instead, for which nobody waits.
            writing.close()
            assert os.read(made[0], 100) == b'canary', 'somebody else read from it'


# System calls


@contextlib.contextmanager
def injected(code, *injections, args=()):
    """Runs a program under strace, which makes system calls fail or last longer, as its option -e inject= says.

    Gives a list, which at the end has the lines that strace wrote of those calls; the program must end cleanly.
    """
    if shutil.which('strace') is None:
        pytest.skip('strace, which makes system calls fail, is not installed')
    if subprocess.run(['strace', '-o', '/dev/null', 'true'], capture_output=True).returncode:
        pytest.skip('strace may not trace here')
    lines = []
    with tempfile.NamedTemporaryFile('r', prefix='strace') as log:
        strace = ['strace', '-f', '-qq', '-o', log.name, '-e', 'signal=none']
        strace += ['-e', 'trace=' + ','.join({injection.partition(':')[0] for injection in injections})]
        strace += [word for injection in injections for word in ('-e', f'inject={injection}')]
        program = [sys.executable, '-W', 'error', '-c', textwrap.dedent(code), *map(str, args)]
        process = subprocess.Popen(strace + program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            yield lines
            out, errors = process.communicate(timeout=40)
            assert (process.returncode, out + errors) == (0, '')
            lines += log
        finally:
            process.kill()
            process.communicate()


def accept_suffers(error, threads, raises=None):
    """accept(2) fails with clients queued: that comes out as ``raises``, or accept goes on; none of them is lost."""
    code = """
        import socket, sys
        import sock

        raises = getattr(sock, sys.argv[2]) if sys.argv[2] else ()
        failed = []

        async def accept(listener):
            while True:
                try:
                    conn, _, _ = await listener.accept(sock.clock() + 10)
                except raises as error:
                    failed.append(error)
                else:
                    conn.close()
                    return

        async def main():
            with sock.tcp() as listener:
                listener.listen('127.0.0.1')
                clients = [socket.create_connection(tuple(listener.local_addr), 10) for _ in range(5)]
                for client in clients:
                    with client:
                        await accept(listener)
                        assert client.recv(1) == b''
                # strace counts for each OS thread by itself.
                assert len(failed) >= 3 if raises else not failed, failed
                # And it goes on waiting.
                thread = sock.newthread(accept, listener)
                assert not thread.done
                with socket.create_connection(tuple(listener.local_addr), 10):
                    await thread

        sock.run(main, threads=int(sys.argv[1]))
    """
    name = '' if raises is None else raises.__name__
    with injected(code, f'accept4:error={error}:when=1..3', args=(threads, name)) as calls:
        pass
    assert sum('INJECTED' in call for call in calls) >= 3


# Disks

# Numbers of these system calls, the same for each processor.
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 1, 6


@contextlib.contextmanager
def small_disk(size):
    """A disk with room for so many bytes, mounted nowhere. Gives what opens its files by name and mode."""
    if not sys.platform.startswith('linux') or os.geteuid() != 0:
        pytest.skip('needs a disk of its own: root, on Linux')
    libc = ctypes.CDLL(None, use_errno=True)

    def call(*args):
        result = libc.syscall(*args)
        if result < 0:
            pytest.skip(f'no file system of its own here: {os.strerror(ctypes.get_errno())}')
        return result

    with contextlib.ExitStack() as stack:
        # Each with the flag to be closed by exec.
        making = call(_FSOPEN, b'tmpfs', 1)
        stack.callback(os.close, making)
        call(_FSCONFIG, making, _FSCONFIG_SET_STRING, b'size', str(size).encode(), 0)
        call(_FSCONFIG, making, _FSCONFIG_CMD_CREATE, None, None, 0)
        root = call(_FSMOUNT, making, 1, 0)
        stack.callback(os.close, root)

        def opener(name, flags):
            return os.open(name, flags, 0o600, dir_fd=root)

        yield lambda name, mode: io.FileIO(name, mode, opener=opener)


# Networks

_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 1, 0x1000


def command(*words):
    """A command that must succeed, in the network namespace of this OS thread; what it printed."""
    done = subprocess.run(words, capture_output=True, text=True, env=OTHERS)
    assert done.returncode == 0, f'{" ".join(words)}: {done.stderr}'
    return done.stdout


def sysctl(name, value):
    """A setting of this network namespace; gives the old one."""
    with open(f'/proc/sys/net/{name}', 'r+') as f:
        old = f.read().strip()
        f.seek(0)
        f.write(str(value))
    return old


@contextlib.contextmanager
def namespace():
    """A network namespace for this OS thread, and for all that it starts meanwhile, with a loopback alone."""
    if not sys.platform.startswith('linux') or os.geteuid() != 0:
        pytest.skip('needs a network namespace of its own: root, on Linux')
    if shutil.which('ip') is None:
        pytest.skip('ip, of iproute2, is not installed: it brings up the network namespace')
    libc = ctypes.CDLL(None, use_errno=True)
    old = os.open('/proc/thread-self/ns/net', os.O_RDONLY)
    try:
        if libc.unshare(_CLONE_NEWNET):
            pytest.skip(f'no network namespace here: {os.strerror(ctypes.get_errno())}')
        try:
            command('ip', 'link', 'set', 'lo', 'up')
            yield
        finally:
            assert libc.setns(old, _CLONE_NEWNET) == 0
    finally:
        os.close(old)


class Wire:
    """A link of a network namespace whose packets pass through our hands (a TUN device), so they can suffer.

    This side is `HERE`. Who connects to `THERE` comes out of the wire as `THERE`, which connects to `HERE`: addresses
    are swapped on the way, which leaves all checksums right.
    """

    HERE, THERE = '10.99.0.1', '10.99.0.2'

    def __init__(self):
        #: Of each packet, what becomes of it: seconds of delay, or None for lost.
        self.fate = lambda packet: 0.0
        self._end, self._stop = os.pipe()
        self._tun = os.open('/dev/net/tun', os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(self._tun, _TUNSETIFF, struct.pack('16sH22x', b'wire', _IFF_TUN | _IFF_NO_PI))
        command('ip', 'addr', 'add', f'{self.HERE}/24', 'dev', 'wire')
        command('ip', 'link', 'set', 'wire', 'up')
        self.lost = self.carried = self.overtaken = 0
        self._thread = threading.Thread(target=self._carry, name='wire')
        self._thread.start()

    def rough(self, loss=0.03, delay=0.004, seed=5):
        """Loses some packets and delays each at random, so that they overtake each other."""
        rng = random.Random(seed)
        self.fate = lambda packet: None if rng.random() < loss else rng.random() * delay

    def dead(self):
        """Loses all."""
        self.fate = lambda packet: None

    def whole(self):
        self.fate = lambda packet: 0.0

    def _carry(self):
        flying, number, last = [], 0, 0
        while True:
            timeout = max(flying[0][0] - time.monotonic(), 0) if flying else None
            ready, _, _ = select.select([self._tun, self._end], [], [], timeout)
            if self._end in ready:
                return
            if self._tun in ready:
                packet = os.read(self._tun, 65536)
                if packet[0] >> 4 == 4:
                    number += 1
                    delay = self.fate(packet)
                    if delay is None:
                        self.lost += 1
                    else:
                        swapped = packet[:12] + packet[16:20] + packet[12:16] + packet[20:]
                        heapq.heappush(flying, (time.monotonic() + delay, number, swapped))
            while flying and flying[0][0] <= time.monotonic():
                _, at, packet = heapq.heappop(flying)
                self.overtaken += at < last
                last = max(last, at)
                with contextlib.suppress(OSError):
                    # The link is down, or its queue full: lost.
                    os.write(self._tun, packet)
                    self.carried += 1

    def close(self):
        os.write(self._stop, b'.')
        self._thread.join()
        for fd in (self._end, self._stop, self._tun):
            os.close(fd)


@contextlib.contextmanager
def wire():
    """A wire in a network namespace of its own."""
    with namespace():
        if not os.path.exists('/dev/net/tun'):
            pytest.skip('needs /dev/net/tun')
        made = Wire()
        try:
            yield made
        finally:
            made.close()


class Netem:
    """A loopback whose packets the kernel loses, delays and reorders by itself (`tc netem`): it goes for a `Wire`."""

    HERE = THERE = '127.0.0.1'

    @property
    def lost(self):
        return int(re.search(r'dropped (\d+)', command('tc', '-s', 'qdisc', 'show', 'dev', 'lo'))[1])

    def rough(self):
        # Of about the length of those of a wire, since of fewer that are longer too few would be lost.
        command('ip', 'link', 'set', 'lo', 'mtu', '1500', 'gso_max_size', '1500', 'gso_max_segs', '1')
        command('tc', 'qdisc', 'change', 'dev', 'lo', 'root', 'netem', 'delay', '2ms', '2ms', 'loss', '3%')


@contextlib.contextmanager
def netem():
    """A loopback of a network namespace of its own, under netem, which does nothing to its packets yet."""
    with namespace():
        if shutil.which('tc') is None:
            pytest.skip('tc, of iproute2, is not installed: it asks the kernel for netem')
        words = ['tc', 'qdisc', 'add', 'dev', 'lo', 'root', 'netem', 'delay', '0ms']
        added = subprocess.run(words, capture_output=True, text=True, env=OTHERS)
        if added.returncode:
            pytest.skip(f'this kernel has no netem: {added.stderr.strip()}')
        yield Netem()


def connected(wire):
    """A connection through the wire: two stdlib sockets."""
    with socket.create_server((wire.HERE, 0)) as listener:
        ours = socket.create_connection((wire.THERE, listener.getsockname()[1]), 10)
        theirs, address = listener.accept()
    assert address[0] == wire.THERE
    theirs.settimeout(30)
    return ours, theirs


def registrations(poll_fd):
    """The descriptors that an epoll watches."""
    with open(f'/proc/self/fdinfo/{poll_fd}') as f:
        return [int(number) for number in re.findall(r'^tfd:\s+(\d+)', f.read(), re.MULTILINE)]


def outstanding(s):
    """Bytes that a stdlib socket has sent and that the other system has not acknowledged."""
    return struct.unpack('i', fcntl.ioctl(s, termios.TIOCOUTQ, bytes(4)))[0]
