"""Scenarios 35 to 41: deadlines and cancelling."""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

import pytest
import sock
from support import LINUX, TESTS, python

from .conftest import own_program

#: Moments around a deadline at which something else happens, in seconds: before it, with it, after it.
AROUND = [offset / 10_000 for offset in range(-20, 41)]


not_at_a_moment = pytest.mark.not_under('virtual-clock', 'it jumps over the moments at which another OS thread acts')


def at(t, func):
    """Calls a function in another OS thread at a time of the clock, as exactly as the machine can."""

    def call():
        time.sleep(max(0, t - 0.001 - sock.clock()))
        while sock.clock() < t:
            pass
        # It may find that it is too late.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            func()

    os_thread = threading.Thread(target=call)
    os_thread.start()
    return os_thread


def connection():
    ours, other = socket.socketpair()
    return sock.fromsocket(ours), other


@not_at_a_moment
def test_s35_data_at_the_moment_of_expiry_is_received_or_the_wait_timed_out(run):
    """Scenario 35: Expiry and readiness at the same moment -> exactly one of them happens; data that was read is never
    thrown away."""
    outcomes = set()

    async def main():
        for offset in AROUND:
            conn, other = connection()
            with conn, other:
                other.sendall(b'head')
                buf = bytearray(8)
                expires = sock.clock() + 0.003
                sender = at(expires + offset, lambda other=other: other.sendall(b'tail'))
                try:
                    outcome = 'received', await conn.recvn(buf, expires=expires)
                except sock.Timeout as timeout:
                    outcome = 'timeout', timeout.received
                await sock.offload(sender.join)
                how, count = outcome
                # A read may have been in the middle of either.
                assert count in ((8,) if how == 'received' else range(8) if run.way == 'chaos' else (4,))
                assert bytes(buf) == b'headtail'[:count].ljust(8, b'\0')
                assert conn.closed == (how == 'timeout')
                outcomes.add(how)

    run(main)
    assert outcomes == {'received', 'timeout'}


@not_at_a_moment
def test_s35_value_at_the_moment_of_expiry_arrives_or_is_left_for_the_next(run):
    """Scenario 35: Expiry and readiness at the same moment -> exactly one of them happens; data that was read is never
    thrown away."""
    outcomes = set()

    async def main():
        queue = sock.Queue()
        for offset in AROUND:
            expires = sock.clock() + 0.003
            putter = at(expires + offset, lambda: queue.put_nowait('item'))
            try:
                came = [await queue.get(expires)]
                outcomes.add('came')
            except sock.Timeout:
                came = []
                outcomes.add('timeout')
            await sock.offload(putter.join)
            left = []
            while queue.qsize():
                left.append(queue.get_nowait())
            assert came + left == ['item']

    run(main)
    assert outcomes == {'came', 'timeout'}


@not_at_a_moment
def test_s35_wakeup_at_the_moment_of_expiry_is_told_who_won(run):
    """Scenario 35: Expiry and readiness at the same moment -> exactly one of them happens; data that was read is never
    thrown away."""
    outcomes = set()

    async def main():
        job = sock.sleep_job()
        for offset in AROUND:
            told = []
            t = sock.clock() + 0.003
            waker = at(t + offset, lambda told=told: told.append(job.wakeup('woken')))
            value = await job.sleep_until(t)
            await sock.offload(waker.join)
            assert told == [value == 'woken']
            outcomes.update(told)

    run(main)
    assert outcomes == {True, False}


