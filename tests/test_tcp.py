"""Moving bytes, and ending: recv, recvn, recvall, send, shutdown, close, readiness, deadlines, cancelling."""

import contextlib
import gc
import os
import random
import re
import socket
import subprocess
import sys
import threading
import time

import pytest
import sock
from support import LINUX, reset_on_close, run, unread


def now():
    return sock.clock()


def receive_exactly(s, n):
    while n:
        n -= len(s.recv(min(n, 1 << 20)))


async def fill(conn):
    """Sends to a peer that does not read, until the buffers of the system take no more."""

    async def send():
        await conn.send(bytes(100_000_000))

    sending = sock.newthread(send)
    # As long as the peer's system takes some, it goes on.
    await sock.sleep(0.05)
    sending.cancel()
    with pytest.raises(sock.Cancelled):
        await sending


# Receiving


def test_recv_into_a_buffer_returns_how_many_bytes_came(peer):
    conn, other = peer
    buf = bytearray(b'.' * 10)

    async def main():
        other.sendall(b'hello')
        assert await conn.recv(buf) == 5

    run(main())
    assert buf == b'hello.....'


def test_numbers_of_bytes_are_right_whatever_came_before():
    """Lengths that come again are told by the same int, as also an argument that was a result may be known."""
    lengths = [1, 255, 256, 257, 1000, 1024, 4096, 5000, *(1024 ^ n * 65 for n in range(70))]
    random.Random(5).shuffle(lengths)
    one, other = map(sock.fromsocket, socket.socketpair())
    data, buf, got = os.urandom(max(lengths)), bytearray(max(lengths)), []

    async def main():
        for n in lengths * 2:
            assert await one.send(data[:n]) == n
            got.append(await other.recvn(buf, n))
            assert got[-1] == n
        # The older ones are known no more, and are the same numbers still.
        for n in got:
            assert await one.send(data, n) == n
            assert await other.recv(buf) == n
        for wrong, error in ((True, TypeError), (-1, ValueError), (1 << 70, ValueError)):
            with pytest.raises(error):
                await one.send(data, wrong)

    with one, other:
        run(main())
    assert got == lengths * 2


def test_result_that_somebody_keeps_stays_what_it_is(peer):
    """One who steps an operation gets the StopIteration itself, which serves for the next result if nobody keeps it."""
    conn, other = peer
    buf, kept, copies = bytearray(100), [], []

    async def main():
        for n in range(12):
            other.sendall(bytes([n]) * (300 + n))
            await conn.readable()
            steps = conn.recv(buf if n % 2 else (200, 100_000)[n % 3 == 0]).__await__()
            with pytest.raises(StopIteration) as caught:
                next(steps)
            kept.append(caught.value)
            copies.append(caught.value.value)
            left = 300 + n - (caught.value.value if n % 2 else len(caught.value.value))
            assert await conn.recvn(bytearray(left)) == left

    run(main())
    assert len(set(map(id, kept))) == 12
    assert [type(value) for value in copies] == [bytes, int] * 6
    assert [end.value for end in kept] == copies


@pytest.mark.parametrize('made', [bytes, bytearray, lambda data: memoryview(bytearray(data))])
def test_buffer_is_lent_for_the_time_of_an_operation(peer, made):
    conn, other = peer
    data = made(b'x' * 1000)
    before = sys.getrefcount(data)

    async def main():
        for _ in range(10):
            assert await conn.send(data) == 1000
        if not isinstance(data, bytes):
            reading = sock.newthread(conn.recv(data))
            await sock.sleep(0)
            if isinstance(data, bytearray):
                with pytest.raises(BufferError):
                    data.append(0)
            other.sendall(b'back')
            assert await reading == 4

    run(main())
    assert sys.getrefcount(data) == before
    if isinstance(data, bytearray):
        data.append(0)
        assert bytes(data) == b'back' + b'x' * 996 + b'\0'


def test_recv_waits_for_data(peer):
    conn, other = peer
    timer = threading.Timer(0.02, other.sendall, (b'late',))

    async def main():
        timer.start()
        return await conn.recv(100)

    assert run(main()) == b'late'
    timer.join()


