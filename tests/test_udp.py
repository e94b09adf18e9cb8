"""Datagrams: UDP over IPv4 and IPv6, and unix; the stdlib's sockets are the other side."""

import array
import contextlib
import errno
import os
import socket
import sys
import threading
import time
from pathlib import Path

import pytest
import sock
from conftest import PATIENCE
from support import LINUX, LONG_UNIX_DATAGRAM, LONGEST_DATAGRAM, UNIX_DATAGRAMS_WAIT, run

ADDRESSES = {'inet': '127.0.0.1', 'inet6': '::1'}

unix_waits = pytest.mark.skipif(not UNIX_DATAGRAMS_WAIT, reason='elsewhere a unix datagram waits for no room')


def soon(seconds=PATIENCE):
    return sock.clock() + seconds


def address_of(s):
    return sock.addr(*s.getsockname()[:2], 'udp').addr


@pytest.mark.parametrize('family', ['inet', 'inet6'])
def test_datagrams_come_whole_with_their_sender(family):
    async def main():
        with sock.udp(family) as s, socket.socket(sock._addrinfo.FAMILIES[family], socket.SOCK_DGRAM) as other:
            other.settimeout(PATIENCE)
            s.bind(ADDRESSES[family])
            other.bind((ADDRESSES[family], 0))
            for data in (b'one', b'', b'x' * 1400):
                other.sendto(data, tuple(s.local_addr))
                buf = bytearray(2000)
                n, sender = await s.recvfrom(buf, expires=soon())
                assert bytes(buf[:n]) == data
                assert (sender.host, sender.port) == other.getsockname()[:2]
                assert await s.send(buf, n, sender) == n
                back, sent_from = other.recvfrom(2000)
                assert back == data
                assert sent_from[:2] == tuple(s.local_addr)

    run(main)


def test_addresses_of_senders_are_right_and_kept():
    """They are kept in a table that grows; two that want the same place there take turns, which few do."""

    async def main():
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(sock.udp())
            server.bind('127.0.0.1')
            clients = [stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in range(32)]
            for client in clients:
                client.connect(tuple(server.local_addr))
            before = []
            for _ in range(12):
                addresses = []
                for client in clients:
                    client.send(b'x')
                    _, addr = await server.recvfrom(10, expires=soon())
                    assert tuple(addr) == client.getsockname()
                    addresses.append(addr)
                same = sum(addr is then for addr, then in zip(addresses, before, strict=bool(before)))
                before = addresses
            assert same >= 24

    run(main)


def test_address_of_a_sender_goes_back_without_being_parsed(udp, other):
    """None of the library's Python runs for it, which alone reads addresses that are text; for such a one it does."""
    ours = str(Path(sock.__file__).parent)

    async def main():
        other.sendto(b'ping', tuple(udp.local_addr))
        for _, sender in (await udp.recvfrom(10, expires=soon()), (10, address_of(other))):
            calls = [
                (lambda to=sender: udp.send(b'pong', None, to), False),
                (lambda to=sender: udp.send(data=b'pong', host=to), False),
                (lambda to=sender: udp.sendmany([(b'pong', to)]), False),
                (lambda to=sender: udp.send(b'pong', None, to.host, to.port), True),
            ]
            for call, reads in calls:
                ran = []
                sys.setprofile(lambda frame, event, _, ran=ran: ran.append((event, frame.f_code.co_filename)))
                try:
                    await call()
                finally:
                    sys.setprofile(None)
                assert other.recv(10) == b'pong'
                assert any(event == 'call' and name.startswith(ours) for event, name in ran) == reads

    run(main)


@pytest.mark.parametrize('how', ['address', 'numbers', 'name', 'service', 'addrinfo', 'keywords'])
def test_send_takes_addresses_and_names(udp, other, how):
    host, port = other.getsockname()

    async def main():
        found = sock.addr(host, port, 'udp')
        if how == 'address':
            return await udp.send(b'hello', None, found.addr)
        if how == 'numbers':
            return await udp.send(b'hello', None, host, port)
        if how == 'name':
            return await udp.send(b'hello', None, 'localhost', port, expires=soon())
        if how == 'service':
            return await udp.send(b'hello', None, host, str(port), expires=soon())
        if how == 'addrinfo':
            return await udp.send(b'hello', host=found)
        return await udp.send(data=b'hello', maxlen=None, host=found.addr, expires=soon())

    assert run(main) == 5
    assert other.recvfrom(100) == (b'hello', tuple(udp.local_addr))


