"""The protocols that asyncio and the loops that stand in for it run. Transports set TCP_NODELAY by themselves."""

import asyncio

from _program import BACKLOG, BLOCK, MODE, PATH, announce, told


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Source(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.resume_writing()

    def pause_writing(self):
        self.paused = True

    def resume_writing(self):
        self.paused = False
        while not (self.paused or self.transport.is_closing()):
            self.transport.write(BLOCK)


class Sink(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.count = 0

    def data_received(self, data):
        self.count += len(data)

    def eof_received(self):
        self.transport.write(told(self.count))


async def _serve():
    loop = asyncio.get_running_loop()
    protocol = {'echo': Echo, 'bytes': Echo, 'source': Source, 'sink': Sink}[MODE]
    if PATH:
        server = await loop.create_unix_server(protocol, PATH, backlog=BACKLOG)
    else:
        server = await loop.create_server(protocol, '127.0.0.1', 0, backlog=BACKLOG)
    announce(PATH or server.sockets[0].getsockname()[1])
    await asyncio.Event().wait()


def run(new_event_loop):
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve())
