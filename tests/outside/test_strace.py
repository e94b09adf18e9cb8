"""Faults that strace makes system calls return: each is an error by its name, or nothing at all.

A call that fails here was not made, and the socket goes on. Linux alone, where strace may trace.
"""

import shutil
import subprocess
import sys
import textwrap

import pytest
from support import LINUX

STRACE = shutil.which('strace')


def why_not():
    if not LINUX:
        return 'strace is of Linux'
    if STRACE is None:
        return 'strace is not installed'
    done = subprocess.run([STRACE, '-qq', '-o', '/dev/null', '/bin/true'], capture_output=True, text=True, check=False)
    return done.stderr.strip() or None


REASON = why_not()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))

#: What each program begins with: a stdlib socket at the other end, and the name of what came of an operation.
BEGIN = """
import os, socket, sys, tempfile, threading
import sock

async def told(awaitable):
    try:
        return await awaitable
    except sock.Error as error:
        return error.err, error.sent, error.received

def pair():
    with socket.create_server(('127.0.0.1', 0)) as listener:
        other = socket.create_connection(listener.getsockname(), 10)
        return sock.fromsocket(listener.accept()[0]), other
"""


def output_with(faults, program, log='/dev/null'):
    """What a program prints while system calls fail as strace is told; its calls go to the log."""
    injections = [f'--inject={fault}' for fault in faults]
    command = [STRACE, '-f', '-qq', '-o', log, *injections, sys.executable, '-W', 'error', '-c']
    command.append(BEGIN + textwrap.dedent(program))
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.stderr == ''
    assert done.returncode == 0
    return done.stdout.splitlines()


def test_accept_without_descriptors_says_so_and_accepts_again():
    program = """
    async def main():
        with sock.tcp() as listener:
            listener.listen('127.0.0.1')
            with socket.create_connection(tuple(listener.local_addr), 10) as other:
                print(await told(listener.accept()))
                print(await told(listener.accept()))
                conn, remote, _ = await listener.accept()
                with conn:
                    print(remote.port == other.getsockname()[1])
    sock.run(main)
    """
    printed = output_with(['accept4:error=EMFILE:when=1..2'], program)
    assert printed == ["('too_many_open_files', 0, 0)"] * 2 + ['True']


@pytest.mark.parametrize('error', ['ECONNABORTED', 'EPROTO', 'ENETDOWN', 'EHOSTUNREACH', 'EINTR'])
def test_accept_skips_what_concerns_one_client(error):
    program = """
    async def main():
        with sock.tcp() as listener:
            listener.listen('127.0.0.1')
            with socket.create_connection(tuple(listener.local_addr), 10):
                conn, _, _ = await listener.accept()
                conn.close()
                print('accepted')
    sock.run(main)
    """
    assert output_with([f'accept4:error={error}:when=1..3'], program) == ['accepted']


def test_calls_that_signals_interrupt_are_made_again():
    program = """
    async def main():
        conn, other = pair()
        with conn, other, tempfile.TemporaryFile() as file:
            file.write(b'file'); file.flush()
            print(await conn.send(b'hello'), other.recv(5))
            other.sendall(b'world')
            print(await conn.recv(5))
            print(await conn.sendfile(file), other.recv(4))
            await sock.sleep(0.001)
    sock.run(main)
    """
    calls = ['sendto', 'recvfrom', 'sendfile', 'epoll_wait']
    # The stdlib's calls are among them: it repeats them too.
    printed = output_with([f'{call}:error=EINTR:when=1+2' for call in calls], program)
    assert printed == ["5 b'hello'", "b'world'", "4 b'file'"]


@pytest.mark.parametrize('error', ['ENOBUFS', 'ENOMEM'])
def test_send_without_buffers_tells_what_went_and_the_connection_goes_on(error):
    program = """
    async def main():
        conn, other = pair()
        with conn, other:
            print(await told(conn.send(b'lost')))
            print(await told(conn.send(b'sent')), other.recv(10))
    sock.run(main)
    """
    assert output_with([f'sendto:error={error}:when=1'], program) == ["('no_buffer_space', 0, 0)", "4 b'sent'"]


def test_datagrams_that_find_no_buffers_are_errors_and_the_next_ones_go():
    program = """
    async def main():
        with sock.udp() as one, sock.udp() as other:
            other.bind('127.0.0.1')
            to = other.local_addr
            print(await told(one.send(b'lost', host=to)))
            print(await told(one.sendmany([(b'lost', to)] * 3)))
            print(await one.send(b'first', host=to), await one.sendmany([(b'second', to), (b'third', to)]))
            print([await other.recv(10) for _ in range(3)])
    sock.run(main)
    """
    printed = output_with(['sendto:error=ENOBUFS:when=1', 'sendmmsg:error=ENOBUFS:when=1'], program)
    assert printed == ["('no_buffer_space', 0, 0)"] * 2 + ['5 2', "[b'first', b'second', b'third']"]


