"""HTTP/1.1 by h11, which does no I/O, over our sockets: a client of nginx, and a server for curl."""

import os
import subprocess

import pytest
import sock
from support import OTHERS, run
from tls_client import TLS

from .servers import PATIENCE, needed, with_server

h11 = needed('h11')


class Peer:
    """One side of a connection."""

    def __init__(self, conn, role):
        self.conn = conn
        self.http = h11.Connection(role)

    async def send(self, *events):
        # None where the connection has ended with it.
        await self.conn.send(b''.join(self.http.send(event) or b'' for event in events))

    async def next(self):
        while (event := self.http.next_event()) is h11.NEED_DATA:
            if self.http.they_are_waiting_for_100_continue:
                await self.send(h11.InformationalResponse(status_code=100, headers=[]))
            self.http.receive_data(await self.conn.recv(65536))
        return event

    async def body(self):
        parts = []
        while isinstance(event := await self.next(), h11.Data):
            parts.append(event.data)
        assert isinstance(event, h11.EndOfMessage)
        return b''.join(parts)

    async def exchange(self, method, target, *parts, **headers):
        """A client's: sends a request, and gives its answer's head and body."""
        fields = [(name.replace('_', '-'), value) for name, value in headers.items()]
        if parts:
            fields.append(('Transfer-Encoding', 'chunked'))
        await self.send(h11.Request(method=method, target=target, headers=[('Host', 'localhost'), *fields]))
        if ('Expect', '100-continue') in fields:
            assert (await self.next()).status_code == 100
        for part in parts:
            await self.send(h11.Data(data=part))
        await self.send(h11.EndOfMessage())
        head = await self.next()
        return head, await self.body()


@pytest.fixture(params=['http', 'https'])
def connect(request, nginx, trusting):
    """Connects to nginx."""

    async def connected():
        conn = sock.tcp()
        if request.param == 'http':
            await conn.connect('127.0.0.1', nginx.port)
            return conn, Peer(conn, h11.CLIENT)
        await conn.connect('127.0.0.1', nginx.tls)
        tls = TLS(conn, trusting, 'localhost')
        await tls.handshake()
        return conn, Peer(tls, h11.CLIENT)

    return connected


def test_requests_on_one_connection(connect, nginx):
    files = {f'/h11-{i}': os.urandom(5000 * i) for i in range(30)}
    for name, data in files.items():
        (nginx.root / name[1:]).write_bytes(data)

    async def main():
        conn, client = await connect()
        with conn:
            for name, data in files.items():
                head, body = await client.exchange('GET', name)
                assert (head.status_code, body) == (200, data)
                client.http.start_next_cycle()
                head, body = await client.exchange('HEAD', name)
                assert (dict(head.headers)[b'content-length'], body) == (str(len(data)).encode(), b'')
                client.http.start_next_cycle()
            head, body = await client.exchange('GET', '/nothing')
            assert head.status_code == 404

    run(main)


def test_chunked_upload_waits_for_100_continue(connect, nginx):
    parts, uploads = [os.urandom(n) for n in (1, 100_000, 3_000_000, 7)], nginx.uploads

    async def main():
        conn, client = await connect()
        with conn:
            head, _ = await client.exchange('PUT', '/upload/h11', *parts, Expect='100-continue')
            assert head.status_code in (201, 204)
            assert (uploads / 'h11').read_bytes() == b''.join(parts)

    run(main)


def test_end_that_the_server_has_announced_comes(connect, nginx):
    (nginx.root / 'h11-few').write_bytes(b'few')

    async def main():
        conn, client = await connect()
        with conn:
            for _ in range(3):
                _, body = await client.exchange('GET', '/few/h11-few')
                assert body == b'few'
                if client.http.our_state is h11.DONE:
                    client.http.start_next_cycle()
            assert client.http.our_state is h11.MUST_CLOSE
            assert isinstance(await client.next(), h11.ConnectionClosed)

    run(main)


async def echo(conn):
    """A server's connection: answers each request with its first line and its body, in chunks."""
    with conn:
        server = Peer(conn, h11.SERVER)
        while isinstance(request := await server.next(), h11.Request):
            body = await server.body()
            await server.send(
                h11.Response(status_code=200, headers=[('Transfer-Encoding', 'chunked')]),
                h11.Data(data=request.method + b' ' + request.target + b'\n'),
                h11.Data(data=body),
                h11.EndOfMessage(),
            )
            if server.http.our_state is not h11.DONE:
                break
            server.http.start_next_cycle()
        conn.shutdown('w')


@pytest.fixture
def curl(program):
    path = program('curl')

    def called(*args):
        command = [path, '-sS', '--max-time', str(PATIENCE), '--http1.1', *args]
        return subprocess.run(command, capture_output=True, timeout=2 * PATIENCE, check=True, env=OTHERS)

    return called


def test_curl_gets_its_body_back(curl, tmp_path):
    # curl waits for 100 Continue with one so large.
    file = tmp_path / 'body'
    file.write_bytes(os.urandom(3_000_000))
    done = with_server(echo, lambda port: curl('-v', '--data-binary', f'@{file}', f'http://127.0.0.1:{port}/echo'))
    assert done.stdout == b'POST /echo\n' + file.read_bytes()
    assert b'< HTTP/1.1 100' in done.stderr


def test_curl_uses_its_connection_again(curl):
    def client(port):
        return curl('-v', '-d', 'x', *(f'http://127.0.0.1:{port}/{i}' for i in range(3)))

    done = with_server(echo, client)
    assert done.stdout == b'POST /0\nxPOST /1\nxPOST /2\nx'
    assert done.stderr.count(b'Re-using existing connection') == 2


def test_many_transfers_of_curl_at_once_on_three_os_threads(curl, tmp_path):
    def client(port):
        curl('--parallel', '--parallel-max', '50', f'http://127.0.0.1:{port}/[1-200]', '-o', f'{tmp_path}/#1')

    with_server(echo, client, threads=3)
    for i in range(1, 201):
        assert (tmp_path / f'{i}').read_bytes() == f'GET /{i}\n'.encode()
