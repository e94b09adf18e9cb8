"""Lock, Event, Condition, Semaphore, Queue: between threads, and between OS threads."""

import gc
import queue
import threading

import pytest
import sock
from sock import _sock, _sync
from support import run


def soon(seconds=10):
    return sock.clock() + seconds


async def turns(n=3):
    """Lets the others run."""
    for _ in range(n):
        await sock.sleep(0)


# ---- Lock


def test_lock_is_held_by_one_at_a_time_in_order_of_arrival():
    async def main():
        lock, order = sock.Lock(), []

        async def work(i):
            async with lock:
                order.append(i)
                await sock.sleep(0)
                assert order[-1] == i

        async with lock:
            assert lock.locked
            threads = [sock.newthread(work, i) for i in range(5)]
            await turns()
            assert order == []
        for thread in threads:
            await thread
        assert order == [0, 1, 2, 3, 4]
        assert not lock.locked

    run(main)


def test_lock_is_not_overtaken_by_who_comes_back_at_once():
    async def main():
        lock, order = sock.Lock(), []

        async def work(name):
            for _ in range(3):
                async with lock:
                    order.append(name)
                    await sock.sleep(0)

        threads = [sock.newthread(work, name) for name in 'ab']
        for thread in threads:
            await thread
        assert ''.join(order) == 'ababab'

    run(main)


def test_lock_misuse_is_told():
    async def main():
        lock = sock.Lock('of the house')
        with pytest.raises(RuntimeError, match="lock 'of the house' is not held"):
            lock.release()
        async with lock:
            with pytest.raises(RuntimeError, match='already: it would wait for itself'):
                await lock.acquire()

            async def other():
                with pytest.raises(RuntimeError, match="held by thread 'test"):
                    lock.release()
                assert not lock.try_acquire()

            await sock.newthread(other)

    run(main)
    with pytest.raises(RuntimeError, match='inside a sock thread'):
        sock.Lock().acquire().send(None)
    with pytest.raises(TypeError, match='name must be a str'):
        sock.Lock(5)


def test_lock_acquire_expires_and_leaves_no_waiter():
    async def main():
        lock = sock.Lock()

        async def wants():
            with pytest.raises(sock.Timeout, match=r"acquire of a lock|acquire of lock.*held by thread 'test"):
                await lock.acquire(sock.clock() + 0.01)

        async with lock:
            await sock.newthread(wants)
            assert not lock._permit._waiting
        async with lock:
            pass

    run(main)


def test_lock_whose_next_holder_was_cancelled_goes_to_the_one_after():
    async def main():
        lock, got = sock.Lock(), []

        async def wants(name):
            async with lock:
                got.append(name)

        await lock.acquire()
        first, second = sock.newthread(wants, 1), sock.newthread(wants, 2)
        # Handed over, and cancelled before it has run.
        lock.release()
        first.cancel()
        await second
        # It was given the lock before it was cancelled: either it keeps it, or it is handed on.
        try:
            await first
            assert got == [1, 2]
        except sock.Cancelled:
            assert got == [2]
        assert not lock.locked

    run(main)


def test_lock_between_os_threads():
    counter = [0]

    async def work(lock):
        for _ in range(200):
            async with lock:
                before = counter[0]
                await sock.sleep(0)
                counter[0] = before + 1

    async def main():
        lock = sock.Lock()
        threads = [sock.newthread(work, lock) for _ in range(8)]
        for thread in threads:
            await thread

    sock.run(main, threads=4)
    assert counter[0] == 1600


def test_lock_between_pollers():
    lock, counter = sock.Lock(), [0]

    async def work():
        for _ in range(100):
            async with lock:
                before = counter[0]
                await sock.sleep(0)
                counter[0] = before + 1

    others = [threading.Thread(target=lambda: sock.run(work)) for _ in range(3)]
    for other in others:
        other.start()
    run(work)
    for other in others:
        other.join(20)
    assert counter[0] == 400


# ---- Semaphore


def test_semaphore_lets_so_many_in():
    async def main():
        limit, inside, most = sock.Semaphore(3), 0, 0

        async def work():
            nonlocal inside, most
            async with limit:
                inside += 1
                most = max(most, inside)
                await turns()
                inside -= 1

        threads = [sock.newthread(work) for _ in range(10)]
        for thread in threads:
            await thread
        assert (most, limit.value) == (3, 3)

    run(main)


def test_semaphore_try_acquire_and_release_of_several():
    limit = sock.Semaphore(1)
    assert limit.try_acquire()
    assert not limit.try_acquire()
    limit.release(3)
    assert limit.value == 3
    for wrong, error in ((0, ValueError), (-1, ValueError), ('x', TypeError)):
        with pytest.raises(error):
            limit.release(wrong)
    with pytest.raises(ValueError, match='0 or more'):
        sock.Semaphore(-1)
    with pytest.raises(TypeError, match=r'^value must be a number of permits, not str$'):
        sock.Semaphore('1')


