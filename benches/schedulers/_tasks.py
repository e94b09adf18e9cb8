"""asyncio's tasks, for asyncio and the loops that stand in for it."""

import asyncio
from time import monotonic

from _program import batches, start


async def nothing():
    pass


async def once():
    await asyncio.sleep(0)


async def spawn(count, func=nothing):
    for batch in batches(count):
        tasks = [asyncio.create_task(func()) for _ in batch]
        for task in tasks:
            await task


async def spawn_yield(count):
    await spawn(count, once)


async def pass_on(rounds):
    for _ in rounds:
        await asyncio.sleep(0)


async def switch(rounds, others_rounds):
    tasks = [asyncio.create_task(pass_on(each)) for each in (rounds, others_rounds)]
    for task in tasks:
        await task


async def sleeper(watch, deadline):
    await asyncio.sleep(deadline - monotonic())
    watch.woke(deadline)


async def timers(watch):
    tasks = [asyncio.create_task(sleeper(watch, deadline)) for deadline in watch.deadlines]
    for task in tasks:
        await task


def run(new_event_loop, task_factory=None):
    def runs(func):
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.get_loop().set_task_factory(task_factory)
            return runner.run(func())

    start(runs, {'spawn': spawn, 'spawn_yield': spawn_yield, 'switch': switch, 'timers': timers})
