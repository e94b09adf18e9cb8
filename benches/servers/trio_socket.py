"""trio: a task for each connection, on trio.socket."""

from contextlib import suppress

import trio
from _program import BLOCK, BUFFER, MODE, SINK_BUFFER, listen, no_delay, told


async def send_all(conn, data):
    sent = await conn.send(data)
    while sent < len(data):
        sent += await conn.send(data[sent:])


async def echo(conn):
    buf = bytearray(BUFFER)
    view = memoryview(buf)
    with conn:
        while n := await conn.recv_into(buf):
            await send_all(conn, view[:n])


async def echo_bytes(conn):
    with conn:
        while data := await conn.recv(BUFFER):
            await send_all(conn, data)


async def source(conn):
    view = memoryview(BLOCK)
    with conn, suppress(OSError):
        while True:
            await send_all(conn, view)


async def sink(conn):
    buf = bytearray(SINK_BUFFER)
    count = 0
    with conn:
        while n := await conn.recv_into(buf):
            count += n
        await send_all(conn, told(count))


async def main():
    serve = {'echo': echo, 'bytes': echo_bytes, 'source': source, 'sink': sink}[MODE]
    with trio.socket.from_stdlib_socket(listen()) as listener:
        async with trio.open_nursery() as nursery:
            while True:
                conn, _ = await listener.accept()
                no_delay(conn)
                nursery.start_soon(serve, conn)


trio.run(main)
