"""Addresses of names: ``addr`` blocks, ``resolve`` lets other threads run. Numeric addresses are read at once, here."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator

from . import _errors
from ._sock import SockAddr, check_wait
from ._workers import Workers

# `typing` would be a third of what `import sock` takes.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

FAMILIES = {
    'inet': socket.AF_INET,
    'inet6': socket.AF_INET6,
    'unix': getattr(socket, 'AF_UNIX', 1),
}
TYPES = {'tcp': socket.SOCK_STREAM, 'udp': socket.SOCK_DGRAM, 'raw': socket.SOCK_RAW}
PROTOCOLS = {
    'ip': socket.IPPROTO_IP,
    'icmp': socket.IPPROTO_ICMP,
    'igmp': getattr(socket, 'IPPROTO_IGMP', 2),
    'tcp': socket.IPPROTO_TCP,
    'udp': socket.IPPROTO_UDP,
    'ipv6': getattr(socket, 'IPPROTO_IPV6', 41),
    'icmpv6': getattr(socket, 'IPPROTO_ICMPV6', 58),
    'raw': socket.IPPROTO_RAW,
}
FLAGS = {
    'passive': socket.AI_PASSIVE,
    'canonname': socket.AI_CANONNAME,
    'cannonname': socket.AI_CANONNAME,
    'numerichost': socket.AI_NUMERICHOST,
    'numericserv': socket.AI_NUMERICSERV,
    'all': getattr(socket, 'AI_ALL', 0),
    'v4mapped': getattr(socket, 'AI_V4MAPPED', 0),
    'addrconfig': getattr(socket, 'AI_ADDRCONFIG', 0),
}

#: What ``'*'`` and ``False`` stand for.
_ALL = {'inet': '0.0.0.0', 'inet6': '::'}
_LOOPBACK = {'inet': '127.0.0.1', 'inet6': '::1'}

#: Where ``resolve`` asks.
_resolvers = Workers(16, 'resolver')


def resolve_limit(n: int | None = None) -> int:
    """How many names may be looked up at once in this process, each in an OS thread of its own; the others wait for
    their turn. With an argument, sets it first.

    >>> resolve_limit(100)
    100
    """
    return _resolvers.limited(n, 'resolve_limit')


_FREED = 'this AddrInfo was freed: it has no addresses any more'


class AddrInfo:
    """The addresses of a host, in the OS's order of preference: iterable, with a length."""

    __slots__ = ('_addrs', '_at', 'family', 'name', 'protocol', 'type')

    #: 'tcp', 'udp' or 'raw'.
    type: str
    #: 'inet', 'inet6' or 'unix'; None where both kinds were asked for.
    family: str | None
    #: 'tcp', 'icmp', ...: as asked for, else what the type implies.
    protocol: str | None
    #: The canonical name, if the flag 'canonname' asked for it.
    name: str | None

    def __init__(
        self,
        addrs: Iterable[SockAddr],
        type: str,
        family: str | None,
        protocol: str | None = None,
        name: str | None = None,
    ) -> None:
        self._addrs = list(addrs)
        self._at = 0
        self.type = type
        self.family = family
        self.protocol = protocol_name(protocol_number(protocol) or 0, type, family)
        self.name = name

    def __iter__(self) -> Iterator[SockAddr]:
        return iter(self._addrs)

    def __len__(self) -> int:
        return len(self._addrs)

    def addrs(self) -> list[SockAddr]:
        """All addresses."""
        return list(self._addrs)

    def next(self) -> SockAddr | None:
        """The next address, from the first one on; None after the last."""
        if self._at == len(self._addrs):
            return None
        self._at += 1
        return self._addrs[self._at - 1]

    def free(self) -> None:
        """Forgets the addresses. Only there because the manual has it: nothing is held that needs it."""
        self._addrs.clear()
        self._at = 0

    @property
    def addr(self) -> SockAddr:
        """The first address."""
        if not self._addrs:
            raise ValueError(_FREED)
        return self._addrs[0]

    def tostring(self) -> str:
        """The first address, formatted; as ``str()``."""
        return str(self._addrs[0]) if self._addrs else ''

    __str__ = tostring

    def __repr__(self) -> str:
        return f'<sock.AddrInfo {self.type} {", ".join(map(str, self._addrs)) or "freed"}>'


Host: TypeAlias = str | bytes | os.PathLike[str] | bool | AddrInfo | SockAddr


def near_misses(name: str, known: Iterable[str]) -> str:
    """What ``name`` may have been meant to be, for an error's text."""
    from difflib import get_close_matches

    return ' or '.join(map(repr, get_close_matches(name.lower(), known, 2, 0.5)))


