"""Sockets of either family: which address they connect to, and when (RFC 8305)."""

import socket
import threading

import pytest
import sock
from conftest import PATIENCE, silent
from sock import _eyeballs
from support import run


def soon(seconds=10):
    return sock.clock() + seconds


@pytest.fixture
def servers():
    """One for each family, at the same port."""
    with (
        socket.create_server(('127.0.0.1', 0)) as four,
        socket.create_server(('::1', four.getsockname()[1]), family=socket.AF_INET6) as six,
    ):
        for each in (four, six):
            each.settimeout(PATIENCE)
        yield four, six


def both(port):
    return [sock.addr('::1', port, family='inet6').addr, sock.addr('127.0.0.1', port).addr]


def info(*addresses):
    return sock.AddrInfo(addresses, 'tcp', None)


def test_families_take_turns():
    a, b, c = (sock.addr('127.0.0.1', port).addr for port in (1, 2, 3))
    x, y = (sock.addr('::1', port, family='inet6').addr for port in (1, 2))
    assert _eyeballs.in_turn([x, y, a, b, c]) == [x, a, y, b, c]
    assert _eyeballs.in_turn([a, b, x]) == [a, x, b]
    assert _eyeballs.in_turn([]) == []


@pytest.mark.parametrize('family', ['inet', 'inet6'])
def test_becomes_the_family_of_its_connection(servers, family):
    server = servers[family == 'inet6']
    host, port = server.getsockname()[:2]

    async def main():
        with sock.tcp(None) as s:
            assert s.family is None
            s.setopt('so_keepalive', True)
            await s.connect(host, port, expires=soon())
            assert s.family == family
            assert s.remote_addr.host == host
            assert s.getopt('so_keepalive')
            assert s.getopt('tcp_nodelay')
            other, _ = server.accept()
            with other:
                await s.send(b'hello')
                assert other.recv(10) == b'hello'
                other.sendall(b'back')
                assert await s.recv(10, expires=soon()) == b'back'

    run(main)


def test_first_address_wins_where_all_answer(servers):
    port = servers[0].getsockname()[1]

    async def main():
        for addresses in (both(port), both(port)[::-1]):
            with sock.tcp(None) as s:
                await s.connect(info(*addresses), expires=soon())
                assert s.remote_addr == addresses[0]

    run(main)


def test_refused_address_is_followed_by_the_next_at_once(servers, dead_port):
    port = servers[0].getsockname()[1]
    dead = sock.addr('::1', dead_port, family='inet6').addr

    async def main():
        took = []
        for _ in range(3):
            with sock.tcp(None) as s:
                begin = sock.clock()
                await s.connect(info(dead, both(port)[1]), expires=soon())
                took.append(sock.clock() - begin)
                assert s.family == 'inet'
        assert min(took) < 0.2, 'the best of several, since machines are busy'

    run(main)


def test_silent_address_is_followed_by_the_next_after_250_ms(servers, black_hole):
    port = servers[0].getsockname()[1]

    async def main():
        with sock.tcp(None) as s:
            begin = sock.clock()
            await s.connect(info(black_hole, both(port)[0]), expires=soon())
            assert 0.25 <= sock.clock() - begin < 2
            assert s.family == 'inet6'

    run(main)


def both_by_name(names, port):
    """Connects to a name that has addresses of both families: which connection, and how many seconds it took."""
    names['both.example'] = ['::1', '127.0.0.1']

    async def main():
        begin = sock.clock()
        s = sock.tcp(None)
        await s.connect('both.example', port, expires=soon())
        return s, sock.clock() - begin

    return run(main)


def test_name_of_both_families_is_connected_to_by_ipv6(servers, names):
    four, six = servers
    conn, _ = both_by_name(names, six.getsockname()[1])
    with conn:
        assert (conn.family, conn.remote_addr.host) == ('inet6', '::1')
        accepted, client = six.accept()
        accepted.close()
        assert client[1] == conn.local_addr.port
        # Nobody has tried the other one.
        four.settimeout(0)
        with pytest.raises(BlockingIOError):
            four.accept()


def test_name_whose_ipv6_is_silent_is_connected_to_by_ipv4(names):
    with socket.create_server(('127.0.0.1', 0)) as four, silent('::1', four.getsockname()[1]) as port:
        four.settimeout(PATIENCE)
        conn, took = both_by_name(names, port)
        with conn:
            assert (conn.family, conn.remote_addr.host) == ('inet', '127.0.0.1')
            assert 0.25 <= took < PATIENCE / 2
            accepted, client = four.accept()
            accepted.close()
            assert client == tuple(conn.local_addr)


