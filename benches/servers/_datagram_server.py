"""The datagram echo protocol that asyncio and the loops that stand in for it run."""

import asyncio
from collections.abc import Callable

from _program import announce


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.transport.sendto(data, addr)


async def _serve():
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Echo, ('127.0.0.1', 0))
    announce(transport.get_extra_info('sockname')[1])
    await asyncio.Event().wait()


def run(new_event_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve())
