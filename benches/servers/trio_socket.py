"""trio: a task for each connection, on trio.socket."""

import trio
from _program import BACKLOG, BUFFER, announce


async def serve(conn):
    buf = bytearray(BUFFER)
    view = memoryview(buf)
    with conn:
        conn.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, True)
        while n := await conn.recv_into(buf):
            sent = 0
            while sent < n:
                sent += await conn.send(view[sent:n])


async def main():
    with trio.socket.socket() as listener:
        await listener.bind(('127.0.0.1', 0))
        listener.listen(BACKLOG)
        announce(listener.getsockname()[1])
        async with trio.open_nursery() as nursery:
            while True:
                conn, _ = await listener.accept()
                nursery.start_soon(serve, conn)


trio.run(main)
