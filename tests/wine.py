"""What Wine does otherwise than Windows, and the tests that fail for it.

Each fault is a function that shows it by the standard library alone, with nothing of ours: `python tests/wine.py` calls
them all. On Windows itself none of them shows. `python tests/wine.py LOG` says of a run of pytest which share passed.
"""

import collections
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
SO_DONTROUTE, SO_DEBUG, IP_ADD_SOURCE_MEMBERSHIP, IP_UNICAST_IF, IPV6_PROTECTION_LEVEL = 0x10, 1, 15, 31, 23
WSAEINVAL, WSAECONNRESET = 10022, 10054

MESSAGES = 'test_errors.py::test_messages_say_what_was_tried_on_which_address_and_what_to_do'
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


def takes_the_source_of_a_group_for_the_interface():
    """What comes is not from the source that was asked for, but from the interface's address."""
    group, interface, other = (socket.inet_aton(address) for address in ('239.1.2.4', '127.0.0.1', '127.0.0.9'))
    with socket.socket(type=socket.SOCK_DGRAM) as s, socket.socket(type=socket.SOCK_DGRAM) as sender:
        s.settimeout(2)
        s.bind(('', 0))
        s.setsockopt(socket.IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP, group + other + interface)
        sender.bind(('127.0.0.1', 0))
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
        sender.sendto(b'x', ('239.1.2.4', s.getsockname()[1]))
        try:
            return s.recv(1) == b'x'
        except TimeoutError:
            return False


def calls_a_group_that_was_not_joined_an_invalid_argument():
    with socket.socket(type=socket.SOCK_DGRAM) as s:
        try:
            s.setsockopt(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, socket.inet_aton('239.1.2.3') + bytes(4))
        except OSError as error:
            return error.winerror == WSAEINVAL


def says_of_a_stream_that_was_never_connected_that_it_was_reset():
    with socket.socket() as s:
        try:
            s.send(b'x')
        except OSError as error:
            return error.winerror == WSAECONNRESET


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
    # A test in Rust, `another_source_is_joined_on_the_same_interface`, is ignored for it.
    takes_the_source_of_a_group_for_the_interface: (),
    calls_a_group_that_was_not_joined_an_invalid_argument: (
        'test_options.py::test_multicast_ipv4[127.0.0.1]',
        'test_options.py::test_multicast_ipv4[None]',
        f'{MESSAGES}[leave_a_group_of_others]',
    ),
    says_of_a_stream_that_was_never_connected_that_it_was_reset: (f'{MESSAGES}[send_before_connect]',),
    reads_the_interface_of_unicasts_in_the_order_of_the_network: (f'{OPTION}[ip_unicast_if]',),
    does_not_keep_so_debug: (f'{OPTION}[so_debug]',),
    does_not_keep_so_dontroute: (f'{OPTION}[so_dontroute]',),
    does_not_keep_ipv6_protection_level: (f'{OPTION}[ipv6_protection_level]',),
}

#: Those that do not show each time: their tests are not even tried.
AT_TIMES = {loses_what_it_has_queued_of_a_send_when_the_socket_is_read_meanwhile}


def says(fault):
    return f'Wine {fault.__name__.replace("_", " ")}'


#: Why a test is skipped that Windows could run, had it the program or the package.
LACKING = re.compile(r'(is|are) not installed|^(hypothesis|numpy) is not there$')

