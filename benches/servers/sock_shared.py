"""sock: one poller that `--threads` OS threads share.

When stdin ends, a line of JSON tells what the connection with the fewest messages had, as a part of the mean.
"""

import json
import os
import sys
import threading

from _program import BUFFER, STEPS
from _sock_server import run

#: How many messages each connection has had.
served = []


async def serve(conn):
    mine = len(served)
    served.append(0)
    buf = bytearray(BUFFER)
    with conn:
        while n := await conn.recv(buf):
            for _ in range(STEPS):
                pass
            await conn.send(buf, n)
            served[mine] += 1


def announce(place):
    print(place, flush=True)
    threading.Thread(target=tell_with_stdin, daemon=True).start()


def tell_with_stdin():
    while os.read(sys.stdin.fileno(), 4096):
        pass
    mean = sum(served) / len(served) if served else 0
    print(json.dumps({'connections': len(served), 'least': min(served) / mean if mean else 0}), flush=True)
    os._exit(0)


run(serve, announce)
