"""One table: every operation, in every situation."""

import ast
import atexit
import contextlib
import dataclasses
import io
import re
import select
import socket
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sock
from conftest import PATIENCE
from support import LINUX, ROOT, SLOWER, UNIX_DATAGRAMS_WAIT, busy, run


def soon():
    return sock.clock() + PATIENCE


class Never(str):
    """Why there is nothing to test."""

    __slots__ = ()


NO_OTHER_SIDE = Never('there is no other side')
NO_ARGUMENTS = Never('it takes no arguments')


@dataclasses.dataclass(frozen=True)
class Operation:
    """How one operation is called, and what makes it succeed, wait, and fail. A `Never` says why that cannot be."""

    #: 'stream', 'listener', 'fresh', 'either' (of no family yet), 'datagram', 'unbound', 'unix' or 'raw'; what is no
    #: socket's is made by it.
    on: Any
    call: Callable[..., Any]
    result: Any
    #: Makes it succeed: gets the other side.
    feed: Callable[[Any], Any] = lambda other: None
    #: Makes it wait: gets our side and the other one. None: it waits as it is.
    clog: Callable[[Any, Any], Any] | None = None
    #: What besides makes it succeed, done again and again until it has: gets the other side, which does not block.
    unclog: Callable[[Any], Any] | None = None
    #: What it gives, or raises, when the other side is closed.
    closed_there: Any = NO_OTHER_SIDE
    wrong_type: Any = NO_ARGUMENTS
    wrong_value: Any = NO_ARGUMENTS
    waits: bool | Never = True
    closed_here: bool | Never = True


@contextlib.contextmanager
def twin(ours):
    """The stdlib's view of the same socket."""
    with socket.socket(fileno=ours.fileno()) as other:
        yield other
        other.detach()


def fill(ours, other):
    """Until the OS takes no more, and also not once what is on its way to the peer has arrived there."""
    # The peer's side may hold an acknowledgement back for 0.2 s, whose timer is late on a busy machine.
    held_back = 0.25 * busy() / SLOWER
    with twin(ours) as same:
        same.setblocking(False)
        sent = True
        while sent:
            sent = False
            with contextlib.suppress(BlockingIOError):
                while True:
                    sent = same.send(bytes(1 << 16 if same.type == socket.SOCK_STREAM else 1000)) > 0
            select.select([], [same], [], held_back)


def drain(other):
    other.recv(1 << 20)


def take_connections(listener):
    while True:
        listener.accept()[0].close()


def hello(other):
    other.sendall(b'hello')


def finish(other):
    other.sendall(b'hello')
    other.shutdown(socket.SHUT_WR)


NAN = float('nan')

NO_SOCKET = Never('there is nothing to close')


def within(wait):
    """An operation that has no `expires` of its own."""

    async def limited(ours, expires):
        with sock.deadline(expires):
            return await wait(ours)

    return lambda ours, expires=None: wait(ours) if expires is None else limited(ours, expires)


def suspend(waiting):
    waiting.append(sock.thread())
    return sock.suspend()


def resume(waiting):
    (waiting.pop() if waiting else sock.thread()).resume(5)


@contextlib.contextmanager
def suspended():
    async def main():
        return await sock.suspend()

    thread = sock.newthread(main)
    yield thread
    end(thread)


def end(thread):
    thread.cancel()
    sock.start(5)


@contextlib.contextmanager
def lock(make):
    """A lock, and who holds it, if anybody does."""
    ours = types.SimpleNamespace(lock=make(), holder=None)
    yield ours
    if ours.holder is not None:
        end(ours.holder)


def hold(ours, _other):
    async def main():
        async with ours.lock:
            await sock.suspend()

    ours.holder = sock.newthread(main)


def let_go(ours):
    if ours.holder is not None:
        ours.holder.resume()


async def wait_for_thing(ours, expires=None):
    async with ours.condition:
        return await ours.condition.wait_for(lambda: ours.things and ours.things.pop(), expires)


def add_thing(ours):
    assert ours.condition.lock.try_acquire()
    ours.things.append(5)
    ours.condition.notify()
    ours.condition.release()