@pytest.mark.parametrize('operation', ['recv', 'recvn', 'recvall'])
def test_s36_cancel_when_data_comes_loses_none_of_it(run, operation):
    """Scenario 36: Cancel at the moment of completion -> either the result or `Cancelled`, no bytes lost: the next
    recv gets them."""
    data = random.Random(36).randbytes(40_000)
    got, cancelled = [], []
    conn, other = connection()

    async def reads():
        try:
            match operation:
                case 'recv':
                    part = await conn.recv(100)
                case 'recvn':
                    part = bytearray(50)
                    del part[await conn.recvn(part) :]
                case 'recvall':
                    part = await conn.recvall()
        except sock.Cancelled as exc:
            cancelled.append(exc.received)
            got.append(
                exc.data if operation == 'recvall' else bytes(part[: exc.received]) if operation == 'recvn' else b''
            )
            return True
        except sock.Closed as exc:
            got.append(bytes(part[: exc.received]))
            return False
        got.append(bytes(part))
        return bool(part) and operation != 'recvall'

    def send():
        for i in range(0, len(data), 40):
            other.sendall(data[i : i + 40])
            if i % 200 == 0:
                time.sleep(0)
        other.shutdown(socket.SHUT_WR)

    async def main():
        # One that nothing has come for; of the others, chance has it.
        early = sock.newthread(reads)
        early.cancel()
        more = await early
        sender = threading.Thread(target=send)
        sender.start()
        pauses = random.Random(1)
        while more:
            reader = sock.newthread(reads)
            for _ in range(pauses.randrange(3)):
                await sock.sleep(0)
            # From another OS thread now and then, where it meets the reader anywhere.
            await (sock.offload(reader.cancel) if pauses.random() < 0.2 else sock.newthread(_cancel(reader)))
            more = await reader
        await sock.offload(sender.join)

    with conn, other:
        run(main)
    assert b''.join(got) == data
    assert cancelled


async def _cancel(thread):
    thread.cancel()


def test_s36_cancelled_send_tells_how_much_the_peer_gets(run):
    """Scenario 36: Cancel at the moment of completion -> either the result or `Cancelled`, no bytes lost: the next
    recv gets them."""
    data = random.Random(36).randbytes(3_000_000)
    conn, other = connection()
    # On Windows as little as elsewhere is under way at once: most of the sends have to wait.
    conn.setopt('so_sndbuf', 100_000)
    other.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 100_000)
    received = bytearray()
    cancelled = []

    async def sends(part):
        try:
            return await conn.send(part)
        except sock.Cancelled as exc:
            cancelled.append(exc.sent)
            return exc.sent

    def receive():
        while part := other.recv(20_000):
            received.extend(part)

    async def main():
        receiver = threading.Thread(target=receive)
        receiver.start()
        pauses = random.Random(1)
        sent = 0
        while sent < len(data):
            sender = sock.newthread(sends, memoryview(data)[sent : sent + 500_000])
            for _ in range(pauses.randrange(4)):
                await sock.sleep(0)
            sender.cancel()
            sent += await sender
        conn.shutdown('w')
        await sock.offload(receiver.join)

    with conn, other:
        run(main)
    assert received == data
    assert any(cancelled)


#: Every wait that has a deadline, given a connection with nothing to read and a time.
WAITS = {
    'recv': lambda conn, t: conn.recv(1, expires=t),
    'readable': lambda conn, t: conn.readable(t),
    'event': lambda _, t: sock.Event().wait(t),
    'queue': lambda _, t: sock.Queue().get(t),
    'semaphore': lambda _, t: sock.Semaphore(0).acquire(t),
    'block': lambda conn, t: _within(t, conn),
}


async def _within(t, conn):
    with sock.deadline(t):
        await conn.recv(1)


@pytest.mark.parametrize('wait', WAITS)
def test_s37_deadline_that_has_passed_ends_the_wait_at_once(run, wait):
    """Scenario 37: `expires` in the past, now, negative, an int; inf or huge; nan -> what can be done at once is done,
    else `Timeout` at once; waits on; nan is a ValueError."""

    async def main():
        now = sock.clock()
        for expires in (now, int(now), now - 1, 0, -1, -1e300, -float('inf')):
            conn, other = connection()
            with conn, other:
                begin = sock.clock()
                with pytest.raises(sock.Timeout) as caught:
                    await WAITS[wait](conn, expires)
                assert caught.value.err == 'timeout'
                assert sock.clock() - begin < 1
                assert conn.closed == (wait in ('recv', 'readable', 'block'))

    run(main)