def test_recv_of_a_number_returns_bytes(peer):
    conn, other = peer

    async def main():
        other.sendall(b'hello')
        assert await conn.recv(3) == b'hel'
        assert await conn.recv(100) == b'lo'
        other.shutdown(socket.SHUT_WR)
        assert await conn.recv(100) == b''

    run(main())


def test_recv_of_a_large_number_returns_what_there_is(peer):
    conn, other = peer

    async def main():
        other.sendall(b'x' * 10)
        return await conn.recv(2**40)

    assert run(main()) == b'x' * 10


def test_recv_after_fin_returns_zero_again_and_again(peer):
    conn, other = peer
    buf = bytearray(10)

    async def main():
        other.sendall(b'last')
        other.shutdown(socket.SHUT_WR)
        assert await conn.recv(buf) == 4
        assert [await conn.recv(buf) for _ in range(3)] == [0, 0, 0]
        assert await conn.recvall() == b''

    run(main())


def test_recv_waiting_wakes_at_fin(peer):
    conn, other = peer
    timer = threading.Timer(0.02, other.shutdown, (socket.SHUT_WR,))

    async def main():
        timer.start()
        return await conn.recv(bytearray(1))

    assert run(main()) == 0
    timer.join()


def test_read_that_does_not_drain_is_followed_by_the_rest(peer):
    conn, other = peer

    async def main():
        other.sendall(b'x' * 1000)
        return [len(await conn.recv(300)) for _ in range(4)]

    assert run(main()) == [300, 300, 300, 100]


def test_recvn_collects_exactly_n_bytes(peer):
    conn, other = peer
    buf = bytearray(10)

    async def send_slowly():
        for byte in b'hello':
            other.sendall(bytes([byte]))
            await sock.sleep(0)

    async def main():
        sock.newthread(send_slowly)
        assert await conn.recvn(buf, 5) == 5
        other.sendall(b'x' * 15)
        assert await conn.recvn(buf) == 10
        assert await conn.recv(100) == b'x' * 5
        assert await conn.recvn(buf, 0) == 0

    run(main())
    assert buf == b'x' * 10


def test_recvn_that_meets_the_end_says_how_far_it_came(peer):
    conn, other = peer
    buf = bytearray(10)

    async def main():
        other.sendall(b'abc')
        other.shutdown(socket.SHUT_WR)
        with pytest.raises(sock.Closed, match='3 of 10 bytes') as caught:
            await conn.recvn(buf)
        assert (caught.value.err, caught.value.received, caught.value.errno) == ('closed', 3, None)
        assert not conn.closed

    run(main())
    assert buf.startswith(b'abc')


def test_recvn_that_meets_a_reset_says_how_far_it_came(peer):
    conn, other = peer
    buf = bytearray(10)

    async def read():
        await conn.recvn(buf)

    async def main():
        reader = sock.newthread(read)
        other.sendall(b'abc')
        while buf[2] == 0:
            await sock.sleep(0.001)
        reset_on_close(other)
        other.close()
        with pytest.raises(sock.ConnectionReset) as caught:
            await reader
        assert caught.value.received == 3

    run(main())


def test_recvall_returns_all_until_the_end(peer):
    conn, other = peer
    data = os.urandom(3_000_000)
    sender = threading.Thread(target=lambda: (other.sendall(data), other.shutdown(socket.SHUT_WR)))
    sender.start()

    async def main():
        return await conn.recvall()

    assert run(main()) == data
    sender.join()


def test_recvall_takes_exactly_maxlen(peer):
    conn, other = peer

    async def main():
        other.sendall(b'12345')
        other.shutdown(socket.SHUT_WR)
        return await conn.recvall(5)

    assert run(main()) == b'12345'


def test_recvall_beyond_maxlen_is_message_too_long_and_loses_nothing(peer):
    conn, other = peer

    async def main():
        other.sendall(b'123456')
        other.shutdown(socket.SHUT_WR)
        with pytest.raises(sock.MessageTooLong, match='more than 5 bytes') as caught:
            await conn.recvall(5)
        assert conn.stats.bytes_received == caught.value.received == len(caught.value.data)
        return caught.value.data + await conn.recvall()

    assert run(main()) == b'123456'


