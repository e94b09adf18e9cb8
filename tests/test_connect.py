"""connect: addresses, names with several of them, refusals, black holes, deadlines."""

import contextlib
import os
import socket
import threading

import pytest
import sock
from sock import _addrinfo
from support import LINUX, run


@pytest.fixture
def listener():
    with socket.create_server(('127.0.0.1', 0)) as s:
        s.settimeout(10)
        yield s


@pytest.fixture
def dead_port():
    """A port of 127.0.0.1 that is taken and refuses connections."""
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        yield s.getsockname()[1]


@pytest.fixture
def black_hole():
    """An address that answers nothing: a listener with a full backlog."""
    if not LINUX:
        pytest.skip('a full backlog drops new connections on Linux')
    with contextlib.ExitStack() as stack:
        s = stack.enter_context(socket.socket())
        s.bind(('127.0.0.1', 0))
        s.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(s.getsockname())
        yield s.getsockname()[1]


@pytest.fixture
def names(monkeypatch):
    """What host names stand for, instead of what the system says."""
    table = {}

    def getaddrinfo(host, port, family=0, type=0, proto=0, flags=0):
        if host not in table:
            raise socket.gaierror(socket.EAI_NONAME, 'Name or service not known')
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, '', (address, port)) for address in table[host]]

    monkeypatch.setattr(socket, 'getaddrinfo', getaddrinfo)
    return table


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


def test_connect_refused(dead_port):
    async def main():
        with sock.tcp() as s:
            with pytest.raises(
                sock.ConnectionRefused, match=rf'^connection_refused: connect tcp 127.0.0.1:{dead_port}: '
            ):
                await s.connect('127.0.0.1', dead_port)
            assert s.remote_addr is None
            # The socket may try again, elsewhere.
            with socket.create_server(('127.0.0.1', 0)) as live:
                await s.connect(*live.getsockname())

    run(main)


def test_connect_to_a_black_hole_expires(black_hole):
    async def main():
        s = sock.tcp()
        begin = sock.clock()
        with pytest.raises(sock.Timeout, match=rf'^timeout: connect tcp 127.0.0.1:{black_hole}: not done after 0.'):
            await s.connect('127.0.0.1', black_hole, expires=begin + 0.05)
        assert 0.05 <= sock.clock() - begin < 1
        assert s.closed

    run(main)


def test_connect_while_connecting_is_busy(black_hole):
    async def connecting(s):
        await s.connect('127.0.0.1', black_hole)

    async def main():
        with sock.tcp() as s:
            thread = sock.newthread(connecting, s)
            with pytest.raises(sock.Busy):
                await s.connect('127.0.0.1', black_hole)
            thread.cancel()
            with pytest.raises(sock.Cancelled):
                await thread

    run(main)


def test_connect_twice_is_already_connected(listener):
    async def main():
        with sock.tcp() as s:
            await s.connect(*listener.getsockname())
            with pytest.raises(sock.AlreadyConnected):
                await s.connect(*listener.getsockname())
            # The connection is untouched.
            other, _ = listener.accept()
            with other:
                await s.send(b'x')
                assert other.recv(1) == b'x'

    run(main)


@pytest.mark.skipif(not LINUX, reason='a connection to oneself')
def test_connect_to_oneself_is_a_connection():
    async def main():
        with sock.tcp() as s:
            s.bind('127.0.0.1')
            await s.connect(s.local_addr, expires=sock.clock() + 5)
            assert s.local_addr == s.remote_addr
            await s.send(b'me')
            assert await s.recv(10) == b'me'

    run(main)


def test_name_with_several_addresses_is_tried_in_turn(names, listener):
    host, port = listener.getsockname()
    names['several'] = ['127.0.0.9', '127.0.0.8', host]

    async def main():
        with sock.tcp() as s:
            await s.connect('several', port, expires=sock.clock() + 5)
            assert s.remote_addr.host == host
            other, _ = listener.accept()
            with other:
                await s.send(b'x')
                assert other.recv(1) == b'x'

    run(main)


def test_all_addresses_dead_gives_the_last_error_and_all_that_were_tried(names, dead_port):
    names['dead'] = ['127.0.0.1', '127.0.0.2']

    async def main():
        with sock.tcp() as s:
            with pytest.raises(sock.ConnectionRefused) as caught:
                await s.connect('dead', dead_port)
            assert caught.value.errno is not None
            text = str(caught.value)
            assert text.startswith('connection_refused: connect tcp 127.0.0.2:')
            assert f'tried 127.0.0.1:{dead_port} (connection_refused), 127.0.0.2:{dead_port} (' in text

    run(main)


def test_unknown_name_is_host_not_found(names):
    async def main():
        with sock.tcp() as s:
            with pytest.raises(sock.HostNotFound) as caught:
                await s.connect('nobody', 80)
            assert isinstance(caught.value, socket.gaierror)
            assert not s.closed

    run(main)


def test_name_server_that_never_answers_expires_and_others_run(monkeypatch):
    release = threading.Event()

    def getaddrinfo(*args):
        release.wait(10)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, '', ('127.0.0.1', 1))]

    monkeypatch.setattr(socket, 'getaddrinfo', getaddrinfo)
    turns = []

    async def others():
        while True:
            turns.append(1)
            await sock.sleep(0.001)

    async def main():
        ticking = sock.newthread(others)
        s = sock.tcp()
        with pytest.raises(sock.Timeout, match="look up 'slow'"):
            await s.connect('slow', 80, expires=sock.clock() + 0.05)
        ticking.cancel()
        assert s.closed

    try:
        run(main)
        assert len(turns) > 5
    finally:
        release.set()


def test_numeric_address_never_asks_the_system(monkeypatch, listener):
    monkeypatch.setattr(socket, 'getaddrinfo', None)

    async def main():
        with sock.tcp() as s:
            await s.connect(*listener.getsockname())

    run(main)


def test_numeric_connect_uses_no_worker_while_look_ups_are_stuck(monkeypatch, listener):
    release = threading.Event()
    monkeypatch.setattr(socket, 'getaddrinfo', lambda *args: release.wait(10) and [])

    async def stuck(i):
        with pytest.raises(sock.Error):
            await sock.resolve(f'slow-{i}')

    async def main():
        threads = [sock.newthread(stuck, i) for i in range(3 * _addrinfo.resolvers.limit)]
        with sock.tcp() as s:
            await s.connect(*listener.getsockname(), expires=sock.clock() + 5)
        release.set()
        for thread in threads:
            await thread

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


@pytest.mark.skipif(not hasattr(socket, 'AF_UNIX'), reason='needs unix sockets')
def test_unix_streams_by_path(tmp_path):
    path = str(tmp_path / 'socket')

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


@pytest.mark.skipif(not LINUX, reason='abstract names are Linux')
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


@pytest.mark.skipif(not hasattr(socket, 'AF_UNIX'), reason='needs unix sockets')
def test_unix_path_that_is_not_there_is_an_error_with_the_path(tmp_path):
    async def main():
        with sock.tcp('unix') as s:
            with pytest.raises(sock.Error, match='nothing-here') as caught:
                await s.connect(str(tmp_path / 'nothing-here'))
            assert caught.value.err == 'other'
            with pytest.raises(sock.InvalidArgument, match='shorter'):
                await s.connect('x' * 300)

    run(main)


def test_cancelled_connect_leaves_no_descriptor(black_hole):
    async def connecting():
        with sock.tcp() as s:
            await s.connect('127.0.0.1', black_hole)

    async def main():
        thread = sock.newthread(connecting)
        thread.cancel()
        with pytest.raises(sock.Cancelled):
            await thread

    run(main)
