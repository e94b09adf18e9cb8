"""sock: a datagram at a time, one buffer."""

import sock
from _program import DATAGRAM, announce


async def main():
    buf = bytearray(DATAGRAM)
    with sock.udp() as s:
        s.bind('127.0.0.1')
        announce(s.local_addr.port)
        while True:
            n, addr = await s.recvfrom(buf)
            await s.send(buf, n, addr)


sock.run(main)
