"""Scenarios 61 to 72: what users of other libraries ran into."""

import contextlib
import io
import os
import signal
import socket
import threading
import time

import pytest
import sock
from conftest import PATIENCE
from sock import _errors
from support import LINUX, ROOT, Counted, busy, reset_on_close, unread
from test_operations import OPERATIONS, Never, check, sides

from .conftest import own_program
from .faults import Canaries, accept_suffers, namespace, outstanding, sysctl


def soon(seconds=PATIENCE):
    return sock.clock() + seconds


# 61


@pytest.mark.parametrize('how', ['expires', 'deadline'])
def test_s61_deadline_of_send_closes_for_the_reader_too(run, peer, how):
    """Scenario 61: One thread waits in recv, another in send with a deadline; the deadline closes the socket ->
    `Timeout` there, `Closed` for the first, at once."""
    conn, _ = peer

    async def reader():
        await conn.recv(10)

    async def main():
        thread = sock.newthread(reader)
        until = soon(0.05)
        with pytest.raises(sock.Timeout) as caught:
            if how == 'expires':
                await conn.send(bytes(50_000_000), expires=until)
            else:
                with sock.deadline(until):
                    await conn.send(bytes(50_000_000))
        assert caught.value.sent > 0
        assert conn.closed
        with pytest.raises(sock.Closed, match='its deadline passed'):
            await thread
        assert sock.clock() - until < 5

    run(main)


# 62


@pytest.mark.skipif(os.name == 'nt', reason='sockets are no descriptors there')
@pytest.mark.parametrize('direction', ['recv', 'send'])
def test_s62_descriptor_closed_behind_our_back(run, peer, direction):
    """Scenario 62: A descriptor is closed behind our back (`os.close`) -> an error or a wait that can be cancelled."""
    conn, other = peer

    async def waits():
        await (conn.recv(10) if direction == 'recv' else conn.send(bytes(50_000_000)))

    async def main():
        thread = sock.newthread(waits)
        assert not thread.done
        os.close(conn.fileno())
        # The kernel forgets whom to wake: nothing comes any more, but the wait can be ended; so can the next one.
        other.close()
        for _ in range(2):
            thread.cancel()
            with pytest.raises((sock.Cancelled, sock.Error)):
                await thread
            thread = sock.newthread(waits)
        thread.cancel()
        with pytest.raises((sock.Cancelled, sock.Error)):
            await thread
        # What asks the system is told.
        with pytest.raises(sock.Error, match='Bad file descriptor'):
            conn.getopt('so_type')
        # Given away, since the number is not ours to close any more.
        conn.detach()

    run(main)


def test_s62_no_sendfile_ever_hits_a_reused_number(run, switching, tmp_path):
    """Scenario 62: closed in one OS thread while another is inside a system call on it -> an error; never a call on a
    reused number: a leased, counted descriptor, closed when the last call leaves.

    sendfile lets go of the interpreter, so that the other OS thread runs in the middle of the system call.
    """
    path = tmp_path / 'file'
    path.write_bytes(bytes(1 << 20))
    canaries = Canaries()

    async def sends(conn):
        with path.open('rb') as f:
            while True:
                await conn.sendfile(f, expires=soon())

    async def drains(conn):
        while await conn.recv(1 << 20):
            pass

    async def main():
        for _ in range(40):
            ours, theirs = socket.socketpair()
            with sock.fromsocket(ours) as conn, sock.fromsocket(theirs) as there:
                threads = [sock.newthread(sends, conn), sock.newthread(drains, there)]
                await canaries.close_under(conn, threads)
        assert canaries.reused > 10

    run(main)


def test_s62_no_sendfile_ever_reads_a_reused_number(run, switching, peer):
    """Scenario 62: the same of the file that is read, where no OS sends it: never a call on a reused number."""
    conn, other = peer
    canaries = Canaries()

    async def main():
        for _ in range(60):
            read, write = os.pipe()
            file = os.fdopen(read, 'rb', buffering=0)
            await canaries.close_file_under(file, write, [sock.newthread(conn.sendfile(file, expires=soon()))])
            sent = conn.stats.bytes_sent
        assert canaries.reused > 20
        assert 0 < sent <= 60 * 20 * 4
        conn.close()
        assert set(other.recv(1 << 16)) <= set(b'data')

    run(main)


