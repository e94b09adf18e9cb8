"""Looking in: what threads wait for, and where."""

import io
import re
import sys
import threading
import time

import pytest
import sock
from sock import _scheduler
from support import run


def soon(seconds=10):
    return sock.clock() + seconds


def test_waiting_says_what_for(peer):
    conn, _ = peer
    host = f'127.0.0.1:{conn.remote_addr.port}'

    async def main():
        listener = sock.tcp()
        udp = sock.udp()
        lock = sock.Lock('of the house')
        with listener, udp:
            listener.listen('127.0.0.1')
            udp.bind('127.0.0.1')
            await lock.acquire()
            sleeper = sock.newthread(_await, sock.sleep(1.5))
            expected = {
                f'recv tcp {host}': sock.newthread(_await, conn.recv(10)),
                f'accept tcp {listener.local_addr}': sock.newthread(_await, listener.accept()),
                f'recvfrom udp {udp.local_addr}': sock.newthread(_await, udp.recvfrom(10)),
                'suspend': sock.newthread(_await, sock.suspend()),
                f'await thread {sleeper.name}': sock.newthread(_await, sleeper),
                "acquire of lock 'of the house', held by thread 'test'": sock.newthread(lock.acquire),
                'wait for an event': sock.newthread(sock.Event().wait),
            }
            # Its length, as far as it took no time to begin.
            assert sleeper.waiting.startswith(('sleep 1.5', 'sleep 1.4'))
            assert sleeper.waiting.endswith(' s')
            for what, thread in expected.items():
                assert thread.waiting == what
            expected['sleep'] = sleeper
            assert sock.thread().waiting is None
            for thread in expected.values():
                thread.cancel()
                assert thread.waiting is None, 'it is ready to run'
            for thread in expected.values():
                try:
                    await thread
                except sock.Cancelled:
                    pass
                assert thread.waiting is None

    run(main)


async def _await(what):
    await what


async def _numbers():
    await sock.suspend()
    yield 1


async def _outer():
    async for _ in _numbers():
        pass


def test_stack_says_where_also_inside_async_generators():
    async def main():
        thread = sock.newthread(_outer)
        assert [frame.name for frame in thread.stack()] == ['_outer', '_numbers']
        assert thread.waiting == 'suspend'
        assert thread.stack()[-1].line == 'await sock.suspend()'
        assert [frame.name for frame in sock.thread().stack()][:2] == ['main', 'stack']
        thread.cancel()
        try:
            await thread
        except sock.Cancelled:
            pass
        assert len(thread.stack()) == 0

    run(main)


def test_stack_says_where_a_thread_runs_in_another_os_thread():
    over, runs = threading.Event(), threading.Event()

    def inner():
        runs.set()

    async def computes():
        while not over.is_set():
            inner()

    def other():
        sock.run(computes)

    os_thread = threading.Thread(target=other)
    os_thread.start()
    try:
        assert runs.wait(20)
        (poller,) = (poller for poller in _scheduler._all_pollers() if sock.threads(poller))
        (thread,) = sock.threads(poller)
        for _ in range(200):
            assert [frame.name for frame in thread.stack()][:1] == ['computes']
    finally:
        over.set()
        os_thread.join()


def test_threads_lists_those_that_live():
    async def main():
        threads = [sock.newthread(_await, sock.sleep(60)) for _ in range(3)]
        assert set(sock.threads()) == {*threads, sock.thread()}
        assert sock.threads(sock.Poller()) == []
        for thread in threads:
            thread.cancel()

    run(main)


def test_dump_prints_them_all():
    async def main():
        thread = sock.newthread(_outer)
        sleeper = sock.newthread(_await, sock.sleep(60))
        out = io.StringIO()
        sock.dump(out)
        text = out.getvalue()
        assert '3 threads of' in text
        assert '2 wait, 1 run or are ready' in text
        assert "thread 'test' runs, or is ready to\n" in text
        assert f'thread {thread.name!r} waits: suspend' in text
        assert f'thread {sleeper.name!r} waits: sleep ' in text
        assert 'in _numbers' in text
        thread.cancel()
        sleeper.cancel()

    run(main)
    out = io.StringIO()
    sock.dump(out)
    assert 'no threads' in out.getvalue()


def test_stats_of_a_stream(peer):
    conn, other = peer

    async def main():
        assert conn.stats == (0, 0, 0, 0)
        await conn.send(b'12345')
        other.sendall(b'123')
        await conn.recv(10)
        assert conn.stats == sock.Stats(bytes_received=3, recv_calls=1, bytes_sent=5, send_calls=1)

    run(main)


