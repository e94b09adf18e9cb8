"""Scenarios 13 to 21: connecting and accepting."""

import contextlib
import os
import shutil
import socket
import sys
import threading
import time

import pytest
import sock
from conftest import PATIENCE
from support import LINUX, SLOWER, descriptors, python, reset_on_close

from .conftest import own_program
from .faults import accept_suffers, command, namespace, no_descriptors, sysctl, wire


def soon(seconds=PATIENCE):
    return sock.clock() + seconds


def live():
    """A listener of the stdlib."""
    s = socket.create_server(('127.0.0.1', 0))
    s.settimeout(PATIENCE)
    return s


def connect(listener):
    return socket.create_connection(tuple(listener.local_addr), PATIENCE)


# 13


def test_s13_connect_refused(run, dead_port):
    """Scenario 13: connect: refused -> each its `err`; no descriptor left."""

    async def main():
        with sock.tcp() as s, live() as there:
            with pytest.raises(
                sock.ConnectionRefused, match=rf'^connection_refused: connect tcp 127.0.0.1:{dead_port}: '
            ):
                await s.connect('127.0.0.1', dead_port)
            assert s.remote_addr is None
            # The socket may try again, elsewhere.
            await s.connect(*there.getsockname())

    run(main)


@pytest.mark.parametrize(
    ('route', 'host', 'error', 'err'),
    [
        (None, '192.0.2.1', sock.NetworkUnreachable, 'network_unreachable'),
        ('unreachable', '192.0.2.1', sock.HostUnreachable, 'host_unreachable'),
        ('prohibit', '192.0.2.1', sock.AccessDenied, 'access_denied'),
        # Known only when nobody has answered who has that address: while connect waits.
        ('silence', '10.98.0.2', sock.HostUnreachable, 'host_unreachable'),
    ],
)
def test_s13_connect_unreachable(run, route, host, error, err):
    """Scenario 13: connect: unreachable -> each its `err`; no descriptor left."""

    async def main():
        with sock.tcp() as s:
            with pytest.raises(error, match=rf'^{err}: connect tcp {host}:80: '):
                await s.connect(host, 80, expires=soon())
            assert not s.closed

    with namespace():
        if route == 'silence':
            command('ip', 'link', 'add', 'here', 'type', 'veth', 'peer', 'name', 'nobody')
            command('ip', 'addr', 'add', '10.98.0.1/24', 'dev', 'here')
            for name in ('here', 'nobody'):
                command('ip', 'link', 'set', name, 'up')
            sysctl('ipv4/neigh/here/retrans_time_ms', 10)
        elif route is not None:
            command('ip', 'route', 'add', route, '192.0.2.0/24')
        run(main)


def accept_and_reset(there):
    conn, _ = there.accept()
    reset_on_close(conn)
    conn.close()


def test_s13_connect_reset_is_told_by_connect_or_by_the_recv_after_it(run):
    """Scenario 13: connect: reset -> each its `err`; no descriptor left."""

    async def main():
        with live() as there, sock.tcp() as s:
            os_thread = threading.Thread(target=accept_and_reset, args=(there,))
            os_thread.start()
            # It comes as the connection is made, or right after.
            with pytest.raises(sock.ConnectionReset):
                await s.connect(*there.getsockname(), expires=soon())
                await s.recv(1, expires=soon())
            os_thread.join()

    run(main)


@pytest.mark.skipif(not LINUX, reason='which of the two tells it, is known of Linux')
def test_s13_reset_that_comes_while_connect_waits_is_told_by_connect(run):
    """Scenario 13: connect: reset -> each its `err`; no descriptor left."""
    told = []

    async def main():
        until = soon()
        while 'connection_reset: connect' not in told:
            # Another OS thread may have seen that it is connected before the reset is there.
            assert sock.clock() < until
            assert not told or (run.threads > 1 and {*told} == {'connection_reset: recv'})
            with live() as there, sock.tcp() as s:
                connecting = sock.newthread(s.connect(*there.getsockname(), expires=soon()))
                # Amid chaos it may let others run before it begins.
                while connecting.waiting is None and not connecting.done:
                    await sock.sleep(0)
                accept_and_reset(there)
                with pytest.raises(sock.ConnectionReset) as caught:
                    await connecting
                    await s.recv(1, expires=soon())
                told.append(str(caught.value).partition(' tcp')[0])

    run(main)


