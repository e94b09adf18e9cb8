"""trio."""

from time import monotonic

import trio
from _program import batches, start


async def nothing():
    pass


async def once():
    await trio.lowlevel.checkpoint()


async def spawn(count, func=nothing):
    for batch in batches(count):
        async with trio.open_nursery() as nursery:
            for _ in batch:
                nursery.start_soon(func)


async def spawn_yield(count):
    await spawn(count, once)


async def pass_on(rounds):
    for _ in rounds:
        await trio.lowlevel.checkpoint()


async def switch(rounds, others_rounds):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pass_on, rounds)
        nursery.start_soon(pass_on, others_rounds)


async def sleeper(watch, deadline):
    # One that starts too late sleeps no more: trio takes no negative time.
    await trio.sleep(max(deadline - monotonic(), 0))
    watch.woke(deadline)


async def timers(watch):
    async with trio.open_nursery() as nursery:
        for deadline in watch.deadlines:
            nursery.start_soon(sleeper, watch, deadline)


start(trio.run, {'spawn': spawn, 'spawn_yield': spawn_yield, 'switch': switch, 'timers': timers})
