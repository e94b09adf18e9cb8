"""What a program may rely on against hostile peers, and against children of its own: see SECURITY.md."""

import contextlib
import os
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import sock
from held import open_descriptors, resident
from support import LINUX, run

needs_proc = pytest.mark.skipif(not LINUX, reason='/proc tells what the process holds: Linux')

#: What memory may grow by without being a sign of anything, in bytes.
SLACK = 2 << 20


def listener_and_client():
    listener = sock.tcp()
    listener.listen('127.0.0.1')
    return listener, socket.create_connection(tuple(listener.local_addr), 10)


def made_by_socket(stack):
    unix = [sock.udp('unix')] if hasattr(socket, 'AF_UNIX') else []
    return [stack.enter_context(s) for s in (sock.tcp(), sock.udp(), sock.tcp(None), sock.tcp('inet6'), *unix)]


def made_by_accept(stack):
    listener, client = listener_and_client()
    stack.enter_context(listener)
    stack.enter_context(client)

    async def main():
        return [listener, stack.enter_context((await listener.accept())[0])]

    return run(main())


def taken_over(stack):
    one, other = socket.socketpair()
    for each in (one, other):
        each.set_inheritable(True)
    return [stack.enter_context(s) for s in (sock.fromsocket(one), sock.fromfd(other.detach()))]


def made_by_connect(stack):
    """Of whichever family answers: another socket is put behind the first one's number."""
    listener, client = listener_and_client()
    stack.enter_context(client)
    conn = stack.enter_context(sock.tcp(None))
    with listener:

        async def main():
            await conn.connect('127.0.0.1', listener.local_addr.port)

        run(main())
    assert conn.family == 'inet'
    return [conn]


def made_by_a_poller(stack):
    stack.callback(lambda poller: None, sock.Poller())


def made_by_sendfile(stack):
    here, there = socket.socketpair()
    stack.enter_context(there)
    conn = stack.enter_context(sock.fromsocket(here))
    file = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    file.truncate(10_000_000)
    # It waits for room, with a descriptor of its own.
    sending = sock.newthread(conn.sendfile(file))
    sock.poll(0)
    assert not sending.done

    def end():
        sending.cancel()
        with contextlib.suppress(sock.Cancelled):
            sock.start(10)
            sending.result()

    stack.callback(end)


#: Of Windows too.
SOCKETS = [made_by_socket, made_by_accept, taken_over, made_by_connect]

WAYS = [*SOCKETS, made_by_a_poller, made_by_sendfile]


@pytest.mark.parametrize('way', SOCKETS)
def test_no_socket_is_one_that_programs_inherit(way):
    inheritable = os.get_handle_inheritable if sys.platform == 'win32' else os.get_inheritable
    with contextlib.ExitStack() as stack:
        made = way(stack)
        assert made
        assert [s for s in made if inheritable(s.fileno())] == []


@pytest.mark.skipif(sys.platform == 'win32', reason='sockets are no descriptors there')
@pytest.mark.parametrize('way', WAYS)
def test_no_program_that_is_started_gets_a_descriptor(way):
    before = open_descriptors().keys()
    with contextlib.ExitStack() as stack:
        way(stack)
        new = open_descriptors().keys() - before
        assert new
        assert [number for number in new if os.get_inheritable(number)] == []
        code = f'import os\nfor n in {sorted(new)}:\n try: os.fstat(n)\n except OSError: continue\n print(n)'
        # Its own descriptors take the lowest numbers, as long as it has none of ours.
        done = subprocess.run([sys.executable, '-c', code], close_fds=False, capture_output=True, text=True, check=True)
        assert done.stdout == ''


@needs_proc
def test_recvall_holds_no_more_than_its_maxlen(peer):
    conn, other = peer
    other.setblocking(False)
    most = 1 << 20

    async def flood():
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while not conn.closed:
                with contextlib.suppress(BlockingIOError):
                    other.send(bytes(1 << 20))
                await sock.sleep(0)

    async def main():
        flooding = sock.newthread(flood)
        before = resident()
        with pytest.raises(sock.MessageTooLong) as caught:
            await conn.recvall(most)
        assert resident() - before < 3 * most + SLACK
        assert len(caught.value.data) == most + 1
        conn.close()
        await flooding

    run(main())