@pytest.mark.parametrize('wait', WAITS)
def test_s37_deadline_that_never_comes_waits_on(run, wait):
    """Scenario 37: `expires` in the past, now, negative, an int; inf or huge; nan -> what can be done at once is done,
    else `Timeout` at once; waits on; nan is a ValueError."""

    async def waits(conn, expires):
        await WAITS[wait](conn, expires)

    async def main():
        for expires in (float('inf'), 10**12, 10**300, 1e300, sys.float_info.max):
            conn, other = connection()
            with conn, other:
                thread = sock.newthread(waits, conn, expires)
                await sock.sleep(0.005)
                assert not thread.done
                thread.cancel()
                with pytest.raises(sock.Cancelled):
                    await thread
                assert not conn.closed

    run(main)


@pytest.mark.parametrize('wait', WAITS)
def test_s37_nan_is_a_value_error_and_touches_nothing(run, wait):
    """Scenario 37: `expires` in the past, now, negative, an int; inf or huge; nan -> what can be done at once is done,
    else `Timeout` at once; waits on; nan is a ValueError."""

    async def main():
        conn, other = connection()
        with conn, other:
            with pytest.raises(ValueError, match='not a number'):
                await WAITS[wait](conn, float('nan'))
            with pytest.raises(TypeError, match=r'sock\.clock\(\) value'):
                await WAITS[wait](conn, 'soon')
            assert not conn.closed
            other.sendall(b'x')
            assert await conn.recv(1) == b'x'

    run(main)


def test_s37_what_can_be_done_at_once_is_done_though_the_deadline_has_passed(run):
    """Scenario 37: `expires` in the past, now, negative, an int; inf or huge; nan -> what can be done at once is done,
    else `Timeout` at once; waits on; nan is a ValueError."""

    async def main():
        conn, other = connection()
        with conn, other:
            other.sendall(b'there already')
            # A byte at a time: no part of it is done at once.
            assert await conn.recv(1, expires=0) == b't'
            assert await conn.send(b'b', expires=-1) == 1
            assert other.recv(4) == b'b'
            semaphore = sock.Semaphore(1)
            await semaphore.acquire(0)

    run(main)


@pytest.mark.skipif(not LINUX, reason='reads its memory from /proc')
@pytest.mark.parametrize('threads', [1, 3])
@own_program
def test_s38_hundred_thousand_deadlines_set_and_cancelled_leave_memory_flat(threads):
    """Scenario 38: 100,000 deadlines set and cancelled -> memory flat (no heap of dead entries), next due found in
    O(log n)."""
    python(f"""
        import gc, socket, sys, sock
        sys.path.append({str(TESTS)!r})
        from held import resident

        ours, other = socket.socketpair()
        conn = sock.fromsocket(ours)

        async def sleeps():
            await sock.sleep(3600)

        async def together():
            # All set at the same time, and cancelled.
            threads = [sock.newthread(sleeps) for _ in range(100_000)]
            for thread in threads:
                thread.cancel()

        async def one_by_one():
            # Each wait with a deadline of its own, which never comes.
            for i in range(50_000):
                reader = conn.recv(1, expires=sock.clock() + 3600 - i / 1000)
                other.send(b'x')
                await reader

        async def waits():
            # Each takes an entry among the timers, since each is nearer than the last.
            for i in range(20_000):
                thread = sock.newthread(conn.recv, 1)
                other.send(b'x')
                await thread
                thread = sock.newthread(sock.sleep, 3600 - i / 1000)
                thread.cancel()

        with conn, other:
            for work in (together, one_by_one, waits):
                after = []
                for _ in range(6):
                    sock.run(work, threads={threads})
                    gc.collect()
                    after.append(resident())
                # A dead entry for each would be 100,000 times 24 bytes and more in each round.
                assert min(after[4:]) - max(after[1:3]) < 4_000_000, (work, after)
    """)


