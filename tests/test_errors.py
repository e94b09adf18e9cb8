"""Errors: one name and one class on every OS."""

import contextlib
import copy
import ctypes
import errno
import gc
import io
import os
import pickle
import re
import socket
import subprocess
import sys
import tempfile
import threading

import pytest
import sock
import sock.testing
from sock import _errors, _sockets
from support import LINUX, run

WINDOWS = sys.platform == 'win32'

TABLE = [
    ('access_denied', sock.AccessDenied, PermissionError),
    ('address_already_in_use', sock.AddressAlreadyInUse, OSError),
    ('address_not_available', sock.AddressNotAvailable, OSError),
    ('connection_refused', sock.ConnectionRefused, ConnectionRefusedError),
    ('connection_reset', sock.ConnectionReset, ConnectionResetError),
    ('connection_aborted', sock.ConnectionAborted, ConnectionAbortedError),
    ('broken_pipe', sock.BrokenPipe, BrokenPipeError),
    ('timeout', sock.Timeout, TimeoutError),
    ('closed', sock.Closed, OSError),
    ('not_connected', sock.NotConnected, OSError),
    ('already_connected', sock.AlreadyConnected, OSError),
    ('network_unreachable', sock.NetworkUnreachable, OSError),
    ('host_unreachable', sock.HostUnreachable, OSError),
    ('message_too_long', sock.MessageTooLong, OSError),
    ('too_many_open_files', sock.TooManyOpenFiles, OSError),
    ('no_buffer_space', sock.NoBufferSpace, OSError),
    ('not_supported', sock.NotSupported, OSError),
    ('invalid_argument', sock.InvalidArgument, OSError),
    ('host_not_found', sock.HostNotFound, socket.gaierror),
    ('service_not_found', sock.ServiceNotFound, socket.gaierror),
    ('busy', sock.Busy, OSError),
    ('other', sock.Error, OSError),
]

# What each OS calls it, by its own headers.
NUMBERS = [
    # err, Linux, macOS, Windows
    ('access_denied', (1, 13), (1, 13), (5, 10013)),
    ('address_already_in_use', (98,), (48,), (10048,)),
    ('address_not_available', (99,), (49,), (10049,)),
    ('connection_refused', (111,), (61,), (10061, 1225, 1234)),
    ('connection_reset', (104, 102), (54, 52), (10054, 10052, 64)),
    ('connection_aborted', (103,), (53,), (10053, 1236)),
    ('broken_pipe', (32, 108), (32, 58), (10058, 109, 232)),
    ('timeout', (110,), (60,), (10060, 121)),
    ('not_connected', (107, 89), (57, 39), (10057, 10039)),
    ('already_connected', (106,), (56,), (10056,)),
    ('network_unreachable', (101, 100), (51, 50), (10051, 10050, 1231)),
    ('host_unreachable', (113, 112), (65, 64), (10065, 10064, 1232)),
    ('message_too_long', (90,), (40,), (10040, 234)),
    ('too_many_open_files', (23, 24), (23, 24), (4, 10024)),
    ('no_buffer_space', (105, 12), (55, 12), (10055, 8, 14)),
    ('not_supported', (95, 92, 93, 94, 97, 38), (102, 45, 42, 43, 47, 78), (10045, 10042, 10043, 10047, 50)),
    ('invalid_argument', (22, 9, 88), (22, 9, 38), (10022, 10009, 10038, 87, 6)),
    ('other', (2, 99999), (2, 99999), (2, 99999)),
]


@pytest.mark.parametrize(('err', 'cls', 'builtin'), TABLE)
def test_each_name_has_its_class_and_builtin(err, cls, builtin):
    assert cls.err == err
    assert issubclass(cls, sock.Error)
    assert issubclass(cls, builtin)
    camel = ''.join(word.capitalize() for word in err.split('_'))
    assert cls.__name__ == (camel if err != 'other' else 'Error')
    assert cls.__name__ in sock.__all__
    made = _errors.make(err, 'what was tried', 3, 4, b'data')
    assert type(made) is cls
    assert str(made) == f'{err}: what was tried'
    assert (made.err, made.errno, made.sent, made.received, made.data) == (err, None, 3, 4, b'data')


def test_the_table_is_whole():
    assert {err for err, _, _ in TABLE} == set(_errors._CLASSES)


@pytest.mark.parametrize(
    ('err', 'platform', 'number'),
    [
        (err, platform, number)
        for err, *numbers in NUMBERS
        for platform, each in zip(('linux', 'darwin', 'win32'), numbers, strict=True)
        for number in each
    ],
)
def test_numbers_of_every_os(err, platform, number):
    assert _errors.normalize(number, platform) == err


def test_every_number_of_another_os_has_a_symbol_with_a_name():
    for numbers in _errors._NUMBERS.values():
        for symbol in numbers:
            assert symbol in _errors._BY_SYMBOL, symbol
        assert len(set(numbers.values())) == len(numbers)


def test_numbers_of_this_os_agree_with_the_table():
    if sys.platform not in _errors._NUMBERS:
        pytest.skip(f'no table for {sys.platform}')
    for number, symbol in _errors._HERE.items():
        if symbol in _errors._NUMBERS[sys.platform]:
            assert _errors._NUMBERS[sys.platform][symbol] == number, symbol


def test_windows_words_are_not_those_that_c_has_for_its_own_number(monkeypatch):
    monkeypatch.setattr(sys, 'platform', 'win32')
    monkeypatch.setattr(ctypes, 'FormatError', lambda number: f'what Windows says of {number}', raising=False)
    assert _errors._words(5, 'access_denied') == 'Access denied'
    assert _errors._words(10061, 'connection_refused') == 'Connection refused'
    assert _errors._words(10069, 'other') == 'what Windows says of 10069'


def test_from_os_says_what_was_tried_and_what_the_system_says():
    error = _errors.from_os(errno.ECONNREFUSED, 'connect tcp 127.0.0.1:1', 1, 2, b'x')
    assert type(error) is sock.ConnectionRefused
    assert error.errno == errno.ECONNREFUSED
    assert error.strerror == ('Connection refused' if WINDOWS else os.strerror(errno.ECONNREFUSED))
    text = f'connection_refused: connect tcp 127.0.0.1:1: {error.strerror} ('
    assert str(error).startswith(text)
    assert (error.sent, error.received, error.data) == (1, 2, b'x')


