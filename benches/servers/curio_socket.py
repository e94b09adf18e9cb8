"""curio: a task for each connection, on curio's sockets."""

from contextlib import suppress

import _names_of_old  # noqa: F401 - before curio
import curio
from _program import BLOCK, BUFFER, MODE, SINK_BUFFER, listen, no_delay, told
from curio.io import Socket


async def echo(conn):
    buf = bytearray(BUFFER)
    view = memoryview(buf)
    async with conn:
        while n := await conn.recv_into(buf):
            await conn.sendall(view[:n])


async def echo_bytes(conn):
    async with conn:
        while data := await conn.recv(BUFFER):
            await conn.sendall(data)
            del data


async def source(conn):
    async with conn:
        with suppress(OSError):
            while True:
                await conn.sendall(BLOCK)


async def sink(conn):
    buf = bytearray(SINK_BUFFER)
    count = 0
    async with conn:
        while n := await conn.recv_into(buf):
            count += n
        await conn.sendall(told(count))


async def main():
    serve = {'echo': echo, 'bytes': echo_bytes, 'source': source, 'sink': sink}[MODE]
    async with Socket(listen()) as listener:
        while True:
            conn, _ = await listener.accept()
            no_delay(conn)
            await curio.spawn(serve, conn, daemon=True)


curio.run(main)
