"""Looking in: what each thread waits for, and where it is. Takes no lock while it looks, or formats.

A thread that waits is kept from running while its frames are looked at. On free-threaded Python those of one that runs
in another OS thread change under the eyes of who looks, and so are left alone.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import AsyncGenerator, Coroutine, Iterator
from types import CodeType, FrameType

from . import _scheduler, _sock
from ._scheduler import Thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    import traceback
    from typing import Any, TextIO

#: One OS thread at a time runs Python.
_GIL = getattr(sys, '_is_gil_enabled', lambda: True)()

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
    import traceback

    frames = thread._while_it_waits(_places)
    if frames is None:
        frames = _places_where_it_runs(thread)
    return traceback.StackSummary.from_list(
        [traceback.FrameSummary(code.co_filename, line, code.co_name, lookup_line=False) for code, line in frames]
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
    here = sys._getframe()
    if not _GIL:
        found = _down_to(thread, here) if thread is _sock.current() else None
        return found or []
    for newest in sys._current_frames().values():
        # One that runs has called what no coroutine awaits.
        if (found := _down_to(thread, newest)) is not None:
            return found
    return _places(thread)


def _down_to(thread: Thread, newest: FrameType) -> list[tuple[CodeType, int]] | None:
    """Where an OS thread is, from the thread's outermost frame to its newest one; None if it is not in there."""
    outermost = getattr(thread._coro, 'cr_frame', None)
    found = []
    frame: FrameType | None = newest
    while frame is not None:
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