@pytest.mark.skipif(not LINUX, reason='which of the two tells it, is known of Linux')
def test_s13_reset_that_comes_after_connect_is_told_by_recv(run):
    """Scenario 13: connect: reset -> each its `err`; no descriptor left."""

    async def main():
        with live() as there, sock.tcp() as s:
            await s.connect(*there.getsockname(), expires=soon())
            accept_and_reset(there)
            with pytest.raises(sock.ConnectionReset, match=r'^connection_reset: recv tcp '):
                await s.recv(1, expires=soon())

    run(main)


def connecting_expires(run, address):
    async def main():
        s = sock.tcp()
        begin = sock.clock()
        with pytest.raises(sock.Timeout, match=rf'^timeout: connect tcp {address}: not done after 0\.'):
            await s.connect(address, expires=begin + 0.05)
        assert begin + 0.05 <= sock.clock() < begin + 5
        assert s.closed

    run(main)


def test_s13_connect_to_a_full_backlog_expires(run, black_hole):
    """Scenario 13: connect: black hole with `expires` -> each its `err`; the socket closed on expiry; no descriptor
    left."""
    connecting_expires(run, black_hole)


def test_s13_connect_to_a_black_hole_expires(run):
    """Scenario 13: connect: black hole with `expires` -> each its `err`; the socket closed on expiry; no descriptor
    left.

    A link that swallows all packets.
    """
    with wire() as link:
        link.dead()
        connecting_expires(run, sock.addr(link.THERE, 80).addr)
        assert link.lost > 0


def test_s13_cancelled_connect_leaves_no_descriptor(run, black_hole):
    """Scenario 13: connect to a black hole, cancelled -> no descriptor left."""

    async def connecting():
        with sock.tcp() as s:
            await s.connect(black_hole)

    async def main():
        thread = sock.newthread(connecting)
        thread.cancel()
        with pytest.raises(sock.Cancelled):
            await thread

    run(main)


# 14

#: A group of multicasts: every system refuses at once to connect to it. macOS and FreeBSD have no 127.0.0.2.
NOBODY = '224.0.0.1'


def test_s14_live_address_after_dead_ones(run, names):
    """Scenario 14: connect to several addresses, the first ones dead -> the live one."""

    async def main():
        with live() as there, sock.tcp() as s:
            host, port = there.getsockname()
            names['several'] = [NOBODY, '127.0.0.9' if LINUX else NOBODY, host]
            await s.connect('several', port, expires=soon())
            assert s.remote_addr.host == host
            with there.accept()[0] as other:
                await s.send(b'x')
                assert other.recv(1) == b'x'

    run(main)


def test_s14_all_addresses_dead(run, names, dead_port):
    """Scenario 14: connect to several addresses, all dead -> the last error, with all tried in the message."""
    names['dead'] = [NOBODY, '127.0.0.1']

    async def main():
        with sock.tcp() as s:
            with pytest.raises(sock.ConnectionRefused) as caught:
                await s.connect('dead', dead_port, expires=soon())
            assert caught.value.errno is not None
            text = str(caught.value)
            assert text.startswith('connection_refused: connect tcp 127.0.0.1:')
            assert f'tried {NOBODY}:{dead_port} (' in text
            assert f'), 127.0.0.1:{dead_port} (connection_refused)' in text

    run(main)


# 15


def test_s15_connect_twice(run):
    """Scenario 15: connect twice -> clear results, no hang."""

    async def main():
        with live() as there, sock.tcp() as s:
            await s.connect(*there.getsockname())
            with pytest.raises(sock.AlreadyConnected):
                await s.connect(*there.getsockname(), expires=soon())
            # The connection is untouched.
            with there.accept()[0] as other:
                await s.send(b'x')
                assert other.recv(1) == b'x'

    run(main)


def test_s15_connect_while_connecting(run, black_hole):
    """Scenario 15: connect while connecting -> clear results, no hang."""

    async def connecting(s):
        await s.connect(black_hole)

    async def main():
        with sock.tcp() as s:
            thread = sock.newthread(connecting, s)
            with pytest.raises(sock.Busy):
                await s.connect(black_hole)
            assert not thread.done
            thread.cancel()
            with pytest.raises(sock.Cancelled):
                await thread

    run(main)


