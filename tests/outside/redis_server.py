"""A small Redis server: the commands that redis-benchmark sends, read by hiredis. Ends by printing how many came."""

import argparse
import collections
import contextlib
import itertools
import json
import threading

import hiredis
import sock


class Store:
    """The keys, shared by all connections on all OS threads, and the commands: a method each."""

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
        command = getattr(self, f'do_{name}', None)
        if command is None:
            return Exception(f"unknown command '{name}'")
        self.counts[name] += 1
        try:
            return command(*args)
        except (TypeError, ValueError, AttributeError) as error:
            return Exception(str(error))

    def do_ping(self):
        return 'PONG'

    def do_config(self, get, name):
        return [name, b'']

    def do_get(self, key):
        return self.data.get(key)

    def do_set(self, key, value):
        self.data[key] = value
        return 'OK'

    def do_mset(self, *args):
        self.data.update(zip(args[::2], args[1::2], strict=True))
        return 'OK'

    def do_incr(self, key):
        number = int(self.data.get(key, 0)) + 1
        self.data[key] = b'%d' % number
        return number

    def items(self, key):
        return self.data.setdefault(key, collections.deque())

    def do_llen(self, key):
        return len(self.items(key))

    def do_lpush(self, key, *values):
        self.items(key).extendleft(values)
        return len(self.items(key))

    def do_rpush(self, key, *values):
        self.items(key).extend(values)
        return len(self.items(key))

    def do_lpop(self, key):
        return self.items(key).popleft() if self.items(key) else None

    def do_rpop(self, key):
        return self.items(key).pop() if self.items(key) else None

    def do_lrange(self, key, first, last):
        return list(itertools.islice(self.items(key), int(first), int(last) + 1))

    def do_sadd(self, key, *members):
        found = self.data.setdefault(key, set())
        before = len(found)
        found.update(members)
        return len(found) - before

    def do_spop(self, key):
        return self.data[key].pop() if self.data.get(key) else None

    def do_hset(self, key, *args):
        found = self.data.setdefault(key, {})
        before = len(found)
        found.update(zip(args[::2], args[1::2], strict=True))
        return len(found) - before

    def do_zadd(self, key, score, member):
        return self.do_hset(key, member, float(score))

    def do_zpopmin(self, key):
        if not (found := self.data.get(key)):
            return []
        member = min(found, key=lambda member: (found[member], member))
        return [member, b'%g' % found.pop(member)]


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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--port', type=int, default=6379)
    parser.add_argument('--threads', type=int, default=1, help='OS threads that share the work')
    args = parser.parse_args()
    store = Store()
    sock.run(main, args.port, store, threads=args.threads)
    print(json.dumps(store.counts))