def test_recvall_that_fails_has_its_bytes_in_data(peer):
    conn, other = peer

    async def main():
        other.sendall(b'so far')
        with pytest.raises(sock.Timeout) as caught:
            await conn.recvall(expires=now() + 0.05)
        assert (caught.value.data, caught.value.received) == (b'so far', 6)

    run(main())


# Sending


def test_send_sends_all_and_returns_how_many_bytes(peer):
    conn, other = peer

    async def main():
        assert await conn.send(b'hello') == 5
        assert await conn.send(b'hello', 2) == 2
        assert await conn.send(b'hello', 100) == 5
        assert await conn.send(b'') == 0
        assert await conn.send(b'hello', 0) == 0
        conn.shutdown('w')

    run(main())
    assert unread(other) == b'hellohehello'


def test_send_after_shutdown_is_broken_pipe(peer):
    conn, _ = peer

    async def main():
        conn.shutdown('w')
        with pytest.raises(sock.BrokenPipe) as caught:
            await conn.send(b'x')
        assert isinstance(caught.value, BrokenPipeError)

    run(main())


# Ending


def test_operations_on_a_closed_socket_are_closed(peer):
    conn, _ = peer
    conn.close()

    async def main():
        for operation in (conn.recv(1), conn.recvall(), conn.send(b'x'), conn.readable(), conn.writable()):
            with pytest.raises(sock.Closed, match='test_operations_on_a_closed_socket'):
                await operation
        for call in (conn.shutdown, conn.detach, lambda: conn.getopt('so_type'), conn.listen):
            with pytest.raises(sock.Closed):
                call()
        with pytest.raises(sock.Closed):
            await conn.connect('127.0.0.1', 1)

    run(main())
    assert conn.closed
    assert repr(conn) == '<sock.TCP closed>'


def test_with_and_async_with_close(peer):
    conn, other = peer
    with conn as same:
        assert same is conn
    assert conn.closed

    async def main():
        async with sock.tcp() as s:
            assert not s.closed
        assert s.closed

    run(main())
    other.close()


@pytest.mark.parametrize(
    ('make', 'expected'),
    [
        (lambda: sock.tcp(), ('tcp', 'inet', 'tcp')),
        (lambda: sock.tcp('inet6'), ('tcp', 'inet6', 'tcp')),
        (lambda: sock.udp(), ('udp', 'inet', 'udp')),
        (lambda: sock.udp('inet6'), ('udp', 'inet6', 'udp')),
        pytest.param(
            lambda: sock.tcp('unix'),
            ('tcp', 'unix', None),
            marks=pytest.mark.skipif(not hasattr(socket, 'AF_UNIX'), reason='this OS has no unix sockets'),
        ),
    ],
)
def test_type_family_and_protocol_of_each_kind(make, expected):
    with make() as s:
        assert (s.type, s.family, s.protocol) == expected


def test_shutdown_of_writing_sends_fin_after_pending_data_and_reading_goes_on(peer):
    conn, other = peer
    data = bytes(5_000_000)

    async def main():
        sender = sock.newthread(send())
        got = threading.Thread(target=lambda: result.append(unread(other)))
        got.start()
        await sender
        conn.shutdown('w')
        while not result:
            await sock.sleep(0.001)
        got.join()
        other.sendall(b'still')
        assert await conn.recv(10) == b'still'

    async def send():
        await conn.send(data)

    result = []
    run(main())
    assert result == [data]


def test_shutdown_of_reading_ends_recv(peer):
    conn, _ = peer

    async def reader():
        return await conn.recv(10)

    async def main():
        thread = sock.newthread(reader)
        conn.shutdown('r')
        assert await thread == b''
        await conn.send(b'x')

    run(main())


def test_shutdown_of_both(peer):
    conn, other = peer
    conn.shutdown()
    assert unread(other) == b''

    async def main():
        assert await conn.recv(10) == b''

    run(main())


LEAKS = """
import gc, sock

async def connect(listener):
    client = sock.tcp()
    await client.connect(listener.local_addr)
    return client

async def main():
    listener = sock.tcp()
    listener.listen('127.0.0.1')
    connecting = sock.newthread(connect, listener)
    server, _, _ = await listener.accept()
    del server
    circle = [sock.udp()]
    circle.append(circle)
    del circle
    gc.collect()
    with sock.tcp():
        return listener, await connecting

kept = sock.run(main)
"""


