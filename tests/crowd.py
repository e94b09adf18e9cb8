"""The clients of the crowd that stands amid the storm of `soak.py`, which runs this program and which it ends with.

A process of its own: the descriptors that one may have seldom suffice for both ends of 10,000 connections. Each client
has a connection, says something now and then, and after some messages makes a new one, has its first answer there, and
only then leaves the old one. So the other side never holds fewer than there are clients, from when all of them stand to
the end. A line is printed, as JSON, once all stand; how many seconds they shall stand is then read; and a line at the
end says what was sent and how long echoes took.
"""

import argparse
import itertools
import json
import os
import random
import sys
import threading

import sock
from soak import CROWD, HOSTS, LARGEST, PATIENCE, Times, check, send

#: Seconds between two messages of a connection, on average, and messages of each.
PAUSE = 10
MESSAGES = 4
#: Clients that may come, leave, or have two connections, at the same time.
CHANGING = 100


class Connection:
    """One that has been answered once."""

    def __init__(self, key):
        self.conn = sock.tcp()
        self.key = key
        self.sent = 0

    async def come(self, host, port):
        await self.conn.connect(host, port, expires=sock.clock() + PATIENCE)
        await self.conn.send(self.key.to_bytes(8, 'big'))
        await self.echo(1)

    async def echo(self, n):
        expires = sock.clock() + PATIENCE
        await send(self.conn, self.sent, n, self.key)
        data = await self.conn.recv(n, expires=expires)
        while data and len(data) < n:
            data += await self.conn.recv(n - len(data), expires=expires)
        check(data, n, self.sent, self.key)
        self.sent += n

    async def leave(self, n):
        """What is sent last comes back whole, and then the end."""
        with self.conn:
            await send(self.conn, self.sent, n, self.key)
            self.conn.shutdown('w')
            rest = await self.conn.recvall(expires=sock.clock() + PATIENCE)
            assert len(rest) == n, (len(rest), n)
            check(rest, n, self.sent, self.key)
            self.sent += n


class Crowd:
    def __init__(self, clients, seed, ports):
        self.end = None
        #: When it is known.
        self.begun = sock.Event()
        self.clients = clients
        self.seed = seed
        self.ports = ports
        self.keys = itertools.count(CROWD)
        self.changing = sock.Semaphore(CHANGING)
        self.echoes = Times()
        self.standing = self.connections = self.sent = 0

    async def come(self, chance):
        connection = Connection(next(self.keys))
        await connection.come(chance.choice(HOSTS), chance.choice(self.ports))
        return connection

    async def leave(self, connection, chance):
        await connection.leave(chance.randrange(1, LARGEST))
        self.connections += 1
        self.sent += connection.sent

    async def stand(self, number):
        chance = random.Random(self.seed * 100_000 + number)
        async with self.changing:
            connection = await self.come(chance)
        self.standing += 1
        if self.standing == self.clients:
            print(json.dumps({'standing': self.standing}), flush=True)
        await self.begun.wait()
        for said in itertools.count(1):
            await sock.sleep(max(0, min(2 * PAUSE * chance.random(), self.end - sock.clock())))
            # What is sent by all in the same moment would measure that alone.
            if sock.clock() >= self.end:
                break
            begin = sock.clock()
            await connection.echo(chance.randrange(1, 2000))
            self.echoes.add(sock.clock() - begin)
            if said % MESSAGES == 0:
                async with self.changing:
                    old, connection = connection, await self.come(chance)
                    await self.leave(old, chance)
        async with self.changing:
            await self.leave(connection, chance)

    async def main(self):
        async with sock.group() as group:
            for number in range(self.clients):
                group.newthread(self.stand, number)
        print(
            json.dumps({'connections': self.connections, 'sent': self.sent, 'echoes': self.echoes.counts}), flush=True
        )

    def listen(self):
        """To the program that started this one: by no object, whose lock the interpreter would want at its end."""
        seconds = float(os.read(0, 100) or os._exit(1))
        # Later than the other side's, which was taken before this was sent.
        self.end = sock.clock() + seconds
        self.begun.set()
        os.read(0, 1)
        os._exit(1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--clients', type=int, required=True)
    parser.add_argument('--seed', type=int, required=True)
    parser.add_argument('ports', type=int, nargs='+')
    options = parser.parse_args()
    crowd = Crowd(options.clients, options.seed, options.ports)
    threading.Thread(target=crowd.listen, daemon=True).start()
    reports = []
    sock.excepthook = lambda thread, exc: reports.append((thread.name, repr(exc)))
    sock.run(crowd.main)
    if reports:
        sys.exit(f'the crowd failed: {reports}')


if __name__ == '__main__':
    main()
