"""A client of redis-server: hiredis makes bytes of commands and replies of bytes, which go over our sockets."""

import contextlib
import os

import pytest
import sock
from support import run, short_folder

from .servers import PATIENCE, needed, run_on, running, unused_ports

hiredis = needed('hiredis')

CONFIG = """
bind 127.0.0.1
port {port}
unixsocket {folder}/socket
dir {folder}
save ""
appendonly no
"""


@pytest.fixture(scope='module')
def server(program):
    """Where redis-server is: an address for each kind of socket."""
    with short_folder() as folder, unused_ports() as (port,):
        config = folder / 'redis.conf'
        config.write_text(CONFIG.format(folder=folder, port=port), encoding='utf-8')
        with running([program('redis-server'), config], port, folder):
            yield {'inet': ('127.0.0.1', port), 'unix': (str(folder / 'socket'),)}


MORE = object()


class Redis:
    """A connection: replies come in the order of the commands, and messages of channels whenever they do."""

    def __init__(self, conn):
        self.conn = conn
        self.parser = hiredis.Reader(notEnoughData=MORE)

    async def send(self, *commands):
        await self.conn.send(b''.join(map(hiredis.pack_command, commands)))

    async def reply(self):
        while (reply := self.parser.gets()) is MORE:
            data = await self.conn.recv(65536)
            if not data:
                raise EOFError
            self.parser.feed(data)
        return reply

    async def __call__(self, *command):
        await self.send(command)
        return await self.reply()

    async def pipeline(self, commands):
        """All commands without waiting, their replies read meanwhile."""
        async with sock.group() as group:
            group.newthread(self.send, *commands)
            return [await self.reply() for _ in commands]


@contextlib.asynccontextmanager
async def connected(server, family='inet'):
    with sock.tcp(family) as conn:
        await conn.connect(*server[family], expires=sock.clock() + PATIENCE)
        yield Redis(conn)


@contextlib.asynccontextmanager
async def emptied(server, family='inet'):
    """A connection to a server that has nothing."""
    async with connected(server, family) as redis:
        assert await redis('FLUSHALL') == b'OK'
        yield redis


@pytest.mark.parametrize('family', ['inet', 'unix'])
def test_values_come_back_as_they_went(server, family):
    values = {b'empty': b'', b'line': b'\r\n', b'all': bytes(range(256)) * 10, b'large': os.urandom(50_000_000)}

    async def main():
        async with emptied(server, family) as redis:
            for key, value in values.items():
                assert await redis('SET', key, value) == b'OK'
            for key, value in values.items():
                assert await redis('GET', key) == value
            assert await redis('GET', 'none') is None
            assert isinstance(await redis('INCR', 'line'), hiredis.ReplyError)
            assert await redis('DBSIZE') == len(values)

    run(main)


@pytest.mark.parametrize('family', ['inet', 'unix'])
def test_pipeline_of_many_commands(server, family):
    numbers = range(20_000)
    values = [str(i).encode() * (i % 100) for i in numbers]

    async def main():
        async with emptied(server, family) as redis:
            assert await redis.pipeline([('SET', f'key{i}', values[i]) for i in numbers]) == [b'OK'] * len(numbers)
            assert await redis.pipeline([('GET', f'key{i}') for i in numbers]) == values
            # Few commands, and far more of replies than the buffers of the system hold.
            await redis('SET', 'large', bytes(1_000_000))
            assert await redis.pipeline([('GET', 'large')] * 50) == [bytes(1_000_000)] * 50

    run(main)


def test_transaction(server):
    async def main():
        async with emptied(server) as redis:
            commands = [('MULTI',), ('INCR', 'n'), ('INCRBY', 'n', '41'), ('EXEC',)]
            assert await redis.pipeline(commands) == [b'OK', b'QUEUED', b'QUEUED', [1, 42]]

    run(main)


