"""Errors: one name and one class on every OS."""

import contextlib
import copy
import errno
import os
import pickle
import re
import socket
import sys
import threading

import pytest
import sock
import sock.testing
from sock import _errors
from support import LINUX, run

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
    ('too_many_open_files', (23, 24), (23, 24), (4, 24, 10024)),
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


def test_from_os_says_what_was_tried_and_what_the_system_says():
    error = _errors.from_os(errno.ECONNREFUSED, 'connect tcp 127.0.0.1:1', 1, 2, b'x')
    assert type(error) is sock.ConnectionRefused
    assert error.errno == errno.ECONNREFUSED
    assert error.strerror == os.strerror(errno.ECONNREFUSED)
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


async def wait_too_long_for_an_event(stack):
    await sock.Event().wait(sock.clock() + 0.01)


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


async def set_an_option_of_another_system(stack):
    unknown = next(name for name in sock._sock.option_names() if name not in sock.options())
    stack.enter_context(sock.tcp()).setopt(unknown, 1)


async def accept_without_listening(stack):
    s = stack.enter_context(sock.tcp())
    s.bind('127.0.0.1')
    await s.accept()


async def look_up_a_name(stack):
    sock.addr('no-such-host', flags='numerichost')


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


async def connect_to_no_path(stack):
    await stack.enter_context(sock.tcp('unix')).connect('/no/such/path')


def system(symbol):
    """What a system says that no test can make it say everywhere."""

    async def provoke(stack):
        raise _errors.from_os(getattr(errno, symbol), 'connect tcp 127.0.0.1:1')

    provoke.__name__ = symbol
    return provoke


def line(function, below):
    return function.__code__.co_firstlineno + below


MESSAGES = [
    (broadcast, r'access_denied: send udp 255\.255\.255\.255:9: .* \(EACCES\): it needs rights'),
    (bind_twice, rf'address_already_in_use: bind udp {PORT}: .* \(EADDRINUSE\): .* port 0 takes any free port'),
    (bind_elsewhere, r'address_not_available: bind tcp 192\.0\.2\.1:0: .* \(EADDRNOTAVAIL\): this host has no such'),
    (connect_to_nobody, rf'connection_refused: connect tcp {PORT}: .* \(ECONNREFUSED\): nobody listens there'),
    (be_reset, rf'connection_reset: recv tcp {PORT}: .* \(ECONNRESET\): .*: connect anew'),
    (system('ECONNABORTED'), r'connection_aborted: connect tcp 127\.0\.0\.1:1: .* \(ECONNABORTED\): .*: connect anew'),
    (send_after_shutdown, rf'broken_pipe: send tcp {PORT}: .* \(EPIPE\): this end was shut down, or the peer'),
    (system('ETIMEDOUT'), r'timeout: connect tcp 127\.0\.0\.1:1: .* \(ETIMEDOUT\): the peer does not answer'),
    (
        wait_too_long_to_receive,
        rf'timeout: recvn tcp {PORT}: not done after 0\.0\d\d s, 3 of 10 bytes received; the socket is closed',
    ),
    (
        wait_too_long_to_send,
        rf'timeout: send tcp {PORT}: not done after 0\.\d+ s, [1-9]\d+ of 50000000 bytes sent; the socket is closed',
    ),
    (wait_too_long_to_accept, rf'timeout: accept tcp {PORT}: not done after 0\.0\d\d s; the socket is closed'),
    (wait_too_long_for_an_event, r'timeout: wait for an event: not done after 0\.0\d\d s'),
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
        rf'invalid_argument: accept tcp {PORT}: .* \(EINVAL\): .* not in this state of the socket',
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
]


@pytest.mark.skipif(not LINUX, reason="these are Linux' words")
@pytest.mark.parametrize(('provoke', 'says'), MESSAGES, ids=[each.__name__ for each, _ in MESSAGES])
@pytest.mark.usefixtures('whole_process')
def test_messages_say_what_was_tried_on_which_address_and_what_to_do(provoke, says):
    async def main():
        with contextlib.ExitStack() as stack, pytest.raises(sock.Error) as caught:
            await provoke(stack)
        return caught.value

    error = run(main)
    assert re.match(says, str(error)), str(error)
    assert str(error).startswith(error.err + ': ')


def test_a_message_of_every_error_is_read():
    assert {says.partition(':')[0] for _, says in MESSAGES} == set(_errors._CLASSES)
