"""Moving bytes, and ending: recv, recvn, recvall, send, shutdown, close, readiness, deadlines, cancelling."""

import array
import contextlib
import ctypes
import gc
import mmap
import os
import re
import socket
import struct
import threading
import time

import pytest
import sock
from support import LINUX, is_open, run


def now():
    return sock.clock()


def reset_on_close(other):
    other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))


def unread(s):
    """Whatever is there for a stdlib socket until its end."""
    return b''.join(iter(lambda: s.recv(1 << 20), b''))


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


def test_recv_waits_for_data(peer):
    conn, other = peer
    timer = threading.Timer(0.02, other.sendall, (b'late',))

    async def main():
        timer.start()
        return await conn.recv(100)

    assert run(main()) == b'late'
    timer.join()


def test_recv_never_writes_beyond_maxlen(peer):
    conn, other = peer
    buf = bytearray(b'.' * 10)

    async def main():
        other.sendall(b'hello world')
        assert await conn.recv(buf, 3) == 3
        assert buf == b'hel.......'
        # Not more than the buffer holds, either.
        assert await conn.recv(buf, 1000) == 8

    run(main())
    assert buf == b'lo world..'


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


def test_recv_after_reset_raises_and_the_data_before_it_comes_first(peer):
    conn, other = peer

    async def main():
        other.sendall(b'data')
        assert await conn.recv(2) == b'da'
        reset_on_close(other)
        other.close()
        with pytest.raises(sock.ConnectionReset) as caught:
            while True:
                await conn.recv(1)
        assert isinstance(caught.value, ConnectionResetError)

    run(main())


@pytest.mark.parametrize('size', [1, 7, 64])
def test_read_of_exactly_the_buffer_then_a_wait_does_not_hang(peer, size):
    conn, other = peer
    buf = bytearray(size)

    async def main():
        for _ in range(20):
            other.sendall(b'x' * size)
            assert await conn.recv(buf) == size

    run(main())


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


def test_send_waits_for_a_slow_peer_and_keeps_every_byte(peer):
    conn, other = peer
    data = os.urandom(20_000_000)
    got = []
    reader = threading.Thread(target=lambda: got.append(unread(other)))

    async def main():
        sender = sock.newthread(send())
        assert not sender.done, 'the buffers of the system hold less than this'
        reader.start()
        assert await sender == len(data)
        conn.shutdown('w')

    async def send():
        return await conn.send(data)

    run(main())
    reader.join(10)
    assert got == [data]


def test_send_that_expires_says_exactly_how_much_was_sent(peer):
    conn, other = peer
    other.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    data = bytes(range(256)) * 100_000

    async def main():
        with pytest.raises(sock.Timeout, match=r'of 25600000 bytes sent') as caught:
            await conn.send(data, expires=now() + 0.05)
        assert conn.closed
        return caught.value

    error = run(main())
    assert 0 < error.sent < len(data)
    assert error.received == 0
    # The peer counts the same: the FIN comes after the data that was sent.
    assert unread(other) == data[: error.sent]


def test_send_after_the_peers_reset_is_reset_or_broken_pipe_and_no_signal(peer):
    conn, other = peer

    async def main():
        reset_on_close(other)
        other.close()
        with pytest.raises((sock.ConnectionReset, sock.BrokenPipe)):
            for _ in range(100):
                await conn.send(b'x' * 1000)
                await sock.sleep(0.001)

    run(main())


def test_send_after_shutdown_is_broken_pipe(peer):
    conn, _ = peer

    async def main():
        conn.shutdown('w')
        with pytest.raises(sock.BrokenPipe) as caught:
            await conn.send(b'x')
        assert isinstance(caught.value, BrokenPipeError)

    run(main())


@pytest.mark.parametrize(
    'data',
    [
        b'12345678',
        bytearray(b'12345678'),
        memoryview(b'..12345678..')[2:-2],
        memoryview(b'12345678').toreadonly(),
        array.array('q', struct.unpack('q', b'12345678')),
        (ctypes.c_char * 8)(*b'12345678'),
    ],
    ids=lambda data: type(data).__name__,
)
def test_send_takes_any_buffer(peer, data):
    conn, other = peer

    async def main():
        assert await conn.send(data) == 8

    run(main())
    assert other.recv(100) == b'12345678'


