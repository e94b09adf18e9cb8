"""Scenarios 22 to 34: moving bytes."""

import array
import contextlib
import ctypes
import errno
import hashlib
import io
import mmap
import os
import re
import signal
import socket
import threading
import time

import pytest
import sock
from conftest import PATIENCE
from held import resident
from support import LINUX, LONGEST_DATAGRAM, Counted, reset_on_close, unread

from .conftest import own_program
from .faults import command, connected, injected, namespace, netem, small_disk, wire


def soon(seconds=PATIENCE):
    return sock.clock() + seconds


@contextlib.contextmanager
def elsewhere(func, *args):
    """Runs a function of the other side in an OS thread; gives a list that has its result at the end."""
    results = []
    os_thread = threading.Thread(target=lambda: results.append(func(*args)))
    os_thread.start()
    try:
        yield results
    finally:
        os_thread.join()
    assert results, 'the other side failed'


def digest_of(s, at_once=1 << 20):
    """The length and a digest of what comes, until the end."""
    total, digest = 0, hashlib.blake2b()
    buf = bytearray(at_once)
    while n := s.recv_into(buf):
        total += n
        digest.update(memoryview(buf)[:n])
    return total, digest.digest()


def same(data, *more):
    digest = hashlib.blake2b(data)
    for each in more:
        digest.update(each)
    return len(data) + sum(map(len, more)), digest.digest()


# 22


@pytest.mark.skipif(not LINUX, reason='how much memory there is, is read as Linux tells it')
def test_s22_slow_peer_gets_all_and_memory_stays_flat(run, peer):
    """Scenario 22: Peer reads slowly -> send waits, memory stays flat."""
    conn, other = peer
    data = bytes(bytearray(os.urandom(1 << 16)) * 512)
    most = 0

    async def watch():
        nonlocal most
        while True:
            most = max(most, resident())
            await sock.sleep(0.001)

    async def main():
        watching = sock.newthread(watch)
        before = resident()
        assert await conn.send(data, expires=soon(30)) == len(data)
        conn.shutdown('w')
        watching.cancel()
        assert most - before < 8_000_000

    with elsewhere(digest_of, other, 4096) as got:
        run(main)
    assert got == [same(data)]


def test_s22_peer_that_never_reads(run, peer):
    """Scenario 22: Peer never reads -> send waits; `expires` tells `e.sent` exactly (the peer counts the same)."""
    conn, other = peer
    other.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    data = bytes(range(256)) * 100_000

    async def main():
        counted = Counted(conn.send(data, expires=soon(0.1)))
        with pytest.raises(sock.Timeout, match=r'of 25600000 bytes sent') as caught:
            await counted
        assert counted.waits > 0
        assert conn.closed
        return caught.value

    error = run(main)
    assert 0 < error.sent < len(data)
    assert error.received == 0
    assert unread(other) == data[: error.sent]


def test_s22_both_sides_send_until_clogged_and_then_drain(run, peer):
    """Scenario 22: Neither side reads, and both send until the buffers are full both ways -> send waits; when both
    read, nothing is lost."""
    conn, other = peer
    there, back = os.urandom(1 << 16) * 160, os.urandom(1 << 16) * 160
    conn.setopt('so_sndbuf', 1 << 16)
    other.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
    sent = 0
    full, drain = threading.Event(), threading.Event()

    def theirs():
        nonlocal sent
        try:
            # Full when there has been no room for so long.
            other.settimeout(0.3)
            with contextlib.suppress(TimeoutError):
                while sent < len(back):
                    sent += other.send(back[sent : sent + (1 << 16)])
        finally:
            full.set()
        assert drain.wait(PATIENCE)
        other.settimeout(30)
        with elsewhere(unread, other) as got:
            other.sendall(back[sent:])
            other.shutdown(socket.SHUT_WR)
        return got.pop()

    async def main():
        sending = sock.newthread(conn.send(there, expires=soon(30)))
        assert await sock.offload(full.wait, PATIENCE)
        before = -1
        while before != conn.stats.bytes_sent:
            before = conn.stats.bytes_sent
            await sock.sleep(0.02)
        assert not sending.done
        assert 0 < before < len(there)
        assert 0 < sent < len(back)
        drain.set()
        buf = bytearray(len(back))
        assert await conn.recvn(buf, expires=soon(30)) == len(back)
        assert buf == back
        assert await conn.recv(1, expires=soon()) == b''
        assert await sending == len(there)
        conn.shutdown('w')

    with elsewhere(theirs) as got:
        run(main)
    assert got == [there]


@pytest.mark.parametrize('how', ['loses all', 'down'])
def test_s22_link_that_goes_down(run, how):
    """Scenario 22: Peer never reads, since the link is down -> send waits; `expires` tells `e.sent` exactly: the peer
    counts the same when the link is back."""
    data = bytes(range(256)) * 40_000

    async def main(link, conn):
        sending = sock.newthread(conn.send(data, expires=soon(0.3)))
        assert not sending.done
        if how == 'down':
            command('ip', 'link', 'set', 'wire', 'down')
        else:
            link.dead()
        with pytest.raises(sock.Timeout) as caught:
            await sending
        if how == 'down':
            command('ip', 'link', 'set', 'wire', 'up')
        else:
            link.whole()
        return caught.value.sent

    with wire() as link:
        ours, theirs = connected(link)
        with theirs, sock.fromsocket(ours) as conn:
            sent = run(main, link, conn)
            assert 0 < sent < len(data)
            assert unread(theirs) == data[:sent]


