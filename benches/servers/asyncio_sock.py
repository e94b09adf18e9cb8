"""asyncio: a task for each connection, on the loop's socket methods."""

import asyncio
import socket

from _program import BACKLOG, BUFFER, announce


async def serve(loop, conn):
    buf = bytearray(BUFFER)
    view = memoryview(buf)
    with conn:
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        while n := await loop.sock_recv_into(conn, buf):
            await loop.sock_sendall(conn, view[:n])


async def main():
    loop = asyncio.get_running_loop()
    listener = socket.create_server(('127.0.0.1', 0), backlog=BACKLOG)
    listener.setblocking(False)
    announce(listener.getsockname()[1])
    tasks = set()
    with listener:
        while True:
            conn, _ = await loop.sock_accept(listener)
            # The loop itself keeps only weak references.
            task = loop.create_task(serve(loop, conn))
            tasks.add(task)
            task.add_done_callback(tasks.discard)


asyncio.run(main())