def test_send_sends_the_first_maxlen_bytes(udp, other):
    async def main():
        assert await udp.send(b'hello', 4, address_of(other)) == 4
        assert await udp.send(b'hello', maxlen=0, host=address_of(other)) == 0
        assert await udp.send(b'hello', 9, address_of(other)) == 5

    run(main)
    assert [other.recv(10) for _ in range(3)] == [b'hell', b'', b'hello']


@pytest.mark.parametrize('kind', ['bytearray', 'memoryview', 'array'])
def test_recv_into_each_kind_of_buffer(udp, other, kind):
    buf = {
        'bytearray': bytearray(8),
        'memoryview': memoryview(bytearray(10))[1:9],
        'array': array.array('B', bytes(8)),
    }[kind]

    async def main():
        other.sendto(b'hello', tuple(udp.local_addr))
        assert await udp.recv(buf, expires=soon()) == 5
        assert bytes(buf) == b'hello\0\0\0'

    run(main)


def test_recv_of_a_number_gives_bytes(udp, other):
    async def main():
        other.sendto(b'hello', tuple(udp.local_addr))
        assert await udp.recv(100, expires=soon()) == b'hello'
        other.sendto(b'', tuple(udp.local_addr))
        data, sender = await udp.recvfrom(100, expires=soon())
        assert data == b''
        assert tuple(sender) == other.getsockname()

    run(main)


@pytest.mark.parametrize('into', ['buffer', 'maxlen', 'bytes', 'recvfrom'])
def test_datagram_that_does_not_fit_is_an_error_with_what_did_fit(udp, other, into):
    async def main():
        other.sendto(b'0123456789', tuple(udp.local_addr))
        other.sendto(b'next', tuple(udp.local_addr))
        buf = bytearray(4 if into in ('buffer', 'recvfrom') else 20)
        with pytest.raises(sock.MessageTooLong, match='longer than the 4 bytes') as caught:
            if into == 'bytes':
                await udp.recv(4, expires=soon())
            elif into == 'recvfrom':
                await udp.recvfrom(buf, expires=soon())
            else:
                await udp.recv(buf, 4 if into == 'maxlen' else None, expires=soon())
        assert caught.value.received == 4
        assert (caught.value.data if into == 'bytes' else bytes(buf[:4])) == b'0123'
        assert buf[4:] == bytes(len(buf) - 4), 'nothing beyond maxlen'
        assert await udp.recv(20, expires=soon()) == b'next', 'the rest of the long one is gone'

    run(main)


def test_datagram_of_exactly_the_buffers_length_fits(udp, other):
    async def main():
        other.sendto(b'0123', tuple(udp.local_addr))
        assert await udp.recv(bytearray(4), expires=soon()) == 4

    run(main)


def test_connected_socket_sends_to_its_peer_and_receives_from_it_alone(udp, other):
    async def main():
        await udp.connect(*other.getsockname())
        assert udp.remote_addr == address_of(other)
        assert 'connected' in repr(udp)
        assert await udp.send(b'hello') == 5
        assert other.recv(10) == b'hello'
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b'spoofed', tuple(udp.local_addr))
        other.sendto(b'genuine', tuple(udp.local_addr))
        assert await udp.recv(10, expires=soon()) == b'genuine'

    run(main)


def test_connect_again_and_undo_it(udp, other):
    async def main():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as second:
            second.settimeout(PATIENCE)
            second.bind(('127.0.0.1', 0))
            await udp.connect(*other.getsockname())
            await udp.connect(*second.getsockname(), expires=soon())
            assert udp.remote_addr == address_of(second)
            await udp.send(b'to the second')
            assert second.recv(20) == b'to the second'
            await udp.connect('*', 0)
            assert udp.remote_addr is None
            with pytest.raises(sock.NotConnected):
                await udp.send(b'to nobody')
            await udp.send(b'to the first', host=address_of(other))
            assert other.recv(20) == b'to the first'
            second.sendto(b'from the second', tuple(udp.local_addr))
            assert await udp.recv(20, expires=soon()) == b'from the second'

    run(main)


