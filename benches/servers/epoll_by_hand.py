"""No library: select.epoll, level-triggered, and socket; one buffer for all connections."""

import select

from _program import BLOCK, BUFFER, MODE, SINK_BUFFER, listen, no_delay, told

epoll = select.epoll()
#: By descriptor.
conns = {}
#: What the peer has not taken yet, by descriptor; nothing is read from it meanwhile.
pending = {}
#: Of a source or a sink, by descriptor: bytes moved.
moved = {}
buf = bytearray(SINK_BUFFER if MODE == 'sink' else BUFFER)
view = memoryview(buf)
block = memoryview(BLOCK)


def close(fd):
    pending.pop(fd, None)
    moved.pop(fd, None)
    conns.pop(fd).close()


def echo(fd, conn):
    if fd in pending:
        rest = pending[fd]
        del rest[: conn.send(rest)]
        if not rest:
            del pending[fd]
            epoll.modify(fd, select.EPOLLIN)
        return
    n = conn.recv_into(buf)
    if not n:
        close(fd)
        return
    try:
        sent = conn.send(view[:n])
    except BlockingIOError:
        sent = 0
    if sent < n:
        pending[fd] = buf[sent:n]
        epoll.modify(fd, select.EPOLLOUT)


def source(fd, conn):
    moved[fd] = moved.get(fd, 0) + conn.send(block[moved.get(fd, 0) % len(block) :])


def sink(fd, conn):
    n = conn.recv_into(buf)
    moved[fd] = moved.get(fd, 0) + n
    if not n:
        conn.send(told(moved[fd]))
        close(fd)


def accept(listener, events):
    try:
        while True:
            conn, _ = listener.accept()
            conn.setblocking(False)
            no_delay(conn)
            conns[conn.fileno()] = conn
            epoll.register(conn.fileno(), events)
    except BlockingIOError:
        pass


def main():
    serve = {'echo': echo, 'bytes': echo, 'source': source, 'sink': sink}[MODE]
    listener = listen()
    listener_fd = listener.fileno()
    epoll.register(listener_fd, select.EPOLLIN)
    while True:
        for fd, _ in epoll.poll():
            if fd == listener_fd:
                accept(listener, select.EPOLLOUT if serve is source else select.EPOLLIN)
                continue
            try:
                serve(fd, conns[fd])
            except BlockingIOError:
                pass
            except OSError:
                close(fd)


main()
