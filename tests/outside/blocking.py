"""The stdlib's `socket` module over our sockets: its own Python half, with `Blocking` in place of `_socket.socket`.

Each call that may block is a thread of ours, which the calling OS thread polls for, with a poller of its own. When the
stdlib's timeout passes, it is cancelled, since the socket has to stay open, which a deadline of ours would close.
"""

import _socket
import errno
import importlib.util
import os
import socket
import sys
import types
import unittest.mock

import sock

#: Our names of theirs. All of it is Linux's, as is the table of cases that this is for.
FAMILIES = {socket.AF_INET: 'inet', socket.AF_INET6: 'inet6', socket.AF_UNIX: 'unix'}
TYPES = {socket.SOCK_STREAM: 'tcp', socket.SOCK_DGRAM: 'udp', socket.SOCK_RAW: 'raw'}
LEVELS = {
    'so': socket.SOL_SOCKET,
    'ip': socket.IPPROTO_IP,
    'ipv6': socket.IPPROTO_IPV6,
    'tcp': socket.IPPROTO_TCP,
    'udp': socket.IPPROTO_UDP,
}
#: By level and number: what both name.
OPTIONS = {
    (LEVELS[level], getattr(socket, name.upper())): name
    for name in sock.options()
    if (level := name.partition('_')[0]) in LEVELS and hasattr(socket, name.upper())
}


def failed(number):
    return OSError(number, os.strerror(number))


