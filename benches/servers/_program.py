"""What the servers here share: how they tell their port and when they end."""

import os
import sys
import threading

#: Of every server here: a thousand connections come at once.
BACKLOG = 4096

#: Of every server here that has a buffer of its own for each connection. It takes any message at once; one of 64 KB
#: would cost a short connection more in page faults than all the rest of it.
BUFFER = 16384

#: Of every server here that has a buffer for datagrams: it takes the largest.
DATAGRAM = 65536


def announce(port: int) -> None:
    """Prints `port N`, and ends the process when stdin ends. The OS thread that waits for that costs nothing."""
    print('port', port, flush=True)
    threading.Thread(target=_exit_with_stdin, daemon=True).start()


def _exit_with_stdin() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(0)
