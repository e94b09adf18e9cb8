"""One poller that many OS threads share, and pollers side by side."""

import contextlib
import hashlib
import os
import subprocess
import sys
import threading

import pytest
import sock
from sock import _sock
from support import polling, run

HANDLES = {'epoll': sock.epoll_fd, 'kqueue': sock.kqueue_fd, 'iocp': sock.iocp}
handle = HANDLES[_sock.POLL]


def elsewhere(func, *args):
    """What a function returns, or raises, in another OS thread."""
    result = []

    def call():
        try:
            result.append((func(*args), None))
        except BaseException as exc:
            result.append((None, exc))

    os_thread = threading.Thread(target=call)
    os_thread.start()
    os_thread.join(20)
    assert result, 'not done after 20 s'
    value, exc = result.pop()
    if exc is not None:
        raise exc
    return value


def os_thread_name():
    return threading.current_thread().name


# The handle


def test_handle_taken_in_one_os_thread_and_set_in_another_shares_the_poller():
    number = handle()
    assert isinstance(number, int)
    assert number == handle()

    def share():
        assert handle() != number
        assert handle(number) == number
        return sock.poller()

    assert elsewhere(share) is sock.poller()


def test_handle_of_another_os_is_not_supported():
    for kind, function in HANDLES.items():
        if kind != _sock.POLL:
            with pytest.raises(sock.NotSupported, match=f'polls with {_sock.POLL}') as caught:
                function()
            assert caught.value.err == 'not_supported'


@pytest.mark.parametrize('number', [-1, 0, 2**80])
def test_handle_of_no_live_poller_is_a_value_error(number):
    with pytest.raises(ValueError, match=rf'{number} is no live Poller of this process'):
        handle(number)


@pytest.mark.parametrize('wrong', ['7', 7.0, True, b'7'])
def test_handle_of_a_wrong_type_is_a_type_error(wrong):
    with pytest.raises(TypeError, match=f'not {type(wrong).__name__}'):
        handle(wrong)


def test_handle_cannot_be_set_while_it_polls():
    other = sock.Poller()

    async def main():
        assert handle() == sock.poller()._handle
        with pytest.raises(RuntimeError, match='polls its poller now'):
            handle(other._handle)

    sock.run(main)


# Sharing


def test_start_returns_in_all_os_threads_when_the_last_thread_ends():
    async def func():
        await sock.sleep(0.05)

    sock.newthread(func)
    with polling(3) as results:
        assert sock.start(20) is True
    assert results == [True] * 3


def test_stop_ends_start_in_all_os_threads():
    async def func():
        await sock.suspend()

    waiting = sock.newthread(func)
    timer = threading.Timer(0.05, sock.poller().stop)
    timer.start()
    with polling(3) as results:
        assert sock.start(20) is False
    assert results == [False] * 3
    timer.join()
    waiting.cancel()
    assert sock.start(5) is True


def test_stop_from_a_thread_on_another_os_thread():
    main = threading.get_ident()

    async def stops():
        while threading.get_ident() == main:
            await sock.sleep(0)
        sock.stop()

    sock.newthread(stops)
    with polling(1):
        sock.start(20)


def test_thread_moves_between_os_threads_and_runs_on_one_at_a_time():
    places, overlaps = set(), []

    async def func(inside):
        for _ in range(2000):
            if inside:
                overlaps.append(inside[:])
            inside.append(os_thread_name())
            places.add(inside[0])
            inside.pop()
            await sock.sleep(0)

    async def main():
        for thread in [sock.newthread(func, []) for _ in range(8)]:
            await thread

    sock.run(main, threads=4)
    assert not overlaps
    assert len(places) > 1


def test_every_thread_gets_its_turn_with_more_threads_than_os_threads():
    turns = [0] * 100

    async def func(i, until):
        while sock.clock() < until:
            turns[i] += 1
            await sock.sleep(0)

    async def main():
        until = sock.clock() + 0.5
        for thread in [sock.newthread(func, i, until) for i in range(len(turns))]:
            await thread

    sock.run(main, threads=4)
    # But for those that an OS thread holds while it waits for the interpreter, or for a processor.
    assert sorted(turns)[4] >= sum(turns) / len(turns) / 2
    assert min(turns) > 0


