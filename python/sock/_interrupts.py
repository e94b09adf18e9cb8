"""Ctrl-C: ends the user's code wherever it is, and ours only between threads' turns.

1. What must be whole (a thread's end, a lock that is handed on) is in plain functions of this package. Coroutines of
   ours are whole from one await to the next, and where they call the user's code. ``_sock.is_interruptible`` tells by
   the frames of the OS thread that asks, so that nothing changes under it.
2. Python runs the handler in the main OS thread. Where it may not raise, it stops the loop, which raises instead, and
   breaks off the turn, in case that goes on and on.
3. An OS thread, the main one or another, whose turn is broken off, gets the exception as soon as the user's code runs
   there. From Python 3.12 on ``sys.monitoring`` lets it look by itself. Before, the interpreter's lock keeps it where
   it is while another one looks; and the main one traces itself.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import CodeType, FrameType

from . import _sock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Local(threading.local):
    #: What gives threads their turns on this OS thread, inside a loop of ours.
    turns: _sock.Turns | None = None
    #: Ctrl-C came where it could not be raised: the loop raises it.
    late: bool = False


_local = _Local()


@contextlib.contextmanager
def signals(poller: _sock.Poller) -> Iterator[None]:
    """A signal that comes while the main thread waits must bring it back to Python, which runs the handler."""
    # By number: `current_thread()` would make a dummy for an OS thread that is not `threading`'s, and keep it.
    if threading.get_ident() != threading.main_thread().ident:
        yield
        return
    ours = poller._signal_fd
    mine = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    before = -1
    # A handler of the program's may raise at any call of ours. What it raises waits until all is as it was: once left
    # behind, a descriptor would get a byte for each signal, also when its number is somebody else's.
    raised = None
    try:
        before = signal.set_wakeup_fd(ours, warn_on_full_buffer=False)
        if mine:
            signal.signal(signal.SIGINT, _on_interrupt)
        yield
    finally:
        for _ in range(10):  # not for ever: what was set before may be no descriptor any more
            try:
                # What the program has set meanwhile stays.
                if mine and signal.getsignal(signal.SIGINT) is _on_interrupt:
                    signal.signal(signal.SIGINT, signal.default_int_handler)
                now = signal.set_wakeup_fd(before)
                if now != ours:
                    signal.set_wakeup_fd(now)
                break
            except BaseException as exc:
                raised = exc
        if raised is not None:
            raise raised


def _on_interrupt(number: int, frame: FrameType | None) -> None:
    if frame is not None and _sock.is_interruptible(frame):
        raise KeyboardInterrupt
    put_off()


def put_off() -> None:
    """Ctrl-C has come where nothing can be raised: it is raised later."""
    _local.late = True
    if _local.turns is not None:
        _local.turns.stop()
    if _sock.current() is not None:
        break_off(threading.get_ident())


def give_turns(turns: _sock.Turns) -> None:
    """``turns.run()``; Ctrl-C comes out of it, or of the next ``raise_late``."""
    _local.turns = turns
    try:
        raise_late()
        turns.run()
    except KeyboardInterrupt:
        settle()
        raise
    finally:
        _local.turns = None


def is_late() -> bool:
    """Ctrl-C has come, where it could not be raised."""
    return _local.late


def raise_late() -> None:
    """Here it can."""
    if _local.late:
        settle()
        raise KeyboardInterrupt


def settle() -> None:
    """Ctrl-C has come out."""
    _local.late = False
    spare(threading.get_ident())


def after_fork_in_child() -> None:
    _local.turns = None


if sys.version_info >= (3, 12):
    #: Where the interpreter would raise an exception by itself, too. At other events a lock may be taken whose `with`
    #: block has not begun, or has ended and will release it.
    _EVENTS = (sys.monitoring.events.JUMP, sys.monitoring.events.PY_START, sys.monitoring.events.PY_RESUME)

    #: Guards what follows. Reentrant, as the handler may come in between; what it does then holds also for who was in.
    _lock = threading.RLock()
    #: OS threads that look at each jump, and each start of a function, whether that is the user's. While there are any,
    #: we are one of the interpreter's tools.
    _broken: set[int] = set()
    _tool: int | None = None

    def break_off(ident: int) -> bool:
        """Raises Ctrl-C's exception in an OS thread, as soon as that runs the user's code. False: not possible now."""
        with _lock:
            _broken.add(ident)
            return _watch()

    def spare(ident: int) -> None:
        """Takes that back, if it has not happened yet."""
        with _lock:
            _broken.discard(ident)
            if not _broken:
                _unwatch()

    def _watch() -> bool:
        global _tool
        monitoring = sys.monitoring
        if _tool is None:
            free = [number for number in range(6) if monitoring.get_tool(number) is None]
            if not free:
                return False
            # The last ones have no purpose yet, by its docs.
            monitoring.use_tool_id(free[-1], 'sock')
            _tool = free[-1]
            for event in _EVENTS:
                monitoring.register_callback(_tool, event, _look)
            monitoring.set_events(_tool, sum(_EVENTS))
        return True

    def _unwatch() -> None:
        global _tool
        monitoring = sys.monitoring
        tool, _tool = _tool, None
        if tool is not None:
            monitoring.set_events(tool, monitoring.events.NO_EVENTS)
            for event in _EVENTS:
                monitoring.register_callback(tool, event, None)
            monitoring.free_tool_id(tool)

    def _look(code: CodeType, *where: int) -> None:
        ident = threading.get_ident()
        if ident in _broken and _sock.is_interruptible(sys._getframe(1)):
            spare(ident)
            raise KeyboardInterrupt

else:

    def break_off(ident: int) -> bool:
        """Raises Ctrl-C's exception in an OS thread, when that runs the user's code. False: not possible now."""
        if ident != threading.get_ident():
            return _sock.break_off(ident)
        if sys.gettrace() is not None:
            # A debugger's: the loop raises it.
            return False
        frame: FrameType | None = sys._getframe()
        while frame is not None:
            frame.f_trace = _look
            frame = frame.f_back
        sys.settrace(_look)
        return True

    def spare(ident: int) -> None:
        """Takes that back, if it has not happened yet."""
        if ident == threading.get_ident() and sys.gettrace() is _look:
            sys.settrace(None)

    #: Where the user's code was at the last event.
    _last: tuple[FrameType, int] | None = None

    def _look(frame: FrameType, event: str, arg: object) -> Callable[[FrameType, str, Any], Any]:
        global _last
        if _sock.is_interruptible(frame):
            last, _last = _last, (frame, frame.f_lasti)
            # Where the interpreter would raise it by itself, too: at the start of a function, or in a loop. Elsewhere
            # a lock may be taken whose `with` block has not begun, or has ended and will release it.
            if event == 'call' or (last is not None and last[0] is frame and frame.f_lasti <= last[1]):
                _last = None
                sys.settrace(None)
                raise KeyboardInterrupt
        return _look