@pytest.mark.parametrize('look', ['stack', 'waiting', 'dump'])
def test_looking_at_threads_that_come_and_go_in_other_os_threads(look):
    """None of them is disturbed, and none is seen half-way: on free-threaded Python both have crashed."""
    looked, over = 0, threading.Event()
    current = [None] * 3

    async def leaf():
        await sock.sleep(0)

    async def short():
        await leaf()

    async def works(i):
        while not over.is_set():
            await leaf()
            current[i] = sock.newthread(short)
            await current[i]

    def looks():
        nonlocal looked
        while not over.is_set():
            if look == 'dump':
                sock.dump(io.StringIO())
            for thread in filter(None, current):
                if look == 'waiting':
                    assert thread.waiting in (None, 'sleep 0.0 s', 'sleep')
                else:
                    assert {frame.name for frame in thread.stack()} <= {'short', 'leaf', 'sleep'}
            looked += 1

    async def main():
        threads = [sock.newthread(works, i) for i in range(3)]
        await sock.sleep(1)
        over.set()
        for thread in threads:
            await thread

    lookers = [threading.Thread(target=looks) for _ in range(2)]
    for looker in lookers:
        looker.start()
    try:
        sock.run(main, threads=2)
    finally:
        over.set()
        for looker in lookers:
            looker.join()
    assert looked > 0


# The watchdog


@pytest.fixture
def barks():
    """What the watchdog's hook was called with; `.came` is set by each."""

    class Barks(list):
        came = threading.Event()

        def hook(self, name, seconds, stack):
            self.append((name, seconds, stack))
            self.came.set()

    barks = Barks()
    barks.came.clear()
    return barks


def holds_the_loop(barks):
    """Runs, without waiting, until the watchdog has barked."""
    assert barks.came.wait(10)


def test_watchdog_names_the_thread_that_holds_the_loop(barks):
    async def hog():
        await sock.sleep(0)
        holds_the_loop(barks)

    async def main():
        sock.newthread(sock.sleep, 0.001)
        await sock.newthread(hog, name='hog')

    with sock.watchdog(0.05, barks.hook):
        sock.run(main)
    [(name, seconds, stack)] = barks
    assert name == 'hog'
    assert 0.05 <= seconds < 10
    names = [frame.name for frame in stack]
    assert names[:2] == ['hog', 'holds_the_loop']


def test_watchdog_names_the_thread_whose_turn_it_is_and_shows_what_runs_inside(barks):
    async def inner():
        holds_the_loop(barks)

    async def main():
        await sock.sleep(0)
        sock.newthread(inner)

    with sock.watchdog(0.05, barks.hook):
        sock.run(main)
    [(name, _, stack)] = barks
    assert name.startswith('main-')
    assert [frame.name for frame in stack][:3] == ['main', 'inner', 'holds_the_loop']


def test_watchdog_tells_of_each_os_thread(barks):
    both = threading.Barrier(2)

    async def hog():
        await sock.sleep(0)
        both.wait(10)
        deadline = time.monotonic() + 10
        while len(barks) < 2 and time.monotonic() < deadline:
            time.sleep(0.001)

    async def main():
        async with sock.group() as g:
            g.newthread(hog, name='one')
            g.newthread(hog, name='other')

    with sock.watchdog(0.05, barks.hook):
        sock.run(main, threads=2)
    assert sorted(name for name, _, _ in barks) == ['one', 'other']


def test_watchdog_is_silent_about_short_turns_and_waits(barks):
    async def main():
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            await sock.sleep(0)
        await sock.sleep(0.3)

    with sock.watchdog(0.1, barks.hook):
        sock.run(main)
    assert barks == []


def test_watchdog_tells_of_a_turn_once_and_goes_on_after_a_hook_that_fails(capsys):
    count = threading.Semaphore(0)

    def hook(name, seconds, stack):
        count.release()
        raise KeyError(name)

    async def hog():
        for _ in range(2):
            await sock.sleep(0)
            assert count.acquire(timeout=10)
            assert not count.acquire(timeout=0.1), 'twice for one turn'

    with sock.watchdog(0.03, hook):
        sock.run(hog)
    assert capsys.readouterr().err.count('Traceback') == 2


def test_watchdog_prints_to_stderr_by_default_and_ends_with_stop(monkeypatch):
    class Printed(list):
        write = list.append

    # Two OS threads may not use that of pytest at once.
    err = Printed()
    monkeypatch.setattr(sys, 'stderr', err)

    async def hog():
        await sock.sleep(0)
        until = time.monotonic() + 10
        while not err and time.monotonic() < until:
            pass

    dog = sock.watchdog(0.05)
    sock.run(hog)
    dog.stop()
    assert re.match(r"sock: thread 'hog-\d+' has held its loop for 0\.\d+ s\n  File .* in hog\n", ''.join(err))
    assert not any(thread.name == 'sock watchdog' for thread in threading.enumerate())


@pytest.mark.parametrize(
    ('args', 'error', 'says'),
    [
        (('x',), TypeError, 'watchdog takes seconds, not str'),
        ((0,), ValueError, 'watchdog takes more than 0 seconds, not 0'),
        ((float('nan'),), ValueError, 'not nan'),
        ((1, 'x'), TypeError, 'hook must be a function or None, not str'),
    ],
)
def test_watchdog_refuses(args, error, says):
    with pytest.raises(error, match=says):
        sock.watchdog(*args)