@pytest.mark.parametrize('then', ['goes on', 'expires'])
def test_s22_peer_whose_disk_is_full(run, peer, tmp_path, then):
    """Scenario 22: Peer never reads, or its disk is full -> sendfile waits; `expires` tells `e.sent` exactly (the peer
    counts the same); when there is room the rest follows."""
    conn, other = peer
    room = 1 << 16
    data = os.urandom(1 << 16) * 512
    path = tmp_path / 'content'
    path.write_bytes(data)
    full, emptied = threading.Event(), threading.Event()

    def store():
        got = bytearray()
        with opened('stored', 'w') as stored:
            with pytest.raises(OSError, match='No space left') as caught:
                while chunk := other.recv(1 << 16):
                    got += chunk
                    while chunk:
                        chunk = chunk[stored.write(chunk) :]
            assert caught.value.errno == errno.ENOSPC
            full.set()
            assert emptied.wait(PATIENCE)
        return bytes(got) + unread(other)

    async def main():
        with conn, path.open('rb') as f:
            assert await conn.sendfile(f, 0, room + 1, expires=soon()) == room + 1
            assert await sock.offload(full.wait, PATIENCE)
            if then == 'expires':
                with pytest.raises(sock.Timeout) as caught:
                    await conn.sendfile(f, room + 1, expires=soon(0.1))
                emptied.set()
                return room + 1 + caught.value.sent
            sending = sock.newthread(conn.sendfile(f, room + 1, expires=soon(30)))
            await sock.sleep(0)
            assert not sending.done
            emptied.set()
            return room + 1 + await sending

    with small_disk(room) as opened, elsewhere(store) as got:
        sent = run(main)
    assert sent == len(data) if then == 'goes on' else room < sent < len(data)
    assert got == [data[:sent]]


# 23


def test_s23_a_byte_at_a_time(run, peer):
    """Scenario 23: Peer sends one byte at a time -> recvn/recvall right."""
    conn, other = peer
    other.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
    data = os.urandom(3000)

    def send():
        for i in range(len(data)):
            other.send(data[i : i + 1])
        other.shutdown(socket.SHUT_WR)

    async def main():
        buf = bytearray(1000)
        for at in range(0, 2000, 1000):
            assert await conn.recvn(buf, expires=soon()) == 1000
            assert buf == data[at : at + 1000]
        assert await conn.recvall(expires=soon()) == data[2000:]

    with elsewhere(send):
        run(main)


def test_s23_a_gigabyte_in_one_go(run, peer):
    """Scenario 23: Peer sends 1 GB in one go -> recvn/recvall right."""
    conn, other = peer
    piece = os.urandom(1 << 20) * 16
    count = (1 << 30) // len(piece)

    def send():
        for _ in range(count):
            other.sendall(piece)
        other.shutdown(socket.SHUT_WR)

    async def main():
        buf = bytearray(len(piece))
        for _ in range(count - 2):
            assert await conn.recvn(buf, expires=soon(30)) == len(piece)
            assert buf == piece
        last = await conn.recvall(expires=soon(30))
        assert last == piece * 2
        assert conn.stats.bytes_received == 1 << 30

    with elsewhere(send):
        run(main)


@pytest.mark.not_under('virtual-clock', 'packets that are lost come again much later than its grace')
@pytest.mark.parametrize('by', [wire, netem])
def test_s23_link_that_loses_delays_and_reorders(run, by):
    """Scenario 23: Peer sends over a link that loses, delays and reorders packets -> recvn/recvall right, both ways."""
    there, back = os.urandom(700_000), os.urandom(500_000)

    async def main(conn):
        async def send():
            assert await conn.send(there, expires=soon(30)) == len(there)
            conn.shutdown('w')

        sending = sock.newthread(send)
        buf = bytearray(300_000)
        assert await conn.recvn(buf, expires=soon(30)) == 300_000
        assert buf + await conn.recvall(expires=soon(30)) == back
        await sending

    def serve(s):
        with elsewhere(unread, s) as got:
            s.sendall(back)
            s.shutdown(socket.SHUT_WR)
        return got.pop()

    with by() as link:
        ours, theirs = connected(link)
        link.rough()
        with theirs, sock.fromsocket(ours) as conn, elsewhere(serve, theirs) as got:
            run(main, conn)
        assert got == [there]
        assert link.lost > 0
        # The kernel does not count those.
        assert by is netem or link.overtaken > 0


# 24


@pytest.mark.parametrize('first', ['ours', 'theirs', 'both'])
def test_s24_half_close_while_the_other_direction_is_busy(run, peer, first):
    """Scenario 24: Half-close each way, both ways, while the other direction is busy -> every byte arrives; then 0."""
    conn, other = peer
    there = b'short' if first == 'ours' else os.urandom(5_000_000)
    back = b'short' if first == 'theirs' else os.urandom(5_000_000)

    async def main():
        async def send():
            await conn.send(there, expires=soon())
            conn.shutdown('w')

        sending = sock.newthread(send)
        if first == 'ours':
            await sending
        buf = bytearray(len(back))
        await conn.recvn(buf, expires=soon())
        assert buf == back
        for _ in range(3):
            assert await conn.recv(buf, expires=soon()) == 0
        await sending

    def theirs():
        with elsewhere(unread, other) as got:
            other.sendall(back)
            other.shutdown(socket.SHUT_WR)
        return got.pop()

    with elsewhere(theirs) as got:
        run(main)
    assert got == [there]