#: Why a test is skipped whose subject Windows, or CPython there, does not have at all: these do not count. Each other
#: reason, a new one too, counts as a test that does not pass, such as one whose means alone are Linux'.
OF_OTHER_SYSTEMS = {
    'unix sockets, and sockets that are descriptors': (
        'Windows has no abstract names',
        'Windows has no unix datagrams',
        'abstract names are of Linux',
        'descriptors are no files there',
        'descriptors are not duplicated there',
        'elsewhere a unix datagram waits for no room',
        'nginx has no unix sockets there',
        'os.dup() takes no sockets there',
        'socat has none there',
        'sockets are no descriptors there',
        'the kind is not everywhere',
        'this OS has no unix sockets',
        'this OS sends no descriptors',
        'unix datagrams are not there',
        'unix sockets wait for room in the backlog on Linux',
    ),
    'signals that break off calls, fork, limits, rights': (
        'any user may take any port there',
        'forks, and spreads connections as Linux does',
        'no SIGALRM',
        'no fork',
        'sendfile takes SIGPIPE away where it has to',
        'there is no SIGPIPE',
        'there is no limit of descriptors',
        'there is no setitimer',
    ),
    'files: procfs, pipes': (
        'Windows has no pipes that do not block',
        'Windows lets pipes be sought in',
        'procfs is of Linux',
    ),
    'options, and what a TCP of its own kind does': (
        'Windows has no so_rcvlowat',
        'Winsock has a number for it alone',
        'Winsock has no such number',
        'elsewhere a reset drops what was not read',
        'filters are of Linux',
        'interfaces have no names there',
        'of Linux',
        'of Linux 6.5',
        'of Linux; more groups take rights',
        'only Linux spreads connections',
        'other systems do not balance, which docs/reliability.md says',
        'other systems drop what was not read when a reset comes',
        'other systems refuse a connection to oneself',
        'repair is of Linux, and takes rights',
        'they are of Linux',
        'this system has no such option',
    ),
    'system calls, as strace sees them and makes them fail': ('strace is of Linux',),
    'tools of ours that are of Unix, and are not in the wheel': (
        '.ci/run, and what builds a Python, is of Linux',
        '/proc/stat is of Linux',
        'other systems do not tell a program that its parent has ended',
        'other systems have no names that go with a descriptor',
        'programs are installed by us on Linux alone',
        'the benchmarks are of Unix',
        'the benchmarks set a limit of Unix',
        'valgrind, which counts them, is of Unix',
        'wheels of other systems are built on Unix',
    ),
}
NAMED = frozenset(why for reasons in OF_OTHER_SYSTEMS.values() for why in reasons)

#: The share that has to pass of those that have what they need.
ENOUGH = 0.95

#: The same of all but those of OF_OTHER_SYSTEMS: what is left are tests that nobody has made for Windows. The whole
#: suite has 88 %.
ENOUGH_OF_ALL = 0.85

#: What the tests print of those that pass since Wine refuses what it has to: `conftest.py`.
REFUSALS = 'of those that pass do since Wine refuses the option, as it has to'


def skips(log):
    """How many tests were skipped, by the reason."""
    counts = collections.Counter()
    for n, why in re.findall(r'^SKIPPED \[(\d+)\] .*?: (.*?)\r?$', log, re.MULTILINE):
        counts[why] += int(n)
    return counts


def tally(log):
    """What `pytest -ra` printed, as a sentence, and whether enough passed."""
    log = log.rstrip()
    counts = {what: int(n) for n, what in re.findall(r'(\d+) (\w+)', log.rpartition('\n')[2])}
    passed = counts.get('passed', 0)
    if not passed:
        return 'pytest did not come to its end', False
    # One that fails at its end too is told of twice.
    cannot = counts.get('xfailed', 0) - len(re.findall('^XFAIL at teardown of', log, re.MULTILINE))
    failed = sum(counts.get(what, 0) for what in ('failed', 'error', 'errors', 'xpassed'))
    reasons = skips(log)
    lacking = sum(n for why, n in reasons.items() if LACKING.search(why))
    named = sum(n for why, n in reasons.items() if why in NAMED)
    undone = counts.get('skipped', 0) - lacking - named
    tried = passed + failed + cannot
    whole = tried + lacking + undone
    refusals = re.search(rf'^(\d+) {REFUSALS}', log, re.MULTILINE)
    return (
        f'{passed} of {tried} pass, {passed / tried:.1%}: {failed} fail, {cannot} cannot under Wine. '
        f'Not run: {lacking} lack a program or package there, {undone} are not made for Windows, which makes it '
        f'{passed / whole:.1%} of {whole} if they count as failed; {named} are of other systems by nature. '
        f'{refusals[1] if refusals else "It is not said how many"} {REFUSALS}.'
    ), passed >= ENOUGH * tried and passed >= ENOUGH_OF_ALL * whole


def undone(log):
    """Why tests were skipped that are of Windows too, and lack nothing there; how many."""
    return {why: n for why, n in skips(log).items() if why not in NAMED and not LACKING.search(why)}


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
    text = Path(sys.argv[1]).read_text(encoding='utf-8', errors='replace')
    for why, n in sorted(undone(text).items(), key=lambda each: -each[1]):
        print(f'not made for Windows: {n} ({why})')
    sentence, enough = tally(text)
    print(sentence)
    sys.exit(not enough)
