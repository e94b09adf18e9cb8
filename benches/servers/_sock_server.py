"""Accepts, for the servers of sock: a thread for each connection."""

import sock
from _program import BACKLOG, PATH, THREADS, announce


def run(serve, announce=announce):
    async def main():
        listener = sock.tcp('unix' if PATH else 'inet')
        listener.listen(PATH or '127.0.0.1', backlog=BACKLOG)
        announce(PATH or listener.local_addr.port)
        while True:
            conn, _, _ = await listener.accept()
            sock.newthread(serve, conn)

    sock.run(main, threads=THREADS)
