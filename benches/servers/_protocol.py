"""The echo protocol that asyncio and the loops that stand in for it run. Transports set TCP_NODELAY by themselves."""

import asyncio
from collections.abc import Callable

from _program import BACKLOG, announce


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


async def _serve(protocol):
    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, '127.0.0.1', 0, backlog=BACKLOG)
    announce(server.sockets[0].getsockname()[1])
    await asyncio.Event().wait()


def run(new_event_loop: Callable[[], asyncio.AbstractEventLoop], protocol: type[asyncio.BaseProtocol] = Echo) -> None:
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve(protocol))