def test_recv_from_one_address_drops_the_others(udp, other):
    async def main():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for _ in range(100):
                stranger.sendto(b'noise', tuple(udp.local_addr))
            other.sendto(b'one', tuple(udp.local_addr))
            stranger.sendto(b'noise', tuple(udp.local_addr))
            other.sendto(b'two', tuple(udp.local_addr))
            other.sendto(b'three', tuple(udp.local_addr))
            buf = bytearray(10)
            assert await udp.recv(buf, None, address_of(other), expires=soon()) == 3
            assert await udp.recv(buf, None, *other.getsockname(), expires=soon()) == 3
            assert await udp.recv(buf, host='localhost', port=other.getsockname()[1], expires=soon()) == 5
            assert buf[:5] == b'three'

    run(main)


def test_recv_from_one_host_and_any_port(udp, other):
    async def main():
        other.sendto(b'hello', tuple(udp.local_addr))
        assert await udp.recv(10, host='127.0.0.1', expires=soon()) == b'hello'

    run(main)


def test_recv_from_one_address_expires_under_a_flood_of_others(udp, other):
    async def flood(to):
        with sock.udp() as s:
            await s.connect(to)
            while not udp.closed:
                await s.send(b'noise')

    async def main():
        flooding = sock.newthread(flood, udp.local_addr)
        begin = sock.clock()
        with pytest.raises(sock.Timeout):
            await udp.recv(10, None, address_of(other), expires=begin + 0.1)
        assert sock.clock() - begin < 2
        await flooding

    run(main)


def test_icmp_error_of_a_connection_that_was_undone_is_forgotten(udp, other, dead):
    async def main():
        await udp.connect(dead)
        await udp.send(b'into the void')
        await sock.sleep(0.01)
        await udp.connect('*', 0)
        other.sendto(b'ping', tuple(udp.local_addr))
        assert await udp.recv(10, expires=soon()) == b'ping'

    run(main)


def test_recvmany_gives_what_is_there(udp, other):
    async def main():
        datagrams = [b'%d' % i * (i + 1) for i in range(5)]
        for data in datagrams:
            other.sendto(data, tuple(udp.local_addr))
        bufs = [bytearray(8) for _ in range(3)]
        got = []
        while len(got) < 5:
            batch = await udp.recvmany(bufs, expires=soon())
            assert 1 <= len(batch) <= 3
            got += [bytes(buf[:n]) for buf, (n, _) in zip(bufs, batch, strict=False)]
            assert all(sender == address_of(other) for _, sender in batch)
        assert got == datagrams

    run(main)


def test_recvmany_of_a_number_gives_bytes(udp, other):
    async def main():
        datagrams = [b'', b'x' * 512, *(b'%d' % i for i in range(98)), os.urandom(LONGEST_DATAGRAM)]
        got = []
        for i, data in enumerate(datagrams, 1):
            other.sendto(data, tuple(udp.local_addr))
            if i % 50 == 0 or i == len(datagrams):
                while len(got) < i:
                    batch = await udp.recvmany(60, expires=soon())
                    assert 1 <= len(batch) <= 60
                    assert all(sender == address_of(other) for _, sender in batch)
                    got += [data for data, _ in batch]
        assert got == datagrams
        assert udp.stats.bytes_received == sum(map(len, datagrams))

    run(main)


def test_recvmany_of_a_number_takes_what_a_unix_socket_sends_at_most(short_path):
    if sys.platform == 'win32':
        pytest.skip('unix datagrams are not there')
    longest = os.urandom(LONG_UNIX_DATAGRAM)

    async def main():
        with sock.udp('unix') as receiver, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            receiver.bind(str(short_path / 'receiver'))
            sender.bind(str(short_path / 'sender'))
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            for data in (longest, b'short'):
                sender.sendto(data, str(short_path / 'receiver'))
            got = await receiver.recvmany(5, expires=soon())
            assert [data for data, _ in got] == [longest, b'short']
            assert got[0][1].path == str(short_path / 'sender')

    run(main)


