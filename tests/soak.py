"""A storm over several pollers, each polled by several OS threads: random closes, cancels, timeouts, half-closes.

Amid it stands a crowd of connections that come, say something now and then, and go. Every byte that arrives is
compared with what was sent, and all that was sent must arrive, both ways; an echo in the crowd has its time. At the
end no descriptor, OS thread, thread or socket may be left. `make soak`: ten minutes, with 10,000 connections.
"""

import argparse
import contextlib
import gc
import itertools
import math
import os
import random
import sys
import threading
import time

import sock

#: What a connection carries: byte i of the one with key k is PATTERN[(i + k) % SIZE].
SIZE = 1 << 16
PATTERN = random.Random(7).randbytes(SIZE) * 2
LARGEST = 20_000
CONNECTIONS = 24
PATIENCE = 30
#: Seconds between two messages of a connection in the crowd, on average, and messages of each.
PAUSE = 10
MESSAGES = 4
#: A port of the client's is taken for a minute after its connection, and each address has some 28,000. On Linux all of
#: 127.0.0.0/8 is this host.
HOSTS = [f'127.0.0.{n}' for n in range(1, 101 if sys.platform == 'linux' else 2)]


class Times:
    """How often something took how long, in steps of 9 %."""

    def __init__(self):
        self.counts = {}
        self.counting = threading.Lock()

    def add(self, seconds):
        step = math.ceil(8 * math.log2(max(seconds, 1e-6)))
        with self.counting:
            self.counts[step] = self.counts.get(step, 0) + 1

    def within(self, share):
        """The seconds that so large a share of them took at most."""
        left = share * sum(self.counts.values())
        for step in sorted(self.counts):
            left -= self.counts[step]
            if left <= 0:
                return 2 ** (step / 8)
        return 0.0