@pytest.mark.parametrize(
    'make',
    [
        lambda: bytearray(8),
        lambda: memoryview(bytearray(12))[2:-2],
        lambda: array.array('q', [0]),
        lambda: (ctypes.c_char * 8)(),
    ],
)
def test_recv_takes_any_writable_buffer(peer, make):
    conn, other = peer
    buf = make()

    async def main():
        other.sendall(b'12345678')
        assert await conn.recv(buf) == 8

    run(main())
    assert bytes(buf) == b'12345678'


def test_send_and_recv_with_mmap(peer):
    conn, other = peer

    async def main():
        with mmap.mmap(-1, 4096) as buf:
            buf[:4] = b'mmap'
            await conn.send(buf, 4)
            assert other.recv(10) == b'mmap'
            other.sendall(b'back')
            assert await conn.recv(buf) == 4
            assert buf[:4] == b'back'

    run(main())


def test_memoryview_slice_of_a_larger_buffer_is_not_overrun(peer):
    conn, other = peer
    whole = bytearray(b'.' * 12)

    async def main():
        other.sendall(b'x' * 100)
        assert await conn.recv(memoryview(whole)[4:8]) == 4

    run(main())
    assert whole == b'....xxxx....'


def test_bytearray_cannot_be_resized_while_in_flight(peer):
    conn, other = peer
    buf = bytearray(10)

    async def reader():
        return await conn.recv(buf)

    async def main():
        thread = sock.newthread(reader)
        with pytest.raises(BufferError):
            buf.extend(b'more')
        with pytest.raises(BufferError):
            buf.clear()
        other.sendall(b'whole')
        assert await thread == 5
        buf.extend(b'now it can')

    run(main())
    assert buf.startswith(b'whole')


# Ending


def test_close_sends_fin_after_the_data(peer):
    conn, other = peer

    async def main():
        await conn.send(b'last words')
        conn.close()

    run(main())
    assert unread(other) == b'last words'


def test_close_with_unread_data_resets(peer):
    conn, other = peer

    async def main():
        other.sendall(b'never read')
        await conn.readable()
        conn.close()

    run(main())
    with pytest.raises(ConnectionResetError):
        unread(other)


def test_close_with_linger_zero_resets(peer):
    conn, other = peer
    conn.setopt('so_linger', 0)
    conn.close()
    with pytest.raises(ConnectionResetError):
        unread(other)


def test_close_leaves_full_buffers_to_be_delivered(peer):
    conn, other = peer
    sent = []

    async def fill():
        with pytest.raises(sock.Closed) as caught:
            await conn.send(b'x' * 50_000_000)
        sent.append(caught.value.sent)

    async def main():
        thread = sock.newthread(fill)
        conn.close()
        await thread

    run(main())
    assert len(unread(other)) == sent[0] > 0


def test_close_is_idempotent(peer):
    conn, _ = peer
    assert not conn.closed
    for _ in range(3):
        conn.close()
        assert conn.closed
    assert conn.fileno() == -1


@pytest.mark.parametrize('operation', ['recv', 'recv_bytes', 'recvn', 'recvall', 'send', 'readable', 'writable'])
def test_close_wakes_who_waits_with_closed_that_says_who_and_where(peer, operation):
    conn, _ = peer
    conn.setopt('so_sndbuf', 4096)
    big = bytes(30_000_000)
    operations = {
        'recv': lambda: conn.recv(bytearray(1)),
        'recv_bytes': lambda: conn.recv(10),
        'recvn': lambda: conn.recvn(bytearray(1)),
        'recvall': lambda: conn.recvall(),
        'send': lambda: conn.send(big),
        'readable': lambda: conn.readable(),
        'writable': lambda: conn.writable(),
    }

    async def waiter():
        with pytest.raises(sock.Closed) as caught:
            await operations[operation]()
        return caught.value

    async def closer():
        conn.close()

    async def main():
        if operation == 'writable':
            await fill(conn)
        thread = sock.newthread(waiter)
        assert not thread.done
        begin = time.monotonic()
        sock.newthread(closer, name='the closer')
        error = await thread
        assert time.monotonic() - begin < 1
        return error

    error = run(main())
    assert error.err == 'closed'
    assert error.errno is None
    assert "by thread 'the closer'" in str(error)
    assert re.search(r'in closer, .*test_tcp\.py:\d+', str(error))


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