# 25


def test_s25_close_with_unread_data_resets(run, peer):
    """Scenario 25: close with unread data -> RST."""
    conn, other = peer

    async def main():
        other.sendall(b'never read')
        await conn.readable(soon())
        conn.close()

    run(main)
    with pytest.raises(ConnectionResetError):
        unread(other)


def test_s25_close_with_linger_zero_resets(run, peer):
    """Scenario 25: close with `so_linger` 0 -> RST."""
    conn, other = peer

    async def main():
        await conn.send(b'x')
        conn.setopt('so_linger', 0)
        conn.close()

    run(main)
    with pytest.raises(ConnectionResetError):
        while other.recv(1):
            pass


async def sent_something(conn):
    """Amid chaos a send may let others run before it begins."""
    while not conn.stats.bytes_sent:
        await sock.sleep(0)


@pytest.mark.parametrize('full', [False, True])
def test_s25_close_sends_fin_after_pending_data(run, peer, full):
    """Scenario 25: close -> else FIN after pending data, even when the buffer is full."""
    conn, other = peer

    async def main():
        if not full:
            sent = await conn.send(b'last words')
            conn.close()
            return sent
        thread = sock.newthread(conn.send, b'x' * 50_000_000)
        await sent_something(conn)
        assert not thread.done
        conn.close()
        with pytest.raises(sock.Closed) as caught:
            await thread
        return caught.value.sent

    sent = run(main)
    assert len(unread(other)) == sent > 0


# 26


@pytest.fixture
def large(tmp_path):
    path = tmp_path / 'large'
    with path.open('wb') as f:
        f.truncate(50_000_000)
    with path.open('rb') as f:
        yield f


@contextlib.contextmanager
def sigpipes():
    """Those that come until the block ends: a list."""
    signals = []
    old = signal.signal(signal.SIGPIPE, lambda *_: signals.append('SIGPIPE'))
    try:
        yield signals
    finally:
        signal.signal(signal.SIGPIPE, old)


@pytest.mark.skipif(not hasattr(signal, 'SIGPIPE'), reason='there is no SIGPIPE')
@pytest.mark.parametrize('how', ['send', 'sendfile', 'sendfile from memory'])
@pytest.mark.parametrize('when', ['waiting', 'later'])
def test_s26_send_after_the_peers_reset(run, peer, large, how, when):
    """Scenario 26: send after the peer's RST -> `connection_reset` or `broken_pipe`, never SIGPIPE."""
    conn, other = peer
    calls = {
        'send': lambda: conn.send(bytes(50_000_000), expires=soon()),
        'sendfile': lambda: conn.sendfile(large, expires=soon()),
        'sendfile from memory': lambda: conn.sendfile(io.BytesIO(bytes(50_000_000)), expires=soon()),
    }

    async def main():
        reset_on_close(other)
        if when == 'waiting':
            thread = sock.newthread(calls[how]())
            if how != 'sendfile from memory':
                await sent_something(conn)
            assert not thread.done
            other.close()
            with pytest.raises((sock.ConnectionReset, sock.BrokenPipe)) as caught:
                await thread
            assert caught.value.sent > 0 or how == 'sendfile from memory'
        other.close()
        # The reset is told once, and then it is a broken pipe.
        for _ in range(3):
            with pytest.raises((sock.ConnectionReset, sock.BrokenPipe)):
                await calls[how]()
        await sock.sleep(0)

    with sigpipes() as signals:
        run(main)
    assert not signals


@pytest.mark.skipif(not hasattr(signal, 'SIGPIPE'), reason='there is no SIGPIPE')
def test_s26_send_by_a_socket_that_others_made(run):
    """Scenario 26: send after the peer's end -> `broken_pipe`, never SIGPIPE."""
    ours, theirs = socket.socketpair()

    async def main():
        with sock.fromsocket(ours) as conn:
            theirs.close()
            with pytest.raises(sock.BrokenPipe):
                await conn.send(b'x', expires=soon())
            await sock.sleep(0)

    with sigpipes() as signals:
        run(main)
    assert not signals


@pytest.mark.skipif(not LINUX, reason='sendfile takes SIGPIPE away where it has to')
def test_s26_sendfile_leaves_a_sigpipe_of_others_alone(run, large):
    """Scenario 26: send after the peer's RST -> never SIGPIPE; one that somebody else has sent is not swallowed."""

    async def main():
        ours, theirs = socket.socketpair()
        with sock.fromsocket(ours) as conn:
            theirs.close()
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
            try:
                signal.raise_signal(signal.SIGPIPE)
                sending = conn.sendfile(large)
                # On this OS thread: it fails at once.
                with pytest.raises(sock.BrokenPipe):
                    await sending
                assert signal.SIGPIPE in signal.sigpending()
                assert signal.sigtimedwait({signal.SIGPIPE}, 0) is not None
                with pytest.raises(sock.BrokenPipe):
                    await conn.sendfile(large)
                assert signal.SIGPIPE not in signal.sigpending()
                assert signal.SIGPIPE in signal.pthread_sigmask(signal.SIG_BLOCK, [])
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPIPE})

    run(main)


