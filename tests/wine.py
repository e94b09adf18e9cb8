"""What Wine does otherwise than Windows, and the tests that fail for it.

Each fault is a function that shows it by the standard library alone, with nothing of ours: `python tests/wine.py` calls
them all. On Windows itself none of them shows. `python tests/wine.py LOG` says of a run of pytest which share passed.
"""

import contextlib
import os
import re
import select
import socket
import struct
import sys
import threading
from pathlib import Path

#: Of Winsock; Python does not name all of them.
SO_DONTROUTE, SO_DEBUG, IP_UNICAST_IF, IPV6_PROTECTION_LEVEL = 0x10, 1, 31, 23
WSAEINVAL = 10022

OPTION = 'test_options.py::test_each_option_is_read_and_set_and_read_back'


def connection():
    with socket.create_server(('127.0.0.1', 0)) as listener:
        ours = socket.create_connection(listener.getsockname(), 10)
        return ours, listener.accept()[0]


def loses_what_it_has_queued_of_a_send_when_the_socket_is_read_meanwhile():
    """Each end sends five million bytes and reads as many."""
    ours, theirs = connection()
    ours.setblocking(False)
    theirs.settimeout(10)
    there, back, got = os.urandom(5_000_000), os.urandom(5_000_000), []
    sender = threading.Thread(target=lambda: (theirs.sendall(back), theirs.shutdown(socket.SHUT_WR)))
    receiver = threading.Thread(target=lambda: got.append(b''.join(iter(lambda: theirs.recv(1 << 20), b''))))
    with ours, theirs:
        sender.start()
        receiver.start()
        left, mine, reading = memoryview(there), bytearray(), True
        while left or reading:
            readable, writable, _ = select.select([ours] * reading, [ours] * bool(left), [], 10)
            with contextlib.suppress(BlockingIOError):
                while left and writable:
                    left = left[ours.send(left[:65536]) :]
            if writable and not left:
                ours.shutdown(socket.SHUT_WR)
            with contextlib.suppress(BlockingIOError):
                while reading and readable:
                    mine += (part := ours.recv(65536))
                    reading = bool(part)
        sender.join()
        receiver.join()
    return got != [there] or mine != back


def says_connection_reset_of_a_socket_that_is_not_connected():
    with socket.socket() as s:
        try:
            s.send(b'x')
        except ConnectionResetError:
            return True
        except OSError:
            return False


def tells_nothing_of_icmp():
    """So tests of sockets that are not connected show nothing there; a test in Rust does, `icmp_error_of_an...`."""
    with socket.socket(type=socket.SOCK_DGRAM) as dead:
        dead.bind(('127.0.0.1', 0))
        address = dead.getsockname()
    with socket.socket(type=socket.SOCK_DGRAM) as s:
        s.settimeout(2)
        s.connect(address)
        s.send(b'into the void')
        try:
            s.recv(10)
        except TimeoutError:
            return True
        except ConnectionError:
            return False


def sends_from_a_datagram_socket_that_is_connected_no_more():
    with socket.socket(type=socket.SOCK_DGRAM) as s:
        s.connect(('127.0.0.1', 9))
        s.connect(('0.0.0.0', 0))
        try:
            return s.send(b'x') == 1
        except OSError:
            return False


def has_no_raw_icmpv6():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as s:
            s.settimeout(2)
            s.connect(('::1', 0))
            s.send(struct.pack('!BBHHH', 128, 0, 0, 1, 1))
            while s.recv(1500)[0] != 129:
                pass
            return False
    except OSError:
        return True


def takes_the_interface_of_a_group_by_address_alone():
    """Windows takes an index for an address of 0.0.0.0/8."""
    with socket.socket(type=socket.SOCK_DGRAM) as s:
        try:
            s.setsockopt(
                socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton('239.1.2.3') + struct.pack('!I', 1)
            )
        except OSError:
            return True
        return False


def calls_a_group_that_was_not_joined_an_invalid_argument():
    with socket.socket(type=socket.SOCK_DGRAM) as s:
        try:
            s.setsockopt(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, socket.inet_aton('239.1.2.3') + bytes(4))
        except OSError as error:
            return error.winerror == WSAEINVAL


def reads_the_interface_of_unicasts_in_the_order_of_the_network():
    with socket.socket(type=socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.IPPROTO_IP, IP_UNICAST_IF, socket.htonl(1))
        return s.getsockopt(socket.IPPROTO_IP, IP_UNICAST_IF) != 1


def keeps_not(family, level, option, value):
    with socket.socket(family) as s:
        s.setsockopt(level, option, value)
        return s.getsockopt(level, option) != value


