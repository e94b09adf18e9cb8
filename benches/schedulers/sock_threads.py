"""sock."""

import sock
from _program import batches, start


async def nothing():
    pass


async def once():
    await sock.sleep(0)


async def spawn(count, func=nothing):
    for batch in batches(count):
        threads = [sock.newthread(func) for _ in batch]
        for thread in threads:
            await thread


async def spawn_yield(count):
    await spawn(count, once)


async def pass_on(rounds):
    for _ in rounds:
        await sock.sleep(0)


async def switch(rounds, others_rounds):
    threads = [sock.newthread(pass_on, each) for each in (rounds, others_rounds)]
    for thread in threads:
        await thread


async def answer(other, count):
    for _ in range(count):
        await sock.suspend()
        other.resume()


async def resume(count):
    other = sock.newthread(answer, sock.thread(), count // 2)
    for _ in range(count // 2):
        other.resume()
        await sock.suspend()
    await other


async def reply(asked, answered, count):
    for _ in range(count):
        await asked.wait()
        asked.clear()
        answered.set()


async def by_events(count):
    asked, answered = sock.Event(), sock.Event()
    other = sock.newthread(reply, asked, answered, count // 2)
    for _ in range(count // 2):
        asked.set()
        await answered.wait()
        answered.clear()
    await other


async def sleeper(watch, deadline):
    await sock.sleep_until(deadline)
    watch.woke(deadline)


async def timers(watch):
    threads = [sock.newthread(sleeper, watch, deadline) for deadline in watch.deadlines]
    for thread in threads:
        await thread


measurements = {
    'spawn': spawn,
    'spawn_yield': spawn_yield,
    'switch': switch,
    'resume': resume,
    'events': by_events,
    'timers': timers,
}
start(sock.run, measurements, sock.clock)