@needs_proc
def test_a_number_of_bytes_to_receive_allocates_only_what_comes(peer):
    conn, other = peer
    other.sendall(b'x')

    async def main():
        before = resident()
        assert await conn.recv(1 << 40) == b'x'
        assert resident() - before < SLACK

    run(main())


@needs_proc
@pytest.mark.parametrize('most', [1 << 17, 1 << 20])
def test_few_bytes_received_with_a_large_number_are_kept_as_few(peer, most):
    conn, other = peer

    def mappings():
        return len(Path('/proc/self/maps').read_text().splitlines())

    async def main():
        before = resident(), mappings()
        kept = []
        for n in range(3000):
            other.sendall(b'%d' % n)
            kept.append(await conn.recv(most))
        assert resident() - before[0] < SLACK
        assert mappings() - before[1] < 100
        assert kept == [b'%d' % n for n in range(3000)]

    run(main())


@needs_proc
def test_a_flood_of_connections_that_are_reset_costs_nothing():
    async def main():
        with sock.tcp() as listener:
            listener.listen('127.0.0.1')
            to = tuple(listener.local_addr)

            async def flood(n):
                for _ in range(n):
                    with socket.socket() as client:
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
                        client.connect(to)
                    conn, _, _ = await listener.accept()
                    with conn, contextlib.suppress(sock.ConnectionReset):
                        await conn.recv(100)

            await flood(300)
            before, descriptors = resident(), open_descriptors().keys()
            await flood(3000)
            assert resident() - before < SLACK
            assert open_descriptors().keys() <= descriptors

    run(main())


@needs_proc
def test_connections_that_nobody_accepts_wait_in_the_system_alone():
    with sock.tcp() as listener, contextlib.ExitStack() as clients:
        listener.listen('127.0.0.1', backlog=8)
        mine, before = len(open_descriptors()), resident()
        for _ in range(200):
            client = clients.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(tuple(listener.local_addr))
        assert resident() - before < SLACK
        assert len(open_descriptors()) == mine + 200  # theirs


@needs_proc
def test_a_flood_of_datagrams_from_many_senders_costs_no_memory():
    async def main():
        with sock.udp() as server:
            server.bind('127.0.0.1')
            to = tuple(server.local_addr)

            async def flood(senders):
                for n in senders:
                    with socket.socket(type=socket.SOCK_DGRAM) as client:
                        client.bind((f'127.{n >> 8 & 255}.{n & 255}.1', 0))
                        for _ in range(5):
                            client.sendto(b'x', to)
                    for _ in range(5):
                        assert (await server.recvfrom(10))[0] == b'x'

            await flood(range(1, 600))
            before = resident()
            await flood(range(600, 6000))
            assert resident() - before < SLACK

    run(main())


@pytest.mark.skipif(not hasattr(socket, 'send_fds'), reason='this OS sends no descriptors')
def test_descriptors_that_a_peer_sends_along_are_not_taken():
    here, there = socket.socketpair()
    with there, sock.fromsocket(here) as conn:
        before = open_descriptors().keys()

        async def main():
            for _ in range(50):
                socket.send_fds(there, [b'x'], [0, 1, 2])
                assert await conn.recv(100) == b'x'

        run(main())
        assert open_descriptors().keys() == before


@pytest.mark.skipif(not hasattr(socket, 'AF_UNIX'), reason='this OS has no unix sockets')
def test_a_path_with_a_zero_byte_in_it_is_no_other_path(short_path):
    path = f'{short_path}/meant'

    async def main():
        with sock.tcp('unix') as listener, sock.tcp('unix') as conn:
            with pytest.raises(sock.InvalidArgument, match='zero byte'):
                listener.listen(f'{path}\0 not this one')
            assert not os.path.exists(path)
            listener.listen(path)
            with pytest.raises(sock.InvalidArgument, match='zero byte'):
                await conn.connect(f'{path}\0 not this one')

    run(main())
