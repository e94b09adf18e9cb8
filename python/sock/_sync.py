"""Lock, Event, Condition, Semaphore, Queue: waited for by threads of any Poller, changed from anywhere.

1. Every object has one guard, an OS lock held for a few bytecodes. It is reentrant: a signal handler or the garbage
   collector may run user code at nearly any bytecode of ours, which may use the same object, in the OS thread that
   holds the guard. With a plain lock it would wait for itself.
2. So that such code never meets a half-made change, no call stands between what a guarded block has looked at and what
   it changes: the interpreter runs handlers after calls and in loops, not between two plain bytecodes. Nobody is woken
   under a guard, and nothing waits under one.
3. Who waits is in ``_waiting``, in order of arrival. Who takes it out of there, under the guard, decides how the wait
   ends: a waker has handed over what was waited for, whether or not ``wake`` still finds it waiting. One that
   was cancelled or expired looks there: still in, nothing came; taken out, it has been given something, which it keeps
   (its time passed just then) or hands on (it was cancelled).
4. What is free while nobody waits is taken at once; while somebody waits nothing is free. Nobody overtakes.
"""

from __future__ import annotations

import math
import sys
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Coroutine

from . import _sock
from ._errors import Cancelled, Closed, Timeout, advise
from ._scheduler import over

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Generic, TypeVar

    _T = TypeVar('_T')
else:
    _T = None

    class Generic:
        """At run time a subscript says nothing."""

        __slots__ = ()

        def __class_getitem__(cls, item):
            return cls


check_wait, current = _sock.check_wait, _sock.current

#: Of so many calls that find at once what they want, one lets the other threads run first, as socket operations do.
_BUDGET = 128

#: On the poller's clock: no deadline.
_NEVER = 2**64 - 1

_Waiting = OrderedDict[_sock.Wait, None]


def _me() -> weakref.ref[Any]:
    """Who calls: a thread, or outside of any an OS thread. The same object each time."""
    thread = current()
    return weakref.ref(threading.current_thread() if thread is None else thread)


class Semaphore:
    """``value`` permits: ``acquire`` takes one, and waits where none is left; ``release`` gives them back.

    >>> async def work(limit):
    ...     async with limit:
    ...         return limit.value
    >>> run(work, Semaphore(3))
    2
    """

    __slots__ = ('__weakref__', '_guard', '_passed', '_value', '_waiting')

    #: Infinite: a limit that is none.
    _value: float

    def __init__(self, value: int = 1) -> None:
        if not isinstance(value, int):
            raise TypeError(f'value must be a number of permits, not {type(value).__name__}')
        if value < 0:
            raise ValueError(f'value must be 0 or more permits, not {value}')
        self._value = value
        # Guards the fields; see the head of this module.
        self._guard = threading.RLock()
        # While there is one, `_value` is 0.
        self._waiting: _Waiting = OrderedDict()
        self._passed = 0

    def __repr__(self) -> str:
        return f'<sock.Semaphore {self._value}, {len(self._waiting)} waiting>'

    @property
    def value(self) -> int:
        """Permits that are free now."""
        return int(self._value)

    async def acquire(self, expires: float | None = None) -> None:
        """Takes a permit; waits for one where none is free, first come first served.

        ``expires``: a ``clock()`` value after which it raises ``Timeout`` and has taken none.
        """
        if not self._at_once('acquire of a semaphore', expires):
            await self._later(
                'acquire of a semaphore', expires, lambda: 'all permits are taken: release() gives one back'
            )

    def try_acquire(self) -> bool:
        """Takes a permit if one is free, from anywhere."""
        with self._guard:
            if self._value > 0:
                self._value -= 1
                return True
        return False

    def release(self, n: int = 1) -> None:
        """Gives ``n`` permits, from anywhere: first to those who wait."""
        if n != 1:
            if not isinstance(n, int):
                raise TypeError(f'release takes a number of permits, not {type(n).__name__}')
            if n < 1:
                raise ValueError(f'release takes 1 permit or more, not {n}')
        while n:
            with self._guard:
                if not self._waiting:
                    self._value += n
                    return
                wait, _ = self._waiting.popitem(last=False)
            wait.wake()
            n -= 1

    def __aenter__(self) -> Coroutine[Any, Any, None]:
        return self.acquire()

    def __aexit__(self, *failed: object) -> Awaitable[None]:
        self.release()
        return over

    def _at_once(self, what: str, expires: float | None) -> bool:
        """Takes a permit if one is free and it is not time to let others run; otherwise: ``_later``."""
        if expires is not None or current() is None:
            check_wait(what, expires)
        self._passed += 1
        if self._passed % _BUDGET:
            with self._guard:
                if self._value > 0:
                    self._value -= 1
                    return True
        return False

    async def _later(self, what: str, expires: float | None, advice: Callable[[], str]) -> None:
        """``advice``: what there is to say if it expires."""
        if self._value > 0:
            await _sock.sleep_until(0)
        wait = _sock.Wait(what, expires)
        with self._guard:
            if self._value > 0:
                self._value -= 1
                return
            self._waiting[wait] = None
        try:
            await wait
        except BaseException as ended:
            with self._guard:
                given = self._waiting.pop(wait, wait) is wait
            if isinstance(ended, Timeout):
                if given:
                    return
                advise(ended, advice())
            elif given:
                self.release()
            raise

    def _open(self) -> None:
        """From now on nobody waits: there are permits without end."""
        none: _Waiting = OrderedDict()
        with self._guard:
            self._value = math.inf
            waiting, self._waiting = self._waiting, none
        for wait in waiting:
            wait.wake()


