"""Errors: one name and one class on every OS."""

import copy
import errno
import os
import pickle
import re
import socket
import sys

import pytest
import sock
from sock import _errors

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
    number = getattr(errno, 'WSAEMFILE', errno.EMFILE)
    error = _errors.from_gai(OSError(number, 'words'), 'look up x')
    assert (error.err, error.errno) == ('too_many_open_files', number)