# 63


@pytest.mark.parametrize('how', ['cancel', 'expires'])
@pytest.mark.parametrize('direction', ['recv', 'send'])
def test_s63_given_up_wait_leaves_no_waiter(run, peer, direction, how):
    """Scenario 63: A wait times out, or is cancelled -> no waiter is left behind; nothing is transmitted after a send
    has timed out."""
    conn, other = peer
    data = bytes(range(256)) * 40_000

    async def main():
        call = conn.recv if direction == 'recv' else conn.send
        argument = 100 if direction == 'recv' else data
        thread = sock.newthread(call(argument, expires=soon(0.05) if how == 'expires' else None))
        assert not thread.done
        if how == 'cancel':
            thread.cancel()
        with pytest.raises((sock.Cancelled, sock.Timeout)) as caught:
            await thread
        sent = caught.value.sent
        if how == 'cancel':
            if direction == 'recv':
                # Nobody takes this from the next reader.
                other.sendall(b'for the next')
                buf = bytearray(12)
                await conn.recvn(buf, expires=soon())
                assert buf == b'for the next'
            else:
                # What comes next follows right after what had gone.
                thread = sock.newthread(conn.send(b'the next', expires=soon()))
                got = b''
                while len(got) < sent + 8:
                    got += await sock.offload(other.recv, 1 << 20)
                assert got == data[:sent] + b'the next'
                await thread
            conn.close()
        assert conn.closed
        if how == 'expires':
            assert unread(other) == data[:sent]
            assert (sent > 0) == (direction == 'send')

    run(main)


# 64


async def echoes(conn):
    while True:
        await conn.send(await conn.recv(100))


async def steady(conn):
    await conn.send(b'x' * 50)
    while True:
        await conn.send(await conn.recv(100))


