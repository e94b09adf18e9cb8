"""asyncio's streams, on asyncio and the loops that stand in for it."""

import asyncio
from contextlib import suppress

from _program import BACKLOG, BLOCK, BUFFER, MODE, PATH, SINK_BUFFER, announce, told


async def echo(reader, writer):
    while data := await reader.read(BUFFER):
        writer.write(data)
        await writer.drain()
        del data
    writer.close()


async def source(_, writer):
    with suppress(OSError):
        while True:
            writer.write(BLOCK)
            await writer.drain()
    writer.close()


async def sink(reader, writer):
    count = 0
    while data := await reader.read(SINK_BUFFER):
        count += len(data)
    writer.write(told(count))
    writer.close()


async def _serve():
    serve = {'echo': echo, 'bytes': echo, 'source': source, 'sink': sink}[MODE]
    if PATH:
        server = await asyncio.start_unix_server(serve, PATH, backlog=BACKLOG)
    else:
        server = await asyncio.start_server(serve, '127.0.0.1', 0, backlog=BACKLOG)
    announce(PATH or server.sockets[0].getsockname()[1])
    await asyncio.Event().wait()


def run(new_event_loop):
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve())