def test_close_cancel_expiry_and_resume_from_another_os_thread(peer):
    conn, _ = peer

    async def reads():
        with pytest.raises(sock.Closed):
            await conn.recv(1)

    async def suspends():
        return await sock.suspend()

    async def main():
        reader, suspended, cancelled = (sock.newthread(func) for func in (reads, suspends, suspends))
        await sock.offload(conn.close)
        await sock.offload(suspended.resume, 5)
        await sock.offload(cancelled.cancel)
        assert await suspended == 5
        await reader
        with pytest.raises(sock.Cancelled):
            await cancelled

    sock.run(main, threads=2)


def test_current_thread_is_each_os_threads_own():
    wrong = []

    async def func():
        mine = sock.thread()
        for _ in range(500):
            await sock.sleep(0)
            if sock.thread() is not mine:
                wrong.append(mine)

    async def main():
        for thread in [sock.newthread(func) for _ in range(8)]:
            await thread

    sock.run(main, threads=4)
    assert not wrong


@pytest.mark.parametrize('count', [2, 4])
def test_echo_over_shared_os_threads_loses_no_byte(count):
    data = os.urandom(200_000)

    async def serve(conn):
        with conn:
            buf = bytearray(5000)
            while n := await conn.recv(buf):
                await conn.send(buf, n)

    async def accept(listener):
        with contextlib.suppress(sock.Closed):
            while True:
                conn, _, _ = await listener.accept()
                sock.newthread(serve, conn)

    async def client(port):
        with sock.tcp() as conn:
            await conn.connect('127.0.0.1', port)
            sending = sock.newthread(send, conn)
            assert await conn.recvall(len(data)) == data
            await sending

    async def send(conn):
        await conn.send(data)
        conn.shutdown('w')

    async def main():
        with sock.tcp() as listener:
            listener.listen('127.0.0.1')
            accepting = sock.newthread(accept, listener)
            for thread in [sock.newthread(client, listener.local_addr.port) for _ in range(16)]:
                await thread
        await accepting

    sock.run(main, threads=count)


def test_exception_that_ends_the_program_comes_out_of_run_from_any_os_thread():
    main_thread = threading.get_ident()

    async def ends():
        while threading.get_ident() == main_thread:
            await sock.sleep(0)
        raise SystemExit(3)

    async def main():
        sock.newthread(ends)
        await sock.sleep(20)

    with pytest.raises(SystemExit, match='3'):
        sock.run(main, threads=2)


def test_run_cancels_no_threads_of_other_os_threads_on_its_poller():
    poller, ended = sock.poller(), []
    begun, over = threading.Event(), threading.Event()

    async def own():
        try:
            await sock.suspend()
        finally:
            ended.append('own')

    async def others():
        while not over.is_set():
            await sock.sleep(0)
        ended.append('others')

    def share():
        sock.poller(poller)
        thread = sock.newthread(others)
        begun.set()
        sock.start(20)
        return thread.done

    async def main():
        sock.newthread(sock.newthread, own)
        os_thread.start()
        await sock.offload(begun.wait)

    os_thread = threading.Thread(target=share)
    sock.run(main)
    assert ended == ['own']
    over.set()
    os_thread.join(20)
    assert ended == ['own', 'others']


def test_handlers_that_let_go_of_the_interpreter_overlap():
    """Also on a build with the GIL."""
    block = bytes(8 << 20)
    hashing, together = set(), []

    async def func(i):
        for _ in range(5):
            hashing.add(i)
            hashlib.sha256(block).digest()
            together.append(len(hashing))
            hashing.discard(i)
            await sock.sleep(0)

    async def main():
        for thread in [sock.newthread(func, i) for i in range(8)]:
            await thread

    sock.run(main, threads=4)
    assert max(together) > 1


# Pollers side by side