class Blocking:
    """What `_socket.socket` does, by a socket of ours."""

    __slots__ = ('_seconds', 'ours', 'proto')

    #: How many there have been: a case that makes none shows nothing of ours.
    made = 0

    def __init__(self, family=-1, type=-1, proto=-1, fileno=None):
        Blocking.made += 1
        kind = type & ~(socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self.proto = max(proto, 0)
        self._seconds = 0.0 if type != -1 and type & socket.SOCK_NONBLOCK else socket.getdefaulttimeout()
        if fileno is not None:
            self.ours = sock.fromfd(fileno)
        elif family in FAMILIES and kind in TYPES:
            self.ours = getattr(sock, TYPES[kind])(FAMILIES[family], self.proto or None)
        else:
            raise failed(errno.EAFNOSUPPORT)

    # What waits.

    def _wait(self, operation):
        thread = sock.newthread(outcome(operation))
        try:
            sock.start(self._seconds)
        finally:
            if not thread.done:
                thread.cancel()
                sock.start()
        result, failure = thread.result()
        if isinstance(failure, sock.Cancelled):
            raise (failed(errno.EAGAIN) if self._seconds == 0 else TimeoutError('timed out')) from failure
        if failure is not None:
            raise failure
        return result

    def connect(self, address):
        # Without a timeout to wait for it, one that is not done at once is given up: ours go on while somebody polls.
        self._wait(self.ours.connect(self.host(address)))

    def connect_ex(self, address):
        try:
            self.connect(address)
        except TimeoutError:
            return errno.EAGAIN
        except OSError as error:
            if error.errno is None:
                raise
            return error.errno
        return 0

    def _accept(self):
        conn, remote, _ = self._wait(self.ours.accept())
        return conn.detach(), self.theirs(remote)

    def send(self, data, flags=0):
        self._check(flags)
        try:
            return self._wait(self.ours.send(data))
        except (BlockingIOError, TimeoutError) as late:
            if sent := getattr(late.__cause__, 'sent', 0):
                return sent
            raise

    def sendall(self, data, flags=0):
        self._check(flags)
        self._wait(self.ours.send(data))

    def sendto(self, data, *args):
        flags, address = args if len(args) == 2 else (0, *args)
        self._check(flags)
        if self._streams:
            # A stream has one address to send to.
            return self.send(data)
        return self._wait(self.ours.send(data, None, self.host(address)))

    def recv(self, bufsize, flags=0):
        self._check(flags)
        try:
            return self._wait(self.ours.recv(bufsize))
        except sock.MessageTooLong as cut:
            return cut.data

    def recv_into(self, buffer, nbytes=0, flags=0):
        self._check(flags)
        try:
            return self._wait(self.ours.recv(buffer, nbytes or None))
        except sock.MessageTooLong as cut:
            return cut.received

    def recvfrom(self, bufsize, flags=0):
        if self._streams:
            return self.recv(bufsize, flags), None
        self._check(flags)
        data, sender = self._wait(self.ours.recvfrom(bufsize))
        return data, self.theirs(sender)

    def recvfrom_into(self, buffer, nbytes=0, flags=0):
        if self._streams:
            return self.recv_into(buffer, nbytes, flags), None
        self._check(flags)
        length, sender = self._wait(self.ours.recvfrom(buffer, nbytes or None))
        return length, self.theirs(sender)

    # What does not.

    def bind(self, address):
        self.ours.bind(self.host(address))

    def listen(self, backlog=None):
        self.ours.listen(backlog=backlog if backlog is None else max(backlog, 0))

    def shutdown(self, how):
        self.ours.shutdown({socket.SHUT_RD: 'r', socket.SHUT_WR: 'w', socket.SHUT_RDWR: 'rw'}.get(how, how))

    def close(self):
        self.ours.close()

    def detach(self):
        try:
            return self.ours.detach()
        except sock.Closed:
            return -1

    def fileno(self):
        return self.ours.fileno()

    def getsockname(self):
        self._check()
        return self.theirs(self.ours.local_addr)

    def getpeername(self):
        self._check()
        if (remote := self.ours.remote_addr) is None:
            raise failed(errno.ENOTCONN)
        return self.theirs(remote)

    def getsockopt(self, level, option):
        return int(self.ours.getopt(OPTIONS[level, option]))

    def setsockopt(self, level, option, value):
        name = OPTIONS[level, option]
        self.ours.setopt(name, bool(value) if sock.options()[name][0] == 'bool' else value)

    def settimeout(self, value):
        if value is not None and not (value := float(value)) >= 0:
            raise ValueError('Timeout value out of range')
        self._seconds = value

    def gettimeout(self):
        return self._seconds

    def setblocking(self, flag):
        self._seconds = None if flag else 0.0

    def getblocking(self):
        return self._seconds != 0

    @property
    def family(self):
        return next(number for number, name in FAMILIES.items() if name == self.ours.family)

    @property
    def type(self):
        return next(number for number, name in TYPES.items() if name == self.ours.type)

    @property
    def _streams(self):
        return self.ours.type == 'tcp'

    def _check(self, flags=0):
        if flags:
            raise NotImplementedError(f'sock has no flags of messages: {flags}')
        if self.ours.closed:
            raise failed(errno.EBADF)

    def host(self, address):
        """Ours of an address of theirs. Names are looked up here, since the cases wait for all OS threads to end."""
        if self.ours.family == 'unix':
            return sock.addr(address if isinstance(address, str) else bytes(address), family='unix')
        host, port, *rest = address
        if rest:
            return sock.SockAddr('inet6', host, port, *rest)
        return sock.addr(host or '*', port, self.ours.type, self.ours.family)

    def theirs(self, address):
        if self.ours.family == 'unix':
            path = address.path if address is not None else ''
            return os.fsencode(path) if path.startswith('\0') else path
        if self.ours.family == 'inet6':
            return (*address, address.flowinfo, address.scope_id) if address is not None else ('::', 0, 0, 0)
        return tuple(address) if address is not None else ('0.0.0.0', 0)


async def outcome(operation):
    """What came of it, a failure too, which the loop would report otherwise before it is raised."""
    try:
        return await operation, None
    except BaseException as failure:
        return None, failure


def _sendfile(self, file, offset=0, count=None):
    """In place of what calls sendfile(2) by itself."""
    self._check_sendfile_params(file, offset, count)
    if self.gettimeout() == 0:
        raise ValueError('non-blocking sockets are not supported')
    try:
        os.fstat(file.fileno())
    except (AttributeError, OSError) as not_regular:
        raise over_ours._GiveupOnSendfile(not_regular) from None
    if sent := self._wait(self.ours.sendfile(file, offset, count)):
        file.seek(offset + sent)
    return sent


def anew(name, **instead):
    """A module of the stdlib, made once more, which finds other modules in place of some that it imports."""
    spec = importlib.util.find_spec(name)
    module = importlib.util.module_from_spec(spec)
    with unittest.mock.patch.dict(sys.modules, {name: module, **instead}):
        spec.loader.exec_module(module)
    return module


def _module():
    core = types.ModuleType('_socket')
    vars(core).update(vars(_socket), socket=Blocking, SocketType=Blocking)
    made = anew('socket', _socket=core)
    made.socket._sendfile_use_sendfile = _sendfile
    return made


#: The stdlib's `socket`, over ours.
over_ours = _module()
