"""TCP, UDP and raw sockets: names resolved, addresses tried in turn, options by name.

What moves bytes (recv, send, accept, ...) is Rust's, inherited from ``_sock.Stream`` and ``_sock.Datagram``; here is
what needs names, or files.
A look-up never blocks other threads, except in ``bind`` and ``listen``, which are no coroutines: give them numbers.
"""

from __future__ import annotations

import functools
import io
import os
import socket
import stat
import sys
import threading
import weakref
from collections import namedtuple
from collections.abc import Awaitable, Callable, Iterable

from . import _addrinfo, _errors, _eyeballs, _sock, _workers
from ._addrinfo import Host
from ._scheduler import newthread, over

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

    from typing_extensions import Buffer


def _unknown_option(name: str) -> Exception:
    if name in _sock.option_names():
        return _errors.make(
            'not_supported', f'option {name}: this OS does not have it; sock.options() lists what it has'
        )
    near = _addrinfo.near_misses(name, _sock.option_names())
    hint = f'; did you mean {near}?' if near else '; sock.options() lists what there is'
    return ValueError(f'unknown option {name!r}{hint}')


_Stats = namedtuple('_Stats', 'bytes_received recv_calls bytes_sent send_calls')


class Stats(_Stats):
    """What a socket has moved: bytes each way, and the system calls that moved some."""

    __slots__ = ()


class Socket(_sock.Socket):
    """What all sockets have in common."""

    __slots__ = ()

    def __init_subclass__(cls) -> None:
        _sock.finalizes(cls)

    @property
    def stats(self) -> Stats:
        """How much was received and sent so far, and in how many system calls."""
        return Stats(*self._stats)

    @property
    def protocol(self) -> str | None:
        """The protocol's name, such as 'tcp'; None for unix sockets."""
        return _addrinfo.protocol_name(self._protocol, self.type, self.family)

    def bind(self, host: Host = '*', port: int | str = 0, flags: str | Iterable[str] = ()) -> None:
        """Binds the socket to an address of this host: all interfaces and any free port by default. bind(2)."""
        self._bind(self._one_address(host, port, flags), False)

    def setopt(self, name: str, value: Any) -> None:
        """Sets an option by the OS's name in lower case, such as 'tcp_nodelay' or 'so_rcvbuf'.

        Values are Python's: bool, int, seconds as a float, linger as seconds or None. Raises ValueError for an unknown
        or read-only name, TypeError for a value of the wrong type, NotSupported for what only other systems have.
        """
        if not self._setopt(name, value):
            raise _unknown_option(name)

    def getopt(self, name: str) -> Any:
        """An option's value; names as in ``setopt``."""
        if (value := self._getopt(name)) is None and name not in _sock.options():
            raise _unknown_option(name)
        return value

    def _one_address(self, host: Host, port: int | str, flags: str | Iterable[str]) -> _sock.SockAddr:
        address = _addrinfo.addr(host, port, self.type, self.family, None, flags).addr
        self._check_family(address)
        return address

    def _check_family(self, address: _sock.SockAddr) -> None:
        if self.family is None and address.family != 'unix':
            return
        if address.family != self.family:
            raise ValueError(f'{address} is an {address.family} address, and the socket is of family {self.family}')

    async def _look_up(self, host: Host, port: int | str, expires: float | None) -> _addrinfo.AddrInfo:
        """The addresses of a host, as part of an operation of this socket: it is closed when ``expires`` passes."""
        try:
            return await _addrinfo.resolve(host, port, self.type, self.family, expires=expires)
        except _errors.Timeout:
            self._expire()
            raise

    async def connect(self, host: Host, port: int | str = 0, *, expires: float | None = None) -> None:
        """Connects to a host, trying each of its addresses in turn.

        ``expires`` is a ``sock.clock()`` value for all of it, the look-up included: when it passes, the socket is
        closed and ``Timeout`` raised. If all addresses fail, the last error comes out, with all that were tried in
        its message. connect(2).
        """
        _sock.check_wait('connect', expires)
        addresses = (await self._look_up(host, port, expires)).addrs()
        for address in addresses:
            self._check_family(address)
        tried = []
        for last, address in enumerate(addresses, 1):
            try:
                return await self._connect(address, expires)
            except _errors.Cancelled:
                # Unless somebody has closed it, it is whole, and may connect again.
                self._give_up_connect(self._options())
                raise
            except (_errors.Timeout, _errors.Closed, _errors.Busy, _errors.AlreadyConnected):
                raise
            except _errors.Error as error:
                tried.append(f'{address} ({error.err})')
                if last == len(addresses):
                    if len(tried) > 1:
                        message = f'{error.message}; tried {", ".join(tried)}'
                        raise type(error)(message, errno=error.errno) from None
                    raise
            self._reconnect(self._options())
        return None

    def _options(self) -> dict[str, Any]:
        """What was set of a socket that is not connected: an OS socket that takes its own's place gets it too."""
        return {}

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._leave()

    async def __aenter__(self) -> Any:
        return self

    def __aexit__(self, *exc_info: object) -> Awaitable[None]:
        self._leave()
        return over

    if sys.flags.dev_mode and not TYPE_CHECKING:

        def __init__(self, new: _sock.NewSocket) -> None:
            self._note_made(_caller())
            _made.add(self)

    def __repr__(self) -> str:
        name = f'sock.{type(self).__name__}'
        if self.closed:
            return f'<{name} closed>'
        local, remote = self.local_addr, self.remote_addr
        if remote is not None:
            return f'<{name} {local} -> {remote} connected>'
        if local is not None:
            return f'<{name} {local} {"listening" if self._listens else "bound"}>'
        return f'<{name} unbound>'


