"""addr, resolve, AddrInfo, SockAddr."""

import copy
import os
import pickle
import socket
import threading

import pytest
import sock
from support import run


@pytest.fixture
def no_look_ups(monkeypatch):
    monkeypatch.setattr(socket, 'getaddrinfo', None)


# Numeric addresses


@pytest.mark.usefixtures('no_look_ups')
@pytest.mark.parametrize(
    ('args', 'text'),
    [
        ((), '0.0.0.0:0'),
        (('*', 80), '0.0.0.0:80'),
        (('*', 80, 'tcp', 'inet6'), '[::]:80'),
        ((False, 80), '127.0.0.1:80'),
        ((False, 80, 'udp', 'inet6'), '[::1]:80'),
        (('192.0.2.7', 65535), '192.0.2.7:65535'),
        (('192.0.2.7', '80'), '192.0.2.7:80'),
        (('2001:db8::7', 80, 'tcp', 'inet6'), '[2001:db8::7]:80'),
        (('2001:DB8:0:0::7', 80, 'tcp', None), '[2001:db8::7]:80'),
        (('::ffff:1.2.3.4', 1, 'raw', 'inet6'), '[::ffff:1.2.3.4]:1'),
        ((b'127.0.0.1', 80), '127.0.0.1:80'),
        (('/tmp/socket', 0, 'tcp', 'unix'), '/tmp/socket'),
    ],
)
def test_numeric_addresses_need_no_look_up(args, text):
    found = sock.addr(*args)
    assert str(found) == found.tostring() == str(found.addr) == text
    assert str(run(sock.resolve(*args))) == text


@pytest.mark.usefixtures('no_look_ups')
@pytest.mark.parametrize(('host', 'texts'), [('*', ['0.0.0.0:5', '[::]:5']), (False, ['127.0.0.1:5', '[::1]:5'])])
def test_any_family_gives_both(host, texts):
    found = sock.addr(host, 5, family=None)
    assert [str(each) for each in found] == texts
    assert found.family is None


def test_addrinfo_iterates_counts_and_tells():
    found = sock.addr('127.0.0.1', 80, 'udp')
    assert len(found) == 1
    assert found.addrs() == list(found) == [found.addr]
    assert (found.type, found.family, found.protocol, found.name) == ('udp', 'inet', 'udp', None)
    assert sock.addr('127.0.0.1', 80, protocol='tcp').protocol == 'tcp'
    assert sock.addr('127.0.0.1', 0, 'raw', protocol='icmp').protocol == 'icmp'
    assert repr(found) == '<sock.AddrInfo udp 127.0.0.1:80>'


def test_addrinfo_next_goes_through_all_and_ends_with_none():
    found = sock.addr('*', 1, family=None)
    assert [found.next(), found.next(), found.next(), found.next()] == [*found, None, None]


def test_addrinfo_free_forgets():
    found = sock.addr('127.0.0.1')
    found.free()
    assert (len(found), found.next(), str(found)) == (0, None, '')
    with pytest.raises(ValueError, match='freed'):
        _ = found.addr


@pytest.mark.usefixtures('no_look_ups')
def test_addrinfo_and_sockaddr_are_passed_through():
    found = sock.addr('127.0.0.1', 80)
    assert sock.addr(found) is found
    assert sock.addr(found, 90) is found
    assert sock.addr(found.addr).addrs() == [found.addr]
    assert run(sock.resolve(found)) is found
    assert sock.addr(found, flags='canonname') is found


# Names


def test_names_are_looked_up():
    found = sock.addr('localhost', 80)
    assert '127.0.0.1:80' in [str(each) for each in found]
    assert [str(each) for each in run(sock.resolve('localhost', 80))] == [str(each) for each in found]


def test_services_are_looked_up():
    try:
        socket.getservbyname('http', 'tcp')
    except OSError:
        pytest.skip('this system knows no services')
    assert sock.addr('127.0.0.1', 'http').addr.port == 80
    assert sock.addr('*', 'http').addr == sock.SockAddr('inet', '0.0.0.0', 80)


def test_unknown_service_is_service_not_found():
    says = r"^service_not_found: look up '127\.0\.0\.1', port 'no-such-service'"
    with pytest.raises(sock.ServiceNotFound, match=says):
        sock.addr('127.0.0.1', 'no-such-service')


def test_unknown_host_is_host_not_found():
    with pytest.raises(sock.HostNotFound, match=r"^host_not_found: look up 'no-such-host\.invalid'"):
        sock.addr('no-such-host.invalid', 80)


