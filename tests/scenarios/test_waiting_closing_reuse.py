"""Scenarios 1 to 12: waiting, closing, reuse of descriptors."""

import contextlib
import gc
import os
import re
import socket
import subprocess
import sys
import textwrap
import threading
import time

import pytest
import sock
from conftest import PATIENCE
from support import LINUX, Counted, is_open, python, reset_on_close
from test_operations import OPERATIONS, sides, waiting_sockets

from .conftest import own_program
from .faults import Canaries, injected, outstanding, pair_after, registrations


def soon():
    return sock.clock() + PATIENCE


async def rounds():
    """Lets the loop look for events, and take up those that are there."""
    for _ in range(10):
        await sock.sleep(0.001)


@pytest.mark.skipif(not LINUX, reason='strace is of Linux')
@pytest.mark.parametrize('threads', [1, 3])
@own_program
def test_s01_data_that_comes_between_the_call_and_the_parking(threads):
    """Scenario 1: Data arrives between the call that would block and the parking -> the thread wakes, once.

    The kernel's "would block" takes 30 ms to come back, in which the answer arrives.
    """
    code = """
        import sys, sock

        async def main():
            with sock.tcp() as conn:
                await conn.connect('127.0.0.1', int(sys.argv[1]))
                for _ in range(20):
                    await conn.send(b'?')
                    # Exactly what comes: a short read would let the next one wait without trying.
                    assert await conn.recv(1, expires=sock.clock() + 10) == b'!'

        sock.run(main, threads=int(sys.argv[2]))
    """
    with socket.create_server(('127.0.0.1', 0)) as listener:
        listener.settimeout(30)
        args = (listener.getsockname()[1], threads)
        with injected(code, 'recvfrom:delay_exit=30000', args=args) as calls, listener.accept()[0] as peer:
            while peer.recv(1):
                # The question is out; the call that finds nothing follows within the next 10 ms.
                threading.Event().wait(0.01)
                peer.sendall(b'!')
    assert sum('EAGAIN' in call for call in calls) > 10, 'the calls found data: nothing was tried'


@pytest.mark.not_under('virtual-clock', 'a program may take longer to start than its grace')
def test_s01_each_answer_wakes_its_thread(run):
    """Scenario 1: Data arrives between the call that would block and the parking -> the thread wakes, once.

    Answers that come as fast as another process can give them, at whatever moment that is.
    """
    code = """
        import socket, sys
        with socket.create_connection(('127.0.0.1', int(sys.argv[1]))) as s:
            while data := s.recv(1):
                s.sendall(data)
    """

    async def main(listener, process):
        conn, _, _ = await listener.accept(soon())
        with conn:
            for i in range(3000):
                await conn.send(bytes([i % 251]))
                assert await conn.recv(10, expires=soon()) == bytes([i % 251])
        process.communicate(timeout=PATIENCE)

    with sock.tcp() as listener:
        listener.listen('127.0.0.1')
        program = [sys.executable, '-c', textwrap.dedent(code), str(listener.local_addr.port)]
        with subprocess.Popen(program) as process:
            run(main, listener, process)


@waiting_sockets
@pytest.mark.parametrize('closer', ['thread', 'OS thread'])
def test_s02_close_wakes_who_waits(run, name, closer):
    """Scenario 2: A socket is closed while a thread waits in each operation (recv, send, accept, connect, readable,
    sendfile) -> `Closed`, at once."""
    operation = OPERATIONS[name]

    async def main(ours):
        async def waits():
            await operation.call(ours)

        async def close():
            ours.close()

        thread = sock.newthread(waits)
        assert not thread.done
        begin = time.monotonic()
        if closer == 'thread':
            sock.newthread(close, name='the closer')
            says = r"closed here by thread 'the closer' in close, .*test_waiting_closing_reuse\.py:\d+"
        else:
            os_thread = threading.Thread(target=ours.close)
            os_thread.start()
            says = r"closed here by OS thread '.*' in run, .*threading\.py:\d+"
        with pytest.raises(sock.Closed) as caught:
            await thread
        assert time.monotonic() - begin < 5
        assert (caught.value.err, caught.value.errno) == ('closed', None)
        assert re.search(says, str(caught.value))
        with pytest.raises(sock.Closed):
            await operation.call(ours)
        if closer == 'OS thread':
            os_thread.join()

    with sides(name, clogged=True) as (ours, _):
        run(main, ours)


