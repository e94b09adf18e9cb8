"""Threads (coroutines) and what runs them. Read this first.

1. A thread runs until it waits. What it awaits, in Rust, parks it: under a socket's direction, a deadline, or both,
   and yields None. Who wakes it puts it on its poller's ready queue.
2. ``_sock.Turns`` gives each thread that is ready its turn, one ``send(None)``, and waits in the OS in between. Values
   and errors of a wait come out of the awaited object itself.
3. A thread's first turn is inside ``newthread``, nested in whatever runs there; so are resumed threads. Threads start,
   end and are awaited in ``src/py/thread.rs``, which calls what is here for all that is rare.
4. The poller keeps no list that keeps threads alive: a thread lives as long as something may still wake it.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import os
import sys
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Iterator

from . import _interrupts, _sock
from ._errors import Cancelled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

clock = _sock.clock

#: One OS thread at a time runs Python.
GIL = getattr(sys, '_is_gil_enabled', lambda: True)()


class _Local(threading.local):
    poller: Poller | None = None


_local = _Local()
#: By the number of the OS's poll.
_pollers: weakref.WeakValueDictionary[int, Poller] = weakref.WeakValueDictionary()
#: The loops that run, by the OS thread's number: for those who look in.
_loops: dict[int, tuple[Poller, _sock.Turns]] = {}


class Poller(_sock.Poller):
    """What waits in the OS for its threads' sockets and deadlines; any number of OS threads may share it."""

    __slots__ = ()

    def __new__(cls) -> Poller:
        self = super().__new__(cls)
        _pollers[self._handle] = self
        return self


def poller(p: Poller | None = None) -> Poller:
    """The calling OS thread's poller; with an argument, sets it first."""
    if p is not None:
        if not isinstance(p, Poller):
            raise TypeError(f'poller takes a sock.Poller, not {type(p).__name__}')
        if _sock.is_polling():
            raise RuntimeError('this OS thread polls its poller now: set another one before start() or run()')
        return _set_here(p)
    return _set_here(_local.poller or Poller())


def _set_here(p: Poller) -> Poller:
    _local.poller = p
    p._set_here()
    return p


def _all_pollers() -> list[Poller]:
    # A copy at once: other OS threads make pollers meanwhile.
    return [poller for ref in _pollers.valuerefs() if (poller := ref()) is not None]


def _after_fork_in_child() -> None:
    """The child has no threads, and the OS's poll is the parent's."""
    for each in _all_pollers():
        each._set_forked()
    _pollers.clear()
    _loops.clear()
    _local.poller = None
    _interrupts.after_fork_in_child()
    _sock.after_fork()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def excepthook(thread: Thread, exc: BaseException) -> None:
    """Called with an exception that ended a thread and that nobody awaited; prints it. Replace ``sock.excepthook``."""
    import traceback

    print(f'Exception in sock thread {thread.name!r} that nobody awaited:', file=sys.stderr)
    traceback.print_exception(exc, file=sys.stderr)


#: These come out of the loop, and are not told of besides, where a group has got them too.
_FATAL = (KeyboardInterrupt, SystemExit)


def _report(thread: Thread, exc: BaseException) -> None:
    if isinstance(exc, BaseExceptionGroup):
        _, rest = exc.split(_FATAL)
        if rest is None:
            return
        exc = rest
    elif isinstance(exc, _FATAL):
        return
    try:
        sys.modules['sock'].excepthook(thread, exc)
    except BaseException as broken:
        # Whatever it is: who calls us may be in the middle of a thread's end, where nothing can be raised.
        excepthook(thread, broken)
        excepthook(thread, exc)


def _report_here(exc: BaseException) -> None:
    """Reports what failed in the thread that runs, which goes on."""
    if (current := _sock.current()) is not None:
        _report(current, exc)


Thread = _sock.Thread
newthread = _sock.newthread
thread = _sock.current
deadline = _sock.deadline


def _lost(thread: Thread, cause: BaseException | None) -> BaseException:
    """What there is to say of a thread that is gone half-way. ``cause``: what its ``finally`` blocks raised."""
    lost = RuntimeError(
        f'thread {thread.name!r} can never be resumed: nothing refers to it, or to its Poller, any more'
    )
    if cause is not None:
        cause.__context__ = None
        lost.__cause__ = cause
    return lost


def _closing(
    agens: list[weakref.ref[AsyncGenerator[Any, Any]] | Thread], result: Any, exc: BaseException | None
) -> Coroutine[Any, Any, Any] | None:
    """What a thread still has to do at its end: close the async generators that it left half-way."""
    unfinished = [agen for agen in agens if _is_unfinished(agen)]
    return _close_agens(unfinished, result, exc) if unfinished else None


def _is_unfinished(agen: weakref.ref[AsyncGenerator[Any, Any]] | Thread) -> bool:
    return not agen.done if isinstance(agen, Thread) else agen() is not None