@pytest.mark.parametrize('host', ['x' * 300, '..', 'a' * 64 + '.example'])
def test_impossible_host_names_are_host_not_found(host):
    with pytest.raises(sock.HostNotFound):
        sock.addr(host, 80)


def test_numeric_address_of_another_family_says_so():
    with pytest.raises(sock.HostNotFound, match='this is an inet6 address, and inet was asked for'):
        sock.addr('::1', 80)


def test_flags_become_those_of_getaddrinfo(monkeypatch):
    asked = []

    def getaddrinfo(host, port, family, type_, protocol, flags):
        asked.append((host, port, family, type_, protocol, flags))
        return [(socket.AF_INET, type_, protocol, 'canonical.example', ('192.0.2.1', port))]

    monkeypatch.setattr(socket, 'getaddrinfo', getaddrinfo)
    found = sock.addr('name', 80, 'udp', None, 'udp', ['canonname', 'addrconfig'])
    assert found.name == 'canonical.example'
    assert sock.addr('name', 80, flags='cannonname').name == 'canonical.example'
    assert asked == [
        ('name', 80, socket.AF_UNSPEC, socket.SOCK_DGRAM, 17, socket.AI_CANONNAME | socket.AI_ADDRCONFIG),
        ('name', 80, socket.AF_INET, socket.SOCK_STREAM, 0, socket.AI_CANONNAME),
    ]


def test_answers_that_repeat_are_one_address(monkeypatch):
    answer = (socket.AF_INET, socket.SOCK_STREAM, 6, '', ('192.0.2.1', 80))
    other = (socket.AF_INET6, socket.SOCK_STREAM, 6, '', ('fe80::1%lo', 80, 0, 3))
    monkeypatch.setattr(socket, 'getaddrinfo', lambda *args: [answer, other, answer])
    found = sock.addr('name', 80, family=None)
    assert [each.host for each in found] == ['192.0.2.1', 'fe80::1']
    assert found.addrs()[1].scope_id == 3


# resolve and the other threads


def test_resolve_lets_the_others_run_and_a_late_answer_is_dropped(monkeypatch):
    asked, release = threading.Event(), threading.Event()

    def getaddrinfo(*args):
        asked.set()
        release.wait(10)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, '', ('192.0.2.1', 80))]

    monkeypatch.setattr(socket, 'getaddrinfo', getaddrinfo)

    async def impatient():
        with pytest.raises(sock.Timeout, match=r"^timeout: look up 'slow'"):
            await sock.resolve('slow', 80, expires=sock.clock() + 0.02)

    async def cancelled():
        await sock.resolve('slow', 80)

    async def patient():
        return await sock.resolve('slow', 80)

    async def main():
        threads = [sock.newthread(each) for each in (impatient, cancelled, patient)]
        while not asked.is_set():
            await sock.sleep(0.001)
        threads[1].cancel()
        await threads[0]
        with pytest.raises(sock.Cancelled):
            await threads[1]
        assert not threads[2].done
        release.set()
        return await threads[2]

    try:
        assert str(run(main())) == '192.0.2.1:80'
    finally:
        release.set()


def test_error_of_a_look_up_comes_out_of_resolve(monkeypatch):
    def getaddrinfo(*args):
        raise socket.gaierror(socket.EAI_NONAME, 'words')

    monkeypatch.setattr(socket, 'getaddrinfo', getaddrinfo)

    async def main():
        with pytest.raises(sock.HostNotFound, match="look up 'x'"):
            await sock.resolve('x')

    run(main())


# Wrong arguments


