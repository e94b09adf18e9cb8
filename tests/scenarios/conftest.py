"""What sock must survive: a test or more for each line of docs/reliability.md. What each gets: tests/conftest.py."""

import contextlib
import sys
import zlib

import pytest
import sock
import sock.testing
from support import SLOWER, busy

pytest.register_assert_rewrite('scenarios.faults')

#: Seconds that a scenario may take.
LIMIT = 40 * SLOWER

#: Seconds, of real time, that the other side may take on a free machine before a virtual clock jumps.
GRACE = 0.1

#: How the fixture `run` runs a scenario: by so many OS threads, amid what, which a test's name gives.
WAYS = {
    '1-os-thread': (1, lambda name: contextlib.nullcontext()),
    '3-os-threads': (3, lambda name: contextlib.nullcontext()),
    # A seed of its own for each test, the same one each time.
    'chaos': (3, lambda name: sock.testing.chaos(zlib.crc32(name.encode()))),
    'virtual-clock': (1, lambda name: sock.testing.virtual_clock(grace=GRACE * busy())),
}


def pytest_generate_tests(metafunc):
    if 'run' in metafunc.fixturenames:
        left_out = {way for way, _why in (mark.args for mark in metafunc.definition.iter_markers('not_under'))}
        assert left_out <= WAYS.keys(), f'ways are {list(WAYS)}'
        metafunc.parametrize('run', [way for way in WAYS if way not in left_out], indirect=True)


@pytest.fixture
def run(request):
    """Runs a coroutine function to its end, in each of the `WAYS` (`run.way`): by one OS thread, by three that share a
    Poller (`run.threads`), amid chaos, by a clock that jumps.

    `@pytest.mark.not_under(way, why)` is for a scenario that cannot run in one of them by its nature.
    """
    threads, amid = WAYS[request.param]

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

        with amid(request.node.name):
            return sock.run(bounded, threads=threads)

    run.threads = threads
    run.way = request.param
    return run


@pytest.fixture
def switching():
    """OS threads that take turns as often as can be."""
    old = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(old)
