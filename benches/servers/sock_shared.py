"""sock: one poller that so many OS threads share. Arguments: OS threads, and steps of Python to do for each message.

When stdin ends, a line of JSON tells what the connection with the fewest messages had, as a part of the mean.
"""

import json
import os
import sys
import threading

import sock
from _program import BACKLOG, BUFFER

OS_THREADS, STEPS = map(int, sys.argv[1:])

#: How many messages each connection has had.
served = []


async def serve(conn, mine):
    buf = bytearray(BUFFER)
    with conn:
        while n := await conn.recv(buf):
            for _ in range(STEPS):
                pass
            await conn.send(buf, n)
            served[mine] += 1


async def main():
    listener = sock.tcp()
    listener.listen('127.0.0.1', backlog=BACKLOG)
    print('port', listener.local_addr.port, flush=True)
    threading.Thread(target=tell_with_stdin, daemon=True).start()
    while True:
        conn, _, _ = await listener.accept()
        served.append(0)
        sock.newthread(serve, conn, len(served) - 1)


def tell_with_stdin():
    while os.read(sys.stdin.fileno(), 4096):
        pass
    mean = sum(served) / len(served) if served else 0
    print(json.dumps({'connections': len(served), 'least': min(served) / mean if mean else 0}), flush=True)
    os._exit(0)


sock.run(main, threads=OS_THREADS)