#: All sockets, in Python's development mode alone (``python -X dev``).
_made: weakref.WeakSet[Socket] = weakref.WeakSet()


def _caller() -> str:
    """The innermost line of code that is not ours."""
    frame = sys._getframe(1)
    while frame.f_globals.get('__name__', '').partition('.')[0] == __package__ and frame.f_back is not None:
        frame = frame.f_back
    return f'{frame.f_code.co_name}, {frame.f_code.co_filename}:{frame.f_lineno}'


def _list_open() -> None:
    """At the interpreter's end: all at once, and each no more when it goes."""
    if still := [socket for socket in _made if not socket.closed]:
        import warnings

        lines = ''.join(f'\n  {socket!r}, made in {socket._made}' for socket in still)
        for socket in still:
            socket._note_told()
        warnings.warn(f'sockets that are open at exit:{lines}', ResourceWarning, stacklevel=2)


if sys.flags.dev_mode:
    import atexit

    atexit.register(_list_open)


class TCP(Socket, _sock.Stream):
    """A stream socket: TCP, or unix. Made by ``sock.tcp()`` and ``accept()``."""

    __slots__ = ('_set',)

    #: Options that were set before it was connected.
    _set: dict[str, Any]

    def setopt(self, name: str, value: Any) -> None:
        super().setopt(name, value)
        if self.remote_addr is None:
            self._set = {**getattr(self, '_set', {}), name: value}

    setopt.__doc__ = Socket.setopt.__doc__

    def _options(self, family: str | None = None) -> dict[str, Any]:
        others = 'ip_' if (family or self.family) == 'inet6' else 'ipv6_'
        return {name: value for name, value in getattr(self, '_set', {}).items() if not name.startswith(others)}

    async def connect(self, host: Host, port: int | str = 0, *, expires: float | None = None) -> None:
        if self.family is not None:
            return await super().connect(host, port, expires=expires)
        _sock.check_wait('connect', expires)
        addresses = (await self._look_up(host, port, expires)).addrs()
        for address in addresses:
            self._check_family(address)
        await _eyeballs.Race(self, addresses, self._candidate).run(expires)
        return None

    connect.__doc__ = Socket.connect.__doc__

    def _one_address(self, host: Host, port: int | str, flags: str | Iterable[str]) -> _sock.SockAddr:
        if self.family is not None:
            return super()._one_address(host, port, flags)
        address = _addrinfo.addr(host, port, self.type, 'inet6' if host == '*' else None, None, flags).addr
        self._check_family(address)
        if address.family == 'inet':
            self._become(self._candidate('inet'))
        return address

    def _candidate(self, family: str) -> TCP:
        made = TCP(_sock.open('tcp', family, self._protocol or None))
        for name, value in self._options(family).items():
            made.setopt(name, value)
        return made

    def listen(
        self, host: Host = '*', port: int | str = 0, *, backlog: int | None = None, flags: str | Iterable[str] = ()
    ) -> None:
        """Listens for connections, bound to the address first unless it is bound already.

        ``backlog``: how many connections may wait to be accepted; None is the most the OS allows. On Unix a port that
        old connections still linger on (TIME_WAIT) can be used at once; on Windows nobody else can take it. listen(2).
        """
        if backlog is not None and not isinstance(backlog, int):
            raise TypeError(f'backlog must be an int or None, not {type(backlog).__name__}')
        if backlog is not None and not 0 <= backlog < 2**31:
            raise ValueError(f'backlog must be 0 to {2**31 - 1}, not {backlog}')
        if not self._is_bound:
            self._bind(self._one_address(host, port, flags), True)
        self._listen(2**31 - 1 if backlog is None else backlog)

    async def sendfile(
        self, file: BinaryIO, offset: int = 0, count: int | None = None, *, expires: float | None = None
    ) -> int:
        """Sends a binary file from ``offset`` on, ``count`` bytes or all the rest, and returns how many went.

        Where the OS can, it copies the file to the socket by itself, with no bytes passing through Python (Linux,
        macOS, FreeBSD, and regular files); otherwise they are read in a worker OS thread. The file's position stays
        where it is, unless it has to be read. How many went before an error is in its ``sent``. An OSError of reading
        comes out as an ``Error``; when ``expires`` passes while the file gives nothing, as a pipe may, a read that has
        begun cannot be stopped, and what it gets is dropped. sendfile(2).
        """
        for name, value in (('offset', offset), ('count', 0 if count is None else count)):
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f'{name} must be a number of bytes, not {type(value).__name__}')
            if not 0 <= value < 2**63:
                raise ValueError(f'{name} must not be negative, nor above 2**63 - 1, and is {value}')
        if not hasattr(file, 'read') or hasattr(file, 'encoding'):
            raise TypeError(f"sendfile takes a file opened for reading in binary, mode 'rb', not {file!r}")
        number, regular = _descriptor(file)
        if number is None:

            def read(size: int, sent: int) -> bytes | None:
                if offset and not sent:
                    file.seek(offset)
                return file.read(size)

            return await self._send_read(read, count, expires, in_memory=type(file) is io.BytesIO)
        own = _Own(file, number)
        try:
            if not regular:
                return await self._send_read(functools.partial(_read_raw, file, own, offset), count, expires)
            try:
                return await self._sendfile(own.number, offset, count, expires)
            except (_errors.NotSupported, _errors.InvalidArgument) as error:
                if error.sent:
                    raise
            return await self._send_read(functools.partial(_read_at, own, offset), count, expires)
        finally:
            own.leave()

    async def _send_read(
        self,
        read: Callable[[int, int], bytes | None],
        count: int | None,
        expires: float | None,
        in_memory: bool = False,
    ) -> int:
        """Sends what ``read`` gives, which takes how much to read at most, and how much was read before."""
        sent = 0
        try:
            while count is None or sent < count:
                size = _READ if count is None else min(_READ, count - sent)
                data = read(size, sent) if in_memory else await self._read(read, size, sent, expires)
                if data is None:
                    what = f'sendfile to {self.remote_addr}: the file does not block, and has nothing now'
                    raise _errors.make('invalid_argument', f'{what}: os.set_blocking(file.fileno(), True)')
                if not data:
                    break
                sent += await self.send(data, expires=expires)
        except (_errors.Error, _errors.Cancelled) as error:
            error.sent += sent
            if error.sent and isinstance(error, _errors.Error):
                error.args = (f'{error.message}; {error.sent} bytes of the file were sent',)
            raise
        return sent

    async def _read(
        self, read: Callable[[int, int], bytes | None], size: int, sent: int, expires: float | None
    ) -> bytes | None:
        """Reads in a worker OS thread. This thread writes to the socket meanwhile, and hears when that is closed."""
        outcome: list[tuple[bytes | None, BaseException | None]] = []

        async def reads() -> None:
            try:
                outcome.append((await _workers.offload(read, size, sent), None))
            except BaseException as failed:
                outcome.append((b'', failed))
            self._nudge()

        reading = newthread(reads(), name='sendfile')
        try:
            while not outcome:
                await self._hold(True, expires)
        finally:
            reading.cancel()
            # Who writes next finds it ready, as it was.
            self._nudge()
        data, failed = outcome.pop()
        if failed is None:
            return data
        try:
            if isinstance(failed, OSError) and not isinstance(failed, _errors.Error) and failed.errno:
                raise _errors.from_file(failed, f'read the file for sendfile to {self.remote_addr}') from failed
            raise failed
        finally:
            # Its traceback has this frame.
            del failed


