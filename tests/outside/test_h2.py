"""HTTP/2 by h2, which does no I/O, over our sockets: a client of nginx, and a server for curl and h2load.

Of each connection a thread reads and a thread writes, and each stream has its own: no reader waits for a writer.
"""

import contextlib
import os
import re
import ssl
import subprocess

import pytest
import sock
from support import OTHERS, run
from tls_client import TLS

from .servers import PATIENCE, needed, with_server

h2 = needed('h2')
for module in ('config', 'connection', 'events'):
    needed(f'h2.{module}')


class Stream:
    def __init__(self):
        self.headers = None
        self.body = bytearray()
        self.ended = sock.Event()
        self.room = sock.Event()


class Peer:
    """One side of a connection. h2 is not for several OS threads at once, nor is this."""

    def __init__(self, conn, client):
        self.conn = conn
        self.http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=client, header_encoding='utf-8'))
        self.streams = {}
        self.written = sock.Event()
        self.http.initiate_connection()
        self.written.set()

    async def write(self):
        while True:
            await self.written.wait()
            self.written.clear()
            await self.conn.send(self.http.data_to_send())

    async def read(self, on_request=None):
        """Until the other side ends the connection."""
        while data := await self.conn.recv(65536):
            for event in self.http.receive_data(data):
                match event:
                    case h2.events.RequestReceived() | h2.events.ResponseReceived():
                        self.streams.setdefault(event.stream_id, Stream()).headers = dict(event.headers)
                    case h2.events.DataReceived():
                        self.streams[event.stream_id].body += event.data
                        self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    case h2.events.StreamEnded():
                        self.streams[event.stream_id].ended.set()
                        if on_request is not None:
                            on_request(event.stream_id)
                    case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                        for stream in self.streams.values():
                            stream.room.set()
                    case h2.events.StreamReset():
                        raise AssertionError(event)
            self.written.set()

    async def send(self, number, headers, body):
        """Sends a message on a stream, as fast as the other side lets it."""
        stream = self.streams.setdefault(number, Stream())
        self.http.send_headers(number, headers, end_stream=not body)
        self.written.set()
        view = memoryview(body)
        while view:
            stream.room.clear()
            n = min(self.http.local_flow_control_window(number), self.http.max_outbound_frame_size, len(view))
            if n == 0:
                await stream.room.wait()
                continue
            self.http.send_data(number, bytes(view[:n]), end_stream=n == len(view))
            self.written.set()
            view = view[n:]
        return stream

    async def exchange(self, method, path, body=b''):
        """A client's: a request on a new stream; the answer's status and body."""
        headers = [(':method', method), (':path', path), (':scheme', 'https'), (':authority', 'localhost')]
        number = self.http.get_next_available_stream_id()
        stream = await self.send(number, headers, body)
        await stream.ended.wait()
        del self.streams[number]
        return int(stream.headers[':status']), bytes(stream.body)


@contextlib.asynccontextmanager
async def connected(nginx, context):
    context.set_alpn_protocols(['h2'])
    with sock.tcp() as conn, sock.deadline(sock.clock() + PATIENCE):
        await conn.connect('127.0.0.1', nginx.tls)
        tls = TLS(conn, context, 'localhost')
        await tls.handshake()
        assert tls.ssl.selected_alpn_protocol() == 'h2'
        async with sock.group() as group:
            client = Peer(tls, client=True)
            group.newthread(client.read)
            group.newthread(client.write)
            yield client
            group.cancel()


def test_hundred_streams_at_once_on_one_connection(nginx, trusting):
    files = {f'/h2-{i}': os.urandom(10_000 * i) for i in range(100)}
    for name, data in files.items():
        (nginx.root / name[1:]).write_bytes(data)

    async def main():
        async with connected(nginx, trusting) as client:
            async with sock.group() as group:
                threads = {name: group.newthread(client.exchange, 'GET', name) for name in files}
            assert {name: thread.result() for name, thread in threads.items()} == {
                name: (200, data) for name, data in files.items()
            }
            assert client.streams == {}

    run(main)