def take(items):
    if not items.empty():
        items.get_nowait()
        items.task_done()


@contextlib.contextmanager
def blocking():
    ours = threading.Event()
    yield ours
    ours.set()


def made(make):
    return lambda: contextlib.nullcontext(make())


def sleeping(make, method, begin=lambda: 0):
    """A sleep by a method of what `make` gives: for a while, or until a while after `begin`."""
    return Operation(
        made(make),
        within(lambda ours: getattr(ours, method)(begin() + 0.05)),
        None,
        closed_here=NO_SOCKET,
        wrong_type=lambda ours: getattr(ours, method)('x'),
        wrong_value=lambda ours: getattr(ours, method)(NAN),
    )


def acquiring(make):
    """The `acquire` of a lock that `make` gives."""
    return Operation(
        lambda: lock(make),
        lambda s, **kw: s.lock.acquire(**kw),
        None,
        let_go,
        hold,
        closed_here=NO_SOCKET,
        wrong_type=lambda s: s.lock.acquire('x'),
        wrong_value=lambda s: s.lock.acquire(NAN),
    )


#: A regular file, which the OS may send by itself, open for all tests, those of a scenario too.
FILE = open(__file__, 'rb')  # noqa: SIM115
atexit.register(FILE.close)


RESET = (sock.ConnectionReset, sock.BrokenPipe)

#: A unix datagram socket that nobody has any more, on Linux and elsewhere.
GONE = (sock.ConnectionRefused, sock.ConnectionReset, sock.NotConnected)

DROPS = Never('the kernel drops what there is no room for')

