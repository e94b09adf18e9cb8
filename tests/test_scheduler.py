"""Threads: starting, ending, awaiting, cancelling, suspending, and the loops that run them."""

import _thread
import contextvars
import gc
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
import weakref

import pytest
import sock
from conftest import PATIENCE
from held import ASAN
from sock import _scheduler
from support import LINUX, SLOWER, python, run


async def value(result):
    return result


async def raises(exc):
    raise exc


def test_newthread_runs_at_once_up_to_its_first_wait():
    steps = []

    async def func():
        steps.append('first')
        await sock.sleep(0)
        steps.append('second')

    thread = sock.newthread(func)
    assert steps == ['first']
    assert not thread.done
    assert sock.start() is True
    assert steps == ['first', 'second']
    assert thread.done


def test_newthread_inside_a_thread_comes_back_to_it_at_the_first_wait():
    steps = []

    async def inner():
        steps.append('inner')
        await sock.sleep(0)
        steps.append('inner again')

    async def outer():
        thread = sock.newthread(inner)
        assert sock.thread().name.startswith('outer')
        steps.append('outer')
        await thread

    sock.run(outer)
    assert steps == ['inner', 'outer', 'inner again']


def test_newthread_passes_arguments_and_takes_a_coroutine():
    assert sock.newthread(value, 7).result() == 7
    assert sock.newthread(value(8)).result() == 8


def test_newthread_names_threads():
    assert sock.newthread(value, 1, name='this').name == 'this'
    first, second = sock.newthread(value, 1), sock.newthread(value, 1)
    assert first.name.startswith('value-')
    assert first.name != second.name
    assert repr(first) == f'<sock.Thread {first.name!r} done>'


@pytest.mark.parametrize(
    ('func', 'args', 'says'),
    [
        (lambda: 5, (), 'which returned int'),
        (5, (), 'not 5'),
        (print, (), 'which returned NoneType'),
    ],
)
def test_newthread_of_no_coroutine_is_a_type_error(func, args, says):
    with pytest.raises(TypeError, match='async def function or a coroutine') as caught:
        sock.newthread(func, *args)
    assert says in str(caught.value)


def test_newthread_of_an_async_generator_is_a_type_error():
    async def generator():
        yield

    with pytest.raises(TypeError, match='which returned async_generator'):
        sock.newthread(generator)


def test_newthread_with_a_coroutine_and_arguments_is_a_type_error():
    coro = value(1)
    with pytest.raises(TypeError, match='arguments with a function'):
        sock.newthread(coro, 2)
    coro.close()


def test_newthread_with_a_wrong_name_is_a_type_error_and_leaves_nothing():
    with pytest.raises(TypeError, match='name must be a str, not int'):
        sock.newthread(value, 1, name=5)


def test_newthread_from_another_os_thread_uses_that_ones_poller():
    pollers = []

    def other():
        thread = sock.newthread(value, 3)
        pollers.append(sock.poller())
        assert thread.result() == 3

    os_thread = threading.Thread(target=other)
    os_thread.start()
    os_thread.join(10)
    assert pollers[0] is not sock.poller()


def test_each_thread_has_its_own_context():
    var = contextvars.ContextVar('var', default='unset')
    seen = []

    async def func(name):
        seen.append(var.get())
        var.set(name)
        await sock.sleep(0)
        seen.append(var.get())

    var.set('outside')
    sock.newthread(func, 'a')
    sock.newthread(func, 'b')
    sock.start()
    assert seen == ['outside', 'outside', 'a', 'b']
    assert var.get() == 'outside'


def test_thread_is_the_current_one_and_none_outside():
    async def func():
        return sock.thread()

    assert sock.thread() is None
    thread = sock.newthread(func)
    assert thread.result() is thread


def test_result_before_the_end_is_a_runtime_error():
    async def func():
        await sock.sleep(0)
        return 1

    thread = sock.newthread(func)
    with pytest.raises(RuntimeError, match='has not ended: await it'):
        thread.result()
    sock.start()
    assert thread.result() == 1


def test_result_raises_what_ended_the_thread():
    error = ValueError('x')
    thread = sock.newthread(raises, error)
    with pytest.raises(ValueError, match='x') as caught:
        thread.result()
    assert caught.value is error


def test_await_gives_the_result_to_any_number_of_waiters():
    async def slow():
        await sock.sleep(0)
        return 'done'

    async def waiter(thread):
        return await thread

    async def main():
        thread = sock.newthread(slow)
        waiters = [sock.newthread(waiter, thread) for _ in range(3)]
        return [await each for each in waiters] + [await thread]

    assert sock.run(main) == ['done'] * 4


def test_await_raises_the_exception_and_nobody_else_hears_of_it():
    async def slow():
        await sock.sleep(0)
        raise KeyError('k')

    async def main():
        with pytest.raises(KeyError):
            await sock.newthread(slow)

    sock.run(main)


def test_exception_of_a_thread_that_nobody_holds_is_reported_while_the_loop_goes_on(reported):
    async def main():
        sock.newthread(raises, ValueError('lost'))
        return len(reported)

    assert sock.run(main) == 1


def test_exception_of_a_thread_that_is_held_is_reported_when_the_loop_ends(reported):
    thread = sock.newthread(raises, ValueError('lost'))
    assert not reported
    sock.start()
    assert [each[0] for each in reported] == [thread]


