"""sock: one coroutine, as many datagrams at a time as there are."""

import sock
from _program import DATAGRAM, announce


async def main():
    bufs = [bytearray(DATAGRAM) for _ in range(64)]
    views = [memoryview(buf) for buf in bufs]
    with sock.udp() as s:
        s.bind('127.0.0.1')
        announce(s.local_addr.port)
        while True:
            got = await s.recvmany(bufs)
            await s.sendmany([(view[:n], client) for view, (n, client) in zip(views, got, strict=False)])


sock.run(main)
