"""What the servers here share: what they are asked for, where they listen, how they tell, when they end.

`x.py MODE` tells its port or path on a line and serves until its stdin ends. MODE of a stream:

- `echo`: with a buffer of its own for each connection, where the library can receive into one.
- `bytes`: echo that holds no buffer while it waits.
- `source`: sends BLOCK without end.
- `sink`: receives; answers FIN with the number of bytes, in eight bytes.
"""

import argparse
import os
import socket
import sys
import threading

_parser = argparse.ArgumentParser()
_parser.add_argument('mode', nargs='?', default='echo')
_parser.add_argument('--path', help='of a unix socket to listen on; default: a TCP port of the loopback')
# The smallest that takes any message at once; a large one would cost a short connection more in page faults than all
# the rest of it.
_parser.add_argument('--buffer', type=int, default=16384, help='bytes of a buffer that a connection has for itself')
_parser.add_argument('--threads', type=int, default=1, help='OS threads, where the library shares a loop')
_parser.add_argument('--steps', type=int, default=0, help='steps of Python to do for each message')
_options = _parser.parse_args()
MODE, PATH, BUFFER, THREADS, STEPS = (
    getattr(_options, name) for name in ('mode', 'path', 'buffer', 'threads', 'steps')
)

#: A thousand connections come at once.
BACKLOG = 4096

#: Of every server here that has a buffer for datagrams: it takes the largest.
DATAGRAM = 65536

#: What a source sends at a time. The load generator knows it.
BLOCK = bytes((at * 7 + at // 256 + at // 65536) % 256 for at in range(1 << 18)) if MODE == 'source' else b''

#: What a sink takes at a time.
SINK_BUFFER = 1 << 18


def announce(place):
    """Prints a port or path, and ends the process when stdin ends. The OS thread that waits for that costs nothing."""
    print(place, flush=True)
    threading.Thread(target=_exit_with_stdin, daemon=True).start()


def _exit_with_stdin():
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(0)


def listen():
    """For a library that takes the standard library's socket: one that listens and does not block."""
    if PATH:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(PATH)
        listener.listen(BACKLOG)
    else:
        listener = socket.create_server(('127.0.0.1', 0), backlog=BACKLOG)
    listener.setblocking(False)
    announce(PATH or listener.getsockname()[1])
    return listener


def no_delay(conn):
    if not PATH:
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)


def told(count):
    """How a sink answers FIN."""
    return count.to_bytes(8, 'little')