def test_default_excepthook_prints_the_thread_and_the_traceback(capsys):
    try:
        raise ValueError('lost')
    except ValueError as exc:
        error = exc
    _scheduler.excepthook(sock.newthread(value, 1, name='loser'), error)
    printed = capsys.readouterr().err
    assert "'loser'" in printed
    assert 'ValueError: lost' in printed
    assert 'Traceback' in printed


def test_onfinish_is_called_at_the_end_or_at_once():
    ended = []

    async def func():
        await sock.sleep(0)

    thread = sock.newthread(func)
    thread.onfinish(ended.append)
    assert not ended
    sock.start()
    assert ended == [thread]
    thread.onfinish(ended.append)
    assert ended == [thread, thread]


def test_onfinish_that_fails_is_reported_and_the_others_are_called(reported):
    ended = []

    def fails(thread):
        raise ValueError('onfinish')

    async def func():
        await sock.sleep(0)

    thread = sock.newthread(func)
    thread.onfinish(fails)
    thread.onfinish(ended.append)
    sock.start()
    assert ended == [thread]
    assert [str(exc) for _, exc in reported] == ['onfinish']


# Cancelling


def test_cancel_raises_cancelled_where_the_thread_waits():
    seen = []

    async def func():
        try:
            await sock.sleep(60)
        except sock.Cancelled:
            seen.append('cancelled')
            raise

    thread = sock.newthread(func)
    thread.cancel()
    assert sock.start(10) is True
    assert seen == ['cancelled']
    with pytest.raises(sock.Cancelled):
        thread.result()


def test_cancelled_is_no_exception_and_is_not_reported():
    assert not issubclass(sock.Cancelled, Exception)

    async def func():
        await sock.sleep(60)

    sock.newthread(func).cancel()
    assert sock.start(10) is True


def test_cancel_of_a_thread_that_ended_does_nothing():
    thread = sock.newthread(value, 1)
    thread.cancel()
    assert thread.result() == 1


def test_cancel_of_a_waiter_leaves_the_awaited_thread_alone(reported):
    async def slow():
        await sock.sleep(0.01)
        raise ValueError('unseen')

    async def waiter(thread):
        await thread

    async def main():
        thread = sock.newthread(slow)
        waiting = sock.newthread(waiter, thread)
        waiting.cancel()
        with pytest.raises(sock.Cancelled):
            await waiting
        assert not thread.done
        while not thread.done:
            await sock.sleep(0.001)

    sock.run(main)
    assert [str(exc) for _, exc in reported] == ['unseen']


# Suspending


def test_suspend_returns_what_resume_brings_and_control_comes_back():
    steps = []

    async def func():
        steps.append(await sock.suspend())

    thread = sock.newthread(func)
    thread.resume('value')
    steps.append('back')
    assert steps == ['value', 'back']
    assert thread.done


def test_resume_before_suspend_is_kept_once():
    async def func():
        await sock.sleep(0)
        return await sock.suspend()

    thread = sock.newthread(func)
    thread.resume(1)
    with pytest.raises(RuntimeError, match='resumed already'):
        thread.resume(2)
    sock.start()
    assert thread.result() == 1


def test_resume_of_a_thread_that_ended_is_a_runtime_error():
    with pytest.raises(RuntimeError, match='has ended'):
        sock.newthread(value, 1).resume()


def test_resume_from_another_os_thread():
    async def func():
        return await sock.suspend()

    thread = sock.newthread(func)
    os_thread = threading.Thread(target=thread.resume, args=('there',))
    os_thread.start()
    assert sock.start(10) is True
    os_thread.join(10)
    assert thread.result() == 'there'


def test_resume_chain_does_not_recurse_without_bound():
    async def link(following):
        following.resume(1 + await sock.suspend())

    async def last():
        return await sock.suspend()

    end = following = sock.newthread(last)
    for _ in range(3000):
        following = sock.newthread(link, following)
    following.resume(0)
    assert sock.start(10) is True
    assert end.result() == 3000


def test_cancelled_suspend_leaves_the_value_for_the_next():
    async def func():
        with pytest.raises(sock.Cancelled):
            await sock.suspend()
        return await sock.suspend()

    thread = sock.newthread(func)
    thread.cancel()
    thread.resume('kept')
    assert sock.start(10) is True
    assert thread.result() == 'kept'


# Time


@pytest.mark.parametrize('count', [2, 50])
def test_circle_of_threads_that_await_each_other_is_garbage(reported, count):
    ended = []

    async def waits(threads, i):
        try:
            await sock.sleep(0)
            await threads[(i + 1) % count]
        finally:
            ended.append(i)

    threads = []
    for i in range(count):
        threads.append(sock.newthread(waits, threads, i))
    for _ in range(count):
        sock.poll(1)
    assert ended == []
    del threads
    gc.collect()
    assert sorted(ended) == [*range(count)]
    assert len(reported) == count
    assert sock.start(1) is True