def test_recvmany_waits_for_the_first(udp, other):
    async def send_later():
        await sock.sleep(0.01)
        other.sendto(b'late', tuple(udp.local_addr))

    async def main():
        sock.newthread(send_later)
        assert [n for n, _ in await udp.recvmany([bytearray(8)] * 1, expires=soon())] == [4]

    run(main)


def test_recvmany_of_a_datagram_that_does_not_fit_loses_none_of_the_others(udp, other):
    async def main():
        for data in (b'one', b'much too long', b'two'):
            other.sendto(data, tuple(udp.local_addr))
        bufs = [bytearray(4) for _ in range(3)]
        with pytest.raises(sock.MessageTooLong, match='1 datagrams are longer') as caught:
            await udp.recvmany(bufs, expires=soon())
        assert [n for n, _ in caught.value.datagrams] == [3, 4, 3]
        assert caught.value.received == 10
        assert bufs == [b'one\0', b'much', b'two\0']

    run(main)


def test_recvmany_releases_its_buffers(udp, other):
    async def main():
        buf = bytearray(8)
        operation = udp.recvmany([buf], expires=soon())
        with pytest.raises(BufferError):
            buf.extend(b'x')
        other.sendto(b'hello', tuple(udp.local_addr))
        await operation
        buf.extend(b'x')

    run(main)


def test_sendmany_sends_each_to_its_address(udp, other):
    async def main():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as second:
            second.settimeout(PATIENCE)
            second.bind(('127.0.0.1', 0))
            items = [(b'a', address_of(other)), (bytearray(b'b'), address_of(second)), (b'', address_of(other))]
            assert await udp.sendmany(iter(items)) == 3
            assert [other.recv(10), second.recv(10), other.recv(10)] == [b'a', b'b', b'']
            await udp.connect(address_of(other))
            assert await udp.sendmany([(b'to the peer', None)]) == 1
            assert other.recv(20) == b'to the peer'
            assert await udp.sendmany([]) == 0

    run(main)


def test_sendmany_of_more_than_one_system_call_takes(udp, other):
    async def main():
        received = []

        async def receive():
            with sock.udp() as s:
                s.setopt('so_rcvbuf', 1 << 20)
                s.bind('127.0.0.1')
                addresses.append(s.local_addr)
                bufs = [bytearray(8) for _ in range(64)]
                while len(received) < 1500:
                    batch = await s.recvmany(bufs, expires=soon())
                    received.extend(int(buf[:n]) for buf, (n, _) in zip(bufs, batch, strict=False))

        addresses = []
        receiver = sock.newthread(receive)
        sent = 0
        for begin in range(0, 1500, 100):
            sent += await udp.sendmany([(b'%d' % i, addresses[0]) for i in range(begin, begin + 100)])
            while len(received) < sent:
                await sock.sleep(0)
        await receiver
        assert sent == 1500
        assert received == list(range(1500))
        big = [(b'x', addresses[0])] * 2500
        assert await udp.sendmany(big) == 2500

    run(main)


def test_sendmany_error_tells_how_many_went(udp, other):
    async def main():
        items = [(b'one', address_of(other)), (bytes(70000), address_of(other)), (b'three', address_of(other))]
        with pytest.raises(sock.MessageTooLong) as caught:
            await udp.sendmany(items)
        assert caught.value.sent == 1
        assert other.recv(10) == b'one'

    run(main)


