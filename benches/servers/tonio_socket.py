"""tonio: a coroutine for each connection, on its sockets' cheapest calls; its runtime has `--threads` OS threads."""

import tonio
from _program import THREADS, listen, no_delay
from _socket_server import serve
from tonio.colored import spawn
from tonio.colored.net import socket


async def main():
    stdlib = listen()
    with socket.socket(stdlib.family, stdlib.type, fileno=stdlib.detach()) as listener:
        while True:
            conn, _ = await listener.accept()
            no_delay(conn)
            spawn(serve(conn))


tonio.run(main(), threads=THREADS)
