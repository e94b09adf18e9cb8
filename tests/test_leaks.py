"""Nothing is left of what is over: no descriptor, no OS thread, no object, no memory. `make leaks` is the long form."""

import contextlib
import errno
import gc
import os
import socket
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path

import held
import pytest
import sock
from conftest import os_threads
from held import open_descriptors
from support import busy, run

LEAKS = Path(__file__).parent / 'leaks.py'


@pytest.mark.skipif(sys.platform == 'win32', reason='what the process holds is read from files of Unix')
def test_ten_thousand_connections_leave_nothing():
    command = [sys.executable, LEAKS, '--connections', '10000']
    done = subprocess.run(command, capture_output=True, text=True, timeout=50 * busy(), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '+0 OS threads' in done.stdout


@pytest.mark.skipif(sys.platform == 'win32', reason='what the process holds is read from files of Unix')
def test_one_descriptor_that_is_lost_is_a_failure():
    program = """
import os, sys
import leaks

class Loses(leaks.Day):
    async def main(self):
        os.open(os.devnull, os.O_RDONLY)
        return await super().main()

leaks.Day = Loses
sys.argv = ['leaks.py', '--connections', '500']
leaks.main()
"""
    command = [sys.executable, '-c', program]
    here = {**os.environ, 'PYTHONPATH': str(LEAKS.parent)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=50 * busy(), check=False, env=here)
    assert 'at the end +1 descriptors since the beginning' in done.stdout, done.stdout + done.stderr
    assert (done.returncode, done.stderr) == (1, 'something is left at the end\n')


@pytest.mark.skipif(sys.platform == 'win32', reason='what the process holds is read from files of Unix')
@pytest.mark.parametrize('way', ['as here', 'devices', 'three are listed', 'nothing is listed'])
def test_descriptor_that_is_opened_is_seen_in_each_way_that_systems_tell(monkeypatch, tmp_path, way):
    """As on Linux; macOS, whose list has no links; FreeBSD; where there is no list at all."""

    def is_no_link(path):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)

    if way != 'as here':
        monkeypatch.setattr(os, 'readlink', is_no_link)
        for name in '012':
            (tmp_path / name).touch()
        lists = {'devices': ['/nowhere', '/dev/fd'], 'three are listed': [str(tmp_path)], 'nothing is listed': []}
        monkeypatch.setattr(held, 'LISTS', lists[way])
    before = open_descriptors()
    assert before == open_descriptors()
    with socket.socket() as s:
        seen = open_descriptors()
        assert seen.keys() - before.keys() == {s.fileno()}
        assert 'socket' in seen[s.fileno()] or seen[s.fileno()].startswith('s')
        assert held.descriptors() == len(before) + 1
    assert open_descriptors() == before


def test_path_of_a_unix_socket_is_short_enough_for_all_systems(short_path):
    assert len(os.fsencode(short_path / 'a name like this')) < 104


@contextlib.contextmanager
def pair():
    one, other = socket.socketpair()
    with sock.fromsocket(one) as a, sock.fromsocket(other) as b:
        yield a, b


async def read(conn):
    return await conn.recv(1)


async def a_message():
    with pair() as (a, b):
        await a.send(b'hello')
        await b.recvn(bytearray(5))
        a.close()
        await b.recvall()


async def a_cancelled_read():
    with pair() as (a, _):
        reading = sock.newthread(read, a)
        reading.cancel()
        with contextlib.suppress(sock.Cancelled):
            await reading


async def a_read_that_runs_out_of_time():
    with pair() as (a, _), contextlib.suppress(sock.Timeout):
        await a.recv(1, expires=0)


async def a_read_that_another_thread_closes():
    with pair() as (a, _):
        reading = sock.newthread(read, a)
        a.close()
        with contextlib.suppress(sock.Closed):
            await reading


async def a_second_reader():
    with pair() as (a, b):
        reading = sock.newthread(read, a)
        with contextlib.suppress(sock.Busy):
            await a.recv(1)
        await b.send(b'1')
        await reading


