"""setopt and getopt, by the names of the OS."""

import contextlib
import errno
import gzip
import os
import platform
import re
import socket
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import sock
from scenarios.faults import command, namespace
from support import REFUSED_BY_WINE, ROOT, WINE, run

#: The kernel's version; () elsewhere.
LINUX = tuple(int(part) for part in re.findall(r'\d+', platform.release())[:2]) if sys.platform == 'linux' else ()

#: Where this test has run. What other systems refuse, or do not give back as it was set, nobody has seen yet.
SEEN = bool(LINUX) or WINE

#: The name of the loopback interface, and its index. Windows takes no names.
LOOPBACK = {'linux': 'lo', 'win32': None}.get(sys.platform, 'lo0')
LOOPBACK_INDEX = socket.if_nametoindex(LOOPBACK) if LOOPBACK else 1

#: What the manuals of all the systems have without a condition: it is refused nowhere, and read back as it was set.
EVERYWHERE = {
    'so_broadcast',
    'so_keepalive',
    'so_linger',
    'so_oobinline',
    'so_reuseaddr',
    'ip_add_membership',
    'ip_add_source_membership',
    'ip_block_source',
    'ip_drop_membership',
    'ip_drop_source_membership',
    'ip_multicast_if',
    'ip_multicast_loop',
    'ip_multicast_ttl',
    'ip_ttl',
    'ip_unblock_source',
    'ipv6_multicast_hops',
    'ipv6_multicast_if',
    'ipv6_multicast_loop',
    'ipv6_unicast_hops',
    'ipv6_v6only',
    'tcp_nodelay',
}

#: Which socket an option is tried on, where its name alone does not say so.
SOCKETS = {
    'so_passcred': 'unix',
    'so_passsec': 'unix',
    'so_peercred': 'unix',
    'so_peergroups': 'unix',
    'so_original_dst': 'connected',
    'so_passpidfd': 'unix',
    'so_peername': 'connected',
    'so_peerpidfd': 'unix',
    'ip6t_so_original_dst': 'connected6',
    'ip_mtu': 'connected udp',
    'ip_hdrincl': 'raw',
    'ip_nodefrag': 'raw',
    'ip_protocol': 'raw',
    'ip_router_alert': 'raw',
    'ipv6_mtu': 'connected udp6',
    'ipv6_checksum': 'raw6',
    'ipv6_hdrincl': 'raw6',
    'ipv6_router_alert': 'raw6',
    'so_attach_filter': 'udp',  # on TCP it takes rights
    'so_detach_bpf': 'udp',
    'so_detach_filter': 'udp',
    'so_no_check': 'udp',
    'tcp_cc_info': 'connected',
    'tcp_info': 'connected',
    'tcp_repair_options': 'connected',
    'tcp_repair_window': 'connected',
    'tcp_ulp': 'connected',
}

GROUP = ('239.1.2.5', '127.0.0.1')
GROUP6 = ('ff01::125', LOOPBACK_INDEX)
SOURCE = ('239.1.2.5', '127.0.0.1', '127.0.0.1')
RETURN_0 = struct.pack('=HBBI', 6, 0, 0, 0)
#: Address, flags, length of its prefix, length of the key, interface, key.
MD5SIG = struct.pack('=HH4s120xBBHi80s', socket.AF_INET, 0, b'\x7f\0\0\1', 0, 0, 3, 0, b'key')
MD5SIG_EXT = struct.pack('=HH4s120xBBHi80s', socket.AF_INET, 0, b'\x7f\0\0\1', 1, 32, 3, 0, b'key')

#: The value to set; without one: the opposite of a bool, one more than an int, what was read of a str or bytes.
VALUES = {
    'so_attach_filter': RETURN_0,
    'so_attach_reuseport_cbpf': RETURN_0,
    'so_bindtodevice': 'lo',
    'so_bindtoifindex': 1,
    'so_incoming_cpu': 0,
    'so_linger': 3,
    'so_max_pacing_rate': 1 << 20,
    'so_rcvlowat': 7,
    'so_reserve_mem': 1 << 20,
    'so_timestamping': 1 << 4,
    'so_txrehash': 0,
    'so_update_accept_context': bytes(struct.calcsize('P')),  # no listener
    'so_txtime': struct.pack('=iI', 1, 0),
    'ip_local_port_range': 50000 << 16 | 40000,
    'ip_mtu_discover': 2,
    'ip_multicast_if': '127.0.0.1',
    'ip_options': b'\x01' * 4,
    'ip_tos': 0x10,
    'ip_unicast_if': 1,
    'ipv6_addr_preferences': 0x401,
    'ipv6_checksum': 2,
    'ipv6_join_group': ('ff01::124', LOOPBACK or LOOPBACK_INDEX),
    'ipv6_mtu': 1300,
    'ipv6_mtu_discover': 2,
    'ipv6_multicast_if': LOOPBACK_INDEX,
    'ipv6_router_alert': 5,
    'ipv6_unicast_if': 1,
    'tcp_congestion': 'reno' if LINUX else 'newreno',
    'tcp_defer_accept': 15.0,  # a sum of retransmissions: 1 + 2 + 4 + 8
    'tcp_delack_max_us': 0.1,
    'tcp_fastopen_key': bytes(range(16)),
    'tcp_maxseg': 500,
    'tcp_md5sig': MD5SIG,
    'tcp_md5sig_ext': MD5SIG_EXT,
    'tcp_repair_options': struct.pack('=II', 2, 1000),  # the segment size
    'tcp_rto_max_ms': 60.0,
    'tcp_rto_min_us': 0.1,
    'tcp_syncnt': 3,
    'tcp_timestamp': 1 << 20,
    'tcp_ulp': 'tls',
    'tcp_user_timeout': 12.5,
    'tcp_window_clamp': 4096,
    'udp_encap': 3,  # L2TP
    'udp_segment': 1200,
}