def test_s02_close_wakes_who_waits_in_sendfile_of_a_regular_file(run, peer, tmp_path):
    """Scenario 2: A socket is closed while a thread waits in sendfile -> `Closed`, at once."""
    conn, _ = peer
    path = tmp_path / 'large'
    with path.open('wb') as f:
        f.truncate(50_000_000)

    async def main():
        with path.open('rb') as f:
            thread = sock.newthread(conn.sendfile, f)
            while not conn.stats.bytes_sent:
                # Amid chaos it may let others run before it begins.
                await sock.sleep(0)
            assert not thread.done
            conn.close()
            # Where the OS does not send a file by itself, pieces of it are sent.
            with pytest.raises(sock.Closed, match='send') as caught:
                await thread
            assert 0 < caught.value.sent < 50_000_000

    run(main)


@pytest.mark.parametrize('closer', ['thread', 'OS thread'])
def test_s02_close_wakes_who_waits_in_sendfile_for_a_pipe(run, peer, closer):
    """Scenario 2: A socket is closed while a thread waits in sendfile -> `Closed`, at once."""
    conn, _ = peer
    read, write = os.pipe()
    os.write(write, b'all there is')

    async def main():
        with os.fdopen(read, 'rb', buffering=0) as f:
            thread = sock.newthread(conn.sendfile, f)
            while conn.stats.bytes_sent < 12:
                await sock.sleep(0)
            assert not thread.done
            if closer == 'thread':
                conn.close()
            else:
                await sock.offload(conn.close)
            with pytest.raises(sock.Closed, match=r'sendfile.*12 bytes of the file were sent') as caught:
                await thread
            assert caught.value.sent == 12

    try:
        run(main)
    finally:
        os.close(write)


@pytest.mark.not_under('chaos', 'it counts wake-ups, of which there are more then, for nothing')
def test_s03_reused_number_sees_nothing_of_the_old_event(run):
    """Scenario 3: A descriptor is closed and its number reused before an old event is handled -> the new socket sees
    nothing of it."""

    async def main():
        reused = 0
        # Each of the rounds takes its grace of a virtual clock.
        count = 3 if run.way == 'virtual-clock' else 50
        for _ in range(count):
            ours, theirs = socket.socketpair()
            with theirs, sock.fromsocket(ours) as old:
                waiting = sock.newthread(old.recv, 10)
                # The event is there, and we close before the loop gets to see it.
                theirs.sendall(b'old')
                number = old.fileno()
                new_ours, new_theirs = pair_after(old.close, number)
                reused += new_ours.fileno() == number
                with new_theirs, sock.fromsocket(new_ours) as new:
                    counted = Counted(new.recv(10, expires=soon()))
                    thread = sock.newthread(counted)
                    await rounds()
                    assert not thread.done
                    assert counted.waits == 1, 'woken by the old event'
                    new_theirs.sendall(b'new')
                    assert await thread == b'new'
                # By several OS threads the event may be handled before the close.
                with contextlib.suppress(sock.Closed):
                    assert await waiting == b'old'
                    assert run.threads > 1
        assert reused > count // 5

    run(main)


@pytest.mark.skipif(os.name == 'nt', reason='descriptors are not duplicated there')
@pytest.mark.parametrize('how', ['dup', 'child'])
def test_s04_duplicate_keeps_no_registration_alive(run, peer, how):
    """Scenario 4: A duplicate of the descriptor (dup, inherited by a child) keeps the kernel's registration alive -> no
    event reaches us after close."""
    conn, other = peer

    async def main():
        with contextlib.ExitStack() as stack:
            fd = conn.fileno()
            if how == 'dup':
                duplicate = os.dup(fd)
                stack.callback(os.close, duplicate)
            else:
                child = stack.enter_context(
                    subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE, pass_fds=[fd])
                )
            thread = sock.newthread(conn.recv, 1)
            if LINUX:
                while fd not in (watched := registrations(sock.epoll_fd())):
                    # It may let others run before it waits.
                    assert run.way == 'chaos'
                    await sock.sleep(0)
            conn.close()
            with pytest.raises(sock.Closed):
                await thread
            if LINUX:
                left = registrations(sock.epoll_fd())
                assert sorted([*left, fd]) == sorted(watched)
            other.sendall(b'x')
            other.shutdown(socket.SHUT_WR)
            # Nor does it wake the loop again and again.
            begin = time.process_time()
            await sock.sleep(0.2)
            assert time.process_time() - begin < 0.15
            if how == 'child':
                child.communicate(b'\n', timeout=PATIENCE)

    run(main)


def test_s05_no_call_ever_hits_a_reused_number(run, switching):
    """Scenario 5: Closed from another OS thread while a system call on it runs -> no call ever hits a reused number."""
    canaries = Canaries()

    async def sends(conn):
        while True:
            await conn.send(bytes(20_000))

    async def receives(conn):
        while await conn.recv(30_000):
            pass

    async def main():
        for _ in range(60):
            with contextlib.ExitStack() as stack:
                ends = [stack.enter_context(sock.fromsocket(s)) for s in socket.socketpair()]
                threads = [sock.newthread(func, conn) for conn in ends for func in (sends, receives)]
                await canaries.close_under(ends[0], threads)
        assert canaries.reused > 20

    run(main)