@pytest.mark.parametrize('make', [sock.Event, sock.Condition, sock.Queue, lambda: sock.Semaphore(0)])
def test_thread_that_waits_for_what_nobody_else_has_is_garbage(reported, make):
    async def waits(what):
        match what:
            case sock.Event():
                await what.wait()
            case sock.Queue():
                await what.get()
            case sock.Condition():
                async with what:
                    await what.wait()
            case _:
                await what.acquire()
                await what.acquire()

    sock.newthread(waits, make(), name='waits')
    gc.collect()
    [(thread, exc)] = reported
    assert thread.name == 'waits'
    assert 'can never be resumed' in str(exc)


def test_threads_of_a_poller_that_is_gone_are_lost_and_their_finally_runs(reported):
    ended = []

    async def waits(name, operation):
        try:
            await operation()
        finally:
            ended.append(name)

    a, b = socket.socketpair()
    with b, sock.fromsocket(a) as s:

        def start_and_go():
            sock.newthread(waits, 'timer', lambda: sock.sleep(60))
            sock.newthread(waits, 'socket', lambda: s.recv(1))
            sock.newthread(waits, 'ready', lambda: sock.sleep(0))
            suspended = sock.newthread(waits, 'awaited', sock.suspend)
            sock.newthread(waits, 'suspended', lambda: suspended)

        os_thread = threading.Thread(target=start_and_go)
        os_thread.start()
        os_thread.join(10)
    gc.collect()
    assert sorted(ended) == ['awaited', 'ready', 'socket', 'suspended', 'timer']
    assert len(reported) == 5
    assert all('can never be resumed' in str(exc) for _, exc in reported)
    # Each keeps what is left of its poller.
    reported.clear()


@pytest.mark.parametrize('ends', [True, False])
def test_long_chain_of_threads_each_the_last_to_hold_the_next_goes(reported, ends):
    count = 20_000

    async def holds(other):
        if not ends:
            await sock.suspend()
        return other

    thread = None
    for _ in range(count):
        thread = sock.newthread(holds, thread)
    del thread
    assert len(reported) == (0 if ends else count)
    assert sock.threads() == []


@pytest.mark.skipif(not LINUX, reason='elsewhere what C keeps for an OS thread may go before what Rust keeps for it')
def test_os_thread_at_its_end_lets_go_of_threads_and_runs_some_when_its_own_memory_has_gone():
    """A destructor of pthread_key_create(3) is called after those of Rust's thread-locals."""
    program = """
        import ctypes, threading, time
        import sock

        libc = ctypes.CDLL(None)
        held, told = [], []

        async def holds(other):
            return other

        def chain():
            thread = None
            for _ in range(300):
                thread = sock.newthread(holds, thread)
            return thread

        async def talks():
            with sock.udp() as one, sock.udp() as other:
                other.bind('127.0.0.1')
                to = other.local_addr
                await one.sendmany([(b'one', to), (b'two', to)])
                # A thread in a thread, resumed.
                waits = sock.newthread(sock.suspend)
                waits.resume('resumed')
                return await waits, await other.recv(10), [data for data, _ in await other.recvmany(8)]

        @ctypes.CFUNCTYPE(None, ctypes.c_void_p)
        def at_end(_):
            try:
                # Each is the last to hold the next.
                held.clear()
                told.append((sock.run(talks), sock.threads()))
            except BaseException as error:
                told.append(repr(error))

        key = ctypes.c_uint()
        assert libc.pthread_key_create(ctypes.byref(key), at_end) == 0

        def works():
            # What Rust keeps is made here.
            assert sock.run(talks) and chain()
            held.append(chain())
            assert libc.pthread_setspecific(key, ctypes.c_void_p(1)) == 0

        os_thread = threading.Thread(target=works)
        os_thread.start()
        os_thread.join()
        end = time.monotonic() + 20
        while not told and time.monotonic() < end:
            time.sleep(0.001)
        print(told)
    """
    assert python(program) == "[(('resumed', b'one', [b'two']), [])]\n"


def test_lost_thread_that_excepthook_keeps_is_done_and_not_reported_again(monkeypatch, reported):
    kept = []
    monkeypatch.setattr(sock, 'excepthook', lambda thread, exc: kept.append((thread, str(exc))))

    async def lost():
        await sock.suspend()

    sock.newthread(lost, name='lost')
    [(thread, says)] = kept
    assert 'can never be resumed' in says
    assert (thread.name, thread.done, thread.waiting, thread.result()) == ('lost', True, None, None)
    with pytest.raises(RuntimeError, match='has ended'):
        thread.resume()
    del thread
    kept.clear()
    gc.collect()
    assert kept == []


