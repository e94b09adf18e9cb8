"""Threads (coroutines) and what runs them. Read this first.

1. A thread runs until it waits. What it awaits, in Rust, parks it: under a socket's direction, a deadline, or both,
   and yields None. Who wakes it puts it on its poller's ready queue.
2. ``_sock.Turns`` gives each thread that is ready its turn, one ``send(None)``, and waits in the OS in between. Values
   and errors of a wait come out of the awaited object itself. What comes up to here are the threads that have ended.
3. A thread's first turn is inside ``newthread``, nested in whatever runs there; so are resumed threads.
4. The poller keeps no list that keeps threads alive: a thread lives as long as something may still wake it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from types import CoroutineType, FrameType

from . import _errors, _sock

TYPE_CHECKING = False
if TYPE_CHECKING:
    import traceback
    from typing import Any

clock = _sock.clock

#: How deep first turns nest before they are queued instead: well below any recursion limit.
_NESTING = 40


class _Local(threading.local):
    poller: Poller | None = None
    nested: int = 0
    #: What this OS thread iterates over, inside a loop of ours.
    turns: _sock.Turns | None = None
    #: Ctrl-C came at a moment when our own state was being changed: the loop raises it.
    interrupted: bool = False


_local = _Local()
_all_pollers: weakref.WeakSet[Poller] = weakref.WeakSet()


class Poller(_sock.Poller):
    """What waits in the OS for its threads' sockets and deadlines; any number of OS threads may share it."""

    __slots__ = ('_failed', '_threads')

    _threads: set[weakref.ref[Thread]]
    _failed: dict[int, weakref.ref[Thread]]

    def __new__(cls) -> Poller:
        self = super().__new__(cls)
        self._threads = set()
        # Ended with an exception that nobody has seen, by id: reported when the loop ends, or when the thread goes.
        self._failed = {}
        _all_pollers.add(self)
        return self


def poller(p: Poller | None = None) -> Poller:
    """The calling OS thread's poller; with an argument, sets it first."""
    if p is not None:
        if not isinstance(p, Poller):
            raise TypeError(f'poller takes a sock.Poller, not {type(p).__name__}')
        if _local.turns is not None or _local.nested:
            raise RuntimeError('this OS thread polls its poller now: set another one before start() or run()')
        _local.poller = p
        return p
    if (own := _local.poller) is None:
        own = _local.poller = Poller()
    return own


def _after_fork_in_child() -> None:
    """The child has no threads, and the OS's poll is the parent's."""
    for each in list(_all_pollers):
        each._set_forked()
        each._threads.clear()
        each._failed.clear()
    _local.poller = None
    _local.nested = 0
    _local.turns = None
    _sock.enter(None)


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def excepthook(thread: Thread, exc: BaseException) -> None:
    """Called with an exception that ended a thread and that nobody awaited; prints it. Replace ``sock.excepthook``."""
    import traceback

    print(f'Exception in sock thread {thread.name!r} that nobody awaited:', file=sys.stderr)
    traceback.print_exception(exc, file=sys.stderr)


def _report(thread: Thread, exc: BaseException) -> None:
    try:
        sys.modules['sock'].excepthook(thread, exc)
    except Exception as broken:
        excepthook(thread, broken)
        excepthook(thread, exc)


