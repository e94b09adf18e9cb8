"""Scenarios 51 to 60: several OS threads that poll one Poller."""

import contextlib
import contextvars
import ctypes
import gc
import itertools
import os
import queue
import random
import socket
import statistics
import sys
import threading
import time
import traceback
import types

import pytest
import sock
from support import PROCESSORS, SLOWER, busy, polling

#: No wait may outlast its event by so many seconds, on whatever machine.
LATE = 2

#: For so many seconds sides that are to meet try again.
PATIENCE = 25


def late_by(amid):
    """Amid chaos an answer comes byte by byte, with waits for nothing in between: each of them needs its OS thread to
    get the processor, which on a busy machine takes its time. One that was never woken is the watchdog's."""
    return LATE if amid == 'plain' else LATE * busy()


async def pings(conn, rounds):
    """Answers of a peer in another OS thread, one by one: the longest that one took."""
    longest = 0
    answer = bytearray(8)
    for i in range(rounds):
        begin = sock.clock()
        await conn.send(b'%08d' % i)
        assert await conn.recvn(answer) == 8
        assert answer == b'%08d' % i
        longest = max(longest, sock.clock() - begin)
    return longest


@contextlib.contextmanager
def echoing():
    """A connection to a peer of the standard library that echoes in an OS thread of its own."""
    ours, other = socket.socketpair()

    def echo():
        with other:
            while data := other.recv(100):
                other.sendall(data)

    os_thread = threading.Thread(target=echo)
    os_thread.start()
    with sock.fromsocket(ours) as conn:
        yield conn
    os_thread.join(10)
    assert not os_thread.is_alive()


def test_s51_wake_up_while_the_leader_gives_up_the_lead_is_never_late(amid):
    """Scenario 51: A wake-up comes while the leader gives up the lead -> someone polls; no wait outlasts its event."""
    over = False

    def come_and_go():
        # Each leads now and then, and gives up the lead at any moment.
        while not over:
            sock.start(random.random() / 500)
        return True

    async def suspends(rounds):
        longest = 0
        for _ in range(rounds):
            asked.put(sock.clock())
            longest = max(longest, sock.clock() - await sock.suspend())
        return longest

    def resume(thread):
        while (at := asked.get()) is not None:
            thread.resume(at)

    async def main():
        nonlocal over
        suspended = sock.newthread(suspends, 1000)
        resuming = threading.Thread(target=resume, args=(suspended,))
        resuming.start()
        with echoing() as conn:
            late = [await pings(conn, 1000), await suspended]
            late.append(await _sleeps(300))
        asked.put(None)
        await sock.offload(resuming.join)
        over = True
        return max(late)

    asked = queue.SimpleQueue()
    thread = sock.newthread(main)
    with polling(3, come_and_go):
        while not thread.done:
            sock.start(random.random() / 500)
        over = True
    assert thread.result() < late_by(amid)


async def _sleeps(rounds):
    longest = 0
    for _ in range(rounds):
        begin = sock.clock()
        await sock.sleep(0.0005)
        longest = max(longest, sock.clock() - begin)
    return longest


@pytest.mark.not_under('virtual-clock', 'it is about how long something takes, and the clock stands still meanwhile')
@pytest.mark.parametrize('count', sorted({max(2, PROCESSORS), 8}))
def test_s52_idle_os_threads_take_no_processor_time_and_a_burst_finds_them_all_within_a_millisecond(amid, count):
    """Scenario 52: All but one OS thread idle for an hour -> no processor time; then a burst -> all work within a
    millisecond."""

    async def works(begin, places):
        places.add(threading.get_ident())
        while len(places) < count and sock.clock() < begin + 1:
            # Lets go of the interpreter and keeps its OS thread, so that each needs one of its own.
            time.sleep(0)
        return sock.clock() - begin

    async def starts(begin, places):
        await sock.sleep(0)
        return await works(begin, places)

    async def main():
        before = time.process_time()
        await sock.sleep(0.5)
        idle = time.process_time() - before
        passed = []
        for _ in range(30):
            await sock.sleep(0.005)
            begin, places = sock.clock(), set()
            burst = [sock.newthread(starts, begin, places) for _ in range(count)]
            taken = [await thread for thread in burst]
            assert len(places) == count, f'{len(places)} OS threads work'
            passed.append(max(taken))
        return idle, statistics.median(passed)

    idle, passed = sock.run(main, threads=count)
    # Half a second, and not an hour: a spin or a tick would show as well.
    assert idle < 0.05
    # The median of many. Measured on two processors, with a load of 10: 0.1 to 0.4 ms.
    assert passed < 0.001 * busy()