def test_semaphore_permit_of_a_cancelled_waiter_is_handed_on():
    async def main():
        limit, got = sock.Semaphore(0), []

        async def wants(name):
            await limit.acquire()
            got.append(name)

        first, second = sock.newthread(wants, 1), sock.newthread(wants, 2)
        limit.release()
        first.cancel()
        await turns(10)
        # It was given the permit before it was cancelled: either it keeps it, or it is handed on.
        assert got in ([1], [2]), 'the permit is lost'
        limit.release()
        await second
        assert got in ([1, 2], [2])
        try:
            await first
        except sock.Cancelled:
            pass

    run(main)


def test_semaphore_under_contention_loses_no_permit_to_cancels_and_expiries():
    async def main():
        limit = sock.Semaphore(2)

        async def work(i):
            try:
                await limit.acquire(sock.clock() + (i % 7) * 0.0005)
            except sock.Timeout:
                return
            await sock.sleep(0.0002)
            limit.release()

        for _ in range(20):
            threads = [sock.newthread(work, i) for i in range(20)]
            for thread in threads[::3]:
                # One that holds a permit would keep it: only those that wait for one.
                if thread.waiting and 'acquire' in thread.waiting:
                    thread.cancel()
            for thread in threads:
                try:
                    await thread
                except sock.Cancelled:
                    pass
        return limit.value

    value = run(main)
    assert value == 2


# ---- Event


def test_event_wakes_all_and_stays_set():
    async def main():
        event, woken = sock.Event(), []

        async def wait(i):
            await event.wait()
            woken.append(i)

        threads = [sock.newthread(wait, i) for i in range(3)]
        await turns()
        assert woken == []
        event.set()
        for thread in threads:
            await thread
        assert woken == [0, 1, 2]
        await event.wait()
        event.clear()
        assert not event.is_set()
        with pytest.raises(sock.Timeout, match='wait for an event'):
            await event.wait(sock.clock() + 0.01)

    run(main)


def test_event_is_set_from_another_os_thread():
    async def main():
        event = sock.Event()
        threading.Thread(target=event.set).start()
        await event.wait(soon())

    run(main)


def test_event_that_is_set_does_not_starve_others():
    async def main():
        event, ran = sock.Event(), []
        event.set()

        async def other():
            await sock.sleep(0)
            ran.append(1)

        sock.newthread(other)
        for _ in range(1000):
            await event.wait()
        assert ran

    run(main)


# ---- Condition


def test_condition_waits_for_a_function():
    async def main():
        async with (condition := sock.Condition()):
            with pytest.raises(TypeError, match='wait_for takes a function that tells whether to go on, not 5'):
                await condition.wait_for(5)

    run(main)


def test_condition_wait_for_and_notify():
    async def main():
        filled, things, taken = sock.Condition(), [], []

        async def take():
            async with filled:
                taken.append(await filled.wait_for(lambda: things and things.pop()))

        threads = [sock.newthread(take) for _ in range(3)]
        async with filled:
            things.extend('ab')
            filled.notify(2)
        await turns(10)
        assert sorted(taken) == ['a', 'b']
        async with filled:
            things.append('c')
            filled.notify_all()
        for thread in threads:
            await thread
        assert sorted(taken) == ['a', 'b', 'c']

    run(main)


def test_condition_has_its_lock_again_after_a_timeout_and_a_cancel():
    async def main():
        condition = sock.Condition()
        async with condition:
            with pytest.raises(sock.Timeout):
                await condition.wait(sock.clock() + 0.01)
            assert condition.lock.locked

        async def wait():
            async with condition:
                try:
                    await condition.wait()
                finally:
                    assert condition.lock.locked

        waiting = sock.newthread(wait)
        await condition.acquire()
        waiting.cancel()
        await turns()
        assert not waiting.done, 'it waits for the lock'
        condition.release()
        with pytest.raises(sock.Cancelled):
            await waiting
        assert not condition.lock.locked

    run(main)


def test_condition_notify_of_a_cancelled_waiter_goes_to_the_next():
    async def main():
        condition, woken = sock.Condition(), []

        async def wait(name):
            async with condition:
                await condition.wait()
                woken.append(name)

        first, second = sock.newthread(wait, 1), sock.newthread(wait, 2)
        async with condition:
            condition.notify()
            first.cancel()
        await turns(10)
        # Either the first one was notified and then cancelled, or not at all: the notify has reached somebody.
        assert woken
        async with condition:
            condition.notify_all()
        for thread in (first, second):
            try:
                await thread
            except sock.Cancelled:
                pass
        assert woken[-1] == 2

    run(main)


def test_condition_has_its_lock_again_whatever_ends_the_wait(monkeypatch):
    """A signal handler of the program may raise at any moment."""

    class Broken(BaseException):
        pass

    class BrokenWait:
        def __init__(self, what, expires=None):
            pass

        def __await__(self):
            raise Broken
            yield

    class Replaced:
        Wait = BrokenWait

        def __getattr__(self, name):
            return getattr(_sock, name)

    async def main():
        condition = sock.Condition()
        with pytest.raises(Broken):
            async with condition:
                monkeypatch.setattr(_sync, '_sock', Replaced())
                await condition.wait()
        assert not condition.lock.locked

    run(main)