@pytest.mark.not_under('virtual-clock', 'it stands still while there is steady I/O')
def test_s64_deadlines_under_steady_io(run):
    """Scenario 64: Steady I/O on other sockets -> deadlines fire on time, none early."""

    async def main():
        with contextlib.ExitStack() as stack:
            threads, ends = [], []
            for _ in range(20):
                a, b = (stack.enter_context(sock.fromsocket(s)) for s in socket.socketpair())
                threads += [sock.newthread(echoes, a), sock.newthread(steady, b)]
                ends += [a, b]
            idle, other = socket.socketpair()
            with other:
                late = []
                while len(late) < 20 or min(each.stats.recv_calls for each in ends) <= 100:
                    taken = stack.enter_context(sock.fromsocket(idle.dup()))
                    until = soon(0.02)
                    with pytest.raises(sock.Timeout):
                        await taken.recv(1, expires=until)
                    assert sock.clock() >= until
                    late.append(sock.clock() - until)
            idle.close()
            # The machine may be busy with other things now and then.
            assert sorted(late)[len(late) // 2] < 0.05 * busy()
            for each in threads:
                each.cancel()
            for each in threads:
                with pytest.raises(sock.Cancelled):
                    await each

    run(main)


@pytest.mark.not_under('virtual-clock', 'it stands still while anything runs, however long')
def test_s64_overdue_deadlines_fire_in_the_next_round(run):
    """Scenario 64: or user code that held the loop for half a second -> overdue ones fire in the next round."""
    fired = []

    async def sleeps(name, until):
        await sock.sleep_until(until)
        fired.append((name, sock.clock()))

    async def main():
        begin = sock.clock()
        with contextlib.ExitStack() as stack:
            a, b = socket.socketpair()
            stack.enter_context(b)
            conn = stack.enter_context(sock.fromsocket(a))
            threads = [sock.newthread(sleeps, i, begin + 0.05 * i) for i in range(1, 6)]
            reader = sock.newthread(conn.recv(1, expires=begin + 0.1))
            # On one OS thread nobody else runs meanwhile.
            while sock.clock() - begin < 0.5:
                pass
            held = sock.clock()
            for thread in threads:
                await thread
            with pytest.raises(sock.Timeout):
                await reader
        assert all(at >= begin + 0.05 * i for i, at in fired)
        if run.threads == 1:
            assert [i for i, _ in fired] == [1, 2, 3, 4, 5]
            assert all(held <= at < held + 0.25 * busy() for _, at in fired)
        else:
            # Another OS thread fires them on time.
            assert sorted(at - begin - 0.05 * i for i, at in fired)[2] < 0.25 * busy()

    run(main)


def test_s64_no_deadline_is_early_and_none_spins(run):
    """Scenario 64: deadlines: none early, no spin with a zero timeout for the last fraction of a millisecond."""

    async def main():
        begin, cpu = sock.clock(), time.process_time()
        for i in range(200):
            until = sock.clock() + 0.001 + 0.00017 * (i % 7)
            await sock.sleep_until(until)
            assert sock.clock() >= until
        # A spin would take up to a millisecond of 1.5, unless nobody waits that long.
        assert time.process_time() - cpu < 0.4 * (sock.clock() - begin) or run.way == 'virtual-clock'

    run(main)


# 65


@pytest.mark.skipif(not LINUX, reason='strace is of Linux')
@pytest.mark.parametrize('threads', [1, 3])
@pytest.mark.parametrize('error', ['ECONNABORTED', 'EPROTO', 'EPERM', 'ENETDOWN', 'EHOSTUNREACH', 'EINTR'])
@own_program
def test_s65_accept_goes_on(error, threads):
    """Scenario 65: accept: ECONNABORTED, EPROTO, EPERM -> goes on."""
    accept_suffers(error, threads)


@pytest.mark.not_under('chaos', 'virtual-clock', 'no thread runs in it, and no loop')
def test_s65_transient_errors_of_windows():
    """Scenario 65: accept: and Windows' ERROR_NETNAME_DELETED -> goes on: it is one client's reset, as WSAECONNRESET
    is."""
    assert _errors.normalize(64, 'win32') == _errors.normalize(10054, 'win32') == 'connection_reset'


def test_s65_cancelled_accept_loses_no_connection(run, listener):
    """Scenario 65: a connection that comes as accept is cancelled is not lost silently."""

    async def accepting():
        conn, _, _ = await listener.accept()
        conn.close()

    async def main():
        for i in range(50):
            thread = sock.newthread(accepting)
            with socket.create_connection(tuple(listener.local_addr), PATIENCE) as client:
                if i % 2:
                    await sock.sleep(0)
                thread.cancel()
                try:
                    await thread
                except sock.Cancelled:
                    conn, _, _ = await listener.accept(soon())
                    conn.close()
                assert client.recv(1) == b''

    run(main)


def test_s65_expired_accept_loses_no_connection_silently(run):
    """Scenario 65: a connection that comes as accept expires is not lost silently: it is accepted, or its client is
    told."""

    async def main():
        for i in range(40):
            with sock.tcp() as listener, socket.socket() as client:
                listener.listen('127.0.0.1')
                address = tuple(listener.local_addr)
                client.settimeout(PATIENCE)
                thread = sock.newthread(listener.accept(expires=sock.clock() + 0.0001 * i))
                await sock.sleep(0.002 if i % 4 == 3 else 0)
                refused = reset = False
                try:
                    client.connect(address)
                except (ConnectionRefusedError, ConnectionResetError):
                    refused = True
                try:
                    conn, _, _ = await thread
                except sock.Timeout:
                    assert listener.closed
                    if not refused:
                        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                            # Whose handshake ends as its listener closes, Linux may drop, and tells when it sends.
                            client.sendall(b'x')
                            assert client.recv(1) == b''
                    reset = True
                else:
                    conn.close()
                    assert client.recv(1) == b''
                assert reset or not refused

    run(main)


# 66


def test_s66_icmp_error_never_disturbs_an_unconnected_socket(run, udp, other, dead):
    """Scenario 66: UDP: one dead client's ICMP error never ends or disturbs an unconnected server, on any OS."""

    async def main():
        for i in range(10):
            counted = Counted(udp.recv(10, expires=soon()))
            thread = sock.newthread(counted) if i % 2 else None
            await udp.send(b'into the void', host=dead)
            other.sendto(b'ping', tuple(udp.local_addr))
            assert await (thread or counted) == b'ping'

    run(main)


def test_s66_server_outlives_clients_that_vanish(run, udp):
    """Scenario 66: UDP: one dead client's ICMP error never ends or disturbs an unconnected server, on any OS."""

    async def serve():
        buf = bytearray(100)
        while True:
            try:
                n, client = await udp.recvfrom(buf)
            except sock.Closed:
                return
            await udp.send(buf, n, client)

    async def main():
        server = sock.newthread(serve)
        for i in range(100):
            # Connected before the other one goes, whose port it may not have.
            with sock.udp() as client:
                await client.connect(udp.local_addr)
                with sock.udp() as vanishes:
                    await vanishes.send(b'and away', host=udp.local_addr)
                await client.send(b'%d' % i)
                assert await client.recv(10, expires=soon()) == b'%d' % i
        udp.close()
        await server

    run(main)


def test_s66_connected_socket_reports_it_once(run, udp, dead):
    """Scenario 66: UDP: a dead client's ICMP error: a connected socket reports it once and stays usable."""

    async def main():
        await udp.connect(dead)
        for waits in (False, True):
            thread = sock.newthread(udp.recv(10, expires=soon())) if waits else None
            await udp.send(b'into the void')
            with pytest.raises(sock.ConnectionRefused):
                await (thread or udp.recv(10, expires=soon()))
            # Now somebody is there.
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as live:
                live.bind(tuple(dead))
                live.settimeout(PATIENCE)
                await udp.send(b'anybody?')
                assert live.recv(100) == b'anybody?'
                live.sendto(b'here', tuple(udp.local_addr))
                assert await udp.recv(10, expires=soon()) == b'here'

    run(main)


# 67


@pytest.mark.skipif(not LINUX, reason='other systems do not balance, which docs/reliability.md says')
def test_s67_reuseport_balances(run):
    """Scenario 67: `so_reuseport` where the OS does not balance -> an error or a documented limit, not silence."""

    async def main():
        with contextlib.ExitStack() as stack:
            listeners = [stack.enter_context(sock.tcp()) for _ in range(2)]
            port = 0
            for each in listeners:
                each.setopt('so_reuseport', True)
                each.listen('127.0.0.1', port)
                port = each.local_addr.port
            accepted = [0, 0]

            async def accepting(i):
                while True:
                    conn, _, _ = await listeners[i].accept()
                    conn.close()
                    accepted[i] += 1

            threads = [sock.newthread(accepting, i) for i in range(2)]
            for i in range(100):
                with socket.create_connection(('127.0.0.1', port), PATIENCE):
                    while sum(accepted) <= i:
                        await sock.sleep(0)
            assert min(accepted) > 10
            for thread in threads:
                thread.cancel()

    run(main)


@pytest.mark.parametrize('thief', ['plain', 'so_reuseaddr', 'so_reuseport'])
@pytest.mark.parametrize('make', [sock.tcp, sock.udp])
@pytest.mark.not_under('chaos', 'virtual-clock', 'no thread runs in it, and no loop')
def test_s67_no_port_is_stolen_unasked(make, thief):
    """Scenario 67: `so_reuseaddr` on UDP cannot be used to steal a port unasked."""
    if thief not in ('plain', *sock.options()):
        pytest.skip('this system has no such option')
    with make() as owner, make() as other:
        owner.bind('127.0.0.1')
        assert owner.getopt('so_reuseaddr') is False
        if thief != 'plain':
            other.setopt(thief, True)
        # To who asks to share it, Windows says that its owner does not allow that.
        with pytest.raises(sock.AccessDenied if os.name == 'nt' and thief != 'plain' else sock.AddressAlreadyInUse):
            other.bind('127.0.0.1', owner.local_addr.port)


# 68


@pytest.mark.parametrize('setting', [0, 1])
@pytest.mark.parametrize('make', [sock.tcp, sock.udp])
@pytest.mark.not_under('chaos', 'virtual-clock', 'no thread runs in it, and no loop')
def test_s68_v6only_whatever_the_system_says(make, setting):
    """Scenario 68: A listening IPv6 socket, on any OS and with any sysctl -> `ipv6_v6only` is set explicitly: the same
    everywhere."""
    with namespace():
        sysctl('ipv6/bindv6only', setting)
        with make('inet6') as six, make('inet') as four:
            assert six.getopt('ipv6_v6only') is True
            six.bind('*')
            # So that both fit on one port.
            four.bind('*', six.local_addr.port)
        with sock.tcp(None) as both, socket.socket() as client:
            both.listen('*')
            client.connect(('127.0.0.1', both.local_addr.port))


# 69


@pytest.fixture
def resolve_limit():
    before = sock.resolve_limit()
    yield sock.resolve_limit
    sock.resolve_limit(before)


@pytest.mark.not_under('virtual-clock', 'it stands still until a look-up is over')
def test_s69_slow_look_ups_do_not_hold_up_others(run, monkeypatch, listener, resolve_limit):
    """Scenario 69: 200 slow look-ups at once -> numeric addresses and other threads unaffected; a late answer is
    dropped; the number of resolver OS threads is a setting."""
    release, asking = threading.Event(), []

    def getaddrinfo(*args):
        asking.append(threading.current_thread())
        release.wait(PATIENCE)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, '', ('192.0.2.1', 80))]

    monkeypatch.setattr(socket, 'getaddrinfo', getaddrinfo)
    assert resolve_limit(5) == resolve_limit() == 5
    turns = 0

    async def ticks():
        nonlocal turns
        while True:
            turns += 1
            await sock.sleep(0.001)

    async def patient(i):
        return await sock.resolve(f'slow-{i}', 80)

    async def impatient(i):
        with pytest.raises(sock.Timeout, match=rf"^timeout: look up 'slow-{i}'"):
            await sock.resolve(f'slow-{i}', 80, expires=soon(0.05))
        # Goes on to other things, which a late answer must not disturb.
        await sock.sleep(0.2)

    async def main():
        ticking = sock.newthread(ticks)
        threads = [sock.newthread(impatient if i % 2 else patient, i) for i in range(200)]
        for _ in range(20):
            with sock.tcp() as s:
                await s.connect(*listener.local_addr, expires=soon())
                conn, _, _ = await listener.accept(soon())
                conn.close()
        await sock.sleep(0.1)
        assert turns > 10
        assert len(asking) == 5
        release.set()
        for i, thread in enumerate(threads):
            result = await thread
            assert i % 2 or str(result) == '192.0.2.1:80'
        ticking.cancel()

    try:
        run(main)
    finally:
        release.set()
    # Who gave up before its turn was never asked for.
    assert 100 <= len(asking) <= 105
    assert all(thread.daemon for thread in asking)