@pytest.mark.not_under('virtual-clock', 'it stands still while an OS thread computes, which would compute for ever')
def test_s53_os_thread_that_computes_for_a_second_leaves_all_events_to_the_others(amid):
    """Scenario 53: One OS thread computes for a second -> the others take all events meanwhile."""
    computing = [None, None]

    async def computes():
        computing[0] = sock.clock()
        while sock.clock() < computing[0] + 1:
            pass
        computing[1] = sock.clock()

    async def main():
        with echoing() as conn:
            await pings(conn, 10)
            thread = sock.newthread(_later(computes))
            await sock.sleep(0.02)
            late = []
            while not thread.done:
                late.append(await pings(conn, 1))
            await thread
        return late

    late = sock.run(main, threads=2)
    # A switch of the interpreter's lock takes up to 5 ms, and each answer needs some.
    assert len(late) > 10
    assert max(late) < 0.5 * busy()


def _later(func):
    async def later():
        await sock.sleep(0)
        return await func()

    return later


def rounds_until(seen, *expected):
    """Moments, in seconds from -3 ms to 3 ms, by which one side is to be behind the other: all of them, and again until
    each outcome was seen, since a machine that is busy with other things has its own idea of what is at once."""
    until = sock.clock() + PATIENCE * SLOWER
    for i in itertools.count():
        if i >= 240 and seen in expected:
            return
        assert sock.clock() < until, f'only {seen} after {i} rounds'
        yield (i * 7 % 40 - 20) * 1.5e-4


def _wait_for(seconds):
    if seconds > 0:
        time.sleep(seconds)


@pytest.mark.parametrize(('also', 'outcome'), [('expiry', 'Timeout'), ('cancel', 'Cancelled'), ('close', 'Closed')])
def test_s54_thread_that_two_sides_resume_at_once_runs_once(amid, switching, also, outcome):
    """Scenario 54: A thread is resumed by two sides at once (event and expiry, resume and cancel) -> runs once."""
    outcomes, expected = set(), [{'x', outcome}]
    if (amid, also) == ('virtual-clock', 'expiry'):
        # It does not jump while a thread awaits `offload`, as both sides do: the deadline passes first by chance alone.
        expected.append({'x'})

    async def waits(conn, expires, ran):
        for _ in range(2):
            try:
                if ran:
                    # A second wake-up of the first wait would end this one.
                    await sock.sleep(0.002)
                    ran.append('slept')
                else:
                    ran.append((await conn.recv(1, expires=expires)).decode())
            except (sock.Timeout, sock.Cancelled, sock.Closed) as exc:
                ran.append(type(exc).__name__)
        return ran

    async def main():
        for behind in rounds_until(outcomes, *expected):
            ours, other = socket.socketpair()
            conn = sock.fromsocket(ours)
            barrier = threading.Barrier(2)
            with conn, other:
                t = sock.clock() + 0.004
                thread = sock.newthread(waits, conn, t if also == 'expiry' else None, [])

                def sends(other=other, barrier=barrier, t=t, behind=behind):
                    barrier.wait(10)
                    _wait_for(t - behind - sock.clock() if also == 'expiry' else -behind)
                    with contextlib.suppress(BrokenPipeError):
                        other.sendall(b'x')

                def ends(thread=thread, conn=conn, barrier=barrier, behind=behind):
                    barrier.wait(10)
                    _wait_for(behind)
                    {'expiry': lambda: None, 'cancel': thread.cancel, 'close': conn.close}[also]()

                sides = [sock.newthread(sock.offload, side) for side in (sends, ends)]
                ran = await thread
                for side in sides:
                    await side
            first, second = ran
            match also, first:
                case 'cancel', 'x':
                    # It came first: the cancel is for the next wait, or came even later.
                    assert second in ('Cancelled', 'slept')
                case 'cancel', 'Cancelled':
                    assert second == 'slept'
                case 'expiry', 'x' | 'Timeout':
                    assert second == 'slept'
                case 'close', 'x' | 'Closed':
                    assert second == 'slept'
                case _:
                    pytest.fail(f'{ran}')
            outcomes.add(first)

    sock.run(main, threads=3)


