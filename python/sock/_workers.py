"""OS threads for calls that block, such as look-ups. Daemons, so that none of them ever delays the exit."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

from . import _sock

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
        self._jobs: deque[tuple[_sock.Wait, Callable[..., Any], tuple[Any, ...]]] = deque()
        # Guards what is below and waits for jobs; no job runs under it.
        self._changed = threading.Condition(threading.Lock())
        self._alive = 0
        self._idle = 0

    async def run(self, func: Callable[..., Any], *args: Any, what: str, expires: float | None = None) -> Any:
        """Awaits ``func(*args)``. When ``expires`` passes or the thread is cancelled, its late answer is dropped."""
        wait = _sock.Wait(what, expires)
        job = (wait, func, args)
        with self._changed:
            self._jobs.append(job)
            if self._idle >= len(self._jobs):
                self._changed.notify()
            elif self._alive < self.limit:
                self._alive += 1
                threading.Thread(target=self._work, name=f'sock {self.name}', daemon=True).start()
        try:
            result, failed = await wait
        except BaseException:
            with self._changed, contextlib.suppress(ValueError):
                self._jobs.remove(job)
            raise
        if failed is not None:
            raise failed
        return result

    def _work(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                got = self._changed.wait_for(lambda: self._jobs, _IDLE)
                self._idle -= 1
                if not got:
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