@pytest.mark.parametrize(
    ('then', 'expected'),
    [
        ('await told(other.send(b"back"))', ('connection_refused', 0, 0)),
        ('await told(other.recv(8))', ('connection_refused', 0, 0)),
        ('await told(other.recvmany(8))', ('connection_refused', 0, 0)),
        ('await other.readable(), await other.writable(), await told(other.recvfrom(8))', ('connection_refused', 0, 0)),
        # The error is of the address before.
        ('await other.connect(one.local_addr)', None),
        ('await other.connect("*")', None),
    ],
)
def test_error_that_meets_a_later_datagram_of_a_batch_without_a_call_for_several_is_not_lost(then, expected):
    """The system tells it once. What came is told first, then the error by what is next; what is left comes too."""
    program = f"""
    async def main():
        with sock.udp() as one, sock.udp() as other:
            one.bind('127.0.0.1')
            other.bind('127.0.0.1')
            await other.connect(one.local_addr)
            for each in (b'one', b'two', b'three'):
                await one.send(each, host=other.local_addr)
            print([data for data, _ in await other.recvmany(8)])
            told_then = {then}
            print(told_then[-1] if told_then and told_then[0] is None else told_then)
            print(await other.recv(8))
    sock.run(main)
    """
    printed = output_with(['recvmmsg:error=ENOSYS', 'recvfrom:error=ECONNREFUSED:when=3'], program)
    assert printed == ["[b'one', b'two']", str(expected), "b'three'"]


def test_batch_to_a_port_that_nobody_has_is_refused_half_way_where_there_is_no_call_for_several():
    program = """
    async def main():
        with socket.socket(type=socket.SOCK_DGRAM) as nobody, sock.udp() as one:
            nobody.bind(('127.0.0.1', 0))
            await one.connect(*nobody.getsockname())
            nobody.close()
            print(await told(one.sendmany([(b'void', None)] * 3)))
            print(await told(one.send(b'void')), await told(one.send(b'void')))
    sock.run(main)
    """
    refused = "('connection_refused', {}, 0)"
    assert output_with(['sendmmsg:error=ENOSYS'], program) == [refused.format(1), f'4 {refused.format(0)}']


def test_batches_of_datagrams_do_the_same_where_there_is_no_call_for_several(tmp_path):
    """A call for each then, as on systems that have no other: recvfrom and sendto, never recvmmsg and sendmmsg."""
    program = """
    async def main():
        with sock.udp() as one, sock.udp() as other:
            one.bind('127.0.0.1')
            other.bind('127.0.0.1')
            to = other.local_addr

            def shown(got):
                return [(what, sender == one.local_addr) for what, sender in got]

            print(await one.sendmany([(b'%d' % i * i, to) for i in range(5)]))
            bufs = [bytearray(8) for _ in range(3)]
            print(shown(await other.recvmany(bufs)), bufs)
            print(shown(await other.recvmany(8)))
            sock.runafter(0.05, lambda: one.sendmany([(b'late', to)]))
            print(shown(await other.recvmany(bufs)), bufs[0])
            print(await one.sendmany([(b'short', to), (b'much too long', to), (b'', to)]))
            try:
                await other.recvmany(bufs)
            except sock.MessageTooLong as error:
                print(shown(error.datagrams), error.received, bufs)
            print(await told(one.sendmany([(b'goes', to), (bytes(70000), to), (b'stays', to)])))
            print(shown(await other.recvmany(8)))
            await one.connect(to)
            print(await one.sendmany([(b'to the peer', None)] * 2), shown(await other.recvmany(8)))
            print(tuple(one.stats)[::2], tuple(other.stats)[::2])
            print(await told(other.recvmany(8, expires=sock.clock() + 0.01)), other.closed)
    sock.run(main)
    """
    log = tmp_path / 'log'
    expected = output_with([], program)
    assert len(expected) == 11
    assert output_with(['recvmmsg,sendmmsg:error=ENOSYS'], program, log) == expected
    refused = [line for line in log.read_text().splitlines() if 'ENOSYS' in line]
    assert all(any(f'{call}(' in line for line in refused) for call in ('recvmmsg', 'sendmmsg'))


def test_short_counts_are_gone_on_from():
    """strace says that 3 bytes went, and none did: what follows must be the rest."""
    program = """
    async def main():
        conn, other = pair()
        with conn, other, tempfile.TemporaryFile() as file:
            file.write(b'abcdefgh'); file.flush()
            print(await conn.send(b'ABCDEFGH'), other.recv(100))
            print(await conn.sendfile(file), other.recv(100))
            print(conn.stats.bytes_sent)
    sock.run(main)
    """
    printed = output_with(['sendto:retval=3:when=1', 'sendfile:retval=3:when=1'], program)
    assert printed == ["8 b'DEFGH'", "8 b'defgh'", '16']