def test_close_from_another_os_thread_wakes_who_waits(peer):
    conn, _ = peer
    timer = threading.Timer(0.02, conn.close)

    async def main():
        timer.start()
        with pytest.raises(sock.Closed):
            await conn.recv(1)

    run(main())
    timer.join()


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


def test_shutdown_while_the_other_direction_is_busy_loses_nothing(peer):
    conn, other = peer
    data = os.urandom(5_000_000)
    sender = threading.Thread(target=lambda: (other.sendall(data), other.shutdown(socket.SHUT_WR)))

    async def main():
        sender.start()
        conn.shutdown('w')
        return await conn.recvall()

    assert run(main()) == data
    sender.join()
    assert unread(other) == b''


def test_unclosed_socket_is_closed_with_a_resource_warning():
    conn = sock.fromsocket(socket.socket())
    fd = conn.fileno()
    with pytest.warns(ResourceWarning, match='unclosed tcp'):
        del conn
        gc.collect()
    assert not is_open(fd)


def test_socket_that_a_thread_waits_on_lives_on_without_other_references(peer):
    conn, other = peer
    taken = sock.fromfd(conn.detach())

    async def main(conn):
        return await conn.recv(10)

    async def outer():
        nonlocal taken
        thread = sock.newthread(main, taken)
        fd = taken.fileno()
        taken = None
        gc.collect()
        assert is_open(fd)
        other.sendall(b'alive')
        assert await thread == b'alive'
        del thread
        gc.collect()

    with pytest.warns(ResourceWarning):
        run(outer())


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


@pytest.mark.parametrize('direction', ['reads', 'writes'])
def test_second_thread_in_a_direction_is_busy_and_the_first_untouched(peer, direction):
    conn, other = peer
    big = bytes(20_000_000)

    async def first():
        return await (conn.recv(10) if direction == 'reads' else conn.send(big))

    async def main():
        thread = sock.newthread(first, name='the first')
        second = conn.readable() if direction == 'reads' else conn.writable()
        with pytest.raises(sock.Busy) as caught:
            await second
        assert caught.value.err == 'busy'
        assert re.search(rf"thread 'the first' has waited there for \d+\.\d+ s and {direction}", str(caught.value))
        if direction == 'reads':
            other.sendall(b'x')
            assert await thread == b'x'
        else:
            reader = threading.Thread(target=lambda: receive_exactly(other, len(big)))
            reader.start()
            assert await thread == len(big)
            reader.join()
        # The direction is free again.
        other.sendall(b'y')
        assert await conn.recv(1) == b'y'

    run(main())


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


def test_expires_in_the_past_lets_what_can_finish_at_once(peer):
    conn, other = peer

    async def main():
        assert await conn.send(b'x', expires=now() - 1) == 1
        other.sendall(b'y')
        await conn.readable()
        assert await conn.recv(10, expires=now() - 1) == b'y'

    run(main())
    assert not conn.closed


@pytest.mark.parametrize('expires', [None, float('inf'), 10**12, 1e300])
def test_expires_far_away_waits(peer, expires):
    conn, other = peer

    async def reader():
        return await conn.recv(10, expires=expires)

    async def main():
        thread = sock.newthread(reader)
        await sock.sleep(0.01)
        assert not thread.done
        other.sendall(b'x')
        assert await thread == b'x'

    run(main())


def test_expires_takes_an_int(peer):
    conn, _ = peer

    async def main():
        with pytest.raises(sock.Timeout):
            await conn.recv(10, expires=int(now()))

    run(main())


