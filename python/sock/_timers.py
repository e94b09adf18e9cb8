"""Calls at a time, and sleeps that can be cut short.

A Timer is a thread that sleeps and calls. Like any thread it belongs to the Poller of the OS thread that made it; it
keeps ``start()`` from returning until its last call has ended or it was cancelled; and the end of ``run()`` cancels it.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator

from . import _scheduler, _sock
from ._errors import Cancelled, Timeout, advise
from ._sync import Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

clock = _sock.clock

#: The clock's, in seconds: nothing can be done more often.
_TICK = 1e-9


class SleepJob:
    """A sleep that others can end: made by ``sleep_job``. One thread at a time sleeps in it."""

    __slots__ = ('__weakref__', '_guard', '_sleeper', '_wait')

    def __init__(self) -> None:
        # Guards who sleeps; reentrant, since a signal handler may call `wakeup` at any moment.
        self._guard = threading.RLock()
        self._wait: _sock.Wait | None = None
        self._sleeper: _sock.Thread | None = None

    def __repr__(self) -> str:
        sleeper = self._sleeper
        return f'<sock.SleepJob, {"nobody" if sleeper is None else f"thread {sleeper.name!r}"} sleeps>'

    async def sleep(self, s: float) -> Any:
        """Sleeps ``s`` seconds: None, or the value of the ``wakeup`` that ended it. One thread sleeps at a time."""
        return await self.sleep_until(clock() + _sock.seconds(s, 'sleep takes seconds'))

    async def sleep_until(self, t: float) -> Any:
        """As ``sleep``, until a ``clock()`` value."""
        t = _sock.seconds(t, 'sleep_until takes a sock.clock() value')
        wait = _sock.Wait('sleep', t)
        sleeper = _sock.current()
        if sleeper is None:
            raise RuntimeError('sleep works only inside a sock thread: start one with sock.newthread() or sock.run()')
        with self._guard:
            other = self._sleeper
            if other is None:
                self._sleeper, self._wait = sleeper, wait
        if other is not None:
            raise RuntimeError(f'thread {other.name!r} sleeps in this job already: make one job for each that sleeps')
        try:
            return await wait
        except Timeout as late:
            # Not its own end, but an earlier one that was set around it: that is for whoever set it.
            if clock() < t - 0.001:
                advise(late, 'a deadline of the thread came first')
                raise
            return None
        finally:
            self._sleeper = self._wait = None

    def wakeup(self, value: Any = None) -> bool:
        """Ends the sleep at once, which returns ``value``. From anywhere. False: nobody sleeps, and nothing is kept."""
        wait = self._wait
        return wait is not None and wait.wake(value)


def sleep_job() -> SleepJob:
    """A new job to sleep in, which any other thread can cut short.

    >>> async def nap(job):
    ...     return await job.sleep(60)
    >>> job = sleep_job()
    >>> job.wakeup()
    False
    >>> napper = newthread(nap, job)
    >>> job.wakeup('up')
    True
    >>> start(), napper.result()
    (True, 'up')
    """
    return SleepJob()


class Timer:
    """What ``runat``, ``runafter`` and ``runevery`` return."""

    __slots__ = ('__weakref__', '_cancelled', '_thread')

    def __init__(self, kind: str, f: Callable[[], object], times: Iterator[float]) -> None:
        if not callable(f):
            raise TypeError(f'{kind} takes a function, plain or async, not {type(f).__name__}')
        self._cancelled = Event()
        # The name of a thread is its coroutine's, and a number.
        coro: Any = _calls(self._cancelled, f, times)
        coro.__name__ = f'{kind} {getattr(f, "__name__", type(f).__name__)}'
        self._thread = _scheduler.newthread(coro)

    def __repr__(self) -> str:
        state = 'cancelled' if self._cancelled.is_set() else 'done' if self.done else 'set'
        return f'<sock.Timer {self.name!r} {state}>'

    @property
    def name(self) -> str:
        """What it does, and a number; its thread has the same name."""
        return self._thread.name

    @property
    def done(self) -> bool:
        """Whether the last call has ended, or it was cancelled and no call runs."""
        return self._thread.done

    def cancel(self) -> None:
        """No call comes after this one returns, except that a call that runs is left to its end. From anywhere."""
        self._cancelled.set()


async def _calls(cancelled: Event, f: Callable[[], object], times: Iterator[float]) -> None:
    """A Timer's thread."""
    thread = _scheduler.thread()
    assert thread is not None
    for due in times:
        cancels = thread._cancels
        try:
            await cancelled.wait(due)
            return
        except Timeout:
            pass
        try:
            result = f()
            if isinstance(result, Awaitable):
                await result
        except (Exception, Cancelled) as failed:
            # The cancel of a thread that it awaited is a failure like any other.
            if thread._cancels != cancels:
                raise
            _scheduler._report_here(failed)
        finally:
            result = None


def _every(s: float) -> Iterator[float]:
    start, k = clock(), 0
    while True:
        # The next that is still to come: those that were missed are not made up for.
        k = max(k, int((clock() - start) // s)) + 1
        yield start + k * s


def runat(t: float, f: Callable[[], object] | Callable[[], Coroutine[Any, Any, object]]) -> Timer:
    """Calls ``f()``, a plain or an ``async def`` function, when ``clock()`` is ``t``; soon, if that has passed.

    An exception goes to ``sock.excepthook``. What ``f`` waits for holds up nobody else; what it computes does.
    """
    return Timer('runat', f, iter((_sock.seconds(t, 'runat takes a sock.clock() value'),)))


def runafter(s: float, f: Callable[[], object] | Callable[[], Coroutine[Any, Any, object]]) -> Timer:
    """Calls ``f()`` in ``s`` seconds, as ``runat``.

    >>> timer = runafter(0.01, lambda: print('now'))
    >>> start()
    now
    True
    """
    return Timer('runafter', f, iter((clock() + _sock.seconds(s, 'runafter takes seconds'),)))


def runevery(s: float, f: Callable[[], object] | Callable[[], Coroutine[Any, Any, object]]) -> Timer:
    """Calls ``f()`` every ``s`` seconds, the first time in ``s`` seconds, until ``cancel``.

    The k-th call is due ``k * s`` seconds from now, however long the calls take. One call ends before the next begins,
    and those that were missed meanwhile are left out. An exception goes to ``sock.excepthook``, and the calls go on.
    """
    every = _sock.seconds(s, 'runevery takes seconds')
    if every < _TICK:
        raise ValueError(f'runevery takes {_TICK} seconds or more, not {s}')
    return Timer('runevery', f, _every(every))