class Thread(_sock.Task):
    """A coroutine that runs by itself: made by ``newthread``. Awaiting it gives its result or raises its exception."""

    __slots__ = (
        '_agens',
        '_awaiting',
        '_exc',
        '_onfinish',
        '_poller',
        '_ref',
        '_result',
    )

    _poller: Poller
    _result: Any
    _exc: BaseException | None
    _awaiting: list[_sock.Wait] | None
    _onfinish: list[Callable[[Thread], object]] | None
    #: Async generators that it began, and threads that close those it has dropped.
    _agens: list[weakref.ref[AsyncGenerator[Any, Any]] | Thread] | None
    _ref: weakref.ref[Thread]

    def __new__(cls, poller: Poller, coro: Coroutine[Any, Any, Any], name: str | None) -> Thread:
        label = getattr(coro, '__name__', 'thread') if name is None else name
        self = super().__new__(cls, poller, coro, label, name is not None)
        self._poller = poller
        self._result = self._exc = self._awaiting = self._onfinish = self._agens = None
        self._ref = ref = weakref.ref(self)
        poller._threads.add(ref)
        return self

    def __repr__(self) -> str:
        return f'<sock.Thread {self.name!r} {"done" if self.done else "alive"}>'

    def result(self) -> Any:
        """What the thread returned; raises what ended it. RuntimeError while it has not ended."""
        if not self.done:
            raise RuntimeError(f'thread {self.name!r} has not ended: await it')
        if self._exc is not None:
            self._poller._failed.pop(id(self), None)
            raise self._exc
        return self._result

    @property
    def waiting(self) -> str | None:
        """What the thread waits for, such as 'recv tcp 127.0.0.1:7000' or 'sleep 1.5 s'; None while it does not."""
        from . import _inspect

        return _inspect.waiting(self)[0]

    def stack(self) -> traceback.StackSummary:
        """Where the thread is: its frames, the outermost first, as ``traceback`` has them. Empty once it has ended."""
        from . import _inspect

        return _inspect.stack(self)

    def cancel(self) -> None:
        """Raises ``Cancelled`` where the thread waits, or at its next operation. Its sockets stay open and whole."""
        self._cancel()

    def onfinish(self, f: Callable[[Thread], object]) -> None:
        """Calls ``f(thread)`` when the thread ends; at once if it has ended."""
        with _ending:
            if not self.done:
                self._onfinish = [*(self._onfinish or ()), f]
                return
        f(self)

    def __await__(self) -> Generator[Any, Any, Any]:
        if not self.done:
            if _sock.current() is self:
                raise RuntimeError(f'thread {self.name!r} awaits itself: that would never end')
            if _sock.current() is None:
                raise RuntimeError(
                    'await a thread inside a sock thread; elsewhere use sock.run(), or result() once it ended'
                )
            wait = _sock.Wait(f'await thread {self.name}')
            with _ending:
                if self.done:
                    wait.wake()
                else:
                    self._awaiting = [*(self._awaiting or ()), wait]
            yield from wait.__await__()
        return self.result()

    def resume(self, value: Any = None) -> None:
        """Ends the thread's ``suspend()``, which returns ``value``; the thread runs at once, up to its next wait.

        From another OS thread, or nested too deeply, it is queued instead. A resume that comes before the ``suspend()``
        is kept for it; RuntimeError when one is kept already, or the thread has ended.
        """
        if self.done:
            raise RuntimeError(f'thread {self.name!r} has ended: it cannot be resumed')
        here = self._poller is _local.poller and _local.nested < _NESTING
        if self._resume(value, here):
            _turn(self)

    def __del__(self) -> None:
        coro = getattr(self, '_coro', None)
        if coro is not None:
            # Nothing can resume it any more. Its `finally` blocks run; a wait in one of them fails.
            self._coro = None
            self._poller._threads.discard(self._ref)
            self._finish()
            lost = RuntimeError(f'thread {self.name!r} can never be resumed: nothing refers to it any more')
            outer = _sock.enter(None)
            try:
                self._context.run(coro.close)
            except BaseException as exc:
                exc.__context__ = None
                lost.__cause__ = exc
            finally:
                _sock.leave(None, outer)
            _report(self, lost)
        elif (failed := getattr(self, '_exc', None)) is not None and self._poller._failed.pop(
            id(self), None
        ) is not None:
            _report(self, failed)


#: Guards who is told of a thread's end; held for a few lines. Reentrant, since the garbage collector or a signal
#: handler may run user code at any of them.
_ending = threading.RLock()


def _turn(thread: Thread) -> None:
    """One turn of a thread inside whatever runs here."""
    outer = _sock.enter(thread)
    _local.nested += 1
    try:
        if _local.turns is not None or _local.nested > 1:
            # The hooks are in place.
            _step(thread)
        else:
            with _asyncgen_hooks():
                _step(thread)
    finally:
        _local.nested -= 1
        _sock.leave(thread, outer)
        # An exception that ends the thread may keep these frames, and so must not keep the thread.
        del thread, outer


def _step(thread: Thread) -> None:
    """Lets the coroutine run to its next wait, or its end."""
    if (ended := thread._step()) is not None:
        _end(thread, *ended)
    del thread, ended


#: Ends of threads that nobody need be told of: what was asked for, and what comes out of the loop anyway.
_SILENT = (_errors.Cancelled, KeyboardInterrupt, SystemExit)