@pytest.mark.parametrize(
    ('call', 'error', 'message'),
    [
        (lambda s: s.send('text'), TypeError, 'encode it first'),
        (lambda s: s.send(5), TypeError, 'bytes or another buffer'),
        (lambda s: s.send(b'x', -1), ValueError, 'negative'),
        (lambda s: s.send(b'x', None, sock.addr('::1', 9, family='inet6').addr), ValueError, 'family inet'),
        (lambda s: s.send(b'x', None, None, 9), ValueError, 'without a host'),
        (lambda s: s.recv(b'read only'), TypeError, 'writable'),
        (lambda s: s.recvfrom(bytearray()), ValueError, '^recvfrom needs room for one byte at least$'),
        (lambda s: s.recv(bytearray(4), 0), ValueError, 'room'),
        (lambda s: s.recv(0), ValueError, '1 byte or more'),
        (lambda s: s.recv(4, 2), TypeError, 'no maxlen'),
        (lambda s: s.recvfrom(4, 2), TypeError, r'^recvfrom\(n\) takes no maxlen: n is the most it returns$'),
        (lambda s: s.recvfrom('x'), TypeError, 'writable buffer'),
        (lambda s: s.recv(4, expires='soon'), TypeError, 'expires'),
        (lambda s: s.recvmany([]), ValueError, 'one buffer'),
        (lambda s: s.recvmany([bytearray()]), ValueError, 'recvmany needs room for one byte at least in each buffer'),
        (lambda s: s.recvmany([b'x']), TypeError, 'writable'),
        (lambda s: s.recvmany(5.0), TypeError, 'iterable'),
        (lambda s: s.recvmany(0), ValueError, '1 datagram or more'),
        (lambda s: s.recvmany(True), TypeError, 'number of datagrams'),
        (lambda s: s.recvmany(2**70), ValueError, r'^recvmany\(n\): the number of datagrams is out of range$'),
        (lambda s: s.sendmany([b'x']), TypeError, 'pairs'),
        (lambda s: s.sendmany([(b'x', '127.0.0.1')]), TypeError, 'SockAddr'),
        (lambda s: s.sendmany([('text', None)]), TypeError, 'buffer'),
        (lambda s: s.sendmany([(b'x', sock.addr('::1', 9, family='inet6').addr)]), ValueError, 'family inet'),
    ],
)
def test_wrong_arguments_are_refused_at_once(udp, call, error, message):
    with pytest.raises(error, match=message):
        call(udp)


@pytest.mark.parametrize(
    ('host', 'port', 'error'),
    [('127.0.0.1', 70000, ValueError), ('127.0.0.1', -1, ValueError), (5, 9, TypeError), ('', 9, ValueError)],
)
def test_wrong_addresses_are_refused(udp, host, port, error):
    async def main():
        with pytest.raises(error):
            await udp.send(b'x', None, host, port)
        with pytest.raises(error):
            await udp.recv(10, None, host, port)

    run(main)


def test_host_that_is_not_found(udp):
    async def main():
        with pytest.raises(sock.HostNotFound):
            await udp.send(b'x', None, 'no.such.host.invalid', 9, expires=soon())
        assert not udp.closed

    run(main)


def test_recv_expires_and_closes(udp):
    async def main():
        with pytest.raises(
            sock.Timeout,
            match=r'^timeout: recvfrom udp 127.0.0.1:\d+: not done after [\d.]+ s, 0 bytes received; the socket',
        ):
            await udp.recvfrom(10, expires=soon(0.02))
        assert udp.closed

    run(main)


def test_expired_recv_still_takes_what_is_there(udp, other):
    async def main():
        other.sendto(b'hello', tuple(udp.local_addr))
        assert await udp.recv(10, expires=0) == b'hello'

    run(main)


def test_cancelled_recv_loses_nothing(udp, other):
    async def main():
        async def receive():
            await udp.recv(10)

        waiting = sock.newthread(receive)
        waiting.cancel()
        with pytest.raises(sock.Cancelled):
            await waiting
        other.sendto(b'hello', tuple(udp.local_addr))
        assert await udp.recv(10, expires=soon()) == b'hello'

    run(main)


def test_second_reader_is_busy(udp):
    async def main():
        async def receive():
            with pytest.raises(sock.Closed):
                await udp.recv(10)

        waiting = sock.newthread(receive)
        with pytest.raises(sock.Busy, match='receive'):
            await udp.recvfrom(10)
        with pytest.raises(sock.Busy):
            await udp.recvmany([bytearray(10)])
        udp.close()
        await waiting

    run(main)


def test_closed_socket_says_so(udp):
    udp.close()

    async def main():
        for operation in (udp.recv(10), udp.recvfrom(10), udp.send(b'x'), udp.recvmany([bytearray(1)])):
            with pytest.raises(sock.Closed, match='closed here'):
                await operation

    run(main)


