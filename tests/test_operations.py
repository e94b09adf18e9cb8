"""One table: every operation, in every situation."""

import contextlib
import dataclasses
import io
import select
import socket
from collections.abc import Callable
from typing import Any

import pytest
import sock
from conftest import PATIENCE
from support import LINUX, run


def soon():
    return sock.clock() + PATIENCE


@dataclasses.dataclass(frozen=True)
class Operation:
    """How one operation is called, and what makes it succeed, wait, and fail."""

    #: 'stream', 'listener', 'fresh' or 'datagram'.
    on: str
    call: Callable[..., Any]
    result: Any
    #: Makes it succeed: gets the other side.
    feed: Callable[[Any], Any] = lambda other: None
    #: Makes it wait: gets our side and the other one. None: it waits as it is.
    clog: Callable[[Any, Any], Any] | None = None
    #: What it gives, or raises, when the other side is closed; None: nothing can tell it.
    closed_there: Any = None
    wrong_type: Callable[[Any], Any] | None = None
    wrong_value: Callable[[Any], Any] | None = None


def fill(ours, other):
    """Until the OS takes no more, and also not once what is on its way to the peer has arrived there."""
    with socket.socket(fileno=ours.fileno()) as twin:
        twin.setblocking(False)
        sent = True
        while sent:
            sent = False
            with contextlib.suppress(BlockingIOError):
                while True:
                    sent = twin.send(bytes(1 << 16 if twin.type == socket.SOCK_STREAM else 1000)) > 0
            select.select([], [twin], [], 0.05)
        twin.detach()


def hello(other):
    other.sendall(b'hello')


def finish(other):
    other.sendall(b'hello')
    other.shutdown(socket.SHUT_WR)


RESET = (sock.ConnectionReset, sock.BrokenPipe)