# 27


def test_s27_pipelining_close(run, peer):
    """Scenario 27: HTTP pipelining close: shutdown('w'), drain, close -> the client reads the last response whole."""
    conn, other = peer
    requests = b'GET / HTTP/1.1\r\nHost: here\r\n\r\n' * 20_000
    body = os.urandom(1_000_000)
    response = b'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1000000\r\n\r\n' + body

    async def main():
        with conn:
            # One request is answered; the others are on their way, or here unread.
            await conn.recv(10, expires=soon())
            await conn.send(response, expires=soon())
            conn.shutdown('w')
            while await conn.recv(65536, expires=soon()):
                pass

    def client():
        with elsewhere(other.sendall, requests):
            got = unread(other)
        other.close()
        return got

    with elsewhere(client) as got:
        run(main)
    assert got == [response]


# 28


def test_s28_empty_send_of_a_stream_is_nothing(run, peer):
    """Scenario 28: Empty send (TCP: nothing happens)."""
    conn, other = peer

    async def main():
        for data in (b'', bytearray(), memoryview(b'')):
            assert await conn.send(data) == 0
        assert await conn.send(b'hello', 0) == 0
        assert await conn.sendfile(io.BytesIO()) == 0
        # Nothing came, and above all no end.
        other.settimeout(0.02)
        with pytest.raises(TimeoutError):
            other.recv(1)
        assert await conn.send(b'x') == 1
        assert other.recv(10) == b'x'

    run(main)


def test_s28_empty_datagram(run):
    """Scenario 28: Empty send (UDP: an empty datagram), never taken for FIN by mistake."""

    async def main():
        with sock.udp() as s, sock.udp() as client:
            s.bind('127.0.0.1')
            await client.connect(s.local_addr)
            for data in (b'', b'x'):
                assert await client.send(data) == len(data)
            for data in (b'', b'x'):
                got, sender = await s.recvfrom(10, expires=soon())
                assert (got, sender) == (data, client.local_addr)
            await client.send(b'')
            assert await s.recv(bytearray(10), expires=soon()) == 0
            assert not s.closed

    run(main)


@pytest.mark.parametrize('into', [bytearray(), memoryview(bytearray()), array.array('b'), (ctypes.c_char * 0)(), 0])
def test_s28_empty_buffer_in_recv(run, peer, into):
    """Scenario 28: empty buffer in recv -> 0 or ValueError, documented, never taken for FIN by mistake."""
    conn, other = peer

    async def main():
        with pytest.raises(ValueError, match=r'one byte at least|1 byte or more'):
            conn.recv(into)
        # Of exactly no bytes there are always enough.
        assert await conn.recvn(bytearray(10), 0) == 0
        assert await conn.recvn(bytearray()) == 0
        other.sendall(b'x')
        assert await conn.recv(10, expires=soon()) == b'x'

    run(main)


# 29


def test_s29_udp_server_lives_on(run):
    """Scenario 29: UDP: datagram too long for the buffer, too long to send, to a closed port, from a spoofed peer on a
    connected socket, 64 KB, burst beyond the buffer -> as documented; the server lives on."""
    largest = os.urandom(LONGEST_DATAGRAM)

    async def serve(server):
        buf = bytearray(1000)
        while True:
            try:
                n, client = await server.recvfrom(buf)
            except sock.MessageTooLong as error:
                truncated.append(bytes(buf[: error.received]))
            except sock.Closed:
                return
            else:
                await server.send(buf, n, client)

    async def alive(client):
        await client.send(b'alive?')
        while (got := await client.recv(2000, expires=soon())) != b'alive?':
            assert set(got) == {ord('b')}
        return True

    truncated = []

    async def main():
        with (
            sock.udp() as server,
            sock.udp() as client,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone,
        ):
            server.bind('127.0.0.1')
            server.setopt('so_rcvbuf', 20_000)
            other.settimeout(PATIENCE)
            for each in (other, gone):
                each.bind(('127.0.0.1', 0))
            serving = sock.newthread(serve, server)
            await client.connect(server.local_addr)
            assert await alive(client)

            # Too long for the buffer: what fits, and the rest is gone.
            await client.send(b'a' * 1500)
            assert await alive(client)
            assert truncated == [b'a' * 1000]

            # Too long to send.
            with pytest.raises(sock.MessageTooLong) as caught:
                await client.send(bytes(70_000))
            assert caught.value.sent == 0
            assert await alive(client)

            # To a closed port, from the server.
            address = gone.getsockname()
            gone.close()
            for _ in range(5):
                await server.send(b'anybody?', None, *address)
            assert await alive(client)

            # From somebody else than the peer of a connected socket.
            other.sendto(b'spoofed', tuple(client.local_addr))
            assert await alive(client)

            # The largest there are, both ways.
            with sock.udp() as plain:
                plain.bind('127.0.0.1')
                assert await plain.send(largest, None, *other.getsockname()) == LONGEST_DATAGRAM
                assert other.recv(70_000) == largest
                other.sendto(largest, tuple(plain.local_addr))
                assert await plain.recv(bytearray(65536), expires=soon()) == LONGEST_DATAGRAM

            # More than the system keeps: some are lost, and all that come are whole.
            for _ in range(2000):
                other.sendto(b'b' * 900, tuple(server.local_addr))
            other.setblocking(False)
            back = 0
            while back == 0:
                await sock.sleep(0.001)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        assert other.recv(2000) == b'b' * 900
                        back += 1
            assert await alive(client)

            server.close()
            await serving

    run(main)


