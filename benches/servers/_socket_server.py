"""What trio and tonio do with a connection: their sockets have the same methods, and a `send` that may send a part."""

from contextlib import suppress

from _program import BLOCK, BUFFER, MODE, SINK_BUFFER, told


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
            del data


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


serve = {'echo': echo, 'bytes': echo_bytes, 'source': source, 'sink': sink}[MODE]
