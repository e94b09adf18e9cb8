"""Errors by one name on every OS.

``_NAMES`` says which of the OS's symbols have which name; ``_NUMBERS`` says which numbers the symbols have elsewhere,
so that the table can be tested on any OS; the running system's own numbers come from the ``errno`` module, except on
Windows, where sockets report Winsock's and the system's error codes.
"""

from __future__ import annotations

import errno as _errno
import os
import socket
import sys
from collections.abc import Mapping, Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    'AccessDenied',
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
    'ServiceNotFound',
    'Timeout',
    'TooManyOpenFiles',
]


class Error(OSError):
    """A failure of the OS, of a peer or of a deadline; the base of all of them, and itself whatever has no name.

    ``err``: the name, the same on every platform. ``errno``: the OS's number or None. ``sent``, ``received``: bytes
    that had moved before. ``data``: what ``recvall`` had received. ``str()`` begins with ``err``.
    """

    err = 'other'
    sent: int
    received: int
    data: bytes

    def __init__(
        self, message: str = '', *, errno: int | None = None, sent: int = 0, received: int = 0, data: bytes = b''
    ) -> None:
        super().__init__(message)
        self.errno = errno
        self.sent = sent
        self.received = received
        self.data = data

    @property
    def message(self) -> str:
        """What was tried, on which address, and what happened: ``str()`` without the name."""
        return str(self.args[0]) if self.args else ''

    def __str__(self) -> str:
        return f'{self.err}: {self.message}' if self.message else self.err

    def __reduce__(self) -> tuple[Any, ...]:
        state = {**self.__dict__, 'errno': self.errno, 'strerror': self.strerror}
        return type(self), self.args, state


class AccessDenied(Error, PermissionError):
    """access_denied: no rights for it, or a firewall forbids it."""

    err = 'access_denied'


class AddressAlreadyInUse(Error):
    """address_already_in_use: another socket has this address."""

    err = 'address_already_in_use'


class AddressNotAvailable(Error):
    """address_not_available: this host has no such address, or no free port."""

    err = 'address_not_available'


class ConnectionRefused(Error, ConnectionRefusedError):
    """connection_refused: nobody listens there."""

    err = 'connection_refused'


class ConnectionReset(Error, ConnectionResetError):
    """connection_reset: the peer reset the connection."""

    err = 'connection_reset'


class ConnectionAborted(Error, ConnectionAbortedError):
    """connection_aborted: this host gave the connection up."""

    err = 'connection_aborted'


class BrokenPipe(Error, BrokenPipeError):
    """broken_pipe: the connection no longer takes data."""

    err = 'broken_pipe'


class Timeout(Error, TimeoutError):
    """timeout: ``expires`` passed, or the OS gave up waiting."""

    err = 'timeout'


class Closed(Error):
    """closed: the socket was closed here, by us; of ``recvn``: the stream ended too early."""

    err = 'closed'


class NotConnected(Error):
    """not_connected: the socket has no peer."""

    err = 'not_connected'


class AlreadyConnected(Error):
    """already_connected: the socket has a peer already."""

    err = 'already_connected'


class NetworkUnreachable(Error):
    """network_unreachable: no route to that network."""

    err = 'network_unreachable'


class HostUnreachable(Error):
    """host_unreachable: no route to that host, or it is down."""

    err = 'host_unreachable'


class MessageTooLong(Error):
    """message_too_long: more data than the buffer, the limit or the protocol takes.

    ``datagrams``: where ``recvmany`` raises it, what it would have returned, the lengths being those that fitted.
    """

    err = 'message_too_long'
    datagrams: Sequence[tuple[int, Any]] = ()


class TooManyOpenFiles(Error):
    """too_many_open_files: the process or the system is out of descriptors."""

    err = 'too_many_open_files'


class NoBufferSpace(Error):
    """no_buffer_space: the system is out of memory for it."""

    err = 'no_buffer_space'


class NotSupported(Error):
    """not_supported: this OS, or this kind of socket, cannot do it."""

    err = 'not_supported'


class InvalidArgument(Error):
    """invalid_argument: the OS does not take this value, or not in this state of the socket."""

    err = 'invalid_argument'


