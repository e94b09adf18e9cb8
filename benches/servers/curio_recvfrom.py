"""curio: a datagram at a time, on curio.socket."""

import _names_of_old  # noqa: F401 - before curio
import curio
from _program import DATAGRAM, announce
from curio import socket


async def main():
    buf = bytearray(DATAGRAM)
    view = memoryview(buf)
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(('127.0.0.1', 0))
    announce(s.getsockname()[1])
    async with s:
        while True:
            n, addr = await s.recvfrom_into(buf)
            await s.sendto(view[:n], addr)


curio.run(main)
