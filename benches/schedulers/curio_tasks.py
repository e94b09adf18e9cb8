"""curio."""

import pathlib
import sys
from time import monotonic

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / 'servers'))

import _names_of_old  # noqa: F401 - before curio
import curio
from _program import batches, start


async def nothing():
    pass


async def once():
    await curio.sleep(0)


async def spawn(count, func=nothing):
    for batch in batches(count):
        tasks = [await curio.spawn(func) for _ in batch]
        for task in tasks:
            await task.join()


async def spawn_yield(count):
    await spawn(count, once)


async def pass_on(rounds):
    for _ in rounds:
        await curio.sleep(0)


async def switch(rounds, others_rounds):
    tasks = [await curio.spawn(pass_on, each) for each in (rounds, others_rounds)]
    for task in tasks:
        await task.join()


async def sleeper(watch, deadline):
    await curio.sleep(deadline - monotonic())
    watch.woke(deadline)


async def timers(watch):
    tasks = [await curio.spawn(sleeper, watch, deadline) for deadline in watch.deadlines]
    for task in tasks:
        await task.join()


start(curio.run, {'spawn': spawn, 'spawn_yield': spawn_yield, 'switch': switch, 'timers': timers})