def test_large_bodies_go_up_and_down_at_once(nginx, trusting):
    """Far more than the windows hold."""
    bodies, uploads = [os.urandom(3_000_000) for _ in range(5)], nginx.uploads
    (nginx.root / 'h2-large').write_bytes(bodies[0])

    async def main():
        async with connected(nginx, trusting) as client:
            async with sock.group() as group:
                up = [group.newthread(client.exchange, 'PUT', f'/upload/h2-{i}', body) for i, body in enumerate(bodies)]
                down = [group.newthread(client.exchange, 'GET', '/h2-large') for _ in range(3)]
            assert all(thread.result()[0] in (201, 204) for thread in up)
            assert [(uploads / f'h2-{i}').read_bytes() for i in range(5)] == bodies
            assert [thread.result() for thread in down] == [(200, bodies[0])] * 3

    run(main)


async def echo(conn, tls=None):
    """A server's connection: each request's path and body come back."""
    peer = Peer(tls or conn, client=False)

    async def answer(number):
        stream = peer.streams[number]
        body = stream.headers[':path'].encode() + b'\n' + stream.body
        await peer.send(number, [(':status', '200'), ('content-length', str(len(body)))], body)
        del peer.streams[number]

    with conn:
        try:
            async with sock.group() as group:
                group.newthread(peer.write)
                await peer.read(lambda number: group.newthread(answer, number))
                group.cancel()
        except* (sock.ConnectionReset, sock.BrokenPipe, ssl.SSLEOFError):
            # These clients have all that they want, and just go.
            pass


@pytest.fixture(params=['http', 'https'])
def server(request, certified):
    """A server, and the scheme of its URL."""

    async def secure(conn):
        tls = TLS(conn, certified, server_side=True)
        await tls.handshake()
        assert tls.ssl.selected_alpn_protocol() == 'h2'
        await echo(conn, tls)

    certified.set_alpn_protocols(['h2'])
    return {'http': echo, 'https': secure}[request.param], request.param


def test_curl_gets_its_bodies_back(server, program, certificate, tmp_path):
    serve, scheme = server
    path, file = program('curl'), tmp_path / 'body'
    file.write_bytes(os.urandom(3_000_000))

    def client(port):
        url = f'{scheme}://localhost:{port}'
        options = ['-sSv', '--max-time', str(PATIENCE), '--cacert', certificate[0], '--data-binary', f'@{file}']
        options.append('--http2' if scheme == 'https' else '--http2-prior-knowledge')
        command = [path, *options, *(url + name for name in names)]
        return subprocess.run(command, capture_output=True, timeout=2 * PATIENCE, check=True, env=OTHERS)

    # curl 7.88 cannot use a connection again whose HTTP/2 was not negotiated: https://github.com/curl/curl/pull/10643
    names = ['/one', '/two', '/three'] if scheme == 'https' else ['/one']
    done = with_server(serve, client)
    assert done.stdout == b''.join(name.encode() + b'\n' + file.read_bytes() for name in names)
    assert done.stderr.count(b'< HTTP/2 200') == len(names)
    assert done.stderr.count(b'Re-using existing connection') == len(names) - 1


def test_h2load_gets_all_answers(server, program, tmp_path):
    """2,000 requests over ten connections, 20 streams at once on each."""
    serve, scheme = server
    path, file = program('h2load'), tmp_path / 'body'
    file.write_bytes(os.urandom(1000))

    def client(port):
        command = [path, '-n2000', '-c10', '-m20', '-d', file, f'{scheme}://127.0.0.1:{port}/load']
        return subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE, check=True, env=OTHERS)

    done = with_server(serve, client)
    assert re.search(r'requests: 2000 total, 2000 started, 2000 done, 2000 succeeded, 0 failed', done.stdout)
    assert re.search(r'status codes: 2000 2xx', done.stdout)
    # The path, a line feed and the body, each time.
    assert int(re.search(r'\((\d+)\) data', done.stdout)[1]) == 2000 * (len('/load\n') + 1000)