# 30


class Kind:
    """A kind of buffer: how one of eight bytes is made, whose first four are `data`, and how it is read."""

    def __init__(self, make, read=bytes):
        self.make, self.read = make, read


def mapped(data):
    m = mmap.mmap(-1, 8)
    m[:4] = data
    return m


def numpy_array(data):
    numpy = pytest.importorskip('numpy', reason='numpy is not there')
    return numpy.frombuffer(bytearray(data + bytes(4)), dtype=numpy.uint16)


WRITABLE = {
    'bytearray': Kind(lambda data: bytearray(data + bytes(4))),
    'memoryview': Kind(lambda data: memoryview(bytearray(data + bytes(4)))),
    'slice': Kind(lambda data: memoryview(bytearray(b'..' + data + b'\0\0\0\0..'))[2:-2]),
    'two dimensions': Kind(lambda data: memoryview(bytearray(data + bytes(4))).cast('B', (2, 4))),
    'array': Kind(lambda data: array.array('H', data + bytes(4))),
    'ctypes': Kind(lambda data: (ctypes.c_char * 8)(*data, 0, 0, 0, 0)),
    'structure': Kind(lambda data: type('S', (ctypes.Structure,), {'_fields_': [('a', ctypes.c_uint64)]}).from_buffer(
        bytearray(data + bytes(4)))),
    'mmap': Kind(mapped, lambda m: m[:]),
    'numpy': Kind(numpy_array),
}  # fmt: skip

READABLE = {
    'bytes': Kind(lambda data: data + bytes(4)),
    'read-only': Kind(lambda data: memoryview(bytearray(data + bytes(4))).toreadonly()),
}


@pytest.mark.parametrize('kind', [*WRITABLE, *READABLE])
def test_s30_send_takes_any_buffer(run, peer, kind):
    """Scenario 30: Buffer kinds: bytes, bytearray, memoryview (sliced, read-only), array, mmap, ctypes, numpy ->
    works or a clear TypeError/BufferError."""
    conn, other = peer
    data = {**WRITABLE, **READABLE}[kind].make(b'data')

    async def main():
        assert await conn.send(data, expires=soon()) == 8
        assert other.recv(100) == b'data\0\0\0\0'
        assert await conn.send(data, 3, expires=soon()) == 3
        assert other.recv(100) == b'dat'

    run(main)


@pytest.mark.parametrize('kind', WRITABLE)
def test_s30_recv_takes_any_writable_buffer(run, peer, kind):
    """Scenario 30: Buffer kinds -> works; never a write past `maxlen`."""
    conn, other = peer
    buf = WRITABLE[kind].make(b'....')

    async def main():
        left = b'123456789'
        other.sendall(left)
        for call, most in ((conn.recv, 3), (conn.recvn, 2), (conn.recv, 1000)):
            before = WRITABLE[kind].read(buf)
            n = await call(buf, most, expires=soon())
            assert n == min(most, len(left)) or (run.way == 'chaos' and call == conn.recv and 0 < n < most)
            assert WRITABLE[kind].read(buf) == left[:n] + before[n:]
            left = left[n:]

    run(main)


def test_s30_slice_of_a_larger_buffer_is_not_overrun(run, peer):
    """Scenario 30: Buffer kinds: memoryview, sliced -> never a write past its end."""
    conn, other = peer
    whole = bytearray(b'.' * 12)

    async def main():
        other.sendall(b'x' * 100)
        n = await conn.recv(memoryview(whole)[4:8], expires=soon())
        assert n == 4 or (run.way == 'chaos' and 0 < n < 4)
        assert whole == (b'....' + b'x' * n).ljust(12, b'.')

    run(main)


def released():
    view = memoryview(bytearray(8))
    view.release()
    return view


@pytest.mark.parametrize(
    ('call', 'error', 'says'),
    [
        (lambda s: s.send(memoryview(b'strided!')[::2]), BufferError, 'contiguous'),
        (lambda s: s.send('text'), TypeError, 'encode it first'),
        (lambda s: s.send(released()), ValueError, 'released'),
        (lambda s: s.recv(memoryview(bytearray(8))[::2]), TypeError, 'contiguous'),
        (lambda s: s.recvn(memoryview(bytearray(8))[::-1]), TypeError, 'contiguous'),
        (lambda s: s.recv(b'read only'), TypeError, 'writable'),
        (lambda s: s.recv(memoryview(bytearray(8)).toreadonly()), TypeError, 'writable'),
        (lambda s: s.recv(released()), ValueError, 'released'),
    ],
)
def test_s30_other_buffers_are_clear_errors(run, peer, call, error, says):
    """Scenario 30: Buffer kinds: memoryview (strided, read-only, released) -> a clear TypeError/BufferError.

    Of a released memoryview the interpreter itself says so, with a ValueError.
    """
    conn, other = peer

    async def main():
        with pytest.raises(error, match=says):
            await call(conn)
        # The socket is as it was.
        other.sendall(b'x')
        assert await conn.recv(10, expires=soon()) == b'x'

    run(main)