def leaks(*flags):
    done = subprocess.run([sys.executable, *flags, '-c', LEAKS], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ('', 0), done.stderr
    return done.stderr


def test_in_development_mode_unclosed_sockets_tell_where_they_were_made():
    lines = leaks('-X', 'dev')
    port = r'127\.0\.0\.1:\d+'
    # What nobody refers to any more, at once: accepted, and part of a circle.
    assert re.search(rf'ResourceWarning: unclosed tcp {port}, made in main, <string>:13$', lines, re.M)
    assert re.search(r'ResourceWarning: unclosed udp, made in main, <string>:15$', lines, re.M)
    # What is open at the end: once each, and nothing that was closed.
    _, at_exit = lines.split('ResourceWarning: sockets that are open at exit:\n')
    assert sorted(re.sub(r':\d+(?= |>)', '', line) for line in at_exit.splitlines()) == [
        '  <sock.TCP 127.0.0.1 -> 127.0.0.1 connected>, made in connect, <string>:5',
        '  <sock.TCP 127.0.0.1 listening>, made in main, <string>:10',
    ]


def test_unclosed_sockets_are_the_source_of_their_warning_for_tracemalloc():
    lines = leaks('-W', 'default', '-X', 'tracemalloc=5')
    assert re.search(
        r'ResourceWarning: unclosed tcp .*\n(  .*\n)?Object allocated at .*\n(  .*\n)*  File "<string>", lineno 13',
        lines,
    )


def test_outside_of_development_mode_nothing_is_listed():
    assert leaks() == ''


def test_outside_of_development_mode_the_warning_says_how_to_see_where_it_was_made():
    lines = leaks('-W', 'default')
    advice = '; python -X dev says where it was made$'
    # While it runs, and at the interpreter's end.
    assert re.search(rf'^<string>:\d+: ResourceWarning: unclosed tcp .*{advice}', lines, re.M), lines
    assert re.search(rf'^<?sys>?:\d: ResourceWarning: unclosed tcp .*{advice}', lines, re.M), lines


def test_subclasses_warn_too():
    class Mine(sock.TCP):
        __slots__ = ()

    conn = Mine(sock._sock.open('tcp', 'inet'))
    with pytest.warns(ResourceWarning, match='unclosed tcp'):
        del conn
        gc.collect()


# Full duplex and Busy


def test_full_duplex_one_reads_while_another_writes(peer):
    conn, other = peer
    there, back = os.urandom(10_000_000), os.urandom(10_000_000)
    got = []
    threads = [
        threading.Thread(target=lambda: (other.sendall(back), other.shutdown(socket.SHUT_WR))),
        threading.Thread(target=lambda: got.append(unread(other))),
    ]

    async def writer():
        await conn.send(there)
        conn.shutdown('w')

    async def main():
        for thread in threads:
            thread.start()
        sending = sock.newthread(writer)
        received = await conn.recvall()
        await sending
        return received

    assert run(main()) == back
    for thread in threads:
        thread.join(10)
    assert got == [there]


# Readiness


def test_readable_holds_until_the_data_is_read(peer):
    conn, other = peer

    async def main():
        other.sendall(b'ab')
        await conn.readable()
        await conn.readable()
        assert await conn.recv(1) == b'a'
        await conn.readable()
        assert await conn.recv(10) == b'b'

    run(main())


def test_readable_waits_for_data_and_for_the_end(peer):
    conn, other = peer

    async def waiter():
        await conn.readable()

    async def main():
        thread = sock.newthread(waiter)
        assert not thread.done
        other.sendall(b'x')
        await thread
        await conn.recv(10)
        thread = sock.newthread(waiter)
        assert not thread.done
        other.shutdown(socket.SHUT_WR)
        await thread
        assert await conn.recv(10) == b''

    run(main())


def test_writable_waits_for_room(peer):
    conn, other = peer

    async def waiter():
        await conn.writable()

    async def main():
        await conn.writable()
        await fill(conn)
        thread = sock.newthread(waiter)
        assert not thread.done
        reader = threading.Thread(target=lambda: unread(other))
        reader.start()
        await thread
        conn.close()
        reader.join()

    run(main())


# Deadlines


OPERATIONS = {
    'recv': lambda conn, expires: conn.recv(bytearray(1), expires=expires),
    'recv_bytes': lambda conn, expires: conn.recv(10, expires=expires),
    'recvn': lambda conn, expires: conn.recvn(bytearray(1), expires=expires),
    'recvall': lambda conn, expires: conn.recvall(expires=expires),
    'send': lambda conn, expires: conn.send(bytes(50_000_000), expires=expires),
    'readable': lambda conn, expires: conn.readable(expires),
}


@pytest.mark.parametrize('operation', OPERATIONS)
@pytest.mark.parametrize('seconds', [0.02, 0, -1, -float('inf')])
def test_operation_that_expires_closes_the_socket_and_raises_timeout(peer, operation, seconds):
    conn, _ = peer

    async def main():
        begin = now()
        with pytest.raises(sock.Timeout) as caught:
            await OPERATIONS[operation](conn, begin + seconds)
        assert max(seconds, 0) <= now() - begin < max(seconds, 0) + 1
        return caught.value

    error = run(main())
    assert conn.closed
    assert isinstance(error, TimeoutError)
    assert (error.err, error.errno) == ('timeout', None)
    assert str(error).startswith('timeout: ' + operation.removesuffix('_bytes') + ' tcp 127.0.0.1:')
    assert 'the socket is closed' in str(error)


@pytest.mark.parametrize('most', [65536, 65537, 300_000, 5_000_000])
def test_recv_of_many_bytes_gives_what_there_is(most):
    """Up to 64 KB come by way of a buffer that all share, more straight into their own object."""
    ours, theirs = socket.socketpair()
    data = bytes(range(256)) * 400

    async def main():
        with theirs, sock.fromsocket(ours) as conn:
            for size in (1, 257, 70_000, len(data)):
                reader = sock.newthread(conn.recv, most)  # waits first: there is nothing
                theirs.sendall(data[:size])
                got = await reader
                while len(got) < size:
                    more = await conn.recv(most)
                    assert 0 < len(more) <= most
                    got += more
                assert got == data[:size]
            theirs.close()
            assert await conn.recv(most) == b''

    run(main())


@pytest.mark.parametrize('operation', ['recv', 'send'])
def test_deadline_is_the_same_however_the_call_is_written(operation):
    """Calls with `expires` alone as keyword have a way of their own, by the interpreter's own object of that name."""
    of_its_own = ''.join(['exp', 'ires'])
    argument = bytearray(10) if operation == 'recv' else bytes(50_000_000)

    async def main():
        for positional in ((argument,), (argument, None), (argument, len(argument))):
            for keywords in ({'expires': 0.02}, {of_its_own: 0.02}, {'expires': 0.02, 'maxlen': None}):
                if 'maxlen' in keywords and len(positional) > 1:
                    continue
                ours, theirs = socket.socketpair()
                with theirs, sock.fromsocket(ours) as conn:
                    call = getattr(conn, operation)
                    begin = now()
                    with pytest.raises(sock.Timeout):
                        await call(*positional, **{name: value and begin + value for name, value in keywords.items()})
                    assert now() >= begin + 0.02
                    with pytest.raises(TypeError, match='expires must be'):
                        call(*positional, **dict.fromkeys(keywords, 'soon'))

    run(main())


@pytest.mark.parametrize('name', ['expires', ''.join(['exp', 'ires'])])
def test_deadline_of_none_never_passes(peer, name):
    conn, other = peer

    async def main():
        reader = sock.newthread(conn.recv, 10)
        other.sendall(b'one')
        assert await reader == b'one'
        other.sendall(b'two')
        assert await conn.recv(10, **{name: None}) == b'two'
        assert await conn.send(b'three', **{name: None}) == 5

    run(main())
    assert other.recv(10) == b'three'


def test_data_that_comes_with_the_deadline_is_not_lost(peer):
    """Ready data wins over a deadline where both are due: the loop was held up for longer than the deadline."""
    conn, other = peer

    async def reader():
        return await conn.recv(10, expires=now() + 0.01)

    async def main():
        thread = sock.newthread(reader)
        other.sendall(b'in time')
        until = time.monotonic() + 0.05
        while time.monotonic() < until:
            pass
        assert await thread == b'in time'

    run(main())


# Cancelling


def test_cancel_leaves_the_socket_open_and_whole(peer):
    conn, other = peer

    async def reader():
        await conn.recv(10)

    async def main():
        thread = sock.newthread(reader)
        thread.cancel()
        with pytest.raises(sock.Cancelled):
            await thread
        assert not conn.closed
        other.sendall(b'x')
        assert await conn.recv(10) == b'x'

    run(main())


def test_coroutine_closed_while_it_waits_frees_the_direction(peer):
    conn, other = peer

    async def reader():
        await conn.recv(10)

    async def main():
        inner = reader()
        # By hand, as a library might: it yields once, and is thrown away.
        inner.send(None)
        inner.close()
        await sock.sleep(0)
        other.sendall(b'x')
        assert await conn.recv(10) == b'x'

    run(main())


# What a socket tells


def test_addresses_and_names(peer):
    conn, other = peer
    assert (conn.type, conn.family, conn.protocol, conn.closed) == ('tcp', 'inet', 'tcp', False)
    assert tuple(conn.local_addr) == other.getpeername()
    assert tuple(conn.remote_addr) == other.getsockname()
    assert repr(conn) == f'<sock.TCP {conn.local_addr} -> {conn.remote_addr} connected>'
    assert conn.fileno() > 0


def test_repr_of_each_state():
    with sock.tcp() as s:
        assert repr(s) == '<sock.TCP unbound>'
        assert s.local_addr is None
        assert s.remote_addr is None
        s.bind('127.0.0.1')
        assert repr(s) == f'<sock.TCP {s.local_addr} bound>'
        s.listen()
        assert repr(s) == f'<sock.TCP {s.local_addr} listening>'
    assert repr(s) == '<sock.TCP closed>'


def test_connections_have_nodelay_on():
    async def main():
        with sock.tcp() as listener, sock.tcp() as client:
            listener.listen('127.0.0.1')
            await client.connect('127.0.0.1', listener.local_addr.port)
            accepted, _, _ = await listener.accept()
            with accepted:
                assert client.getopt('tcp_nodelay') is True
                assert accepted.getopt('tcp_nodelay') is True
                client.setopt('tcp_nodelay', False)
                assert client.getopt('tcp_nodelay') is False

    run(main())


def test_detach_gives_the_descriptor_away_and_wakes_who_waits(peer):
    conn, other = peer

    async def reader():
        with pytest.raises(sock.Closed, match='detach'):
            await conn.recv(10)

    async def main():
        thread = sock.newthread(reader)
        fd = conn.detach()
        await thread
        assert conn.closed
        with socket.socket(fileno=fd) as s:
            s.setblocking(True)
            s.sendall(b'still open')

    run(main())
    assert other.recv(100) == b'still open'


def test_fromfd_takes_a_descriptor_over():
    a, b = socket.socketpair()
    with a, sock.fromfd(b.detach()) as conn:
        a.settimeout(10)

        async def main():
            await conn.send(b'x')

        run(main())
        assert a.recv(10) == b'x'
        twin = socket.socket(fileno=conn.fileno())
        assert twin.get_inheritable() is False
        twin.detach()
        # Windows does not tell.
        assert os.name == 'nt' or os.get_blocking(conn.fileno()) is False


def test_fromsocket_detaches_the_stdlib_socket(peer):
    a, b = socket.socketpair()
    with a, sock.fromsocket(b) as conn:
        assert b.fileno() == -1
        assert conn.family == 'unix' or os.name == 'nt'
        assert isinstance(conn, sock.TCP)


@pytest.mark.skipif(os.name == 'nt', reason='descriptors are no files there')
def test_fromfd_of_what_is_no_socket_leaves_it_open():
    read, write = os.pipe()
    try:
        with pytest.raises(sock.Error) as caught:
            sock.fromfd(read)
        assert caught.value.errno is not None
        assert os.fstat(read)
    finally:
        os.close(read)
        os.close(write)


@pytest.mark.skipif(not LINUX, reason='the kind is not everywhere')
def test_fromfd_of_a_kind_of_socket_that_has_no_class_leaves_it_open():
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        with pytest.raises(sock.NotSupported):
            sock.fromfd(s.fileno())
        assert s.getsockname() == ''


# Reuse, ends of everything


def all_that_comes(conn, other, send, wanted):
    """What a reader that already waits gets of what is sent in several parts, with no further event after them."""

    async def main():
        reader = sock.newthread(collect)
        # It waits: what comes now is told of once.
        send(other)
        return await reader

    async def collect():
        got, late = b'', now() + 10
        while len(got) < wanted:
            got += await conn.recv(100, expires=late)
        assert now() < late, 'a last look when it was too late found what no event had told of'
        return got

    return run(main())


def test_urgent_data_does_not_hide_what_comes_behind_it(peer):
    def send(other):
        other.sendall(b'before')
        other.send(b'!', socket.MSG_OOB)
        other.sendall(b'after')

    assert all_that_comes(*peer, send, 11) == b'beforeafter'


@pytest.mark.skipif(not hasattr(socket, 'send_fds'), reason='this OS sends no descriptors')
def test_descriptors_that_come_along_do_not_hide_what_comes_behind_them():
    here, there = socket.socketpair()

    def send(other):
        socket.send_fds(other, [b'before'], [0])
        other.sendall(b'after')

    with there, sock.fromsocket(here) as conn:
        assert all_that_comes(conn, there, send, 11) == b'beforeafter'


@pytest.mark.skipif(not LINUX, reason='Linux tells who writes')
def test_another_writer_does_not_hide_what_it_wrote_behind_the_first_one():
    here, there = socket.socketpair()
    here.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, True)
    other_process = f'import socket; socket.socket(fileno={there.fileno()}).sendall(b"after")'

    def send(other):
        other.sendall(b'before')
        subprocess.run([sys.executable, '-c', other_process], pass_fds=[other.fileno()], check=True, timeout=20)

    with there, sock.fromsocket(here) as conn:
        assert all_that_comes(conn, there, send, 11) == b'beforeafter'