def test_s54_resume_and_cancel_at_once_are_each_felt_once(amid, switching):
    """Scenario 54: A thread is resumed by two sides at once (event and expiry, resume and cancel) -> runs once."""
    orders = set()

    async def waits():
        ran = []
        while len(ran) < 2:
            try:
                ran.append(await sock.suspend())
            except sock.Cancelled:
                ran.append('cancelled')
        return ran

    async def main():
        either = {('cancelled', 'resumed'), ('resumed', 'cancelled')}
        for behind in rounds_until(orders, either):
            thread = sock.newthread(waits)
            barrier = threading.Barrier(2)

            def resumes(thread=thread, barrier=barrier, behind=behind):
                barrier.wait(10)
                _wait_for(-behind)
                thread.resume('resumed')

            def cancels(thread=thread, barrier=barrier, behind=behind):
                barrier.wait(10)
                _wait_for(behind)
                thread.cancel()

            sides = [sock.newthread(sock.offload, side) for side in (resumes, cancels)]
            ran = await thread
            for side in sides:
                await side
            assert sorted(ran) == ['cancelled', 'resumed']
            orders.add(tuple(ran))

    sock.run(main, threads=3)


@pytest.mark.parametrize('how', ['its time passes', 'its function raises', 'it is broken off'])
@pytest.mark.not_under(
    'virtual-clock', 'it stands still while a thread looks for the OS thread that leads, and others sleep meanwhile'
)
def test_s55_os_thread_that_leaves_while_it_leads_leaves_the_rest_going_on(amid, how):
    """Scenario 55: An OS thread leaves (returns, raises, dies) while leader -> the rest go on."""
    poller = sock.poller()
    leads = threading.Event()
    left, caught = [], threading.Event()

    def leave():
        sock.poller(poller)
        place.append(threading.get_ident())
        leads.set()
        try:
            left.append(sock.start(0.1 if how == 'its time passes' else 30))
        except SystemExit as exc:
            left.append(exc)

    async def there():
        # In the OS thread that is to leave, whenever this comes to it.
        await sock.sleep(0)
        while threading.get_ident() != place[0]:
            await sock.sleep(0)

    async def raises():
        await there()
        raise SystemExit

    async def spins():
        await there()
        caught.set()
        while True:
            pass

    def breaks_off():
        caught.wait(10)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(place[0]), ctypes.py_object(SystemExit))

    async def main():
        if how == 'its function raises':
            sock.newthread(raises)
        elif how == 'it is broken off':
            sock.newthread(sock.offload, breaks_off)
            sock.newthread(spins)
        late = []
        with echoing() as conn:
            while not left:
                late.append(await pings(conn, 5))
                await sock.sleep(0.002)
            late.append(await pings(conn, 100))
            late.append(await _sleeps(20))
        return max(late)

    place = []
    thread = sock.newthread(sock.suspend)
    leader = threading.Thread(target=leave)
    leader.start()
    assert leads.wait(10)
    # It polls alone, so it leads; others come only now.
    time.sleep(0.02)
    working = sock.newthread(main)
    working.onfinish(lambda _: thread.resume())
    with polling(2) as results:
        assert sock.start(30) is True
    leader.join(10)
    assert len(left) == 1
    assert results == [True, True]
    assert working.result() < late_by(amid)