#: How much of a file is read at once where the OS does not send it by itself.
_READ = 1 << 18


class _Own:
    """A duplicate of a file's descriptor, which is closed when nobody reads from it any more.

    Others may close the file meanwhile, and a late read may still wait for a worker when the operation is over: neither
    is to meet a number that the OS has given to something else.
    """

    __slots__ = ('_changed', '_users', 'number')

    def __init__(self, file: BinaryIO, number: int) -> None:
        self._changed = threading.Lock()
        self._users = 1
        try:
            self.number = os.dup(number)
        except OSError as failed:
            # Closed meanwhile: that is said as the file says it.
            file.fileno()
            raise _errors.from_file(failed, f'duplicate descriptor {number} for sendfile') from None
        try:
            # A file that is still open has kept its number all the time. One that was closed meanwhile, by another OS
            # thread, says so here, and what was duplicated may be anybody's.
            if file.fileno() != number:
                raise ValueError(f'{file!r} was closed and opened anew while sendfile began')
        except BaseException:
            os.close(self.number)
            raise

    def leave(self) -> None:
        with self._changed:
            self._users -= 1
            if not self._users:
                os.close(self.number)

    def __enter__(self) -> int:
        with self._changed:
            if not self._users:
                raise ValueError('sendfile is over: nobody waits for what is read')
            self._users += 1
        return self.number

    def __exit__(self, *exc_info: object) -> None:
        self.leave()


