"""httpcore, the HTTP client beneath httpx, with its connections over our sockets: to nginx, or to servers that stall.

Its network backend is the seam that it has for other libraries: ``Backend`` and ``Stream`` below. Its locks come from
trio or anyio alone; the fixture ``primitives`` gives it ours in the place of trio's.
"""

import contextlib
import os
import selectors
import socket
import ssl
import types

import pytest
import sock
from support import LINUX, run
from tls_client import TLS

from .servers import needed, run_many_on

httpcore = needed('httpcore')

#: Windows has no poll(), and elsewhere select() does not take each descriptor.
Selector = getattr(selectors, 'PollSelector', selectors.SelectSelector)


@contextlib.contextmanager
def mapped(timeout, expired, failed):
    """A deadline for what a block waits for; its failures as httpcore names them."""
    try:
        with sock.deadline(timeout and sock.clock() + timeout):
            yield
    except sock.Timeout as error:
        raise expired(str(error)) from error
    except (sock.Error, ssl.SSLError) as error:
        raise failed(str(error)) from error


class Stream(httpcore.AsyncNetworkStream):
    """A connection, or TLS over one."""

    def __init__(self, conn, tls=None):
        self.conn = conn
        self.tls = tls

    async def read(self, max_bytes, timeout=None):
        with mapped(timeout, httpcore.ReadTimeout, httpcore.ReadError):
            return await (self.tls or self.conn).recv(max_bytes)

    async def write(self, buffer, timeout=None):
        with mapped(timeout, httpcore.WriteTimeout, httpcore.WriteError):
            await (self.tls or self.conn).send(buffer)

    async def aclose(self):
        self.conn.close()

    async def start_tls(self, ssl_context, server_hostname=None, timeout=None):
        tls = TLS(self.conn, ssl_context, server_hostname)
        try:
            with mapped(timeout, httpcore.ConnectTimeout, httpcore.ConnectError):
                await tls.handshake()
        except httpcore.NetworkError:
            self.conn.close()
            raise
        return Stream(self.conn, tls)

    def get_extra_info(self, info):
        if info == 'ssl_object':
            return self.tls and self.tls.ssl
        if info == 'is_readable':
            # The pool asks whether the server has closed an idle connection.
            with Selector() as selector:
                selector.register(self.conn.fileno(), selectors.EVENT_READ)
                return bool(selector.select(0))
        return None


class Backend(httpcore.AsyncNetworkBackend):
    async def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None):
        return await self.connect(sock.tcp(None), (host, port), timeout, socket_options, local_address)

    async def connect_unix_socket(self, path, timeout=None, socket_options=None):
        return await self.connect(sock.tcp('unix'), (path,), timeout, socket_options)

    async def connect(self, conn, address, timeout, socket_options, local_address=None):
        try:
            with mapped(timeout, httpcore.ConnectTimeout, httpcore.ConnectError):
                if local_address is not None:
                    conn.bind(local_address)
                await conn.connect(*address)
        except httpcore.NetworkError:
            conn.close()
            raise
        # Ours go by their names, httpcore's by their numbers.
        borrowed = socket.socket(fileno=conn.fileno())
        try:
            for option in socket_options or ():
                borrowed.setsockopt(*option)
        finally:
            borrowed.detach()
        return Stream(conn)

    async def sleep(self, seconds):
        await sock.sleep(seconds)


class Lock:
    """As trio's, it lets the others run each time that it is taken. httpcore's pool counts on that: it gives a free
    connection to all who wait, and all but one have to ask again, each in a time that grows with their number.
    """

    def __init__(self):
        self.lock = sock.Lock()
        self.release = self.lock.release

    async def acquire(self):
        await self.lock.acquire()
        await sock.sleep(0)


@pytest.fixture(autouse=True)
def primitives(monkeypatch):
    ours = types.SimpleNamespace(
        Lock=Lock,
        Event=sock.Event,
        Semaphore=lambda initial_value, max_value: sock.Semaphore(initial_value),
        fail_after=lambda seconds: sock.deadline(sock.clock() + seconds),
        TooSlowError=sock.Timeout,
        # A cancel of ours ends one wait: what comes after it needs no shield.
        CancelScope=lambda shield: contextlib.nullcontext(),
    )
    monkeypatch.setattr(httpcore._synchronization, 'trio', ours)
    monkeypatch.setattr(httpcore._synchronization, 'current_async_library', lambda: 'trio')