#: What is set before.
BEFORE = {
    'so_attach_reuseport_cbpf': [('so_reuseport', True)],
    'so_detach_bpf': [('so_attach_filter', RETURN_0)],
    'so_detach_filter': [('so_attach_filter', RETURN_0)],
    'so_detach_reuseport_bpf': [('so_reuseport', True), ('so_attach_reuseport_cbpf', RETURN_0)],
    'ip_block_source': [('ip_add_membership', GROUP)],
    'ip_drop_membership': [('ip_add_membership', GROUP)],
    'ip_drop_source_membership': [('ip_add_source_membership', SOURCE)],
    'ip_unblock_source': [('ip_add_membership', GROUP), ('ip_block_source', SOURCE)],
    'ipv6_drop_membership': [('ipv6_add_membership', GROUP6)],
    'ipv6_leave_group': [('ipv6_join_group', GROUP6)],
    'tcp_queue_seq': [('tcp_repair', 1), ('tcp_repair_queue', 1)],
    'tcp_repair_options': [('tcp_repair', 1)],
    'tcp_repair_queue': [('tcp_repair', 1)],
    'tcp_repair_window': [('tcp_repair', 1)],
    'tcp_timestamp': [('tcp_repair', 1)],
}

#: Of Linux, what is not read back as it was set, and why.
OTHERWISE = {
    'so_rcvbuf': lambda value, got: got == 2 * value,  # half of it is for the kernel's own use
    'so_sndbuf': lambda value, got: got == 2 * value,
    'so_bsdcompat': lambda value, got: got is False,  # obsolete, and ignored
    'tcp_thin_dupack': lambda value, got: got is False,  # ignored since Linux 4.14
    'tcp_timestamp': lambda value, got: value <= got < value + 60_000,  # a clock of milliseconds
    'ipv6_mtu': lambda value, got: got == 65536,  # that of the path
}
if LINUX and LINUX < (5, 19):
    OTHERWISE['tcp_maxseg'] = lambda value, got: got == 536  # until it connects

#: Of Linux, what is refused, as the stdlib names the error's number, and why.
REFUSED = {
    'so_attach_bpf': 'EINVAL',  # descriptor 1 is no program
    'so_attach_reuseport_ebpf': 'EINVAL',
    'so_peersec': 'ENOPROTOOPT',  # nobody is connected who could have a label
    'ipv6_join_anycast': 'EINVAL',  # a group is no anycast address
    'ipv6_leave_anycast': 'ENOENT',  # not joined
}

SETGID, NET_ADMIN, NET_RAW = 6, 12, 13

#: Of Linux: the capabilities (capabilities(7)), one of which it takes, the error without, and until when, if not still.
RIGHTS = {
    'ip_transparent': ([NET_ADMIN, NET_RAW], 'EPERM', None),
    'ipv6_join_anycast': ([NET_ADMIN], 'EPERM', None),
    'ipv6_transparent': ([NET_ADMIN, NET_RAW], 'EPERM', None),
    'so_bindtodevice': ([NET_RAW], 'EPERM', (5, 7)),
    'so_busy_poll': ([NET_ADMIN], 'EPERM', (6, 18)),
    'so_busy_poll_budget': ([NET_ADMIN], 'EPERM', None),
    'so_debug': ([NET_ADMIN], 'EACCES', None),
    'so_mark': ([NET_ADMIN, NET_RAW] if LINUX >= (5, 17) else [NET_ADMIN], 'EPERM', None),
    'so_prefer_busy_poll': ([NET_ADMIN], 'EPERM', None),
    'so_rcvmark': ([NET_ADMIN, NET_RAW], 'EPERM', (6, 18)),
    'so_rcvbufforce': ([NET_ADMIN], 'EPERM', None),
    'so_sndbufforce': ([NET_ADMIN], 'EPERM', None),
    'tcp_queue_seq': ([NET_ADMIN], 'EPERM', None),
    'tcp_repair': ([NET_ADMIN], 'EPERM', None),
    'tcp_repair_options': ([NET_ADMIN], 'EPERM', None),
    'tcp_repair_queue': ([NET_ADMIN], 'EPERM', None),
    'tcp_repair_window': ([NET_ADMIN], 'EPERM', None),
    'tcp_timestamp': ([NET_ADMIN], 'EPERM', None),
}

#: Of Linux: what the kernel is built with for it, and the error without.
BUILT = {
    'so_busy_poll': ('NET_RX_BUSY_POLL', 'ENOPROTOOPT'),
    'so_busy_poll_budget': ('NET_RX_BUSY_POLL', 'ENOPROTOOPT'),
    'so_prefer_busy_poll': ('NET_RX_BUSY_POLL', 'ENOPROTOOPT'),
    'tcp_md5sig': ('TCP_MD5SIG', 'ENOPROTOOPT'),
    'tcp_md5sig_ext': ('TCP_MD5SIG', 'ENOPROTOOPT'),
    'tcp_ulp': ('TLS', 'ENOENT'),
}

#: Of Linux, what depends on the host: the errors with which it may be refused.
PERHAPS = {
    'so_original_dst': {'ENOENT', 'ENOPROTOOPT'},  # where connections are tracked it is told, of all or of some
    'ip6t_so_original_dst': {'ENOENT', 'ENOPROTOOPT'},
    'so_reserve_mem': {'EOPNOTSUPP'},  # without a memory cgroup
}

#: The first Linux that has it. ENOPROTOOPT before, but for what a distribution has taken over.
SINCE = {
    'ip_local_port_range': (6, 3),
    'ip_protocol': (6, 4),
    'ip_recverr_rfc4884': (5, 9),
    'ipv6_freebind': (4, 15),
    'ipv6_multicast_all': (4, 20),
    'ipv6_recverr_rfc4884': (5, 9),
    'so_bindtoifindex': (5, 1),
    'so_buf_lock': (5, 15),
    'so_busy_poll_budget': (5, 11),
    'so_detach_reuseport_bpf': (5, 3),
    'so_netns_cookie': (5, 14),
    'so_passpidfd': (6, 5),
    'so_peerpidfd': (6, 5),
    'so_prefer_busy_poll': (5, 11),
    'so_rcvmark': (5, 19),
    'so_reserve_mem': (5, 16),
    'so_txrehash': (5, 18),
    'tcp_delack_max_us': (6, 15),
    'tcp_is_mptcp': (6, 11),
    'tcp_rto_max_ms': (6, 15),
    'tcp_rto_min_us': (6, 15),
    'tcp_tx_delay': (5, 3),
}

