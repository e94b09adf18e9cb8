"""gevent: a greenlet for each connection, on gevent.socket."""

import gevent
from _program import BACKLOG, BUFFER, announce
from gevent import socket


def serve(conn):
    buf = bytearray(BUFFER)
    view = memoryview(buf)
    with conn:
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        while n := conn.recv_into(buf):
            conn.sendall(view[:n])


def main():
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        listener.listen(BACKLOG)
        announce(listener.getsockname()[1])
        while True:
            conn, _ = listener.accept()
            gevent.spawn(serve, conn)


main()
