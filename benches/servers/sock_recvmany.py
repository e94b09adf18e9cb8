"""sock: as many datagrams at a time as have come."""

import sock
from _program import announce

MOST = 32


async def main():
    with sock.udp() as s:
        s.bind('127.0.0.1')
        announce(s.local_addr.port)
        while True:
            await s.sendmany(await s.recvmany(MOST))


sock.run(main)