class Lock:
    """One thread at a time holds it; the others get it in the order in which they came.

    A plain OS thread may hold it too, by ``try_acquire``. ``name`` is for messages.

    >>> async def add(lock):
    ...     async with lock:
    ...         return lock.locked
    >>> run(add, Lock())
    True
    """

    __slots__ = ('__weakref__', '_name', '_owner', '_permit')

    #: Who holds it; None for the moment in which it is handed over. Weak: a thread that can never run again goes.
    _owner: weakref.ref[Any] | None

    def __init__(self, name: str | None = None) -> None:
        if name is not None and not isinstance(name, str):
            raise TypeError(f'name must be a str, not {type(name).__name__}')
        self._name = name
        self._owner = None
        self._permit = Semaphore(1)

    def __repr__(self) -> str:
        return f'<sock.Lock{self._quoted()} {f"held by {self._holder()}" if self.locked else "free"}>'

    def _quoted(self) -> str:
        return '' if self._name is None else f' {self._name!r}'

    def _holder(self) -> str:
        if (ref := self._owner) is None:
            return 'the next one who waited'
        owner = ref()
        if owner is None:
            return 'a thread that has gone without releasing it'
        if isinstance(owner, threading.Thread):
            return f'OS thread {owner.name!r}'
        return f'thread {owner.name!r}{", which has ended" if owner.done else ""}'

    def _why_late(self) -> str:
        return f'now it is held by {self._holder()}, who must release() it'

    @property
    def locked(self) -> bool:
        """Whether anybody holds it."""
        return self._permit._value == 0

    async def acquire(self, expires: float | None = None) -> None:
        """Takes the lock; waits while another holds it. RuntimeError if the caller holds it already.

        ``expires``: a ``clock()`` value after which it raises ``Timeout``, without the lock.
        """
        me = _me()
        if self._owner is me:
            raise RuntimeError(f'{self._holder()} holds lock{self._quoted()} already: it would wait for itself')
        if not self._permit._at_once('acquire of a lock', expires):
            what = f'acquire of lock{self._quoted()}, held by {self._holder()}'
            await self._permit._later(what, expires, self._why_late)
        self._owner = me

    async def _reacquire(self) -> Cancelled | None:
        """Takes the lock whatever comes, a cancel or a deadline around; the last cancel that came."""
        thread = current()
        assert thread is not None
        late = None
        limit = thread._set_limit(_NEVER)
        try:
            while True:
                try:
                    await self.acquire()
                    return late
                except Cancelled as cancelled:
                    late = cancelled
        finally:
            thread._set_limit(limit)
            # Its traceback has this frame.
            late = None

    def try_acquire(self) -> bool:
        """Takes the lock if it is free, from anywhere. False also where the caller holds it."""
        if self._permit.try_acquire():
            self._owner = _me()
            return True
        return False

    def release(self) -> None:
        """Gives the lock to who has waited longest. RuntimeError if the caller does not hold it."""
        if self._owner is not _me():
            what = f'is held by {self._holder()}: only that one releases it' if self.locked else 'is not held'
            raise RuntimeError(f'lock{self._quoted()} {what}')
        self._owner = None
        self._permit.release()

    def __aenter__(self) -> Coroutine[Any, Any, None]:
        return self.acquire()

    def __aexit__(self, *failed: object) -> Awaitable[None]:
        self.release()
        return over


