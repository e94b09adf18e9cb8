"""Looking in: what each thread waits for, and where it is. Takes no lock while it looks, or formats.

A thread that waits is kept from running while its frames are looked at. On free-threaded Python those of one that runs
change under the eyes of who looks, and so other OS threads are held up meanwhile.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from types import CodeType, FrameType

from . import _scheduler, _sock
from ._scheduler import Poller, Thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    import traceback
    from typing import Any, TextIO

#: Seconds that a look at frames may hold up other OS threads at most, whatever they wait for.
_PATIENCE = 1.0

_one_looks = threading.Lock()


def _wait_at(gate: threading.Lock, holder: int, *where: object) -> None:
    """Where other OS threads are held up, which is not what they do."""
    if threading.get_ident() != holder and gate.acquire(timeout=_PATIENCE):
        gate.release()


@contextlib.contextmanager
def _others_held_up() -> Iterator[bool]:
    """Keeps other OS threads from calling and leaving functions of Python, so that their frames can be looked at.

    False: those cannot, since all of the interpreter's places for tools are taken. Nothing may be waited for inside.
    """
    if _scheduler.GIL or sys.version_info < (3, 13):
        yield True
        return
    monitoring = sys.monitoring
    events = monitoring.events
    ends = events.PY_START, events.PY_RESUME, events.PY_THROW, events.PY_RETURN, events.PY_YIELD, events.PY_UNWIND
    gate = threading.Lock()
    wait = functools.partial(_wait_at, gate, threading.get_ident())
    with _one_looks:
        tool = next((number for number in range(5, -1, -1) if monitoring.get_tool(number) is None), None)
        if tool is None:
            yield False
            return
        monitoring.use_tool_id(tool, 'sock')
        try:
            for event in ends:
                monitoring.register_callback(tool, event, wait)
            with gate:
                monitoring.set_events(tool, sum(ends))
                yield True
        finally:
            monitoring.set_events(tool, events.NO_EVENTS)
            for event in ends:
                monitoring.register_callback(tool, event, None)
            monitoring.free_tool_id(tool)


#: On the poller's clock: no deadline.
_NEVER = 2**64 - 1


def awaits(thread: Thread) -> Iterator[Any]:
    """The thread's coroutine, what that awaits, and so on, to the operation that waits."""
    each: Any = thread._coro
    while each is not None:
        yield each
        for name in ('cr_await', 'ag_await', 'gi_yieldfrom'):
            if hasattr(each, name):
                each = getattr(each, name)
                break
        else:
            if isinstance(each, _sock.operations):
                return
            # The inside of an async generator's step, and of a coroutine's `__await__`: only the collector tells.
            inside = gc.get_referents(each)
            each = next((one for one in inside if isinstance(one, (AsyncGenerator, Coroutine))), None)


def waiting(thread: Thread) -> tuple[str | None, bool]:
    """What it waits for, or None; and whether a socket or a deadline may end that."""
    return thread._while_it_waits(_waits_for) or (None, True)


def _waits_for(thread: Thread) -> tuple[str | None, bool]:
    *_, last = (None, *awaits(thread))
    if not isinstance(last, _sock.operations) or (what := _sock.waits_for(last)) is None:
        return None, True
    text, ends = what
    return text, ends or thread._limit != _NEVER


def stack(thread: Thread) -> traceback.StackSummary:
    """The frames of a thread, the outermost first."""
    places = thread._while_it_waits(_places)
    return _summary(_places_where_it_runs(thread) if places is None else places)


def _summary(places: list[tuple[CodeType, int]]) -> traceback.StackSummary:
    import traceback

    return traceback.StackSummary.from_list(
        [traceback.FrameSummary(code.co_filename, line, code.co_name, lookup_line=False) for code, line in places]
    )


def _frames(thread: Thread) -> Iterator[FrameType]:
    for each in awaits(thread):
        for name in ('cr_frame', 'ag_frame', 'gi_frame'):
            if (frame := getattr(each, name, None)) is not None:
                yield frame


def _places(thread: Thread) -> list[tuple[CodeType, int]]:
    return [(frame.f_code, frame.f_lineno) for frame in _frames(thread)]


def _places_where_it_runs(thread: Thread) -> list[tuple[CodeType, int]]:
    """The same of one that does not wait: it runs, in this OS thread or another, or is ready to."""
    if thread is _sock.current():
        return _down_to(getattr(thread._coro, 'cr_frame', None), sys._getframe()) or []
    with _others_held_up() as held_up:
        if not held_up:
            return []
        outermost = getattr(thread._coro, 'cr_frame', None)
        for newest in sys._current_frames().values():
            # One that runs has called what no coroutine awaits.
            if (found := _down_to(outermost, newest)) is not None:
                return found
        return _places(thread)