OPERATIONS = {
    'recv': Operation(
        'stream',
        lambda s, **kw: s.recv(bytearray(10), **kw),
        5,
        hello,
        closed_there=0,
        wrong_type=lambda s: s.recv('text'),
        wrong_value=lambda s: s.recv(bytearray()),
    ),
    'recv bytes': Operation(
        'stream',
        lambda s, **kw: s.recv(10, **kw),
        b'hello',
        hello,
        closed_there=b'',
        wrong_type=lambda s: s.recv(1.5),
        wrong_value=lambda s: s.recv(-1),
    ),
    'recvn': Operation(
        'stream',
        lambda s, **kw: s.recvn(bytearray(5), **kw),
        5,
        hello,
        closed_there=sock.Closed,
        wrong_type=lambda s: s.recvn(b'read only'),
        wrong_value=lambda s: s.recvn(bytearray(3), 4),
    ),
    'recvall': Operation(
        'stream',
        lambda s, **kw: s.recvall(**kw),
        b'hello',
        finish,
        closed_there=b'',
        wrong_type=lambda s: s.recvall('x'),
        wrong_value=lambda s: s.recvall(-1),
    ),
    'send': Operation(
        'stream',
        lambda s, **kw: s.send(b'hello', **kw),
        5,
        clog=fill,
        closed_there=RESET,
        wrong_type=lambda s: s.send('text'),
        wrong_value=lambda s: s.send(b'x', -1),
    ),
    'sendfile': Operation(
        'stream',
        lambda s, **kw: s.sendfile(io.BytesIO(b'hello'), **kw),
        5,
        clog=fill,
        closed_there=RESET,
        wrong_type=lambda s: s.sendfile('name'),
        wrong_value=lambda s: s.sendfile(io.BytesIO(), -1),
    ),
    'readable': Operation(
        'stream', lambda s, **kw: s.readable(**kw), None, hello, wrong_type=lambda s: s.readable('x'),
        wrong_value=lambda s: s.readable(float('nan')),
    ),
    'writable': Operation(
        'stream', lambda s, **kw: s.writable(**kw), None, clog=fill, wrong_type=lambda s: s.writable('x'),
        wrong_value=lambda s: s.writable(float('nan')),
    ),
    'accept': Operation(
        'listener',
        lambda s, **kw: s.accept(**kw),
        tuple,
        lambda other: other.connect_ex(other.target),
        wrong_type=lambda s: s.accept('x'),
        wrong_value=lambda s: s.accept(float('nan')),
    ),
    'connect': Operation(
        'fresh',
        lambda s, **kw: s.connect(*s_target[0], **kw),
        None,
        closed_there=sock.ConnectionRefused,
        wrong_type=lambda s: s.connect(5),
        wrong_value=lambda s: s.connect('127.0.0.1', 70000),
    ),
    'udp recv': Operation(
        'datagram',
        lambda s, **kw: s.recv(bytearray(10), **kw),
        5,
        hello,
        closed_there=sock.ConnectionRefused,
        wrong_type=lambda s: s.recv('text'),
        wrong_value=lambda s: s.recv(bytearray()),
    ),
    'udp recvfrom': Operation(
        'datagram',
        lambda s, **kw: s.recvfrom(10, **kw),
        tuple,
        hello,
        closed_there=sock.ConnectionRefused,
        wrong_type=lambda s: s.recvfrom('text'),
        wrong_value=lambda s: s.recvfrom(0),
    ),
    'udp recvmany': Operation(
        'datagram',
        lambda s, **kw: s.recvmany([bytearray(10)], **kw),
        list,
        hello,
        closed_there=sock.ConnectionRefused,
        wrong_type=lambda s: s.recvmany([b'read only']),
        wrong_value=lambda s: s.recvmany([]),
    ),
    'udp send': Operation(
        'datagram',
        lambda s, **kw: s.send(b'hello', **kw),
        5,
        closed_there=sock.ConnectionRefused,
        wrong_type=lambda s: s.send('text'),
        wrong_value=lambda s: s.send(b'x', -1),
    ),
    'udp sendmany': Operation(
        'datagram',
        lambda s, **kw: s.sendmany([(b'hello', None)] * 2, **kw),
        2,
        closed_there=sock.ConnectionRefused,
        wrong_type=lambda s: s.sendmany([b'x']),
        wrong_value=lambda s: s.sendmany([(b'x', sock.addr('::1', 9, family='inet6').addr)]),
    ),
}  # fmt: skip

#: Where `connect` goes.
s_target = [('127.0.0.1', 0)]

#: They never have to wait on loopback: the kernel drops what there is no room for.
NEVER_WAIT = {'udp send', 'udp sendmany'}

every = pytest.mark.parametrize('name', OPERATIONS)
waiting = pytest.mark.parametrize('name', [name for name in OPERATIONS if name not in NEVER_WAIT])
#: A full backlog does not empty by itself.
unclogged = pytest.mark.parametrize('name', [name for name in OPERATIONS if name not in {*NEVER_WAIT, 'connect'}])
told = pytest.mark.parametrize('name', [name for name in OPERATIONS if OPERATIONS[name].closed_there is not None])


@contextlib.contextmanager
def sides(name, *, clogged=False):
    """Our socket, and the other side, as the operation needs them."""
    operation = OPERATIONS[name]
    with contextlib.ExitStack() as stack:
        if operation.on == 'stream':
            listener = stack.enter_context(socket.create_server(('127.0.0.1', 0)))
            other = stack.enter_context(socket.create_connection(listener.getsockname(), PATIENCE))
            ours = stack.enter_context(sock.fromsocket(listener.accept()[0]))
        elif operation.on == 'listener':
            ours = stack.enter_context(sock.tcp())
            ours.listen('127.0.0.1')
            other = stack.enter_context(Client())
            other.target = tuple(ours.local_addr)
        elif operation.on == 'fresh':
            ours = stack.enter_context(sock.tcp())
            other = stack.enter_context(socket.socket())
            other.bind(('127.0.0.1', 0))
            other.listen(0)
            s_target[0] = other.getsockname()
            if clogged:
                # Nobody answers then.
                if not LINUX:
                    pytest.skip('a full backlog drops new connections on Linux')
                for _ in range(4):
                    filler = stack.enter_context(socket.socket())
                    filler.setblocking(False)
                    filler.connect_ex(s_target[0])
        else:
            other = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            ours = stack.enter_context(sock.udp())
            other.bind(('127.0.0.1', 0))
            ours.bind('127.0.0.1')

            async def connect():
                await ours.connect(*other.getsockname())

            run(connect)
            other.connect(tuple(ours.local_addr))
        if clogged and operation.clog is not None:
            operation.clog(ours, other)
        yield ours, other