async def a_stream_that_is_too_long():
    with pair() as (a, b):
        await a.send(bytes(1000))
        with contextlib.suppress(sock.MessageTooLong):
            await b.recvall(100)


async def a_refused_connection():
    with socket.socket() as bound:
        bound.bind(('127.0.0.1', 0))
        with sock.tcp() as conn, contextlib.suppress(sock.ConnectionRefused):
            await conn.connect(*bound.getsockname())


async def datagrams():
    with sock.udp() as a, sock.udp() as b:
        b.bind('127.0.0.1')
        await a.sendmany([(b'one', b.local_addr), (b'two', b.local_addr)])
        assert await b.recv(5) == b'one'
        with contextlib.suppress(sock.MessageTooLong):
            await b.recvmany([bytearray(2)])


async def a_group_that_fails():
    async def fails():
        raise KeyError('expected')

    with contextlib.suppress(KeyError):
        async with sock.group() as group:
            group.newthread(sock.sleep_until, 1e9)
            group.newthread(fails)


async def timers_and_sleeps():
    sock.runafter(1000, print).cancel()
    with contextlib.suppress(sock.Timeout), sock.deadline(sock.clock()):
        await sock.sleep(1000)
    job = sock.sleep_job()
    sock.newthread(job.sleep, 1000)
    job.wakeup(1)
    await sock.sleep(0)


async def queues_and_locks():
    queue, lock = sock.Queue(1), sock.Lock()
    putting = sock.newthread(queue.put, 1)
    async with lock:
        assert await queue.get() == 1
    await putting


async def work_elsewhere():
    assert await sock.offload(int, '5') == 5
    assert len(await sock.resolve('localhost', 80))


async def a_file():
    with tempfile.TemporaryFile() as file, pair() as (a, _):
        file.write(b'abc')
        file.flush()
        assert await a.sendfile(file) == 3


async def a_poller():
    sock.Poller()


async def waits_for_ever():
    await sock.suspend()


async def a_thread_that_nothing_wakes():
    hook, sock.excepthook = sock.excepthook, lambda *_: None
    try:
        sock.newthread(waits_for_ever)
        await sock.sleep(0)
    finally:
        sock.excepthook = hook


async def an_async_generator():
    async def numbers():
        while True:
            await sock.sleep(0)
            yield 1

    async for _ in numbers():
        break


ALL = [
    a_message,
    a_cancelled_read,
    a_read_that_runs_out_of_time,
    a_read_that_another_thread_closes,
    a_second_reader,
    a_stream_that_is_too_long,
    a_refused_connection,
    datagrams,
    a_group_that_fails,
    timers_and_sleeps,
    queues_and_locks,
    work_elsewhere,
    a_file,
    a_poller,
    a_thread_that_nothing_wakes,
    an_async_generator,
]


@pytest.mark.parametrize('what', ALL, ids=lambda what: what.__name__)
def test_nothing_is_left_of(what):
    """What is made once is made in the first rounds; of the later ones nothing may be left."""
    rounds = 200

    async def main(n):
        for _ in range(n):
            await what()

    def held():
        # What has a finalizer goes with the collection after the one that found it.
        while gc.collect():
            pass
        references = getattr(sys, 'gettotalrefcount', lambda: 0)()  # of a debug build of Python
        return len(gc.get_objects()), sys.getallocatedblocks(), references

    run(main(20))
    fds, others = open_descriptors().keys(), os_threads()
    grown = []
    tracemalloc.start()
    try:
        # Tables and stores of spare objects still grow at first; what is left of each round is left of all.
        for _ in range(4):
            before, traced = held(), tracemalloc.get_traced_memory()[0]
            run(main(rounds))
            grown = [b - a for a, b in zip(before, held(), strict=True)]
            memory = tracemalloc.get_traced_memory()[0] - traced
            if max(grown) < rounds / 2 and memory < rounds * 50:
                break
        else:
            pytest.fail(f'each time {rounds} rounds leave objects, blocks, references: {grown}, {memory} bytes')
    finally:
        tracemalloc.stop()
    assert open_descriptors().keys() <= fds
    assert os_threads() <= others