def test_panic_of_ours_that_comes_out_of_a_thread_is_a_failure_of_that_thread():
    program = """if True:
        import gc, sock

        told = []
        sock.excepthook = lambda thread, exc: told.append(f'{thread.name}: {exc} {exc.__cause__ or ""}'.strip())
        bug = "a bug in sock: the panic's message is on stderr"

        async def fails():
            raise ValueError

        # PyO3 makes the class when it gets the first exception.
        sock.newthread(fails)
        told.clear()
        [Panic] = [each for each in BaseException.__subclasses__() if each.__name__ == 'PanicException']

        async def panics(wait):
            if wait:
                await sock.sleep(0)
            raise Panic('a test')

        async def lost():
            try:
                await sock.suspend()
            finally:
                raise Panic('a test')

        async def waits():
            await sock.suspend()

        def panic(thread):
            raise Panic('a test')

        async def ends():
            await sock.sleep(0)
            return 'ended'

        def check():
            gc.collect()
            assert (sock.thread(), sock._sock.is_polling(), sock.threads()) == (None, False, [])

        for wait in False, True:
            thread = sock.newthread(panics, wait, name='panics')
            assert sock.start(10)
            assert told.pop() == f'panics: {bug}'
            try:
                thread.result()
                raise SystemExit('no failure')
            except RuntimeError as error:
                assert str(error) == bug
            del thread
            check()

        async def main():
            me, ending = sock.thread(), sock.newthread(ends)
            for wait in False, True:
                try:
                    await sock.newthread(panics, wait)
                    raise SystemExit('no failure')
                except RuntimeError as error:
                    assert str(error) == bug
                assert sock.thread() is me
            called = sock.newthread(ends, name='called')
            called.onfinish(panic)
            assert await called == await ending == 'ended'
            assert told.pop() == f'called: {bug}'
            sock.newthread(lost, name='lost')
            gc.collect()
            assert bug in told.pop()
            assert sock.thread() is me

        sock.run(main)
        check()

        # While it is raised, threads that wait go, and their poller.
        class Goes:
            def __init__(self):
                self.thread = sock.newthread(waits, name='waits')

        def raises():
            goes, poller = Goes(), sock.Poller()
            raise Panic('a test')

        try:
            raises()
        except Panic as error:
            assert str(error) == 'a test'
            error.__traceback__ = None
        check()
        assert told.pop().startswith("waits: thread 'waits' can never be resumed")
        assert told == []
    """
    command = [sys.executable, '-c', program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50 * SLOWER, check=False)
    assert done.returncode == 0, done.stderr
    assert 'pyo3_runtime.PanicException: a test' in done.stderr


async def does_nothing():
    pass


def test_thread_in_the_memory_of_one_that_ended_is_another_one(monkeypatch):
    told = []
    monkeypatch.setattr(sock, 'excepthook', lambda thread, exc: told.append(str(exc)))

    async def lost():
        await sock.suspend()

    async def main():
        for n in range(1, 11):
            ended = sock.newthread(does_nothing, name='ended')
            await ended
            gone = weakref.ref(ended)
            # The last reference goes while a weak one looks on; after that, while none does.
            del ended
            assert gone() is None
            fresh = sock.newthread(does_nothing)
            assert (fresh.done, fresh.name.startswith('does_nothing-'), gone()) == (True, True, None)
            del fresh
            # Each is finalized, whatever was in its place before.
            sock.newthread(lost)
            sock.newthread(lost)
            assert len(told) == 2 * n

    sock.run(main)


def test_memory_of_threads_that_ended_goes_when_nothing_runs():
    async def main():
        threads = [sock.newthread(does_nothing) for _ in range(2000)]
        for thread in threads:
            await thread

    def blocks_left():
        gc.collect()
        before = sys.getallocatedblocks()
        # An OS thread of its own, for which nothing has been kept yet.
        runs = threading.Thread(target=sock.run, args=(main,))
        runs.start()
        runs.join(PATIENCE)
        gc.collect()
        return sys.getallocatedblocks() - before

    blocks_left()
    assert blocks_left() < 200


def test_objects_of_the_class_are_such_that_their_memory_can_be_used_again():
    collected, inherited = 1 << 14, 1 << 10
    kind = sock.Thread
    assert kind.__weakrefoffset__ > 0
    assert (kind.__dictoffset__, kind.__itemsize__) == (0, 0)
    assert kind.__flags__ & (collected | inherited) == collected


def test_memory_of_a_thousand_threads_is_kept_at_most():
    async def main():
        threads = []
        for _ in range(2):  # the second time, what else is made once is there
            threads.extend([sock.newthread(does_nothing) for _ in range(3000)])
            all_in_use = blocks()
            del threads[600:]
            given_back.append(all_in_use - blocks())
            # Memory for six hundred is kept where four hundred go; then there is enough.
            threads.extend([sock.newthread(does_nothing) for _ in range(1000)])
            in_use = blocks()
            del threads[-900:]
            given_back.append(in_use - blocks())
            del threads[:]
            given_back.append(in_use - blocks())

    def blocks():
        return len(tracemalloc.take_snapshot().traces)

    given_back = []
    tracemalloc.start()
    try:
        sock.run(main)
    finally:
        tracemalloc.stop()
    assert given_back[3:] == [pytest.approx(n, abs=30) for n in (1400, 0, 600)]


def objects():
    """All Thread objects that the collector sees."""
    return [each for each in gc.get_objects() if type(each) is sock.Thread]


class Held(list):
    pass


