"""What sock must survive: a test or more for each line of docs/reliability.md. What each gets: tests/conftest.py."""

import sys

import pytest
import sock
from support import SLOWER

pytest.register_assert_rewrite('scenarios.faults')

#: Seconds that a scenario may take.
LIMIT = 40 * SLOWER


@pytest.fixture(params=[1, 3], ids=['1-os-thread', '3-os-threads'])
def run(request):
    """Runs a coroutine function to its end, by one OS thread and by three (`run.threads`) that share a Poller."""

    def run(func, *args):
        async def bounded():
            # Until the other OS threads are there.
            await sock.sleep(0)
            running = sock.newthread(func, *args, name='test')
            with sock.deadline(sock.clock() + LIMIT):
                try:
                    return await running
                except sock.Timeout:
                    if running.done:
                        raise
                    sock.dump()
                    pytest.fail(f'not done after {LIMIT} s')

        return sock.run(bounded, threads=request.param)

    run.threads = request.param
    return run


@pytest.fixture
def switching():
    """OS threads that take turns as often as can be."""
    old = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(old)
