"""curio: a task for each connection, on curio.socket."""

import _names_of_old  # noqa: F401 - before curio
import curio
from _program import BACKLOG, BUFFER, announce
from curio import socket


async def serve(conn):
    buf = bytearray(BUFFER)
    view = memoryview(buf)
    async with conn:
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        while n := await conn.recv_into(buf):
            await conn.sendall(view[:n])


async def main():
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(('127.0.0.1', 0))
    listener.listen(BACKLOG)
    announce(listener.getsockname()[1])
    async with listener:
        while True:
            conn, _ = await listener.accept()
            await curio.spawn(serve, conn, daemon=True)


curio.run(main)