#: Of each kind of socket.
SEND = dict(
    call=lambda s, **kw: s.send(b'hello', **kw),
    result=5,
    wrong_type=lambda s: s.send('text'),
    wrong_value=lambda s: s.send(b'x', -1),
)

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
    'send': Operation('stream', **SEND, clog=fill, unclog=drain, closed_there=RESET),
    'sendfile': Operation(
        'stream',
        lambda s, **kw: s.sendfile(io.BytesIO(b'hello'), **kw),
        5,
        clog=fill,
        unclog=drain,
        closed_there=RESET,
        wrong_type=lambda s: s.sendfile('name'),
        wrong_value=lambda s: s.sendfile(io.BytesIO(), -1),
    ),
    'sendfile of a file': Operation(
        'stream',
        lambda s, **kw: s.sendfile(FILE, 0, 5, **kw),
        5,
        clog=fill,
        unclog=drain,
        closed_there=RESET,
        wrong_type=lambda s: s.sendfile(FILE, count='x'),
        wrong_value=lambda s: s.sendfile(FILE, count=-1),
    ),
    'readable': Operation(
        'stream', lambda s, **kw: s.readable(**kw), None, hello, closed_there=None,
        wrong_type=lambda s: s.readable('x'), wrong_value=lambda s: s.readable(NAN),
    ),
    'writable': Operation(
        'stream', lambda s, **kw: s.writable(**kw), None, clog=fill, unclog=drain, closed_there=None,
        wrong_type=lambda s: s.writable('x'), wrong_value=lambda s: s.writable(NAN),
    ),
    'connect of either family': Operation(
        'either',
        lambda s, **kw: s.connect(*s_target[0], **kw),
        None,
        unclog=take_connections,
        closed_there=sock.ConnectionRefused,
        wrong_type=lambda s: s.connect(5),
        wrong_value=lambda s: s.connect('127.0.0.1', 9, expires=NAN),
    ),
    'accept': Operation(
        'listener',
        lambda s, **kw: s.accept(**kw),
        tuple,
        lambda other: other.connect_ex(other.target),
        # The connection is there, with its end to be read.
        closed_there=tuple,
        wrong_type=lambda s: s.accept('x'),
        wrong_value=lambda s: s.accept(NAN),
    ),
    'connect': Operation(
        'fresh',
        lambda s, **kw: s.connect(*s_target[0], **kw),
        None,
        unclog=take_connections,
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
    'udp send': Operation('datagram', **SEND, closed_there=sock.ConnectionRefused, waits=DROPS),
    'udp sendmany': Operation(
        'datagram',
        lambda s, **kw: s.sendmany([(b'hello', None)] * 2, **kw),
        2,
        closed_there=sock.ConnectionRefused,
        wrong_type=lambda s: s.sendmany([b'x']),
        wrong_value=lambda s: s.sendmany([(b'x', sock.addr('::1', 9, family='inet6').addr)]),
        waits=DROPS,
    ),
    'udp send by name': Operation(
        'unbound',
        lambda s, **kw: s.send(b'hello', None, 'localhost', 9, **kw),
        5,
        wrong_type=lambda s: s.send('text', None, 'localhost', 9),
        wrong_value=lambda s: s.send(b'x', None, 'localhost', 9, expires=NAN),
        waits=Never('the look-up is in a worker; what it waits for there: test_addrinfo.py'),
    ),
    'udp connect': Operation(
        'datagram',
        lambda s, **kw: s.connect('127.0.0.1', 9, **kw),
        None,
        wrong_type=lambda s: s.connect(5),
        wrong_value=lambda s: s.connect('127.0.0.1', 70000),
        waits=Never('it sends nothing'),
    ),
    'unix datagram send': Operation('unix', **SEND, clog=fill, unclog=drain, closed_there=GONE),
    'unix datagram sendmany': Operation(
        'unix',
        lambda s, **kw: s.sendmany([(b'hello', None)] * 2, **kw),
        2,
        clog=fill,
        unclog=drain,
        closed_there=GONE,
        wrong_type=lambda s: s.sendmany([b'x']),
        wrong_value=lambda s: s.sendmany([], expires=NAN),
    ),
    'raw recv': Operation(
        'raw',
        lambda s, **kw: s.recv(100, **kw),
        bytes,
        lambda other: other.send(b'hello'),
        closed_there=Never('IP has no connections, and nobody answers for a protocol that nobody has'),
        wrong_type=lambda s: s.recv('text'),
        wrong_value=lambda s: s.recv(0),
    ),
    'raw send': Operation(
        'raw',
        lambda s, **kw: s.send(b'hello', **kw),
        5,
        closed_there=Never('as of raw recv'),
        wrong_type=lambda s: s.send('text'),
        wrong_value=lambda s: s.send(b'x', -1),
        waits=DROPS,
    ),
    'sleep': sleeping(lambda: sock, 'sleep'),
    'sleep_until': sleeping(lambda: sock, 'sleep_until', sock.clock),
    'SleepJob.sleep': sleeping(sock.sleep_job, 'sleep'),
    'SleepJob.sleep_until': sleeping(sock.sleep_job, 'sleep_until', sock.clock),
    'suspend': Operation(made(list), within(suspend), 5, resume, closed_here=NO_SOCKET),
    'await of a thread': Operation(suspended, within(lambda thread: thread.__await__()), 5,
        lambda thread: thread.resume(5), closed_here=NO_SOCKET),
    'Event.wait': Operation(
        made(sock.Event),
        lambda event, **kw: event.wait(**kw),
        None,
        lambda event: event.set(),
        closed_here=NO_SOCKET,
        wrong_type=lambda event: event.wait('x'),
        wrong_value=lambda event: event.wait(NAN),
    ),
    'Lock.acquire': acquiring(sock.Lock),
    'Semaphore.acquire': Operation(
        made(lambda: sock.Semaphore(0)),
        lambda permits, **kw: permits.acquire(**kw),
        None,
        lambda permits: permits.release(),
        closed_here=NO_SOCKET,
        wrong_type=lambda permits: permits.acquire('x'),
        wrong_value=lambda permits: permits.acquire(NAN),
    ),
    'Condition.acquire': acquiring(sock.Condition),
    'Condition.wait_for': Operation(
        made(lambda: types.SimpleNamespace(condition=sock.Condition(), things=[])),
        wait_for_thing,
        5,
        add_thing,
        closed_here=NO_SOCKET,
        wrong_type=lambda s: wait_for_thing(s, 'x'),
        wrong_value=lambda s: wait_for_thing(s, NAN),
    ),
    'Queue.get': Operation(
        made(sock.Queue),
        lambda items, **kw: items.get(**kw),
        5,
        lambda items: items.put_nowait(5),
        wrong_type=lambda items: items.get('x'),
        wrong_value=lambda items: items.get(NAN),
    ),
    'Queue.put': Operation(
        made(lambda: sock.Queue(1)),
        lambda items, **kw: items.put(5, **kw),
        None,
        take,
        lambda items, _: items.put_nowait(4),
        wrong_type=lambda items: items.put(5, 'x'),
        wrong_value=lambda items: items.put(5, NAN),
    ),
    'Queue.join': Operation(
        made(sock.Queue),
        lambda items, **kw: items.join(**kw),
        None,
        take,
        lambda items, _: items.put_nowait(4),
        closed_here=Never('the items of a closed queue can still be taken, and done'),
        wrong_type=lambda items: items.join('x'),
        wrong_value=lambda items: items.join(NAN),
    ),
    'resolve': Operation(
        made(lambda: None),
        lambda _, **kw: sock.resolve('127.0.0.1', 9, **kw),
        sock.AddrInfo,
        closed_here=NO_SOCKET,
        wrong_type=lambda _: sock.resolve('127.0.0.1', 9, expires='x'),
        wrong_value=lambda _: sock.resolve('127.0.0.1', 9, expires=NAN),
        waits=Never('a numeric address needs no look-up; that of a name is in a worker: test_addrinfo.py'),
    ),
    'offload': Operation(
        blocking,
        lambda event, **kw: sock.offload(lambda: event.wait(20) and 5, **kw),
        5,
        lambda event: event.set(),
        closed_here=NO_SOCKET,
        wrong_type=lambda _: sock.offload(5),
        wrong_value=lambda _: sock.offload(print, expires=NAN),
    ),
}  # fmt: skip