class HostNotFound(Error, socket.gaierror):
    """host_not_found: no address is known for that name."""

    err = 'host_not_found'


class ServiceNotFound(Error, socket.gaierror):
    """service_not_found: no port is known for that service name."""

    err = 'service_not_found'


class Busy(Error):
    """busy: another thread waits in this direction of the socket."""

    err = 'busy'


class Cancelled(BaseException):
    """Raised by ``Thread.cancel()`` where the thread waits. The socket it waited on stays open and whole.

    What the operation had done before is in ``sent`` and ``received``, numbers of bytes (of datagrams for
    ``sendmany``), and in ``data``, what ``recvall`` had received.
    """

    sent: int = 0
    received: int = 0
    data: bytes = b''


_CLASSES: dict[str, type[Error]] = {
    each.err: each
    for each in (
        Error,
        AccessDenied,
        AddressAlreadyInUse,
        AddressNotAvailable,
        ConnectionRefused,
        ConnectionReset,
        ConnectionAborted,
        BrokenPipe,
        Timeout,
        Closed,
        NotConnected,
        AlreadyConnected,
        NetworkUnreachable,
        HostUnreachable,
        MessageTooLong,
        TooManyOpenFiles,
        NoBufferSpace,
        NotSupported,
        InvalidArgument,
        HostNotFound,
        ServiceNotFound,
        Busy,
    )
}

# What each name stands for: POSIX symbols (Winsock's are the same with WSA before them), and Windows' own.
_NAMES = {
    'access_denied': 'EACCES EPERM ERROR_ACCESS_DENIED',
    'address_already_in_use': 'EADDRINUSE',
    'address_not_available': 'EADDRNOTAVAIL',
    'connection_refused': 'ECONNREFUSED ERROR_CONNECTION_REFUSED ERROR_PORT_UNREACHABLE',
    'connection_reset': 'ECONNRESET ENETRESET ERROR_NETNAME_DELETED',
    'connection_aborted': 'ECONNABORTED ERROR_CONNECTION_ABORTED',
    'broken_pipe': 'EPIPE ESHUTDOWN ERROR_BROKEN_PIPE ERROR_NO_DATA',
    'timeout': 'ETIMEDOUT ERROR_SEM_TIMEOUT',
    'not_connected': 'ENOTCONN EDESTADDRREQ',
    'already_connected': 'EISCONN',
    'network_unreachable': 'ENETUNREACH ENETDOWN ENONET ERROR_NETWORK_UNREACHABLE',
    'host_unreachable': 'EHOSTUNREACH EHOSTDOWN ERROR_HOST_UNREACHABLE',
    'message_too_long': 'EMSGSIZE ERROR_MORE_DATA',
    'too_many_open_files': 'EMFILE ENFILE WSAEMFILE ERROR_TOO_MANY_OPEN_FILES',
    'no_buffer_space': 'ENOBUFS ENOMEM ERROR_NOT_ENOUGH_MEMORY ERROR_OUTOFMEMORY',
    'not_supported': 'EOPNOTSUPP ENOTSUP EPROTONOSUPPORT ESOCKTNOSUPPORT EPFNOSUPPORT EAFNOSUPPORT ENOPROTOOPT '
    'EPROTOTYPE ENOSYS ERROR_NOT_SUPPORTED',
    'invalid_argument': 'EINVAL EFAULT EBADF ENOTSOCK EDOM ENAMETOOLONG ERROR_INVALID_PARAMETER ERROR_INVALID_HANDLE',
}
_BY_SYMBOL = {symbol: err for err, symbols in _NAMES.items() for symbol in symbols.split()}