@pytest.mark.skipif(not LINUX, reason='other systems refuse a connection to oneself')
def test_s15_connect_to_oneself(run):
    """Scenario 15: connect to oneself (simultaneous open) -> clear results, no hang."""

    async def main():
        with sock.tcp() as s:
            s.bind('127.0.0.1')
            await s.connect(s.local_addr, expires=soon())
            assert s.local_addr == s.remote_addr
            await s.send(b'me')
            buf = bytearray(2)
            await s.recvn(buf, expires=soon())
            assert buf == b'me'

    run(main)


# 16


def test_s16_clients_that_reset_before_accept(run, listener):
    """Scenario 16: The client resets before accept (ECONNABORTED) -> accept goes on waiting.

    Linux gives such connections; their first recv tells of the reset. Others leave them out.
    """
    buf = bytearray(4)

    async def serve():
        while True:
            conn, _, _ = await listener.accept(soon())
            with conn, contextlib.suppress(sock.ConnectionReset):
                await conn.recvn(buf, expires=soon())
                assert buf == b'here'
                return

    async def main():
        for _ in range(3):
            gone = connect(listener)
            reset_on_close(gone)
            gone.close()
        thread = sock.newthread(serve)
        for _ in range(10):
            await sock.sleep(0.001)
        assert not thread.done
        with connect(listener) as other:
            other.sendall(b'here')
            await thread

    run(main)


@pytest.mark.skipif(not LINUX, reason='strace is of Linux')
@pytest.mark.parametrize('threads', [1, 3])
@own_program
def test_s16_aborted_connection_is_skipped(threads):
    """Scenario 16: The client resets before accept (ECONNABORTED) -> accept goes on waiting."""
    accept_suffers('ECONNABORTED', threads)


# 17


@pytest.mark.skipif(os.name == 'nt', reason='there is no limit of descriptors')
def test_s17_out_of_descriptors_in_accept(run, listener):
    """Scenario 17: EMFILE/ENFILE in accept -> `too_many_open_files`, no busy loop, accepting works again when
    descriptors are free; nobody queued is lost."""

    async def main():
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connect(listener)) for _ in range(3)]
            for i, client in enumerate(clients):
                client.sendall(b'%d' % i)
            with no_descriptors() as let_go:
                for _ in range(3):
                    with pytest.raises(sock.TooManyOpenFiles, match=r'^too_many_open_files: accept tcp .*ulimit'):
                        await listener.accept(soon())
                    assert not listener.closed
                # Those who are queued do not keep the loop busy.
                begin = time.process_time()
                await sock.sleep(0.2)
                assert time.process_time() - begin < 0.15
                let_go(1)
                conn, _, _ = await listener.accept(soon())
                with pytest.raises(sock.TooManyOpenFiles):
                    await listener.accept(soon())
            conns = [conn]
            while len(conns) < 3:
                conns.append((await listener.accept(soon()))[0])
            for i, each in enumerate(conns):
                assert await each.recv(10, expires=soon()) == b'%d' % i
                each.close()

    run(main)


@pytest.mark.skipif(os.name == 'nt', reason='there is no limit of descriptors')
def test_s17_out_of_descriptors_while_accept_waits(run, listener):
    """Scenario 17: EMFILE in accept, which waited -> `too_many_open_files`; nobody queued is lost."""

    async def main():
        thread = sock.newthread(listener.accept(soon()))
        assert not thread.done
        with socket.socket() as client:
            client.settimeout(PATIENCE)
            with no_descriptors():
                client.connect(tuple(listener.local_addr))
                with pytest.raises(sock.TooManyOpenFiles):
                    await thread
            conn, _, _ = await listener.accept(soon())
            conn.close()
            assert client.recv(1) == b''

    run(main)


@pytest.mark.skipif(not LINUX, reason='strace is of Linux')
@pytest.mark.parametrize('threads', [1, 3])
@own_program
def test_s17_system_out_of_descriptors_in_accept(threads):
    """Scenario 17: ENFILE in accept -> `too_many_open_files`, accepting works again; nobody queued is lost."""
    accept_suffers('ENFILE', threads, sock.TooManyOpenFiles)


@pytest.mark.skipif(os.name == 'nt', reason='there is no limit of descriptors')
def test_s17_out_of_descriptors_elsewhere(run):
    """Scenario 17: EMFILE in socket, connect and a new Poller -> `too_many_open_files`, and works again."""

    async def main():
        with live() as there:
            either = sock.tcp(None)
            with no_descriptors():
                for make in (sock.tcp, sock.udp, sock.Poller):
                    with pytest.raises(sock.TooManyOpenFiles, match=r'^too_many_open_files: '):
                        make()
                # Of either family, it takes a descriptor for each address.
                with pytest.raises(sock.TooManyOpenFiles, match='make a socket: tcp, inet'):
                    await either.connect(*there.getsockname(), expires=soon())
            await either.connect(*there.getsockname(), expires=soon())
            either.close()
            sock.Poller()

    run(main)