#: Where `connect` goes.
s_target = [('127.0.0.1', 0)]


def where(*situations, but=()):
    """The test, of each operation that can come into these situations."""

    def possible(operation):
        return not any(isinstance(getattr(operation, each), Never) for each in situations)

    names = [name for name, operation in OPERATIONS.items() if possible(operation) and name not in but]
    return pytest.mark.parametrize('name', names)


every = pytest.mark.parametrize('name', OPERATIONS)
waiting = where('waits')
#: Those of sockets.
waiting_sockets = where('waits', but=[name for name, each in OPERATIONS.items() if not isinstance(each.on, str)])
told = where('closed_there')


@contextlib.contextmanager
def sides(name, *, clogged=False):
    """Our socket, and the other side, as the operation needs them."""
    operation = OPERATIONS.get(name) or PLAIN[name]
    with contextlib.ExitStack() as stack:
        if callable(operation.on):
            ours = other = stack.enter_context(operation.on())
        elif operation.on == 'stream':
            listener = stack.enter_context(socket.create_server(('127.0.0.1', 0)))
            other = stack.enter_context(socket.create_connection(listener.getsockname(), PATIENCE))
            ours = stack.enter_context(sock.fromsocket(listener.accept()[0]))
        elif operation.on == 'listener':
            ours = stack.enter_context(sock.tcp())
            ours.listen('127.0.0.1')
            other = stack.enter_context(Client())
            other.target = tuple(ours.local_addr)
        elif operation.on in ('fresh', 'either'):
            ours = stack.enter_context(sock.tcp('inet' if operation.on == 'fresh' else None))
            other = stack.enter_context(socket.socket())
            other.bind(('127.0.0.1', 0))
            other.listen(0)
            s_target[0] = other.getsockname()
            if clogged:
                # Nobody answers then, until the backlog has room and the system asks once more, a second later.
                if not LINUX:
                    pytest.skip('a full backlog drops new connections on Linux')
                for _ in range(4):
                    filler = stack.enter_context(socket.socket())
                    filler.setblocking(False)
                    filler.connect_ex(s_target[0])
        elif operation.on == 'unix':
            if sys.platform == 'win32':
                pytest.skip('Windows has no unix datagrams')
            if clogged and not UNIX_DATAGRAMS_WAIT:
                pytest.skip('elsewhere a unix datagram waits for no room')
            one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            ours, other = stack.enter_context(sock.fromsocket(one)), stack.enter_context(other)
        elif operation.on == 'raw':
            if not (LINUX and ROOT):
                pytest.skip('raw sockets of any protocol: on Linux, as root')
            other = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_RAW, EXPERIMENT))
            other.connect(('127.0.0.1', 0))
            # What is sent comes to all that have the protocol, and is for us alone.
            other.shutdown(socket.SHUT_RD)
            ours = stack.enter_context(sock.fromsocket(socket.socket(socket.AF_INET, socket.SOCK_RAW, EXPERIMENT)))
            run(lambda: ours.connect('127.0.0.1'))
        elif operation.on == 'unbound':
            ours, other = (stack.enter_context(sock.udp()) for _ in range(2))
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