@pytest.mark.not_under('chaos', 'it measures the time of few, among whom others run then')
@pytest.mark.not_under('virtual-clock', 'each of its jumps looks at all threads')
def test_s38_next_due_is_found_among_very_many_as_fast_as_among_few(run):
    """Scenario 38: 100,000 deadlines set and cancelled -> memory flat (no heap of dead entries), next due found in
    O(log n)."""

    async def sleeps(seconds):
        with contextlib.suppress(sock.Cancelled):
            await sock.sleep(seconds)

    async def cost(others):
        """Processor time of 10,000 deadlines that are set, half of them due and half of them cancelled: far more than a
        tick of a sixtieth of a second, in which Windows counts it."""
        waiting = [sock.newthread(sleeps, 600 + i / 1000) for i in range(others)]
        await sock.sleep(0.001)
        begin = time.process_time()
        for i in range(5000):
            due, cancelled = sock.newthread(sleeps, 1e-9), sock.newthread(sleeps, i + 1)
            cancelled.cancel()
            await due
            await cancelled
        passed = time.process_time() - begin
        for thread in waiting:
            thread.cancel()
        for thread in waiting:
            await thread
        return passed

    async def main():
        few = min([await cost(100) for _ in range(3)])
        many = min([await cost(100_000) for _ in range(3)])
        # A search through all of them would be hundreds of times as much.
        assert many < few * 10, (few, many)

    run(main)


STOPPED = """
    import sock, sys

    async def reads(conn, expires):
        try:
            return (await conn.recv(100, expires=expires)).decode()
        except sock.Timeout:
            return 'timeout'

    async def sleeps():
        await sock.sleep(0.2)
        return 'slept'

    async def main():
        listener = sock.tcp()
        listener.listen('127.0.0.1')
        print(listener.local_addr.port, flush=True)
        with listener:
            conns = [(await listener.accept())[0] for _ in range(2)]
        expires = sock.clock() + 0.2
        threads = [sock.newthread(reads, conn, expires) for conn in conns] + [sock.newthread(sleeps)]
        print('ready', flush=True)
        for thread in threads:
            print(await thread, flush=True)
        for conn in conns:
            conn.close()

    sock.run(main, threads=int(sys.argv[1]))
"""


@pytest.mark.skipif(not hasattr(signal, 'SIGSTOP'), reason='no SIGSTOP')
@pytest.mark.parametrize('threads', ['1', '3'])
@own_program
def test_s39_after_a_stop_longer_than_all_deadlines_data_wins_over_expiry(threads):
    """Scenario 39: The process is stopped (SIGSTOP) for longer than all deadlines -> after SIGCONT ready data wins
    over expiry where both are due."""
    command = [sys.executable, '-W', 'error', '-c', textwrap.dedent(STOPPED), threads]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            port = int(process.stdout.readline())
            with (
                socket.create_connection(('127.0.0.1', port), 10) as first,
                socket.create_connection(('127.0.0.1', port), 10) as second,
            ):
                assert process.stdout.readline() == 'ready\n'
                process.send_signal(signal.SIGSTOP)
                assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
                first.sendall(b'in time')
                # Its deadlines pass.
                time.sleep(0.4)
                process.send_signal(signal.SIGCONT)
                answers = [process.stdout.readline().strip() for _ in range(3)]
                assert second.recv(1) == b''
        finally:
            process.kill()
    assert answers == ['in time', 'timeout', 'slept']


#: Between the process and its C library: a wall clock that leaps a day to and fro with each look at it.
LEAPING_CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>

static long leap(void) {
    static _Atomic long looks;
    return looks++ % 2 ? 86400 : -86400;
}

int clock_gettime(clockid_t clock, struct timespec *t) {
    static int (*original)(clockid_t, struct timespec *);
    if (!original) *(void **)&original = dlsym(RTLD_NEXT, "clock_gettime");
    int result = original(clock, t);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) t->tv_sec += leap();
    return result;
}

