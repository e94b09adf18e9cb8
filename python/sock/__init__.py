"""Coroutine sockets: TCP in straight-line code, a deadline on every wait, one poller for many OS threads.

import sock

async def serve(conn):
    buf = bytearray(65536)
    with conn:
        while n := await conn.recv(buf):
            await conn.send(buf, n)
"""

from ._addrinfo import AddrInfo, addr, resolve
from ._errors import (
    AccessDenied,
    AddressAlreadyInUse,
    AddressNotAvailable,
    AlreadyConnected,
    BrokenPipe,
    Busy,
    Cancelled,
    Closed,
    ConnectionAborted,
    ConnectionRefused,
    ConnectionReset,
    Error,
    HostNotFound,
    HostUnreachable,
    InvalidArgument,
    MessageTooLong,
    NetworkUnreachable,
    NoBufferSpace,
    NotConnected,
    NotSupported,
    ServiceNotFound,
    Timeout,
    TooManyOpenFiles,
)
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

__all__ = [
    'TCP',
    'AccessDenied',
    'AddrInfo',
    'AddressAlreadyInUse',
    'AddressNotAvailable',
    'AlreadyConnected',
    'BrokenPipe',
    'Busy',
    'Cancelled',
    'Closed',
    'ConnectionAborted',
    'ConnectionRefused',
    'ConnectionReset',
    'Error',
    'HostNotFound',
    'HostUnreachable',
    'InvalidArgument',
    'MessageTooLong',
    'NetworkUnreachable',
    'NoBufferSpace',
    'NotConnected',
    'NotSupported',
    'Poller',
    'ServiceNotFound',
    'SockAddr',
    'Thread',
    'Timeout',
    'TooManyOpenFiles',
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
]
