"""tonio: a coroutine for each connection, on its sockets' cheapest calls; its runtime has `--threads` OS threads."""

from contextlib import suppress

import tonio
from _program import BLOCK, BUFFER, MODE, SINK_BUFFER, THREADS, listen, no_delay, told
from tonio.colored import spawn
from tonio.colored.net import socket


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
    stdlib = listen()
    with socket.socket(stdlib.family, stdlib.type, fileno=stdlib.detach()) as listener:
        while True:
            conn, _ = await listener.accept()
            no_delay(conn)
            spawn(serve(conn))


tonio.run(main(), threads=THREADS)