@pytest.mark.parametrize('end', ['returned', 'failed', 'lost'])
@pytest.mark.parametrize('called', [True, False])
def test_memory_of_threads_that_the_collector_took_is_used_again(monkeypatch, end, called):
    told = []
    monkeypatch.setattr(sock, 'excepthook', lambda thread, exc: told.append(thread.name))

    async def ends(held):
        if end == 'failed':
            raise ValueError(held)
        if end == 'lost':
            await sock.suspend()
        return held

    async def lost():
        await sock.suspend()

    async def main():
        before, places = objects(), set()
        for _ in range(20):
            gone, references = [], []
            for _ in range(50):
                held = Held()
                thread = sock.newthread(ends, held, name='circle')
                held.append(thread)
                references.append(weakref.ref(thread, gone.append if called else None))
                places.add(id(thread))
            del thread, held
            gc.collect()
            assert [reference() for reference in references] == [None] * 50
            assert sorted(map(id, gone)) == sorted(map(id, references if called else []))
            assert told == ([] if end == 'returned' else ['circle'] * 50)
            told.clear()
            # Others, some in the same places, are whole: each is found once, told of once, and has its own name.
            fresh = [sock.newthread(does_nothing, name=str(i)) for i in range(100)]
            found = objects()
            assert len({*map(id, found)}) == len(found)
            assert {*map(id, found)} == {*map(id, before), *map(id, fresh)}
            assert [thread.name for thread in fresh] == [str(i) for i in range(100)]
            assert all(thread.done for thread in fresh)
            assert weakref.getweakrefcount(fresh[0]) == 0
            again.append(len(places & {*map(id, fresh)}))
            del found, fresh
            for i in range(100):
                sock.newthread(lost, name=str(i))
            assert told == [str(i) for i in range(100)]
            told.clear()
            gc.collect()

    again = []
    sock.run(main)
    # AddressSanitizer keeps what was given back for long, so that nobody gets it.
    assert ASAN or sum(again) > 0, 'no place was used again'


def test_memory_of_a_thread_goes_to_whichever_os_thread_lets_go_of_it(monkeypatch):
    """It is made on one, and used again on the other, whose own it is then."""
    again, told = [], []
    # Names alone: frames of a traceback would keep threads.
    monkeypatch.setattr(sock, 'excepthook', lambda thread, exc: told.append(thread.name))

    async def makes(count):
        return [sock.newthread(value, i, name=str(i)) for i in range(count)]

    async def takes(threads, count):
        places = {*map(id, threads)}
        last = weakref.ref(threads[-1])
        del threads[:]
        assert last() is None
        made = await makes(count)
        assert [thread.result() for thread in made] == [*range(count)]
        again.append(len(places & {*map(id, made)}))
        found = objects()
        assert len({*map(id, found)}) == len(found)
        # A failure that nobody sees is told of: each is finalized.
        sock.newthread(raises, ValueError('unseen'), name='fails')
        return made

    def elsewhere(*args):
        made = []
        # The OS thread that made them has ended: on free-threaded builds it would have to let them go itself.
        os_thread = threading.Thread(target=lambda: made.extend(sock.run(*args)))
        os_thread.start()
        os_thread.join(PATIENCE)
        return made

    threads = elsewhere(makes, 50)
    for i in range(25):
        threads = elsewhere(takes, threads, 51 + i)
        gc.collect()
    # Where nothing runs, nothing is kept.
    del threads
    assert told == ['fails'] * 25
    assert sum(again) > 0, 'no place was used again'


def test_threads_of_one_os_thread_that_go_on_others_while_all_start_more():
    queues = [queue.SimpleQueue() for _ in range(3)]
    failures = []

    async def passes_on(here, there):
        for count in range(150):
            there.put([sock.newthread(value, i) for i in range(count % 40 + 1)])
            threads = here.get(timeout=PATIENCE)
            assert [thread.result() for thread in threads] == [*range(len(threads))]
            if count % 50 == 0:
                gc.collect()
            del threads

    def loop(i):
        try:
            sock.run(passes_on, queues[i], queues[i - 1])
        except BaseException as error:
            failures.append(error)

    os_threads = [threading.Thread(target=loop, args=(i,)) for i in range(3)]
    for os_thread in os_threads:
        os_thread.start()
    for os_thread in os_threads:
        os_thread.join(2 * PATIENCE)
    assert failures == []
    assert not any(os_thread.is_alive() for os_thread in os_threads)


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork')
def test_child_of_a_fork_uses_the_memory_of_threads_that_ended_before():
    python("""
        import gc, os, sock, weakref

        async def does_nothing(i):
            return i

        def check(again):
            threads = [sock.newthread(does_nothing, i) for i in range(1500)]
            assert [thread.result() for thread in threads] == [*range(1500)]
            if again:
                assert kept & {*map(id, threads)}, 'the memory that was kept is used'
            gone = weakref.ref(threads[7])
            found = [each for each in gc.get_objects() if type(each) is sock.Thread]
            assert len({*map(id, found)}) == len(found)
            assert {*map(id, threads)} <= {*map(id, found)}
            del threads, found
            gc.collect()
            assert gone() is None

        async def checks():
            for _ in range(3):
                check(False)

        async def main():
            global kept
            threads = [sock.newthread(does_nothing, i) for i in range(1500)]
            kept = {*map(id, threads)}
            del threads
            pid = os.fork()
            if pid == 0:
                try:
                    check(True)
                    sock.run(checks)
                    check(False)
                    sock.run(checks)
                    os._exit(7)
                finally:
                    os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
            check(True)

        for _ in range(3):
            sock.run(main)
            sock.run(checks)
    """)