#: What Wine's Winsock does not have.
WINE_LACKS = set(
    """
    ip_mtu ip_mtu_discover ip_original_arrival_if ip_receive_broadcast ip_recvdstaddr ip_recvecn ip_recverr
    ip_recvif ip_user_mtu ipv6_mtu ipv6_mtu_discover ipv6_recvdstaddr ipv6_recvecn ipv6_recverr ipv6_recvif
    ipv6_checksum ipv6_hdrincl
    ipv6_recvrthdr ipv6_tclass ipv6_unicast_if ipv6_user_mtu so_compartment_id so_conditional_accept so_maxdg
    so_maxpathdg so_pause_accept so_port_scalability so_randomize_port so_rcvlowat so_reuse_multicastport
    so_reuse_unicastport so_sndlowat so_useloopback tcp_atmark tcp_bsdurgent tcp_congestion_algorithm
    tcp_delay_fin_ack tcp_expedited_1122 tcp_fail_connect_on_icmp_error tcp_fastopen tcp_icmp_error_info tcp_maxrt
    ip6t_so_original_dst so_original_dst
    tcp_maxrtms tcp_maxseg tcp_nosynretries tcp_stdurg tcp_timestamps udp_checksum_coverage udp_nochecksum
    udp_recv_max_coalesced_size udp_send_msg_size
    """.split()  # noqa: SIM905
)

TYPES = {
    'bool': bool,
    'int': int,
    'float': float,
    'float or none': (float, type(None)),
    'linger': (int, type(None)),
    'str': str,
    'bytes': bytes,
    'credentials': tuple,
    'ints': list,
    'descriptor': int,
    'address': (sock.SockAddr, type(None)),
    'interface': (int, str),
}


@pytest.fixture
def tcp():
    with sock.tcp() as s:
        yield s


@contextlib.contextmanager
def socket_for(name):
    kind = SOCKETS.get(name)
    if kind is None:
        prefix = name.partition('_')[0]
        kind = {'so': 'tcp', 'tcp': 'tcp', 'ip': 'udp', 'ipv6': 'udp6', 'udp': 'udp'}[prefix]
    if kind.startswith('raw') and not (may([NET_RAW]) if LINUX else ROOT):
        pytest.skip('raw sockets need rights')
    family = 'inet6' if kind.endswith('6') else 'inet'
    with contextlib.ExitStack() as stack:
        if kind == 'unix':
            ours, theirs = socket.socketpair()
            stack.enter_context(theirs)
            yield stack.enter_context(sock.fromsocket(ours))
        elif kind in ('connected', 'connected6'):
            family = socket.AF_INET6 if kind == 'connected6' else socket.AF_INET
            host = '::1' if kind == 'connected6' else '127.0.0.1'
            listener = stack.enter_context(socket.create_server((host, 0), family=family))
            yield stack.enter_context(sock.fromsocket(socket.create_connection(listener.getsockname()[:2])))
        elif kind.startswith('connected udp'):
            s = stack.enter_context(sock.udp(family))
            run(lambda: s.connect(False, 9))
            yield s
        elif kind.startswith('raw'):
            yield stack.enter_context(sock.raw(family, 'icmp' if name.startswith('ip_') else 'raw'))
        elif kind.startswith('udp'):
            yield stack.enter_context(sock.udp(family))
        else:
            yield stack.enter_context(sock.tcp())


async def send(s, data, host, port):
    return await s.send(data, None, host, port)


def receive(s):
    async def main():
        return await s.recv(100, expires=sock.clock() + 10)

    return run(main)


def built_with(name):
    """Whether this kernel is; None if it does not tell."""
    for place, opened in ((f'/boot/config-{platform.release()}', open), ('/proc/config.gz', gzip.open)):
        with contextlib.suppress(OSError), opened(place, 'rt') as config:
            return re.search(f'^CONFIG_{name}=', config.read(), re.MULTILINE) is not None
    return None


def may(capabilities):
    status = Path('/proc/self/status').read_text()
    effective = int(re.search(r'^CapEff:\s*(\w+)', status, re.MULTILINE)[1], 16)
    return any(effective >> capability & 1 for capability in capabilities)


def refusal(name):
    """The errors' names with which an option may be refused here, and whether it must be; None: any error."""
    if WINE:
        return ({'WSAENOPROTOOPT', 'WSAEINVAL'}, True) if name in WINE_LACKS else (set(), False)
    if not LINUX:
        return set() if name in EVERYWHERE else None, False
    if SINCE.get(name, ()) > LINUX:
        return {'ENOPROTOOPT'}, False
    if name in BUILT:
        config, error = BUILT[name]
        built = built_with(config)
        if not built:
            return {error}, built is not None
    capabilities, error, until = RIGHTS.get(name, ((), None, ()))
    if error and not may(capabilities) and (until is None or until > LINUX):
        return {error}, until is None
    if name in REFUSED:
        return {REFUSED[name]}, True
    return PERHAPS.get(name, set()), False


def test_options_tells_type_and_what_may_be_done():
    options = sock.options()
    assert options['tcp_nodelay'] == ('bool', True, True)
    assert options['so_error'] == ('int', True, False)
    assert options['so_linger'] == ('linger', True, True)
    assert options['ip_add_membership'] == ('membership', False, True)
    if LINUX:
        assert options['tcp_info'] == ('bytes', True, False)
        assert options['so_sndlowat'] == ('int', True, False)
        assert len(options) > 150


def value_for(name, kind, before):
    if name in VALUES:
        return VALUES[name]
    if kind == 'membership':
        return GROUP6 if name.startswith('ipv6') else GROUP
    values = {
        'bool': not before,
        'int': (before or 0) + 1 if isinstance(before, (int, type(None))) else None,
        'float': 12.0,
        'float or none': 12.0,
        'str': before,
        'bytes': before,
        'none': None,
        'source membership': SOURCE,
    }
    return values[kind]


