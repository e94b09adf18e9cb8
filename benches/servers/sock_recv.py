"""sock: a thread for each connection."""

from contextlib import suppress

from _program import BLOCK, BUFFER, MODE, SINK_BUFFER, told
from _sock_server import run


async def echo(conn):
    buf = bytearray(BUFFER)
    with conn:
        while n := await conn.recv(buf):
            await conn.send(buf, n)


async def echo_bytes(conn):
    with conn:
        while data := await conn.recv(BUFFER):
            await conn.send(data)
            del data


async def source(conn):
    with conn, suppress(OSError):
        while True:
            await conn.send(BLOCK)


async def sink(conn):
    buf = bytearray(SINK_BUFFER)
    count = 0
    with conn:
        while n := await conn.recv(buf):
            count += n
        await conn.send(told(count))


run({'echo': echo, 'bytes': echo_bytes, 'source': source, 'sink': sink}[MODE])