def test_condition_misuse_is_told():
    async def main():
        condition = sock.Condition()
        with pytest.raises(RuntimeError, match='needs the lock'):
            await condition.wait()
        with pytest.raises(RuntimeError, match='needs the lock'):
            condition.notify()
        with pytest.raises(TypeError, match=r'^Condition takes a sock\.Lock, not int$'):
            sock.Condition(5)

    run(main)


# ---- Queue


def test_queue_is_first_in_first_out_and_bounded():
    async def main():
        items = sock.Queue(2)
        got = []

        async def put():
            for i in range(10):
                await items.put(i)
            items.close()

        putter = sock.newthread(put)
        await turns()
        assert items.full()
        assert items.qsize() == items.maxsize == 2
        async for item in items:
            got.append(item)
        await putter
        assert got == list(range(10))
        assert items.empty()

    run(main)


def test_queue_without_waiting():
    items = sock.Queue(1)
    with pytest.raises(queue.Empty):
        items.get_nowait()
    items.put_nowait('one')
    with pytest.raises(queue.Full):
        items.put_nowait('two')
    assert items.get_nowait() == 'one'


def test_queue_expires():
    async def main():
        items = sock.Queue(1)
        with pytest.raises(sock.Timeout, match='get'):
            await items.get(sock.clock() + 0.01)
        await items.put(1)
        with pytest.raises(sock.Timeout, match='put'):
            await items.put(2, sock.clock() + 0.01)
        assert await items.get() == 1
        assert items.empty()

    run(main)


def test_queue_closed_wakes_who_waits():
    async def main():
        items = sock.Queue(1)

        async def get():
            with pytest.raises(sock.Closed, match='closed it'):
                await items.get()

        async def put():
            with pytest.raises(sock.Closed, match='closed it'):
                await full.put(2)

        getters = [sock.newthread(get) for _ in range(3)]
        full = sock.Queue(1)
        await full.put(1)
        putter = sock.newthread(put)
        items.close()
        full.close()
        for thread in [*getters, putter]:
            await thread
        assert await full.get() == 1, 'what was in it is still there'
        with pytest.raises(sock.Closed):
            await full.get()
        with pytest.raises(sock.Closed):
            full.put_nowait(3)
        with pytest.raises(sock.Closed):
            full.get_nowait()

    run(main)


def test_queue_item_of_a_cancelled_getter_is_not_lost():
    async def main():
        items, got = sock.Queue(), []

        async def get():
            got.append(await items.get())

        first, second = sock.newthread(get), sock.newthread(get)
        items.put_nowait('one')
        first.cancel()
        items.put_nowait('two')
        await turns(10)
        while not items.empty():
            got.append(items.get_nowait())
        for thread in (first, second):
            thread.cancel()
            try:
                await thread
            except sock.Cancelled:
                pass
        assert sorted(got) == ['one', 'two']

    run(main)


def test_lock_of_a_thread_that_has_gone_says_so():
    lock = sock.Lock('orders')
    sock.run(lock.acquire)
    gc.collect()
    assert repr(lock) == "<sock.Lock 'orders' held by a thread that has gone without releasing it>"


def test_queue_join_waits_until_each_item_is_done():
    async def main():
        items = sock.Queue()
        await items.join()
        for item in range(3):
            items.put_nowait(item)
        joining = [sock.newthread(items.join, soon()) for _ in range(2)]
        assert joining[0].waiting == 'join of a queue'
        while not items.empty():
            await items.get()
            await turns()
            assert not any(thread.done for thread in joining)
            items.task_done()
        for thread in joining:
            await thread
        # A new round: what was waited for before does not end it.
        items.put_nowait(3)
        with pytest.raises(sock.Timeout, match='join of a queue'):
            await items.join(sock.clock() + 0.01)
        items.task_done()
        await items.join(0)
        with pytest.raises(ValueError, match='more often than items were put'):
            items.task_done()

    run(main)


def test_queue_join_outside_a_thread_is_a_runtime_error():
    with pytest.raises(RuntimeError, match='join of a queue waits'):
        sock.Queue().join().send(None)


def test_queue_refused_put_is_no_item_to_join():
    async def main():
        items = sock.Queue()
        items.close()
        with pytest.raises(sock.Closed):
            await items.put(1)
        await items.join(soon())

    run(main)


def test_queue_join_between_os_threads():
    rounds, each = 20, 50

    async def main():
        items = sock.Queue()
        workers = [threading.Thread(target=work, args=(items,)) for _ in range(3)]
        for worker in workers:
            worker.start()
        done = 0
        for _ in range(rounds):
            for item in range(each):
                await items.put(item)
            await items.join(soon())
            done += each
            assert finished == done * [True]
        items.close()
        for worker in workers:
            await sock.offload(worker.join)

    finished = []

    def work(items):
        sock.run(take, items)

    async def take(items):
        async for _ in items:
            finished.append(True)
            items.task_done()

    run(main)