def test_expires_that_is_no_number_is_an_error_and_leaves_the_socket_alone(peer):
    conn, _ = peer
    with pytest.raises(ValueError, match='not a number'):
        conn.recv(10, expires=float('nan'))
    with pytest.raises(TypeError, match=r'expires must be a sock\.clock'):
        conn.recv(10, expires='soon')
    assert not conn.closed


def test_deadline_of_one_direction_closes_for_the_other_too(peer):
    conn, _ = peer

    async def reader():
        with pytest.raises(sock.Closed, match='its deadline passed'):
            await conn.recv(10)

    async def main():
        thread = sock.newthread(reader)
        with pytest.raises(sock.Timeout):
            await conn.send(bytes(50_000_000), expires=now() + 0.02)
        await thread

    run(main())


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


def test_cancel_when_the_data_is_there_loses_none_of_it(peer):
    conn, other = peer
    got = []

    async def reader():
        got.append(await conn.recv(10))

    async def main():
        for i in range(50):
            thread = sock.newthread(reader)
            other.sendall(b'%02d' % i)
            if i % 2:
                await sock.sleep(0)
            thread.cancel()
            with contextlib.suppress(sock.Cancelled):
                await thread
        other.shutdown(socket.SHUT_WR)
        got.append(await conn.recvall())

    run(main())
    assert b''.join(got) == b''.join(b'%02d' % i for i in range(50))


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


def test_descriptor_number_reused_by_a_new_socket_sees_nothing_of_the_old_one():
    """Close a socket with an event on its way, and open others that get its number."""

    async def reader(conn, got):
        got.append(await conn.recv(10))

    async def main():
        for _ in range(50):
            a, b = socket.socketpair()
            conn = sock.fromsocket(b)
            old = sock.newthread(reader, conn, [])
            a.send(b'old')
            fd = conn.fileno()
            conn.close()
            c, d = socket.socketpair()
            new = sock.fromsocket(d) if d.fileno() == fd else sock.fromsocket(c)
            other = c if d.fileno() == -1 else d
            got = []
            thread = sock.newthread(reader, new, got)
            await sock.sleep(0)
            await sock.sleep(0.001)
            assert got == []
            other.send(b'new')
            await thread
            assert got == [b'new']
            with pytest.raises(sock.Closed):
                await old
            new.close()
            other.close()
            a.close()

    run(main())


def test_duplicate_of_a_closed_descriptor_reaches_nobody(peer):
    """The kernel keeps a registration alive while a duplicate lives: no event of it may reach us."""
    conn, other = peer

    async def main():
        duplicate = socket.dup(conn.fileno())
        thread = sock.newthread(waiting)
        conn.close()
        with pytest.raises(sock.Closed):
            await thread
        other.sendall(b'x')
        turns = 0
        until = now() + 0.02
        while now() < until:
            await sock.sleep(0.005)
            turns += 1
        socket.close(duplicate)
        assert turns <= 5

    async def waiting():
        await conn.recv(1)

    run(main())


def test_out_of_band_data_inline_does_not_stop_the_stream(peer):
    conn, other = peer
    conn.setopt('so_oobinline', True)

    async def main():
        other.sendall(b'before')
        other.send(b'!', socket.MSG_OOB)
        other.sendall(b'after')
        got = b''
        while len(got) < 12:
            got += await conn.recv(100, expires=now() + 5)
        return got

    assert run(main()) == b'before!after'


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


@pytest.mark.skipif(not LINUX, reason='setitimer storms are tested on Linux')
def test_signals_interrupt_nothing(peer):
    """A storm of signals: no spurious error, no lost byte, no deadline that is early."""
    import signal

    conn, other = peer
    count = []
    old = signal.signal(signal.SIGALRM, lambda *_: count.append(1))
    data = os.urandom(5_000_000)
    sender = threading.Thread(target=lambda: (other.sendall(data), other.shutdown(socket.SHUT_WR)))

    async def main():
        begin = now()
        await sock.sleep(0.05)
        assert 0.05 <= now() - begin < 0.5
        sender.start()
        return await conn.recvall()

    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        assert run(main()) == data
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
        sender.join()
    assert len(count) > 10