@pytest.mark.skipif(not LINUX, reason='urgent data on unix sockets are of Linux')
def test_urgent_data_does_not_hide_what_comes_behind_it_on_a_unix_socket():
    here, there = socket.socketpair()

    def send(other):
        other.sendall(b'before')
        try:
            other.send(b'!', socket.MSG_OOB)
        except OSError as failed:
            pytest.skip(f'this kernel sends none: {failed}')
        other.sendall(b'after')

    with there, sock.fromsocket(here) as conn:
        assert all_that_comes(conn, there, send, 11) == b'beforeafter'


@pytest.mark.skipif(not hasattr(socket, 'AF_UNIX'), reason='this OS has no unix sockets')
def test_shutdown_ends_a_send_that_waits_for_room():
    here, there = socket.socketpair()
    with there, sock.fromsocket(here) as conn:

        async def main():
            sending = sock.newthread(send)
            conn.shutdown('w')
            with pytest.raises(sock.BrokenPipe) as caught:
                await sending
            return caught.value.sent

        async def send():
            await conn.send(bytes(10_000_000), expires=now() + 5)

        sent = run(main())
        assert 0 < sent == len(there.recv(10_000_000, socket.MSG_WAITALL))


def test_many_connections_at_once_each_get_their_own_bytes():
    async def serve(conn):
        with conn:
            while data := await conn.recv(1000):
                await conn.send(data)

    async def accept(listener):
        while True:
            sock.newthread(serve, (await listener.accept())[0])

    async def client(i, port):
        with sock.tcp() as conn:
            await conn.connect('127.0.0.1', port)
            buf = bytearray(1000)
            for j in range(5):
                data = b'%d-%d;' % (i, j) * 50
                await conn.send(data)
                await conn.recvn(buf, len(data))
                assert buf[: len(data)] == data

    async def main():
        with sock.tcp() as listener:
            listener.listen('127.0.0.1')
            accepting = sock.newthread(accept, listener)
            for thread in [sock.newthread(client, i, listener.local_addr.port) for i in range(200)]:
                await thread
            accepting.cancel()
            with contextlib.suppress(sock.Cancelled):
                await accepting

    run(main())