def test_expired_or_cancelled_wait_for_a_thread_leaves_nothing_with_it():
    async def main():
        slow = sock.newthread(sleeps)
        for _ in range(1000):
            with pytest.raises(sock.Timeout), sock.deadline(sock.clock()):
                await slow
        waiter = sock.newthread(value_of, slow)
        gone = weakref.ref(waiter)
        waiter.cancel()
        with pytest.raises(sock.Cancelled):
            await waiter
        del waiter
        gc.collect()
        assert gone() is None
        assert slow.waiting is not None
        slow.cancel()

    async def sleeps():
        await sock.sleep(60)

    async def value_of(thread):
        return await thread

    sock.run(main)


def test_threads_while_they_start_and_end_on_other_os_threads():
    async def main():
        stop = False

        async def churn():
            while not stop:
                thread = sock.newthread(value, 1)
                await sock.sleep(0)
                await thread

        churning = [sock.newthread(churn) for _ in range(8)]
        for _ in range(300):
            listed = sock.threads()
            assert {*churning} <= {*listed}
            assert not any(thread.done for thread in listed if thread in churning)
            await sock.sleep(0)
        stop = True
        for thread in churning:
            await thread

    sock.run(main, threads=3)


def test_clock_is_monotonic_seconds():
    before, began = time.monotonic(), sock.clock()
    while time.monotonic() < before + 0.01:
        assert sock.clock() >= began
    assert 0.009 < sock.clock() - began < 1


@pytest.mark.parametrize('seconds', [0.001, 0.0203, 0.05])
@pytest.mark.parametrize('sleep', [sock.sleep, lambda seconds: sock.sleep_until(sock.clock() + seconds)])
def test_sleep_is_never_early_and_not_much_late(seconds, sleep):
    async def func():
        begin = sock.clock()
        await sleep(seconds)
        return sock.clock() - begin

    assert seconds <= min(sock.run(func) for _ in range(5)) < seconds + 0.02


def test_sleeps_end_in_order_of_their_times():
    order = []

    async def func(seconds):
        await sock.sleep(seconds)
        order.append(seconds)

    for seconds in (0.03, 0.01, 0.02, 0):
        sock.newthread(func, seconds)
    assert sock.start(10) is True
    assert order == [0, 0.01, 0.02, 0.03]


@pytest.mark.parametrize('t', [0, -5, -float('inf')])
def test_sleep_into_the_past_lets_the_others_run(t):
    order = []

    async def func(name):
        order.append(name)
        await (sock.sleep(t) if name == 'a' else sock.sleep_until(t))
        order.append(name)

    sock.newthread(func, 'a')
    sock.newthread(func, 'b')
    assert sock.start(10) is True
    assert order == ['a', 'b', 'a', 'b']


@pytest.mark.parametrize('t', [0, -5])
def test_sleep_that_only_lets_others_run_ends_with_the_deadline_around_it(t):
    async def func(scope):
        rounds = 0
        with pytest.raises(sock.Timeout), scope:
            while True:
                await sock.sleep(t)
                rounds += 1
        # A deadline that is left is none.
        await sock.sleep(t)
        return rounds

    async def main():
        assert await func(sock.deadline(sock.clock())) == 0
        assert await func(sock.deadline(sock.clock() + 0.01)) > 0
        with sock.deadline(sock.clock() + 60), sock.deadline(None):
            await sock.sleep(t)

    run(main)


@pytest.mark.parametrize('function', [sock.sleep, sock.sleep_until])
def test_sleep_of_nan_or_text_is_an_error(function):
    with pytest.raises(ValueError, match=r'not a number|not nan'):
        function(float('nan'))
    with pytest.raises(TypeError, match='not str'):
        function('1')


def test_sleep_forever_ends_when_cancelled():
    async def func():
        await sock.sleep(float('inf'))

    thread = sock.newthread(func)
    assert sock.start(0.01) is False
    thread.cancel()
    assert sock.start(10) is True


@pytest.mark.parametrize('seconds', [2**31 / 1000, 2**31, 2**32 + 1, 2**40, 1e300, float('inf')])
def test_timeouts_beyond_what_the_system_takes_last(seconds):
    """A system's wait has an int of milliseconds."""

    async def main():
        with sock.deadline(sock.clock() + seconds):
            data = await conn.recv(1, expires=sock.clock() + seconds)
        sock.stop()
        return data

    for wait, expected in ((sock.poll, True), (sock.start, False)):
        ours, theirs = socket.socketpair()
        with sock.fromsocket(ours) as conn, theirs:
            thread, sleeper = sock.newthread(main), sock.newthread(sock.sleep, seconds)
            later = threading.Timer(0.02, theirs.sendall, [b'x'])
            later.start()
            # A time that passes at once would be False, and leave the thread where it is.
            assert wait(seconds) is expected
            assert thread.result() == b'x'
            later.join()
            assert not sleeper.done
            sleeper.cancel()
            assert sock.start(5) is True


def test_steady_work_does_not_starve_deadlines():
    async def spin():
        while True:
            await sock.sleep(0)

    async def main():
        sock.newthread(spin)
        begin = sock.clock()
        await sock.sleep(0.02)
        return sock.clock() - begin

    assert sock.run(main) < 0.2


def test_deadlines_overdue_after_long_work_fire_in_the_next_round():
    order = []

    async def sleeper(seconds):
        await sock.sleep(seconds)
        order.append(seconds)

    async def main():
        threads = [sock.newthread(sleeper, seconds) for seconds in (0.002, 0.001)]
        until = time.monotonic() + 0.01
        while time.monotonic() < until:
            pass
        for thread in threads:
            await thread

    sock.run(main)
    assert order == [0.001, 0.002]


