"""connect: addresses, names with several of them, refusals, black holes, deadlines."""

import contextlib
import os
import socket

import pytest
import sock
from conftest import PATIENCE
from support import LINUX, run


@pytest.fixture
def listener():
    with socket.create_server(('127.0.0.1', 0)) as s:
        s.settimeout(10)
        yield s


def test_connect_to_a_numeric_address(listener):
    port = listener.getsockname()[1]

    async def main():
        with sock.tcp() as s:
            await s.connect('127.0.0.1', port)
            other, address = listener.accept()
            with other:
                assert tuple(s.local_addr) == address
                assert tuple(s.remote_addr) == ('127.0.0.1', port)
                await s.send(b'x')
                assert other.recv(10) == b'x'

    run(main)


@pytest.mark.parametrize('host', [False, 'localhost'])
def test_connect_to_loopback_by_name(listener, host):
    async def main():
        with sock.tcp() as s:
            await s.connect(host, listener.getsockname()[1])
            assert s.remote_addr.host == '127.0.0.1'

    run(main)


def test_connect_takes_a_sockaddr_and_an_addrinfo(listener):
    async def main():
        found = sock.addr(*listener.getsockname())
        for host in (found, found.addr):
            with sock.tcp() as s:
                await s.connect(host)
                assert s.remote_addr == found.addr

    run(main)


def test_connect_after_bind_uses_that_address(listener):
    async def main():
        with sock.tcp() as s:
            s.bind('127.0.0.2' if LINUX else '127.0.0.1')
            bound = s.local_addr
            await s.connect(*listener.getsockname())
            assert s.local_addr == bound
            listener.accept()[0].close()

    run(main)


def test_unknown_name_is_host_not_found(names):
    async def main():
        with sock.tcp() as s:
            with pytest.raises(sock.HostNotFound) as caught:
                await s.connect('nobody', 80)
            assert isinstance(caught.value, socket.gaierror)
            assert not s.closed

    run(main)


def test_numeric_address_never_asks_the_system(monkeypatch, listener):
    monkeypatch.setattr(socket, 'getaddrinfo', None)

    async def main():
        with sock.tcp() as s:
            await s.connect(*listener.getsockname())

    run(main)


