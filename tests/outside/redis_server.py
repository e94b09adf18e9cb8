"""A small Redis server: the commands that redis-benchmark sends, read by hiredis' parser. Ctrl-C prints how many came."""

import argparse
import collections
import contextlib
import itertools
import json
import threading

import hiredis
import sock


class Store:
    """The keys, shared by all connections on all OS threads."""

    def __init__(self):
        self.data = {}
        self.counts = collections.Counter()
        #: Guards both. Nothing waits under it.
        self.lock = threading.Lock()

    def execute(self, commands):
        """The replies to some commands, each a list of bytes."""
        with self.lock:
            return b''.join(encoded(self.reply(*command)) for command in commands)

    def reply(self, name, *args):
        name = name.decode().lower()
        command = COMMANDS.get(name)
        if command is None:
            return Exception(f"unknown command '{name}'")
        self.counts[name] += 1
        try:
            return command(self, *args)
        except (TypeError, ValueError, AttributeError) as error:
            return Exception(str(error))

    def set(self, key, value):
        self.data[key] = value
        return 'OK'

    def mset(self, *args):
        self.data.update(zip(args[::2], args[1::2], strict=True))
        return 'OK'

    def incr(self, key):
        number = int(self.data.get(key, 0)) + 1
        self.data[key] = b'%d' % number
        return number

    def list(self, key):
        return self.data.setdefault(key, collections.deque())

    def lpush(self, key, *values):
        self.list(key).extendleft(values)
        return len(self.list(key))

    def rpush(self, key, *values):
        self.list(key).extend(values)
        return len(self.list(key))

    def lpop(self, key):
        return self.list(key).popleft() if self.list(key) else None

    def rpop(self, key):
        return self.list(key).pop() if self.list(key) else None

    def lrange(self, key, first, last):
        return list(itertools.islice(self.list(key), int(first), int(last) + 1))

    def sadd(self, key, *members):
        found = self.data.setdefault(key, set())
        before = len(found)
        found.update(members)
        return len(found) - before

    def spop(self, key):
        return self.data[key].pop() if self.data.get(key) else None

    def hset(self, key, *args):
        found = self.data.setdefault(key, {})
        before = len(found)
        found.update(zip(args[::2], args[1::2], strict=True))
        return len(found) - before

    def zadd(self, key, score, member):
        return self.hset(key, member, float(score))

    def zpopmin(self, key):
        if not (found := self.data.get(key)):
            return []
        member = min(found, key=lambda member: (found[member], member))
        return [member, b'%g' % found.pop(member)]


COMMANDS = {
    'ping': lambda store: 'PONG',
    'config': lambda store, get, name: [name, b''],
    'get': lambda store, key: store.data.get(key),
    'llen': lambda store, key: len(store.list(key)),
    **{name: getattr(Store, name) for name in 'set mset incr lpush rpush lpop rpop lrange sadd spop hset zadd zpopmin'.split()},
}


def encoded(reply):
    if reply is None:
        return b'$-1\r\n'
    if isinstance(reply, list):
        return b'*%d\r\n' % len(reply) + b''.join(map(encoded, reply))
    if isinstance(reply, bytes):
        return b'$%d\r\n%b\r\n' % (len(reply), reply)
    if isinstance(reply, int):
        return b':%d\r\n' % reply
    return f'-ERR {reply}\r\n'.encode() if isinstance(reply, Exception) else f'+{reply}\r\n'.encode()


class Lines:
    """What hiredis does not parse: commands as people type them."""

    def __init__(self):
        self.got = b''

    def feed(self, data):
        self.got += data

    def gets(self):
        line, complete, rest = self.got.partition(b'\r\n')
        if not complete:
            return False
        self.got = rest
        return line.split()


async def serve(conn, store):
    with conn, contextlib.suppress(sock.ConnectionReset, sock.BrokenPipe):
        parser = None
        while data := await conn.recv(65536):
            parser = parser or (hiredis.Reader() if data.startswith(b'*') else Lines())
            parser.feed(data)
            await conn.send(store.execute(iter(parser.gets, False)))


async def main(port, store):
    with sock.tcp() as listener:
        listener.listen('127.0.0.1', port)
        print(f'listening on {listener.local_addr}', flush=True)
        while True:
            sock.newthread(serve, (await listener.accept())[0], store)


if __name__ == '__main__':
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument('--port', type=int, default=6379)
    arguments.add_argument('--threads', type=int, default=1)
    args = arguments.parse_args()
    store = Store()
    with contextlib.suppress(KeyboardInterrupt):
        sock.run(main, args.port, store, threads=args.threads)
    print(json.dumps(store.counts))