def test_s56_poller_that_is_dropped_while_an_os_thread_polls_it_goes_on(amid, reported):
    """Scenario 56: Poller dropped while an OS thread polls it; handle of a dropped Poller set -> goes on to its end;
    ValueError; nothing dangles."""
    outcomes, polled = [], threading.Event()

    async def works():
        polled.set()
        await sock.sleep(0.1)
        with echoing() as conn:
            await pings(conn, 10)
        return 'whole'

    def poll(pollers):
        sock.poller(pollers.pop())
        thread = sock.newthread(works)
        outcomes.append((sock.start(30), thread.result()))

    pollers = [sock.Poller()]
    number = pollers[0]._handle
    os_thread = threading.Thread(target=poll, args=(pollers,))
    os_thread.start()
    assert polled.wait(10)
    gc.collect()
    os_thread.join(20)
    del os_thread
    gc.collect()
    assert outcomes == [(True, 'whole')]
    handle = {'epoll': sock.epoll_fd, 'kqueue': sock.kqueue_fd, 'iocp': sock.iocp}[sock._sock.POLL]
    with pytest.raises(ValueError, match=f'{number} is no live Poller of this process'):
        handle(number)
    assert not reported


def test_s57_socket_moves_to_another_poller_when_nobody_waits_on_it(amid):
    """Scenario 57: A socket made under one Poller, used under another -> moves over, or a RuntimeError that says what
    to do."""
    ours, other = socket.socketpair()
    conn = sock.fromsocket(ours)

    async def once(text):
        timer = threading.Timer(0.01, other.sendall, (text,))
        timer.start()
        assert await conn.recv(10) == text
        timer.join()
        return text

    with conn, other:
        for i in range(3):
            text = b'%d' % i
            # Each in an OS thread, and so a Poller, of its own; then back in this one.
            assert _elsewhere(sock.run, once, text) == text
            assert sock.run(once, text) == text


def _elsewhere(func, *args):
    result = []
    os_thread = threading.Thread(target=lambda: result.append(func(*args)))
    os_thread.start()
    os_thread.join(20)
    return result[0]


def test_s57_socket_on_which_a_thread_of_another_poller_waits_is_a_runtime_error_that_says_what_to_do(amid):
    """Scenario 57: A socket made under one Poller, used under another -> moves over, or a RuntimeError that says what
    to do."""
    ours, other = socket.socketpair()
    conn = sock.fromsocket(ours)

    async def fills():
        with pytest.raises(
            RuntimeError, match='a thread of another Poller waits on this socket: let one Poller have both'
        ):
            await conn.send(bytes(10_000_000))
        return True

    async def main():
        reader = sock.newthread(conn.recv, 1)
        await sock.sleep(0)
        assert await sock.offload(_elsewhere, sock.run, fills)
        # And the one that waited is undisturbed.
        assert not reader.done
        other.sendall(b'x')
        assert await reader == b'x'

    with conn, other:
        sock.run(main)


async def _in_turn(kind, things):
    """One turn of a thread that others want as well."""
    match kind:
        case 'lock':
            async with things.lock:
                pass
        case 'semaphore':
            async with things.semaphore:
                await sock.sleep(0)
        case 'condition':
            async with things.condition:
                # Whoever has waited longest is the next one, and then its turn comes again.
                things.condition.notify()
                await things.condition.wait()
        case 'queue, put':
            await things.full.put('item')
        case 'queue, get':
            await things.full.get()


