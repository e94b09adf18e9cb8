"""sock: a coroutine for each connection, one buffer each."""

import sock
from _program import BACKLOG, BUFFER, announce


async def serve(conn):
    buf = bytearray(BUFFER)
    with conn:
        while n := await conn.recv(buf):
            await conn.send(buf, n)


async def main():
    listener = sock.tcp()
    listener.listen('127.0.0.1', backlog=BACKLOG)
    announce(listener.local_addr.port)
    while True:
        conn, _, _ = await listener.accept()
        sock.newthread(serve, conn)


sock.run(main)
