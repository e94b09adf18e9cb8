"""What holds for all addresses, option values, deadlines, buffers and datagrams, and for all orders of operations.

The examples are hypothesis'; `make fuzz` runs the state machine of `fuzz.py` for a million steps.
"""

import array
import contextlib
import ctypes
import ipaddress
import math
import mmap
import os
import pickle
import socket

import pytest
import sock
from support import LINUX, UNIX_DATAGRAMS_WAIT, run, unread

try:
    import fuzz
    from hypothesis import given
    from hypothesis import strategies as st
    from hypothesis.stateful import run_state_machine_as_test
except ImportError:
    pytest.skip('hypothesis is not there', allow_module_level=True)

few, some = fuzz.settings(25), fuzz.settings(100)
PORTS = st.integers(0, 65535)
#: What addresses are made of, and what only looks so: other digits, a letter in full width.
TEXT = st.text('0123456789abcdefx:./[]%_ \0\u0663\uff11\uff41', max_size=24)
pairs = pytest.mark.skipif(not hasattr(socket, 'AF_UNIX'), reason='wants pairs of unix sockets')


@pairs
def test_any_order_of_operations_moves_each_byte_once_and_leaves_nobody_waiting():
    before = fuzz.Pair.steps
    run_state_machine_as_test(fuzz.Pair, settings=fuzz.settings(40))
    assert fuzz.Pair.steps - before > 500


@pairs
def test_step_that_finds_nothing_to_do_is_not_counted():
    pair = fuzz.Pair()
    pair.choose(tcp=False, life=100)
    pair.look()
    counts = []
    for step in (
        lambda: pair.poll(),
        lambda: pair.recvall(0, 10, False),
        lambda: pair.shutdown(0, 'w'),
        lambda: pair.close(0),
        lambda: pair.expire(0, True, 10, ''),
        lambda: pair.recv(0, 10, False, 'bytes'),
    ):
        before = fuzz.Pair.steps
        step()
        pair.look()
        counts.append(fuzz.Pair.steps - before)
    assert counts == [1, 0, 0, 0, 0, 1]
    assert not pair.ends[0].closed
    pair.teardown()


# Addresses


@some
@given(st.ip_addresses(), PORTS)
def test_numeric_addresses_agree_with_the_standard_library(ip, port):
    for text in (str(ip), ip.exploded, str(ip).upper()):
        address = sock.SockAddr.parse(text, port)
        assert ipaddress.ip_address(address.host) == ip
        assert (address.tobinary(), address.port, tuple(address)) == (ip.packed, port, (address.host, port))
    assert address.family == ('inet' if ip.version == 4 else 'inet6')
    host, _, number = str(address).rpartition(':')
    assert sock.SockAddr.parse(host.strip('[]'), int(number)) == address
    assert pickle.loads(pickle.dumps(address)) == address


@some
@given(st.lists(st.tuples(st.ip_addresses(v=4), PORTS), min_size=2, max_size=2))
def test_addresses_are_equal_hashed_and_ordered_as_their_parts(parts):
    one, other = (sock.SockAddr.parse(str(ip), port) for ip, port in parts)
    assert (one == other, one < other, one >= other) == (
        parts[0] == parts[1],
        parts[0] < parts[1],
        parts[0] >= parts[1],
    )
    assert one != other or hash(one) == hash(other)


@some
@given(TEXT, PORTS)
def test_text_is_an_address_just_where_the_standard_library_says_so(text, port):
    parsed = sock.SockAddr.parse(text, port)
    if '%' in text:
        return  # the standard library takes any scope, we only those that are
    try:
        expected = ipaddress.ip_address(text)
    except ValueError:
        assert parsed is None
    else:
        assert parsed.tobinary() == expected.packed


@some
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), PORTS)
def test_scope_and_flow_of_an_address_come_back(flow, scope, port):
    address = sock.SockAddr('inet6', 'fe80::1', port, flow, scope)
    assert (address.flowinfo, address.scope_id) == (flow, scope)
    assert sock.SockAddr.parse(f'fe80::1%{scope}', port).scope_id == scope
    assert pickle.loads(pickle.dumps(address)) == address


@pytest.mark.skipif(not hasattr(socket, 'AF_UNIX'), reason='this OS has no unix sockets')
@few
@given(st.binary(min_size=1, max_size=130))
def test_name_of_a_unix_socket_comes_back_or_is_refused(name):
    address = sock.SockAddr('unix', name)
    assert (address.tobinary(), os.fsencode(address.path)) == (name, name)
    assert pickle.loads(pickle.dumps(address)) == address
    if not LINUX:
        return
    # An abstract one, which leaves no file.
    abstract = sock.SockAddr('unix', b'\0' + name)
    with sock.udp('unix') as bound:
        if len(name) > 107:
            with pytest.raises((sock.Error, ValueError)):
                bound.bind(abstract)
        else:
            with contextlib.suppress(sock.AddressAlreadyInUse):
                bound.bind(abstract)
                assert bound.local_addr == abstract