#: A protocol that nobody has, for experiments: RFC 3692.
EXPERIMENT = 253


class Client(socket.socket):
    """A stdlib socket that knows where to connect to."""

    target: Any = None


SOCKETS = (sock.TCP, sock.UDP)


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
    name = request.node.callspec.params.get('name') if hasattr(request.node, 'callspec') else None
    if name is None:
        yield
        return
    clogged = 'waits' in request.node.name or 'expires' in request.node.name
    with sides(name, clogged=clogged) as both:
        prepared[:] = [both]
        yield
    prepared.clear()


@waiting
def test_waits_and_then_succeeds(name):
    operation = OPERATIONS[name]

    async def main():
        with sides_in_thread(name) as (ours, other):
            thread = sock.newthread(awaits, operation.call(ours, expires=soon()))
            assert not thread.done
            operation.feed(other)
            if operation.unclog is not None:
                # Without blocking: a file that is sent may not even be read yet.
                other.setblocking(False)
                while not thread.done:
                    with contextlib.suppress(BlockingIOError):
                        operation.unclog(other)
                    await sock.sleep(0.001)
            check(await thread, operation.result)

    run(main)


async def awaits(operation):
    return await operation


@waiting
def test_expires(name):
    operation = OPERATIONS[name]

    async def main():
        with sides_in_thread(name) as (ours, other):
            begin = sock.clock()
            with pytest.raises(sock.Timeout) as caught:
                await operation.call(ours, expires=begin + 0.02)
            assert 0.02 <= sock.clock() - begin < 5
            if isinstance(ours, SOCKETS):
                assert ours.closed
            else:
                # Nothing else waits on.
                operation.feed(other)
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
            if operation.on == 'listener':
                operation.feed(other)
            other.close()
            if operation.on == 'datagram':
                await ours.send(b'into the void')
                await sock.sleep(0.01)
            if expected is not tuple and isinstance(expected, (tuple, type)):
                with pytest.raises(expected):
                    for _ in range(100):
                        await operation.call(ours, expires=soon())
                        await sock.sleep(0.001)
            else:
                check(await operation.call(ours, expires=soon()), expected)

    run(main)


@where('closed_here')
def test_closed_here(name):
    async def main():
        with sides_in_thread(name) as (ours, _other):
            ours.close()
            with pytest.raises(sock.Closed):
                await OPERATIONS[name].call(ours, expires=soon())

    run(main)


@where('closed_here', 'waits')
def test_closed_here_while_it_waits(name):
    async def main():
        with sides_in_thread(name) as (ours, _other):
            thread = sock.newthread(awaits, OPERATIONS[name].call(ours, expires=soon()))
            assert not thread.done
            ours.close()
            with pytest.raises(sock.Closed):
                await thread

    run(main)


@where('wrong_type')
def test_wrong_type(name):
    refuses(OPERATIONS[name].wrong_type, TypeError)


@where('wrong_value')
def test_wrong_value(name):
    refuses(OPERATIONS[name].wrong_value, ValueError)


def refuses(call, error):
    async def main():
        ours, _ = prepared.pop()
        with pytest.raises(error):
            await call(ours)
        if isinstance(ours, SOCKETS):
            assert not ours.closed

    run(main)


@every
def test_outside_a_thread(name):
    ours, _ = prepared.pop()
    with pytest.raises(RuntimeError, match='inside a sock thread'):
        operation = OPERATIONS[name].call(ours)
        operation.send(None) if hasattr(operation, 'send') else next(iter(operation))


