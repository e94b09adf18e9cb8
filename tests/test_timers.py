"""runat, runafter, runevery; sleep_job."""

import itertools
import threading

import pytest
import sock
import sock.testing
from support import run


def test_runevery_goes_on_when_what_it_calls_awaits_a_cancelled_thread(reported):
    calls = []

    async def func():
        calls.append(1)
        thread = sock.newthread(sock.sleep, 60)
        thread.cancel()
        await thread

    async def main():
        sock.runevery(0.001, func)
        while len(calls) < 3:
            await sock.sleep(0.001)

    sock.run(main)
    assert len(calls) >= 3
    assert {type(exc) for _, exc in reported} == {sock.Cancelled}


def test_cancel_of_its_thread_ends_runevery_while_it_calls():
    async def main():
        waiting = []

        async def func():
            waiting.append(sock.thread())
            await sock.sleep(60)

        timer = sock.runevery(0.001, func)
        while not waiting:
            await sock.sleep(0.001)
        waiting[0].cancel()
        while not timer.done:
            await sock.sleep(0)
        assert len(waiting) == 1

    run(main)


def test_runafter_and_runat_call_once_plain_and_async_functions():
    called = []

    async def later():
        await sock.sleep(0)
        called.append('async')

    begin = sock.clock()
    sock.runafter(0.02, lambda: called.append(('plain', sock.clock() - begin)))
    sock.runat(begin + 0.01, later)
    assert sock.start(10), 'a timer keeps start() from returning until it is done'
    assert called[0] == 'async'
    name, passed = called[1]
    assert name == 'plain'
    assert 0.02 <= passed < 1


def test_runat_in_the_past_calls_soon():
    called = []
    sock.runat(0, lambda: called.append(1))
    assert sock.start(5)
    assert called == [1]


def test_runevery_does_not_drift():
    times = []

    async def main():
        begin = sock.clock()

        def tick():
            times.append(sock.clock() - begin)
            # What it takes itself would be a drift of 3 ms each time.
            clock.advance(0.003)
            if len(times) == 10:
                timer.cancel()

        timer = sock.runevery(0.01, tick)
        while not timer.done:
            await sock.sleep(0.005)

    with sock.testing.virtual_clock() as clock:
        run(main)
    assert times == pytest.approx([k * 0.01 for k in range(1, 11)], abs=1e-6)


def test_runevery_leaves_out_what_it_missed():
    starts = []

    async def main():
        begin = sock.clock()

        async def slow():
            starts.append(sock.clock() - begin)
            await sock.sleep(0.025)

        timer = sock.runevery(0.01, slow)
        await sock.sleep(0.1)
        timer.cancel()
        while not timer.done:
            await sock.sleep(0.005)

    run(main)
    assert 1 <= len(starts) <= 4
    assert all(after - before >= 0.025 for before, after in itertools.pairwise(starts))


def test_exception_in_one_timer_stops_neither_it_nor_another(reported):
    good, bad = [], []

    async def main():
        def fails():
            bad.append(1)
            raise ValueError('in a timer')

        timers = [sock.runevery(0.005, fails), sock.runevery(0.005, lambda: good.append(1))]
        while len(good) < 3 or len(bad) < 3:
            await sock.sleep(0.005)
        for timer in timers:
            timer.cancel()

    run(main)
    assert len(reported) == len(bad)
    assert all(str(exc) == 'in a timer' for _, exc in reported)
    assert 'runevery' in reported[0][0].name


def test_cancel_before_it_is_due_and_inside_itself():
    called = []
    timer = sock.runafter(60, lambda: called.append(1))
    assert not timer.done
    timer.cancel()
    timer.cancel()
    assert sock.start(5)
    assert timer.done
    assert called == []


def test_cancel_from_another_os_thread():
    timer = sock.runafter(60, lambda: None)
    threading.Thread(target=timer.cancel).start()
    assert sock.start(5)


def test_cancel_lets_a_call_that_runs_end():
    ended = []

    async def main():
        async def slow():
            await sock.sleep(0.02)
            ended.append(1)

        timer = sock.runevery(0.001, slow)
        await sock.sleep(0.01)
        timer.cancel()
        while not timer.done:
            await sock.sleep(0.005)

    run(main)
    assert ended == [1]


@pytest.mark.parametrize(
    ('call', 'error', 'says'),
    [
        (lambda: sock.runevery(0, print), ValueError, 'runevery takes 1e-09 seconds or more, not 0'),
        (lambda: sock.runevery(-1, print), ValueError, 'runevery takes 1e-09 seconds or more, not -1'),
        (lambda: sock.runevery(float('nan'), print), ValueError, 'runevery takes seconds, not nan'),
        (lambda: sock.runevery(5e-324, print), ValueError, 'runevery takes 1e-09 seconds or more, not 5e-324'),
        (lambda: sock.runafter(1, 'x'), TypeError, 'runafter takes a function, plain or async, not str'),
        (lambda: sock.runat('x', print), TypeError, r'runat takes a sock\.clock\(\) value, not str'),
        (lambda: sock.runafter(None, print), TypeError, 'runafter takes seconds, not NoneType'),
        (lambda: sock.runevery('x', print), TypeError, 'runevery takes seconds, not str'),
        (
            lambda: sock.sleep_job().sleep(1).send(None),
            RuntimeError,
            r'sleep works only inside a sock thread: start one with sock\.newthread\(\) or sock\.run\(\)',
        ),
    ],
)
def test_wrong_arguments_are_refused(call, error, says):
    with pytest.raises(error, match=f'^{says}$'):
        call()


@pytest.mark.parametrize('make', [sock.runat, sock.runafter, sock.runevery])
def test_huge_time_is_never(make):
    timer = make(10**400, lambda: pytest.fail('called'))
    assert sock.start(0.01) is False
    timer.cancel()
    assert sock.start(10) is True


def test_sleep_job_sleeps_and_is_woken():
    async def main():
        job = sock.sleep_job()
        begin = sock.clock()
        assert await job.sleep(0.01) is None
        assert sock.clock() - begin >= 0.01
        assert job.wakeup('nobody') is False

        async def nap():
            return await job.sleep(60), await job.sleep_until(sock.clock() + 60)

        napper = sock.newthread(nap)
        assert napper.waiting == 'sleep'
        assert job.wakeup(1)
        while napper.waiting is None:
            await sock.sleep(0)
        assert job.wakeup(2)
        assert await napper == (1, 2)

    run(main)


def test_sleep_job_is_for_one_sleeper_at_a_time():
    async def main():
        job = sock.sleep_job()

        async def nap():
            await job.sleep(60)

        napper = sock.newthread(nap)
        with pytest.raises(RuntimeError, match='sleeps in this job already'):
            await job.sleep(1)
        napper.cancel()
        with pytest.raises(sock.Cancelled):
            await napper
        assert await job.sleep(0) is None

    run(main)


def test_sleep_job_is_woken_from_another_os_thread():
    async def main():
        job = sock.sleep_job()
        waker = threading.Thread(target=lambda: [None for _ in iter(lambda: job.wakeup('up'), True)])
        waker.start()
        assert await job.sleep(30) == 'up'
        waker.join()

    run(main)