# 70


@pytest.mark.skipif(not LINUX, reason='other systems drop what was not read when a reset comes')
def test_s70_write_error_before_the_data(run, peer):
    """Scenario 70: macOS: EPROTOTYPE on send is a reset; a reset that shows as a write error before the readable data
    -> it is a reset; the data comes first."""
    conn, other = peer
    data = os.urandom(50_000)

    async def main():
        other.sendall(data)
        while outstanding(other):
            await sock.sleep(0.001)
        reset_on_close(other)
        other.close()
        with pytest.raises((sock.ConnectionReset, sock.BrokenPipe)):
            while True:
                await conn.send(b'x')
        buf = bytearray(len(data))
        assert await conn.recvn(buf, expires=soon()) == len(data)
        assert buf == data
        with contextlib.suppress(sock.ConnectionReset):
            assert await conn.recv(10, expires=soon()) == b''

    run(main)


# 71


def test_s71_every_readiness_is_used_up(run, peer):
    """Scenario 71: mio on Windows re-arms only after a call would block: every readiness is used up to that point."""
    conn, other = peer

    async def main():
        buf = bytearray(3)
        for i in range(100):
            data = os.urandom(1 + i % 7)
            thread = sock.newthread(conn.recvn(bytearray(len(data)), expires=soon())) if i % 3 else None
            other.sendall(data)
            if thread:
                assert await thread == len(data)
                continue
            got = b''
            while len(got) < len(data):
                # Readable between reads that leave some.
                await conn.readable(soon())
                got += buf[: await conn.recv(buf, expires=soon())]
            assert got == data

    run(main)