# Options

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-1, 2**31),
    st.floats(),
    st.binary(max_size=300),
    TEXT,
    st.tuples(TEXT, st.integers(-1, 5)),
    st.builds(str, st.ip_addresses()),
)


@some
@given(st.sampled_from(sorted(sock.options())), VALUES, st.sampled_from(['tcp', 'udp']))
def test_any_value_of_any_option_is_taken_or_refused_in_words(name, value, kind):
    with getattr(sock, kind)('inet6') as s:
        for call in (lambda: s.setopt(name, value), lambda: s.getopt(name)):
            refusal = None
            try:
                call()
            except (sock.Error, TypeError, ValueError) as error:
                refusal = str(error)
            assert refusal is None or name in refusal


# Deadlines


@some
@given(st.one_of(st.floats(), st.integers(-(2**70), 2**70), st.booleans(), st.fractions(), TEXT))
def test_any_deadline_lets_what_can_be_done_at_once_be_done_or_is_refused(deadline):
    here, there = socket.socketpair()
    with there, sock.fromsocket(here) as conn:
        there.send(b'1')

        async def main():
            got = await conn.recv(1, expires=deadline)
            if deadline > sock.clock():
                return got
            with pytest.raises(sock.Timeout):
                await conn.recv(1, expires=deadline)
            assert conn.closed
            return got

        try:
            valid = not math.isnan(float(deadline))
        except (ValueError, OverflowError):
            valid = False
        if valid and not isinstance(deadline, str):
            assert run(main()) == b'1'
        else:
            with pytest.raises((TypeError, ValueError)):
                conn.recv(1, expires=deadline)


#: On the poller's clock, in nanoseconds: no deadline.
NEVER = 2**64 - 1


def steps(t, count):
    """So many floats further."""
    for _ in range(abs(count)):
        t = math.nextafter(t, math.copysign(math.inf, count))
    return t


@some
@given(
    st.one_of(
        st.floats(0, 2e10),
        # A nanosecond around 2**52, where a float begins to miss halves of them, and beyond, to the end of the clock.
        st.builds(lambda ns, count: steps(ns / 1e9, count), st.integers(2**50, NEVER), st.integers(-3, 3)),
        st.builds(
            lambda power, more, count: steps((2**power + more) / 1e9, count),
            st.integers(51, 64),
            st.integers(-5000, 5000),
            st.integers(-3, 3),
        ),
    )
)
def test_any_time_is_one_of_the_clock_not_before_it_hardly_after_it_and_in_order(t):
    def until(t):
        return sock._sock.Turns(sock.poller(), t).until

    times = []
    for _ in range(50):
        times.append(until(t))
        if times[-1] == NEVER:
            assert t >= steps(2**64 / 1e9, -4)
        else:
            # What `clock()` says then, and said before that.
            assert times[-1] / 1e9 >= t
            before = times[-1] - 2 - (times[-1] >> 50)
            assert before < 0 or before / 1e9 < t
        t = steps(t, 1)
    assert times == sorted(times)


# Buffers


def mapped(data):
    memory = mmap.mmap(-1, max(len(data), 1))
    memory[: len(data)] = data
    return memoryview(memory)[: len(data)]