@pytest.mark.skipif(not LINUX, reason='how much memory there is, is read as Linux tells it')
@pytest.mark.parametrize('direction', ['send', 'recvn'])
def test_s30_no_copies(run, peer, direction):
    """Scenario 30: Buffer kinds -> never a copy that isn't needed."""
    conn, other = peer
    # All of it is there before, so that its own pages do not count.
    buf = bytearray(b'x' * 60_000_000)
    chunk = b'x' * (1 << 16)

    def theirs():
        if direction == 'send':
            receive_exactly(other, len(buf))
        else:
            for _ in range(0, len(buf), len(chunk)):
                other.sendall(chunk)

    async def main():
        before = resident()
        view = memoryview(buf)[1:]
        moved = await (conn.send(view, expires=soon(30)) if direction == 'send' else conn.recvn(view, expires=soon(30)))
        assert moved == len(buf) - 1
        assert resident() - before < 8_000_000
        if direction == 'send':
            await conn.send(b'x')

    with elsewhere(theirs):
        run(main)


def receive_exactly(s, n):
    """Into one buffer, so that it takes no memory to speak of."""
    buf = bytearray(1 << 20)
    while n:
        n -= s.recv_into(buf, min(n, len(buf)))


# 31


@pytest.mark.parametrize('direction', ['send', 'recv'])
@pytest.mark.parametrize('what', ['extend', 'clear', 'release', 'close', 'resize'])
def test_s31_buffer_in_flight_stays_as_it_is(run, peer, direction, what):
    """Scenario 31: bytearray resized, memoryview released, mmap closed while in flight -> BufferError there; the
    transfer is whole."""
    conn, other = peer
    size = 20_000_000 if direction == 'send' else 100
    if what in ('extend', 'clear'):
        buf = bytearray(size)
    elif what == 'release':
        buf = memoryview(bytearray(size))
    else:
        buf = mmap.mmap(-1, size)
    disturb = {
        'extend': lambda: buf.extend(b'more'),
        'clear': lambda: buf.clear(),
        'release': lambda: buf.release(),
        'close': lambda: buf.close(),
        'resize': lambda: buf.resize(size * 2),
    }[what]

    async def main():
        thread = sock.newthread(
            conn.send(buf, expires=soon()) if direction == 'send' else conn.recv(buf, expires=soon())
        )
        assert not thread.done
        with pytest.raises(BufferError):
            disturb()
        if direction == 'send':
            await sock.offload(receive_exactly, other, size)
            assert await thread == size
        else:
            other.sendall(b'whole')
            n = await thread
            # Amid chaos a part of it may come first.
            assert n == 5 or (run.way == 'chaos' and 0 < n < 5)
            assert buf[:n] == b'whole'[:n]
        # Now it may.
        del thread
        if what != 'resize':
            # Not every system resizes mappings of memory.
            disturb()

    run(main)


# 32


@pytest.mark.skipif(not LINUX, reason='strace is of Linux')
@pytest.mark.parametrize('threads', [1, 3])
@pytest.mark.parametrize(
    ('call', 'error'),
    [
        ('recvfrom', 'EINTR'),
        ('sendto', 'EINTR'),
        ('sendfile', 'EINTR'),
        ('accept4', 'EINTR'),
        ('epoll_wait', 'EINTR'),
        ('sendto', 'ENOBUFS'),
        ('recvfrom', 'ENOMEM'),
    ],
)
@own_program
def test_s32_calls_that_are_interrupted_or_short_of_memory(call, error, threads):
    """Scenario 32: EINTR, ENOBUFS anywhere -> retried or reported, never lost."""
    code = """
        import sys, tempfile
        import sock

        reported = []

        async def retry(attempt):
            # EINTR is the library's matter; what is short of memory comes out, and moved nothing.
            while True:
                try:
                    return await attempt()
                except sock.Error as error:
                    assert sys.argv[2] in ('ENOBUFS', 'ENOMEM'), error
                    assert error.err == 'no_buffer_space', error
                    assert error.sent == error.received == 0, error
                    reported.append(error)

        async def serve(listener):
            conn, _, _ = await listener.accept(sock.clock() + 20)
            with conn:
                while data := await retry(lambda: conn.recv(100, expires=sock.clock() + 20)):
                    assert await retry(lambda: conn.send(data)) == len(data)

        async def main():
            with sock.tcp() as listener, sock.tcp() as s, tempfile.TemporaryFile() as f:
                f.write(b'from a file')
                f.flush()
                listener.listen('127.0.0.1')
                server = sock.newthread(serve, listener)
                await s.connect(listener.local_addr, expires=sock.clock() + 20)
                buf = bytearray(11)
                for i in range(20):
                    data = b'message %03d' % i
                    assert await retry(lambda: s.send(data)) == 11
                    assert await retry(lambda: s.recvn(buf, expires=sock.clock() + 20)) == 11
                    assert buf == data
                    assert await s.sendfile(f, expires=sock.clock() + 20) == 11
                    assert await retry(lambda: s.recvn(buf, expires=sock.clock() + 20)) == 11
                    assert buf == b'from a file'
                s.shutdown('w')
                await server
            assert bool(reported) == (sys.argv[2] in ('ENOBUFS', 'ENOMEM'))

        sock.run(main, threads=int(sys.argv[1]))
    """
    # Each third call, from the first one on.
    with injected(code, f'{call}:error={error}:when=1+3', args=(threads, error)) as calls:
        pass
    assert any('INJECTED' in each for each in calls)