class Event:
    """A flag to wait for.

    >>> async def wait(event):
    ...     await event.wait(expires=clock() + 1)
    ...     return 'set'
    >>> event = Event()
    >>> waits = newthread(wait, event)
    >>> event.set()
    >>> start(), waits.result()
    (True, 'set')
    """

    __slots__ = ('__weakref__', '_advice', '_flag', '_guard', '_passed', '_waiting', '_what')

    def __init__(self) -> None:
        self._flag = False
        # Guards the fields; see the head of this module.
        self._guard = threading.RLock()
        self._waiting: dict[_sock.Wait, None] = {}
        self._passed = 0
        #: What those who wait are shown to do, and told when their time has passed.
        self._what = 'wait for an event'
        self._advice = 'nobody has called its set()'

    def __repr__(self) -> str:
        return f'<sock.Event {"set" if self._flag else f"not set, {len(self._waiting)} waiting"}>'

    def is_set(self) -> bool:
        """Whether the flag is set."""
        return self._flag

    def set(self) -> None:
        """Sets the flag and wakes all who wait. From anywhere: any OS thread, signal handlers."""
        none: dict[_sock.Wait, None] = {}
        with self._guard:
            self._flag = True
            waiting, self._waiting = self._waiting, none
        for wait in waiting:
            wait.wake()

    def clear(self) -> None:
        """Takes the flag down, from anywhere. Those whom ``set`` has woken go on all the same."""
        self._flag = False

    async def wait(self, expires: float | None = None) -> None:
        """Waits until the flag is set, or ``expires``, a ``clock()`` value, passes: ``Timeout``."""
        check_wait(self._what, expires)
        if self._flag:
            self._passed += 1
            if self._passed % _BUDGET == 0:
                await _sock.sleep_until(0)
            return
        wait = _sock.Wait(self._what, expires)
        with self._guard:
            if self._flag:
                return
            self._waiting[wait] = None
        try:
            await wait
        except BaseException as ended:
            with self._guard:
                came = self._waiting.pop(wait, wait) is wait
            if isinstance(ended, Timeout):
                if came:
                    return
                advise(ended, self._advice)
            raise


