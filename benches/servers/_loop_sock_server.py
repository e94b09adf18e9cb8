"""A task for each connection on the loop's socket methods, on asyncio and the loops that stand in for it."""

import asyncio
from contextlib import suppress

from _program import BLOCK, BUFFER, MODE, SINK_BUFFER, listen, no_delay, told


async def echo(loop, conn):
    buf = bytearray(BUFFER)
    view = memoryview(buf)
    with conn:
        while n := await loop.sock_recv_into(conn, buf):
            await loop.sock_sendall(conn, view[:n])


async def echo_bytes(loop, conn):
    with conn:
        while data := await loop.sock_recv(conn, BUFFER):
            await loop.sock_sendall(conn, data)
            del data


async def source(loop, conn):
    with conn, suppress(OSError):
        while True:
            await loop.sock_sendall(conn, BLOCK)


async def sink(loop, conn):
    buf = bytearray(SINK_BUFFER)
    count = 0
    with conn:
        while n := await loop.sock_recv_into(conn, buf):
            count += n
        await loop.sock_sendall(conn, told(count))


async def _serve():
    loop = asyncio.get_running_loop()
    serve = {'echo': echo, 'bytes': echo_bytes, 'source': source, 'sink': sink}[MODE]
    tasks = set()
    with listen() as listener:
        while True:
            conn, _ = await loop.sock_accept(listener)
            no_delay(conn)
            # The loop itself keeps only weak references.
            task = loop.create_task(serve(loop, conn))
            tasks.add(task)
            task.add_done_callback(tasks.discard)


def run(new_event_loop):
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve())
