"""sock: as many datagrams at a time as have come, a buffer for each."""

import sock
from _program import DATAGRAM, announce

MOST = 32


async def main():
    bufs = [bytearray(DATAGRAM) for _ in range(MOST)]
    views = [memoryview(buf) for buf in bufs]
    with sock.udp() as s:
        s.bind('127.0.0.1')
        announce(s.local_addr.port)
        while True:
            got = await s.recvmany(bufs)
            await s.sendmany([(view[:n], addr) for view, (n, addr) in zip(views, got, strict=False)])


sock.run(main)