class Condition:
    """Waits, with a lock, until another thread that had the lock meanwhile has changed something.

    ``lock``: a ``Lock`` to share; otherwise it has its own. ``async with condition`` holds it.

    >>> async def take(filled, things):
    ...     async with filled:
    ...         return await filled.wait_for(lambda: things and things.pop())
    >>> async def main():
    ...     filled, things = Condition(), []
    ...     taker = newthread(take, filled, things)
    ...     async with filled:
    ...         things.append('one')
    ...         filled.notify()
    ...     return await taker
    >>> run(main)
    'one'
    """

    __slots__ = ('__weakref__', '_guard', '_lock', '_waiting')

    def __init__(self, lock: Lock | None = None) -> None:
        if lock is not None and not isinstance(lock, Lock):
            raise TypeError(f'Condition takes a sock.Lock, not {type(lock).__name__}')
        self._lock = Lock() if lock is None else lock
        # Guards `_waiting`; see the head of this module.
        self._guard = threading.RLock()
        self._waiting: _Waiting = OrderedDict()

    def __repr__(self) -> str:
        return f'<sock.Condition, {len(self._waiting)} waiting, {self._lock!r}>'

    @property
    def lock(self) -> Lock:
        """The lock."""
        return self._lock

    async def acquire(self, expires: float | None = None) -> None:
        """Takes the lock, as ``Lock.acquire``."""
        await self._lock.acquire(expires)

    def release(self) -> None:
        """Releases the lock."""
        self._lock.release()

    def __aenter__(self) -> Coroutine[Any, Any, None]:
        return self._lock.acquire()

    def __aexit__(self, *failed: object) -> Awaitable[None]:
        self._lock.release()
        return over

    async def wait(self, expires: float | None = None) -> None:
        """Releases the lock, waits to be notified, and takes the lock again, also before it raises.

        ``expires``: a ``clock()`` value, after which it raises ``Timeout``, once it has the lock again. What is waited
        for may have gone again by then, so look, or use ``wait_for``.
        """
        self._check_held('wait')
        check_wait('wait for a condition', expires)
        wait = _sock.Wait('wait for a condition', expires)
        with self._guard:
            self._waiting[wait] = None
        self._lock.release()
        ended: BaseException | None = None
        notified = False
        try:
            try:
                await wait
            except GeneratorExit:
                raise
            except BaseException as failed:
                ended = failed
            finally:
                with self._guard:
                    notified = self._waiting.pop(wait, wait) is wait
            if (cancelled := await self._lock._reacquire()) is not None:
                ended = cancelled
        except GeneratorExit:
            # The thread goes and can wait for nothing, not even for the lock that its `async with` will release.
            self._lock.try_acquire()
            if notified:
                self._notify(1)
            raise
        if ended is None or (notified and isinstance(ended, Timeout)):
            return
        if notified:
            self._notify(1)
        elif isinstance(ended, Timeout):
            advise(ended, 'nobody has called its notify()')
        try:
            raise ended
        finally:
            # The exception's traceback has this frame.
            del ended

    async def wait_for(self, predicate: Callable[[], _T], expires: float | None = None) -> _T:
        """Waits, as ``wait`` does, until ``predicate()`` is true, and returns what it returned."""
        if not callable(predicate):
            raise TypeError(f'wait_for takes a function that tells whether to go on, not {predicate!r}')
        while not (result := predicate()):
            try:
                await self.wait(expires)
            except Timeout:
                if result := predicate():
                    return result
                raise
        return result

    def notify(self, n: int = 1) -> None:
        """Wakes ``n`` of those who wait, who have waited longest. RuntimeError without the lock.

        One that was cancelled at that moment passes it on.
        """
        self._check_held('notify')
        if not isinstance(n, int) or n < 0:
            raise ValueError(f'notify takes a number of threads, not {n!r}')
        self._notify(n)

    def notify_all(self) -> None:
        """Wakes all who wait. RuntimeError without the lock."""
        self._check_held('notify_all')
        self._notify(len(self._waiting))

    def _notify(self, n: int) -> None:
        for _ in range(n):
            with self._guard:
                if not self._waiting:
                    return
                wait, _none = self._waiting.popitem(last=False)
            wait.wake()

    def _check_held(self, what: str) -> None:
        if self._lock._owner is not _me():
            held = f'held by {self._lock._holder()}' if self._lock.locked else 'not held'
            raise RuntimeError(f'{what} needs the lock of the condition, which is {held}: use async with')


