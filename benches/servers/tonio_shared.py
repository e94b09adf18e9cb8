"""tonio: its runtime of so many OS threads, with its sockets' cheapest calls. Arguments: OS threads; 0."""

import sys

import tonio
from _program import BACKLOG, BUFFER, announce
from tonio.colored import spawn
from tonio.colored.net import socket

OS_THREADS, _ = map(int, sys.argv[1:])


async def serve(conn):
    buf = bytearray(BUFFER)
    view = memoryview(buf)
    with conn:
        while n := await conn.recv_into(buf):
            sent = 0
            while sent < n:
                sent += await conn.send(view[sent:n])


async def main():
    with socket.socket() as listener:
        await listener.bind(('127.0.0.1', 0))
        listener.listen(BACKLOG)
        announce(listener.getsockname()[1])
        while True:
            conn, _ = await listener.accept()
            spawn(serve(conn))


tonio.run(main(), threads=OS_THREADS)
