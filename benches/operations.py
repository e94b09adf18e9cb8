"""The main operations, one at a time, for `instructions.py`: `operations.py NAME COUNT` repeats one so many times."""

import contextlib
import gc
import os
import socket
import sys

import sock

#: No deadline here passes.
LATER = 3600


@contextlib.contextmanager
def received(count):
    """A socket with so many bytes to receive."""
    ours, theirs = socket.socketpair()
    theirs.sendall(bytes(count))
    with sock.fromsocket(ours) as conn, theirs:
        yield conn


async def ready_recv(count):
    """`await conn.recv(buf)` of a byte that is there."""
    buf = bytearray(1)
    with received(count) as conn:
        for _ in range(count):
            await conn.recv(buf)


async def answer(conn, count):
    buf = bytearray(64)
    for _ in range(count):
        n = await conn.recv(buf)
        await conn.send(buf, n)


async def echo(count, deadline=lambda: None):
    """A message there and back over a socket pair: two threads, each of which waits for the other, and their polls."""
    one, other = map(sock.fromsocket, socket.socketpair())
    buf = bytearray(64)
    with one, other:
        answering = sock.newthread(answer, other, count)
        for _ in range(count):
            await one.send(buf, expires=deadline())
            await one.recv(buf, expires=deadline())
        await answering


async def echo_with_deadlines(count):
    """The same with a deadline for each of one side's operations."""
    await echo(count, lambda: sock.clock() + LATER)


async def deadline(count):
    """`with sock.deadline(t):` around an operation that completes at once."""
    buf = bytearray(1)
    with received(count) as conn:
        for _ in range(count):
            with sock.deadline(sock.clock() + LATER):
                await conn.recv(buf)


async def datagram(count):
    """`recvfrom`, and `send` to where it came from: a datagram that a socket sends to itself, again and again."""
    buf = bytearray(64)
    with sock.udp() as s:
        s.bind('127.0.0.1')
        await s.send(bytes(64), host=s.local_addr)
        for _ in range(count):
            n, addr = await s.recvfrom(buf)
            await s.send(buf, n, addr)


async def accept(count):
    """`accept` and `close` of a connection that is there, and what the standard library's client takes."""
    with sock.tcp() as listener:
        listener.listen('127.0.0.1')
        place = tuple(listener.local_addr)
        for _ in range(count):
            with socket.socket() as client:
                client.connect(place)
                conn, _, _ = await listener.accept()
                conn.close()


async def nothing():
    pass


async def spawn(count):
    """A thread that does nothing, started and awaited."""
    for _ in range(count):
        await sock.newthread(nothing)


async def passes(count):
    for _ in range(count):
        await sock.sleep(0)


async def switch(count):
    """A switch between two threads that do nothing but yield."""
    threads = [sock.newthread(passes, each) for each in (count // 2, count - count // 2)]
    for thread in threads:
        await thread


async def timer(count):
    """A timer that is set, waits, and is cancelled."""
    for _ in range(count):
        sock.runafter(LATER, nothing).cancel()
        await sock.sleep(0)


OPERATIONS = {
    each.__name__: each
    for each in (ready_recv, echo, echo_with_deadlines, deadline, datagram, accept, spawn, switch, timer)
}

if __name__ == '__main__':
    # When a collection comes, and what of the interpreter's own it goes through, is chance.
    gc.disable()
    sock.run(OPERATIONS[sys.argv[1]], int(sys.argv[2]))
    # Nor does what the interpreter clears up at its end belong here.
    os._exit(0)