def _down_to(outermost: FrameType | None, newest: FrameType) -> list[tuple[CodeType, int]] | None:
    """Where an OS thread is, from ``outermost`` to its newest frame; None if that is none of its frames."""
    found = []
    frame: FrameType | None = newest
    while frame is not None:
        if frame.f_code is not _wait_at.__code__:
            found.append((frame.f_code, frame.f_lineno))
        if frame is outermost:
            return found[::-1]
        frame = frame.f_back
    return None


def dump(file: TextIO | None = None) -> None:
    """Prints the live threads of all pollers to ``file`` (default: stderr): what each waits for, and where."""
    lines = []
    for poller in _scheduler._all_pollers():
        found = [(thread, *waiting(thread)) for thread in _scheduler.threads(poller)]
        if not found:
            continue
        idle = sum(what is not None for _, what, _ in found)
        lines.append(f'{len(found)} threads of {poller!r}: {idle} wait, {len(found) - idle} run or are ready')
        if idle == len(found) and not any(ends for _, _, ends in found):
            lines.append('  no socket and no deadline will wake any of them: only another OS thread or a signal may')
        for thread, what, _ in found:
            lines.append(f'  thread {thread.name!r} {"runs, or is ready to" if what is None else "waits: " + what}')
            lines += ['  ' + line for entry in stack(thread).format() for line in entry.rstrip().splitlines()]
    print('\n'.join(lines or ['no threads']), file=sys.stderr if file is None else file)


class Watchdog:
    """What ``watchdog`` returns: ``stop()`` ends it, and so does leaving it as a ``with`` block."""

    __slots__ = ('_hook', '_os_thread', '_seconds', '_stopped')

    def __init__(self, seconds: float, hook: Callable[[str, float, traceback.StackSummary], object] | None) -> None:
        seconds = _sock.seconds(seconds, 'watchdog takes seconds')
        if not 0 < seconds <= threading.TIMEOUT_MAX:
            raise ValueError(f'watchdog takes more than 0 seconds, not {seconds}')
        if hook is not None and not callable(hook):
            raise TypeError(f'hook must be a function or None, not {type(hook).__name__}')
        self._seconds = seconds
        self._hook = hook or _bark
        self._stopped = threading.Event()
        self._os_thread = threading.Thread(target=self._watch, name='sock watchdog', daemon=True)
        self._os_thread.start()

    def stop(self) -> None:
        """Watches no longer; a hook that runs comes to its end first. From anywhere, also from the hook."""
        self._stopped.set()
        if self._os_thread is not threading.current_thread():
            self._os_thread.join()

    def __enter__(self) -> Watchdog:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _watch(self) -> None:
        import time

        # By the OS thread: the turn of its loop, since when it has been seen, whether it was reported.
        seen: dict[int, tuple[_sock.Turns, int, float, bool]] = {}
        while not self._stopped.wait(self._seconds / 4):
            now = time.monotonic()
            last, seen = seen, {}
            for ident, (poller, turns) in _scheduler._loops.copy().items():
                if not turns.turning:
                    continue
                before = last.get(ident)
                if before is None or before[0] is not turns or before[1] != turns.given:
                    seen[ident] = turns, turns.given, now, False
                    continue
                seen[ident] = before
                if now - before[2] >= self._seconds and not before[3]:
                    seen[ident] = *before[:3], True
                    name, places = _who_runs(poller, ident)
                    try:
                        self._hook(name, now - before[2], _summary(places))
                    except Exception:
                        import traceback

                        traceback.print_exc()


def _who_runs(poller: Poller, ident: int) -> tuple[str, list[tuple[CodeType, int]]]:
    """The innermost thread of a poller that runs in an OS thread, and where; in its first turn it is none yet."""
    with _others_held_up() as held_up:
        newest = sys._current_frames().get(ident) if held_up else None
        if newest is None:
            return '?', []
        outermost = {getattr(thread._coro, 'cr_frame', None): thread.name for thread in _scheduler.threads(poller)}
        frame: FrameType | None = newest
        while frame is not None:
            first = frame
            if frame in outermost:
                return outermost[frame], _down_to(frame, newest) or []
            frame = frame.f_back
        return '?', (_down_to(first, newest) or [])[-1:]


def _bark(name: str, seconds: float, stack: traceback.StackSummary) -> None:
    text = ''.join(stack.format())
    print(f'sock: thread {name!r} has held its loop for {seconds:.3f} s\n{text}', end='', file=sys.stderr)


def watchdog(seconds: float, hook: Callable[[str, float, traceback.StackSummary], object] | None = None) -> Watchdog:
    """Tells of each thread that runs for ``seconds`` without waiting, and so holds up all others of its OS thread.

    Once for each such turn, while it goes on: the thread's name, for how long so far, and where it is, printed to
    stderr, or given to ``hook(name, seconds, stack)``, which runs in the watchdog's OS thread. It looks four times in
    ``seconds``. A thread that has just been started runs inside the one that started it, which is the one named. For
    all loops of the process, until ``stop()`` or the end of a ``with`` block.
    """
    return Watchdog(seconds, hook)
