"""A storm over several pollers, each polled by several OS threads: random closes, cancels, timeouts, half-closes.

Amid it stands a crowd of connections that come, say something now and then, and go, whose clients are another process:
`crowd.py`. All of them are held all the time. Every byte that arrives is compared with what was sent, and all that was
sent must arrive, both ways; an echo in the crowd has its time. Memory must not grow, and at the end no descriptor, OS
thread, thread or socket may be left. `make soak`: ten minutes, with 10,000 connections.
"""

import argparse
import contextlib
import gc
import itertools
import json
import math
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import sock
from held import descriptors, descriptors_allowed, give_back, resident
from support import busy

#: What a connection carries: byte i of the one with key k is PATTERN[(i + k) % SIZE].
SIZE = 1 << 16
PATTERN = random.Random(7).randbytes(SIZE) * 2
LARGEST = 20_000
CONNECTIONS = 24
PATIENCE = 30
#: Keys from this one on are of connections of the crowd.
CROWD = 1 << 63
#: Descriptors that a process needs besides those of the crowd.
BESIDES = 500
#: The share by which the process's memory may grow in the second half. What allocators make of ever new buffers of 1 to
#: 20,000 bytes was a tenth in ten minutes, with no more objects; `leaks.py` measures what is left of each connection.
GROWTH = 0.2
#: How many times the bound of an echo may be as long, at most, on a machine that others use too.
OTHERS = 4
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
    def __init__(self, seconds, seed):
        self.seconds = seconds
        self.seed = seed
        #: All of the crowd stand, and until when the storm lasts.
        self.complete = threading.Event()
        self.end = None
        self.ports = []
        self.keys = itertools.count(1)
        #: What the serving side had of each connection: bytes received and sent.
        self.served = {}
        self.counts = dict.fromkeys(('connections', 'bytes', 'half-close', 'close', 'cancel', 'timeout', 'passed'), 0)
        self.counting = threading.Lock()
        self.failures = []
        #: Connections of the crowd that are open here, and the fewest there were from when all stood to the end.
        self.open = self.fewest = 0
        #: Bytes of the crowd received and sent here, and what it says itself.
        self.moved = [0, 0]
        self.told = None

    def count(self, what, n=1):
        with self.counting:
            self.counts[what] += n

    def stand(self, n):
        with self.counting:
            self.open += n
            if self.complete.is_set() and sock.clock() < self.end:
                self.fewest = min(self.fewest, self.open)

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
                account = [0, 0]
                if key < CROWD:
                    self.served[key] = account
                    await self.echo(conn, key, account)
                else:
                    self.stand(1)
                    await self.echo(conn, key, account)
                    self.stand(-1)
                    with self.counting:
                        self.moved = [a + b for a, b in zip(self.moved, account, strict=True)]
            except (sock.ConnectionReset, sock.BrokenPipe):
                pass

    async def echo(self, conn, key, account):
        buf = bytearray(LARGEST)
        while n := await conn.recv(buf):
            check(buf, n, account[0], key)
            account[0] += n
            account[1] += await conn.send(buf, n)

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
        # There, the thread that sent may not have come to count it yet. It may not even have begun, which it will.
        until, pause = sock.clock() + PATIENCE, 0.001
        while (account := self.served.get(key)) != [sent, sent]:
            assert sock.clock() < until, (account, sent)
            await sock.sleep(pause)
            pause = min(2 * pause, 0.1)
        del self.served[key]

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

    def hear(self, lines):
        """What the crowd says."""
        for line in lines:
            told = json.loads(line)
            if 'standing' in told:
                with self.counting:
                    self.fewest = self.open
                    self.end = sock.clock() + self.seconds
                    self.complete.set()
            else:
                self.told = told

    # One poller

    async def main(self, number, queues, barrier):
        with sock.tcp() as listener:
            listener.listen()
            self.ports.append(listener.local_addr.port)
            listening = sock.newthread(self.listen, listener)
            # All ports are known; then all of the crowd stand.
            await sock.offload(barrier.wait, PATIENCE)
            await sock.offload(barrier.wait, 5 * PATIENCE)
            produced = []
            async with sock.group() as group:
                group.newthread(self.produce, queues[number], produced)
                consumer = group.newthread(self.consume, queues[number - 1])
                for i in range(CONNECTIONS):
                    group.newthread(self.connect_again_and_again, number * CONNECTIONS + i)
            assert consumer.result() > 0
            # The others may still want to connect, and the crowd has to leave.
            await sock.offload(barrier.wait, 3 * PATIENCE)
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