@pytest.mark.parametrize(
    'kinds',
    [['lock'], ['semaphore'], ['condition'], ['queue, put', 'queue, get']],
    ids=['lock', 'semaphore', 'condition', 'queue'],
)
@pytest.mark.not_under('virtual-clock', 'it stands still while they contend, whose two seconds would never pass')
def test_s58_nobody_starves_for_a_second_under_contention_of_eight_os_threads(amid, kinds):
    """Scenario 58: Locks, semaphores, conditions and queues under contention from 8 OS threads -> fair enough (no
    starvation over 1 s), no lost item, FIFO per producer."""
    gaps = [0] * 16
    counts = [0] * 16

    async def work(things, i, end):
        before = sock.clock()
        with contextlib.suppress(sock.Closed):
            while (now := sock.clock()) < end:
                gaps[i] = max(gaps[i], now - before)
                before = now
                await _in_turn(kinds[i % len(kinds)], things)
                counts[i] += 1
        gaps[i] = max(gaps[i], end - before)

    async def main():
        things = types.SimpleNamespace(
            lock=sock.Lock(), semaphore=sock.Semaphore(3), condition=sock.Condition(), full=sock.Queue(1)
        )
        end = sock.clock() + 2
        threads = [sock.newthread(work, things, i, end) for i in range(16)]
        await sock.sleep_until(end)
        # Who waits now, waits for those who have ended.
        things.full.close()
        while not all(thread.done for thread in threads):
            async with things.condition:
                things.condition.notify_all()
            await sock.sleep(0.001)
        for thread in threads:
            await thread

    sock.run(main, threads=8)
    # Who has its turn needs a processor to use it, for which it waits among all the others of a busy machine.
    assert max(gaps) < max(1, busy() / 4), gaps
    for kind in range(len(kinds)):
        of_kind = counts[kind :: len(kinds)]
        assert min(of_kind) > max(of_kind) / 10, counts


def test_s58_queues_lose_no_item_and_keep_each_producers_order_over_eight_os_threads(amid):
    """Scenario 58: Locks, semaphores, conditions and queues under contention from 8 OS threads -> fair enough (no
    starvation over 1 s), no lost item, FIFO per producer."""
    producers, each = 8, 300

    async def produce(items, name):
        for i in range(each):
            await items.put((name, i))

    async def consume(items, got):
        async for item in items:
            got.append(item)

    def put(items):
        for i in range(each):
            while True:
                try:
                    items.put_nowait(('plain', i))
                    break
                except queue.Full:
                    continue

    async def main():
        items, got = sock.Queue(8), [[] for _ in range(4)]
        consumers = [sock.newthread(consume, items, each) for each in got]
        plain = threading.Thread(target=put, args=(items,))
        plain.start()
        for thread in [sock.newthread(produce, items, name) for name in range(producers)]:
            await thread
        await sock.offload(plain.join)
        items.close()
        for consumer in consumers:
            await consumer
        return got

    got = sock.run(main, threads=8)
    names = [*range(producers), 'plain']
    assert sorted(itertools.chain(*got), key=str) == sorted(((name, i) for name in names for i in range(each)), key=str)
    for of_one in got:
        for name in names:
            numbers = [i for who, i in of_one if who == name]
            assert numbers == sorted(numbers)


def _collect():
    gc.collect()


def _trace():
    sys.settrace(lambda *_: None)
    sys.settrace(None)


def _trace_all():
    threading.settrace_all_threads(lambda *_: None)
    threading.settrace_all_threads(None)


def _monitor():
    events = sys.monitoring.events
    sys.monitoring.use_tool_id(5, 'test')
    sys.monitoring.register_callback(5, events.PY_START, lambda *_: None)
    sys.monitoring.set_events(5, events.PY_START)
    sys.monitoring.set_events(5, 0)
    sys.monitoring.register_callback(5, events.PY_START, None)
    sys.monitoring.free_tool_id(5)


def _fork():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


PAUSES = {'collector': _collect, 'settrace': _trace}
if hasattr(threading, 'settrace_all_threads'):
    PAUSES['settrace in all OS threads'] = _trace_all
if hasattr(sys, 'monitoring'):
    PAUSES['monitoring'] = _monitor
if hasattr(os, 'fork'):
    PAUSES['fork'] = _fork