# 18


@pytest.mark.not_under(
    'virtual-clock', 'whom the backlog had no room for, the kernel tries again much later than its grace'
)
def test_s18_a_thousand_clients_and_a_backlog_of_5(run):
    """Scenario 18: 1,000 clients in one burst, backlog 5 -> all served or cleanly refused.

    Linux drops what the backlog has no room for, and often only after it has told the client that it is connected: so
    those find out by their deadlines, and come again.
    """
    count = 1000 // SLOWER
    served, refused = [], []

    async def serve(conn):
        with conn, contextlib.suppress(sock.Error):
            buf = bytearray(4)
            await conn.send(buf, await conn.recvn(buf, expires=soon()))

    async def accepting(listener):
        while True:
            conn, _, _ = await listener.accept()
            sock.newthread(serve, conn)

    async def client(i, address):
        patience = 0.2
        while True:
            with sock.tcp() as s:
                try:
                    until = soon(patience)
                    # For a machine that serves none of them in the time that they begin with.
                    patience *= 1.5
                    await s.connect(address, expires=until)
                    await s.send(b'%4d' % i, expires=until)
                    buf = bytearray(4)
                    await s.recvn(buf, expires=until)
                    assert buf == b'%4d' % i
                except (sock.ConnectionRefused, sock.ConnectionReset, sock.Timeout, sock.Closed):
                    # Closed: the server waits only so long too, and on a busy machine what was sent comes later.
                    refused.append(i)
                else:
                    served.append(i)
                    return

    async def main():
        with sock.tcp() as listener:
            listener.listen('127.0.0.1', backlog=5)
            thread = sock.newthread(accepting, listener)
            for each in [sock.newthread(client, i, listener.local_addr) for i in range(count)]:
                await each
            assert not thread.done
        with pytest.raises(sock.Closed):
            await thread

    with descriptors(2500):
        run(main)
    assert sorted(served) == list(range(count))


def test_s18_second_thread_in_accept_is_busy(run, listener):
    """Scenario 18: several threads in accept on one listener -> `Busy`."""

    async def main():
        thread = sock.newthread(listener.accept(soon()))
        while thread.waiting is None:
            # Amid chaos it may let others run before it begins.
            await sock.sleep(0)
        with pytest.raises(sock.Busy):
            await listener.accept()
        with connect(listener):
            conn, _, _ = await thread
            conn.close()

    run(main)


@pytest.mark.skipif(os.name == 'nt', reason='descriptors are not duplicated there')
def test_s18_each_connection_goes_to_exactly_one(run, listener):
    """Scenario 18: several threads (and OS threads) in accept on one listener -> each connection to exactly one.

    Each thread has a duplicate of the listener's descriptor, so that all are in accept at once.
    """
    got = []

    async def accepting(number, own):
        with own:
            while True:
                conn, _, _ = await own.accept()
                with conn:
                    got.append((number, await conn.recvall(expires=soon())))

    async def main():
        threads = [sock.newthread(accepting, i, sock.fromfd(os.dup(listener.fileno()))) for i in range(4)]
        for i in range(200):
            with connect(listener) as client:
                client.sendall(b'%d' % i)
                client.shutdown(socket.SHUT_WR)
                while len(got) <= i:
                    await sock.sleep(0)
        assert [data for _, data in got] == [b'%d' % i for i in range(200)]
        for thread in threads:
            assert not thread.done
            thread.cancel()

    run(main)


# 19


def test_s19_listen_on_a_port_in_time_wait(run, listener):
    """Scenario 19: listen on a port in TIME_WAIT right after a restart -> works (Linux, macOS)."""
    port = listener.local_addr.port

    async def main():
        # The server's side ends the connection, whose port lingers.
        with connect(listener) as other:
            conn, _, _ = await listener.accept(soon())
            conn.close()
            assert other.recv(1) == b''
        listener.close()
        with sock.tcp() as again:
            again.listen('127.0.0.1', port)
            with connect(again):
                conn, _, _ = await again.accept(soon())
                conn.close()

    run(main)