@pytest.mark.parametrize('threads', [1, 3])
@pytest.mark.parametrize('family', ['inet', 'unix'])
def test_hundred_connections_at_once(server, family, threads):
    async def client(i):
        async with connected(server, family) as redis:
            value = os.urandom(1000 * i)
            await redis('SET', f'value{i}', value)
            got = [await redis('INCR', 'counter') for _ in range(50)]
            assert got == sorted(got)
            assert await redis('GET', f'value{i}') == value
            return got

    async def main():
        async with emptied(server, family) as redis:
            async with sock.group() as group:
                clients = [group.newthread(client, i) for i in range(100)]
            # Each number has come to exactly one of them.
            assert sorted(n for each in clients for n in each.result()) == list(range(1, 5001))
            assert await redis('GET', 'counter') == b'5000'

    run_on(threads, main)


def test_messages_of_a_channel_come_to_all_in_order(server):
    messages = [str(i).encode() for i in range(500)]

    async def subscriber(ready):
        async with connected(server) as redis:
            assert await redis('SUBSCRIBE', 'news') == [b'subscribe', b'news', 1]
            ready.release()
            return [await redis.reply() for _ in messages]

    async def main():
        ready = sock.Semaphore(0)
        async with emptied(server) as redis, sock.group() as group:
            subscribers = [group.newthread(subscriber, ready) for _ in range(20)]
            for _ in subscribers:
                await ready.acquire()
            assert await redis.pipeline([('PUBLISH', 'news', text) for text in messages]) == [20] * len(messages)
        for each in subscribers:
            assert each.result() == [[b'message', b'news', text] for text in messages]

    run(main)


def test_deadline_of_a_subscriber_ends_its_connection(server):
    async def main():
        async with emptied(server) as redis, connected(server) as subscriber:
            await subscriber('SUBSCRIBE', 'news')
            assert await redis('PUBLISH', 'news', 'one') == 1
            begin = sock.clock()
            with pytest.raises(sock.Timeout), sock.deadline(begin + 0.1):
                assert await subscriber.reply() == [b'message', b'news', b'one']
                await subscriber.reply()
            assert 0.1 <= sock.clock() - begin < 5
            assert subscriber.conn.closed
            while await redis('PUBLISH', 'news', 'two'):
                # redis has not heard of the end yet.
                pass

    run(main)


def test_subscriber_waits_for_a_time_and_goes_on(server):
    """A thread receives, and the queue has the deadline: so the connection stays."""

    async def receive(subscriber, queue):
        while True:
            await queue.put(await subscriber.reply())

    async def main():
        queue = sock.Queue()
        async with emptied(server) as redis, connected(server) as subscriber, sock.group() as group:
            group.newthread(receive, subscriber, queue)
            await subscriber.send(('SUBSCRIBE', 'news'))
            assert await queue.get(sock.clock() + PATIENCE) == [b'subscribe', b'news', 1]
            with pytest.raises(sock.Timeout):
                await queue.get(sock.clock() + 0.05)
            assert await redis('PUBLISH', 'news', 'later') == 1
            assert await queue.get(sock.clock() + PATIENCE) == [b'message', b'news', b'later']
            group.cancel()

    run(main)


async def seen_to_wait(redis):
    """Returns when redis has another connection's command that waits for a list."""
    while b'cmd=blpop' not in await redis('CLIENT', 'LIST'):
        pass


def test_cancelled_wait_for_a_list_leaves_the_connection_whole(server):
    async def main():
        async with emptied(server) as redis, connected(server) as worker:
            waiting = sock.newthread(worker, 'BLPOP', 'jobs', '0')
            await seen_to_wait(redis)
            waiting.cancel()
            with pytest.raises(sock.Cancelled):
                await waiting
            # The command was sent: its reply is the next one.
            assert await redis('RPUSH', 'jobs', 'first', 'second') == 2
            assert await worker.reply() == [b'jobs', b'first']
            assert await worker('BLPOP', 'jobs', '0') == [b'jobs', b'second']

    run(main)


def test_connection_that_redis_ends_is_the_end(server):
    async def main():
        async with emptied(server) as redis, connected(server) as other:
            number = await other('CLIENT', 'ID')
            waiting = sock.newthread(other, 'BLPOP', 'jobs', '0')
            await seen_to_wait(redis)
            assert await redis('CLIENT', 'KILL', 'ID', str(number)) == 1
            with pytest.raises(EOFError):
                await waiting

    run(main)
