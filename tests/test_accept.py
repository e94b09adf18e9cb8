"""bind, listen and accept."""

import contextlib
import select
import socket
import time

import pytest
import sock
from support import LINUX, run


def connect(listener):
    return socket.create_connection(tuple(listener.local_addr), 10)


def test_accept_gives_the_connection_and_both_addresses(listener):
    async def main():
        with connect(listener) as other:
            conn, remote, local = await listener.accept()
            with conn:
                assert isinstance(conn, sock.TCP)
                assert tuple(remote) == other.getsockname() == tuple(conn.remote_addr)
                assert tuple(local) == other.getpeername() == tuple(conn.local_addr)
                assert not conn.closed
                other.sendall(b'x')
                assert await conn.recv(10) == b'x'

    run(main)


def test_addresses_of_one_accept_are_not_changed_by_the_next(listener):
    async def main():
        with connect(listener) as a, connect(listener) as b:
            first, first_remote, _ = await listener.accept()
            second, second_remote, _ = await listener.accept()
            with first, second:
                assert {tuple(first_remote), tuple(second_remote)} == {a.getsockname(), b.getsockname()}

    run(main)


def test_accept_on_all_interfaces_tells_which_address_was_called():
    async def main():
        with sock.tcp() as listener:
            listener.listen()
            assert listener.local_addr.host == '0.0.0.0'
            host = '127.0.0.3' if LINUX else '127.0.0.1'
            with socket.create_connection((host, listener.local_addr.port), 10):
                conn, _, local = await listener.accept()
                with conn:
                    assert local.host == host == conn.local_addr.host

    run(main)


def test_accept_waits_for_a_connection_that_comes_later(listener):
    async def accepting():
        conn, _, _ = await listener.accept()
        conn.close()

    async def main():
        thread = sock.newthread(accepting)
        await sock.sleep(0.005)
        assert not thread.done
        with connect(listener):
            await thread

    run(main)


def test_accept_expires_and_closes_the_listener(listener):
    async def main():
        with pytest.raises(sock.Timeout, match=r'^timeout: accept tcp 127\.0\.0\.1:'):
            await listener.accept(sock.clock() + 0.02)
        assert listener.closed

    run(main)


def test_accept_with_expires_in_the_past_takes_who_waits(listener):
    async def main():
        with connect(listener):
            conn, _, _ = await listener.accept(expires=0)
            conn.close()

    run(main)


def test_readable_tells_of_a_connection(listener):
    async def waiting():
        await listener.readable()

    async def main():
        thread = sock.newthread(waiting)
        await sock.sleep(0.005)
        assert not thread.done
        with connect(listener):
            await thread
            conn, _, _ = await listener.accept(0)
            conn.close()

    run(main)


# bind and listen


def test_bind_to_any_port():
    with sock.tcp() as s:
        s.bind()
        assert s.local_addr.host == '0.0.0.0'
        assert s.local_addr.port > 0


def test_listen_on_a_bound_socket_ignores_host_and_port(listener):
    with sock.tcp() as s:
        s.bind('127.0.0.1')
        bound = s.local_addr
        s.listen('no such host', listener.local_addr.port)
        assert s.local_addr == bound


def test_listen_again_changes_the_backlog(listener):
    listener.listen(backlog=3)
    with connect(listener):
        pass


def test_bind_to_a_given_host_and_port():
    with sock.tcp() as s, sock.tcp() as other:
        s.bind('127.0.0.2' if LINUX else '127.0.0.1')
        place = s.local_addr
        assert place.host == ('127.0.0.2' if LINUX else '127.0.0.1')
        s.close()
        other.bind(place.host, place.port)
        assert other.local_addr == place


@pytest.mark.skipif(not LINUX, reason='a full backlog drops new connections on Linux')
def test_backlog_is_how_many_connections_wait():
    """listen(2) on Linux: one more than it says, and no further one."""

    def connected(backlog):
        with sock.tcp() as s, contextlib.ExitStack() as stack:
            s.listen('127.0.0.1', backlog=backlog)
            clients = [stack.enter_context(socket.socket()) for _ in range(8)]
            for client in clients:
                client.setblocking(False)
                client.connect_ex(tuple(s.local_addr))
            time.sleep(0.05)
            return len(select.select([], clients, [], 0)[1])

    assert [connected(backlog) for backlog in (0, 1, 3, None)] == [1, 2, 4, 8]


@pytest.mark.parametrize('backlog', [0, 1, 100, 2**31 - 1, None])
def test_listen_with_a_backlog(backlog):
    with sock.tcp() as s:
        s.listen('127.0.0.1', backlog=backlog)
        with connect(s):
            pass


def test_address_of_another_host_is_address_not_available():
    with sock.tcp() as s, pytest.raises(sock.AddressNotAvailable):
        s.bind('192.0.2.1')


def test_listener_of_a_taken_over_stdlib_socket():
    async def main():
        with sock.fromsocket(socket.create_server(('127.0.0.1', 0))) as listener, connect(listener) as other:
            conn, remote, _ = await listener.accept()
            with conn:
                assert tuple(remote) == other.getsockname()

    run(main)