def walk(s, name):
    """Reads an option, sets it and reads it back."""
    kind, readable, writable = sock.options()[name]
    for earlier, value in BEFORE.get(name, ()):
        s.setopt(earlier, value)
    before = None
    if readable:
        before = s.getopt(name)
        assert isinstance(before, TYPES[kind]), before
        if kind == 'descriptor':
            os.close(before)
    if not writable:
        return
    value = value_for(name, kind, before)
    s.setopt(name, value)
    if not readable:
        return
    got = s.getopt(name)
    assert isinstance(got, TYPES[kind]), got
    if LINUX and name in OTHERWISE:
        assert OTHERWISE[name](value, got), (value, got)
        assert got != value or name == 'tcp_timestamp', 'it needs no entry in OTHERWISE'
    elif SEEN or name in EVERYWHERE:
        assert got == value
        assert got != before or name in VALUES or kind in ('str', 'bytes')


@pytest.mark.parametrize('name', sorted(sock.options()))
def test_each_option_is_read_and_set_and_read_back(name, record_property):
    _, readable, writable = sock.options()[name]
    expected, must = refusal(name)
    with socket_for(name) as s:
        if not readable:
            with pytest.raises(ValueError, match=f'{name} can only be set'):
                s.getopt(name)
        if not writable:
            with pytest.raises(ValueError, match=f'{name} can only be read'):
                s.setopt(name, 1)
        try:
            walk(s, name)
        except sock.Error as error:
            if expected is not None and error.errno not in {getattr(errno, symbol) for symbol in expected}:
                raise
            if WINE:
                record_property(*REFUSED_BY_WINE)
        else:
            assert not must, f'it is not refused with {expected}'


def test_tables_of_the_walk_name_options_and_no_more_than_they_need():
    known = set(sock._sock.option_names())
    for table in (SOCKETS, VALUES, BEFORE, OTHERWISE, REFUSED, RIGHTS, BUILT, PERHAPS, SINCE, WINE_LACKS, EVERYWHERE):
        assert set(table) <= known
    if LINUX:
        there = set(sock.options())
        assert there >= EVERYWHERE
        for table in (OTHERWISE, REFUSED, RIGHTS, BUILT, PERHAPS, SINCE):
            assert set(table) <= there


@pytest.mark.skipif(not LINUX, reason='the constants of the stdlib are compared on Linux')
def test_values_are_those_that_the_stdlib_reads():
    levels = {
        'so': socket.SOL_SOCKET,
        'tcp': socket.IPPROTO_TCP,
        'ip': socket.IPPROTO_IP,
        'ipv6': socket.IPPROTO_IPV6,
        'udp': socket.IPPROTO_UDP,
    }
    compared = 0
    for name, (kind, readable, _) in sock.options().items():
        number = getattr(socket, name.upper(), None)
        if kind not in ('bool', 'int') or not readable or number is None or name in ('so_error', 'so_cookie'):
            continue
        with socket_for(name) as s, socket.socket(fileno=os.dup(s.fileno())) as twin:
            try:
                expected = twin.getsockopt(levels[name.partition('_')[0]], number)
            except OSError:
                with pytest.raises(sock.Error):
                    s.getopt(name)
                continue
            got = s.getopt(name)
            if name == 'so_max_pacing_rate':
                continue
            assert got == (bool(expected) if kind == 'bool' else expected), name
            compared += 1
    assert compared > 30


@pytest.mark.skipif(not LINUX, reason='filters are of Linux')
def test_filter_is_read_as_it_was_attached():
    program = struct.pack('=HBBI', 0x28, 0, 0, 0) + struct.pack('=HBBI', 6, 0, 0, 0)
    with sock.udp() as s:
        s.bind('127.0.0.1')
        assert s.getopt('so_get_filter') == b''
        s.setopt('so_attach_filter', program)
        assert s.getopt('so_get_filter') == program
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.sendto(b'dropped', tuple(s.local_addr))
            s.setopt('so_detach_filter', None)
            other.sendto(b'passes', tuple(s.local_addr))
        assert receive(s) == b'passes'
        with pytest.raises(sock.InvalidArgument):
            s.setopt('so_attach_filter', b'odd')
        with pytest.raises(TypeError, match='so_attach_filter takes bytes'):
            s.setopt('so_attach_filter', 'text')


@pytest.mark.skipif(not LINUX, reason='of Linux')
def test_credentials_and_address_of_the_peer():
    with socket_for('so_peercred') as s:
        assert s.getopt('so_peercred') == (os.getpid(), os.getuid(), os.getgid())
    with socket_for('so_peername') as s:
        assert s.getopt('so_peername') == s.remote_addr


@pytest.mark.skipif(SINCE['so_peerpidfd'] > LINUX, reason='of Linux 6.5')
def test_descriptor_of_the_peers_process():
    with socket_for('so_peerpidfd') as s:
        descriptor = s.getopt('so_peerpidfd')
        try:
            assert f'\nPid:\t{os.getpid()}\n' in Path(f'/proc/self/fdinfo/{descriptor}').read_text()
            assert not os.get_inheritable(descriptor)
        finally:
            os.close(descriptor)


@pytest.mark.parametrize('interface', ['127.0.0.1', 'index', 'name', None])
def test_multicast_ipv4(interface):
    if interface == 'name' and not LOOPBACK:
        pytest.skip('interfaces have no names there')
    interface = {'index': LOOPBACK_INDEX, 'name': LOOPBACK}.get(interface, interface)
    group = '239.7.7.7'
    with sock.udp() as s, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        s.setopt('so_reuseaddr', True)
        s.bind('*')
        try:
            s.setopt('ip_add_membership', (group, interface))
        except sock.Error:
            if interface is not None:
                raise
            # A host without a route for multicasts has no interface to choose.
            pytest.skip('no route for multicasts here')
        s.setopt('ip_multicast_if', interface if interface else '0.0.0.0')
        if interface is None:
            # Which one the system has chosen, only the system knows: it has one.
            s.setopt('ip_drop_membership', (group, interface))
            with pytest.raises(sock.AddressNotAvailable):
                s.setopt('ip_drop_membership', (group, interface))
            return
        other.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton('127.0.0.1'))
        other.sendto(b'to the group', (group, s.local_addr.port))
        assert receive(s) == b'to the group'
        with sock.udp() as sender:
            sender.setopt('ip_multicast_if', interface)
            sender.setopt('ip_multicast_ttl', 1)
            run(send(sender, b'again', group, s.local_addr.port))
        assert receive(s) == b'again'
        s.setopt('ip_drop_membership', (group, interface))
        with pytest.raises(sock.AddressNotAvailable):
            s.setopt('ip_drop_membership', (group, interface))