def does_not_keep_so_debug():
    return keeps_not(socket.AF_INET, socket.SOL_SOCKET, SO_DEBUG, 1)


def does_not_keep_so_dontroute():
    return keeps_not(socket.AF_INET, socket.SOL_SOCKET, SO_DONTROUTE, 0)


def does_not_keep_ipv6_protection_level():
    return keeps_not(socket.AF_INET6, socket.IPPROTO_IPV6, IPV6_PROTECTION_LEVEL, 20)


#: By how their names begin. Each of them has to fail.
TESTS = {
    loses_what_it_has_queued_of_a_send_when_the_socket_is_read_meanwhile: (
        'test_tcp.py::test_full_duplex_one_reads_while_another_writes',
        'scenarios/test_moving_bytes.py::test_s22_both_sides_send_until_clogged_and_then_drain',
        'scenarios/test_moving_bytes.py::test_s24_half_close_while_the_other_direction_is_busy',
    ),
    says_connection_reset_of_a_socket_that_is_not_connected: (
        'test_misuse.py::test_send_before_connect_is_not_connected',
        'scenarios/test_waiting_closing_reuse.py::test_s11_hang_up_of_an_unconnected_socket_is_nothing',
    ),
    tells_nothing_of_icmp: (
        'test_operations.py::test_closed_there[udp',
        'scenarios/test_reported_elsewhere.py::test_s66_connected_socket_reports_it_once',
    ),
    sends_from_a_datagram_socket_that_is_connected_no_more: ('test_udp.py::test_connect_again_and_undo_it',),
    has_no_raw_icmpv6: ('test_raw.py::test_ping_ipv6_connected',),
    takes_the_interface_of_a_group_by_address_alone: ('test_options.py::test_multicast_ipv4[index]',),
    calls_a_group_that_was_not_joined_an_invalid_argument: (
        'test_options.py::test_multicast_ipv4[127.0.0.1]',
        'test_options.py::test_multicast_ipv4[None]',
    ),
    reads_the_interface_of_unicasts_in_the_order_of_the_network: (f'{OPTION}[ip_unicast_if]',),
    does_not_keep_so_debug: (f'{OPTION}[so_debug]',),
    does_not_keep_so_dontroute: (f'{OPTION}[so_dontroute]',),
    does_not_keep_ipv6_protection_level: (f'{OPTION}[ipv6_protection_level]',),
}

#: Those that do not show each time: their tests are not even tried.
AT_TIMES = {loses_what_it_has_queued_of_a_send_when_the_socket_is_read_meanwhile}


def says(fault):
    return f'Wine {fault.__name__.replace("_", " ")}'


#: Why a test is skipped that Windows could run, had it the program or the package; all others are of other systems.
LACKING = re.compile(r'(is|are) not installed|^(hypothesis|numpy) is not there$')

#: The share of those that have what they need that has to pass.
ENOUGH = 0.95


def tally(log):
    """What `pytest -ra` printed, as a sentence, and whether enough passed."""
    log = log.rstrip()
    counts = {what: int(n) for n, what in re.findall(r'(\d+) (\w+)', log.rpartition('\n')[2])}
    passed, cannot = counts.get('passed', 0), counts.get('xfailed', 0)
    if not passed:
        return 'pytest did not come to its end', False
    failed = sum(counts.get(what, 0) for what in ('failed', 'error', 'errors', 'xpassed'))
    skips = re.findall(r'^SKIPPED \[(\d+)\] .*?: (.*?)\r?$', log, re.MULTILINE)
    lacking = sum(int(n) for n, why in skips if LACKING.search(why))
    tried = passed + failed + cannot
    return (
        f'{passed} of {tried} pass, {passed / tried:.1%}: {failed} fail, {cannot} cannot under Wine. '
        f'Not run: {lacking} lack a program or package there, which makes it {passed / (tried + lacking):.1%} of '
        f'{tried + lacking} if they count as failed; {counts.get("skipped", 0) - lacking} are of other systems.'
    ), passed >= ENOUGH * tried


def show():
    missing = 0
    for fault in TESTS:
        shown = any(fault() for _ in range(200 if fault in AT_TIMES else 1))
        missing += not shown
        print(f'{says(fault)}: {"shown" if shown else "NOT shown"}')
    return f'{missing} do not show: their tests can run' if missing else 0


if __name__ == '__main__':
    if len(sys.argv) == 1:
        sys.exit(show())
    sentence, enough = tally(Path(sys.argv[1]).read_text(encoding='utf-8', errors='replace'))
    print(sentence)
    sys.exit(not enough)
