"""What the programs here share: `python schedulers/x.py MEASUREMENT COUNT [BATCH]` prints what it took, a line of JSON.

Each tells `start` or `start_plainly` how its library does each measurement:

- `spawn(count)`: starts threads that do nothing and sees each end, a batch at a time: the memory stays flat.
- `spawn_yield(count)`: the same with threads that yield once.
- `switch(rounds, others_rounds)`: two threads; each yields for each item of its iterator.
- `resume(count)`, `events(count)`: two threads wake each other `count` times in all, by name or by events; optional.
- `timers(watch)`: a thread for each of `watch.deadlines`, which sleeps until then and calls `watch.woke`.

What a library calls a task, a greenlet or a coroutine is a thread here.
"""

from __future__ import annotations

import itertools
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

#: Threads that are started before they are seen to end.
BATCH = int(sys.argv[3]) if len(sys.argv) > 3 else 1000

#: Threads that come and go before it counts.
WARMUP = 1000

#: Yields of each of the two threads that show whether they take turns.
NOTED = 500

#: Seconds, for each timer, to start all threads before the first deadline, and to have all deadlines in.
LEAD, SPREAD = 40e-6, 30e-6

Result = dict[str, Any]


def batches(count: int) -> Iterator[range]:
    for begin in range(0, count, BATCH):
        yield range(min(BATCH, count - begin))


class Stopwatch:
    """CPU time of the whole process, and time that passed."""

    def __enter__(self) -> Stopwatch:
        self.clock = time.perf_counter()
        self.cpu = time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu = time.process_time() - self.cpu
        self.clock = time.perf_counter() - self.clock

    def result(self, **more: object) -> Result:
        return {'cpu': self.cpu, 'seconds': self.clock, **more}


class Turns:
    """Who of two threads ran when: gives each an iterator that takes notes."""

    def __init__(self) -> None:
        self.order: list[int] = []

    def of(self, who: int) -> Iterator[None]:
        for _ in range(NOTED):
            self.order.append(who)
            yield

    def changes(self) -> float:
        """Which share of the turns went to the other thread than the one before."""
        pairs = list(itertools.pairwise(self.order))
        return sum(one != other for one, other in pairs) / len(pairs)


class Watch:
    """Deadlines, the same for all libraries, and how late and in which order the threads woke."""

    def __init__(self, count: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        chance = random.Random(count)
        first = clock() + count * LEAD
        self.first = first
        self.deadlines = [first + chance.random() * count * SPREAD for _ in range(count)]
        self.woken: list[tuple[float, float]] = []

    def woke(self, deadline: float) -> None:
        self.woken.append((self.clock(), deadline))

    def result(self) -> Result:
        late = sorted(clock - deadline for clock, deadline in self.woken)
        latest, disorder = 0.0, 0.0
        for _, deadline in self.woken:
            disorder = max(disorder, latest - deadline)
            latest = max(latest, deadline)

        def percentile(percent: int) -> float:
            return late[max(-(-len(late) * percent // 100) - 1, 0)] * 1e3

        return {
            'woken': len(late),
            'early': sum(each < 0 for each in late),
            'earliest_ms': max(-late[0], 0) * 1e3,
            'late_p50_ms': percentile(50),
            'late_p99_ms': percentile(99),
            'late_max_ms': late[-1] * 1e3,
            # How far a deadline was behind one that was served before it.
            'disorder_ms': disorder * 1e3,
        }


async def _spawn(do: Callable[[int], Awaitable[None]], count: int) -> Result:
    with Stopwatch() as took:
        await do(count)
    return took.result()


async def _switch(do: Callable[[Iterator[None], Iterator[None]], Awaitable[None]], count: int) -> Result:
    turns = Turns()
    await do(turns.of(0), turns.of(1))
    with Stopwatch() as took:
        await do(itertools.repeat(None, count // 2), itertools.repeat(None, count - count // 2))
    return took.result(changes=turns.changes())


async def _timers(do: Callable[[Watch], Awaitable[None]], count: int, clock: Callable[[], float]) -> Result:
    watch = Watch(count, clock)
    with Stopwatch() as took:
        await do(watch)
    return took.result(**watch.result())


def _measurement(known: dict[str, Callable[..., Any]]) -> tuple[str, Callable[..., Any], int]:
    name, count = sys.argv[1:3]
    if name not in known:
        sys.exit(f'{name} is none of {", ".join(known)}')
    return name, known[name], int(count)


def start(
    run: Callable[[Callable[[], Awaitable[Result]]], Result],
    known: dict[str, Callable[..., Awaitable[None]]],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """For coroutines: `run(func)` runs an async function to its end and returns its result."""
    name, do, count = _measurement(known)

    async def measured() -> Result:
        # With threads that yield, so that their starter has waited too, as the main thread of any program has.
        await known['spawn_yield'](WARMUP)
        if name == 'switch':
            return await _switch(do, count)
        if name == 'timers':
            return await _timers(do, count, clock)
        return await _spawn(do, count)

    result = run(measured)
    print(json.dumps(result))


def start_plainly(known: dict[str, Callable[..., None]]) -> None:
    """For a library with no `await`: the same functions without `async`."""

    def awaitable(do: Callable[..., None]) -> Callable[..., Awaitable[None]]:
        async def does(*args: object) -> None:
            do(*args)

        return does

    def run(func: Callable[[], Any]) -> Result:
        # Nothing in it ever waits, so the first step is the last.
        try:
            func().send(None)
        except StopIteration as end:
            return end.value
        raise AssertionError

    start(run, {name: awaitable(do) for name, do in known.items()})