def test_s06_last_reference_to_an_open_socket_warns_and_closes(run):
    """Scenario 6: The last reference to an open socket goes while nobody waits -> ResourceWarning, closed."""

    async def main():
        conn = sock.tcp()
        fd = conn.fileno()
        del conn
        gc.collect()
        assert not is_open(fd)

    with pytest.warns(ResourceWarning, match='unclosed tcp'):
        run(main)


def test_s06_socket_that_a_thread_waits_on_stays_alive(run):
    """Scenario 6: The last reference to an open socket goes while a thread waits -> it stays alive."""

    async def collects():
        while True:
            gc.collect()
            await sock.sleep(0.01)

    async def main():
        ours, theirs = socket.socketpair()
        with sock.fromsocket(theirs) as theirs:
            buf = bytearray(5)
            thread = sock.newthread(sock.fromsocket(ours).recvn(buf, expires=soon()))
            gc.collect()
            await theirs.send(b'alive')
            await thread
            assert buf == b'alive'
            del thread
            # Closed, since now nobody waits on it. On a free-threaded build each of what held it may be for the OS
            # thread to let go of that made it, which sleeps; or for a collection.
            collecting = sock.newthread(collects)
            assert await theirs.recv(1, expires=soon()) == b''
            collecting.cancel()

    with pytest.warns(ResourceWarning, match='unclosed tcp'):
        run(main)


def test_s07_close_again_is_silent(run, peer):
    """Scenario 7: close() twice -> silent."""
    conn, _ = peer

    async def main():
        for _ in range(3):
            conn.close()
            assert conn.closed
            assert conn.fileno() == -1
            await sock.sleep(0)

    run(main)


@pytest.mark.parametrize('threads', [1, 3])
@pytest.mark.parametrize('when', ['__del__', 'cycle', 'atexit', 'teardown'])
@own_program
def test_s07_close_at_the_end_is_silent(threads, when):
    """Scenario 7: close() in `__del__`, close() at interpreter exit -> silent."""
    code = """
        import atexit, gc, socket, sys, threading
        import sock

        threads, when = int(sys.argv[1]), sys.argv[2]

        class Holder:
            def __init__(self, s):
                self.s = sock.fromsocket(s)

            def __del__(self):
                self.s.close()

        async def main():
            ours, theirs = socket.socketpair()
            holder = Holder(ours)
            sock.newthread(holder.s.send, b'x')
            assert theirs.recv(1) == b'x'
            if when == '__del__':
                del holder
                assert theirs.recv(1) == b''
            elif when == 'cycle':
                holder.itself = holder
                del holder
                gc.collect()
                assert theirs.recv(1) == b''
            elif when == 'atexit':
                atexit.register(holder.s.close)
            else:
                # Goes when the interpreter takes its modules apart.
                threading.holder = holder
            theirs.close()

        sock.run(main, threads=threads)
    """
    assert python(code, str(threads), when) == ''


@pytest.mark.not_under('chaos', 'it counts wake-ups, of which there are more then, for nothing')
@pytest.mark.parametrize('second', ['data', 'end', 'reset'])
def test_s08_two_events_resume_once(run, peer, second):
    """Scenario 8: Two events (readable and hang-up) for one wait -> resumed once; a second wait isn't woken by the
    stale one."""
    conn, other = peer

    async def main():
        # Registered, and waiting.
        counted = Counted(conn.readable(soon()))
        thread = sock.newthread(counted)
        other.sendall(b'one')
        if second == 'data':
            other.sendall(b'two')
        else:
            if second == 'reset':
                reset_on_close(other)
            other.close()
        await thread
        assert counted.waits == 1
        await rounds()
        if second == 'data':
            assert await conn.recv(100) == b'onetwo'
            counted = Counted(conn.readable(soon()))
            thread = sock.newthread(counted)
            await rounds()
            assert not thread.done
            other.sendall(b'three')
            await thread
            assert counted.waits == 1
        else:
            try:
                assert await conn.recv(100) == b'one'
            except sock.ConnectionReset:
                # Other systems drop what was not read when a reset comes.
                assert second == 'reset'
                assert not LINUX
            for _ in range(3):
                # The end stays: each is answered at once, and none of them hangs.
                counted = Counted(conn.recv(100, expires=soon()))
                with contextlib.suppress(sock.ConnectionReset):
                    assert await counted == b''
                assert counted.waits == 0

    run(main)


