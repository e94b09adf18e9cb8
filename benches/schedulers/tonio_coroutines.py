"""tonio, on one OS thread."""

from time import monotonic

import tonio.colored
from _program import batches, start


async def nothing():
    pass


async def once():
    await tonio.colored.yield_now()


async def spawn(count, func=nothing):
    for batch in batches(count):
        await tonio.colored.spawn.without_results(*[func() for _ in batch])


async def spawn_yield(count):
    await spawn(count, once)


async def pass_on(rounds):
    for _ in rounds:
        await tonio.colored.yield_now()


async def switch(rounds, others_rounds):
    await tonio.colored.spawn.without_results(pass_on(rounds), pass_on(others_rounds))


async def answer(asked, answered, count):
    for _ in range(count):
        await asked.wait()
        asked.clear()
        answered.set()


async def ask(asked, answered, count):
    for _ in range(count):
        asked.set()
        await answered.wait()
        answered.clear()


async def by_events(count):
    events = tonio.colored.Event(), tonio.colored.Event()
    await tonio.colored.spawn.without_results(answer(*events, count // 2), ask(*events, count // 2))


async def sleeper(watch, deadline):
    await tonio.colored.sleep(max(deadline - monotonic(), 0))
    watch.woke(deadline)


async def timers(watch):
    await tonio.colored.spawn.without_results(*[sleeper(watch, deadline) for deadline in watch.deadlines])


def run(func):
    return tonio.run(func(), threads=1)


start(run, {'spawn': spawn, 'spawn_yield': spawn_yield, 'switch': switch, 'events': by_events, 'timers': timers})