def test_thread_of_another_poller_is_awaited():
    async def until_awaited():
        while not awaited.is_set():
            await sock.sleep(0.001)

    async def slow(x):
        await until_awaited()
        return 2 * x

    async def fails():
        await until_awaited()
        raise ValueError('over there')

    async def awaits(thread):
        return await thread

    started, awaited = threading.Event(), threading.Event()
    threads = []

    def other():
        threads.extend([sock.newthread(slow, 21), sock.newthread(fails)])
        started.set()
        assert sock.start(20)

    os_thread = threading.Thread(target=other)
    os_thread.start()
    assert started.wait(10)

    async def main():
        # In its first turn each comes to where it waits for the other poller's thread.
        slow, fails = [sock.newthread(awaits, thread) for thread in threads]
        awaited.set()
        with pytest.raises(ValueError, match='over there'):
            await fails
        assert await slow == 42

    run(main)
    os_thread.join(10)
    # Each has a part of its poller.
    threads.clear()


def test_poller_per_os_thread_with_locks_queues_and_events_between_them():
    """Each OS thread runs its own poller; what they share is safe between them."""
    count, items = 4, 500
    queue, results, lock, done = sock.Queue(8), [], sock.Lock(), sock.Event()

    async def produces(name):
        for i in range(items):
            await queue.put((name, i))

    async def consumes():
        while (item := await queue.get()) is not None:
            async with lock:
                before = len(results)
                await sock.sleep(0)
                results.append(item)
                assert len(results) == before + 1
        done.set()

    def produce(name):
        sock.run(produces, name)

    def consume():
        sock.run(consumes)

    async def main():
        for os_thread in os_threads[:count]:
            await sock.offload(os_thread.join)
        await queue.put(None)
        await done.wait()

    os_threads = [threading.Thread(target=produce, args=(i,)) for i in range(count)]
    os_threads.append(threading.Thread(target=consume))
    for os_thread in os_threads:
        os_thread.start()
    run(main)
    os_threads[-1].join(10)
    assert len(results) == count * items
    for name in range(count):
        assert [i for of, i in results if of == name] == [*range(items)]


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='only Linux spreads connections')
def test_listeners_on_one_port_one_for_each_poller_take_all_connections():
    count, clients = 3, 60
    port, ready, taken = [0], threading.Barrier(count + 1), [0] * count

    async def serve(i):
        with sock.tcp() as listener:
            listener.setopt('so_reuseport', True)
            if i == 0:
                listener.listen('127.0.0.1', 0)
                port[0] = listener.local_addr.port
                first.set()
            else:
                await sock.offload(first.wait)
                listener.listen('127.0.0.1', port[0])
            await sock.offload(ready.wait)
            while True:
                try:
                    conn, _, _ = await listener.accept(sock.clock() + 1)
                except sock.Timeout:
                    return
                taken[i] += 1
                with conn:
                    await conn.send(b'%d' % i)

    first = threading.Event()
    os_threads = [threading.Thread(target=sock.run, args=(serve, i)) for i in range(count)]
    for os_thread in os_threads:
        os_thread.start()
    ready.wait(10)

    async def client():
        with sock.tcp() as conn:
            await conn.connect('127.0.0.1', port[0])
            return int(await conn.recvall())

    async def main():
        return [await thread for thread in [sock.newthread(client) for _ in range(clients)]]

    answers = sock.run(main)
    for os_thread in os_threads:
        os_thread.join(20)
    assert sum(taken) == clients
    assert [answers.count(i) for i in range(count)] == taken
    assert all(taken)


@pytest.mark.skipif(not hasattr(sys, '_is_gil_enabled'), reason='this Python has no such thing')
def test_import_does_not_bring_the_gil_back():
    code = 'import sys; before = sys._is_gil_enabled(); import sock; print(before, sys._is_gil_enabled())'
    # As a user would: without PYTHON_GIL=0, which would keep it off whatever is imported.
    environment = {name: value for name, value in os.environ.items() if name != 'PYTHON_GIL'}
    command = [sys.executable, '-W', 'error', '-c', code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True, env=environment)
    before, after = done.stdout.split()
    assert before == after