async def _close_agens(
    agens: list[weakref.ref[AsyncGenerator[Any, Any]] | Thread], result: Any, exc: BaseException | None
) -> Any:
    """The end of a thread that left async generators half-way: their ``finally`` blocks run, with I/O in them."""
    for each in agens:
        try:
            if isinstance(each, Thread):
                await each
            elif (agen := each()) is not None:
                await agen.aclose()
        except Exception as failed:
            _report_here(failed)
    if exc is not None:
        raise exc
    return result


def _agen_begins(agen: AsyncGenerator[Any, Any]) -> None:
    if (current := _sock.current()) is not None:
        current._agens = [each for each in current._agens or () if _is_unfinished(each)]
        current._agens.append(weakref.ref(agen))


def _agen_goes(home: weakref.ref[Poller], agen: AsyncGenerator[Any, Any]) -> None:
    """Nothing refers to the generator any more: its ``finally`` runs in a thread, which its own thread waits for.

    ``home``: where the generator began. Here may be another OS thread, of which nobody knows that it has a poller.
    """
    owner = _sock.current()
    here, there = poller(), home()
    try:
        # Unless it has gone, or is the parent process's.
        if there is not None and _pollers.get(there._handle) is there:
            _set_here(there)
        closer = newthread(_wrapped(agen.aclose()), name='aclose')
    except KeyboardInterrupt:
        # Whoever let the generator go would not hear of it.
        return _interrupts.put_off()
    finally:
        _set_here(here)
    if owner is not None and not closer.done:
        owner._agens = [*(owner._agens or ()), closer]
    return None


@contextlib.contextmanager
def _asyncgen_hooks(poller: Poller) -> Iterator[None]:
    old = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(_agen_begins, functools.partial(_agen_goes, weakref.ref(poller)))
    try:
        yield
    finally:
        sys.set_asyncgen_hooks(*old)


def _first_turn(thread: Thread) -> None:
    """The first turn of a thread that is started outside of any loop."""
    try:
        with _asyncgen_hooks(poller()):
            thread._turn()
    finally:
        # An exception that ends the thread may keep this frame, and so must not keep the thread.
        del thread


def _as_coroutine(func: Any, returned: Any) -> Coroutine[Any, Any, Any]:
    """What ``newthread`` runs where it got no coroutine of Python's own kind."""
    if isinstance(returned, Coroutine):
        return returned
    if isinstance(returned, Awaitable):
        coro = _wrapped(returned)
        # The thread's name.
        named: Any = coro
        named.__name__ = getattr(func, '__name__', type(returned).__name__)
        return coro
    what = f', which returned {type(returned).__name__}' if callable(func) else ''
    raise TypeError(f'newthread takes an async def function or a coroutine, not {func!r}{what}')


async def _wrapped(awaitable: Any) -> Any:
    return await awaitable


class _Over:
    """What a plain function returns that is awaited, and has done all there is to do: no Ctrl-C comes between."""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        yield from ()


over = _Over()


def threads(poller: Poller | None = None) -> list[Thread]:
    """The threads of a poller (default: this OS thread's) that have not ended."""
    if poller is not None and not isinstance(poller, Poller):
        raise TypeError(f'threads takes a sock.Poller or None, not {type(poller).__name__}')
    of = poller or globals()['poller']()
    return [thread for thread in of._threads() if not thread.done]


def _outside(what: str) -> Poller:
    if (current := _sock.current()) is not None:
        raise RuntimeError(f'{what}() inside thread {current.name!r}: it polls already; start threads with newthread()')
    if _sock.is_polling():
        raise RuntimeError(f'{what}() inside a loop of this OS thread, which polls already')
    return poller()


def _drive(poller: Poller, turns: _sock.Turns) -> None:
    """Gives each thread that is ready its turn, until ``turns`` ends."""
    with _interrupts.signals(poller), _asyncgen_hooks(poller):
        _loops[threading.get_ident()] = poller, turns
        try:
            _interrupts.give_turns(turns)
        finally:
            _loops.pop(threading.get_ident(), None)
    _report_failed(poller)
    _interrupts.raise_late()


def _report_failed(poller: Poller) -> None:
    for thread in poller._threads():
        if thread._see() and (exc := thread._exc) is not None:
            _report(thread, exc)


#: Seconds that the turns of other OS threads may still take when the interpreter comes to its end.
_LAST_TURN = 0.1


def _stand_still() -> None:
    """The interpreter ends: all other OS threads leave their turns first, and stay where they hold nothing of its.

    On free-threaded builds one that is stopped by force may hold an inner lock, which the end then waits for, for ever.
    """
    _sock.begin_end()
    loops = _loops.copy().values()
    for _, turns in loops:
        turns.stop()
    until = time.monotonic() + _LAST_TURN
    while any(turns.runs for _, turns in loops) and time.monotonic() < until:
        time.sleep(0.001)


if not GIL:
    atexit.register(_stand_still)


def _until(timeout: float | None) -> float | None:
    if timeout is None:
        return None
    return clock() + _sock.seconds(timeout, 'timeout must be seconds or None')