@pytest.mark.skipif(not LINUX, reason='the name of the loopback interface')
@pytest.mark.parametrize('interface', ['127.0.0.1', 'lo', 1])
def test_multicast_of_a_source(interface):
    group, source = '239.7.7.8', '127.0.0.1'
    with sock.udp() as s, sock.udp() as sender, sock.udp() as other:
        s.bind('*')
        s.setopt('ip_multicast_all', False)
        s.setopt('ip_add_source_membership', (group, interface, source))
        sender.bind(source)
        other.bind('127.0.0.2')
        for each in (sender, other):
            each.setopt('ip_multicast_if', 'lo')

        def what_comes():
            """Of what both send to the group, before what is sent to the socket itself."""
            for each, host in ((other, group), (sender, group), (sender, '127.0.0.1')):
                run(send(each, f'{each.local_addr.host} to {host}'.encode(), host, s.local_addr.port))
            came = []
            while not came or not came[-1].endswith(b'to 127.0.0.1'):
                came.append(receive(s))
            return [data.split()[0] for data in came[:-1]]

        assert what_comes() == [b'127.0.0.1']
        s.setopt('ip_drop_source_membership', (group, interface, source))
        assert what_comes() == []
        s.setopt('ip_add_membership', (group, interface))
        assert what_comes() == [b'127.0.0.2', b'127.0.0.1']
        s.setopt('ip_block_source', (group, interface, source))
        assert what_comes() == [b'127.0.0.2']
        s.setopt('ip_unblock_source', (group, interface, source))
        assert what_comes() == [b'127.0.0.2', b'127.0.0.1']
        with pytest.raises(ValueError, match="no interface 'no-such-if'"):
            s.setopt('ip_block_source', (group, 'no-such-if', source))


@pytest.fixture
def link():
    """The name of an interface with IPv6 that has multicasts, which a loopback may not have."""
    with namespace():
        command('ip', 'link', 'add', 'link0', 'type', 'veth', 'peer', 'name', 'link1')
        command('ip', '-6', 'addr', 'add', 'fd00::1/64', 'dev', 'link0', 'nodad')
        for end in ('link0', 'link1'):
            command('ip', 'link', 'set', end, 'up')
        # The system makes its route a moment later.
        while 'multicast ff00::/8 dev link0' not in command('ip', '-6', 'route', 'show', 'table', 'local'):
            pass
        yield 'link0'


@pytest.mark.parametrize('given', ['name', 'index'])
def test_multicast_ipv6(link, given):
    index = socket.if_nametoindex(link)
    interface = {'name': link, 'index': index}[given]
    group = 'ff15::7:7'
    with sock.udp('inet6') as s, sock.udp('inet6') as sender:
        s.bind('::')
        s.setopt('ipv6_join_group', (group, interface))
        sender.setopt('ipv6_multicast_if', interface)
        sender.setopt('ipv6_multicast_hops', 1)

        def to_group(data):
            return run(send(sender, data, group, s.local_addr.port))

        assert to_group(b'to the group') == len(b'to the group')
        assert receive(s) == b'to the group'
        sender.setopt('ipv6_multicast_loop', False)
        to_group(b'for others alone')
        sender.setopt('ipv6_multicast_loop', True)
        to_group(b'again')
        assert receive(s) == b'again'
        s.setopt('ipv6_leave_group', (group, interface))
        to_group(b'for members alone')
        s.setopt('ipv6_join_group', (group, interface))
        to_group(b'at last')
        assert receive(s) == b'at last'
        s.setopt('ipv6_leave_group', (group, interface))
        with pytest.raises(sock.AddressNotAvailable):
            s.setopt('ipv6_leave_group', (group, interface))


@pytest.mark.parametrize(
    ('name', 'value', 'error', 'says'),
    [
        ('ip_add_membership', '239.1.1.1', TypeError, 'a tuple of a group'),
        ('ip_add_membership', ('239.1.1.1',), ValueError, 'a tuple of a group'),
        ('ip_add_membership', ('nowhere', None), ValueError, 'a tuple of a group'),
        ('ip_add_membership', (5, None), TypeError, 'a tuple of a group'),
        ('ip_add_membership', ('239.1.1.1', 'no-such-if'), ValueError, "no interface 'no-such-if'"),
        ('ip_add_membership', ('239.1.1.1', 1.5), TypeError, 'its index or None'),
        ('ip_multicast_if', 'no-such-if', ValueError, 'no interface'),
        ('ip_ttl', 2**31, ValueError, 'ip_ttl takes -'),
    ],
)
def test_wrong_values_of_datagram_options(name, value, error, says):
    with sock.udp() as s, pytest.raises(error, match=says):
        s.setopt(name, value)


