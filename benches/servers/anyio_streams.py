"""anyio, on asyncio: a task for each connection, on its byte streams."""

from contextlib import suppress

import anyio
from _program import BACKLOG, BLOCK, BUFFER, MODE, PATH, SINK_BUFFER, announce, told


async def echo(conn):
    async with conn:
        with suppress(anyio.EndOfStream):
            while True:
                await conn.send(await conn.receive(BUFFER))


async def source(conn):
    async with conn:
        with suppress(anyio.BrokenResourceError):
            while True:
                await conn.send(BLOCK)


async def sink(conn):
    count = 0
    async with conn:
        with suppress(anyio.EndOfStream):
            while True:
                count += len(await conn.receive(SINK_BUFFER))
        await conn.send(told(count))


async def main():
    serve = {'echo': echo, 'bytes': echo, 'source': source, 'sink': sink}[MODE]
    if PATH:
        listener = await anyio.create_unix_listener(PATH, backlog=BACKLOG)
    else:
        listener = await anyio.create_tcp_listener(local_host='127.0.0.1', backlog=BACKLOG)
    announce(PATH or listener.extra(anyio.abc.SocketAttribute.local_port))
    await listener.serve(serve)


anyio.run(main)