def test_s71_spurious_writable_is_not_connected(run, black_hole, dead_port):
    """Scenario 71: a spurious writable before connect is done: it is not "connected".

    A registered socket that is not connected is "writable" (and hung up) to the kernel.
    """

    async def main():
        with sock.tcp() as s:
            with pytest.raises(sock.ConnectionRefused):
                await s.connect('127.0.0.1', dead_port)
            await s.writable(soon())
            thread = sock.newthread(s.connect, black_hole)
            await sock.sleep(0.05)
            assert not thread.done
            assert s.remote_addr is None
            thread.cancel()
            with pytest.raises(sock.Cancelled):
                await thread

    run(main)


# 72


needs_setitimer = pytest.mark.skipif(not hasattr(signal, 'setitimer'), reason='there is no setitimer')


@contextlib.contextmanager
def storm():
    """A signal each millisecond; gives the list of those that were handled."""
    handled = []
    old = signal.signal(signal.SIGALRM, lambda number, frame: handled.append(number))
    # System calls are to be broken off, not resumed by the system.
    signal.siginterrupt(signal.SIGALRM, True)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        yield handled
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


@needs_setitimer
def test_s72_storm_of_signals(run, listener, tmp_path):
    """Scenario 72: EINTR storm (setitimer 1 ms) -> no spurious error, no deadline shifted."""
    data = os.urandom(1_000_000)
    path = tmp_path / 'file'
    path.write_bytes(data)

    async def serve():
        while True:
            conn, _, _ = await listener.accept()
            sock.newthread(echo, conn)

    async def echo(conn):
        with conn:
            await conn.send(await conn.recvall(expires=soon()), expires=soon())

    async def main():
        server = sock.newthread(serve)
        for how in ('send', 'file', 'memory') * 3:
            with sock.tcp() as s:
                await s.connect('localhost', listener.local_addr.port, expires=soon())
                if how == 'send':
                    assert await s.send(data, expires=soon()) == len(data)
                else:
                    with path.open('rb') if how == 'file' else io.BytesIO(data) as f:
                        assert await s.sendfile(f, expires=soon()) == len(data)
                s.shutdown('w')
                assert await s.recvall(expires=soon()) == data
        with sock.udp() as a, sock.udp() as b:
            a.bind('127.0.0.1')
            for i in range(200):
                await b.send(b'%d' % i, host=a.local_addr)
                assert await a.recv(10, expires=soon()) == b'%d' % i
        for seconds in (0.05, 0.101, 0.01):
            until = soon(seconds)
            await sock.sleep_until(until)
            assert until <= sock.clock() < until + 1
        with sock.udp() as s:
            s.bind('127.0.0.1')
            until = soon(0.05)
            with pytest.raises(sock.Timeout):
                await s.recv(10, expires=until)
            assert until <= sock.clock() < until + 1
        assert await sock.offload(sum, [1, 2]) == 3
        server.cancel()

    with storm() as handled:
        run(main)
    assert len(handled) > 50