def _read_at(own: _Own, offset: int, size: int, sent: int) -> bytes:
    """pread(2), also where the OS has none: there the position is put back, since all duplicates share it."""
    with own as number:
        if sys.platform != 'win32':
            return os.pread(number, size, offset + sent)
        position = os.lseek(number, 0, os.SEEK_CUR)
        try:
            os.lseek(number, offset + sent, os.SEEK_SET)
            return os.read(number, size)
        finally:
            os.lseek(number, position, os.SEEK_SET)


def _read_raw(file: BinaryIO, own: _Own, offset: int, size: int, sent: int) -> bytes | None:
    """What `FileIO.read` does, which lets go of the interpreter between its look at the number and read(2)."""
    file.fileno()  # a closed file says so
    with own as number:
        if offset and not sent:
            os.lseek(number, offset, os.SEEK_SET)
        try:
            return os.read(number, size)
        except BlockingIOError:
            return None


def _descriptor(file: BinaryIO) -> tuple[int | None, bool]:
    """The descriptor of a file that is read by it, and whether that is a regular one, which the OS may send by itself.

    Any other that is read so has no buffer and nothing of its own in Python. None: it is read by its own ``read``.
    """
    try:
        number = file.fileno()
        regular = stat.S_ISREG(os.fstat(number).st_mode)
        plain = type(file) is io.FileIO and file.readable()
    except (AttributeError, OSError):
        return None, False
    return (number if regular or plain else None), regular