def _end(thread: Thread, result: Any, exc: BaseException | None) -> None:
    if thread._agens and (unfinished := [agen for agen in thread._agens if _is_unfinished(agen)]):
        thread._agens = None
        thread._coro = _close_agens(unfinished, result, exc)
        _step(thread)
        return
    poller = thread._poller
    with _ending:
        thread._result, thread._exc, thread._coro = result, exc, None
        awaiting, thread._awaiting = thread._awaiting, None
        onfinish, thread._onfinish = thread._onfinish, None
        poller._threads.discard(thread._ref)
        if exc is not None and not isinstance(exc, _SILENT):
            poller._failed[id(thread)] = thread._ref
        thread._finish()
    for wait in awaiting or ():
        if wait.wake():
            # Whoever awaits it gets the exception.
            poller._failed.pop(id(thread), None)
    for f in onfinish or ():
        try:
            f(thread)
        except Exception as failed:
            _report(thread, failed)
    if isinstance(exc, (KeyboardInterrupt, SystemExit)):
        raise exc


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
            _report(_current(), failed)
    if exc is not None:
        raise exc
    return result


def _current() -> Thread:
    current = _sock.current()
    assert isinstance(current, Thread)
    return current


def _agen_begins(agen: AsyncGenerator[Any, Any]) -> None:
    if _sock.current() is not None:
        current = _current()
        current._agens = [each for each in current._agens or () if _is_unfinished(each)]
        current._agens.append(weakref.ref(agen))


def _agen_goes(agen: AsyncGenerator[Any, Any]) -> None:
    """Nothing refers to the generator any more: its ``finally`` runs in a thread, which its own thread waits for."""
    owner = _sock.current()
    closer = newthread(_wrapped(agen.aclose()), name='aclose')
    if isinstance(owner, Thread) and not closer.done:
        owner._agens = [*(owner._agens or ()), closer]


@contextlib.contextmanager
def _asyncgen_hooks() -> Iterator[None]:
    old = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(_agen_begins, _agen_goes)
    try:
        yield
    finally:
        sys.set_asyncgen_hooks(*old)


def newthread(
    func: Callable[..., Coroutine[Any, Any, Any]] | Coroutine[Any, Any, Any], *args: Any, name: str | None = None
) -> Thread:
    """Starts a thread: runs ``func(*args)``, an ``async def`` function or a coroutine, at once, up to its first wait.

    Callable from anywhere: plain code, a thread, any OS thread; it belongs to the calling OS thread's poller.
    """
    if callable(func):
        coro = func(*args)
    elif args:
        raise TypeError('newthread takes arguments with a function, not with a coroutine')
    else:
        coro = func
    if type(coro) is not CoroutineType and not isinstance(coro, Coroutine):
        returned = f', which returned {type(coro).__name__}' if callable(func) else ''
        raise TypeError(f'newthread takes an async def function or a coroutine, not {func!r}{returned}')
    if name is not None and not isinstance(name, str):
        coro.close()
        raise TypeError(f'name must be a str, not {type(name).__name__}')
    thread = Thread(_local.poller or poller(), coro, name)
    try:
        if _local.nested < _NESTING:
            _turn(thread)
        else:
            # Too deep to run inside its starter: next in the queue.
            _sock.leave(thread, _sock.current())
        return thread
    finally:
        # As in `_turn`.
        del thread, coro


async def _wrapped(awaitable: Any) -> Any:
    return await awaitable


def thread() -> Thread | None:
    """The thread that runs now; None outside of any."""
    return _sock.current()  # type: ignore[return-value]


def threads(poller: Poller | None = None) -> list[Thread]:
    """The threads of a poller (default: this OS thread's) that have not ended."""
    of = poller or globals()['poller']()
    return [thread for ref in list(of._threads) if (thread := ref()) is not None]


class deadline:
    """``with sock.deadline(t):`` gives every wait of this thread inside that ``expires``, where none is nearer.

    ``t`` is a ``clock()`` value. Waits on sockets end as with their own ``expires``: the socket is closed, and Timeout
    raised; so do sleeps and waits for other threads, which close nothing.
    """

    __slots__ = ('_outer', '_t', '_thread')

    _thread: Thread

    def __init__(self, t: float) -> None:
        self._t = t

    def __enter__(self) -> None:
        if _sock.current() is None:
            raise RuntimeError('sock.deadline() is for the waits of a sock thread, and none runs here')
        self._thread = _current()
        self._outer = self._thread._nearer_limit(self._t)

    def __exit__(self, *exc_info: object) -> None:
        self._thread._set_limit(self._outer)


def _outside(what: str) -> Poller:
    if (current := _sock.current()) is not None:
        raise RuntimeError(f'{what}() inside thread {current.name!r}: it polls already; start threads with newthread()')
    if _local.turns is not None:
        raise RuntimeError(f'{what}() inside a loop of this OS thread, which polls already')
    return poller()


