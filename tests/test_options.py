"""setopt and getopt, by the names of the OS."""

import os
import socket

import pytest
import sock

#: Another value than the one it has at first.
OTHER = {
    'ip_ttl': 77,
    'ipv6_unicast_hops': 77,
    'so_linger': 3,
    'tcp_keepidle': 99,
    'tcp_maxseg': 1000,
    'tcp_user_timeout': 12.5,
}


TYPES = {'bool': (bool,), 'int': (int,), 'float': (float,), 'linger': (int, type(None))}


@pytest.fixture
def tcp():
    with sock.tcp() as s:
        yield s


def test_options_tells_type_and_what_may_be_done():
    options = sock.options()
    assert options['tcp_nodelay'] == ('bool', True, True)
    assert options['so_error'] == ('int', True, False)
    assert options['so_linger'] == ('linger', True, True)
    assert {kind for kind, _, _ in options.values()} <= {'bool', 'int', 'float', 'linger'}


@pytest.mark.parametrize('name', sorted(sock.options()))
def test_each_option_is_read_and_set_and_read_back(name):
    kind, readable, writable = sock.options()[name]
    with sock.tcp('inet6' if name.startswith('ipv6_') else 'inet') as s:
        if readable:
            before = s.getopt(name)
            assert (
                type(before) in {'bool': (bool,), 'int': (int,), 'float': (float,), 'linger': (int, type(None))}[kind]
            )
        if not writable:
            with pytest.raises(ValueError, match=f'{name} can only be read'):
                s.setopt(name, 1)
            return
        if name in ('so_rcvbuf', 'so_sndbuf'):
            # The system may round up: Linux doubles.
            s.setopt(name, 50_000)
            assert 50_000 <= s.getopt(name) <= 200_000
            return
        if name == 'tcp_quickack':
            # Of the next segments only: there is nothing to read back.
            s.setopt(name, False)
            return
        other = OTHER.get(name, not before)
        assert other != before
        s.setopt(name, other)
        if name != 'tcp_maxseg':
            assert s.getopt(name) == other


def test_linger_is_seconds_or_none(tcp):
    assert tcp.getopt('so_linger') is None
    for value in (0, 5, None):
        tcp.setopt('so_linger', value)
        assert tcp.getopt('so_linger') == value


def test_what_is_set_is_what_the_system_has(tcp):
    tcp.setopt('so_keepalive', True)
    with socket.socket(fileno=os.dup(tcp.fileno())) as twin:
        assert twin.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0
        assert twin.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


@pytest.mark.parametrize('value', [True, False, 0, 1])
def test_bool_takes_bools_and_0_and_1(tcp, value):
    tcp.setopt('tcp_nodelay', value)
    assert tcp.getopt('tcp_nodelay') is bool(value)


@pytest.mark.parametrize(
    ('name', 'value', 'error', 'says'),
    [
        ('tcp_nodelay', 2, TypeError, 'tcp_nodelay takes True or False'),
        ('tcp_nodelay', 'on', TypeError, 'tcp_nodelay takes True or False, not str'),
        ('so_rcvbuf', 1.5, TypeError, 'so_rcvbuf takes an int, not float'),
        ('so_rcvbuf', -1, ValueError, 'so_rcvbuf takes 0 to'),
        ('so_rcvbuf', 2**40, ValueError, 'so_rcvbuf takes 0 to'),
        ('so_linger', 'x', TypeError, 'so_linger takes seconds'),
        ('so_linger', -1, ValueError, 'so_linger takes seconds from 0'),
        ('tcp_keepidle', None, TypeError, 'tcp_keepidle takes seconds'),
        ('so_error', 1, ValueError, 'so_error can only be read'),
    ],
)
def test_wrong_values(tcp, name, value, error, says):
    with pytest.raises(error, match=says):
        tcp.setopt(name, value)


@pytest.mark.parametrize(('name', 'near'), [('tcp_nodelai', 'tcp_nodelay'), ('so_keepaliv', 'so_keepalive')])
def test_unknown_names_are_value_errors_with_near_misses(tcp, name, near):
    for call in (lambda: tcp.getopt(name), lambda: tcp.setopt(name, 1)):
        with pytest.raises(ValueError, match=f'unknown option {name!r}; did you mean .*{near}'):
            call()


def test_unknown_name_with_nothing_near(tcp):
    with pytest.raises(ValueError, match=r'sock\.options\(\) lists'):
        tcp.getopt('zzz')


@pytest.mark.parametrize('name', [5, None, b'tcp_nodelay'])
def test_name_of_a_wrong_type_is_a_type_error(tcp, name):
    with pytest.raises(TypeError):
        tcp.getopt(name)
    with pytest.raises(TypeError):
        tcp.setopt(name, 1)


def test_option_of_another_os_is_not_supported(tcp):
    elsewhere = 'so_exclusiveaddruse' if os.name != 'nt' else 'so_reuseport'
    for call in (lambda: tcp.getopt(elsewhere), lambda: tcp.setopt(elsewhere, True)):
        with pytest.raises(sock.NotSupported, match=elsewhere):
            call()


def test_option_that_the_kind_of_socket_does_not_have_is_an_error_of_the_os(tcp):
    with pytest.raises(sock.Error, match='getopt ipv6_v6only of tcp'):
        tcp.getopt('ipv6_v6only')
