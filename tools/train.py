"""What runs often: the load from which the compiler learns the hot path, in `make wheel` (`maturin build --pgo`).

What never ran is laid out as if it never will: so everything that moves data or switches threads runs here, the usual
ways of it most often.
"""

import contextlib
import gc
import socket
import sys
import tempfile
import time

import sock

#: No deadline here passes, but where that is the point.
LATER = 3600


async def serve(conn, size):
    buf = bytearray(size)
    with conn:
        while n := await conn.recv(buf):
            await conn.send(buf, n)


async def serve_bytes(conn, size):
    with conn, contextlib.suppress(sock.Error):
        while data := await conn.recv(size):
            await conn.send(data)


async def serve_in_time(conn, size):
    buf = bytearray(size)
    with conn:
        while n := await conn.recv(buf, expires=sock.clock() + LATER):
            await conn.send(buf, n, expires=sock.clock() + LATER)


async def accept(listener, server, size):
    with contextlib.suppress(sock.Closed):
        while True:
            conn, _, _ = await listener.accept()
            sock.newthread(server, conn, size)


async def ask(conn, message, count):
    """As an echo's client, which knows how long the answer is."""
    buf = bytearray(len(message))
    with conn:
        for _ in range(count):
            await conn.send(message)
            await conn.recvn(buf)
        conn.shutdown('w')
        assert await conn.recv(buf) == 0


async def echo(server, connections, size, count, buffer=65536):
    """All of the connections at once, as a server has them."""
    with sock.tcp() as listener:
        listener.listen('127.0.0.1')
        accepting = sock.newthread(accept, listener, server, buffer)
        async with sock.group() as group:
            for _ in range(connections):
                conn = sock.tcp()
                await conn.connect(listener.local_addr)
                group.newthread(ask, conn, bytes(size), count)
        listener.close()
        await accepting


async def short_connections(count):
    with sock.tcp() as listener:
        listener.listen('127.0.0.1')
        accepting = sock.newthread(accept, listener, serve_bytes, 1024)
        for _ in range(count):
            with sock.tcp() as conn:
                conn.setopt('so_linger', 0)
                await conn.connect('127.0.0.1', listener.local_addr.port)
                await conn.send(b'x')
                assert await conn.recv(1) == b'x'
        listener.close()
        await accepting


async def over_a_pair(count):
    """Unix sockets, on Unix; messages that have to wait, a stream to its end."""
    one, other = map(sock.fromsocket, socket.socketpair())
    serving = sock.newthread(serve, other, 64)
    await ask(one, bytes(64), count)
    await serving
    for _ in range(10):
        one, other = map(sock.fromsocket, socket.socketpair())
        with one, other:
            await one.writable()
            sending = sock.newthread(one.send, bytes(1_000_000))
            await other.readable()
            sending.onfinish(lambda _, one=one: one.shutdown('w'))
            assert len(await other.recv(100_000)) + len(await other.recvall()) == 1_000_000


async def datagrams(count):
    with sock.udp() as server, sock.udp() as client:
        server.bind('127.0.0.1')
        client.bind('127.0.0.1')
        buf = bytearray(1500)
        for _ in range(count):
            await client.send(bytes(512), host=server.local_addr)
            n, addr = await server.recvfrom(buf)
            await server.send(buf, n, addr)
            await client.recvfrom(1500)
        await client.connect(server.local_addr)
        for _ in range(count // 16):
            await client.sendmany([(bytes(512), None)] * 8)
            left = 8
            while left:
                left -= await server.sendmany(await server.recvmany(64))
            for _ in range(4):
                await client.recv(buf)
                await client.recv(1500)


async def file(count):
    with tempfile.TemporaryFile() as source:
        source.write(bytes(100_000))
        source.flush()
        for _ in range(count):
            one, other = map(sock.fromsocket, socket.socketpair())
            with one, other:
                sending = sock.newthread(one.sendfile, source, 0)
                assert await other.recvn(bytearray(100_000)) == 100_000
                await sending


async def nothing():
    pass


async def passes(count):
    for _ in range(count):
        await sock.sleep(0)


async def suspends(count):
    for _ in range(count):
        await sock.suspend()


async def threads(count):
    for _ in range(count):
        await sock.newthread(nothing)
    for _ in range(count // 100):
        for thread in [sock.newthread(passes, 1) for _ in range(100)]:
            await thread
    for thread in [sock.newthread(passes, count) for _ in range(2)]:
        await thread
    suspended = sock.newthread(suspends, count)
    for _ in range(count):
        suspended.resume()
    await suspended
    for thread in [sock.newthread(sock.sleep, n % 97 / 1000) for n in range(count)]:
        await thread
    for _ in range(count // 10):
        sock.runafter(LATER, nothing).cancel()
        thread = sock.newthread(sock.sleep, LATER)
        thread.cancel()
        with contextlib.suppress(sock.Cancelled):
            await thread
        with sock.deadline(sock.clock() + LATER):
            await sock.sleep(0)
    for _ in range(20):
        with contextlib.suppress(sock.Timeout), sock.deadline(sock.clock() + 0.001):
            await sock.suspend()


async def synchronizing(count):
    lock, queue, event = sock.Lock(), sock.Queue(4), sock.Event()

    async def produces():
        await event.wait()
        for n in range(count):
            async with lock:
                await sock.sleep(0)
            await queue.put(n)

    producers = [sock.newthread(produces) for _ in range(2)]
    event.set()
    for _ in range(2 * count):
        await queue.get()
    for producer in producers:
        await producer
    await sock.offload(time.monotonic)


async def main():
    await echo(serve, 64, 1024, 600)
    await echo(serve, 1, 1024, 5000)
    await echo(serve_in_time, 64, 1024, 150)
    await echo(serve_bytes, 64, 1024, 150)
    await echo(serve_bytes, 16, 102_400, 30, 131_072)
    await over_a_pair(20_000)
    await short_connections(3000)
    await datagrams(20_000)
    await file(50)
    await threads(20_000)
    await synchronizing(2000)


began = time.monotonic()
sock.run(main)
# By several OS threads, for the ways that only these take.
sock.run(echo, serve, 16, 1024, 500, threads=2)
gc.collect()
print(f'trained for {time.monotonic() - began:.1f} s', file=sys.stderr)