# The loops


def test_poll_runs_who_is_ready_and_tells_when_nothing_is_left():
    async def func():
        await sock.sleep(0)
        await sock.sleep(0)

    assert sock.poll() is False
    sock.newthread(func)
    assert sock.poll() is True
    assert sock.poll() is True
    assert sock.poll() is False


def test_poll_times_out():
    async def func():
        await sock.sleep(60)

    thread = sock.newthread(func)
    # `monotonic` counts ticks of up to 16 ms on Windows.
    begin = time.perf_counter()
    assert sock.poll(0.02) is False
    assert 0.02 <= time.perf_counter() - begin < 1
    thread.cancel()
    sock.start(10)


@pytest.mark.parametrize('polls', [sock.poll, sock.start])
def test_no_time_at_all_is_enough_for_what_is_there(polls, peer):
    conn, other = peer
    thread = sock.newthread(conn.recv(10))
    assert polls(0) is False
    assert not thread.done
    other.sendall(b'x')
    # Loopback: it is there.
    assert polls(0) is True
    assert thread.result() == b'x'

    due = sock.newthread(sock.sleep_until, sock.clock())
    assert due.done or polls(0) is True
    assert due.done


def test_start_without_threads_returns_true():
    assert sock.start() is True


def test_start_times_out_with_work_left_and_can_go_on():
    async def func():
        await sock.sleep(0.05)
        return 'whole'

    thread = sock.newthread(func)
    assert sock.start(0.001) is False
    assert not thread.done
    assert sock.start(10) is True
    assert thread.result() == 'whole'


def test_start_times_out_under_steady_work():
    async def spin():
        while True:
            await sock.sleep(0)

    thread = sock.newthread(spin)
    assert sock.start(0.02) is False
    thread.cancel()
    assert sock.start(10) is True


def test_stop_ends_start_after_the_turn():
    async def func():
        sock.stop()
        await sock.sleep(0.001)
        return 'whole'

    async def stopper():
        await sock.sleep(0)
        sock.stop()

    thread = sock.newthread(func)
    sock.newthread(stopper)
    assert sock.start(10) is False
    assert sock.start(10) is True
    assert thread.result() == 'whole'


def test_stop_from_another_os_thread():
    poller = sock.poller()

    async def func():
        await sock.sleep(60)

    def stop():
        sock.poller(poller)
        sock.stop()

    thread = sock.newthread(func)
    os_thread = threading.Timer(0.02, stop)
    os_thread.start()
    assert sock.start(10) is False
    os_thread.join(10)
    thread.cancel()
    assert sock.start(10) is True


@pytest.mark.parametrize('timeout', ['1', [], object()])
def test_timeout_of_a_wrong_type_is_a_type_error(timeout):
    with pytest.raises(TypeError, match='timeout must be seconds or None'):
        sock.start(timeout)
    with pytest.raises(TypeError, match='timeout must be seconds or None'):
        sock.poll(timeout)


def test_run_returns_the_result_or_raises_the_exception():
    assert sock.run(value, 5) == 5
    with pytest.raises(KeyError):
        sock.run(raises, KeyError('k'))


@pytest.mark.parametrize('threads', [1, 3])
@pytest.mark.parametrize('exc', [KeyError, SystemExit, BaseException])
@pytest.mark.parametrize('left', [0, 5])
def test_exception_that_run_raises_after_a_wait_is_not_reported_too(threads, exc, left):
    async def main():
        for _ in range(left):
            sock.newthread(sock.sleep, 60)
        await sock.sleep(0.001)
        raise exc('of the main thread')

    with pytest.raises(exc, match='of the main thread'):
        sock.run(main, threads=threads)


def test_exception_in_the_finally_of_a_run_that_is_stopped_is_raised():
    async def main():
        try:
            sock.stop()
            await sock.sleep(60)
        finally:
            raise KeyError('at the end')

    with pytest.raises(KeyError, match='at the end'):
        sock.run(main)


def test_run_cancels_what_was_left_running_and_waits_for_its_finally():
    ended = []

    async def left():
        try:
            await sock.sleep(60)
        finally:
            await sock.sleep(0.001)
            ended.append(True)

    async def main():
        sock.newthread(left)
        sock.newthread(left)
        return 'result'

    assert sock.run(main) == 'result'
    assert ended == [True, True]


def test_run_leaves_threads_alone_that_were_there_before():
    async def earlier():
        await sock.sleep(0.05)
        return 'whole'

    thread = sock.newthread(earlier)
    assert sock.run(value, 1) == 1
    assert not thread.done
    assert sock.start(10) is True
    assert thread.result() == 'whole'


def test_run_that_is_stopped_is_a_runtime_error():
    async def main():
        sock.stop()
        await sock.sleep(60)

    with pytest.raises(RuntimeError, match=r'ended by stop\(\)'):
        sock.run(main)


@pytest.mark.parametrize('threads', [0, -1, 1.5, 'two'])
def test_run_with_a_wrong_number_of_threads_is_a_value_error(threads):
    with pytest.raises(ValueError, match='threads must be a number from 1'):
        sock.run(value, 1, threads=threads)