def test_from_os_of_an_unknown_number_is_other_with_its_number():
    error = _errors.from_os(99999, 'something')
    assert type(error) is sock.Error
    assert (error.err, error.errno) == ('other', 99999)
    assert '99999' in str(error)


@pytest.mark.parametrize('duplicate', [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
@pytest.mark.parametrize('cls', [cls for _, cls, _ in TABLE])
def test_errors_survive_copying_and_pickling(cls, duplicate):
    error = cls('what', errno=5, sent=1, received=2, data=b'3')
    error.strerror = 'words'
    twin = duplicate(error)
    assert type(twin) is cls
    assert str(twin) == str(error)
    for field in ('err', 'errno', 'strerror', 'sent', 'received', 'data', 'args'):
        assert getattr(twin, field) == getattr(error, field), field


def test_bare_error_is_its_name():
    assert str(sock.Timeout()) == 'timeout'
    assert (sock.Timeout().sent, sock.Timeout().received, sock.Timeout().data) == (0, 0, b'')


def test_builtins_catch():
    with pytest.raises(TimeoutError):
        raise sock.Timeout('x')
    with pytest.raises(ConnectionError):
        raise sock.BrokenPipe('x')
    with pytest.raises(socket.gaierror):
        raise sock.HostNotFound('x')


@pytest.mark.parametrize(
    ('symbol', 'err'),
    [
        ('EAI_NONAME', 'host_not_found'),
        ('EAI_NODATA', 'host_not_found'),
        ('EAI_AGAIN', 'host_not_found'),
        ('EAI_FAIL', 'host_not_found'),
        ('EAI_SERVICE', 'service_not_found'),
        ('EAI_MEMORY', 'no_buffer_space'),
        ('EAI_FAMILY', 'not_supported'),
        ('EAI_BADFLAGS', 'invalid_argument'),
    ],
)
def test_errors_of_getaddrinfo(symbol, err):
    if not hasattr(socket, symbol):
        pytest.skip(f'{sys.platform} has no {symbol}')
    error = _errors.from_gai(socket.gaierror(getattr(socket, symbol), 'words'), 'look up x')
    assert (error.err, error.errno) == (err, getattr(socket, symbol))
    assert re.match(f'{err}: look up x: words', str(error))


def test_errors_of_getaddrinfo_that_are_the_systems():
    error = _errors.from_gai(OSError(errno.EMFILE, 'words'), 'look up x')
    assert (error.err, error.errno) == ('too_many_open_files', errno.EMFILE)


# What the messages say: the name first; what was tried, on which address; what happened; what to do.

#: Of a wait that a deadline ended.
LATE = r'not done after \d+\.\d\d\d s'
PORT = r'127\.0\.0\.1:\d+'


async def pair(stack):
    listener, client = stack.enter_context(sock.tcp()), stack.enter_context(sock.tcp())
    listener.listen('127.0.0.1')
    await client.connect(listener.local_addr)
    server, _, _ = await listener.accept()
    return client, stack.enter_context(server)


async def read(conn):
    await conn.recv(10)


async def use_a_small_buffer(stack):
    s = stack.enter_context(sock.udp())
    s.bind('127.0.0.1')
    await s.send(b'12345', host=s.local_addr)
    await s.recv(bytearray(4))


async def broadcast(stack):
    await stack.enter_context(sock.udp()).send(b'x', host='255.255.255.255', port=9)


async def bind_twice(stack):
    one, other = stack.enter_context(sock.udp()), stack.enter_context(sock.udp())
    one.bind('127.0.0.1')
    other.bind('127.0.0.1', one.local_addr.port)


async def bind_elsewhere(stack):
    stack.enter_context(sock.tcp()).bind('192.0.2.1')


async def connect_to_nobody(stack):
    one, other = stack.enter_context(sock.tcp()), stack.enter_context(sock.tcp())
    one.bind('127.0.0.1')
    await other.connect(one.local_addr)


async def be_reset(stack):
    client, server = await pair(stack)
    server.setopt('so_linger', 0)
    server.close()
    await client.recv(10)


async def send_after_shutdown(stack):
    client, _ = await pair(stack)
    client.shutdown('w')
    await client.send(b'x')


async def wait_too_long_to_receive(stack):
    client, server = await pair(stack)
    await server.send(b'123')
    await client.recvn(bytearray(10), expires=sock.clock() + 0.02)


async def wait_too_long_to_send(stack):
    client, _ = await pair(stack)
    await client.send(bytes(50_000_000), expires=sock.clock() + 0.1)


async def wait_too_long_to_accept(stack):
    listener = stack.enter_context(sock.tcp())
    listener.listen('127.0.0.1')
    await listener.accept(sock.clock() + 0.01)


def soon():
    return sock.clock() + 0.01


async def wait_too_long_to_connect(stack):
    listener = stack.enter_context(sock.tcp())
    listener.listen('127.0.0.1', backlog=0)
    others = [stack.enter_context(sock.tcp()) for _ in range(3)]
    for other in others:
        # A full backlog answers nobody.
        await other.connect(listener.local_addr, expires=sock.clock() + 0.05)


async def wait_too_long_for_a_datagram(stack):
    s = stack.enter_context(sock.udp())
    s.bind('127.0.0.1')
    await s.recvmany([bytearray(10)], expires=soon())


async def fill(stack, send):
    receiver, sender = (stack.enter_context(sock.udp('unix')) for _ in range(2))
    receiver.bind(f'\0sock {os.getpid()} {id(receiver)}')
    for _ in range(10_000):
        await send(sender, receiver.local_addr)


async def wait_too_long_to_send_a_datagram(stack):
    await fill(stack, lambda s, to: s.send(b'x', host=to, expires=soon()))


async def wait_too_long_to_send_datagrams(stack):
    await fill(stack, lambda s, to: s.sendmany([(b'x', to)], expires=soon()))


async def wait_too_long_for_an_event(stack):
    await sock.Event().wait(soon())


def held_lock(stack, name):
    """A lock that thread 'holder' holds."""
    lock = sock.Lock(name)

    async def hold():
        async with lock:
            await sock.suspend()

    stack.callback(sock.newthread(hold, name='holder').cancel)
    return lock


async def wait_too_long_for_a_lock(stack):
    await held_lock(stack, 'of all').acquire(soon())


async def wait_too_long_for_a_permit(stack):
    await sock.Semaphore(0).acquire(soon())


async def wait_too_long_to_be_notified(stack):
    condition = sock.Condition()
    async with condition:
        await condition.wait(soon())


async def wait_too_long_to_put(stack):
    queue = sock.Queue(1)
    await queue.put(1)
    await queue.put(2, soon())


async def wait_too_long_to_get(stack):
    await sock.Queue().get(soon())


async def wait_too_long_to_join(stack):
    queue = sock.Queue()
    await queue.put(1)
    await queue.join(soon())


async def wait_too_long_for_a_thread(stack):
    other = sock.newthread(sock.suspend, name='other')
    stack.callback(other.cancel)
    with sock.deadline(soon()):
        await other


async def wait_too_long_for_a_group(stack):
    with sock.deadline(soon()):
        async with sock.group() as g:
            g.newthread(sock.sleep, 100)


async def wait_too_long_to_be_resumed(stack):
    with sock.deadline(soon()):
        await sock.suspend()


async def sleep_too_long(stack):
    with sock.deadline(soon()):
        await sock.sleep(100)


async def sleep_too_long_in_a_job(stack):
    with sock.deadline(soon()):
        await sock.sleep_job().sleep(100)


async def wait_too_long_for_a_call(stack):
    over = threading.Event()
    stack.callback(over.set)
    await sock.offload(over.wait, expires=soon())


async def wait_too_long_for_a_look_up(stack):
    over = threading.Event()
    stack.callback(over.set)

    def asks(*args):
        over.wait(20)
        raise socket.gaierror(socket.EAI_NONAME, 'nothing')

    patch = stack.enter_context(pytest.MonkeyPatch.context())
    patch.setattr(socket, 'getaddrinfo', asks)
    await sock.resolve('slow', expires=soon())


async def use_what_expired(stack):
    client, _ = await pair(stack)
    with pytest.raises(sock.Timeout):
        await client.recv(10, expires=sock.clock() + 0.01)
    await client.send(b'x')


async def use_what_a_thread_closed(stack):
    client, _ = await pair(stack)

    async def closer():
        client.close()

    await sock.newthread(closer, name='closer')
    await client.send(b'x')


async def use_what_an_os_thread_closed(stack):
    client, _ = await pair(stack)
    os_thread = threading.Thread(target=lambda: client.close(), name='another')
    os_thread.start()
    await sock.offload(os_thread.join)
    await client.send(b'x')


async def use_what_the_caller_closed(stack):
    client, _ = await pair(stack)
    with client:
        pass
    await client.send(b'x')


async def use_what_the_caller_closed_async(stack):
    client, _ = await pair(stack)
    async with client:
        pass
    await client.send(b'x')


async def use_a_closed_udp_socket(stack):
    s = sock.udp()
    s.bind('127.0.0.1')
    s.close()
    await s.recv(10)


async def use_what_was_detached(stack):
    client, _ = await pair(stack)
    sock.fromfd(client.detach()).close()
    await client.recv(10)


async def receive_less_than_wanted(stack):
    client, server = await pair(stack)
    await server.send(b'123')
    server.close()
    await client.recvn(bytearray(10))


async def put_into_a_closed_queue(stack):
    queue = sock.Queue()
    queue.close()
    await queue.put(1)


async def get_from_a_closed_queue(stack):
    queue = sock.Queue()
    queue.close()
    await queue.get()


async def use_what_another_has_taken_the_place_of(stack):
    s, candidate = stack.enter_context(sock.tcp(None)), sock.tcp()
    assert s._become(candidate)
    await candidate.send(b'x')


async def use_what_nobody_referred_to(stack):
    class Keeper:
        def __del__(self):
            kept.append(self.socket)

    kept, keeper = [], Keeper()
    keeper.itself, keeper.socket = keeper, sock.udp()
    del keeper
    with pytest.warns(ResourceWarning, match='unclosed udp'):
        gc.collect()
    await kept[0].recv(1)


async def take_over_what_is_closed(stack):
    s = socket.socket()
    s.close()
    sock.fromsocket(s)


async def take_over_what_is_of_another_kind(stack):
    SOCK_SEQPACKET = socket.SOCK_SEQPACKET
    s = stack.enter_context(socket.socket(socket.AF_UNIX, SOCK_SEQPACKET))
    sock.fromfd(s.fileno())


async def take_over_what_is_no_socket(stack):
    reading, writing = os.pipe()
    stack.callback(os.close, reading)
    stack.callback(os.close, writing)
    sock.fromfd(reading)


async def call_by_the_handle_of_another_system(stack):
    sock.kqueue_fd()


async def send_before_connect(stack):
    await stack.enter_context(sock.tcp()).send(b'x')


async def send_to_nobody(stack):
    s = stack.enter_context(sock.udp())
    s.bind('127.0.0.1')
    await s.send(b'x')


async def connect_twice(stack):
    client, _ = await pair(stack)
    await client.connect('127.0.0.1', 1)


async def send_too_long_a_datagram(stack):
    s = stack.enter_context(sock.udp())
    s.bind('127.0.0.1')
    await s.send(bytes(70_000), host=s.local_addr)


async def receive_more_than_wanted(stack):
    client, server = await pair(stack)
    await server.send(b'1234567890')
    await client.recvall(5)


async def run_out_of_descriptors(stack):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
    stack.enter_context(sock.tcp())


async def run_out_of_descriptors_in_sendfile(stack):
    import resource

    client, _ = await pair(stack)
    file = stack.enter_context(open(__file__, 'rb'))  # noqa: SIM115
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
    await client.sendfile(file)


async def run_out_of_descriptors_for_a_poller(stack):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
    sock.Poller()


async def connect_to_a_path_with_a_zero_byte(stack):
    await stack.enter_context(sock.tcp('unix')).connect('/tmp/a\0b')


async def send_a_file_that_has_nothing_now(stack):
    client, _ = await pair(stack)
    reading, writing = os.pipe()
    stack.callback(os.close, writing)
    os.set_blocking(reading, False)
    with open(reading, 'rb') as file:
        await client.sendfile(file)


async def set_an_option_of_another_system(stack):
    unknown = next(name for name in sock._sock.option_names() if name not in sock.options())
    stack.enter_context(sock.tcp()).setopt(unknown, 1)


async def accept_without_listening(stack):
    s = stack.enter_context(sock.tcp())
    s.bind('127.0.0.1')
    await s.accept()


async def look_up_a_name(stack):
    sock.addr('no-such-host', flags='numerichost')


async def look_up_what_is_no_name(stack):
    sock.addr('a' * 64 + '.example')


async def look_up_what_has_addresses_of_other_kinds(stack):
    patch = stack.enter_context(pytest.MonkeyPatch.context())
    patch.setattr(socket, 'getaddrinfo', lambda *args: [(99, socket.SOCK_STREAM, 0, '', ('x', 1))])
    sock.addr('strange')


async def look_up_an_address_of_another_family(stack):
    sock.addr('::1')


async def look_up_a_service(stack):
    sock.addr('127.0.0.1', 'no-such-service')


async def read_twice(stack):
    client, _ = await pair(stack)
    reader = sock.newthread(read, client, name='reader')
    try:
        await client.recv(1)
    finally:
        reader.cancel()


async def write_while_another_pauses(stack):
    """Where it lets others run between two parts, it waits for nothing, and has the direction all the same."""
    client, _server = await pair(stack)

    async def write():
        await client.send(bytes(10_000))

    for seed in range(20):
        with sock.testing.chaos(seed):
            writer = sock.newthread(write, name='writer')
            try:
                await client.send(b'x')
            except sock.Busy as busy:
                if 'has waited' not in str(busy):
                    raise
            finally:
                writer.cancel()
            with contextlib.suppress(sock.Cancelled, sock.Busy):
                await writer


async def bind_into_no_folder(stack):
    stack.enter_context(sock.tcp('unix')).bind('/no/such/folder/s')


async def bind_to_a_path_in_use(stack):
    path = stack.enter_context(tempfile.TemporaryDirectory()) + '/s'
    for _ in range(2):
        stack.enter_context(sock.tcp('unix')).bind(path)


async def bind_again(stack):
    s = stack.enter_context(sock.tcp())
    s.bind('127.0.0.1')
    s.bind('127.0.0.1')


async def listen_on_a_connection(stack):
    listener = stack.enter_context(socket.create_server(('127.0.0.1', 0)))
    s = stack.enter_context(sock.tcp())
    await s.connect(*listener.getsockname())
    s.listen('127.0.0.1')


async def send_to_port_0(stack):
    await stack.enter_context(sock.udp()).send(b'x', None, '127.0.0.1', 0)


async def set_a_name_that_is_none(stack):
    stack.enter_context(sock.tcp()).setopt('tcp_congestion', 'nosuch')


async def join_a_group_twice(stack):
    s = stack.enter_context(sock.udp())
    for _ in range(2):
        s.setopt('ip_add_membership', ('239.1.2.12', '127.0.0.1'))


async def leave_a_group_of_others(stack):
    stack.enter_context(sock.udp()).setopt('ip_drop_membership', ('239.1.2.12', '127.0.0.1'))


async def expire_before_it_began(stack):
    listener = stack.enter_context(socket.create_server(('127.0.0.1', 0)))
    s = stack.enter_context(sock.tcp())
    await s.connect(*listener.getsockname())
    # A duration by mistake.
    await s.recv(1, expires=0.001)


async def connect_to_no_path(stack):
    await stack.enter_context(sock.tcp('unix')).connect('/no/such/path')


def system(symbol):
    """What a system says that no test can make it say everywhere."""

    async def provoke(stack):
        number = next((number for number, name in _errors._HERE.items() if name == symbol), getattr(errno, symbol))
        raise _errors.from_os(number, 'connect tcp 127.0.0.1:1')

    provoke.__name__ = symbol
    return provoke


def line(function, below):
    return function.__code__.co_firstlineno + below


MESSAGES = [
    (broadcast, r'access_denied: send udp 255\.255\.255\.255:9: .* \(EACCES\): it needs rights'),
    (bind_twice, rf'address_already_in_use: bind udp {PORT}: .* \(EADDRINUSE\): .* port 0 takes any free port'),
    (bind_elsewhere, r'address_not_available: bind tcp 192\.0\.2\.1:0: .* \(EADDRNOTAVAIL\): this host has no such'),
    (connect_to_nobody, rf'connection_refused: connect tcp {PORT}: .* \(ECONNREFUSED\): nobody listens there'),
    (
        be_reset,
        rf'connection_reset: recv tcp {PORT}: .* \(ECONNRESET\): the peer has closed it with data unread, or has gone: '
        r'connect anew',
    ),
    (
        system('ECONNABORTED'),
        r'connection_aborted: connect tcp 127\.0\.0\.1:1: .*: this host gave the connection up: connect anew',
    ),
    (
        send_after_shutdown,
        rf'broken_pipe: send tcp {PORT}: .* \({"ESHUTDOWN" if WINDOWS else "EPIPE"}\): '
        r'this end was shut down, or the peer',
    ),
    (system('ETIMEDOUT'), r'timeout: connect tcp 127\.0\.0\.1:1: .* \(ETIMEDOUT\): the peer does not answer'),
    (
        wait_too_long_to_receive,
        rf'timeout: recvn tcp {PORT}: not done after 0\.0\d\d s, 3 of 10 bytes received; the socket is closed: '
        r'connect another one, or allow more time',
    ),
    (
        wait_too_long_to_send,
        rf'timeout: send tcp {PORT}: {LATE}, [1-9]\d+ of 50000000 bytes sent; the socket is closed: connect another',
    ),
    (
        wait_too_long_to_accept,
        rf'timeout: accept tcp {PORT}: {LATE}; the socket is closed: listen with another one, or allow more time',
    ),
    (
        wait_too_long_to_connect,
        rf'timeout: connect tcp {PORT}: {LATE}; the socket is closed: is the peer up, and does no firewall',
    ),
    (
        wait_too_long_for_a_datagram,
        rf'timeout: recvmany udp {PORT}: {LATE}, no datagram received; the socket is closed: make another one, or',
    ),
    (
        wait_too_long_to_send_a_datagram,
        rf'timeout: send udp .*: {LATE}, nothing sent; the socket is closed: make another',
    ),
    (
        wait_too_long_to_send_datagrams,
        rf'timeout: sendmany udp.*: {LATE}, 0 of 1 datagrams sent; the socket is closed: make another one',
    ),
    (wait_too_long_for_an_event, rf'timeout: wait for an event: {LATE}; nobody has called its set\(\)'),
    (
        wait_too_long_for_a_lock,
        rf"timeout: acquire of lock 'of all', held by thread 'holder': {LATE}; now it is held by thread 'holder', who "
        r'must release\(\) it',
    ),
    (
        wait_too_long_for_a_permit,
        rf'timeout: acquire of a semaphore: {LATE}; all permits are taken: release\(\) gives one back',
    ),
    (wait_too_long_to_be_notified, rf'timeout: wait for a condition: {LATE}; nobody has called its notify\(\)'),
    (wait_too_long_to_put, rf'timeout: put into a queue: {LATE}; it is full, with 1 items: get\(\) makes room'),
    (
        wait_too_long_to_get,
        rf'timeout: get from a queue: {LATE}; nobody has put an item: close\(\) ends such waits',
    ),
    (
        wait_too_long_to_join,
        rf'timeout: join of a queue: {LATE}; task_done\(\) is due once for each item that was put',
    ),
    (
        wait_too_long_for_a_thread,
        rf'timeout: await thread other: {LATE}; that thread goes on: cancel\(\) ends it, sock\.dump\(\) shows what',
    ),
    (wait_too_long_for_a_group, rf'timeout: the end of a group of threads: {LATE}; its threads were cancelled'),
    (wait_too_long_to_be_resumed, rf"timeout: suspend: {LATE}; nobody has called the thread's resume\(\)"),
    (sleep_too_long, rf'timeout: sleep: {LATE}; a deadline of the thread came first'),
    (sleep_too_long_in_a_job, rf'timeout: sleep: {LATE}; a deadline of the thread came first'),
    (
        wait_too_long_for_a_call,
        rf'timeout: offload Event\.wait: {LATE}; a call that has begun goes on, and its answer is dropped',
    ),
    (wait_too_long_for_a_look_up, rf"timeout: look up 'slow': {LATE}; does the name server answer"),
    (
        use_what_another_has_taken_the_place_of,
        r'closed: send tcp: the socket was closed here: another socket has taken its place',
    ),
    (use_what_nobody_referred_to, r'closed: recv udp: the socket was closed here: nobody referred to it any more'),
    (take_over_what_is_closed, r'closed: take over a stdlib socket: it is closed, or detached before'),
    (
        take_over_what_is_of_another_kind,
        r'not_supported: take over descriptor \d+: no stream, datagram or raw socket',
    ),
    (
        call_by_the_handle_of_another_system,
        rf'not_supported: kqueue_fd\(\): this OS polls with {"iocp" if WINDOWS else "epoll"}: '
        rf'call {"iocp" if WINDOWS else "epoll_fd"}\(\), or poller\(\) on any OS',
    ),
    (
        get_from_a_closed_queue,
        r"closed: get from a queue: thread 'test' in get_from_a_closed_queue, .*, has closed it, and no item is left",
    ),
    (
        run_out_of_descriptors_in_sendfile,
        r'too_many_open_files: duplicate descriptor \d+ for sendfile: .* \(EMFILE\): .*raise the limit',
    ),
    (
        take_over_what_is_no_socket,
        r'invalid_argument: take over descriptor \d+: .* \(ENOTSOCK\): the descriptor is of something else: pass',
    ),
    (run_out_of_descriptors_for_a_poller, r'too_many_open_files: make a poller: .* \(EMFILE\): .*raise the limit'),
    (connect_to_a_path_with_a_zero_byte, r'invalid_argument: connect tcp /tmp/a.*b: a path has no zero byte in it'),
    (
        send_a_file_that_has_nothing_now,
        rf'invalid_argument: sendfile to {PORT}: the file does not block, and has nothing now: os\.set_blocking',
    ),
    (look_up_what_is_no_name, r"host_not_found: look up 'a+\.example', port 0: no valid host name: "),
    (
        look_up_what_has_addresses_of_other_kinds,
        r"host_not_found: look up 'strange', port 0: no address of the families that sock knows",
    ),
    (use_what_expired, rf'closed: send tcp {PORT}: the socket was closed here: its deadline passed'),
    (
        use_what_a_thread_closed,
        rf"closed: send tcp {PORT}: the socket was closed here by thread 'closer' in closer, .*test_errors\.py:"
        rf'{line(use_what_a_thread_closed, 4)}$',
    ),
    (
        use_what_an_os_thread_closed,
        rf"closed: send tcp {PORT}: the socket was closed here by OS thread 'another' in <lambda>, .*:"
        rf'{line(use_what_an_os_thread_closed, 2)}$',
    ),
    *[
        (
            each,
            rf"closed: send tcp {PORT}: the socket was closed here by thread 'test' in {each.__name__}, .*:"
            rf'{line(each, 2)}$',
        )
        for each in (use_what_the_caller_closed, use_what_the_caller_closed_async)
    ],
    (use_a_closed_udp_socket, rf"closed: recv udp {PORT}: the socket was closed here by thread 'test' in use_a_closed"),
    (
        use_what_was_detached,
        rf'closed: recv tcp {PORT}: the socket was closed here: detach\(\) gave its descriptor away',
    ),
    (
        receive_less_than_wanted,
        rf'closed: recvn tcp {PORT}: the peer ended the stream after 3 of 10 bytes; recv\(\) takes what there is',
    ),
    (
        put_into_a_closed_queue,
        r"closed: put into a queue: thread 'test' in put_into_a_closed_queue, .*test_errors\.py:\d+, has closed it",
    ),
    (send_before_connect, r'not_connected: send tcp: it was never connected: connect\(\) comes first'),
    (send_to_nobody, rf'not_connected: send udp {PORT}: .*: connect\(\) comes first, or send\(\) with an address'),
    (connect_twice, r'already_connected: connect tcp 127\.0\.0\.1:1: .* \(EISCONN\): a socket connects once'),
    (system('ENETUNREACH'), r'network_unreachable: connect tcp 127\.0\.0\.1:1: .* \(ENETUNREACH\): is the network up'),
    (system('EHOSTUNREACH'), r'host_unreachable: connect tcp 127\.0\.0\.1:1: .* \(EHOSTUNREACH\): is the host up'),
    (send_too_long_a_datagram, rf'message_too_long: send udp {PORT}: .* \(EMSGSIZE\): .*: send it in parts'),
    (
        use_a_small_buffer,
        rf'message_too_long: recv udp {PORT}: the datagram is longer than the 4 bytes for it: .*65535',
    ),
    (receive_more_than_wanted, rf"message_too_long: recvall tcp {PORT}: more than 5 bytes.* in the error's data"),
    (run_out_of_descriptors, r'too_many_open_files: make a socket: tcp, inet: .* \(EMFILE\): .*raise the limit'),
    (system('ENOBUFS'), r'no_buffer_space: connect tcp 127\.0\.0\.1:1: .* \(ENOBUFS\): .*: try again later'),
    (set_an_option_of_another_system, r'not_supported: option \w+: this OS does not have it; sock\.options\(\) lists'),
    (system('EOPNOTSUPP'), r'not_supported: connect tcp 127\.0\.0\.1:1: .*: this OS, or this kind of socket, cannot'),
    (
        accept_without_listening,
        rf'invalid_argument: accept tcp {PORT}: .* \(EINVAL\): listen\(\) comes first',
    ),
    (
        system('ENOTCONN'),
        r'not_connected: connect tcp 127\.0\.0\.1:1: .*: connect\(\) comes first, and the peer must not have gone',
    ),
    (
        system('EINVAL'),
        r'invalid_argument: connect tcp 127\.0\.0\.1:1: .*: the OS does not take that value, or not in this state of',
    ),
    (
        system('EFAULT'),
        r'invalid_argument: connect tcp 127\.0\.0\.1:1: .*: the OS does not take that, or not in this state of the',
    ),
    (system('EBADF'), r'invalid_argument: connect tcp 127\.0\.0\.1:1: .* \(EBADF\): something else has closed'),
    (look_up_a_name, r"host_not_found: look up 'no-such-host', port 0: .*: is the name right"),
    (
        look_up_an_address_of_another_family,
        r"host_not_found: look up '::1', port 0: .*inet6 address, and inet was asked",
    ),
    (look_up_a_service, r"service_not_found: look up '127\.0\.0\.1', port 'no-such-service': .*: a port may also be a"),
    (
        read_twice,
        rf"busy: recv tcp {PORT}: thread 'reader' has waited there for 0\.\d+ s and reads this socket; one thread may "
        r'read while another writes: let one thread do it, or hold a sock\.Lock meanwhile',
    ),
    (write_while_another_pauses, rf"busy: send tcp {PORT}: thread 'writer' writes this socket; .*sock\.Lock"),
    (connect_to_no_path, r'other: connect tcp /no/such/path: .* \(ENOENT\): no socket has that path'),
    (bind_into_no_folder, r'other: bind tcp /no/such/folder/s: .* \(ENOENT\): there is no such folder'),
    (
        bind_to_a_path_in_use,
        r'address_already_in_use: bind tcp /.*/s: .* \(EADDRINUSE\): something has that path: remove',
    ),
    (bind_again, rf'invalid_argument: bind tcp {PORT}: .* \(EINVAL\): a socket is bound once'),
    (
        listen_on_a_connection,
        rf'invalid_argument: listen tcp {PORT}: .* \(EINVAL\): a connected socket does not listen',
    ),
    (send_to_port_0, r'invalid_argument: send udp 127\.0\.0\.1:0: .* \(EINVAL\): .* as the port 0'),
    (
        set_a_name_that_is_none,
        r'other: setopt tcp_congestion of tcp.*: .* \(ENOENT\): the system has nothing of that name',
    ),
    (
        join_a_group_twice,
        r'address_already_in_use: setopt ip_add_membership .* \(EADDRINUSE\): it has joined that group already',
    ),
    (
        leave_a_group_of_others,
        r'address_not_available: setopt .*: it is not in that group there, or that address is of another host',
    ),
    (
        expire_before_it_began,
        rf'timeout: recv tcp {PORT}: expires was \d+\.\d+ s before \(it is a time of sock\.clock\(\)',
    ),
]


#: What cannot be had on Windows, and why.
NOT_ON_WINDOWS = {
    'EBADF': 'Winsock has no such number',
    'EFAULT': 'Winsock has no such number',
    'bind_into_no_folder': 'this OS has no unix sockets',
    'bind_to_a_path_in_use': 'this OS has no unix sockets',
    'connect_to_a_path_with_a_zero_byte': 'this OS has no unix sockets',
    'connect_to_no_path': 'this OS has no unix sockets',
    'run_out_of_descriptors': 'there is no limit of descriptors',
    'run_out_of_descriptors_for_a_poller': 'there is no limit of descriptors',
    'run_out_of_descriptors_in_sendfile': 'there is no limit of descriptors',
    'send_a_file_that_has_nothing_now': 'Windows has no pipes that do not block',
    'send_to_port_0': 'Winsock has a number for it alone',
    'set_a_name_that_is_none': 'this system has no such option',
    'take_over_what_is_of_another_kind': 'this OS has no unix sockets',
    'wait_too_long_to_send_a_datagram': 'this OS has no unix sockets',
    'wait_too_long_to_send_datagrams': 'this OS has no unix sockets',
}


@pytest.mark.skipif(sys.platform not in ('linux', 'win32'), reason='what the others say has not been seen')
@pytest.mark.parametrize(('provoke', 'says'), MESSAGES, ids=[each.__name__ for each, _ in MESSAGES])
@pytest.mark.usefixtures('whole_process')
def test_messages_say_what_was_tried_on_which_address_and_what_to_do(provoke, says):
    if WINDOWS and (why := NOT_ON_WINDOWS.get(provoke.__name__)):
        pytest.skip(why)

    async def main():
        with contextlib.ExitStack() as stack, pytest.raises(sock.Error) as caught:
            await provoke(stack)
        return caught.value

    error = run(main)
    assert re.match(says, str(error)), str(error)
    assert str(error).startswith(error.err + ': ')


#: What helps where the OS's number has no name of ours: what an operation on a socket, or on a file that is sent, may
#: meet, as the manuals of their calls say.
ADVICE = {
    'EAGAIN': 'it cannot be done at this moment: try again later',
    'EALREADY': 'a connect goes on already: wait for its end, or make another socket',
    'EBUSY': 'something else uses that: wait until it does not, or choose another',
    'EDQUOT': 'the quota of that disk is used up: remove files there',
    'EEXIST': 'it is there already: once is enough',
    'EINPROGRESS': 'it has been begun before: wait for its end, or make another socket',
    'EINTR': 'a signal broke it off: do it again',
    'EIO': 'the disk or the device fails: the log of the system says more',
    'EISDIR': 'that is a folder, where a file has to be',
    'ELOOP': 'the symbolic links of that path lead round in a circle, or are too many',
    'ENODEV': 'there is no such device or interface: socket.if_nameindex() lists what there is',
    'ENOENT': 'no socket has that path: is the server up?',
    'ENOSPC': 'a disk, or a table of the system (that of watched descriptors, say), is full: make room there',
    'ENOTDIR': 'a part of that path is a file, where a folder has to be',
    'ENXIO': 'there is no such device, or nobody at its other end',
    'EOVERFLOW': 'a number is too large for this OS: take less at once',
    'EPROTO': 'the peer, or something on the way, does not keep to the protocol: connect anew',
    'EROFS': 'that disk is read-only: choose a path on another one',
    'ESPIPE': 'a pipe, or a device, has no offset: leave it out',
    'ESTALE': 'the file has gone from its server: open it anew',
}
#: Of what has no advice of its own.
NO_MORE = 'the OS says no more: the manual of its call lists what can be the cause'


@pytest.mark.parametrize('symbol', sorted(set(_errors._HERE.values()) | {*ADVICE} & {*dir(errno)}))
def test_every_error_of_the_os_comes_with_advice(symbol):
    wanted = ADVICE.get(symbol)
    if symbol in _errors._HERE.values():
        number = next(number for number, name in _errors._HERE.items() if name == symbol)
        error = _errors.from_os(number, 'connect tcp 1.2.3.4:5')
        words = os.strerror(number)
        if WINDOWS:
            words = ctypes.FormatError(number) if error.err == 'other' else error.err.replace('_', ' ').capitalize()
        before = f'{error.err}: connect tcp 1.2.3.4:5: {words} ({symbol}): '
        assert str(error).startswith(before)
        advice = str(error).removeprefix(before)
        # Whatever has a name has advice of its own.
        assert (advice == NO_MORE) == (error.err == 'other' and wanted is None)
        assert len(advice.split()) > 2
        assert wanted is None or (error.err, advice) == ('other', wanted)
    # Of a file that cannot be read the C library says it, on any OS.
    number = getattr(errno, symbol, None)
    if number is not None and errno.errorcode[number] == symbol:
        error = _errors.from_file(OSError(number, 'words'), 'read the file for sendfile to 1.2.3.4:5')
        before = f'{error.err}: read the file for sendfile to 1.2.3.4:5: words ({symbol}): '
        assert str(error).startswith(before)
        assert len(str(error).removeprefix(before).split()) > 2
        assert wanted is None or str(error) == before + wanted or symbol == 'ENOENT'


def test_descriptor_that_cannot_be_duplicated_is_told_by_cs_own_number(monkeypatch, tmp_path):
    def fails(_):
        raise OSError(errno.EBADF, "C's words")

    monkeypatch.setattr(os, 'dup', fails)
    with open(tmp_path / 'file', 'wb+') as file, pytest.raises(sock.InvalidArgument) as caught:
        _sockets._Own(file, file.fileno())
    says = r"invalid_argument: duplicate descriptor \d+ for sendfile: C's words \(EBADF\): "
    assert re.match(says, str(caught.value))


@pytest.mark.parametrize(
    ('symbol', 'advice'),
    [
        ('EACCES', 'the file may not be read by this process'),
        ('ENOENT', 'the file has gone: open it anew'),
        ('EBADF', "the file is not open for reading: sendfile takes one of mode 'rb'"),
        ('EINVAL', 'it is no file that can be read, or not from that offset'),
    ],
)
def test_advice_about_a_file_is_not_that_about_a_socket(symbol, advice):
    error = _errors.from_file(OSError(getattr(errno, symbol), 'words'), 'read the file for sendfile to 1.2.3.4:5')
    assert str(error) == f'{error.err}: read the file for sendfile to 1.2.3.4:5: words ({symbol}): {advice}'


@pytest.mark.parametrize(
    ('address', 'advice'),
    [
        ('/tmp/s', 'something has that path: remove it'),
        ('s', 'something has that path: remove it'),
        ('\\0name', 'port 0 takes any free port'),
        ('127.0.0.1:80', 'port 0 takes any free port'),
        ('[::1]:80', 'port 0 takes any free port'),
    ],
)
def test_advice_about_an_address_in_use_goes_by_what_it_is(address, advice):
    assert advice in str(_errors.from_os(errno.EADDRINUSE, f'bind tcp {address}'))


def test_number_that_the_os_has_no_name_for_comes_with_advice_too():
    error = _errors.from_os(99_999, 'recv tcp 1.2.3.4:5')
    words = ctypes.FormatError(99_999) if WINDOWS else os.strerror(99_999)
    assert str(error) == f'other: recv tcp 1.2.3.4:5: {words} (99999): {NO_MORE}'


def test_a_message_of_every_error_is_read():
    assert {says.partition(':')[0] for _, says in MESSAGES} == set(_errors._CLASSES)


# What misuse is told.


def misuse(cls, says):
    """A function that makes that mistake, inside a thread."""

    def with_row(function):
        MISUSE.append((function, cls, says))
        return function

    return with_row


MISUSE = []


@misuse(ValueError, r"^host must not contain a NUL character: 'a\\x00b'$")
async def host_with_a_nul(stack):
    sock.addr('a\0b')


@misuse(TypeError, r'^the host of a unix address is its path, a str, not int$')
async def number_for_a_path(stack):
    sock.addr(1, family='unix')


@misuse(ValueError, r"^the host of a unix address is its path, not '\*': for a file of that name './\*'$")
async def star_for_a_path(stack):
    sock.addr('*', family='unix')


@misuse(ValueError, r'^this AddrInfo was freed: it has no addresses any more$')
async def addresses_that_were_freed(stack):
    found = sock.addr('127.0.0.1')
    found.free()
    _ = found.addr


@misuse(TypeError, r'^(epoll_fd|kqueue_fd|iocp) takes the number that \1\(\) gave elsewhere, not str$')
async def word_for_a_handle(stack):
    {'epoll': sock.epoll_fd, 'kqueue': sock.kqueue_fd, 'iocp': sock.iocp}[sock._sock.POLL]('x')


@misuse(RuntimeError, r'^this group is not entered, or has ended: start threads inside its async with block$')
async def group_that_has_ended(stack):
    async with sock.group() as g:
        pass
    g.newthread(read, None)


@misuse(BaseExceptionGroup, r'^2 failures in a group of threads')
async def group_that_fails_twice(stack):
    async def fail():
        try:
            await sock.suspend()
        finally:
            raise OSError

    async with sock.group() as g:
        g.newthread(fail)
        g.newthread(fail).cancel()


@misuse(RuntimeError, r"^thread 'done' has ended: it cannot be resumed$")
async def resumed_at_its_end(stack):
    done = sock.newthread(sock.sleep, 0, name='done')
    await done
    done.resume()


@misuse(RuntimeError, r"^lock 'mine' is held by thread 'holder': only that one releases it$")
async def lock_of_another(stack):
    held_lock(stack, 'mine').release()


@misuse(RuntimeError, r"^lock 'mine' is held by thread 'holder', which has ended: only that one")
async def lock_of_one_that_has_ended(stack):
    lock = sock.Lock('mine')
    holder = sock.newthread(lock.acquire, name='holder')
    await holder
    lock.release()


@misuse(ValueError, r"^notify takes a number of threads, not 'x'$")
async def word_for_notify(stack):
    condition = sock.Condition()
    async with condition:
        condition.notify('x')


@misuse(TypeError, r'^release takes a number of permits, not str$')
async def word_for_release(stack):
    sock.Semaphore().release('x')


@misuse(ValueError, r'^release takes 1 permit or more, not 0$')
async def release_of_nothing(stack):
    sock.Semaphore().release(0)


@misuse(TypeError, r'^maxsize must be a number of items, not str$')
async def word_for_the_size_of_a_queue(stack):
    sock.Queue('x')


@misuse(ValueError, r'^value must be 0 or more permits, not -1$')
async def fewer_permits_than_none(stack):
    sock.Semaphore(-1)


@misuse(ValueError, r'^runevery takes 1e-09 seconds or more, not 0$')
async def timer_without_a_pause(stack):
    sock.runevery(0, print)


@misuse(ValueError, r'^recvmany takes one buffer at least$')
async def recvmany_with_none(stack):
    await stack.enter_context(sock.udp()).recvmany([])


@misuse(TypeError, r'^recvmany takes writable, contiguous buffers: this bytes is no such buffer$')
async def recvmany_into_bytes(stack):
    await stack.enter_context(sock.udp()).recvmany([b'x'])


@misuse(TypeError, r'^sendmany takes \(data, address\) pairs: this int is no such buffer$')
async def sendmany_of_a_number(stack):
    await stack.enter_context(sock.udp()).sendmany([(1, None)])


@misuse(TypeError, r'^sendmany takes \(data, address\) pairs; the address is a SockAddr or None$')
async def sendmany_without_addresses(stack):
    await stack.enter_context(sock.udp()).sendmany([b'x'])


@misuse(TypeError, r'^recvn takes a number of bytes, not str$')
async def recvn_of_a_word(stack):
    client, _ = await pair(stack)
    await client.recvn(bytearray(10), 'x')


@misuse(ValueError, r'^<_io\.FileIO .*> was closed and opened anew while sendfile began$')
async def file_that_is_opened_anew(stack):
    client, _ = await pair(stack)
    file = stack.enter_context(io.FileIO(__file__))
    dup = os.dup

    def late(number):
        made = dup(number)
        file.__init__(os.open(__file__, os.O_RDONLY))
        return made

    patch = stack.enter_context(pytest.MonkeyPatch.context())
    patch.setattr(os, 'dup', late)
    await client.sendfile(file)


@misuse(TypeError, r'^not an operation of sock$')
async def what_is_no_operation(stack):
    sock._sock.waits_for(1)


@misuse(TypeError, r'^not a class of sockets$')
async def class_of_others(stack):
    sock._sock.finalizes(int)


@misuse(TypeError, r'^this OS socket has its object already$')
async def socket_of_two_objects(stack):
    new = sock._sock.open('udp', 'inet')
    stack.enter_context(sock.UDP(new))
    sock.UDP(new)


@misuse(RuntimeError, r'^this operation runs already: await it once, in one thread$')
async def operation_within_itself(stack):
    class Mine(sock.TCP):
        __slots__ = ()

        def __init__(self, new):
            if operations:
                with self:
                    next(operations.pop())

    operations = []
    listener = stack.enter_context(Mine(sock._sock.open('tcp', 'inet')))
    listener.listen('127.0.0.1')
    await stack.enter_context(sock.tcp()).connect(listener.local_addr)
    accepting = listener.accept()
    operations.append(accepting)
    await accepting


if LINUX:

    @misuse(ValueError, r'^so_max_pacing_rate takes an int of 64 bits, from 0, not -1$')
    async def rate_below_zero(stack):
        stack.enter_context(sock.udp()).setopt('so_max_pacing_rate', -1)


@pytest.mark.parametrize(('mistake', 'cls', 'says'), MISUSE, ids=[each.__name__ for each, _, _ in MISUSE])
@pytest.mark.usefixtures('whole_process')
def test_misuse_is_told_what_is_wrong(mistake, cls, says):
    async def main():
        with contextlib.ExitStack() as stack, pytest.raises(cls, match=says):
            await mistake(stack)

    run(main)


FORK = """
import os, sock

poller = sock.poller()
if os.fork() == 0:
    sock.poller(poller)
    try:
        sock.newthread(sock.sleep, 0)
    except RuntimeError as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
"""


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork')
def test_thread_on_the_poller_of_the_parent_process_is_told_what_to_do():
    done = subprocess.run([sys.executable, '-c', FORK], capture_output=True, text=True, timeout=60)
    assert done.stdout == 'this Poller belongs to the parent process: make a new one\n', done.stderr


@pytest.mark.usefixtures('whole_process')
def test_run_says_how_many_threads_do_not_end(capfd):
    ends = False

    async def stay():
        while not ends:
            with contextlib.suppress(sock.Cancelled):
                await sock.sleep(1)

    async def main():
        sock.newthread(stay)

    with sock.testing.virtual_clock():
        sock.run(main)
        assert capfd.readouterr().err == 'sock.run: 1 threads did not end within 5 s of being cancelled\n'
        ends = True
        assert sock.start()
