"""trio: a task for each connection, on trio.socket."""

import trio
from _program import listen, no_delay
from _socket_server import serve


async def main():
    with trio.socket.from_stdlib_socket(listen()) as listener:
        async with trio.open_nursery() as nursery:
            while True:
                conn, _ = await listener.accept()
                no_delay(conn)
                nursery.start_soon(serve, conn)


trio.run(main)