def test_async_generator_dropped_in_another_os_thread_is_closed_where_it_began():
    closed = []

    async def generator():
        try:
            yield 1
        finally:
            await sock.sleep(0.001)
            closed.append(True)

    async def main():
        held = [generator()]
        await anext(held[0])
        os_thread = threading.Thread(target=lambda: (held.clear(), gc.collect()))
        os_thread.start()
        await sock.offload(os_thread.join)
        until = sock.clock() + 10
        while not closed and sock.clock() < until:
            await sock.sleep(0.001)

    sock.run(main)
    assert closed == [True]


# Pollers


def test_each_os_thread_has_its_own_poller():
    pollers = [sock.poller()]
    os_thread = threading.Thread(target=lambda: pollers.append(sock.poller()))
    os_thread.start()
    os_thread.join(10)
    assert pollers[0] is sock.poller()
    assert pollers[1] is not pollers[0]


def test_run_in_an_os_thread_that_threading_did_not_start_leaves_no_trace_in_it():
    names = queue.Queue()

    def other():
        result = sock.run(value, 5)
        names.put((result, {thread.name for thread in threading.enumerate()}))

    before = {thread.name for thread in threading.enumerate()}
    _thread.start_new_thread(other, ())
    result, after = names.get(timeout=PATIENCE)
    assert result == 5
    assert after <= before


def test_poller_of_a_wrong_type_is_a_type_error():
    with pytest.raises(TypeError, match=r'takes a sock\.Poller, not int'):
        sock.poller(5)


def test_poller_cannot_be_changed_while_it_polls():
    async def main():
        with pytest.raises(RuntimeError, match='polls its poller now'):
            sock.poller(sock.Poller())

    sock.run(main)


def test_threads_lists_those_that_have_not_ended():
    async def func():
        await sock.sleep(0.001)

    assert sock.threads() == []
    thread = sock.newthread(func)
    assert sock.threads() == [thread]
    assert sock.threads(sock.Poller()) == []
    sock.start()
    assert sock.threads() == []


# Whole processes


def test_signal_handler_runs_while_the_loop_waits():
    seen = []

    def handler(number, frame):
        seen.append(number)
        sock.stop()

    async def func():
        await sock.sleep(60)

    old = signal.signal(signal.SIGINT, handler)
    thread = sock.newthread(func)
    timer = threading.Timer(0.02, signal.raise_signal, (signal.SIGINT,))
    try:
        timer.start()
        begin = time.monotonic()
        assert sock.start(10) is False
        assert time.monotonic() - begin < 1
    finally:
        timer.join(10)
        signal.signal(signal.SIGINT, old)
    assert seen == [signal.SIGINT]
    thread.cancel()
    assert sock.start(10) is True


@pytest.mark.skipif(os.name == 'nt', reason='sends SIGINT')
def test_ctrl_c_while_threads_end_by_the_dozen_cuts_no_end_in_half():
    """The handler runs between any two bytecodes of the scheduler too: it must not lose the thread that is ending."""
    python("""
        import os, signal, sock, threading, time

        ended = []

        async def brief():
            try:
                await sock.sleep(0)
            finally:
                ended.append(1)

        async def main(timer):
            timer.start()
            begun.set()
            while True:
                for _ in range(20):
                    sock.newthread(brief).onfinish(lambda thread: None)
                await sock.sleep(0)

        def interrupt():
            # Not in the middle of the standard library's `start`.
            begun.wait()
            time.sleep(0.001)
            os.kill(os.getpid(), signal.SIGINT)

        for _ in range(60):
            begun = threading.Event()
            timer = threading.Thread(target=interrupt)
            try:
                sock.run(main, timer)
            except KeyboardInterrupt:
                pass
            else:
                raise AssertionError('not interrupted')
            timer.join()
            assert sock.threads() == []
        assert len(ended) > 60
    """)


def test_run_over_several_os_threads_always_ends():
    """A stop that comes while an OS thread is on its way into the wait must not be lost."""

    async def work():
        for _ in range(3):
            await sock.sleep(0)

    async def main():
        for thread in [sock.newthread(work) for _ in range(4)]:
            await thread

    for _ in range(300):
        sock.run(main, threads=4)


def test_thread_that_somebody_holds_ends_when_its_poller_goes(reported):
    """Whoever awaits it, under another poller, hears of it."""
    events, threads = [], []

    async def waits():
        try:
            await sock.sleep(60)
        finally:
            events.append('finally')

    async def awaits():
        try:
            await threads[0]
        except RuntimeError as error:
            events.append(str(error))

    def elsewhere():
        threads.extend(sock.newthread(waits, name=name) for name in ('awaited', 'held'))
        ready.set()
        waiting.wait(PATIENCE)

    ready, waiting = threading.Event(), threading.Event()
    os_thread = threading.Thread(target=elsewhere)
    os_thread.start()
    assert ready.wait(PATIENCE)
    awaiting = sock.newthread(awaits)
    waiting.set()
    os_thread.join()
    gc.collect()
    assert sock.start(PATIENCE)
    assert awaiting.done
    assert all(thread.done for thread in threads)
    assert events[:2] == ['finally', 'finally']
    assert "'awaited' can never be resumed" in events[2]
    with pytest.raises(RuntimeError, match="'held' can never be resumed"):
        threads[1].result()
