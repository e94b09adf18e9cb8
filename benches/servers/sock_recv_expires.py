"""sock: as sock_recv, with a deadline of its own for each operation."""

import sock
from _program import BUFFER
from _sock_server import run

SECONDS = 60


async def echo(conn):
    buf = bytearray(BUFFER)
    with conn:
        while n := await conn.recv(buf, expires=sock.clock() + SECONDS):
            await conn.send(buf, n, expires=sock.clock() + SECONDS)


run(echo)
