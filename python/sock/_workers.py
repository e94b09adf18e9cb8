"""OS threads for calls that block, such as look-ups. Daemons, so that none of them ever delays the exit."""

from __future__ import annotations

import contextlib
import contextvars
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable

from . import _sock
from ._errors import Timeout, advise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    _T = TypeVar('_T')

_Job = tuple[_sock.Wait, Callable[..., 'Any'], tuple['Any', ...]]

#: Seconds after which a worker with nothing to do ends.
_IDLE = 10.0


class Workers:
    """At most ``limit`` OS threads, made when needed, that run one call after another, first come first served."""

    def __init__(self, limit: int, name: str) -> None:
        self.limit = limit
        self.name = name
        self._reset()
        _all.add(self)

    def _reset(self) -> None:
        self._jobs: deque[_Job] = deque()
        # Guards what is below and waits for jobs; no job runs under it. Reentrant, since a signal handler or the
        # garbage collector may run user code under it, which may have a job.
        self._changed = threading.Condition(threading.RLock())
        self._alive = 0
        self._idle = 0
        #: Answers that threads wait for.
        self.awaited = 0

    async def run(
        self, func: Callable[..., Any], *args: Any, what: str, advice: str, expires: float | None = None
    ) -> Any:
        """Awaits ``func(*args)``. When ``expires`` passes or the thread is cancelled, its late answer is dropped.

        ``advice``: what there is to say when ``expires`` has passed.
        """
        wait = _sock.Wait(what, expires)
        job = (wait, func, args)
        try:
            self._add(job)
            result, failed = await wait
        except BaseException as ended:
            self._remove(job)
            if isinstance(ended, Timeout):
                advise(ended, advice)
            raise
        self._answered()
        if failed is None:
            return result
        try:
            raise failed
        finally:
            # Its traceback has this frame.
            del failed

    def limited(self, n: int | None, name: str) -> int:
        """What the function ``name`` of a limit does: sets it, unless ``n`` is None, and gives it.

        More OS threads are made at once where calls wait; those that are too many end after the calls that they run.
        """
        if n is None:
            return self.limit
        if not isinstance(n, int) or isinstance(n, bool):
            raise TypeError(f'{name} takes a number of calls or None, not {type(n).__name__}')
        if n < 1:
            raise ValueError(f'{name} takes 1 call or more, not {n}')
        with self._changed:
            self.limit = n
            for _ in range(min(n - self._alive, len(self._jobs) - self._idle)):
                self._hire()
            self._changed.notify_all()
        return n

    def _add(self, job: _Job) -> None:
        with self._changed:
            self.awaited += 1
            self._jobs.append(job)
            if self._idle >= len(self._jobs):
                self._changed.notify()
            elif self._alive < self.limit:
                self._hire()

    def _remove(self, job: _Job) -> None:
        """Unless a worker has it already."""
        with self._changed, contextlib.suppress(ValueError):
            self.awaited -= 1
            self._jobs.remove(job)

    def _answered(self) -> None:
        with self._changed:
            self.awaited -= 1

    def _hire(self) -> None:
        self._alive += 1
        try:
            threading.Thread(target=self._work, name=f'sock {self.name}', daemon=True).start()
        except BaseException:
            self._alive -= 1
            # Those there are will come to it; without any, nobody would.
            if not self._alive:
                raise

    def _work(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                got = self._changed.wait_for(lambda: self._jobs or self._alive > self.limit, _IDLE)
                self._idle -= 1
                if not got or self._alive > self.limit:
                    self._alive -= 1
                    return
                wait, func, args = self._jobs.popleft()
            outcome: tuple[Any, BaseException | None]
            try:
                outcome = func(*args), None
            except BaseException as failed:
                outcome = None, failed
            wait.wake(outcome)
            # Nothing of the last job is kept while waiting for the next one.
            del wait, func, args, outcome


_all: weakref.WeakSet[Workers] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for workers in list(_all):
        workers._reset()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_after_fork_in_child)


#: For ``offload``, whose calls wait for disks and other libraries rather than compute.
_offload = Workers(min(32, (os.cpu_count() or 1) + 4), 'offload')

#: CO_COROUTINE and CO_ASYNC_GENERATOR (without importing inspect).
_ASYNC_CODE = 0x80 | 0x200


def _is_async(func: Any) -> bool:
    func = getattr(func, 'func', func)  # of a functools.partial
    for each in (func, getattr(type(func), '__call__', None)):  # noqa: B004, which asks whether it is callable
        if (code := getattr(each, '__code__', None)) is not None:
            return bool(code.co_flags & _ASYNC_CODE)
    return False


async def offload(func: Callable[..., _T], *args: Any, expires: float | None = None) -> _T:
    """Awaits ``func(*args)``, a plain function that blocks or computes, in a worker OS thread.

    It runs in a copy of the caller's contextvars context; its result or its exception comes back. When the thread is
    cancelled, or ``expires``, a ``clock()`` value, passes (``Timeout``), a call that runs cannot be stopped: it goes
    on, and its answer is dropped. One that has not begun never will.

    At most ``min(32, number of CPUs + 4)`` calls run at once, or as many as ``offload_limit`` says; the others wait for
    their turn.

    >>> run(offload, sum, [1, 2, 3])
    6
    """
    if not callable(func):
        raise TypeError(f'offload takes a function and its arguments, not {type(func).__name__}')
    if _is_async(func):
        raise TypeError(f'offload takes a plain function; {func!r} is async: await it directly')
    if _sock.current() is None:
        raise RuntimeError('offload works only inside a sock thread: start one with sock.newthread() or sock.run()')
    name = getattr(func, '__qualname__', type(func).__name__)
    context = contextvars.copy_context()
    what, advice = f'offload {name}', 'a call that has begun goes on, and its answer is dropped'
    result: _T = await _offload.run(context.run, func, *args, what=what, advice=advice, expires=expires)
    return result


def offload_limit(n: int | None = None) -> int:
    """How many calls of ``offload`` may run at once in this process; with an argument, sets it first.

    >>> offload_limit(100)
    100
    """
    return _offload.limited(n, 'offload_limit')