int gettimeofday(struct timeval *restrict t, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    t->tv_sec = now.tv_sec;
    t->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *t) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (t) *t = now.tv_sec;
    return now.tv_sec;
}
"""


@pytest.mark.skipif(shutil.which('cc') is None, reason='cc, which makes the clock that leaps, is not installed')
@pytest.mark.skipif(not LINUX, reason='LD_PRELOAD, as it is meant here, is of Linux')
@pytest.mark.parametrize('threads', [1, 3])
@own_program
def test_s40_wall_clock_that_leaps_changes_nothing(tmp_path, threads):
    """Scenario 40: The wall clock jumps -> nothing happens (monotonic clock)."""
    source, library = tmp_path / 'clock.c', tmp_path / 'clock.so'
    source.write_text(LEAPING_CLOCK)
    subprocess.run(['cc', '-shared', '-fPIC', '-o', library, source, '-ldl'], check=True, timeout=60)
    python(
        f"""
        import socket, sock, time

        leaps = [time.time() for _ in range(4)]
        assert max(leaps) - min(leaps) > 86_000, 'the clock should leap'

        def leap():
            while not over:
                time.time()
                time.sleep(0.001)

        async def main():
            begin = time.monotonic()
            for _ in range(20):
                await sock.sleep(0.005)
            ours, other = socket.socketpair()
            with sock.fromsocket(ours) as conn, other:
                try:
                    await conn.recv(1, expires=sock.clock() + 0.05)
                except sock.Timeout:
                    pass
                else:
                    raise AssertionError('it should have expired')
            calls = []
            timer = sock.runevery(0.01, lambda: calls.append(sock.clock()))
            await sock.sleep(0.1)
            timer.cancel()
            assert calls and all(0 < later - sooner < 5 for sooner, later in zip(calls, calls[1:]))
            assert await sock.offload(time.sleep, 0.01) is None
            try:
                await sock.Event().wait(sock.clock() + 0.05)
            except sock.Timeout:
                pass
            assert 0.31 <= time.monotonic() - begin < 5

        sock.run(main, threads={threads})
        """,
        env={**os.environ, 'LD_PRELOAD': f'{os.environ.get("LD_PRELOAD", "")} {library}'.strip()},
    )


def test_s41_thread_that_catches_cancelled_and_waits_again_goes_on(run):
    """Scenario 41: A thread that catches `Cancelled` and waits again, cancel twice, cancel before the first step,
    cancel oneself -> goes on; ends this wait and the next; ends the first wait; ends the next wait."""

    async def waits():
        with pytest.raises(sock.Cancelled):
            await sock.sleep(60)
        await sock.sleep(0.001)
        return 'whole'

    async def main():
        thread = sock.newthread(waits)
        thread.cancel()
        assert await thread == 'whole'

    run(main)


def test_s41_cancel_twice_ends_this_wait_and_the_next(run):
    """Scenario 41: A thread that catches `Cancelled` and waits again, cancel twice, cancel before the first step,
    cancel oneself -> goes on; ends this wait and the next; ends the first wait; ends the next wait."""

    async def waits():
        for _ in range(2):
            with pytest.raises(sock.Cancelled):
                await sock.sleep(60)
        await sock.sleep(0.001)
        return 'whole'

    async def main():
        thread = sock.newthread(waits)
        while thread.waiting is None:
            # Amid chaos it may let others run before it waits; two cancels of one that does not wait are one.
            await sock.sleep(0)
        thread.cancel()
        thread.cancel()
        assert await thread == 'whole'

    run(main)


def test_s41_cancel_before_the_first_step_ends_the_first_wait(run):
    """Scenario 41: A thread that catches `Cancelled` and waits again, cancel twice, cancel before the first step,
    cancel oneself -> goes on; ends this wait and the next; ends the first wait; ends the next wait."""
    steps = []

    async def late():
        steps.append('first')
        await sock.sleep(60)
        steps.append('second')

    async def nests(depth):
        # Deeper and deeper, until a new thread is queued and has not begun.
        assert depth < 100
        steps.clear()
        thread = sock.newthread(late)
        began = bool(steps)
        thread.cancel()
        if began:
            with contextlib.suppress(sock.Cancelled):
                await sock.newthread(nests, depth + 1)
        else:
            queued.append(thread)

    async def main():
        await sock.newthread(nests, 0)
        with pytest.raises(sock.Cancelled):
            await queued[0]

    queued = []
    run(main)
    assert queued
    assert 'second' not in steps


def test_s41_cancel_oneself_ends_the_next_wait(run):
    """Scenario 41: A thread that catches `Cancelled` and waits again, cancel twice, cancel before the first step,
    cancel oneself -> goes on; ends this wait and the next; ends the first wait; ends the next wait."""

    async def main():
        sock.thread().cancel()
        with pytest.raises(sock.Cancelled):
            await sock.sleep(60)
        await sock.sleep(0.001)
        return 'whole'

    assert run(main) == 'whole'