@pytest.mark.parametrize('call', ['socket', 'bind', 'listen'])
@pytest.mark.parametrize(('error', 'name'), [('EACCES', 'access_denied'), ('ENOBUFS', 'no_buffer_space')])
def test_faults_while_a_listener_is_made_leave_nothing_open(call, error, name):
    program = """
    before = os.listdir('/proc/self/fd')
    try:
        with sock.tcp() as listener:
            listener.listen('127.0.0.1')
        print('made')
    except sock.Error as error:
        print(error.err)
    print(os.listdir('/proc/self/fd') == before)
    """
    assert output_with([f'{call}:error={error}:when=1'], program) == [name, 'True']


@pytest.mark.parametrize('call', ['epoll_create1', 'eventfd2', 'socketpair'])
def test_poller_without_descriptors_says_so_and_can_be_made_later(call):
    program = """
    before = os.listdir('/proc/self/fd')
    for _ in range(3):
        try:
            sock.Poller()
        except sock.Error as error:
            print(error.err)
    print(os.listdir('/proc/self/fd') == before)
    async def main():
        await sock.sleep(0.001)
        print('runs')
    sock.run(main)
    """
    printed = output_with([f'{call}:error=EMFILE:when=1..2'], program)
    # The standard library's `selectors` tries an epoll too.
    assert printed in (['too_many_open_files'] * n + ['True', 'runs'] for n in (1, 2))


@pytest.mark.parametrize(('error', 'name'), [('ENOSPC', 'other'), ('ENOMEM', 'no_buffer_space')])
def test_socket_that_cannot_be_registered_says_so_and_can_be_later(error, name):
    program = """
    async def main():
        conn, other = pair()
        with conn, other:
            print((await told(conn.recv(5)))[0])
            threading.Timer(0.05, other.sendall, [b'later']).start()
            print(await conn.recv(5))
    sock.poller()
    sock.run(main)
    """
    # The poller's own are the first ones: its waker and the pipe of its signals.
    assert output_with([f'epoll_ctl:error={error}:when=3'], program) == [name, "b'later'"]


@pytest.mark.parametrize(
    ('error', 'name'),
    [
        ('ENETUNREACH', 'network_unreachable'),
        ('EHOSTUNREACH', 'host_unreachable'),
        ('EADDRNOTAVAIL', 'address_not_available'),
        ('ETIMEDOUT', 'timeout'),
        ('EPERM', 'access_denied'),
    ],
)
def test_connect_tells_each_fault_by_its_name_and_another_try_connects(error, name):
    program = """
    async def main():
        with socket.create_server(('127.0.0.1', 0)) as server:
            for _ in range(2):
                with sock.tcp() as conn:
                    got = await told(conn.connect(*server.getsockname()))
                    print(got and got[0])
    sock.run(main)
    """
    assert output_with([f'connect:error={error}:when=1'], program) == [name, 'None']


def test_number_of_a_pipe_that_is_closed_while_sendfile_reads_it_is_not_read_again(tmp_path):
    """read(2) is held up at its beginning, where the interpreter has let go and looks at the number no more."""
    fifo = tmp_path / 'fifo'
    program = f"""
    def is_read(file):
        'Whether an OS thread is in a call whose first argument is a descriptor of it.'
        for each in os.listdir('/proc/self/task'):
            with open('/proc/self/task/' + each + '/syscall') as f:
                _, *args = f.read().split()
            try:
                if args and os.path.samefile('/proc/self/fd/' + str(int(args[0], 16)), {str(fifo)!r}):
                    return True
            except OSError:
                pass

    async def main():
        os.mkfifo({str(fifo)!r})
        write = os.open({str(fifo)!r}, os.O_RDWR)
        file = open({str(fifo)!r}, 'rb', buffering=0)
        number = file.fileno()
        canary, nest = os.pipe()
        os.write(nest, b'canary')
        os.write(write, b'first')
        conn, other = pair()
        with conn, other:
            sending = sock.newthread(conn.sendfile, file)
            while conn.stats.bytes_sent < 5 or not is_read(file):
                await sock.sleep(0.01)
            file.close()
            os.dup2(canary, number)
            os.write(write, b'last')
            try:
                await sending
            except ValueError as error:
                print(error)
            print(other.recv(9, socket.MSG_WAITALL), os.read(canary, 100))
    sock.run(main)
    """
    command = [STRACE, '-f', '-qq', '-o', '/dev/null', '-P', fifo, '--inject=read:delay_enter=1000000']
    command += [sys.executable, '-W', 'error', '-c', BEGIN + textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout.splitlines() == ['I/O operation on closed file', "b'firstlast' b'canary'"]