def pool(**options):
    return httpcore.AsyncConnectionPool(network_backend=Backend(), **options)


def connections_of(responses):
    return {value for response in responses for name, value in response.headers if name.lower() == b'x-connection'}


@pytest.fixture
def files(nginx):
    """What nginx serves: names, and bytes."""
    made = {f'file{i}': os.urandom(1000 * i) for i in range(50)}
    made['large'] = os.urandom(10_000_000)
    for name, data in made.items():
        (nginx.root / name).write_bytes(data)
    return made


@pytest.fixture(
    params=[
        'http',
        'https',
        pytest.param('unix', marks=pytest.mark.skipif(os.name == 'nt', reason='nginx has no unix sockets there')),
    ]
)
def site(request, nginx, trusting):
    """How a pool is made that reaches nginx, and its URL."""
    if request.param == 'https':
        return {'ssl_context': trusting}, f'https://localhost:{nginx.tls}'
    return {'uds': str(nginx.unix)} if request.param == 'unix' else {}, f'http://localhost:{nginx.port}'


@pytest.fixture
def silent():
    """The port of a server that takes connections and says nothing."""
    with socket.create_server(('127.0.0.1', 0)) as listener:
        yield listener.getsockname()[1]


def test_requests_one_after_the_other_share_a_connection(site, files):
    options, url = site

    async def main():
        async with pool(**options) as http:
            responses = {name: await http.request('GET', f'{url}/{name}') for name in files}
            assert len(http.connections) == 1
        assert {name: response.content for name, response in responses.items()} == files
        assert len(connections_of(responses.values())) == 1

    run(main)


def test_local_address_and_options_of_sockets(nginx, files):
    class Remembering(Backend):
        async def connect(self, conn, *args):
            conns.append(conn)
            return await super().connect(conn, *args)

    conns = []
    # On macOS and FreeBSD that is this host's one address.
    ours = '127.0.0.2' if LINUX or os.name == 'nt' else '127.0.0.1'
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), (socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)]

    async def main():
        http = httpcore.AsyncConnectionPool(network_backend=Remembering(), local_address=ours, socket_options=options)
        async with http:
            assert (await http.request('GET', f'http://127.0.0.1:{nginx.port}/file1')).content == files['file1']
            (conn,) = conns
            assert conn.local_addr.host == ours
            assert (conn.getopt('so_keepalive'), conn.getopt('tcp_nodelay')) == (True, False)

    run(main)


def test_many_requests_at_once_share_few_connections(site, files):
    options, url = site

    async def fetch(http, name):
        response = await http.request('GET', f'{url}/{name}')
        assert response.content == files[name]
        return response

    async def main():
        async with pool(max_connections=10, **options) as http, sock.group() as group:
            threads = [group.newthread(fetch, http, f'file{i % 50}') for i in range(300)]
        assert 1 < len(connections_of(thread.result() for thread in threads)) <= 10

    run(main)


def test_streams_of_http2_share_one_connection(nginx, files, trusting):
    needed('h2')

    async def fetch(http, name):
        response = await http.request('GET', f'https://localhost:{nginx.tls}/{name}')
        assert response.extensions['http_version'] == b'HTTP/2'
        assert response.content == files[name]
        return response

    async def main():
        async with pool(http2=True, ssl_context=trusting) as http, sock.group() as group:
            # Before it has connected, the pool does not know that one will do.
            await fetch(http, 'file1')
            threads = [group.newthread(fetch, http, name) for name in files]
        connections = connections_of(thread.result() for thread in threads)
        assert len(connections) == 1

    run(main)


def test_large_bodies_go_up_and_come_down(site, nginx):
    options, url = site
    data, uploads = os.urandom(20_000_000), nginx.uploads

    async def main():
        async with pool(**options) as http:
            put = await http.request('PUT', f'{url}/upload/body', content=data)
            assert put.status in (201, 204)
            assert (uploads / 'body').read_bytes() == data
            async with http.stream('GET', f'{url}/upload/body') as response:
                parts = [part async for part in response.aiter_stream()]
            assert len(parts) > 100
            assert b''.join(parts) == data

    run(main)