def one_of(value: object, known: Iterable[str], what: str) -> str:
    """``value``, if it is one of the ``known`` names; else the error that helps."""
    known = list(known)
    if not isinstance(value, str):
        raise TypeError(f'{what} must be a str, one of {", ".join(map(repr, known))}, not {type(value).__name__}')
    if value not in known:
        near = near_misses(value, known)
        hint = f'; did you mean {near}?' if near else ''
        raise ValueError(f'{what} must be one of {", ".join(map(repr, known))}, not {value!r}{hint}')
    return value


def check_family(family: object) -> str:
    """A socket's family."""
    return one_of(family, FAMILIES, 'family')


def protocol_number(protocol: object) -> int | None:
    """The OS's number of a protocol by its name; a number is passed through."""
    if protocol is None:
        return None
    if isinstance(protocol, int) and not isinstance(protocol, bool):
        if not 0 <= protocol <= 255:
            raise ValueError(f'protocol must be 0 to 255, not {protocol}')
        return protocol
    return PROTOCOLS[one_of(protocol, PROTOCOLS, 'protocol')]


def protocol_name(number: int, type: str, family: str | None) -> str | None:
    """A protocol's name by the OS's number; 0 is what the socket type implies, if it does imply one."""
    if number == 0:
        return type if type != 'raw' and family != 'unix' else None
    return next((name for name, each in PROTOCOLS.items() if each == number), str(number))


def _check_flags(flags: str | Iterable[str]) -> int:
    names = [flags] if isinstance(flags, str) else flags
    if not isinstance(names, Iterable):
        raise TypeError(f'flags must be a name or several in an iterable, not {type(flags).__name__}')
    number = 0
    for name in names:
        number |= FLAGS[one_of(name, FLAGS, 'flags')]
    return number


def _check_port(port: object) -> int | str:
    if isinstance(port, str):
        if not port:
            raise ValueError("port must be a number or a service name, not ''")
        if not port.isdecimal():
            return port
        port = int(port)
    if not isinstance(port, int) or isinstance(port, bool):
        raise TypeError(f'port must be an int or a service name, not {type(port).__name__}')
    if not 0 <= port <= 65535:
        raise ValueError(f'port must be 0 to 65535, not {port}')
    return port


def _check_host(host: object, family: str | None) -> str | bytes:
    """The host as a name or numeric address, or ``''`` for ``False``."""
    if family == 'unix':
        if not isinstance(host, (str, bytes, os.PathLike)):
            raise TypeError(f'the host of a unix address is its path, a str, not {type(host).__name__}')
        path = os.fspath(host)
        if path in ('*', b'*', '', b''):
            raise ValueError(f"the host of a unix address is its path, not {path!r}: for a file of that name './*'")
        return path
    if host is False:
        return ''
    if isinstance(host, bytes):
        if not host.isascii():
            raise ValueError(f'a host name in bytes must be ASCII: {host!r}')
        host = host.decode()
    if not isinstance(host, str):
        raise TypeError(
            f"host must be a name or address as a str, '*' for all interfaces, False for loopback, an AddrInfo or a "
            f'SockAddr, not {host!r}'
        )
    if not host:
        raise ValueError("host must not be empty: '*' is all interfaces, False is loopback")
    if '\0' in host:
        raise ValueError(f'host must not contain a NUL character: {host!r}')
    return host


def numeric(
    host: Host, port: int | str = 0, socket_type: str = 'tcp', family: str | None = 'inet', protocol: str | None = None
) -> AddrInfo | None:
    """The addresses where no look-up is needed: numeric ones, ``'*'``, ``False``, paths and those passed through.

    None: it is a name. Raises TypeError and ValueError as ``addr`` does.
    """
    if isinstance(host, AddrInfo):
        if not host:
            raise ValueError(_FREED)
        return host
    if isinstance(host, SockAddr):
        return AddrInfo((host,), socket_type, host.family, protocol)
    checked, number = _check_host(host, family), _check_port(port)
    if family == 'unix':
        return AddrInfo((SockAddr('unix', checked),), socket_type, family, protocol)
    if not isinstance(number, int) or not isinstance(checked, str):
        return None
    families = ('inet', 'inet6') if family is None else (family,)
    if checked in ('*', ''):
        stands_for = _ALL if checked else _LOOPBACK
        return AddrInfo((SockAddr(each, stands_for[each], number) for each in families), socket_type, family, protocol)
    if (found := SockAddr.parse(checked, number)) is None or found.family not in families:
        return None
    return AddrInfo((found,), socket_type, family, protocol)


