"""What sock must survive: a test or more for each line of docs/reliability.md. What each gets: tests/conftest.py."""

import contextlib
import os
import sys
import zlib

import pytest
import sock
import sock.testing
from support import SLOWER, busy

#: Seconds that a scenario may take.
LIMIT = 40 * SLOWER

#: Seconds, of real time, that the other side may take on a free machine before a virtual clock jumps.
GRACE = 0.1

#: The chaos of all tests is another one with another number.
SEED = 'SOCK_SCENARIO_SEED'


def seed_of(name):
    """Of the chaos of a test: each has its own, the same one each time."""
    return zlib.crc32(name.encode(), int(os.environ.get(SEED, '0')))


#: How the fixture `run` runs a scenario: by so many OS threads, amid what, which a test's name gives.
WAYS = {
    '1-os-thread': (1, lambda name: contextlib.nullcontext()),
    '3-os-threads': (3, lambda name: contextlib.nullcontext()),
    'chaos': (3, lambda name: sock.testing.chaos(seed_of(name))),
    'virtual-clock': (1, lambda name: sock.testing.virtual_clock(grace=GRACE * busy())),
}

#: What the fixture `amid` puts around a scenario that runs its loops by itself: a row of `WAYS`, or nothing.
AROUND = ['plain', 'chaos', 'virtual-clock']

#: For a scenario that a program of its own shows, as its process has to end, to fork, or to be traced or interrupted.
own_program = pytest.mark.not_under(
    'chaos', 'virtual-clock', 'both are of one process, and it runs in a program of its own'
)


def pytest_generate_tests(metafunc):
    left_out = set()
    for mark in metafunc.definition.iter_markers('not_under'):
        *ways, why = mark.args
        assert ways, 'not_under says in which ways'
        assert set(ways) <= WAYS.keys(), f'ways are {list(WAYS)}'
        assert ' ' in why, f'not_under says why, not {why!r}'
        left_out |= {*ways}
    if 'run' in metafunc.fixturenames:
        metafunc.parametrize('run', [way for way in WAYS if way not in left_out], indirect=True)
    elif 'amid' in metafunc.fixturenames:
        metafunc.parametrize('amid', [way for way in AROUND if way not in left_out], indirect=True)
    elif missing := {*AROUND[1:]} - left_out:
        # docs/reliability.md says that it runs in these too.
        pytest.fail(
            f'{metafunc.definition.name} has neither the fixture `run` nor `amid`, and no `not_under` says why it does '
            f'not run under {" and ".join(sorted(missing))}',
            pytrace=False,
        )


@pytest.fixture
def run(request):
    """Runs a coroutine function to its end, in each of the `WAYS` (`run.way`): by one OS thread, by three that share a
    Poller (`run.threads`), amid chaos, by a clock that jumps.

    `@pytest.mark.not_under(way, ..., why)` is for a scenario that cannot run in some of them by its nature.
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
def amid(request):
    """Around a scenario that runs its loops by itself, in each way of `AROUND`: nothing, chaos, a clock that jumps."""
    if request.param == 'plain':
        yield request.param
        return
    with WAYS[request.param][1](request.node.name):
        yield request.param


@pytest.fixture
def switching():
    """OS threads that take turns as often as can be."""
    old = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(old)