def test_full_duplex(udp, other):
    async def main():
        async def receive():
            return await udp.recv(10, expires=soon())

        receiver = sock.newthread(receive)
        await udp.send(b'ping', host=address_of(other))
        other.sendto(b'pong', tuple(udp.local_addr))
        assert await receiver == b'pong'

    run(main)
    assert other.recv(10) == b'ping'


def test_readable_holds_no_buffer_and_takes_nothing(udp, other):
    async def main():
        waiting = sock.newthread(_readable, udp)
        assert not waiting.done
        other.sendto(b'hello', tuple(udp.local_addr))
        await waiting
        assert await udp.recv(10, expires=0) == b'hello'

    run(main)


async def _readable(s):
    await s.readable(expires=soon())


def test_broadcast_needs_its_option(udp):
    async def main():
        with pytest.raises(sock.AccessDenied):
            await udp.send(b'x', None, '255.255.255.255', 9)
        udp.setopt('so_broadcast', True)
        if not LINUX:
            return
        # Loopback takes broadcasts on Linux.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
            receiver.settimeout(PATIENCE)
            receiver.bind(('', 0))
            await udp.send(b'to all', None, '127.255.255.255', receiver.getsockname()[1])
            assert receiver.recv(10) == b'to all'

    run(main)


def test_steady_datagrams_do_not_starve_others(udp, other):
    async def main():
        turns = 0

        async def counts():
            nonlocal turns
            while not udp.closed:
                turns += 1
                await sock.sleep(0)

        counting = sock.newthread(counts)
        for _ in range(3000):
            other.sendto(b'x', tuple(udp.local_addr))
            await udp.recv(4, expires=soon())
        udp.close()
        await counting
        assert turns >= 10

    run(main)