@pytest.mark.skipif(not LINUX, reason='they are of Linux')
@pytest.mark.parametrize(
    ('name', 'value', 'error', 'says'),
    [
        ('so_max_pacing_rate', -1, ValueError, '64 bits'),
        ('so_max_pacing_rate', 'x', TypeError, 'an int'),
        ('tcp_congestion', 5, TypeError, 'a str'),
        ('tcp_congestion', 'no-such', sock.Error, 'setopt tcp_congestion of tcp'),
        ('tcp_fastopen_key', 'x', TypeError, 'bytes'),
        ('tcp_fastopen_key', [1, 2], TypeError, 'bytes'),
        ('tcp_user_timeout', float('nan'), ValueError, 'seconds from 0'),
        ('tcp_user_timeout', 1e9, ValueError, 'fewer seconds'),
        ('tcp_linger2', -1, ValueError, 'seconds from 0'),
        ('tcp_linger2', True, TypeError, 'seconds or None, not bool'),
        ('so_detach_filter', 1, TypeError, 'so_detach_filter takes None, not int'),
        ('so_detach_bpf', False, TypeError, 'so_detach_bpf takes None, not bool'),
        ('so_rcvtimeo', -0.5, ValueError, 'seconds from 0'),
    ],
)
def test_wrong_values_of_options_of_linux(tcp, name, value, error, says):
    with pytest.raises(error, match=says):
        tcp.setopt(name, value)


def test_times_are_rounded_up_to_what_the_system_counts(tcp):
    tcp.setopt('tcp_keepidle', 1.2)
    assert tcp.getopt('tcp_keepidle') == 2.0
    tcp.setopt('so_rcvtimeo', 0.25)
    assert tcp.getopt('so_rcvtimeo') == pytest.approx(0.25, abs=0.011)


@pytest.mark.skipif(not LINUX, reason='of Linux')
@pytest.mark.parametrize(
    ('name', 'value', 'got'),
    [
        ('tcp_user_timeout', 16.1, 16.1),
        ('tcp_user_timeout', 16.1001, 16.101),
        ('tcp_tx_delay', 0.000_009, 0.000_009),
        ('tcp_tx_delay', 1.000_000_5, 1.000_001),
    ],
)
def test_times_that_were_read_can_be_set_again(tcp, name, value, got):
    tcp.setopt(name, value)
    assert tcp.getopt(name) == got
    tcp.setopt(name, got)
    assert tcp.getopt(name) == got


@pytest.mark.skipif(not LINUX or not may([SETGID]), reason='of Linux; more groups take rights')
def test_peergroups_are_as_many_as_there_are():
    program = """
        import os, socket, sock
        # musl sets 32 at most.
        groups = list(range(1, min(5000, os.sysconf('SC_NGROUPS_MAX')) + 1))
        os.setgroups(groups)
        ours, theirs = socket.socketpair()
        with sock.fromsocket(ours) as s, theirs:
            assert s.getopt('so_peergroups') == groups
    """
    subprocess.run([sys.executable, '-c', textwrap.dedent(program)], check=True, timeout=30)


@pytest.mark.skipif(sys.platform == 'win32', reason='Winsock has a number for it alone')
def test_low_water_mark_does_not_hang_a_reader(peer):
    conn, other = peer

    async def main():
        conn.setopt('so_rcvlowat', 4)
        other.sendall(b'12345678')
        got = b''
        while len(got) < 8:
            got += await conn.recv(3, expires=sock.clock() + 10)
        assert got == b'12345678'

    run(main)


def test_page_of_options_is_up_to_date():
    root = Path(__file__).parent.parent
    made = subprocess.run(
        [sys.executable, root / 'docs' / 'make_options.py'], capture_output=True, text=True, check=True, timeout=30
    )
    assert made.stdout == (root / 'docs' / 'options.md').read_text()


def test_linger_is_seconds_or_none(tcp):
    assert tcp.getopt('so_linger') is None
    for value in (0, 5, None):
        tcp.setopt('so_linger', value)
        assert tcp.getopt('so_linger') == value


@pytest.mark.skipif(not LINUX, reason='of Linux')
def test_linger2_is_seconds_or_none(tcp):
    usual = tcp.getopt('tcp_linger2')
    for value in (5.0, None, 0):
        tcp.setopt('tcp_linger2', value)
        assert tcp.getopt('tcp_linger2') == (usual if value == 0 else value)


@pytest.mark.skipif(not LINUX or not may([NET_ADMIN]), reason='repair is of Linux, and takes rights')
def test_repair_window_is_read_and_set():
    with socket_for('tcp_info') as s:
        with pytest.raises(sock.AccessDenied):
            s.getopt('tcp_repair_window')
        s.setopt('tcp_repair', 1)
        window = s.getopt('tcp_repair_window')
        assert len(window) == 20
        s.setopt('tcp_repair_window', window)
        assert s.getopt('tcp_repair_window') == window
        s.setopt('tcp_repair', -1)


def test_what_is_set_is_what_the_system_has(tcp):
    tcp.setopt('so_keepalive', True)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, fileno=socket.dup(tcp.fileno())) as twin:
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
        ('so_rcvbuf', True, TypeError, 'so_rcvbuf takes an int, not bool'),
        ('so_rcvbuf', -1, ValueError, 'so_rcvbuf takes 0 to'),
        ('so_rcvbuf', 2**40, ValueError, 'so_rcvbuf takes 0 to'),
        ('so_linger', 'x', TypeError, 'so_linger takes seconds or None'),
        ('so_linger', True, TypeError, 'so_linger takes seconds or None, not bool'),
        ('so_linger', False, TypeError, 'so_linger takes seconds or None, not bool'),
        ('tcp_keepidle', True, TypeError, 'tcp_keepidle takes seconds, not bool'),
        ('so_linger', -1, ValueError, 'so_linger takes seconds from 0'),
        ('tcp_keepidle', None, TypeError, 'tcp_keepidle takes seconds'),
        ('so_error', 1, ValueError, 'so_error can only be read'),
    ],
)
def test_wrong_values(tcp, name, value, error, says):
    with pytest.raises(error, match=says):
        tcp.setopt(name, value)


@pytest.mark.parametrize(
    ('name', 'wanted'),
    [
        ('ip_add_membership', "a tuple of a group's address and an interface"),
        ('ip_add_source_membership', "a tuple of a group's address, an interface and a source's address"),
    ],
)
def test_group_without_its_interface_is_told_what_it_takes(udp, name, wanted):
    with pytest.raises(TypeError, match=f'^{name} takes {wanted}, not str$'):
        udp.setopt(name, '239.1.2.3')