class Client(socket.socket):
    """A stdlib socket that knows where to connect to."""

    target: Any = None


def check(got, expected):
    if isinstance(expected, type):
        assert isinstance(got, expected)
        for each in got:
            if isinstance(each, sock.TCP):
                each.close()
    else:
        assert got == expected


@every
def test_succeeds_at_once(name):
    operation = OPERATIONS[name]

    async def main():
        with sides_in_thread(name) as (ours, other):
            operation.feed(other)
            check(await operation.call(ours, expires=soon()), operation.result)

    run(main)


@contextlib.contextmanager
def sides_in_thread(name, **how):
    """`sides`, made before the thread that uses it, since some of it runs a loop of its own."""
    yield prepared.pop()


prepared: list[Any] = []


@pytest.fixture(autouse=True)
def prepare(request):
    name = request.node.callspec.params.get('name')
    clogged = 'waits' in request.node.name or 'expires' in request.node.name
    with sides(name, clogged=clogged) as both:
        prepared[:] = [both]
        yield
    prepared.clear()


@unclogged
def test_waits_and_then_succeeds(name):
    operation = OPERATIONS[name]

    async def main():
        with sides_in_thread(name) as (ours, other):
            thread = sock.newthread(awaits, operation.call(ours, expires=soon()))
            assert not thread.done
            operation.feed(other)
            if operation.clog is not None:
                # Without blocking: its file may not even be read yet.
                other.setblocking(False)
                while not thread.done:
                    with contextlib.suppress(BlockingIOError):
                        other.recv(1 << 20)
                    await sock.sleep(0)
            check(await thread, operation.result)

    run(main)


async def awaits(operation):
    return await operation


@waiting
def test_expires(name):
    operation = OPERATIONS[name]

    async def main():
        with sides_in_thread(name) as (ours, _other):
            begin = sock.clock()
            with pytest.raises(sock.Timeout) as caught:
                await operation.call(ours, expires=begin + 0.02)
            assert 0.02 <= sock.clock() - begin < 5
            assert ours.closed
            assert isinstance(caught.value, TimeoutError)
            assert (caught.value.sent, caught.value.received) == (0, 0)

    run(main)


@told
def test_closed_there(name):
    operation = OPERATIONS[name]
    expected = operation.closed_there

    async def main():
        with sides_in_thread(name) as (ours, other):
            if expected == RESET:
                # Unread data makes it a reset.
                await ours.send(b'unread')
            other.close()
            if operation.on == 'datagram':
                await ours.send(b'into the void')
                await sock.sleep(0.01)
            if isinstance(expected, (tuple, type)):
                with pytest.raises(expected):
                    for _ in range(100):
                        await operation.call(ours, expires=soon())
                        await sock.sleep(0.001)
            else:
                assert await operation.call(ours, expires=soon()) == expected

    run(main)


@every
def test_wrong_type(name):
    refuses(OPERATIONS[name].wrong_type, TypeError)


@every
def test_wrong_value(name):
    refuses(OPERATIONS[name].wrong_value, ValueError)


def refuses(call, error):
    async def main():
        with prepared.pop()[0] as ours:
            with pytest.raises(error):
                await call(ours)
            assert not ours.closed

    run(main)


@every
def test_outside_a_thread(name):
    ours, _ = prepared.pop()
    operation = OPERATIONS[name].call(ours)
    with pytest.raises(RuntimeError, match='inside a sock thread'):
        operation.send(None) if hasattr(operation, 'send') else next(iter(operation))