@pytest.mark.parametrize(
    ('args', 'error', 'says'),
    [
        (('', 80), ValueError, 'must not be empty'),
        (('a\0b', 80), ValueError, 'NUL'),
        ((b'\xff', 80), ValueError, 'must be ASCII'),
        ((True, 80), TypeError, 'host must be a name'),
        ((None, 80), TypeError, 'host must be a name'),
        ((5, 80), TypeError, 'host must be a name'),
        ((5, 0, 'tcp', 'unix'), TypeError, 'its path'),
        (('*', -1), ValueError, 'port must be 0 to 65535, not -1'),
        (('*', 65536), ValueError, 'port must be 0 to 65535, not 65536'),
        (('*', '65536'), ValueError, 'port must be 0 to 65535'),
        (('*', 1.5), TypeError, 'port must be an int or a service name, not float'),
        (('*', True), TypeError, 'port must be an int'),
        (('*', None), TypeError, 'port must be an int'),
        (('*', ''), ValueError, 'service name'),
        (('*', 80, 'tpc'), ValueError, "did you mean 'tcp'"),
        (('*', 80, None), TypeError, 'socket_type must be a str'),
        (('*', 80, 'tcp', 'inet4'), ValueError, "did you mean 'inet'"),
        (('*', 80, 'tcp', 4), TypeError, 'family must be a str'),
        (('*', 80, 'tcp', 'inet', 'tpc'), ValueError, "did you mean 'tcp'"),
        (('*', 80, 'tcp', 'inet', 1.5), TypeError, 'protocol must be a str'),
        (('*', 80, 'tcp', 'inet', 256), ValueError, 'protocol must be 0 to 255'),
        (('*', 80, 'tcp', 'inet', None, 'passiv'), ValueError, "did you mean 'passive'"),
        (('*', 80, 'tcp', 'inet', None, ['all', 'non']), ValueError, 'flags must be one of'),
        (('*', 80, 'tcp', 'inet', None, 7), TypeError, 'flags must be a name or several'),
    ],
)
def test_wrong_arguments(args, error, says):
    with pytest.raises(error, match=says):
        sock.addr(*args)

    async def main():
        with pytest.raises(error, match=says):
            await sock.resolve(*args)

    run(main())


# SockAddr


def test_sockaddr_of_each_family():
    v4 = sock.SockAddr('inet', '192.0.2.1', 80)
    assert (v4.family, v4.host, v4.port, v4.path, v4.flowinfo, v4.scope_id) == ('inet', '192.0.2.1', 80, None, 0, 0)
    assert (str(v4), v4.tobinary(), tuple(v4)) == ('192.0.2.1:80', b'\xc0\x00\x02\x01', ('192.0.2.1', 80))
    v6 = sock.SockAddr('inet6', 'fe80::1', 80, 7, 3)
    assert (v6.family, v6.host, v6.port, v6.path, v6.flowinfo, v6.scope_id) == ('inet6', 'fe80::1', 80, None, 7, 3)
    assert v6.tobinary() == socket.inet_pton(socket.AF_INET6, 'fe80::1')
    assert str(sock.SockAddr('inet6', '::1', 80)) == '[::1]:80'
    unix = sock.SockAddr('unix', '/tmp/x')
    assert (unix.family, unix.host, unix.path, str(unix)) == ('unix', None, '/tmp/x', '/tmp/x')
    assert unix.tobinary() == b'/tmp/x'
    host, port = unix
    assert (host, port) == ('/tmp/x', 0)
    assert repr(v4) == '<sock.SockAddr 192.0.2.1:80>'


@pytest.mark.skipif(os.name == 'nt', reason='Windows has no abstract names')
def test_sockaddr_with_an_abstract_name():
    name = sock.SockAddr('unix', '\0name')
    assert name.path == '\0name'
    assert name.tobinary() == b'\0name'


def test_sockaddrs_compare_hash_and_sort():
    a, b = sock.SockAddr('inet', '192.0.2.1', 80), sock.SockAddr('inet', '192.0.2.1', 81)
    assert a == sock.SockAddr('inet', '192.0.2.1', 80) != b
    assert len({a, b, sock.SockAddr('inet', '192.0.2.1', 80)}) == 2
    assert sorted([b, a]) == [a, b]
    assert a != '192.0.2.1:80'
    with pytest.raises(TypeError):
        _ = a < 5


def test_sockaddr_is_immutable():
    with pytest.raises(AttributeError):
        sock.SockAddr('inet', '192.0.2.1', 80).port = 5


@pytest.mark.parametrize('duplicate', [copy.copy, copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
@pytest.mark.parametrize(
    'args', [('inet', '1.2.3.4', 5), ('inet6', 'fe80::1', 5, 6, 7), ('unix', '/x'), ('unix', '\0x')]
)
def test_sockaddr_copies(args, duplicate):
    address = sock.SockAddr(*args)
    assert duplicate(address) == address
    assert duplicate(address).scope_id == address.scope_id


@pytest.mark.parametrize(
    ('args', 'error'),
    [
        (('inet', 'localhost', 80), ValueError),
        (('inet', '::1', 80), ValueError),
        (('inet4', '1.2.3.4', 80), ValueError),
        (('inet', 5, 80), TypeError),
        (('inet', '1.2.3.4', -1), ValueError),
        (('inet', '1.2.3.4', 65536), ValueError),
        (('inet', '1.2.3.4', 2**80), ValueError),
        (('inet', '1.2.3.4', '80'), TypeError),
    ],
)
def test_sockaddr_of_wrong_arguments(args, error):
    with pytest.raises(error):
        sock.SockAddr(*args)
