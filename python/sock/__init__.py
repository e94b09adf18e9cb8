"""Coroutine sockets: TCP in straight-line code, a deadline on every wait, one poller for many OS threads.

    import sock

    async def serve(conn):
        buf = bytearray(65536)
        with conn:
            while n := await conn.recv(buf):
                await conn.send(buf, n)
"""

from ._addrinfo import AddrInfo, addr, resolve
from ._errors import *  # noqa: F403
from ._errors import __all__ as _error_names
from ._scheduler import (
    Poller,
    Thread,
    clock,
    excepthook,
    newthread,
    poll,
    poller,
    run,
    sleep,
    sleep_until,
    start,
    stop,
    suspend,
    thread,
    threads,
)
from ._sock import SockAddr
from ._sockets import TCP, fromfd, fromsocket, options, tcp

__version__ = '0.1.0'

__all__ = [  # noqa: PLE0604
    'TCP',
    'AddrInfo',
    'Poller',
    'SockAddr',
    'Thread',
    'addr',
    'clock',
    'excepthook',
    'fromfd',
    'fromsocket',
    'newthread',
    'options',
    'poll',
    'poller',
    'resolve',
    'run',
    'sleep',
    'sleep_until',
    'start',
    'stop',
    'suspend',
    'tcp',
    'thread',
    'threads',
    *_error_names,
]