class UDP(Socket, _sock.Datagram):
    """A datagram socket: UDP, or unix. Made by ``sock.udp()``."""

    __slots__ = ()

    async def connect(self, host: Host, port: int | str = 0, *, expires: float | None = None) -> None:
        """Sets the address that ``send`` goes to and that alone is received from; again for another one.

        ``('*', 0)`` undoes it. An ICMP error of an earlier datagram is reported once, as ``connection_refused``, and
        only on a connected socket. connect(2).
        """
        if host == '*' and port == 0:
            _sock.check_wait('connect', expires)
            self._disconnect()
        else:
            await super().connect(host, port, expires=expires)

    async def _send_by_name(
        self, data: Buffer, maxlen: int | None, host: Host, port: int | str | None, expires: float | None
    ) -> int:
        _sock.check_wait('send', expires)
        return await self.send(data, maxlen, (await self._look_up(host, port or 0, expires)).addr, expires=expires)

    async def _recv_by_name(
        self, buf: Buffer, maxlen: int | None, host: Host, port: int | str | None, expires: float | None
    ) -> int:
        _sock.check_wait('recv', expires)
        return await self.recv(buf, maxlen, (await self._look_up(host, port or 0, expires)).addr, expires=expires)


class Raw(UDP):
    """A raw IP socket: whole packets of one protocol, such as 'icmp'. Made by ``sock.raw()``; needs rights."""

    __slots__ = ()


_sock.own_methods(TCP)
_sock.own_methods(UDP)


def tcp(family: str | None = 'inet', protocol: str | None = None) -> TCP:
    """A new TCP socket; ``family`` is 'inet', 'inet6', 'unix', or None for either of the first two.

    Of no family, it connects to whatever addresses a name has, trying both families in turn, nearly at once (RFC 8305);
    bound or listening, it takes IPv6 and IPv4, whose addresses then look like '::ffff:1.2.3.4'.
    """
    number = _addrinfo.protocol_number(protocol)
    if family is not None:
        _addrinfo.check_family(family)
        return TCP(_sock.open('tcp', family, number))
    try:
        either = TCP(_sock.open('tcp', 'inet6', number))
    except _errors.NotSupported:
        # A host without IPv6.
        return TCP(_sock.open('tcp', 'inet', number))
    either.setopt('ipv6_v6only', False)
    either._set_any_family()
    return either


def udp(family: str = 'inet', protocol: str | None = None) -> UDP:
    """A new UDP socket; ``family`` is 'inet', 'inet6' or 'unix'."""
    _addrinfo.check_family(family)
    return UDP(_sock.open('udp', family, _addrinfo.protocol_number(protocol)))


def raw(family: str = 'inet', protocol: str | None = None) -> Raw:
    """A new raw socket of an IP protocol, such as 'icmp'; needs rights (root, or CAP_NET_RAW). raw(7).

    With IPv4 what is received begins with the IP header. Without a protocol it only sends, whole packets with their
    headers.
    """
    if _addrinfo.check_family(family) == 'unix':
        raise ValueError("a raw socket is of the family 'inet' or 'inet6', not 'unix'")
    return Raw(_sock.open('raw', family, _addrinfo.protocol_number('raw' if protocol is None else protocol)))


_CLASSES: dict[str, type[TCP | UDP]] = {'tcp': TCP, 'udp': UDP, 'raw': Raw}


def fromfd(fd: int) -> TCP | UDP:
    """Takes over an OS descriptor, which must be a socket; it becomes non-blocking and is closed with the result."""
    new = _sock.adopt(fd)
    if (made := _CLASSES.get(new.kind or '')) is None:
        new.forget()
        raise _errors.make('not_supported', f'take over descriptor {fd}: no stream, datagram or raw socket')
    return made(new)


def fromsocket(s: socket.socket) -> TCP | UDP:
    """Takes over a stdlib socket, which is detached: use the result in its place."""
    if not isinstance(s, socket.socket):
        raise TypeError(f'fromsocket takes a socket.socket, not {type(s).__name__}')
    if s.fileno() < 0:
        raise _errors.make('closed', 'take over a stdlib socket: it is closed, or detached before')
    taken = fromfd(s.fileno())
    s.detach()
    return taken


def options() -> dict[str, tuple[str, bool, bool]]:
    """The socket options of this OS: name -> (type, readable, writable)."""
    return _sock.options()
