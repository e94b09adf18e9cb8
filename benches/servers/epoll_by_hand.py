"""No library: select.epoll, level-triggered, and socket; one buffer for all connections."""

import select
import socket

from _program import BACKLOG, BUFFER, announce


def main():
    listener = socket.create_server(('127.0.0.1', 0), backlog=BACKLOG)
    listener.setblocking(False)
    announce(listener.getsockname()[1])
    listener_fd = listener.fileno()
    epoll = select.epoll()
    epoll.register(listener_fd, select.EPOLLIN)
    conns = {}
    #: What the peer has not taken yet, by descriptor; nothing is read from it meanwhile.
    pending = {}
    buf = bytearray(BUFFER)
    view = memoryview(buf)

    def close(fd):
        pending.pop(fd, None)
        conns.pop(fd).close()

    while True:
        for fd, _ in epoll.poll():
            if fd == listener_fd:
                try:
                    while True:
                        conn, _ = listener.accept()
                        conn.setblocking(False)
                        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
                        conns[conn.fileno()] = conn
                        epoll.register(conn.fileno(), select.EPOLLIN)
                except BlockingIOError:
                    pass
                continue
            conn = conns[fd]
            try:
                if fd in pending:
                    rest = pending[fd]
                    del rest[: conn.send(rest)]
                    if not rest:
                        del pending[fd]
                        epoll.modify(fd, select.EPOLLIN)
                    continue
                n = conn.recv_into(buf)
                if not n:
                    close(fd)
                    continue
                try:
                    sent = conn.send(view[:n])
                except BlockingIOError:
                    sent = 0
                if sent < n:
                    pending[fd] = buf[sent:n]
                    epoll.modify(fd, select.EPOLLOUT)
            except BlockingIOError:
                pass
            except OSError:
                close(fd)


main()