@contextlib.contextmanager
def _signals(poller: Poller) -> Iterator[None]:
    """A signal that comes while the main thread waits must bring it back to Python, which runs the handler."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = signal.set_wakeup_fd(poller._signal_fd, warn_on_full_buffer=False)
    defaults = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if defaults:
        signal.signal(signal.SIGINT, _on_interrupt)
    try:
        yield
    finally:
        if defaults:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.set_wakeup_fd(old)


#: Flags of the code of coroutines and async generators: CO_COROUTINE, CO_ASYNC_GENERATOR (without importing inspect).
_ASYNC_CODE = 0x80 | 0x200


def _on_interrupt(number: int, frame: FrameType | None) -> None:
    """Ctrl-C ends user code where it is, and our own where it is whole: a thread's end must not be cut in half."""
    while frame is not None:
        if frame.f_code.co_flags & (_ASYNC_CODE):
            break
        if frame.f_globals is globals():
            _local.interrupted = True
            if _local.turns is not None:
                _local.turns.stop()
            return
        frame = frame.f_back
    raise KeyboardInterrupt


def _raise_interrupt() -> None:
    if _local.interrupted:
        _local.interrupted = False
        raise KeyboardInterrupt


def _drive(poller: Poller, turns: _sock.Turns) -> None:
    """Gives each thread that is ready its turn, until ``turns`` ends."""
    with _signals(poller), _asyncgen_hooks():
        _local.turns = turns
        try:
            _raise_interrupt()
            for thread, result, exc in turns:
                _end(thread, result, exc)  # type: ignore[arg-type]
                # The loop holds on to nothing while it waits: a thread that failed is reported when nobody has it.
                del thread, result, exc
        finally:
            turns.close()
            _local.turns = None
    _report_failed(poller)
    _raise_interrupt()


def _report_failed(poller: Poller) -> None:
    while poller._failed:
        try:
            _, ref = poller._failed.popitem()
        except KeyError:
            return
        if (failed := ref()) is not None and failed._exc is not None:
            _report(failed, failed._exc)


def _until(timeout: float | None) -> float | None:
    if timeout is None:
        return None
    if not isinstance(timeout, (int, float)):
        raise TypeError(f'timeout must be seconds or None, not {type(timeout).__name__}')
    return clock() + timeout


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
    before = set(poller._threads)
    all_turns = [_sock.Turns(poller) for _ in range(threads)]
    helpers = [
        threading.Thread(target=_help, args=(poller, turns), name=f'sock run {i}', daemon=True)
        for i, turns in enumerate(all_turns[1:], 2)
    ]

    def ended(_: Thread) -> None:
        for turns in all_turns:
            turns.stop()

    main = None
    with _signals(poller):
        try:
            main = newthread(func, *args)
            main.onfinish(ended)
            if not main.done:
                for helper in helpers:
                    helper.start()
                _drive(poller, all_turns[0])
            stopped = not main.done
        finally:
            for turns in all_turns:
                turns.stop()
            for helper in helpers:
                if helper.ident is not None:
                    helper.join()
            _cancel_rest(poller, before)
            poller._failed.pop(id(main), None)
            _report_failed(poller)
    _raise_interrupt()
    if stopped:
        raise RuntimeError('run() was ended by stop() before its function ended')
    return main.result()


def _help(poller_: Poller, turns: _sock.Turns) -> None:
    poller(poller_)
    _drive(poller_, turns)


def _cancel_rest(poller: Poller, before: set[weakref.ref[Thread]]) -> None:
    """Cancels the threads that ``run`` leaves behind, and polls until they have ended, for 5 seconds at most."""
    until = clock() + 5
    while rest := [thread for ref in list(poller._threads - before) if (thread := ref()) is not None]:
        turns = _sock.Turns(poller, until)
        left = len(rest)

        def ended(_: Thread, turns: _sock.Turns = turns) -> None:
            nonlocal left
            left -= 1
            if not left:
                turns.stop()

        for thread in rest:
            thread.onfinish(ended)
            thread.cancel()
        del rest, thread
        _drive(poller, turns)
        if turns.timed_out:
            print(f'sock.run: {left} threads did not end within 5 s of being cancelled', file=sys.stderr)
            return


def sleep(s: float) -> Any:
    """Awaits ``s`` seconds; 0 lets the others run."""
    if not isinstance(s, (int, float)):
        raise TypeError(f'sleep takes seconds, not {type(s).__name__}')
    if s != s:
        raise ValueError('sleep takes seconds, not nan')
    return _sock.sleep_until(clock() + s if s > 0 else 0)


sleep_until = _sock.sleep_until


suspend = _sock.suspend