# ---- what never waits


@dataclasses.dataclass(frozen=True)
class Plain:
    """How one call of a socket that never waits is made, and what makes it fail."""

    #: As an operation's.
    on: str
    call: Callable[[Any], Any]
    result: Any = None
    #: Whether it has done what it says: gets our side, the other one, and what the call gave.
    effect: Callable[[Any, Any, Any], bool] = lambda ours, other, result: True
    closed_here: Any = sock.Closed
    wrong_type: Any = NO_ARGUMENTS
    wrong_value: Any = NO_ARGUMENTS


def is_bound(ours, _other, _):
    with twin(ours) as other:
        return ours.local_addr.port > 0 and tuple(ours.local_addr) == other.getsockname()


def listens(ours, _other, _):
    with socket.create_connection(tuple(ours.local_addr), PATIENCE):
        return True


def reads_the_end(_ours, other, _):
    return closed(other) or other.recv(1) == b''


def closed(s):
    return s.fileno() == -1


def is_given(ours, _other, number):
    with socket.socket(fileno=number) as taken:
        return closed(ours) and taken.type in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW)


def has_broadcast(ours, _other, _):
    with twin(ours) as other:
        return other.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST) != 0


PLAIN = {
    **{
        name: Plain(
            kind,
            lambda s: s.bind('127.0.0.1'),
            effect=is_bound,
            wrong_type=lambda s: s.bind(5),
            wrong_value=lambda s: s.bind('127.0.0.1', 70000),
        )
        for name, kind in {'bind': 'fresh', 'udp bind': 'unbound'}.items()
    },
    'listen': Plain(
        'fresh',
        lambda s: s.listen('127.0.0.1'),
        effect=listens,
        wrong_type=lambda s: s.listen('127.0.0.1', 0, 'x'),
        wrong_value=lambda s: s.listen('127.0.0.1', 70000),
    ),
    'shutdown': Plain(
        'stream',
        lambda s: s.shutdown('w'),
        effect=reads_the_end,
        wrong_type=lambda s: s.shutdown(1),
        wrong_value=lambda s: s.shutdown('x'),
    ),
    **{
        name: call
        for kind, prefix in {'stream': '', 'datagram': 'udp ', 'raw': 'raw '}.items()
        for name, call in {
            f'{prefix}setopt': Plain(
                kind,
                lambda s: s.setopt('so_broadcast', True),
                effect=has_broadcast,
                wrong_type=lambda s: s.setopt('so_broadcast', 'x'),
                wrong_value=lambda s: s.setopt('so_rcvbuf', -1),
            ),
            f'{prefix}getopt': Plain(
                kind,
                lambda s: s.getopt('so_broadcast'),
                False,
                wrong_type=lambda s: s.getopt(5),
                wrong_value=lambda s: s.getopt('so_nothing'),
            ),
            f'{prefix}detach': Plain(kind, lambda s: s.detach(), int, is_given),
            f'{prefix}close': Plain(
                kind, lambda s: s.close(), effect=lambda ours, *_: closed(ours) and ours.closed, closed_here=None
            ),
            f'{prefix}fileno': Plain(kind, lambda s: s.fileno() >= 0, True, closed_here=False),
        }.items()
    },
}

each_plain = pytest.mark.parametrize('plain', PLAIN)


def fails_or_gives(call, expected):
    if isinstance(expected, type):
        with pytest.raises(expected):
            call()
    else:
        assert call() == expected


def plain_succeeds(plain, ours, other, result):
    expected = PLAIN[plain].result
    assert isinstance(result, expected) if isinstance(expected, type) else result == expected
    assert PLAIN[plain].effect(ours, other, result)


@each_plain
@pytest.mark.parametrize('inside', [True, False], ids=['inside a thread', 'outside a thread'])
def test_plain_succeeds(plain, inside):
    async def main():
        return PLAIN[plain].call(ours)

    with sides(plain) as (ours, other):
        plain_succeeds(plain, ours, other, run(main) if inside else PLAIN[plain].call(ours))