@pytest.mark.skipif(sys.platform == 'win32', reason='unix datagrams are not there')
def test_full_unix_datagram_socket_has_its_sender_wait_where_that_is_said():
    """By the stdlib's sockets alone: elsewhere than on Linux it is no buffer space, at once."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, other:
        one.setblocking(False)
        with pytest.raises(OSError, match='Errno') as caught:
            for _ in range(100_000):
                one.send(bytes(1000))
        assert isinstance(caught.value, BlockingIOError) == UNIX_DATAGRAMS_WAIT
        assert UNIX_DATAGRAMS_WAIT or caught.value.errno == errno.ENOBUFS


@unix_waits
def test_buffers_fill_and_nothing_is_lost_by_the_sender():
    """A unix datagram socket waits until its peer has read, as UDP on loopback never does."""

    async def main():
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with sock.fromsocket(ours) as s, sock.fromsocket(theirs) as reader:
            assert (s.type, s.family) == ('udp', 'unix')

            async def write():
                for i in range(1000):
                    await s.send(b'%d' % i * 100, expires=soon())
                return await s.sendmany([(b'%d' % i, None) for i in range(1000)], expires=soon())

            writer = sock.newthread(write)
            for i in range(1000):
                assert await reader.recv(1000, expires=soon()) == b'%d' % i * 100
            for i in range(1000):
                assert await reader.recv(1000, expires=soon()) == b'%d' % i
            assert await writer == 1000

    run(main)


@unix_waits
@pytest.mark.parametrize('many', [False, True], ids=['send', 'sendmany'])
def test_datagram_waits_for_room_that_those_of_others_take(short_path, many):
    """Of which no event tells: the room for what we send is all there."""

    async def main():
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as reader, sock.udp('unix') as s:
            reader.bind(str(short_path / 'reader'))
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler:
                filler.setblocking(False)
                queued = 0
                with contextlib.suppress(BlockingIOError):
                    while True:
                        filler.sendto(b'x', reader.getsockname())
                        queued += 1
            to = sock.SockAddr('unix', reader.getsockname())
            thread = sock.newthread(s.sendmany, [(b'ours', to)]) if many else sock.newthread(s.send, b'ours', 4, to)
            assert thread.waiting
            for _ in range(queued):
                assert reader.recv(10) == b'x'
            with sock.deadline(soon()):
                assert await thread == (1 if many else 4)
            assert reader.recv(10) == b'ours'
            # There is room for the next ones at once.
            assert await s.send(b'more', host=to, expires=sock.clock()) == 4
            assert await s.sendmany([(b'yet more', to)], expires=sock.clock()) == 1
            assert (reader.recv(10), reader.recv(10)) == (b'more', b'yet more')

    run(main)


@unix_waits
def test_send_that_waits_expires():
    async def main():
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with theirs, sock.fromsocket(ours) as s:
            deadline = soon(0.05)
            with pytest.raises(sock.Timeout, match='send udp') as caught:
                while True:
                    await s.send(bytes(1000), expires=deadline)
            assert caught.value.sent == 0
            assert s.closed

    run(main)


def test_unix_datagrams_by_path(short_path):
    if sys.platform == 'win32':
        pytest.skip('unix datagrams are not there')

    async def main():
        with sock.udp('unix') as server, sock.udp('unix') as client, sock.udp('unix') as nameless:
            server.bind(short_path / 'server')
            client.bind(str(short_path / 'client'))
            await client.send(b'ping', host=str(short_path / 'server'))
            data, sender = await server.recvfrom(100, expires=soon())
            assert (data, sender.path) == (b'ping', str(short_path / 'client'))
            await server.send(b'pong', host=sender)
            assert await client.recv(100, expires=soon()) == b'pong'
            await nameless.connect(short_path / 'server')
            await nameless.send(b'from nobody')
            data, sender = await server.recvfrom(100, expires=soon())
            assert (data, sender.path) == (b'from nobody', '')
            await client.send(bytes(LONG_UNIX_DATAGRAM), host=server.local_addr)
            assert len(await server.recv(200_000, expires=soon())) == LONG_UNIX_DATAGRAM

    run(main)


@pytest.mark.skipif(not LINUX, reason='abstract names are of Linux')
def test_unix_datagrams_by_abstract_name():
    name = f'\0sock-test-{os.getpid()}-{threading.get_native_id()}'

    async def main():
        with sock.udp('unix') as server, sock.udp('unix') as client:
            server.bind(name)
            assert server.local_addr.path == name
            await client.send(b'ping', host=name)
            assert await server.recv(100, expires=soon()) == b'ping'

    run(main)


def test_stats_count_bytes_and_calls(udp, other):
    async def main():
        await udp.send(b'12345', host=address_of(other))
        await udp.sendmany([(b'123', address_of(other))] * 3)
        assert udp.stats == (0, 0, 14, 2)
        other.sendto(b'1234', tuple(udp.local_addr))
        await udp.recv(10, expires=soon())
        assert (udp.stats.bytes_received, udp.stats.recv_calls) == (4, 1)

    run(main)


def test_fromfd_and_fromsocket_take_datagram_sockets():
    taken = sock.fromsocket(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with taken:
        assert type(taken) is sock.UDP
        with sock.fromfd(taken.detach()) as again:
            assert type(again) is sock.UDP


def test_with_closes(udp):
    with udp:
        pass
    assert udp.closed
    assert repr(udp) == '<sock.UDP closed>'


def test_deadline_is_seen_by_an_operation_that_never_waits():
    """It only lets others run, one of whom takes long; and no loop here stops at a time, so none has to know it."""
    stranger, peer = (socket.socket(type=socket.SOCK_DGRAM) for _ in range(2))
    with sock.udp() as s, stranger, peer:
        s.bind('127.0.0.1')
        peer.bind(('127.0.0.1', 0))
        # More than one turn drops.
        for _ in range(200):
            stranger.sendto(b'foreign', tuple(s.local_addr))
        peer.sendto(b'wanted', tuple(s.local_addr))

        async def takes_long():
            time.sleep(0.1)

        async def receives():
            with pytest.raises(sock.Timeout):
                await s.recv(bytearray(10), 10, *peer.getsockname(), expires=sock.clock() + 0.02)

        receiving = sock.newthread(receives)
        sock.newthread(takes_long)
        assert sock.start()
        receiving.result()
