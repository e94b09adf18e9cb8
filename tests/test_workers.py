"""offload: calls that block, in worker OS threads."""

import contextvars
import threading
import time

import pytest
import sock
from sock import _workers
from support import run


def test_offload_gives_the_result_while_others_run():
    async def main():
        turns = 0

        async def counts():
            nonlocal turns
            while True:
                turns += 1
                await sock.sleep(0.001)

        counting = sock.newthread(counts)
        assert await sock.offload(time.sleep, 0.05) is None
        assert await sock.offload(sum, [1, 2, 3]) == 6
        assert turns > 3
        counting.cancel()

    run(main)


def test_offload_runs_in_another_os_thread_with_the_callers_context():
    variable = contextvars.ContextVar('variable')

    async def main():
        variable.set('here')
        value, where = await sock.offload(lambda: (variable.get(), threading.current_thread()))
        assert value == 'here'
        assert where is not threading.current_thread()

    run(main)


def test_offload_raises_what_the_function_raised():
    async def main():
        with pytest.raises(ZeroDivisionError):
            await sock.offload(lambda: 1 / 0)

    run(main)


def test_offload_expires_and_is_cancelled_and_its_answer_is_dropped():
    release = threading.Event()

    async def main():
        with pytest.raises(sock.Timeout, match='offload'):
            await sock.offload(release.wait, expires=sock.clock() + 0.01)
        thread = sock.newthread(sock.offload, release.wait)
        thread.cancel()
        with pytest.raises(sock.Cancelled):
            await thread
        release.set()
        assert await sock.offload(lambda: 'works on') == 'works on'

    run(main)


def test_offload_of_more_calls_than_workers():
    async def main():
        threads = [sock.newthread(sock.offload, lambda i=i: i * i) for i in range(200)]
        return [await thread for thread in threads]

    assert run(main) == [i * i for i in range(200)]


def test_offload_refuses_what_it_cannot_run():
    async def coroutine():
        pass

    async def main():
        with pytest.raises(TypeError, match='await it directly'):
            await sock.offload(coroutine)
        with pytest.raises(TypeError, match=r'^offload takes a function and its arguments, not int$'):
            await sock.offload(5)

    run(main)
    says = r'^offload works only inside a sock thread: start one with sock\.newthread\(\) or sock\.run\(\)$'
    with pytest.raises(RuntimeError, match=says):
        sock.offload(print).send(None)


@pytest.fixture(params=['offload_limit', 'resolve_limit'])
def any_limit(request):
    of = getattr(sock, request.param)
    before = of()
    yield of
    of(before)


@pytest.fixture
def limit():
    before = sock.offload_limit()
    yield sock.offload_limit
    sock.offload_limit(before)


def test_offload_limit_is_how_many_calls_run_at_once(limit):
    release, running, most = threading.Event(), [], []

    def call():
        running.append(1)
        most.append(len(running))
        assert release.wait(20)
        running.pop()

    async def main():
        assert limit(2) == limit() == 2
        threads = [sock.newthread(sock.offload, call) for _ in range(8)]
        while len(most) < 2:
            await sock.sleep(0.001)
        await sock.sleep(0.02)
        assert len(most) == 2
        # More start at once, for the calls that wait already.
        limit(5)
        while len(most) < 5:
            await sock.sleep(0.001)
        limit(1)
        release.set()
        for thread in threads:
            await thread
        # Those that are too many end.
        while _workers._offload._alive > 1:
            await sock.sleep(0.001)
        assert await sock.offload(lambda: 'works on') == 'works on'

    run(main)
    assert max(most) == 5


@pytest.mark.parametrize(
    ('n', 'error', 'words'),
    [
        (0, ValueError, 'takes 1 call or more, not 0'),
        (-1, ValueError, 'takes 1 call or more, not -1'),
        (True, TypeError, 'takes a number of calls or None, not bool'),
        ('2', TypeError, 'takes a number of calls or None, not str'),
    ],
)
def test_limit_refuses_what_is_no_number_of_calls(any_limit, n, error, words):
    before = any_limit()
    with pytest.raises(error, match=f'^{any_limit.__name__} {words}$'):
        any_limit(n)
    assert any_limit() == before