class Queue(Generic[_T]):
    """First in, first out; ``maxsize`` items at most, 0: any number.

    ``put`` and ``get`` wait in the order in which they came. No item is lost or doubled by a cancel or an expiry: an
    item leaves the queue when a ``get`` returns it, and enters it when a ``put`` returns.

    >>> async def double(items, results):
    ...     async for item in items:
    ...         await results.put(2 * item)
    >>> async def main():
    ...     items, results = Queue(), Queue()
    ...     newthread(double, items, results)
    ...     await items.put(21)
    ...     items.close()
    ...     return await results.get()
    >>> run(main)
    42
    """

    __slots__ = ('__weakref__', '_closer', '_done', '_guard', '_items', '_maxsize', '_ready', '_room', '_unfinished')

    def __init__(self, maxsize: int = 0) -> None:
        if not isinstance(maxsize, int):
            raise TypeError(f'maxsize must be a number of items, not {type(maxsize).__name__}')
        self._maxsize = maxsize
        # Guards that nothing enters once it is closed, and what is unfinished; see the head of this module.
        self._guard = threading.RLock()
        self._items: deque[_T] = deque()
        self._closer: str | None = None
        # Items that were put and are not done, and what is set when the last of them is, if anybody waits for that.
        self._unfinished = 0
        self._done: Event | None = None
        # A permit for each item and each free place. Whoever has one takes the first item there is, when he runs, so
        # that items leave in their order although those who get them may be cancelled meanwhile.
        self._ready = Semaphore(0)
        self._room = Semaphore(max(maxsize, 0))
        if maxsize <= 0:
            self._room._open()

    def __repr__(self) -> str:
        limit = f' of {self._maxsize}' if self._maxsize > 0 else ''
        return f'<sock.Queue {len(self._items)}{limit} items{", closed" if self._closer is not None else ""}>'

    @property
    def maxsize(self) -> int:
        """The most items there may be; 0 or less: no limit."""
        return self._maxsize

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closer is not None

    def qsize(self) -> int:
        """Items that nobody has taken, those included that a waiting ``get`` was woken for."""
        return len(self._items)

    def empty(self) -> bool:
        """Whether there are no items."""
        return not self._items

    def full(self) -> bool:
        """Whether there are ``maxsize`` items."""
        return 0 < self._maxsize <= len(self._items)

    async def put(self, item: _T, expires: float | None = None) -> None:
        """Appends an item; waits while the queue is full. ``Closed`` if the queue is, or while it waits gets closed.

        ``expires``: a ``clock()`` value after which it raises ``Timeout`` and has put nothing.
        """
        if not self._room._at_once('put into a queue', expires):
            await self._room._later('put into a queue', expires, self._why_full)
        self._put(item)

    async def get(self, expires: float | None = None) -> _T:
        """Takes the first item; waits while there is none. ``Closed`` if the queue is closed and has none left.

        ``expires``: a ``clock()`` value after which it raises ``Timeout`` and has taken nothing.
        """
        if not self._ready._at_once('get from a queue', expires):
            await self._ready._later(
                'get from a queue', expires, lambda: 'nobody has put an item: close() ends such waits'
            )
        return self._get()

    def put_nowait(self, item: _T) -> None:
        """Appends an item, from anywhere; ``queue.Full`` where ``put`` would wait."""
        if not self._room.try_acquire():
            from queue import Full

            raise Full
        self._put(item)

    def get_nowait(self) -> _T:
        """Takes the first item, from anywhere; ``queue.Empty`` where ``get`` would wait."""
        if not self._ready.try_acquire():
            from queue import Empty

            raise Empty
        return self._get()

    def task_done(self) -> None:
        """An item that was taken is done with, says who took it, from anywhere; ``join`` waits for that.

        ValueError if there are more calls than items.
        """
        done = None
        with self._guard:
            if not self._unfinished:
                raise ValueError('task_done was called more often than items were put')
            self._unfinished -= 1
            if not self._unfinished:
                done, self._done = self._done, None
        if done is not None:
            done.set()

    async def join(self, expires: float | None = None) -> None:
        """Waits until ``task_done`` was called for each item that was put. An item that nobody takes counts as well.

        ``expires``: a ``clock()`` value after which it raises ``Timeout``.
        """
        check_wait('join of a queue', expires)
        done = Event()
        done._what = 'join of a queue'
        done._advice = 'task_done() is due once for each item that was put'
        with self._guard:
            if not self._unfinished:
                return
            if self._done is None:
                self._done = done
            else:
                done = self._done
        await done.wait(expires)

    def close(self) -> None:
        """No more items, from anywhere: ``get`` gives what there is, then ``Closed``; ``put`` raises ``Closed``."""
        thread = current()
        closer = f'OS thread {threading.current_thread().name!r}' if thread is None else f'thread {thread.name!r}'
        frame = sys._getframe(1)
        closer += f' in {frame.f_code.co_name}, {frame.f_code.co_filename}:{frame.f_lineno},'
        with self._guard:
            if self._closer is None:
                self._closer = closer
        self._room._open()
        self._ready._open()

    def __aiter__(self) -> Queue[_T]:
        return self

    async def __anext__(self) -> _T:
        try:
            return await self.get()
        except Closed:
            raise StopAsyncIteration from None

    def _why_full(self) -> str:
        return f'it is full, with {len(self._items)} items: get() makes room'

    def _put(self, item: _T) -> None:
        """With a permit for a place."""
        with self._guard:
            if self._closer is None:
                self._unfinished += 1
                self._items.append(item)
            else:
                raise Closed(f'put into a queue: {self._closer} has closed it')
        self._ready.release()

    def _get(self) -> _T:
        """With a permit for an item; of a closed queue there are more permits than items."""
        try:
            item = self._items.popleft()
        except IndexError:
            raise Closed(f'get from a queue: {self._closer} has closed it, and no item is left') from None
        if self._maxsize > 0:
            self._room.release()
        return item
