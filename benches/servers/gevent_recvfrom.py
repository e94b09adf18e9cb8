"""gevent: a datagram at a time, on gevent.socket."""

from _program import DATAGRAM, announce
from gevent import socket


def main():
    buf = bytearray(DATAGRAM)
    view = memoryview(buf)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(('127.0.0.1', 0))
        announce(s.getsockname()[1])
        while True:
            n, addr = s.recvfrom_into(buf)
            s.sendto(view[:n], addr)


main()