def test_all_addresses_dead(dead_port):
    async def main():
        with sock.tcp(None) as s:
            with pytest.raises(sock.ConnectionRefused) as caught:
                await s.connect(info(*both(dead_port)), expires=soon())
            for address in both(dead_port):
                assert f'{address} (connection_refused)' in str(caught.value)
            assert s.family is None
            assert not s.closed

    run(main)


def test_expires_names_the_addresses_and_closes(black_hole):
    async def main():
        with sock.tcp(None) as s:
            with pytest.raises(sock.Timeout, match=f'connect tcp.*{black_hole}'):
                await s.connect(black_hole, expires=soon(0.05))
            assert s.closed

    run(main)


def test_closed_meanwhile(black_hole):
    async def main():
        s = sock.tcp(None)
        connecting = sock.newthread(s.connect, black_hole)
        s.close()
        with pytest.raises(sock.Closed):
            await connecting

    run(main)


def test_cancelled_meanwhile_stays_open_and_may_try_again(servers, black_hole):
    host, port = servers[0].getsockname()

    async def main():
        with sock.tcp(None) as s:
            connecting = sock.newthread(s.connect, black_hole)
            connecting.cancel()
            with pytest.raises(sock.Cancelled):
                await connecting
            await s.connect(host, port, expires=soon())
            assert s.family == 'inet'

    run(main)


def test_cancelled_while_an_address_fails_begins_with_no_other():
    """Who begins with the next address is woken by the failure, and cancelled only then."""
    begun, refused = [], sock.Event()

    class Candidate:
        def __init__(self, family):
            begun.append(family)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        async def _connect(self, address):
            await refused.wait()
            raise sock.ConnectionRefused(f'connect {address}')

    async def main():
        with sock.tcp(None) as s:
            connecting = sock.newthread(_eyeballs.Race(s, both(9), Candidate).run(None))
            refused.set()
            connecting.cancel()
            with pytest.raises(sock.Cancelled):
                await connecting
            # All that was ready has run.
            await sock.sleep(0.01)
            assert begun == ['inet6']

    run(main)


def test_connect_twice_is_busy_and_then_already_connected(servers, black_hole):
    host, port = servers[0].getsockname()

    async def main():
        with sock.tcp(None) as s:
            connecting = sock.newthread(s.connect, black_hole)
            with pytest.raises(sock.Busy):
                await s.connect(host, port)
            connecting.cancel()
            with pytest.raises(sock.Cancelled):
                await connecting
            await s.connect(host, port)
            with pytest.raises(sock.AlreadyConnected):
                await s.connect(host, port)

    run(main)


def test_listens_to_both_families():
    async def main():
        with sock.tcp(None) as listener:
            listener.listen()
            port = listener.local_addr.port
            for host in ('127.0.0.1', '::1'):
                with socket.create_connection((host, port), PATIENCE):
                    conn, remote, _ = await listener.accept(soon())
                    conn.close()
                    assert remote.host.endswith(host)

    run(main)


def test_bound_to_an_address_of_one_family():
    with sock.tcp(None) as s:
        s.bind('127.0.0.1')
        assert s.family == 'inet'
        assert s.local_addr.host == '127.0.0.1'
    with sock.tcp(None) as s:
        s.bind('::1')
        assert s.family == 'inet6'


def test_over_several_os_threads(servers):
    port = servers[0].getsockname()[1]
    stop = threading.Event()

    def accept(server):
        while not stop.is_set():
            try:
                server.accept()[0].close()
            except TimeoutError:
                return

    accepting = [threading.Thread(target=accept, args=(server,)) for server in servers]
    for each in accepting:
        each.start()

    async def connect():
        for _ in range(20):
            with sock.tcp(None) as s:
                await s.connect(info(*both(port)), expires=soon())
                assert s.family in ('inet', 'inet6')

    async def main():
        async with sock.group() as g:
            for _ in range(8):
                g.newthread(connect)

    sock.run(main, threads=4)
    stop.set()
    for server in servers:
        socket.create_connection(server.getsockname()[:2]).close()
    for each in accepting:
        each.join()