def test_ipv6():
    if not socket.has_ipv6:
        pytest.skip('needs IPv6')
    try:
        live = socket.create_server(('::1', 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip('needs an IPv6 loopback')

    async def main():
        with sock.tcp('inet6') as s:
            await s.connect(False, live.getsockname()[1])
            assert s.remote_addr == sock.SockAddr('inet6', '::1', live.getsockname()[1])
            assert str(s.remote_addr) == f'[::1]:{live.getsockname()[1]}'

    with live:
        run(main)


def test_address_of_another_family_is_a_value_error():
    async def main():
        with sock.tcp() as s:
            with pytest.raises(ValueError, match='is an inet6 address, and the socket is of family inet'):
                await s.connect(sock.SockAddr('inet6', '::1', 80))
            with pytest.raises(sock.HostNotFound, match='this is an inet6 address, and inet was asked for'):
                await s.connect('::1', 80)

    run(main)


@pytest.mark.skipif(not hasattr(socket, 'AF_UNIX'), reason='this OS has no unix sockets')
def test_unix_streams_by_path(short_path):
    path = str(short_path / 'socket')

    async def main():
        with sock.tcp('unix') as listener, sock.tcp('unix') as client:
            listener.listen(path)
            assert str(listener.local_addr) == path
            await client.connect(path)
            conn, remote, local = await listener.accept()
            with conn:
                assert (local.path, local.host) == (path, None)
                assert remote.family == 'unix'
                assert conn.family == 'unix'
                assert client.remote_addr.path == path
                await client.send(b'x')
                assert await conn.recv(10) == b'x'

    run(main)


@pytest.mark.skipif(not LINUX, reason='abstract names are of Linux')
def test_unix_streams_by_abstract_name():
    name = f'\0sock-test-{os.getpid()}'

    async def main():
        with sock.tcp('unix') as listener, sock.tcp('unix') as client:
            listener.listen(name)
            assert listener.local_addr.path == name
            await client.connect(name)
            conn, _, _ = await listener.accept()
            conn.close()

    run(main)


@pytest.fixture
def full(short_path):
    """A stdlib listener of unix streams whose backlog is full: nobody tells a client when it has room again."""
    if not LINUX:
        pytest.skip('unix sockets wait for room in the backlog on Linux')
    with contextlib.ExitStack() as stack:
        s = stack.enter_context(socket.socket(socket.AF_UNIX))
        s.settimeout(PATIENCE)
        s.bind(str(short_path / 'socket'))
        s.listen(0)
        first = stack.enter_context(socket.socket(socket.AF_UNIX))
        first.connect(s.getsockname())
        yield s


def test_unix_clients_wait_for_room_in_the_backlog(full):
    async def ask():
        with sock.tcp('unix') as s:
            await s.connect(full.getsockname(), expires=sock.clock() + PATIENCE)
            await s.send(b'hello', expires=sock.clock() + PATIENCE)
            return await s.recv(10)

    async def main():
        clients = [sock.newthread(ask) for _ in range(5)]
        # All of them have tried, and wait.
        assert {thread.waiting for thread in clients} == {f'connect tcp {full.getsockname()}'}
        full.accept()[0].close()
        for _ in clients:
            conn, _ = await sock.offload(full.accept)
            with conn:
                conn.settimeout(PATIENCE)
                # Nothing but that they are connected tells them that they may send.
                assert await sock.offload(conn.recv, 10) == b'hello'
                conn.sendall(b'welcome')
        assert [await thread for thread in clients] == [b'welcome'] * 5

    run(main)


def test_wait_for_room_in_the_backlog_expires(full):
    async def main():
        with sock.tcp('unix') as s:
            begin = sock.clock()
            with pytest.raises(sock.Timeout, match='connect tcp /'):
                await s.connect(full.getsockname(), expires=begin + 0.1)
            assert sock.clock() - begin >= 0.1
            assert s.closed
        with sock.tcp('unix') as s, pytest.raises(sock.Timeout):
            await s.connect(full.getsockname(), expires=sock.clock())

    run(main)


def test_wait_for_room_in_the_backlog_can_be_cancelled_and_begun_again(full):
    async def main():
        with sock.tcp('unix') as s:
            thread = sock.newthread(s.connect, full.getsockname())
            thread.cancel()
            with pytest.raises(sock.Cancelled):
                await thread
            full.accept()[0].close()
            await s.connect(full.getsockname(), expires=sock.clock() + PATIENCE)
            assert s.remote_addr.path == full.getsockname()

    run(main)


@pytest.mark.skipif(not hasattr(socket, 'AF_UNIX'), reason='this OS has no unix sockets')
def test_unix_path_that_is_not_there_is_an_error_with_the_path(short_path):
    async def main():
        with sock.tcp('unix') as s:
            with pytest.raises(sock.Error, match='nothing-here') as caught:
                await s.connect(str(short_path / 'nothing-here'))
            assert caught.value.err == 'other'
            with pytest.raises(sock.InvalidArgument, match='shorter'):
                await s.connect('x' * 300)

    run(main)


def test_os_socket_that_takes_another_ones_place_has_its_options_and_its_address(listener):
    """Where an OS socket whose connect failed connects no more."""

    async def main():
        for family, host in [('inet', '127.0.0.1'), ('inet6', '::1')]:
            with sock.tcp(family) as s:
                s.setopt('so_keepalive', True)
                s.setopt('tcp_nodelay', False)
                s.setopt('so_rcvbuf', 30_000)
                if family == 'inet6':
                    s.setopt('ipv6_v6only', False)
                options = ('so_keepalive', 'tcp_nodelay', 'so_rcvbuf', 'ipv6_v6only')[: 3 + (family == 'inet6')]
                s.bind(host)
                before = s.local_addr, [s.getopt(name) for name in options]
                s._renew(s._options())
                assert (s.local_addr, [s.getopt(name) for name in options]) == before
        with sock.tcp('inet6') as s:
            s._renew(s._options())
            assert s.getopt('ipv6_v6only')
            assert s.local_addr is None
        with sock.tcp() as s:
            s._renew(s._options())
            await s.connect(*listener.getsockname())
            assert s.getopt('tcp_nodelay')
            # What is set of a connection is its own.
            s.setopt('so_keepalive', True)
            assert s._options() == {}

    run(main)


def test_connect_that_was_cancelled_leaves_a_socket_that_connects():
    async def main():
        with socket.create_server(('127.0.0.1', 0), backlog=0) as full, contextlib.ExitStack() as stack:
            queued = []
            # A full backlog answers nobody: connecting goes on and on.
            with sock.tcp() as s, socket.create_server(('127.0.0.1', 0)) as free:
                for _ in range(4):
                    one = stack.enter_context(socket.socket())
                    one.setblocking(False)
                    one.connect_ex(full.getsockname())
                    queued.append(one)
                connecting = sock.newthread(s.connect, *full.getsockname())
                assert connecting.waiting.startswith('connect tcp')
                s.setopt('so_keepalive', True)
                connecting.cancel()
                with pytest.raises(sock.Cancelled):
                    await connecting
                assert not s.closed
                assert s.remote_addr is None
                await s.connect(*free.getsockname(), expires=sock.clock() + PATIENCE)
                accepted, _ = free.accept()
                with accepted:
                    accepted.sendall(b'hello')
                    assert await s.recv(10, expires=sock.clock() + PATIENCE) == b'hello'
                    thread = sock.newthread(s.recv, 10)
                    assert thread.waiting.startswith('recv tcp')
                    accepted.sendall(b'again')
                    assert await thread == b'again'
                assert s.getopt('so_keepalive')

    run(main)
