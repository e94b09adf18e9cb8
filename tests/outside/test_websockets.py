"""WebSockets by the protocol classes of `websockets`, which do no I/O, over our sockets.

At the other end are that package's own clients and servers, on asyncio or OS threads.
"""

import asyncio
import concurrent.futures
import contextlib
import os
import socket
import threading

import pytest
import sock
from support import reset_on_close, run
from tls_client import TLS

from .servers import PATIENCE, needed, with_server

websockets = needed('websockets')
for module in (
    'asyncio.client',
    'asyncio.server',
    'client',
    'extensions.permessage_deflate',
    'frames',
    'http11',
    'server',
    'sync.client',
    'sync.server',
    'uri',
):
    needed(f'websockets.{module}')

Opcode = websockets.frames.Opcode


class Peer:
    """One side of a connection: one thread receives, any of them sends."""

    def __init__(self, conn, protocol, tls=None):
        self.conn = conn
        self.tls = tls
        self.stream = tls or conn
        self.protocol = protocol
        self.sending = sock.Lock()
        self.events = []

    async def flush(self):
        async with self.sending:
            for data in self.protocol.data_to_send():
                if data:
                    await self.stream.send(data)
                elif self.tls:
                    await self.tls.close()
                else:
                    self.conn.shutdown('w')

    async def event(self):
        """The next one, None at the end."""
        while not self.events:
            if self.conn.closed:
                self.protocol.receive_eof()
                return None
            if data := await self.stream.recv(65536):
                self.protocol.receive_data(data)
            else:
                self.protocol.receive_eof()
            self.events = self.protocol.events_received()
            await self.flush()
            if not data:
                return None
        return self.events.pop(0)

    async def message(self):
        """The next one, put together, as its kind and its bytes; None at the end."""
        kind, parts = None, []
        while (frame := await self.event()) is not None:
            if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                kind = kind or frame.opcode
                parts.append(bytes(frame.data))
                if frame.fin:
                    return kind, b''.join(parts)
        return None

    async def send(self, kind, data):
        (self.protocol.send_text if kind is Opcode.TEXT else self.protocol.send_binary)(data)
        await self.flush()

    async def accept(self):
        """A server's: answers the request."""
        self.protocol.send_response(self.protocol.accept(await self.event()))
        await self.flush()
        assert self.protocol.handshake_exc is None

    async def request(self):
        """A client's: asks, and looks at the answer."""
        self.protocol.send_request(self.protocol.connect())
        await self.flush()
        assert (await self.event()).status_code == 101
        assert self.protocol.handshake_exc is None


ended = []


async def echo(conn, context=None):
    """A server's connection."""
    with conn:
        tls = context and TLS(conn, context, server_side=True)
        if tls:
            await tls.handshake()
        deflate = websockets.extensions.permessage_deflate.ServerPerMessageDeflateFactory()
        peer = Peer(conn, websockets.server.ServerProtocol(extensions=[deflate], max_size=None), tls)
        try:
            await peer.accept()
            while (message := await peer.message()) is not None:
                await peer.send(*message)
        except sock.ConnectionReset:
            ended.append('reset')
        else:
            ended.append((peer.protocol.close_code, peer.protocol.close_reason))


@pytest.fixture(params=['ws', 'wss'])
def server(request, certified, trusting):
    """What serves a connection, the URL without its port, and options of clients."""
    ended.clear()
    if request.param == 'ws':
        return echo, 'ws://localhost', {}
    return (lambda conn: echo(conn, certified)), 'wss://localhost', {'ssl': trusting}


#: Of what a message may consist: nothing, what fits each of the three forms of a length, and much.
MESSAGES = [
    '',
    'hello',
    'grüße',
    'x' * 125,
    'x' * 126,
    b'',
    os.urandom(65535),
    os.urandom(65536),
    os.urandom(1_000_000),
]


def test_blocking_client_gets_its_messages_back():
    """Without TLS: it has two OS threads in one SSLSocket at once, which some versions of CPython do not bear."""
    ended.clear()

    def client(port):
        with websockets.sync.client.connect(f'ws://localhost:{port}', max_size=None, proxy=None) as ws:
            for message in MESSAGES:
                ws.send(message)
                assert ws.recv(PATIENCE) == message
            ws.send(['one, ', 'two, ', 'three'])
            assert ws.recv(PATIENCE) == 'one, two, three'
            assert ws.ping().wait(PATIENCE)
            ws.close(4321, 'enough')
            return ws.protocol.close_code, ws.protocol.close_reason

    assert with_server(echo, client) == (4321, 'enough')
    assert ended == [(4321, 'enough')]