def _checked(
    host: Host, port: int | str, socket_type: str, family: str | None, protocol: str | None, flags: str | Iterable[str]
) -> tuple[AddrInfo | None, int]:
    """Checks the arguments of ``addr``: the answer if it needs no look-up, and the flags."""
    one_of(socket_type, TYPES, 'socket_type')
    if family is not None:
        check_family(family)
    protocol_number(protocol)
    number = _check_flags(flags)
    if number & FLAGS['canonname'] and isinstance(host, (str, bytes)) and host != '*' and family != 'unix':
        return None, number
    return numeric(host, port, socket_type, family, protocol), number


def _is_service(name: str, socket_type: str, flags: int) -> bool:
    if flags & FLAGS['numericserv']:
        return False
    try:
        socket.getservbyname(name, socket_type)
    except OSError:
        return False
    return True


def _look_up(
    host: Host, port: int | str, socket_type: str, family: str | None, protocol: str | None, flags: int
) -> AddrInfo:
    """Asks the OS; blocks."""
    what = f'look up {host!r}, port {port!r}'
    name = _check_host(host, family)
    assert isinstance(name, str)
    if name in ('*', ''):
        flags |= FLAGS['passive'] if name else 0
    elif (found := SockAddr.parse(name, 0)) is not None and family not in (None, found.family) and not flags:
        raise _errors.make('host_not_found', f'{what}: this is an {found.family} address, and {family} was asked for')
    number = _check_port(port)
    try:
        answers = socket.getaddrinfo(
            None if name in ('*', '') else name,
            number,
            socket.AF_UNSPEC if family is None else FAMILIES[family],
            TYPES[socket_type],
            protocol_number(protocol) or 0,
            flags,
        )
    except UnicodeError as failed:
        raise _errors.make('host_not_found', f'{what}: no valid host name: {failed}') from None
    except OSError as failed:
        error = _errors.from_gai(failed, what)
        if (
            isinstance(number, str)
            and isinstance(error, _errors.HostNotFound)
            and not _is_service(number, socket_type, flags)
        ):
            # Some systems do not say which of the two they do not know.
            message = f'{what}: no such service: {_errors._GAI_HINTS["service_not_found"]}'
            error = _errors.ServiceNotFound(message, errno=error.errno)
        raise error from None
    names = {constant: each for each, constant in FAMILIES.items()}
    addrs = [
        SockAddr(names[found], str(host).partition('%')[0], *rest)
        for found, _, _, _, (host, *rest) in answers
        if found in names
    ]
    if not addrs:
        raise _errors.make('host_not_found', f'{what}: no address of the families that sock knows')
    return AddrInfo(dict.fromkeys(addrs), socket_type, family, protocol, answers[0][3] or None)


def addr(
    host: Host = '*',
    port: int | str = 0,
    socket_type: str = 'tcp',
    family: str | None = 'inet',
    protocol: str | None = None,
    flags: str | Iterable[str] = (),
) -> AddrInfo:
    """Looks a host up and returns its addresses. Blocks for names: in a thread, ``await resolve(...)`` instead.

    ``host``: a name, a numeric address, ``'*'`` for all interfaces, ``False`` for loopback, a path for the family
    'unix' (``'\\0name'`` is abstract, on Linux), or an AddrInfo or SockAddr, which is passed through. ``port``: a
    number or a service name. ``socket_type``: 'tcp', 'udp' or 'raw'. ``family``: 'inet', 'inet6', 'unix', or None
    for any. ``protocol``: a name such as 'icmp', or None. ``flags``: one or several of 'passive', 'canonname',
    'numerichost', 'numericserv', 'all', 'v4mapped', 'addrconfig'.

    Raises HostNotFound, ServiceNotFound; TypeError and ValueError for wrong arguments. getaddrinfo(3), RFC 3493.

    >>> import sock
    >>> str(sock.addr('127.0.0.1', 80)), str(sock.addr(False, 80, family='inet6'))
    ('127.0.0.1:80', '[::1]:80')
    """
    found, number = _checked(host, port, socket_type, family, protocol, flags)
    return _look_up(host, port, socket_type, family, protocol, number) if found is None else found


async def resolve(
    host: Host = '*',
    port: int | str = 0,
    socket_type: str = 'tcp',
    family: str | None = 'inet',
    protocol: str | None = None,
    flags: str | Iterable[str] = (),
    *,
    expires: float | None = None,
) -> AddrInfo:
    """As ``addr``, while other threads run. When the ``clock()`` value ``expires`` passes, raises Timeout."""
    check_wait('resolve', expires)
    found, number = _checked(host, port, socket_type, family, protocol, flags)
    if found is not None:
        return found
    args = (host, port, socket_type, family, protocol, number)
    what, advice = f'look up {host!r}', 'does the name server answer?'
    answer: AddrInfo = await _resolvers.run(_look_up, *args, what=what, advice=advice, expires=expires)
    return answer