@pytest.mark.parametrize('pause', PAUSES)
@pytest.mark.filterwarnings('ignore:.*fork.*:DeprecationWarning')
def test_s59_pauses_of_the_whole_interpreter_stall_nothing(amid, pause):
    """Scenario 59: Stop-the-world pauses of free-threaded Python (gc, sys.settrace) while some wait in the kernel ->
    no stall, no deadlock."""
    over = False
    paused = 0

    def pausing():
        nonlocal paused
        while not over:
            PAUSES[pause]()
            paused += 1
            time.sleep(0)

    async def churns():
        while not over:
            await sock.newthread(sock.sleep(0))
            await sock.sleep(0.001)

    async def main():
        nonlocal over
        churning = [sock.newthread(churns) for _ in range(4)]
        os_thread = threading.Thread(target=pausing)
        os_thread.start()
        try:
            with echoing() as conn:
                late = [await pings(conn, 100), await _sleeps(50)]
                while paused <= 3:
                    late.append(await pings(conn, 1))
        finally:
            over = True
            await sock.offload(os_thread.join)
        for thread in churning:
            await thread
        return max(late)

    assert sock.run(main, threads=4) < late_by(amid)


async def _everywhere(count, places):
    """Waits until it has been on so many OS threads."""
    while len(places) < count:
        await sock.sleep(0)
        places.add(threading.get_ident())


async def _hop():
    """Comes back on another OS thread."""
    here = threading.get_ident()
    while threading.get_ident() == here:
        await sock.sleep(0)


@contextlib.asynccontextmanager
async def several_at_work():
    """Enough to do that threads change places."""
    over = False

    async def spins():
        while not over:
            await sock.sleep(0)

    spinning = [sock.newthread(spins) for _ in range(6)]
    try:
        yield
    finally:
        over = True
        for thread in spinning:
            await thread


def test_s60_context_and_exceptions_follow_the_thread(amid):
    """Scenario 60: contextvars, exceptions, tracing and profilers follow the thread across OS threads."""
    var = contextvars.ContextVar('var', default='unset')

    async def hops(name):
        var.set(name)
        token = var.set(name * 2)
        await _hop()
        assert var.get() == name * 2
        var.reset(token)
        assert var.get() == name
        try:
            raise KeyError(name)
        except KeyError as handled:
            await _hop()
            # What is being handled is the thread's, and not the OS thread's.
            seen = sys.exc_info()[1]
            with pytest.raises(ValueError, match=name) as failed:
                await fails(name)
            assert (seen, failed.value.__context__) == (handled, handled)  # noqa: PT017
            assert [frame.name for frame in traceback.extract_tb(failed.tb)] == ['hops', 'fails']
        assert sys.exc_info() == (None, None, None)
        await _hop()
        assert sys.exc_info() == (None, None, None)

    async def fails(name):
        await _hop()
        raise ValueError(name)

    async def main():
        var.set('outer')
        async with several_at_work():
            for thread in [sock.newthread(hops, name) for name in 'abcdef']:
                await thread
        assert var.get() == 'outer'

    sock.run(main, threads=3)


async def _traced(rounds, places):
    for _ in range(rounds):
        places.add(threading.get_ident())
        await _inner()
        await _hop()


async def _inner():
    return None


def test_s60_tracing_and_profilers_see_the_thread_on_each_os_thread(amid):
    """Scenario 60: contextvars, exceptions, tracing and profilers follow the thread across OS threads."""
    rounds, seen = 20, []
    places = set()

    def see(frame, event, arg):
        if event == 'call' and frame.f_code is _inner.__code__:
            seen.append(threading.get_ident())

    async def main():
        async with several_at_work():
            await sock.newthread(_traced, rounds, places)

    for setting in (('settrace', 'gettrace'), ('setprofile', 'getprofile')):
        seen.clear()
        places.clear()
        old = getattr(sys, setting[1])(), getattr(threading, setting[1])()
        # For the OS threads that `run` starts, and for this one.
        getattr(threading, setting[0])(see)
        getattr(sys, setting[0])(see)
        try:
            sock.run(main, threads=3)
        finally:
            getattr(sys, setting[0])(old[0])
            getattr(threading, setting[0])(old[1])
        assert len(seen) == rounds
        assert {*seen} == places
        assert len(places) > 1