def test_client_on_asyncio_gets_its_messages_back(server):
    serve, url, options = server

    async def client(port):
        connecting = websockets.asyncio.client.connect(f'{url}:{port}', max_size=None, proxy=None, **options)
        async with asyncio.timeout(PATIENCE), connecting as ws:
            assert [e.name for e in ws.protocol.extensions] == ['permessage-deflate']
            for message in MESSAGES:
                await ws.send(message)
                assert await ws.recv() == message
            await ws.send(['one, ', 'two, ', 'three'])
            assert await ws.recv() == 'one, two, three'
            await (await ws.ping())
            await ws.close(4321, 'enough')
            return ws.close_code, ws.close_reason

    assert with_server(serve, lambda port: asyncio.run(client(port))) == (4321, 'enough')
    assert ended == [(4321, 'enough')]


@pytest.mark.parametrize('threads', [1, 3])
def test_hundred_clients_on_asyncio_get_their_messages_back(server, threads):
    serve, url, options = server

    async def one(port, i):
        async with websockets.asyncio.client.connect(f'{url}:{port}', proxy=None, **options) as ws:
            for j in range(10):
                data = bytes([i]) * (j * 1000)
                await ws.send(data)
                assert await ws.recv() == data
            await ws.send(f'{i}')
            return await ws.recv()

    async def many(port):
        async with asyncio.timeout(PATIENCE * 2):
            return await asyncio.gather(*(one(port, i) for i in range(100)))

    got = with_server(serve, lambda port: asyncio.run(many(port)), threads)
    assert got == [f'{i}' for i in range(100)]
    assert ended == [(1000, '')] * 100


def test_client_that_is_gone_ends_its_connection_alone():
    ended.clear()

    def client(port):
        with websockets.sync.client.connect(f'ws://localhost:{port}', proxy=None) as stays:
            with socket.create_connection(('127.0.0.1', port), PATIENCE) as goes:
                protocol = websockets.client.ClientProtocol(websockets.uri.parse_uri('ws://localhost'))
                protocol.send_request(protocol.connect())
                goes.sendall(b''.join(protocol.data_to_send()))
                assert goes.recv(1000).startswith(b'HTTP/1.1 101')
                reset_on_close(goes)
            stays.send('still there?')
            return stays.recv(PATIENCE)

    assert with_server(echo, client) == 'still there?'
    assert ended == ['reset', (1000, '')]


@contextlib.contextmanager
def blocking_server(context):
    if context is not None:
        pytest.skip(
            'it reads and writes one SSLSocket from two OS threads, of which CPython may make an internal error'
        )

    def serve(ws):
        for message in ws:
            ws.send(message)

    with websockets.sync.server.serve(serve, '127.0.0.1', 0, max_size=None, ssl=context) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join(PATIENCE)


@contextlib.contextmanager
def asyncio_server(context):
    async def serve(ws):
        async for message in ws:
            await ws.send(message)

    async def main():
        end = asyncio.Event()
        async with websockets.asyncio.server.serve(serve, '127.0.0.1', 0, max_size=None, ssl=context) as server:
            started.set_result((asyncio.get_running_loop(), end, server.sockets[0].getsockname()[1]))
            await end.wait()

    started = concurrent.futures.Future()
    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    loop, end, port = started.result(PATIENCE)
    yield port
    loop.call_soon_threadsafe(end.set)
    thread.join(PATIENCE)


@pytest.mark.parametrize(
    ('server', 'scheme'), [(blocking_server, 'ws'), (asyncio_server, 'ws'), (asyncio_server, 'wss')]
)
def test_client_gets_its_messages_back(server, scheme, certified, trusting):
    async def client(port):
        deflate = websockets.extensions.permessage_deflate.ClientPerMessageDeflateFactory()
        uri = websockets.uri.parse_uri(f'{scheme}://localhost:{port}')
        with sock.tcp() as conn, sock.deadline(sock.clock() + PATIENCE):
            await conn.connect('127.0.0.1', port)
            tls = None
            if scheme == 'wss':
                tls = TLS(conn, trusting, 'localhost')
                await tls.handshake()
            protocol = websockets.client.ClientProtocol(uri, extensions=[deflate], max_size=None)
            peer = Peer(conn, protocol, tls)
            await peer.request()
            for message in MESSAGES:
                sent = (Opcode.TEXT, message.encode()) if isinstance(message, str) else (Opcode.BINARY, message)
                await peer.send(*sent)
                assert await peer.message() == sent
            protocol.send_close(4000, 'goodbye')
            await peer.flush()
            assert await peer.message() is None
            return protocol.close_code, protocol.close_reason

    async def main():
        async with sock.group() as group:
            threads = [group.newthread(client, port) for _ in range(5)]
        assert [thread.result() for thread in threads] == [(4000, 'goodbye')] * 5

    with server(certified if scheme == 'wss' else None) as port:
        run(main)


def test_server_that_is_silent_is_given_up_by_a_deadline():
    async def main():
        with socket.create_server(('127.0.0.1', 0)) as listener, sock.tcp() as conn:
            await conn.connect(*listener.getsockname())
            peer = Peer(conn, websockets.client.ClientProtocol(websockets.uri.parse_uri('ws://localhost')))
            begin = sock.clock()
            with pytest.raises(sock.Timeout), sock.deadline(begin + 0.1):
                await peer.request()
            assert 0.1 <= sock.clock() - begin < 5

    run(main)
