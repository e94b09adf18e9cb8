"""``sock.group()``: threads that end together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from types import TracebackType

from . import _errors, _scheduler, _sock
from ._scheduler import Thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: On the poller's clock: no deadline.
_NEVER = 2**64 - 1


class Group:
    """``async with sock.group() as g:`` leaves when all threads that ``g.newthread()`` started have ended.

    The first exception, of a thread or of the block itself, cancels the others and the block, and comes out when all
    have ended; if there are several, as an ExceptionGroup. A thread that is cancelled by somebody else just ends. When
    the block's own thread is cancelled, or a deadline of its passes, all of the group's are cancelled.
    """

    __slots__ = ('_cancels', '_empty', '_errors', '_lock', '_owner', '_running', '_state', '_struck')

    _owner: Thread

    def __init__(self) -> None:
        # Guards all that follows: threads may end in other OS threads. Reentrant, as the collector may run anything.
        self._lock = threading.RLock()
        self._state = 'new'
        self._running: set[Thread] = set()
        self._errors: list[BaseException] = []
        #: The block was cancelled by us.
        self._struck = False
        #: Woken when nothing runs any more, at the end.
        self._empty: _sock.Wait | None = None

    async def __aenter__(self) -> Group:
        if self._state != 'new':
            raise RuntimeError('a group is used once: make another one with sock.group()')
        owner = _scheduler.thread()
        if owner is None:
            raise RuntimeError('a group works inside a sock thread: start one with sock.newthread() or sock.run()')
        self._owner = owner
        #: Of the owner, so far.
        self._cancels = owner._cancels
        self._state = 'block'
        return self

    def newthread(
        self,
        func: Callable[..., Coroutine[Any, Any, Any]] | Coroutine[Any, Any, Any],
        *args: Any,
        name: str | None = None,
    ) -> Thread:
        """Starts a thread of the group, as ``sock.newthread`` does. Also from one of its threads, while others run."""
        if self._state not in ('block', 'ending'):
            if isinstance(func, Coroutine):
                func.close()
            raise RuntimeError('this group is not entered, or has ended: start threads inside its async with block')
        thread = _scheduler.newthread(func, *args, name=name)
        with self._lock:
            self._running.add(thread)
            failed = bool(self._errors)
        thread.onfinish(self._ended)
        if failed:
            thread._condemn()
        return thread

    def cancel(self) -> None:
        """Cancels all threads of the group that have not ended, each once: what they still do is their end."""
        with self._lock:
            running = list(self._running)
        for thread in running:
            thread._condemn()

    def _ended(self, thread: Thread) -> None:
        exc = thread._exc
        empty = None
        with self._lock:
            self._running.discard(thread)
            failed = exc is not None and not isinstance(exc, _errors.Cancelled)
            if failed:
                thread._see()
                assert exc is not None
                self._errors.append(exc)
                if self._state == 'block' and not self._struck:
                    self._struck = True
                    self._owner.cancel()
            if not self._running:
                empty = self._empty
        if failed:
            self.cancel()
        if empty is not None:
            empty.wake()

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        with self._lock:
            self._state = 'ending'
            struck = self._struck
        # Somebody else may have cancelled the owner besides us. Of those cancels one comes out in the end: this one, or
        # one that has not come out yet.
        alone = struck and self._owner._uncancel() == self._cancels
        if struck and (alone or isinstance(exc, _errors.Cancelled)):
            self._owner._take_cancelled()
        cancelled = exc if isinstance(exc, _errors.Cancelled) and not alone else None
        if exc is not None and not isinstance(exc, _errors.Cancelled):
            self._errors.append(exc)
        if exc is not None:
            self.cancel()
        late = await self._wait()
        self._state = 'ended'
        cancelled = cancelled or (late if isinstance(late, _errors.Cancelled) else None)
        if late is not None and late is not cancelled:
            self._errors.append(late)
        errors, self._errors = self._errors, []
        if cancelled is not None:
            # Who cancels gets what was asked for; what failed meanwhile is not lost.
            for error in errors:
                _scheduler._report(self._owner, error)
            if cancelled is exc:
                return False
            raise cancelled
        try:
            if len(errors) == 1:
                if errors[0] is exc:
                    return False
                raise errors[0]
            if errors:
                raise BaseExceptionGroup(f'{len(errors)} failures in a group of threads', errors)
        finally:
            # Their tracebacks hold this frame.
            del errors, exc, late, cancelled
        return True

    async def _wait(self) -> BaseException | None:
        """Until no thread of the group runs. What would end the wait before cancels them, and is given back."""
        late: BaseException | None = None
        limit = None
        try:
            while True:
                with self._lock:
                    if not self._running:
                        return late
                    self._empty = wait = _sock.Wait('the end of a group of threads')
                try:
                    await wait
                except (_errors.Cancelled, _errors.Timeout) as ended:
                    if late is None and isinstance(ended, _errors.Timeout):
                        _errors.advise(ended, 'its threads were cancelled')
                    late = late or ended
                    if limit is None:
                        # They are given the time to end.
                        limit = self._owner._set_limit(_NEVER)
                    self.cancel()
        finally:
            self._empty = None
            if limit is not None:
                self._owner._set_limit(limit)


def group() -> Group:
    """Threads that end together: ``async with sock.group() as g: g.newthread(func, *args)``. See ``Group``."""
    return Group()
