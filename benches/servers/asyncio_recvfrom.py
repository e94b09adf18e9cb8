"""asyncio: a datagram at a time, on the loop's socket methods."""

import asyncio
import socket

from _program import DATAGRAM, announce


async def main():
    loop = asyncio.get_running_loop()
    buf = bytearray(DATAGRAM)
    view = memoryview(buf)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.setblocking(False)
        s.bind(('127.0.0.1', 0))
        announce(s.getsockname()[1])
        while True:
            n, addr = await loop.sock_recvfrom_into(s, buf)
            await loop.sock_sendto(s, view[:n], addr)


asyncio.run(main())