def test_s19_listen_on_a_port_in_use(run, listener):
    """Scenario 19: listen on a port in use -> `address_already_in_use`, Windows too."""

    async def main():
        with sock.tcp() as s:
            with pytest.raises(sock.AddressAlreadyInUse, match=r'^address_already_in_use: bind tcp 127\.0\.0\.1:'):
                s.listen('127.0.0.1', listener.local_addr.port)
            # It may try another one.
            s.listen('127.0.0.1')

    run(main)


# 20


@pytest.mark.parametrize('make', [sock.tcp, sock.udp])
@pytest.mark.not_under('chaos', 'virtual-clock', 'no thread runs in it, and no loop')
def test_s20_port_0_twice_is_two_ports(make):
    """Scenario 20: Port 0 twice -> as the OS says, normalized."""
    with make() as a, make() as b:
        for s in (a, b):
            s.bind('127.0.0.1', 0)
        assert 0 < a.local_addr.port != b.local_addr.port > 0


def inet6():
    with contextlib.suppress(OSError), socket.create_server(('::', 0), family=socket.AF_INET6, dualstack_ipv6=True):
        return True
    return False


needs_inet6 = pytest.mark.skipif(not inet6(), reason='needs IPv6')


@needs_inet6
@pytest.mark.parametrize('only', [None, True, False])
def test_s20_dual_stack_only_when_asked_to(run, only):
    """Scenario 20: dual-stack `::`, `ipv6_v6only` both ways -> as the OS says, normalized."""

    async def main():
        with sock.tcp('inet6') as s:
            assert s.getopt('ipv6_v6only') is True
            if only is not None:
                s.setopt('ipv6_v6only', only)
            s.listen('*')
            port = s.local_addr.port
            with socket.create_connection(('::1', port), PATIENCE):
                conn, remote, _ = await s.accept(soon())
                conn.close()
                assert remote.host == '::1'
            if only is not False:
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(('127.0.0.1', port), PATIENCE)
                return
            with socket.create_connection(('127.0.0.1', port), PATIENCE):
                conn, remote, local = await s.accept(soon())
                conn.close()
                assert remote.host == '::ffff:127.0.0.1' == local.host

    run(main)


@needs_inet6
@pytest.mark.parametrize('only', [None, True, False])
def test_s20_dual_stack_datagrams_only_when_asked_for(run, only):
    """Scenario 20: dual-stack `::`, `ipv6_v6only` both ways -> as the OS says, normalized."""

    async def main():
        with sock.udp('inet6') as s, sock.udp() as four, sock.udp('inet6') as six:
            assert s.getopt('ipv6_v6only') is True
            if only is not None:
                s.setopt('ipv6_v6only', only)
            s.bind('::')
            port = s.local_addr.port
            for client, host in ((four, '127.0.0.1'), (six, '::1')):
                client.bind(host)
                with contextlib.suppress(sock.ConnectionRefused):
                    await client.send(b'to all', host=host, port=port)
            expected = ['::1'] if only is not False else ['::ffff:127.0.0.1', '::1']
            for host in expected:
                data, addr = await s.recvfrom(100, expires=soon())
                assert (data, addr.host) == (b'to all', host)
                # The address goes back in as it came, to the socket of the other family too.
                await s.send(b'back', host=addr)
                client = six if host == '::1' else four
                data, addr = await client.recvfrom(100, expires=soon())
                assert (data, addr.port) == (b'back', port)
            # No other one came.
            with pytest.raises(sock.Timeout):
                await s.recvfrom(100, expires=sock.clock())

    run(main)


def test_s20_link_local_needs_its_scope(run):
    """Scenario 20: link-local with scope id -> as the OS says, normalized."""

    async def main():
        index = socket.if_nametoindex('lo')
        with sock.tcp('inet6') as s, sock.tcp('inet6') as client:
            s.listen('fe80::1%lo')
            assert s.local_addr.scope_id == index
            assert str(s.local_addr) == f'[fe80::1%{index}]:{s.local_addr.port}'
            with pytest.raises(sock.InvalidArgument):
                await client.connect('fe80::1', s.local_addr.port)
            await client.connect(f'fe80::1%{index}', s.local_addr.port, expires=soon())
            conn, remote, local = await s.accept(soon())
            with conn:
                assert (remote.host, remote.scope_id) == ('fe80::1', index) == (local.host, local.scope_id)
                # The address of the other goes back in as it is.
                assert client.local_addr == remote

    with namespace():
        command('ip', 'addr', 'add', 'fe80::1/64', 'dev', 'lo', 'nodad')
        # The system makes its route a moment later.
        while 'fe80::1' not in command('ip', '-6', 'route', 'show', 'table', 'local'):
            pass
        run(main)