async def awaits(operation):
    return await operation


def expires_and_succeeds_in_a_storm(run, name):
    """An operation of the table waits in a storm until it expires, and once more until there is what it waits for."""
    operation = OPERATIONS[name]

    async def expires(ours):
        until = soon(0.02)
        with pytest.raises(sock.Timeout):
            await operation.call(ours, expires=until)
        assert until <= sock.clock() < until + busy()

    async def succeeds(ours, other):
        thread = sock.newthread(awaits, operation.call(ours, expires=soon(30)))
        begin, until = len(handled), soon(20)
        # A sleep ends by itself.
        while len(handled) < begin + 20 and not ('sleep' in name and thread.done):
            assert sock.clock() < until, f'{len(handled) - begin} signals'
            await sock.sleep(0.001)
        assert 'sleep' in name or not thread.done
        if name == 'Condition.wait_for':
            # Amid chaos who waits may have the lock for a moment.
            async with other.condition:
                other.things.append(5)
                other.condition.notify()
        else:
            operation.feed(other)
        if operation.unclog is not None:
            other.setblocking(False)
            while not thread.done:
                # All there is, since each sleep may take a while by a virtual clock.
                with contextlib.suppress(BlockingIOError):
                    while True:
                        operation.unclog(other)
                await sock.sleep(0.001)
        got = await thread
        if run.way == 'chaos' and name in ('recv', 'recv bytes'):
            # A part of it may come first.
            assert 0 < got <= 5 if name == 'recv' else got and b'hello'.startswith(got)
        else:
            check(got, operation.result)

    with sides(name, clogged=True) as (ours, _), storm() as handled:
        run(expires, ours)
    with sides(name, clogged=True) as both, storm() as handled:
        run(succeeds, *both)