# fmt: off
_BSD_NUMBERS = dict(
    EPERM=1, EBADF=9, ENOMEM=12, EACCES=13, EFAULT=14, EINVAL=22, ENFILE=23, EMFILE=24, EPIPE=32, EDOM=33, ENOTSOCK=38,
    EDESTADDRREQ=39, EMSGSIZE=40, EPROTOTYPE=41, ENOPROTOOPT=42, EPROTONOSUPPORT=43, ESOCKTNOSUPPORT=44, ENOTSUP=45,
    EPFNOSUPPORT=46, EAFNOSUPPORT=47, EADDRINUSE=48, EADDRNOTAVAIL=49, ENETDOWN=50, ENETUNREACH=51, ENETRESET=52,
    ECONNABORTED=53, ECONNRESET=54, ENOBUFS=55, EISCONN=56, ENOTCONN=57, ESHUTDOWN=58, ETIMEDOUT=60, ECONNREFUSED=61,
    ENAMETOOLONG=63, EHOSTDOWN=64, EHOSTUNREACH=65, ENOSYS=78,
)
_NUMBERS = {
    'linux': dict(
        EPERM=1, EBADF=9, ENOMEM=12, EACCES=13, EFAULT=14, EINVAL=22, ENFILE=23, EMFILE=24, EPIPE=32, EDOM=33,
        ENAMETOOLONG=36, ENOSYS=38, ENONET=64, ENOTSOCK=88, EDESTADDRREQ=89, EMSGSIZE=90, EPROTOTYPE=91,
        ENOPROTOOPT=92, EPROTONOSUPPORT=93, ESOCKTNOSUPPORT=94, EOPNOTSUPP=95, EPFNOSUPPORT=96, EAFNOSUPPORT=97,
        EADDRINUSE=98, EADDRNOTAVAIL=99, ENETDOWN=100, ENETUNREACH=101, ENETRESET=102, ECONNABORTED=103,
        ECONNRESET=104, ENOBUFS=105, EISCONN=106, ENOTCONN=107, ESHUTDOWN=108, ETIMEDOUT=110, ECONNREFUSED=111,
        EHOSTDOWN=112, EHOSTUNREACH=113,
    ),
    'darwin': {**_BSD_NUMBERS, 'EOPNOTSUPP': 102},
    'win32': dict(
        ERROR_TOO_MANY_OPEN_FILES=4, ERROR_ACCESS_DENIED=5, ERROR_INVALID_HANDLE=6, ERROR_NOT_ENOUGH_MEMORY=8,
        ERROR_OUTOFMEMORY=14, ERROR_NOT_SUPPORTED=50, ERROR_NETNAME_DELETED=64, ERROR_INVALID_PARAMETER=87,
        ERROR_BROKEN_PIPE=109, ERROR_SEM_TIMEOUT=121, ERROR_NO_DATA=232, ERROR_MORE_DATA=234,
        ERROR_CONNECTION_REFUSED=1225, ERROR_NETWORK_UNREACHABLE=1231, ERROR_HOST_UNREACHABLE=1232,
        ERROR_PORT_UNREACHABLE=1234, ERROR_CONNECTION_ABORTED=1236, EBADF=10009, EACCES=10013, EFAULT=10014,
        EINVAL=10022, WSAEMFILE=10024, ENOTSOCK=10038, EDESTADDRREQ=10039, EMSGSIZE=10040, EPROTOTYPE=10041,
        ENOPROTOOPT=10042, EPROTONOSUPPORT=10043, ESOCKTNOSUPPORT=10044, EOPNOTSUPP=10045, EPFNOSUPPORT=10046,
        EAFNOSUPPORT=10047, EADDRINUSE=10048, EADDRNOTAVAIL=10049, ENETDOWN=10050, ENETUNREACH=10051, ENETRESET=10052,
        ECONNABORTED=10053, ECONNRESET=10054, ENOBUFS=10055, EISCONN=10056, ENOTCONN=10057, ESHUTDOWN=10058,
        ETIMEDOUT=10060, ECONNREFUSED=10061, ENAMETOOLONG=10063, EHOSTDOWN=10064, EHOSTUNREACH=10065,
    ),
}
# fmt: on