class Storm:
    def __init__(self, seconds, crowd, seed):
        self.end = sock.clock() + seconds
        self.crowd = crowd
        self.seed = seed
        self.ports = []
        self.keys = itertools.count(1)
        #: What the serving side had of each connection: bytes received and sent.
        self.served = {}
        self.counts = dict.fromkeys(
            ('connections', 'crowd', 'bytes', 'half-close', 'close', 'cancel', 'timeout', 'passed'), 0
        )
        self.counting = threading.Lock()
        self.failures = []
        self.echoes = Times()
        #: Connections of the crowd that are open, and the most there were.
        self.open = self.most = 0

    def count(self, what, n=1):
        with self.counting:
            self.counts[what] += n

    def stand(self, n):
        with self.counting:
            self.open += n
            self.most = max(self.most, self.open)

    # The serving side

    async def listen(self, listener):
        with contextlib.suppress(sock.Closed):
            while True:
                conn, _, _ = await listener.accept()
                sock.newthread(self.serve, conn)

    async def serve(self, conn):
        """Echoes. The first 8 bytes name the connection."""
        with conn:
            head = bytearray(8)
            try:
                if await conn.recvn(head) < len(head):
                    return
                key = int.from_bytes(head, 'big')
                account = self.served[key] = [0, 0]
                buf = bytearray(LARGEST)
                while n := await conn.recv(buf):
                    check(buf, n, account[0], key)
                    account[0] += n
                    account[1] += await conn.send(buf, n)
            except (sock.ConnectionReset, sock.BrokenPipe):
                pass

    # The connecting side

    async def connect_again_and_again(self, number):
        chance = random.Random(self.seed * 1000 + number)
        while sock.clock() < self.end:
            with sock.tcp() as conn:
                await conn.connect('127.0.0.1', chance.choice(self.ports), expires=sock.clock() + PATIENCE)
                key = next(self.keys)
                await conn.send(key.to_bytes(8, 'big'))
                how = chance.choice(['half-close', 'close', 'cancel', 'timeout'])
                sent = await self.talk(conn, chance, key)
                await getattr(self, how.replace('-', '_'))(conn, chance, key, sent)
                self.count(how)
                self.count('connections')

    async def stand_in_the_crowd(self, number):
        chance = random.Random(-self.seed * 100_000 - number)
        # Not all at once.
        await sock.sleep(min(PAUSE, (self.end - sock.clock()) / 4) * chance.random())
        while sock.clock() < self.end:
            with sock.tcp() as conn:
                await conn.connect(chance.choice(HOSTS), chance.choice(self.ports), expires=sock.clock() + PATIENCE)
                self.stand(1)
                key, sent = next(self.keys), 0
                await conn.send(key.to_bytes(8, 'big'))
                for _ in range(MESSAGES):
                    pause = min(2 * PAUSE * chance.random(), self.end - sock.clock())
                    if pause <= 0:
                        break
                    await sock.sleep(pause)
                    n = chance.randrange(1, 2000)
                    begin = sock.clock()
                    await send(conn, sent, n, key)
                    data = await conn.recv(n, expires=begin + PATIENCE)
                    while len(data) < n:
                        data += await conn.recv(n - len(data), expires=begin + PATIENCE)
                    self.echoes.add(sock.clock() - begin)
                    check(data, n, sent, key)
                    sent += n
                    self.count('bytes', 2 * n)
                await self.half_close(conn, chance, key, sent)
                self.stand(-1)
                self.count('crowd')

    async def talk(self, conn, chance, key):
        """Some messages, each read back before the next; how many bytes that were."""
        done, buf = 0, bytearray(LARGEST)
        for _ in range(chance.randrange(8)):
            n = chance.randrange(1, LARGEST)
            sending = sock.newthread(send, conn, done, n, key)
            got = await conn.recvn(buf, n, expires=sock.clock() + PATIENCE)
            assert got == n, (got, n)
            check(buf, n, done, key)
            assert await sending == n
            done += n
            self.count('bytes', 2 * n)
        return done

    async def half_close(self, conn, chance, key, sent):
        n = chance.randrange(1, LARGEST)
        await send(conn, sent, n, key)
        conn.shutdown('w')
        rest = await conn.recvall(expires=sock.clock() + PATIENCE)
        check(rest, len(rest), sent, key)
        assert len(rest) == n, (len(rest), n)
        await self.settle(key, sent + n)
        self.count('bytes', 2 * n)

    async def close(self, conn, chance, key, sent):
        """Another thread, on whatever OS thread, closes the socket that this one waits in."""

        async def closes():
            await sock.sleep(chance.random() * 0.003)
            conn.close()

        closing = sock.newthread(closes)
        try:
            await conn.recv(1)
            raise AssertionError('bytes from nowhere')
        except sock.Closed:
            pass
        await closing
        await self.settle(key, sent)

    async def cancel(self, conn, chance, key, sent):
        """A reader that is cancelled leaves the connection whole: it is ended in order after that."""

        async def waits():
            await conn.recv(1)

        reader = sock.newthread(waits)
        await sock.sleep(chance.random() * 0.002)
        reader.cancel()
        try:
            await reader
            raise AssertionError('bytes from nowhere')
        except sock.Cancelled:
            pass
        await self.half_close(conn, chance, key, sent)

    async def timeout(self, conn, chance, key, sent):
        try:
            await conn.recv(1, expires=sock.clock() + chance.random() * 0.005)
            raise AssertionError('bytes from nowhere')
        except sock.Timeout:
            assert conn.closed
        await self.settle(key, sent)

    async def settle(self, key, sent):
        """All that was sent has arrived over there, and as much has come back."""
        # There, the thread that sent may not have come to count it yet. It may not even have begun.
        until, pause = sock.clock() + PATIENCE, 0.001
        while (account := self.served.get(key, [0, 0])) != [sent, sent]:
            assert sock.clock() < until, (account, sent)
            await sock.sleep(pause)
            pause = min(2 * pause, 0.1)
        self.served.pop(key, None)

    # Between pollers

    async def produce(self, queue, to):
        n = 0
        while sock.clock() < self.end:
            await queue.put(n)
            n += 1
            if n % 100 == 0:
                await sock.sleep(0.001)
        to.append(n)
        await queue.put(None)

    async def consume(self, queue):
        n = 0
        while (item := await queue.get()) is not None:
            assert item == n, (item, n)
            n += 1
        self.count('passed', n)
        return n

    # One poller

    async def main(self, number, queues, barrier):
        with sock.tcp() as listener:
            listener.listen()
            self.ports.append(listener.local_addr.port)
            listening = sock.newthread(self.listen, listener)
            await sock.offload(barrier.wait, PATIENCE)
            produced = []
            async with sock.group() as group:
                group.newthread(self.produce, queues[number], produced)
                consumer = group.newthread(self.consume, queues[number - 1])
                for i in range(CONNECTIONS):
                    group.newthread(self.connect_again_and_again, number * CONNECTIONS + i)
                for i in range(number, self.crowd, len(queues)):
                    group.newthread(self.stand_in_the_crowd, i)
            assert consumer.result() > 0
            # The others may still want to connect.
            await sock.offload(barrier.wait, PATIENCE)
        await listening

    def poll(self, number, os_threads, queues, barrier):
        try:
            sock.run(self.main, number, queues, barrier, threads=os_threads)
        except BaseException as exc:
            self.failures.append(exc)
            barrier.abort()
            raise