#: Writable memory of all kinds, from bytes that it begins with.
MEMORY = {
    'bytearray': bytearray,
    'array': lambda data: array.array('B', data),
    'ctypes': lambda data: (ctypes.c_char * len(data)).from_buffer(bytearray(data)),
    'mmap': mapped,
    'words': lambda data: memoryview(bytearray(data + bytes(-len(data) % 4))).cast('I'),
    'rows': lambda data: memoryview(bytearray(data + bytes(4 - len(data) % 4))).cast('B', (len(data) // 4 + 1, 4)),
}


def octets(buf):
    return memoryview(buf).cast('B').tobytes() if memoryview(buf).nbytes else b''


@some
@given(
    st.sampled_from(sorted(MEMORY)),
    st.integers(1, 9000),
    st.one_of(st.none(), st.integers(-2, 9999), st.integers()),
    st.integers(0, 9000),
)
def test_no_byte_is_written_beyond_the_buffer_or_maxlen(kind, length, maxlen, sent):
    here, there = socket.socketpair()
    with there, sock.fromsocket(here) as conn:
        data = fuzz.part(0, sent, 0)
        there.sendall(data)
        there.shutdown(socket.SHUT_WR)
        buf = MEMORY[kind](bytes([fuzz.UNTOUCHED]) * length)
        before = octets(buf)

        async def main():
            return await conn.recv(buf, maxlen)

        if maxlen is not None and not 0 < maxlen < 2**63:
            with pytest.raises((ValueError, TypeError)):
                conn.recv(buf, maxlen)
            assert octets(buf) == before
            return
        n = run(main())
        assert n == min(len(before), sent, len(before) if maxlen is None else maxlen)
        assert octets(buf) == data[:n] + before[n:]


@some
@given(
    st.sampled_from(['bytes', *sorted(MEMORY)]), st.binary(max_size=9000), st.one_of(st.none(), st.integers(-2, 9999))
)
def test_any_contiguous_buffer_is_sent_as_it_is(kind, data, maxlen):
    here, there = socket.socketpair()
    with there, sock.fromsocket(here) as conn:
        buf = data if kind == 'bytes' else MEMORY[kind](data)

        async def main():
            await conn.send(buf, maxlen)
            conn.close()

        if maxlen is not None and maxlen < 0:
            with pytest.raises(ValueError, match='negative'):
                conn.send(buf, maxlen)
            return
        run(main())
        assert unread(there) == octets(buf)[:maxlen]


def with_gaps(length, step, backwards):
    return memoryview(bytearray(step * length + step + 1))[:: -step if backwards else step]


def read_only(length, step, backwards):
    data = memoryview(bytes(length + 1))
    return [data, bytes(data), data[step % length :] if length else data, data.cast('b')][step - 2]


def released(length, step, backwards):
    view = memoryview(bytearray(step * length + 1))[step % (length + 1) :]
    view.release()
    return view


#: What no operation may write to, and with what it is refused; what none may read from either.
REFUSED = {with_gaps: (TypeError, BufferError), read_only: TypeError, released: ValueError}
UNREADABLE = {with_gaps, released}


@some
@given(st.sampled_from(list(REFUSED)), st.integers(0, 50), st.integers(2, 5), st.booleans())
def test_buffers_with_gaps_read_only_and_released_ones_are_refused(kind, length, step, backwards):
    view = kind(length, step, backwards)
    here, there = socket.socketpair()
    with there, sock.fromsocket(here) as conn:
        there.send(b'left where it is')
        calls = [conn.recv, conn.recvn]
        if kind in UNREADABLE:
            calls.append(conn.send)
        for call in calls:
            with pytest.raises(REFUSED[kind]):
                call(view)
        if kind is read_only:
            assert not any(bytes(view))

        async def main():
            return await conn.recv(100)

        assert run(main()) == b'left where it is'


@pytest.mark.skipif(not LINUX, reason='memory that is not there until it is written: Linux')
def test_buffers_of_many_gigabytes_are_taken():
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, 'MAP_NORESERVE', 0x4000)
    size = 1 << 33
    here, there = socket.socketpair()
    with mmap.mmap(-1, size, flags=flags) as memory, there, sock.fromsocket(here) as conn:

        async def main():
            there.send(b'abc')
            assert await conn.recv(memory) == 3
            there.send(b'defg')
            assert await conn.recvn(memory, 4) == 4
            assert await conn.send(memory, 6) == 6
            there.close()
            with pytest.raises((sock.BrokenPipe, sock.ConnectionReset)):
                await conn.send(memory)

        there.settimeout(10)
        run(main())
        assert memory[:4] == b'defg'


# Datagrams


@pytest.mark.skipif(not UNIX_DATAGRAMS_WAIT, reason='elsewhere a unix datagram waits for no room')
@some
@given(
    st.lists(st.binary(max_size=300), min_size=1, max_size=20),
    st.lists(st.integers(1, 320), min_size=1, max_size=25),
    st.booleans(),
)
def test_datagrams_come_whole_in_order_and_within_their_buffers(sent, rooms, many):
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with sock.fromsocket(one) as a, sock.fromsocket(other) as b:
        # The kernel queues some datagrams only, 10 as a rule: who sends waits for who receives.
        waiting = list(sent)

        async def send():
            if many:
                assert await a.sendmany([(data, None) for data in sent]) == len(sent)
            else:
                for data in sent:
                    assert await a.send(data) == len(data)

        async def receive_one(room):
            data, whole = waiting.pop(0), fuzz.untouched(room)
            view = memoryview(whole)[fuzz.MARGIN : fuzz.MARGIN + room]
            try:
                n = await b.recv(view)
                assert len(data) <= room
            except sock.MessageTooLong as error:
                n = error.received
                assert n == room < len(data)
            assert_only(whole, data[:n])

        async def receive_many():
            wholes = [fuzz.untouched(room) for room in rooms]
            views = [memoryview(whole)[fuzz.MARGIN : -fuzz.MARGIN] for whole in wholes]
            try:
                got = await b.recvmany(views)
            except sock.MessageTooLong as error:
                got = error.datagrams
            for i, (n, _) in enumerate(got):
                data = waiting.pop(0)
                assert n == min(len(data), rooms[i])
                assert_only(wholes[i], data[:n])
            for whole in wholes[len(got) :]:
                assert_only(whole, b'')

        async def main():
            sending = sock.newthread(send)
            while waiting:
                await (receive_many() if many else receive_one(rooms[len(waiting) % len(rooms)]))
            await sending

        run(main())


def assert_only(whole, data):
    """The data after the margin, and nothing else, was written."""
    begin, end = fuzz.MARGIN, fuzz.MARGIN + len(data)
    assert whole[begin:end] == data
    assert whole[:begin] + whole[end:] == bytes([fuzz.UNTOUCHED]) * (len(whole) - len(data))