def test_connection_that_the_server_ends_is_replaced(site, files):
    options, url = site

    async def main():
        async with pool(**options) as http:
            responses = [await http.request('GET', f'{url}/few/file{i}') for i in range(10)]
        assert [response.content for response in responses] == [files[f'file{i}'] for i in range(10)]
        # Three requests for each.
        assert len(connections_of(responses)) == 4

    run(main)


def within(**timeouts):
    return {'timeout': timeouts}


def fails(error, method, url, match=None, ssl_context=None, **options):
    """A request that ends by that error, and leaves no connection; how many seconds it took."""

    async def main():
        async with pool(ssl_context=ssl_context) as http:
            begin = sock.clock()
            with pytest.raises(error, match=match):
                await http.request(method, url, **options)
            assert http.connections == []
            return sock.clock() - begin

    return run(main)


def test_certificate_that_nobody_vouches_for_is_a_connect_error(nginx):
    fails(httpcore.ConnectError, 'GET', f'https://localhost:{nginx.tls}/', 'CERTIFICATE_VERIFY_FAILED')


def test_certificate_of_another_name_is_a_connect_error(nginx, trusting):
    other = {'sni_hostname': 'other.example'}
    url = f'https://127.0.0.1:{nginx.tls}/'
    fails(httpcore.ConnectError, 'GET', url, 'Hostname mismatch', trusting, extensions=other)


def test_connect_that_nobody_answers_is_a_connect_timeout(black_hole):
    url = f'http://127.0.0.1:{black_hole.port}'
    assert 0.1 <= fails(httpcore.ConnectTimeout, 'GET', url, extensions=within(connect=0.1)) < 5


def test_connect_that_is_refused_is_a_connect_error(dead_port):
    fails(httpcore.ConnectError, 'GET', f'http://127.0.0.1:{dead_port}', 'connection_refused')


def test_handshake_that_is_not_answered_is_a_connect_timeout(silent):
    fails(httpcore.ConnectTimeout, 'GET', f'https://127.0.0.1:{silent}', extensions=within(connect=0.1))


def test_answer_that_does_not_come_is_a_read_timeout(silent):
    url = f'http://127.0.0.1:{silent}'
    assert 0.1 <= fails(httpcore.ReadTimeout, 'GET', url, extensions=within(read=0.1)) < 5


def test_body_that_is_not_taken_is_a_write_timeout(silent):
    large = bytes(50_000_000)
    fails(httpcore.WriteTimeout, 'POST', f'http://127.0.0.1:{silent}', content=large, extensions=within(write=0.1))


def test_place_in_the_pool_that_does_not_become_free_is_a_pool_timeout(nginx, files):
    url = f'http://127.0.0.1:{nginx.port}'

    async def main():
        async with pool(max_connections=1) as http:
            async with http.stream('GET', f'{url}/large') as response:
                with pytest.raises(httpcore.PoolTimeout):
                    await http.request('GET', f'{url}/file1', extensions=within(pool=0.1))
                assert b''.join([part async for part in response.aiter_stream()]) == files['large']
            # The one that waited has left no trace.
            assert (await http.request('GET', f'{url}/file1')).content == files['file1']

    run(main)


def test_cancelled_request_gives_its_place_back(silent, nginx, files):
    async def main():
        async with pool(max_connections=1) as http:
            waiting = sock.newthread(http.request, 'GET', f'http://127.0.0.1:{silent}')
            while 'recv' not in (waiting.waiting or ''):
                await sock.sleep(0)
            waiting.cancel()
            with pytest.raises(sock.Cancelled):
                await waiting
            assert (await http.request('GET', f'http://127.0.0.1:{nginx.port}/file1')).content == files['file1']

    run(main)


@pytest.mark.parametrize('scheme', ['http', 'https'])
def test_pools_on_three_os_threads(nginx, files, trusting, scheme):
    """httpcore has no pool that coroutines of several OS threads may share: each thread has one, wherever it runs."""
    url = f'{scheme}://localhost:{nginx.tls if scheme == "https" else nginx.port}'

    async def fetch(i):
        async with pool(ssl_context=trusting) as http:
            for j in range(20):
                name = f'file{(i * 7 + j) % 50}'
                assert (await http.request('GET', f'{url}/{name}')).content == files[name]
            return True

    run_many_on(3, fetch, 30)