#: Those that wait: why others do not is said in the table.
WAITING = [name for name, operation in OPERATIONS.items() if not isinstance(operation.waits, Never)]


@needs_setitimer
@pytest.mark.parametrize('name', [name for name in WAITING if name != 'offload'])
def test_s72_storm_of_signals_over_each_operation_that_waits(run, name):
    """Scenario 72: EINTR storm (setitimer 1 ms) -> no spurious error, no deadline shifted."""
    expires_and_succeeds_in_a_storm(run, name)


@needs_setitimer
@pytest.mark.not_under('virtual-clock', 'it stands still until the call is over')
def test_s72_storm_of_signals_over_calls_of_functions(run):
    """Scenario 72: EINTR storm (setitimer 1 ms) -> no spurious error, no deadline shifted."""
    expires_and_succeeds_in_a_storm(run, 'offload')


def a_pair_of_datagrams(kind, stack, folder):
    """Two sockets, and the address of the second."""
    if kind == 'raw':
        # Of a protocol that no system answers to on loopback, and for an address of this process.
        first, second = (stack.enter_context(sock.raw('inet', 'igmp')) for _ in range(2))
        pid = os.getpid()
        second.bind(f'127.{128 + (pid >> 16) % 64}.{pid >> 8 & 255}.{pid & 255}')
        return first, second, second.local_addr
    first, second = (stack.enter_context(sock.udp('unix' if kind == 'unix' else 'inet')) for _ in range(2))
    second.bind(str(folder / 'second') if kind == 'unix' else '127.0.0.1')
    return first, second, second.local_addr


@needs_setitimer
@pytest.mark.parametrize(
    'kind',
    [
        'udp',
        pytest.param('unix', marks=pytest.mark.skipif(os.name == 'nt', reason='Windows has no unix datagrams')),
        pytest.param('raw', marks=pytest.mark.skipif(not (ROOT and LINUX), reason='raw sockets need root; of Linux')),
    ],
)
def test_s72_storm_of_signals_over_datagrams(run, short_path, kind):
    """Scenario 72: EINTR storm (setitimer 1 ms) -> no spurious error, no datagram lost, no deadline shifted."""

    async def receives(second, count, many):
        got = []
        while len(got) < count:
            if many:
                got += [data for data, _ in await second.recvmany(7, expires=soon())]
            else:
                got.append(await second.recv(1000, expires=soon()))
        return got

    async def main():
        with contextlib.ExitStack() as stack:
            first, second, to = a_pair_of_datagrams(kind, stack, short_path)
            # What is received begins with its header there.
            head = 20 if kind == 'raw' else 0
            # Until enough signals have come: a busy machine may have run the OS thread of the handlers hardly at all.
            i, rounds, until = 0, 60 if run.way != 'virtual-clock' else 10, soon(25)
            while i < rounds or len(handled) < 20:
                assert sock.clock() < until, f'{len(handled)} signals'
                i += 1
                # Few enough for the OS to have room for all.
                data = [os.urandom(200) for _ in range(8)]
                receiver = sock.newthread(receives, second, len(data), i % 2)
                await sock.sleep(0.002)
                if i % 3:
                    assert await first.sendmany([(each, to) for each in data], expires=soon()) == len(data)
                else:
                    for each in data:
                        assert await first.send(each, host=to, expires=soon()) == len(each)
                assert [each[head:] for each in await receiver] == data
            until = soon(0.05)
            with pytest.raises(sock.Timeout):
                await second.recvmany(7, expires=until)
            assert until <= sock.clock() < until + 1

    with storm() as handled:
        run(main)


@needs_setitimer
@pytest.mark.not_under('virtual-clock', 'it stands still until a look-up is over')
def test_s72_storm_of_signals_over_look_ups(run):
    """Scenario 72: EINTR storm (setitimer 1 ms) -> no spurious error, no deadline shifted."""

    async def main():
        # Of the system's own resolver, until enough signals have come.
        while len(handled) < 50:
            found = await sock.resolve('localhost', 80, expires=soon())
            assert (found.addr.host, found.addr.port) == ('127.0.0.1', 80)

    with storm() as handled:
        run(main)
