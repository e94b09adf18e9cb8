"""bind, listen and accept."""

import contextlib
import os
import socket
import struct
import subprocess
import sys
import textwrap

import pytest
import sock
from support import LINUX, run


@pytest.fixture
def listener():
    with sock.tcp() as s:
        s.listen('127.0.0.1')
        yield s


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


def test_second_thread_in_accept_is_busy(listener):
    async def accepting():
        conn, _, _ = await listener.accept()
        conn.close()

    async def main():
        thread = sock.newthread(accepting)
        with pytest.raises(sock.Busy):
            await listener.accept()
        with connect(listener):
            await thread

    run(main)


def test_connection_reset_before_accept_does_not_disturb_it(listener):
    async def main():
        for _ in range(3):
            gone = connect(listener)
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
            gone.close()
        with connect(listener) as other:
            other.sendall(b'here')
            while True:
                conn, _, _ = await listener.accept(sock.clock() + 5)
                with conn, contextlib.suppress(sock.Error):
                    if await conn.recv(10) == b'here':
                        return

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


def test_cancelled_accept_loses_no_connection(listener):
    async def accepting():
        conn, _, _ = await listener.accept()
        conn.close()

    async def main():
        for _ in range(20):
            thread = sock.newthread(accepting)
            with connect(listener):
                thread.cancel()
                with contextlib.suppress(sock.Cancelled):
                    await thread
                    continue
                conn, _, _ = await listener.accept(sock.clock() + 5)
                conn.close()

    run(main)


def test_burst_of_clients_with_a_small_backlog_is_served_whole():
    async def serve(conn):
        with conn:
            await conn.send(await conn.recv(10))

    async def accepting(listener):
        while True:
            conn, _, _ = await listener.accept()
            sock.newthread(serve, conn)

    async def client(port):
        with sock.tcp() as s:
            await s.connect('127.0.0.1', port, expires=sock.clock() + 15)
            await s.send(b'x')
            assert await s.recv(10) == b'x'

    async def main():
        with sock.tcp() as listener:
            listener.listen('127.0.0.1', backlog=5)
            thread = sock.newthread(accepting, listener)
            for each in [sock.newthread(client, listener.local_addr.port) for _ in range(40)]:
                await each
            thread.cancel()
            with contextlib.suppress(sock.Cancelled):
                await thread

    run(main)


def test_out_of_descriptors_is_too_many_open_files_and_accepting_works_again():
    code = """
        import os, resource, socket, sock

        async def main():
            listener = sock.tcp()
            listener.listen('127.0.0.1')
            clients = [socket.create_connection(tuple(listener.local_addr)) for _ in range(3)]
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            used = max(map(int, os.listdir('/dev/fd'))) + 1
            resource.setrlimit(resource.RLIMIT_NOFILE, (used, hard))
            taken = []
            # Holes below the limit.
            try:
                while True:
                    taken.append(os.dup(0))
            except OSError:
                pass
            for _ in range(3):
                try:
                    await listener.accept()
                except sock.TooManyOpenFiles as error:
                    assert error.err == 'too_many_open_files', error
                    assert 'ulimit' in str(error), error
                else:
                    raise AssertionError('accepted without a descriptor')
                assert not listener.closed
            try:
                sock.tcp()
            except sock.TooManyOpenFiles:
                pass
            else:
                raise AssertionError('made without a descriptor')
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            # Nobody who was queued is lost.
            for _ in range(3):
                conn, _, _ = await listener.accept(sock.clock() + 5)
                conn.close()
            listener.close()
            for each in clients:
                each.close()

        sock.run(main)
    """
    if os.name == 'nt':
        pytest.skip('there is no limit of descriptors')
    result = subprocess.run(
        [sys.executable, '-W', 'error', '-c', textwrap.dedent(code)], capture_output=True, text=True, timeout=30
    )
    assert (result.returncode, result.stderr) == (0, '')


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


@pytest.mark.parametrize('backlog', [0, 1, 100, 2**31 - 1, None])
def test_listen_with_a_backlog(backlog):
    with sock.tcp() as s:
        s.listen('127.0.0.1', backlog=backlog)
        with connect(s):
            pass


def test_port_in_use_is_address_already_in_use(listener):
    with sock.tcp() as s:
        with pytest.raises(sock.AddressAlreadyInUse, match=r'^address_already_in_use: bind tcp 127\.0\.0\.1:'):
            s.listen('127.0.0.1', listener.local_addr.port)
        # It may try another one.
        s.listen('127.0.0.1')


def test_address_of_another_host_is_address_not_available():
    with sock.tcp() as s, pytest.raises(sock.AddressNotAvailable):
        s.bind('192.0.2.1')


@pytest.mark.skipif(os.name == 'nt' or os.geteuid() == 0, reason='needs a user without rights')
def test_privileged_port_is_access_denied():
    with sock.tcp() as s, pytest.raises(sock.AccessDenied, match='ports below 1024'):
        s.bind('127.0.0.1', 1)


def test_listen_on_a_port_in_time_wait(listener):
    """After a restart: the server's side ended the connection, whose port lingers."""
    port = listener.local_addr.port

    async def main():
        with connect(listener) as other:
            conn, _, _ = await listener.accept()
            conn.close()
            assert other.recv(1) == b''
        listener.close()
        with sock.tcp() as again:
            again.listen('127.0.0.1', port)

    run(main)


def dual_stack():
    with contextlib.suppress(OSError), socket.create_server(('::', 0), family=socket.AF_INET6, dualstack_ipv6=True):
        return True
    return False


@pytest.mark.skipif(not dual_stack(), reason='needs IPv6')
@pytest.mark.parametrize('only', [True, False])
def test_inet6_listener_takes_ipv4_only_when_asked_to(only):
    async def main():
        with sock.tcp('inet6') as s:
            assert s.getopt('ipv6_v6only') is True
            s.setopt('ipv6_v6only', only)
            s.listen('*')
            port = s.local_addr.port
            if only:
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(('127.0.0.1', port), 10)
                return
            with socket.create_connection(('127.0.0.1', port), 10):
                conn, remote, local = await s.accept()
                conn.close()
                assert str(remote.host) == '::ffff:127.0.0.1' == str(local.host)

    run(main)


def test_listener_of_a_taken_over_stdlib_socket():
    async def main():
        with sock.fromsocket(socket.create_server(('127.0.0.1', 0))) as listener, connect(listener) as other:
            conn, remote, _ = await listener.accept()
            with conn:
                assert tuple(remote) == other.getsockname()

    run(main)