@pytest.mark.parametrize(('name', 'near'), [('tcp_nodelai', 'tcp_nodelay'), ('so_keepaliv', 'so_keepalive')])
def test_unknown_names_are_value_errors_with_near_misses(tcp, name, near):
    for call in (lambda: tcp.getopt(name), lambda: tcp.setopt(name, 1)):
        with pytest.raises(ValueError, match=f'unknown option {name!r}; did you mean .*{near}'):
            call()


def test_unknown_name_with_nothing_near(tcp):
    with pytest.raises(ValueError, match=r"^unknown option 'zzz'; sock\.options\(\) lists what there is$"):
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


@pytest.mark.skipif(not LINUX, reason='of Linux')
def test_option_that_the_kernel_does_not_have_is_not_supported():
    """As that of a younger one: the kernel says the same of both."""
    with (
        sock.udp('inet6') as s,
        pytest.raises(sock.NotSupported, match='this kernel, or this kind of socket, does not'),
    ):
        s.setopt('ipv6_router_alert', 5)


#: What the table has to have at least: the names without their prefix, as the systems' manuals have them.
NAMED = {
    # socket(7) and its header
    ('linux', 'so'): """
        debug reuseaddr type error dontroute broadcast sndbuf rcvbuf sndbufforce rcvbufforce keepalive oobinline
        no_check priority linger bsdcompat reuseport passcred peercred rcvlowat sndlowat rcvtimeo sndtimeo bindtodevice
        attach_filter detach_filter get_filter peername timestamp acceptconn peersec passsec timestampns mark
        timestamping protocol domain rxq_ovfl wifi_status peek_off nofcs lock_filter select_err_queue busy_poll
        max_pacing_rate bpf_extensions incoming_cpu attach_bpf detach_bpf attach_reuseport_cbpf attach_reuseport_ebpf
        cnx_advice meminfo incoming_napi_id cookie peergroups zerocopy""",
    # tcp(7)
    ('linux', 'tcp'): """
        congestion cork defer_accept fastopen info keepcnt keepidle keepintvl linger2 maxseg nodelay quickack syncnt
        user_timeout window_clamp""",
    # ip(7); the list of sources of ip_msfilter is set one by one
    ('linux', 'ip'): """
        add_membership add_source_membership bind_address_no_port block_source drop_membership drop_source_membership
        freebind hdrincl local_port_range minttl mtu mtu_discover multicast_all multicast_if multicast_loop
        multicast_ttl nodefrag options passsec pktinfo recverr recvopts recvorigdstaddr recvtos recvttl retopts
        router_alert tos transparent ttl unblock_source""",
    # ipv6(7) and RFC 3493
    ('linux', 'ipv6'): """
        add_membership drop_membership join_group leave_group mtu mtu_discover multicast_hops multicast_if
        multicast_loop recverr recvhoplimit recvpktinfo recvtclass router_alert tclass unicast_hops v6only""",
    # udp(7) and its header
    ('linux', 'udp'): 'cork encap gro no_check6_rx no_check6_tx segment',
    # getsockopt(2) and its header
    ('macos', 'so'): """
        acceptconn broadcast debug dontroute donttrunc error keepalive linger linger_sec noaddrerr nosigpipe
        notifyconflict nread nwrite oobinline randomport rcvbuf rcvlowat rcvtimeo reuseaddr reuseport reuseshareuid
        sndbuf sndlowat sndtimeo timestamp timestamp_monotonic type useloopback wantmore wantoobflag""",
    # tcp(4) and its header
    ('macos', 'tcp'): """
        connection_info connectiontimeout enable_ecn fastopen keepalive keepcnt keepintvl maxseg nodelay noopt nopush
        notsent_lowat rxt_conndroptime rxt_findrop sendmoreacks""",
    # ip(4) and its header
    ('macos', 'ip'): """
        add_membership add_source_membership block_source bound_if dontfrag drop_membership drop_source_membership
        hdrincl multicast_if multicast_loop multicast_ttl options pktinfo recvdstaddr recvif recvopts recvtos recvttl
        retopts tos ttl unblock_source""",
    # ip6(4)
    ('macos', 'ipv6'): """
        bound_if checksum dontfrag join_group leave_group multicast_hops multicast_if multicast_loop recvhoplimit
        recvpktinfo recvtclass tclass unicast_hops v6only""",
    ('macos', 'udp'): 'nocksum',
    # getsockopt(2)
    ('freebsd', 'so'): """
        acceptconn broadcast debug domain dontroute error keepalive linger listenincqlen listenqlen listenqlimit
        no_ddp no_offload nosigpipe oobinline protocol rcvbuf rcvlowat rcvtimeo reuseaddr reuseport reuseport_lb setfib
        sndbuf sndlowat sndtimeo timestamp ts_clock type user_cookie""",
    # tcp(4)
    ('freebsd', 'tcp'): """
        congestion fastopen info keepcnt keepidle keepinit keepintvl maxseg maxunacktime md5sig nodelay noopt nopush
        remote_udp_encaps_port""",
    # ip(4)
    ('freebsd', 'ip'): """
        add_membership add_source_membership bindany bindmulti block_source dontfrag drop_membership
        drop_source_membership hdrincl minttl multicast_if multicast_loop multicast_ttl options recvdstaddr recvif
        recvorigdstaddr recvtos recvttl rss_listen_bucket tos ttl unblock_source""",
    # ip6(4)
    ('freebsd', 'ipv6'): """
        bindany checksum dontfrag join_group leave_group multicast_hops multicast_if multicast_loop recvhoplimit
        recvpktinfo recvtclass tclass unicast_hops v6only""",
    ('freebsd', 'udp'): 'encap',
    # The pages of SOL_SOCKET, IPPROTO_TCP, IPPROTO_IP, IPPROTO_IPV6 and IPPROTO_UDP
    ('windows', 'so'): """
        acceptconn broadcast bsp_state conditional_accept connect_time dontlinger dontroute error exclusiveaddruse
        keepalive linger max_msg_size maxdg maxpathdg oobinline pause_accept port_scalability protocol_info
        randomize_port rcvbuf rcvlowat rcvtimeo reuse_unicastport reuseaddr sndbuf sndlowat sndtimeo type
        update_accept_context update_connect_context useloopback""",
    ('windows', 'tcp'): """
        bsdurgent expedited_1122 fail_connect_on_icmp_error fastopen icmp_error_info keepalive keepcnt keepidle
        keepintvl maxrt maxrtms maxseg nodelay stdurg timestamps""",
    ('windows', 'ip'): """
        add_membership add_source_membership block_source dontfragment drop_membership drop_source_membership hdrincl
        mtu mtu_discover multicast_if multicast_loop multicast_ttl options original_arrival_if pktinfo
        receive_broadcast recvecn recvif recvtos recvttl tos ttl unblock_source unicast_if user_mtu""",
    ('windows', 'ipv6'): """
        add_membership checksum drop_membership hdrincl join_group leave_group mtu mtu_discover multicast_hops
        multicast_if multicast_loop protection_level recvecn recvhoplimit recvif recvpktinfo recvtclass unicast_hops
        unicast_if user_mtu v6only""",
    ('windows', 'udp'): 'checksum_coverage nochecksum recv_max_coalesced_size send_msg_size',
}