@each_plain
def test_plain_closed_here(plain):
    with sides(plain) as (ours, _):
        ours.close()
        fails_or_gives(lambda: PLAIN[plain].call(ours), PLAIN[plain].closed_here)


@each_plain
def test_plain_closed_there_changes_nothing(plain):
    with sides(plain) as (ours, other):
        other.close()
        plain_succeeds(plain, ours, other, PLAIN[plain].call(ours))


@pytest.mark.parametrize(
    ('plain', 'wrong', 'error'),
    [
        (name, wrong, error)
        for name, plain in PLAIN.items()
        for wrong, error in (('wrong_type', TypeError), ('wrong_value', ValueError))
        if not isinstance(getattr(plain, wrong), Never)
    ],
)
def test_plain_is_refused(plain, wrong, error):
    with sides(plain) as (ours, other):
        with pytest.raises(error):
            getattr(PLAIN[plain], wrong)(ours)
        # Which has done nothing.
        assert not ours.closed
        plain_succeeds(plain, ours, other, PLAIN[plain].call(ours))


# ---- that the tables are complete


#: Public operations that have no row, and why.
WITHOUT_ROW = {
    'Condition.wait': 'wait_for is it in a loop; alone it cannot succeed at once, since no notification is kept',
}

PACKAGE = Path(sock.__file__).parent


def awaited_by_source():
    """(class, name) of each function of the library that gives something to await, as its source or its stub says."""
    found = set()
    for path in (*PACKAGE.glob('*.py'), *PACKAGE.glob('*.pyi')):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            owner = node.name if isinstance(node, ast.ClassDef) else '' if isinstance(node, ast.Module) else None
            for each in node.body if owner is not None else ():
                if isinstance(each, ast.AsyncFunctionDef) or (
                    isinstance(each, ast.FunctionDef)
                    and each.returns is not None
                    and re.match(r'Operation\b|Awaitable\b|Coroutine\b', ast.unparse(each.returns))
                ):
                    found.add((owner, each.name))
    return found


def public_operations():
    """What of the public names is awaited: name -> the function, which classes may share."""
    awaited = awaited_by_source()
    found = {}
    for name in sock.__all__:
        value = getattr(sock, name)
        if ('', name) in awaited:
            found[name] = value
        for attribute in dir(value) if isinstance(value, type) else ():
            if not attribute.startswith('_') and any((each.__name__, attribute) in awaited for each in value.__mro__):
                found[f'{name}.{attribute}'] = getattr(value, attribute)
    return found


def rows():
    """The public operation that each row of the table calls."""
    classes = {
        'stream': 'TCP',
        'listener': 'TCP',
        'fresh': 'TCP',
        'either': 'TCP',
        'unbound': 'UDP',
        'datagram': 'UDP',
        'unix': 'UDP',
        'raw': 'Raw',
    }
    for name, operation in OPERATIONS.items():
        if isinstance(operation.on, str):
            yield f'{classes[operation.on]}.{re.sub(" (bytes|of .*|by name)$", "", name).split()[-1]}'
        elif name != 'await of a thread':
            yield name


def test_table_has_each_public_operation():
    """One that two classes share, as `readable`, is enough for one of them."""
    public, called = public_operations(), set(rows())
    assert called <= public.keys()
    covered = [public[name] for name in called]
    assert {name for name, function in public.items() if function not in covered} == WITHOUT_ROW.keys()


def test_table_has_each_plain_call():
    awaited = public_operations().values()
    for kind in (sock.TCP, sock.UDP, sock.Raw):
        methods = {name: getattr(kind, name) for name in dir(kind) if name[0] != '_' and callable(getattr(kind, name))}
        plain = {name for name, method in methods.items() if method not in awaited}
        assert plain == {name.split()[-1] for name in PLAIN} & methods.keys()


def test_operations_are_found_by_what_they_give():
    """Of each kind of source: a function of Rust, with and without overloads, one of Python, a method, a shared one."""
    found = public_operations()
    assert {'sleep', 'TCP.accept', 'UDP.recv', 'resolve', 'Queue.get', 'Raw.writable'} <= found.keys()
    assert not {'newthread', 'TCP.close', 'Thread.result', 'poll', 'TCP.bind'} & found.keys()