def poll(timeout: float | None = None) -> bool:
    """Waits up to ``timeout`` seconds for the next event and resumes the thread that waits for it.

    False: the time passed, or no thread is left to wait for.
    """
    poller = _outside('poll')
    turns = _sock.Turns(poller, _until(timeout), True)
    _drive(poller, turns)
    return turns.handed


def start(timeout: float | None = None) -> bool:
    """Polls until all threads have ended (True), or ``timeout`` seconds passed or ``stop()`` was called (False)."""
    poller = _outside('start')
    turns = _sock.Turns(poller, _until(timeout))
    _drive(poller, turns)
    return not (turns.stopped or turns.timed_out)


def stop() -> None:
    """Ends ``start()`` after the turn that runs. From any thread, signal handler or OS thread, for its poller."""
    poller().stop()


def run(func: Callable[..., Coroutine[Any, Any, Any]], *args: Any, threads: int = 1) -> Any:
    """Runs ``func(*args)`` as a thread and polls until it ends: its result, or its exception.

    Threads that it leaves running are cancelled. ``threads=N`` polls from N OS threads.
    """
    poller = _outside('run')
    if not isinstance(threads, int) or threads < 1:
        raise ValueError(f'threads must be a number from 1, not {threads!r}')
    number = next(_runs)
    turns = _sock.Turns(poller)
    helpers = [_Helper(poller, i, number, turns.stop) for i in range(2, threads + 1)]

    def ended(main: Thread) -> None:
        # Its failure comes out of here.
        main._see()
        for each in (turns, *(helper.turns for helper in helpers)):
            each.stop()

    main = None
    with _interrupts.signals(poller):
        _sock.enter_run(number)
        # The first turn counts as one of the loop.
        _loops[threading.get_ident()] = poller, turns
        try:
            main = newthread(func, *args)
            main.onfinish(ended)
            if not main.done:
                for helper in helpers:
                    helper.start()
                _drive(poller, turns)
            stopped = not main.done
        except KeyboardInterrupt:
            _interrupts.settle()
            raise
        finally:
            _loops.pop(threading.get_ident(), None)
            _end(helpers)
            _cancel_rest(poller, number)
            _report_failed(poller)
    _interrupts.raise_late()
    for helper in helpers:
        if helper.failed is not None:
            raise helper.failed
    if stopped and (main._exc is None or isinstance(main._exc, Cancelled)):
        raise RuntimeError('run() was ended by stop() before its function ended')
    return main.result()


#: Each `run` has a number, which its threads hand on to those that they start.
_runs = itertools.count(1)

#: Seconds that a turn may still take once Ctrl-C has ended `run`.
_GRACE = 0.02


class _Helper(threading.Thread):
    """One more OS thread that polls a poller."""

    #: What came out of it, which ends the program.
    failed: BaseException | None = None

    def __init__(self, poller: Poller, number: int, run: int, onfail: Callable[[], None]) -> None:
        super().__init__(name=f'sock run {number}', daemon=True)
        self._poller = poller
        self._run = run
        self._onfail = onfail
        self.turns = _sock.Turns(poller)

    def run(self) -> None:
        try:
            poller(self._poller)
            _sock.enter_run(self._run)
            _drive(self._poller, self.turns)
        except BaseException as exc:
            self.failed = exc
            self._onfail()


def _end(helpers: list[_Helper]) -> None:
    """Stops them after the turns that run; after Ctrl-C a turn that goes on and on is broken off."""
    for helper in helpers:
        helper.turns.stop()
    interrupted = clock() if sys.exc_info()[0] is KeyboardInterrupt else None
    for helper in helpers:
        while helper.is_alive():
            if interrupted is None:
                helper.join(_GRACE)
                if _interrupts.is_late():
                    interrupted = clock()
            elif (left := interrupted + _GRACE - clock()) > 0:
                helper.join(left)
            else:
                assert helper.ident is not None
                # Its `finally` blocks are given their time, too.
                helper.join(_GRACE if _interrupts.break_off(helper.ident) else 0.001)
        if helper.ident is not None:
            _interrupts.spare(helper.ident)


def _cancel_rest(poller: Poller, number: int) -> None:
    """Cancels the threads that ``run`` leaves behind, and polls until they have ended, for 5 seconds at most."""
    until = clock() + 5
    while rest := [thread for thread in threads(poller) if thread._run == number]:
        turns = _sock.Turns(poller, until)
        left = len(rest)

        def ended(_: Thread, turns: _sock.Turns = turns) -> None:
            nonlocal left
            left -= 1
            if not left:
                turns.stop()

        for thread in rest:
            thread.onfinish(ended)
            thread._condemn()
        del rest, thread
        _drive(poller, turns)
        if turns.timed_out:
            print(f'sock.run: {left} threads did not end within 5 s of being cancelled', file=sys.stderr)
            return


sleep = _sock.sleep
sleep_until = _sock.sleep_until
suspend = _sock.suspend