async def send(conn, begin, n, key):
    return await conn.send(part(begin, n, key))


def part(begin, n, key):
    at = (begin + key) % SIZE
    return PATTERN[at : at + n]


def check(buf, n, begin, key):
    assert memoryview(buf)[:n] == part(begin, n, key), f'wrong bytes after {begin} of connection {key}'


def descriptors_allowed(wanted):
    """Raises the limit of open descriptors as far as is wanted, or allowed; what it is then."""
    try:
        import resource
    except ImportError:
        return wanted  # Windows has no such limit
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < wanted:
        with contextlib.suppress(ValueError, OSError):
            # Root may.
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            most = wanted
    limit = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
    return limit


def descriptors():
    return len(os.listdir('/proc/self/fd')) if os.path.isdir('/proc/self/fd') else 0


def left():
    gc.collect()
    return sum(isinstance(each, (sock.Thread, sock.TCP, sock.Poller)) for each in gc.get_objects())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seconds', type=float, default=600)
    parser.add_argument('--pollers', type=int, default=2)
    parser.add_argument('--os-threads', type=int, default=4, help='of each poller')
    parser.add_argument('--crowd', type=int, default=10_000, help='connections that are open all the time')
    parser.add_argument('--p99', type=float, default=2.0, help='seconds that 99 of 100 echoes in the crowd may take')
    parser.add_argument('--seed', type=int, default=int(time.time()))
    options = parser.parse_args()
    # What is made once stays: the pool of workers, this OS thread's poller.
    sock.run(once, options.pollers)
    before = left(), descriptors(), threading.active_count()
    crowd = min(options.crowd, descriptors_allowed(2 * options.crowd + 1000) // 2 - 500)
    if crowd < options.crowd:
        print(f'Only {crowd} connections in the crowd: the system allows no more descriptors (ulimit -n).')
    storm = Storm(options.seconds, crowd, options.seed)
    reports = []
    sock.excepthook = lambda thread, exc: reports.append((thread.name, repr(exc)))
    queues = [sock.Queue(16) for _ in range(options.pollers)]
    barrier = threading.Barrier(options.pollers)
    os_threads = [
        threading.Thread(target=storm.poll, args=(i, options.os_threads, queues, barrier))
        for i in range(options.pollers)
    ]
    print(
        f'{options.pollers} pollers of {options.os_threads} OS threads, {options.seconds:g} s, {crowd} connections, '
        f'seed {options.seed}'
    )
    for os_thread in os_threads:
        os_thread.start()
    begin = told = time.monotonic()
    while any(os_thread.is_alive() for os_thread in os_threads):
        time.sleep(0.1)
        if time.monotonic() - told >= 10:
            told += 10
            print(f'{told - begin:5.0f} s', storm.counts, f'{storm.open} open', flush=True)
        if time.monotonic() - begin > options.seconds + 4 * PATIENCE:
            sock.dump()
            sys.exit('it does not end')
    print(f'{time.monotonic() - begin:5.0f} s', storm.counts)
    counts = storm.counts
    if storm.failures or reports:
        sys.exit(f'failed: {storm.failures} {reports}')
    assert all(counts.values()), 'something never happened'
    shares = {share: storm.echoes.within(share / 100) for share in (50, 99, 99.9)}
    print(
        f'{storm.most} connections at once, {counts["connections"] + counts["crowd"]} in all, {counts["bytes"]} bytes '
        'there and back; echoes within ' + ', '.join(f'{shares[p] * 1e3:.1f} ms ({p} %)' for p in shares)
    )
    assert storm.most >= crowd * 0.9, 'the crowd never was complete'
    del storm, queues, barrier, os_threads
    after = left(), descriptors(), threading.active_count()
    if any(a > b for a, b in zip(after, before, strict=True)):
        sys.exit(f'left behind: objects, descriptors, OS threads: {before} before, {after} after')
    print(f'nothing left: objects, descriptors, OS threads: {before} before, {after} after')
    if shares[99] > options.p99:
        sys.exit(f'an echo in a hundred takes more than {options.p99:g} s')


async def once(pollers):
    """As many workers as the pollers will ask for at once."""
    together = threading.Barrier(pollers)

    async def wait():
        await sock.offload(together.wait, PATIENCE)

    async with sock.group() as group:
        for _ in range(pollers):
            group.newthread(wait)


if __name__ == '__main__':
    main()