#: What the methods of socket2 0.6 set and get, by the systems' names.
SOCKET2 = {
    'linux': """
        so_acceptconn so_attach_filter so_bindtodevice so_bindtoifindex so_broadcast so_busy_poll so_cookie
        so_detach_filter so_domain so_error so_incoming_cpu so_keepalive so_linger so_mark so_oobinline
        so_original_dst so_passcred so_priority so_protocol so_rcvbuf so_rcvtimeo so_reuseaddr so_reuseport so_sndbuf
        so_sndtimeo so_type
        ip_add_membership ip_add_source_membership ip_drop_membership ip_drop_source_membership ip_freebind ip_hdrincl
        ip_multicast_all ip_multicast_if ip_multicast_loop ip_multicast_ttl ip_recvtos ip_tos ip_transparent ip_ttl
        ipv6_freebind ipv6_hdrincl ipv6_join_group ipv6_leave_group ipv6_multicast_all ipv6_multicast_hops
        ipv6_multicast_if ipv6_multicast_loop ipv6_recvhoplimit ipv6_recvtclass ipv6_tclass ipv6_transparent
        ipv6_unicast_hops ipv6_v6only ip6t_so_original_dst
        tcp_congestion tcp_cork tcp_keepcnt tcp_keepidle tcp_keepintvl tcp_maxseg tcp_nodelay tcp_notsent_lowat
        tcp_quickack tcp_thin_linear_timeouts tcp_user_timeout""",
    'macos': """
        so_acceptconn so_broadcast so_error so_keepalive so_linger so_nosigpipe so_oobinline so_rcvbuf so_rcvtimeo
        so_reuseaddr so_reuseport so_sndbuf so_sndtimeo so_type
        ip_add_membership ip_add_source_membership ip_bound_if ip_drop_membership ip_drop_source_membership ip_hdrincl
        ip_multicast_if ip_multicast_loop ip_multicast_ttl ip_recvtos ip_tos ip_ttl
        ipv6_bound_if ipv6_join_group ipv6_leave_group ipv6_multicast_hops ipv6_multicast_if ipv6_multicast_loop
        ipv6_recvhoplimit ipv6_recvtclass ipv6_tclass ipv6_unicast_hops ipv6_v6only
        tcp_keepalive tcp_keepcnt tcp_keepintvl tcp_maxseg tcp_nodelay tcp_notsent_lowat""",
    'freebsd': """
        so_acceptconn so_broadcast so_domain so_error so_keepalive so_linger so_nosigpipe so_oobinline so_protocol
        so_rcvbuf so_rcvtimeo so_reuseaddr so_reuseport so_reuseport_lb so_setfib so_sndbuf so_sndtimeo so_type
        ip_add_membership ip_add_source_membership ip_drop_membership ip_drop_source_membership ip_hdrincl
        ip_multicast_if ip_multicast_loop ip_multicast_ttl ip_recvtos ip_tos ip_ttl
        ipv6_join_group ipv6_leave_group ipv6_multicast_hops ipv6_multicast_if ipv6_multicast_loop ipv6_recvhoplimit
        ipv6_recvtclass ipv6_tclass ipv6_unicast_hops ipv6_v6only
        tcp_congestion tcp_keepcnt tcp_keepidle tcp_keepintvl tcp_maxseg tcp_nodelay""",
    'windows': """
        so_acceptconn so_broadcast so_error so_keepalive so_linger so_oobinline so_original_dst so_rcvbuf so_rcvtimeo
        so_reuseaddr so_sndbuf so_sndtimeo so_type ip6t_so_original_dst
        ip_add_membership ip_add_source_membership ip_drop_membership ip_drop_source_membership ip_hdrincl
        ip_multicast_if ip_multicast_loop ip_multicast_ttl ip_recvtos ip_tos ip_ttl
        ipv6_add_membership ipv6_drop_membership ipv6_hdrincl ipv6_multicast_hops ipv6_multicast_if ipv6_multicast_loop
        ipv6_recvhoplimit ipv6_recvtclass ipv6_unicast_hops ipv6_v6only
        tcp_keepcnt tcp_keepidle tcp_keepintvl tcp_maxseg tcp_nodelay""",
}


def names_of(system):
    return {name for name, _, _, _, systems in sock._sock.option_rows() if system in systems}


@pytest.mark.parametrize('system', SOCKET2)
def test_table_has_each_option_of_socket2(system):
    assert set(SOCKET2[system].split()) - names_of(system) == set()


@pytest.mark.parametrize(('system', 'prefix'), NAMED)
def test_table_has_each_option_that_it_has_to_have(system, prefix):
    assert {f'{prefix}_{name}' for name in NAMED[system, prefix].split()} - names_of(system) == set()


def test_each_system_and_each_kind_of_option_has_its_list():
    rows = sock._sock.option_rows()
    assert set(NAMED) == {(system, name.partition('_')[0]) for name, *_, systems in rows for system in systems} - {
        ('linux', 'ip6t'),
        ('windows', 'ip6t'),
    }