def left():
    gc.collect()
    return sum(isinstance(each, (sock.Thread, sock.TCP, sock.Poller)) for each in gc.get_objects())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seconds', type=float, default=600)
    parser.add_argument('--pollers', type=int, default=2)
    parser.add_argument('--os-threads', type=int, default=4, help='of each poller')
    parser.add_argument('--crowd', type=int, default=10_000, help='connections that are held all the time')
    parser.add_argument(
        '--p99', type=float, default=0.5, help='seconds that 99 of 100 echoes may take on a free machine'
    )
    parser.add_argument('--seed', type=int, default=int(time.time()))
    options = parser.parse_args()
    if (allowed := descriptors_allowed(options.crowd + BESIDES)) < options.crowd + BESIDES:
        sys.exit(
            f'{options.crowd} connections take {options.crowd + BESIDES} descriptors in each of two processes, and the '
            f'system allows {allowed}: raise its hard limit (ulimit -Hn), or ask for fewer (--crowd)'
        )
    # What is made once stays: the pool of workers, this OS thread's poller.
    sock.run(once, options.pollers)
    before = held()
    memory = [resident()]
    # What others do here, not what this will.
    patience = bound(options.p99)
    storm = Storm(options.seconds, options.seed)
    reports = []
    sock.excepthook = lambda thread, exc: reports.append((thread.name, repr(exc)))
    queues = [sock.Queue(16) for _ in range(options.pollers)]
    barrier = threading.Barrier(options.pollers + 1)
    os_threads = [
        threading.Thread(target=storm.poll, args=(i, options.os_threads, queues, barrier))
        for i in range(options.pollers)
    ]
    print(
        f'{options.pollers} pollers of {options.os_threads} OS threads, {options.seconds:g} s, {options.crowd} '
        f'connections, seed {options.seed}',
        flush=True,
    )
    for os_thread in os_threads:
        os_thread.start()
    with contextlib.suppress(threading.BrokenBarrierError):
        barrier.wait(PATIENCE)
    with crowd(options, storm) as clients:
        begin = time.monotonic()
        while not storm.complete.wait(0.1) and clients.poll() is None and not storm.failures:
            if time.monotonic() - begin > 4 * PATIENCE:
                sys.exit(f'after {4 * PATIENCE} s only {storm.open} of {options.crowd} connections stand')
        gathered = time.monotonic() - begin
        begin = told = time.monotonic()
        if storm.complete.is_set():
            print(f'all stand after {gathered:.1f} s, {resident() / 1e6:.1f} MB', flush=True)
            clients.stdin.write(f'{options.seconds}\n')
            clients.stdin.flush()
            barrier.wait(PATIENCE)
        while clients.poll() is None and not storm.failures:
            time.sleep(0.1)
            # Half-way, what is taken once has been taken.
            if len(memory) < 3 and sock.clock() >= storm.end - (options.seconds / 2, 0)[len(memory) - 1]:
                # Free-threaded Python lets garbage in circles grow with the process before it looks for it.
                gc.collect()
                memory.append(resident())
            if time.monotonic() - told >= 10:
                told += 10
                print(
                    f'{told - begin:5.0f} s', storm.counts, f'{storm.open} open, {resident() / 1e6:.1f} MB', flush=True
                )
            if time.monotonic() - begin > options.seconds + 4 * PATIENCE:
                sock.dump()
                sys.exit('it does not end')
    memory += [resident()] * (3 - len(memory))
    if clients.returncode:
        storm.failures.append(f'the crowd ended with {clients.returncode}')
        barrier.abort()
    with contextlib.suppress(threading.BrokenBarrierError):
        barrier.wait(3 * PATIENCE)
    for os_thread in os_threads:
        os_thread.join(PATIENCE)
    print(f'{time.monotonic() - begin:5.0f} s', storm.counts)
    if storm.failures or reports:
        sys.exit(f'failed: {storm.failures} {reports}')
    judge(storm, options.crowd, patience)
    del storm, queues, barrier, os_threads
    after = held()
    give_back()
    memory.append(resident())
    if any(a > b for a, b in zip(after, before, strict=True)):
        sys.exit(f'left behind: objects, descriptors, OS threads: {before} before, {after} after')
    print(f'nothing left: objects, descriptors, OS threads: {before} before, {after} after')
    print('memory before, half-way, at the end, after: ' + ', '.join(f'{each / 1e6:.1f} MB' for each in memory))
    if memory[2] > memory[1] * (1 + GROWTH):
        sys.exit(f'memory grows by more than {GROWTH:.0%} from half-way to the end, with the same connections')


def bound(p99):
    """Seconds that 99 of 100 echoes may take, with what else the machine does now."""
    return p99 * min(busy(), OTHERS)


def held():
    return left(), descriptors(), threading.active_count()


@contextlib.contextmanager
def crowd(options, storm):
    """The clients of the crowd, whose process ends with the block, or with this one."""
    command = [sys.executable, Path(__file__).with_name('crowd.py'), '--clients', options.crowd]
    command += ['--seed', options.seed, *storm.ports]
    with subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as clients:
        listening = threading.Thread(target=storm.hear, args=[clients.stdout])
        listening.start()
        try:
            yield clients
        finally:
            clients.kill()
            listening.join()


def judge(storm, crowd, patience):
    """Ends the program where not all of the crowd was held, bytes are missing, or echoes were slow."""
    if storm.fewest < crowd:
        sys.exit(f'of {crowd} connections only {storm.fewest} were held at some time')
    told = storm.told
    assert storm.moved == [told['sent']] * 2, f'bytes of the crowd: {told["sent"]} sent, {storm.moved} came and went'
    assert all(storm.counts.values()), 'something never happened'
    echoes = Times()
    echoes.counts = {int(step): n for step, n in told['echoes'].items()}
    shares = {share: echoes.within(share / 100) for share in (50, 99, 99.9)}
    print(
        f'{storm.fewest} connections held, {storm.counts["connections"] + told["connections"]} in all, '
        f'{storm.counts["bytes"] + 2 * told["sent"]} bytes there and back; {sum(echoes.counts.values())} echoes within '
        + ', '.join(f'{shares[p] * 1e3:.1f} ms ({p} %)' for p in shares)
        + f'; 99 % have to take no more than {patience * 1e3:g} ms'
    )
    if shares[99] > patience:
        sys.exit(f'an echo in a hundred takes more than {patience:g} s')


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
