"""trio: a datagram at a time, on trio.socket."""

import trio
from _program import DATAGRAM, announce


async def main():
    buf = bytearray(DATAGRAM)
    view = memoryview(buf)
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as s:
        await s.bind(('127.0.0.1', 0))
        announce(s.getsockname()[1])
        while True:
            n, addr = await s.recvfrom_into(buf)
            await s.sendto(view[:n], addr)


trio.run(main)
