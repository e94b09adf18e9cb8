"""Coroutine sockets: TCP, UDP, raw and unix in straight-line code, deadlines, one poller for many OS threads.

import sock

async def serve(conn):
    buf = bytearray(65536)
    with conn:
        while n := await conn.recv(buf):
            await conn.send(buf, n)
"""

from ._addrinfo import AddrInfo, addr, resolve, resolve_limit
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
from ._group import Group, group
from ._handles import epoll_fd, iocp, kqueue_fd
from ._inspect import Watchdog, dump, watchdog
from ._scheduler import (
    Poller,
    Thread,
    clock,
    deadline,
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
from ._sockets import TCP, UDP, Raw, Stats, fromfd, fromsocket, options, raw, tcp, udp
from ._sync import Condition, Event, Lock, Queue, Semaphore
from ._timers import SleepJob, Timer, runafter, runat, runevery, sleep_job
from ._workers import offload, offload_limit

__version__ = '0.1.0'

__all__ = [
    'TCP',
    'UDP',
    'AccessDenied',
    'AddrInfo',
    'AddressAlreadyInUse',
    'AddressNotAvailable',
    'AlreadyConnected',
    'BrokenPipe',
    'Busy',
    'Cancelled',
    'Closed',
    'Condition',
    'ConnectionAborted',
    'ConnectionRefused',
    'ConnectionReset',
    'Error',
    'Event',
    'Group',
    'HostNotFound',
    'HostUnreachable',
    'InvalidArgument',
    'Lock',
    'MessageTooLong',
    'NetworkUnreachable',
    'NoBufferSpace',
    'NotConnected',
    'NotSupported',
    'Poller',
    'Queue',
    'Raw',
    'Semaphore',
    'ServiceNotFound',
    'SleepJob',
    'SockAddr',
    'Stats',
    'Thread',
    'Timeout',
    'Timer',
    'TooManyOpenFiles',
    'Watchdog',
    'addr',
    'clock',
    'deadline',
    'dump',
    'epoll_fd',
    'excepthook',
    'fromfd',
    'fromsocket',
    'group',
    'iocp',
    'kqueue_fd',
    'newthread',
    'offload',
    'offload_limit',
    'options',
    'poll',
    'poller',
    'raw',
    'resolve',
    'resolve_limit',
    'run',
    'runafter',
    'runat',
    'runevery',
    'sleep',
    'sleep_job',
    'sleep_until',
    'start',
    'stop',
    'suspend',
    'tcp',
    'thread',
    'threads',
    'udp',
    'watchdog',
]