@pytest.mark.skipif(os.name == 'nt', reason='os.dup() takes no sockets there')
def test_s32_event_of_which_another_has_taken_the_client(run):
    """Scenario 32: EAGAIN anywhere -> retried, never lost.

    Two duplicates of a listener are told of each client, and one of them gets it.
    """

    async def accepts(counted):
        conn, _, _ = await counted
        conn.close()

    async def main():
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(sock.tcp())
            listener.listen('127.0.0.1')
            twin = stack.enter_context(sock.fromfd(os.dup(listener.fileno())))
            rounds = in_vain = 0
            # With several OS threads the client may be gone before the other one is told at all.
            while rounds < 20 or not in_vain:
                rounds += 1
                assert rounds < 500, 'nobody was told in vain'
                both = [Counted(each.accept(soon(60))) for each in (listener, twin)]
                threads = [sock.newthread(accepts, each) for each in both]
                for done in (1, 2):
                    with socket.create_connection(tuple(listener.local_addr), PATIENCE) as client:
                        assert await sock.offload(client.recv, 1) == b''
                        while sum(thread.done for thread in threads) < done:
                            await sock.sleep(0.001)
                        # The second one of them waits on, untouched, for the next client.
                        assert sum(thread.done for thread in threads) == done
                for thread in threads:
                    await thread
                # Amid chaos there are wake-ups for nothing besides.
                in_vain += max(each.waits for each in both) > 1

    run(main)


@pytest.mark.parametrize('how', ['send', 'sendmany'])
def test_s32_no_buffer_space_for_datagrams(run, how):
    """Scenario 32: ENOBUFS anywhere -> retried or reported, never lost.

    A queue that is full: of a link that is too slow, on a socket that asks to hear of it.
    """

    async def main():
        with sock.udp() as s, sock.udp() as receiver:
            receiver.bind('127.0.0.1')
            s.setopt('ip_recverr', True)
            await s.connect(receiver.local_addr)
            sent = 0
            with pytest.raises(sock.NoBufferSpace, match=rf'^no_buffer_space: {how} udp') as caught:
                while True:
                    if how == 'send':
                        await s.send(b'%04d' % sent + bytes(1000), expires=soon())
                        sent += 1
                    else:
                        sent += await s.sendmany([(b'%04d' % (sent + i) + bytes(1000), None) for i in range(9)])
            sent += caught.value.sent
            # All that were sent arrive, and it works again when there is room.
            for i in range(sent):
                assert (await receiver.recv(2000, expires=soon())).startswith(b'%04d' % i)
            assert await s.send(b'again') == 5
            assert await receiver.recv(2000, expires=soon()) == b'again'

    with namespace():
        command('tc', 'qdisc', 'add', 'dev', 'lo', 'root', 'tbf', 'rate', '1mbit', 'burst', '2k', 'limit', '4k')
        run(main)


def test_s32_disk_that_is_full_where_it_is_received(run, peer):
    """Scenario 32: a disk that is full (ENOSPC) -> reported, never lost: the connection is whole, and has what does not
    fit yet."""
    conn, other = peer
    data = os.urandom(1 << 20)
    stored = io.BytesIO()

    async def main():
        buf = bytearray(10_000)
        full = 0
        with conn, opened('stored', 'w+') as disk:
            while n := await conn.recv(buf, expires=soon()):
                view = memoryview(buf)[:n]
                while view:
                    try:
                        view = view[await sock.offload(disk.write, view) :]
                    except OSError as failed:
                        if failed.errno != errno.ENOSPC:
                            raise
                        full += 1
                        # Makes room.
                        disk.seek(0)
                        stored.write(disk.read())
                        disk.seek(0)
                        disk.truncate()
            disk.seek(0)
            stored.write(disk.read())
        assert full >= 10

    def theirs():
        other.sendall(data)
        other.shutdown(socket.SHUT_WR)
        return True

    with small_disk(1 << 16) as opened, elsewhere(theirs):
        run(main)
    assert stored.getvalue() == data


def test_s32_hole_in_a_file_of_a_full_disk_is_sent_as_zeros(run, peer):
    """Scenario 32: ENOSPC -> reported, never lost: what only reads takes no room."""
    conn, other = peer
    size = 5_000_000

    async def main():
        with conn, opened('large', 'w') as large, opened('sparse', 'w+') as sparse:
            with pytest.raises(OSError, match='No space left'):
                while True:
                    large.write(bytes(4096))
            sparse.truncate(size)
            assert await conn.sendfile(sparse, expires=soon()) == size

    with small_disk(1 << 16) as opened, elsewhere(digest_of, other) as got:
        run(main)
    assert got == [same(bytes(size))]


@pytest.mark.skipif(not LINUX, reason='its memory is a file that cannot be read everywhere')
def test_s32_file_that_cannot_be_read(run, peer):
    """Scenario 32: EIO -> reported, never lost: the connection is whole."""
    conn, other = peer
    other.settimeout(PATIENCE)

    async def main():
        with conn, open('/proc/self/mem', 'rb', buffering=0) as f:
            with pytest.raises(sock.Error, match=r'^other: read the file for sendfile to 127.*EIO') as caught:
                await conn.sendfile(f, expires=soon())
            assert (caught.value.errno, caught.value.sent) == (errno.EIO, 0)
            await conn.send(b'whole')

    run(main)
    assert unread(other) == b'whole'