@pytest.fixture
def no_rights():
    """This process without rights, whoever runs it."""
    if os.name == 'nt':
        pytest.skip('any user may take any port there')
    if os.geteuid() == 0:
        os.seteuid(65534)
        yield
        os.seteuid(0)
    else:
        yield


@pytest.mark.not_under('chaos', 'virtual-clock', 'no thread runs in it, and no loop')
def test_s20_privileged_port_without_rights(no_rights):
    """Scenario 20: privileged port without rights -> as the OS says, normalized."""
    if LINUX:
        with open('/proc/sys/net/ipv4/ip_unprivileged_port_start') as f:
            if int(f.read()) == 0:
                pytest.skip('any user may take any port of this host')
    with sock.tcp() as s, pytest.raises(sock.AccessDenied, match='ports below 1024'):
        s.bind('127.0.0.1', 1)


# 21


@pytest.mark.not_under('virtual-clock', 'it stands still until a look-up is over')
def test_s21_look_up_that_never_ends(run, monkeypatch):
    """Scenario 21: A name server that never answers -> other threads run on; `expires` ends the wait."""
    release = threading.Event()

    def getaddrinfo(*args):
        release.wait(PATIENCE)
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
        begin = sock.clock()
        with pytest.raises(sock.Timeout, match="look up 'slow'"):
            await s.connect('slow', 80, expires=begin + 0.5)
        assert 0.5 <= sock.clock() - begin < 5
        ticking.cancel()
        assert s.closed

    try:
        run(main)
        assert len(turns) > 3
    finally:
        release.set()


@pytest.mark.parametrize('threads', [1, 3])
@own_program
def test_s21_name_server_that_never_answers(threads, tmp_path):
    """Scenario 21: A name server that never answers -> other threads run on; `expires` ends the wait; exit isn't
    delayed.

    The system's own resolver asks a name server that is there, and says nothing for minutes.
    """
    if not sys.platform.startswith('linux') or os.geteuid() != 0:
        pytest.skip('needs its own network and files: root, on Linux')
    if shutil.which('ip') is None:
        pytest.skip('ip, of iproute2, is not installed')
    (tmp_path / 'resolv.conf').write_text('nameserver 127.0.0.1\noptions timeout:30 attempts:3\n')
    (tmp_path / 'nsswitch.conf').write_text('hosts: dns\n')
    code = """
        import ctypes, os, socket, subprocess, sys
        import sock

        folder, threads = sys.argv[1], int(sys.argv[2])
        libc = ctypes.CDLL(None, use_errno=True)

        def checked(result):
            if result:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

        # A network and mounts of our own; no mount leaves them.
        checked(libc.unshare(0x40000000 | 0x20000))
        checked(libc.mount(b'none', b'/', None, 1 << 18 | 1 << 14, None))
        for name in ('resolv.conf', 'nsswitch.conf'):
            if os.path.exists('/etc/' + name):
                checked(libc.mount(f'{folder}/{name}'.encode(), f'/etc/{name}'.encode(), None, 1 << 12, None))
        subprocess.run(['ip', 'link', 'set', 'lo', 'up'], check=True)
        turns = []

        async def others():
            while True:
                turns.append(1)
                await sock.sleep(0.001)

        async def main():
            sock.newthread(others)
            with sock.udp() as server:
                server.bind('127.0.0.1', 53)
                s = sock.tcp()
                begin = sock.clock()
                try:
                    await s.connect('nobody.example', 80, expires=begin + 0.5)
                except sock.Timeout as error:
                    assert "look up 'nobody.example'" in str(error), error
                else:
                    raise AssertionError('connected')
                assert 0.5 <= sock.clock() - begin < 5
                assert s.closed
                assert len(turns) > 3
                # It was asked.
                query = await server.recv(1000, expires=sock.clock() + 10)
                assert b'nobody' in query

        sock.run(main, threads=threads)
    """
    begin = time.monotonic()
    assert python(code, str(tmp_path), str(threads)) == ''
    assert time.monotonic() - begin < 15
