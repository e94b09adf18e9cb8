"""A storm over several pollers, each polled by several OS threads: random closes, cancels, timeouts, half-closes.

Every byte that arrives is compared with what was sent, and all that was sent must arrive, both ways. At the end no
descriptor, OS thread, thread or socket may be left. `make soak` runs it for ten minutes.
"""

import argparse
import contextlib
import gc
import itertools
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


class Storm:
    def __init__(self, seconds, seed):
        self.end = sock.clock() + seconds
        self.seed = seed
        self.ports = []
        self.keys = itertools.count(1)
        #: What the serving side had of each connection: bytes received and sent.
        self.served = {}
        self.counts = dict.fromkeys(('connections', 'bytes', 'half-close', 'close', 'cancel', 'timeout', 'passed'), 0)
        self.counting = threading.Lock()
        self.failures = []

    def count(self, what, n=1):
        with self.counting:
            self.counts[what] += n

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
        until = sock.clock() + PATIENCE
        while (account := self.served.get(key, [0, 0])) != [sent, sent]:
            assert sock.clock() < until, (account, sent)
            await sock.sleep(0.001)
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
            listener.listen('127.0.0.1', backlog=1024)
            self.ports.append(listener.local_addr.port)
            listening = sock.newthread(self.listen, listener)
            await sock.offload(barrier.wait, PATIENCE)
            produced = []
            async with sock.group() as group:
                group.newthread(self.produce, queues[number], produced)
                consumer = group.newthread(self.consume, queues[number - 1])
                for i in range(CONNECTIONS):
                    group.newthread(self.connect_again_and_again, number * CONNECTIONS + i)
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
    parser.add_argument('--seed', type=int, default=int(time.time()))
    options = parser.parse_args()
    # What is made once stays: the pool of workers, this OS thread's poller.
    sock.run(once, options.pollers)
    before = left(), descriptors(), threading.active_count()
    storm = Storm(options.seconds, options.seed)
    reports = []
    sock.excepthook = lambda thread, exc: reports.append((thread.name, repr(exc)))
    queues = [sock.Queue(16) for _ in range(options.pollers)]
    barrier = threading.Barrier(options.pollers)
    os_threads = [
        threading.Thread(target=storm.poll, args=(i, options.os_threads, queues, barrier))
        for i in range(options.pollers)
    ]
    print(f'{options.pollers} pollers of {options.os_threads} OS threads, {options.seconds:g} s, seed {options.seed}')
    for os_thread in os_threads:
        os_thread.start()
    begin = told = time.monotonic()
    while any(os_thread.is_alive() for os_thread in os_threads):
        time.sleep(0.1)
        if time.monotonic() - told >= 10:
            told += 10
            print(f'{told - begin:5.0f} s', storm.counts, flush=True)
        if time.monotonic() - begin > options.seconds + 2 * PATIENCE:
            sock.dump()
            sys.exit('it does not end')
    print(f'{time.monotonic() - begin:5.0f} s', storm.counts)
    counts = storm.counts
    if storm.failures or reports:
        sys.exit(f'failed: {storm.failures} {reports}')
    assert all(counts.values()), 'something never happened'
    del storm, queues, barrier, os_threads
    after = left(), descriptors(), threading.active_count()
    if after > before:
        sys.exit(f'left behind: objects, descriptors, OS threads: {before} before, {after} after')
    print(f'nothing left: objects, descriptors, OS threads: {before} before, {after} after')


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