@pytest.mark.skipif(not LINUX, reason='strace is of Linux')
@pytest.mark.parametrize('threads', [1, 3])
@own_program
def test_s32_disk_that_fails_while_a_file_is_sent(threads):
    """Scenario 32: a disk that fails (EIO) -> reported, never lost: `e.sent` is what the peer got, and the connection
    is whole."""
    code = """
        import errno, socket, sys, tempfile, threading
        import sock

        got = bytearray()

        def receive(other):
            while chunk := other.recv(1 << 20):
                got.extend(chunk)

        async def main():
            ours, other = socket.socketpair()
            receiver = threading.Thread(target=receive, args=[other])
            receiver.start()
            with other, sock.fromsocket(ours) as conn, tempfile.TemporaryFile() as f:
                f.truncate(100_000_000)
                try:
                    await conn.sendfile(f, expires=sock.clock() + 20)
                except sock.Error as error:
                    assert (error.err, error.errno) == ('other', errno.EIO), error
                    sent = error.sent
                assert 0 < sent < 100_000_000
                await conn.send(b'whole')
                conn.shutdown('w')
                await sock.offload(receiver.join)
            assert got == bytes(sent) + b'whole'

        sock.run(main, threads=int(sys.argv[1]))
    """
    with injected(code, 'sendfile:error=EIO:when=5+', args=(threads,)) as calls:
        pass
    assert any('INJECTED' in each for each in calls)


# 33


@pytest.mark.parametrize('direction', ['reads', 'writes'])
def test_s33_second_in_a_direction_is_busy(run, peer, direction):
    """Scenario 33: Two readers or two writers -> `Busy` for the second, the first untouched."""
    conn, other = peer
    big = bytes(20_000_000)

    async def first():
        return await (conn.recv(10, expires=soon()) if direction == 'reads' else conn.send(big, expires=soon()))

    async def main():
        thread = sock.newthread(first, name='the first')
        # Amid chaos it may let others run before.
        while thread.waiting is None:
            await sock.sleep(0)
        for second in (
            [conn.readable(), conn.recv(5), conn.recvall(), conn.recvn(bytearray(5))]
            if direction == 'reads'
            else [conn.writable(), conn.send(b'x'), conn.sendfile(io.BytesIO(b'x'))]
        ):
            with pytest.raises(sock.Busy) as caught:
                await second
            assert caught.value.err == 'busy'
            # Or it looks again, woken for nothing.
            waits = r' has waited there for \d+\.\d+ s and' + '|' * (run.way == 'chaos')
            assert re.search(rf"thread 'the first'({waits}) {direction} this socket", str(caught.value))
        assert not thread.done
        if direction == 'reads':
            other.sendall(b'x')
            assert await thread == b'x'
        else:
            await sock.offload(receive_exactly, other, len(big))
            assert await thread == len(big)
        # The direction is free again.
        other.sendall(b'y')
        assert await conn.recv(1, expires=soon()) == b'y'
        assert await conn.send(b'z') == 1

    run(main)


# 34


@pytest.mark.parametrize('inline', [True, False])
def test_s34_out_of_band_data(run, peer, inline):
    """Scenario 34: Out-of-band data (`so_oobinline`) -> no spin."""
    conn, other = peer
    conn.setopt('so_oobinline', inline)

    async def reads(n):
        got = b''
        while len(got) < n:
            got += await conn.recv(100, expires=soon())
        return got

    async def main():
        other.sendall(b'before')
        other.send(b'!', socket.MSG_OOB)
        assert await reads(6 + inline) == (b'before!' if inline else b'before')
        # What is urgent stays there, if not inline, and wakes nobody again and again.
        counted = Counted(conn.recv(100, expires=soon()))
        thread = sock.newthread(counted)
        begin = time.process_time()
        await sock.sleep(0.2)
        assert time.process_time() - begin < 0.15
        assert not thread.done
        # Chaos adds some.
        assert counted.waits <= (10 if run.way == 'chaos' else 2)
        other.sendall(b'after')
        got = await thread
        assert got + await reads(5 - len(got)) == b'after'

    run(main)


@pytest.mark.skipif(os.name == 'nt', reason='Windows has no so_rcvlowat')
@pytest.mark.not_under('chaos', 'who is woken for nothing reads what is below the mark')
def test_s34_low_water_mark(run, peer):
    """Scenario 34: MSG_PEEK-like options (`so_rcvlowat`) -> no spin."""
    conn, other = peer
    conn.setopt('so_rcvlowat', 10)

    async def main():
        counted = Counted(conn.recv(100, expires=soon()))
        thread = sock.newthread(counted)
        other.sendall(b'123')
        begin = time.process_time()
        await sock.sleep(0.2)
        assert time.process_time() - begin < 0.15
        assert not thread.done
        assert counted.waits == 1
        other.sendall(b'4567890')
        assert await thread == b'1234567890'
        # Less than the mark comes with the end.
        thread = sock.newthread(conn.recvall(expires=soon()))
        other.sendall(b'rest')
        other.shutdown(socket.SHUT_WR)
        assert await thread == b'rest'

    run(main)
