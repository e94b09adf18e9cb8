"""A day's worth of connections, several at once: what a process holds must not grow.

Half of them end as they should; others are reset, cancelled, closed or run out of time. After the first tenth, which
makes what is made once, memory, descriptors, OS threads and Python objects must stay as they are.
"""

import argparse
import contextlib
import gc
import sys
import threading
import time

import sock
from held import descriptors, resident
from soak import HOSTS

#: At once.
CLIENTS = 32
#: What the process's memory may grow by, in bytes: that of the allocators, whose pages never are all in use.
MEMORY = 3 << 20


class Day:
    def __init__(self, connections):
        self.left = self.connections = connections
        self.before = None
        self.told = time.monotonic()

    async def serve(self, conn):
        with conn:
            buf = bytearray(256)
            with contextlib.suppress(sock.Error):
                while n := await conn.recv(buf):
                    await conn.send(buf, n)

    async def listen(self, listener):
        with contextlib.suppress(sock.Closed):
            while True:
                conn, _, _ = await listener.accept()
                sock.newthread(self.serve, conn)

    async def connect(self, port, number):
        """One connection, which ends in one of eight ways; reset at last, so that its port is free at once."""
        host = HOSTS[number % len(HOSTS)]
        with sock.tcp() as conn:
            conn.setopt('so_linger', 0)
            await conn.connect(host, port)
            await conn.send(b'hello')
            assert await conn.recv(256) == b'hello'
            match number % 8:
                case 0:
                    reading = sock.newthread(read, conn)
                    reading.cancel()
                    with contextlib.suppress(sock.Cancelled):
                        await reading
                case 1:
                    with contextlib.suppress(sock.Timeout):
                        await conn.recv(1, expires=0)
                case 2:
                    reading = sock.newthread(read, conn)
                    conn.close()
                    with contextlib.suppress(sock.Closed):
                        await reading
                case 3:
                    conn.shutdown('w')
                    assert await conn.recvall() == b''
                case _:
                    pass

    async def keep_connecting(self, port):
        while self.left > 0:
            self.left -= 1
            await self.connect(port, self.left)
            if self.left % 1000 == 0:
                # Free-threaded Python lets garbage in circles, such as a thread in the traceback of its own exception,
                # grow with the process before it looks for it.
                gc.collect()
            if time.monotonic() - self.told > 10:
                self.told = time.monotonic()
                print(f'{self.connections - self.left:9} connections, {resident() / 1e6:.2f} MB', flush=True)
            if self.before is None and self.left < self.connections * 0.9:
                self.before = self.held()

    def held(self):
        gc.collect()
        return resident(), descriptors(), threading.active_count(), len(gc.get_objects())

    async def main(self):
        with sock.tcp() as listener:
            listener.listen()
            sock.newthread(self.listen, listener)
            async with sock.group() as group:
                for _ in range(CLIENTS):
                    group.newthread(self.keep_connecting, listener.local_addr.port)
            return self.held()


async def read(conn):
    return await conn.recv(1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--connections', type=int, default=1_000_000)
    options = parser.parse_args()
    begin = time.monotonic()
    day = Day(options.connections)
    # What is made once is there: this OS thread's poller.
    sock.poller()
    first = descriptors()
    after = sock.run(day.main)
    left = descriptors() - first
    memory, fds, os_threads, objects = (b - a for a, b in zip(day.before, after, strict=True))
    print(
        f'{options.connections} connections in {time.monotonic() - begin:.0f} s; since the first tenth: '
        f'{memory / 1e3:+.0f} kB of {after[0] / 1e6:.1f} MB, {fds:+} descriptors, {os_threads:+} OS threads, '
        f'{objects:+} objects; at the end {left:+} descriptors since the beginning'
    )
    # The last connections are ending, in either measure.
    if memory > MEMORY or fds > 2 * CLIENTS or os_threads or objects > 40 * CLIENTS:
        sys.exit('something is left of each connection')
    if sock.threads() or left > 0:
        sys.exit('something is left at the end')


if __name__ == '__main__':
    main()
