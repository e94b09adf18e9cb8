"""gevent: one greenlet, on gevent.socket."""

from _program import DATAGRAM, announce
from gevent import socket


def main():
    buf = bytearray(DATAGRAM)
    view = memoryview(buf)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(('127.0.0.1', 0))
        announce(s.getsockname()[1])
        while True:
            n, client = s.recvfrom_into(buf)
            s.sendto(view[:n], client)


main()
