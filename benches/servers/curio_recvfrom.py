"""curio: one task, on curio.socket."""

import _names_of_old  # noqa: F401
import curio
from _program import DATAGRAM, announce
from curio import socket


async def main():
    buf = bytearray(DATAGRAM)
    view = memoryview(buf)
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    async with s:
        s.bind(('127.0.0.1', 0))
        announce(s.getsockname()[1])
        while True:
            n, client = await s.recvfrom_into(buf)
            await s.sendto(view[:n], client)


curio.run(main)