# What may help; by the OS's own name, or by ours.
_HINTS = {
    'EAGAIN': 'it cannot be done at this moment: try again later',
    'EALREADY': 'a connect goes on already: wait for its end, or make another socket',
    'EBADF': 'something else has closed the descriptor: only close() or detach() of the socket may',
    'EBUSY': 'something else uses that: wait until it does not, or choose another',
    'EDESTADDRREQ': 'connect() comes first, or send() with an address',
    'EDQUOT': 'the quota of that disk is used up: remove files there',
    'EEXIST': 'it is there already: once is enough',
    'EINPROGRESS': 'it has been begun before: wait for its end, or make another socket',
    'EINTR': 'a signal broke it off: do it again',
    'EINVAL': 'the OS does not take that value, or not in this state of the socket',
    'EIO': 'the disk or the device fails: the log of the system says more',
    'EISDIR': 'that is a folder, where a file has to be',
    'ELOOP': 'the symbolic links of that path lead round in a circle, or are too many',
    'ENODEV': 'there is no such device or interface: socket.if_nameindex() lists what there is',
    'ENOENT': 'no socket has that path: is the server up?',
    'ENOPROTOOPT': 'this kernel, or this kind of socket, does not have the option',
    'ENOSPC': 'a disk, or a table of the system (that of watched descriptors, say), is full: make room there',
    'ENOTDIR': 'a part of that path is a file, where a folder has to be',
    'ENOTSOCK': 'the descriptor is of something else: pass that of a socket',
    'ENXIO': 'there is no such device, or nobody at its other end',
    'EOVERFLOW': 'a number is too large for this OS: take less at once',
    'EPROTO': 'the peer, or something on the way, does not keep to the protocol: connect anew',
    'EROFS': 'that disk is read-only: choose a path on another one',
    'ESPIPE': 'a pipe, or a device, has no offset: leave it out',
    'ESTALE': 'the file has gone from its server: open it anew',
    'access_denied': 'it needs rights that this process lacks (ports below 1024 do), or a firewall forbids it',
    'address_already_in_use': 'another socket has this address; port 0 takes any free port',
    'address_not_available': 'this host has no such address, or no port of it is free',
    'already_connected': 'a socket connects once: make another one',
    'broken_pipe': 'this end was shut down, or the peer has closed the connection',
    'connection_aborted': 'this host gave the connection up: connect anew',
    'connection_refused': 'nobody listens there: is the server up, and this its address?',
    'connection_reset': 'the peer has closed it with data unread, or has gone: connect anew',
    'host_unreachable': 'is the host up, and in this network?',
    'invalid_argument': 'the OS does not take that, or not in this state of the socket',
    'message_too_long': 'the protocol takes no message that long (UDP over IPv4: 65507 bytes): send it in parts',
    'network_unreachable': 'is the network up, and is there a route?',
    'no_buffer_space': 'the system is short of memory for it: try again later, or less at once',
    'not_connected': 'connect() comes first, and the peer must not have gone',
    'not_supported': 'this OS, or this kind of socket, cannot do it',
    'other': 'the OS says no more: the manual of its call lists what can be the cause',
    'timeout': 'the peer does not answer: is it up, and does no firewall drop the packets?',
    'too_many_open_files': 'close sockets, or raise the limit (ulimit -n)',
}

# The same where the operation, which is the first word of what was tried, makes a difference; 'path' after it: on the
# address of a file.
_HINTS_OF = {
    ('accept', 'EINVAL'): 'listen() comes first',
    ('bind', 'EINVAL'): 'a socket is bound once, before it is connected, and a link-local address needs its scope',
    ('bind', 'ENOENT'): 'there is no such folder',
    ('bind path', 'EADDRINUSE'): 'something has that path: remove it, if it is what a server has left behind',
    ('send udp', 'ENOTCONN'): 'connect() comes first, or send() with an address',
    ('listen', 'EINVAL'): 'a connected socket does not listen: make another one',
    ('listen', 'ENOENT'): 'there is no such folder',
    ('read', 'EACCES'): 'the file may not be read by this process',
    ('read', 'EBADF'): "the file is not open for reading: sendfile takes one of mode 'rb'",
    ('read', 'EINVAL'): 'it is no file that can be read, or not from that offset',
    ('read', 'EPERM'): 'the file may not be read by this process',
    ('read', 'ENOENT'): 'the file has gone: open it anew',
    ('send', 'EINVAL'): 'the OS does not take that, as the port 0',
    ('setopt', 'EADDRINUSE'): 'it has joined that group already: once is enough',
    ('setopt', 'EADDRNOTAVAIL'): 'it is not in that group there, or that address is of another host',
    ('setopt', 'ENOENT'): 'the system has nothing of that name',
}

# The same for look-ups.
_GAI_HINTS = {
    'host_not_found': 'is the name right, and does the name server answer?',
    'service_not_found': 'a port may also be a number',
}