@pytest.mark.parametrize('waits', [False, True])
@pytest.mark.parametrize('end', ['fin', 'reset'])
def test_s09_data_comes_before_the_end(run, peer, end, waits):
    """Scenario 9: Peer sends data and FIN together, or data and RST -> all the data the kernel still has is delivered
    first."""
    conn, other = peer
    data = os.urandom(100_000)

    async def reads():
        got = b''
        try:
            while piece := await conn.recv(777, expires=soon()):
                got += piece
        except sock.ConnectionReset:
            assert end == 'reset'
        else:
            assert end == 'fin'
        return got

    async def main():
        if waits:
            thread = sock.newthread(reads)
        other.sendall(data)
        if end == 'reset':
            # Not before all is on our side.
            while LINUX and outstanding(other):
                await sock.sleep(0.001)
            reset_on_close(other)
        other.close()
        if not waits:
            thread = sock.newthread(reads)
        got = await thread
        assert got == data[: len(got)]
        # Other systems drop what was not read when a reset comes.
        assert len(got) == len(data) or (end == 'reset' and not LINUX)

    run(main)


@pytest.mark.parametrize('size', [1, 7, 64, 300])
def test_s10_read_that_does_not_drain_then_a_wait(run, peer, size):
    """Scenario 10: Edge-triggered: a read that does not drain is followed by a wait -> no hang. A read of exactly the
    buffer's size -> no hang."""
    conn, other = peer

    async def main():
        buf = bytearray(size)
        for _ in range(20):
            # One edge, two reads of exactly the buffer's size and one that is shorter, unless it is one byte.
            left = 2 * size + size // 2
            other.sendall(b'x' * left)
            while left:
                await conn.readable(soon())
                n = await conn.recv(buf, expires=soon())
                assert n == min(size, left) or (run.way == 'chaos' and 0 < n < min(size, left))
                left -= n
        # Nothing is left, and what comes next is waited for.
        thread = sock.newthread(conn.recv(buf, expires=soon()))
        assert not thread.done
        other.sendall(b'y')
        assert await thread == 1

    run(main)


def test_s11_hang_up_of_an_unconnected_socket_is_nothing(run):
    """Scenario 11: EPOLLHUP on a fresh unconnected socket -> nothing happens.

    The kernel reports it of a registered socket that is not connected (any more), together with "writable".
    """

    async def main():
        with sock.tcp() as s, socket.socket() as dead, socket.create_server(('127.0.0.1', 0)) as live:
            dead.bind(('127.0.0.1', 0))
            live.settimeout(PATIENCE)
            with pytest.raises(sock.NotConnected):
                await s.recv(10)
            with pytest.raises((sock.NotConnected, sock.BrokenPipe)):
                await s.send(b'x')
            with pytest.raises(sock.ConnectionRefused):
                await s.connect(*dead.getsockname())
            # It is registered from here on, whatever the system did at once.
            await s.readable(soon())
            await rounds()
            assert not s.closed
            assert s.remote_addr is None
            await s.connect(*live.getsockname(), expires=soon())
            with live.accept()[0] as other:
                thread = sock.newthread(s.recv(10, expires=soon()))
                await rounds()
                assert not thread.done, 'the hang-up was taken for an end'
                other.sendall(b'y')
                assert await thread == b'y'

    run(main)


@pytest.mark.not_under('chaos', 'it counts wake-ups, of which there are more then, for nothing')
@pytest.mark.parametrize('what', ['data', 'end', 'room', 'connection', 'datagram'])
def test_s12_event_that_came_long_before_the_wait(run, what):
    """Scenario 12: Waiting starts after the event has come, minutes before -> returns at once.

    Many rounds of polling before: the event was taken up while nobody waited for it.
    """
    name = {'data': 'recv', 'end': 'recv', 'room': 'send', 'connection': 'accept', 'datagram': 'udp recv'}[what]

    async def main(ours, other):
        # Registered: a wait that was given up.
        thread = sock.newthread(OPERATIONS[name].call(ours))
        assert not thread.done
        thread.cancel()
        with pytest.raises(sock.Cancelled):
            await thread
        await rounds()
        if what == 'end':
            other.shutdown(socket.SHUT_WR)
        elif what == 'room':
            other.settimeout(0.1)
            with contextlib.suppress(TimeoutError):
                while True:
                    other.recv(1 << 20)
        else:
            OPERATIONS[name].feed(other)
        await rounds()
        counted = Counted(OPERATIONS[name].call(ours, expires=soon()))
        result = await counted
        assert counted.waits == 0
        if what == 'connection':
            result[0].close()
        else:
            assert result == (0 if what == 'end' else 5)

    with sides(name, clogged=what == 'room') as (ours, other):
        run(main, ours, other)
