"""gevent: a greenlet for each connection, on gevent.socket."""

from contextlib import suppress

import gevent
from _program import BLOCK, BUFFER, MODE, SINK_BUFFER, listen, no_delay, told
from gevent import socket


def echo(conn):
    buf = bytearray(BUFFER)
    view = memoryview(buf)
    with conn:
        while n := conn.recv_into(buf):
            conn.sendall(view[:n])


def echo_bytes(conn):
    with conn:
        while data := conn.recv(BUFFER):
            conn.sendall(data)
            del data


def source(conn):
    with conn, suppress(OSError):
        while True:
            conn.sendall(BLOCK)


def sink(conn):
    buf = bytearray(SINK_BUFFER)
    count = 0
    with conn:
        while n := conn.recv_into(buf):
            count += n
        conn.sendall(told(count))


def main():
    serve = {'echo': echo, 'bytes': echo_bytes, 'source': source, 'sink': sink}[MODE]
    with socket.socket(fileno=listen().detach()) as listener:
        while True:
            conn, _ = listener.accept()
            no_delay(conn)
            gevent.spawn(serve, conn)


main()