def _symbols(platform: str) -> Mapping[int, str]:
    if platform == sys.platform != 'win32':
        return _errno.errorcode
    return {number: symbol for symbol, number in _NUMBERS.get(platform, _BSD_NUMBERS).items()}


_HERE = _symbols(sys.platform)


def normalize(number: int, platform: str = sys.platform) -> str:
    """The name of an OS's error number; ``platform`` as in ``sys.platform``.

    >>> normalize(111, 'linux'), normalize(61, 'darwin'), normalize(10061, 'win32')
    ('connection_refused', 'connection_refused', 'connection_refused')
    """
    symbols = _HERE if platform == sys.platform else _symbols(platform)
    return _BY_SYMBOL.get(symbols.get(number, ''), 'other')


def _advice(err: str, symbol: str, what: str) -> str:
    operation = what.partition(' ')[0]
    # Every other address ends in its port, or is a name after a zero byte.
    has_path = not what.rpartition(':')[2].isdigit() and '\\0' not in what
    widening = [*([f'{operation} path'] if has_path else []), ' '.join(what.split(' ')[:2]), operation]
    of_it = next((hint for name in widening if (hint := _HINTS_OF.get((name, symbol)))), None)
    return of_it or _HINTS.get(symbol) or _HINTS[err]


def _words(number: int, err: str) -> str:
    if sys.platform != 'win32':
        return os.strerror(number)
    # There strerror() knows C's numbers alone: 5, "access denied" of Windows, is its "input/output error". The name is
    # in the words of other systems, where Windows' own are in the language of its user.
    if err != 'other':
        return err.replace('_', ' ').capitalize()
    import ctypes

    return ctypes.FormatError(number)


def from_os(number: int, what: str, sent: int = 0, received: int = 0, data: bytes = b'') -> Error:
    """The exception for an OS's error number; ``what`` says what was tried and on which address."""
    err = normalize(number)
    text = _words(number, err)
    symbol = _HERE.get(number, str(number))
    message = f'{what}: {text} ({symbol}): {_advice(err, symbol, what)}'
    error = _CLASSES[err](message, errno=number, sent=sent, received=received, data=data)
    error.strerror = text
    return error


def from_file(failed: OSError, what: str) -> Error:
    """The exception for what Python's own calls raise, of a file for one, with a number of C's library on any OS."""
    number = failed.errno or 0
    symbol = _errno.errorcode.get(number, str(number))
    err = _BY_SYMBOL.get(symbol, 'other')
    error = _CLASSES[err](f'{what}: {failed.strerror} ({symbol}): {_advice(err, symbol, what)}', errno=number)
    error.strerror = failed.strerror
    return error


def make(err: str, what: str, sent: int = 0, received: int = 0, data: bytes = b'') -> Error:
    """The exception of a name, where the OS had no part in it."""
    return _CLASSES[err](what, sent=sent, received=received, data=data)


def advise(error: Error, advice: str) -> None:
    """Adds what there is to say to who gets an error that was made elsewhere."""
    error.args = (f'{error.message}; {advice}',)


_GAI = {
    'host_not_found': 'EAI_NONAME EAI_NODATA EAI_ADDRFAMILY EAI_AGAIN EAI_FAIL',
    'service_not_found': 'EAI_SERVICE',
    'no_buffer_space': 'EAI_MEMORY',
    'not_supported': 'EAI_FAMILY EAI_SOCKTYPE',
    'invalid_argument': 'EAI_BADFLAGS',
}
_BY_GAI = {
    getattr(socket, symbol): err
    for err, symbols in _GAI.items()
    for symbol in symbols.split()
    if hasattr(socket, symbol)
}


def from_gai(failed: OSError, what: str) -> Error:
    """The exception for what ``getaddrinfo`` raised."""
    number = failed.errno
    if not isinstance(failed, socket.gaierror):
        return from_file(failed, what)
    err = _BY_GAI.get(number or 0, 'other')
    hint = _GAI_HINTS.get(err) or _HINTS[err]
    error = _CLASSES[err](f'{what}: {failed.strerror or failed}: {hint}', errno=number)
    error.strerror = failed.strerror or ''
    return error
