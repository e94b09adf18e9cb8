"""Each example as a process of its own, with others at the far end: stdlib sockets, http.client. And the class of
``tls_client.py``, which is there to be taken along."""

import contextlib
import http.client
import os
import re
import socket
import ssl
import subprocess
import sys
import threading

import pytest
import sock
from support import EXAMPLES, run, serving
from tls_client import TLS

SERVERS = ['chat_server.py', 'echo_server.py', 'http_server.py', 'tcp_proxy.py']
PATIENCE = 10


@contextlib.contextmanager
def running(example, *args):
    """Runs an example; gives its port."""
    with serving(EXAMPLES / example, *args) as server:
        yield server.port


def connect(port):
    return socket.create_connection(('127.0.0.1', port), PATIENCE)


def receive(s):
    """Everything until the peer's end."""
    return b''.join(iter(lambda: s.recv(65536), b''))


@pytest.mark.parametrize('program', SERVERS)
def test_example_is_shorter_than_80_lines(program):
    assert len((EXAMPLES / program).read_text().splitlines()) < 80


@pytest.mark.parametrize('threads', [1, 3])
def test_echo_server_echoes_and_ends_when_the_client_does(threads):
    with running('echo_server.py', '--threads', threads) as port, connect(port) as s:
        data = os.urandom(300_000)
        sender = threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR)))
        sender.start()
        assert receive(s) == data
        sender.join(PATIENCE)


def test_echo_server_survives_a_reset():
    with running('echo_server.py') as port:
        with connect(port) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
            s.sendall(b'x')
        with connect(port) as s:
            s.sendall(b'still there')
            assert s.recv(100) == b'still there'


@pytest.fixture
def upstream():
    with socket.create_server(('127.0.0.1', 0)) as listener:
        listener.settimeout(PATIENCE)
        yield listener


def test_proxy_forwards_both_ways_and_keeps_half_close_of_the_client(upstream):
    with running('tcp_proxy.py', '127.0.0.1', upstream.getsockname()[1]) as port, connect(port) as client:
        server, _ = upstream.accept()
        with server:
            server.settimeout(PATIENCE)
            client.sendall(b'request')
            client.shutdown(socket.SHUT_WR)
            assert receive(server) == b'request'
            # The client has ended; its answer still comes.
            server.sendall(b'answer')
            server.shutdown(socket.SHUT_WR)
            assert receive(client) == b'answer'


def test_proxy_keeps_half_close_of_the_server(upstream):
    with running('tcp_proxy.py', '127.0.0.1', upstream.getsockname()[1]) as port, connect(port) as client:
        server, _ = upstream.accept()
        with server:
            server.settimeout(PATIENCE)
            server.sendall(b'greeting')
            server.shutdown(socket.SHUT_WR)
            assert receive(client) == b'greeting'
            client.sendall(b'late')
            client.shutdown(socket.SHUT_WR)
            assert receive(server) == b'late'


def test_proxy_moves_megabytes_both_ways_at_once(upstream):
    data = os.urandom(3_000_000)

    def send(s):
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)

    with running('tcp_proxy.py', '127.0.0.1', upstream.getsockname()[1]) as port, connect(port) as client:
        server, _ = upstream.accept()
        with server:
            server.settimeout(PATIENCE)
            got = []
            threads = [threading.Thread(target=send, args=(s,)) for s in (client, server)]
            threads.append(threading.Thread(target=lambda: got.append(receive(server))))
            for thread in threads:
                thread.start()
            assert receive(client) == data
            for thread in threads:
                thread.join(PATIENCE)
            assert got == [data]


def test_proxy_without_target_ends_the_connection_and_serves_on(upstream):
    with socket.socket() as unused:
        unused.bind(('127.0.0.1', 0))
        with running('tcp_proxy.py', '127.0.0.1', unused.getsockname()[1]) as port:
            for _ in range(2):
                with connect(port) as client:
                    assert client.recv(1) == b''


@pytest.fixture
def site(tmp_path):
    root = tmp_path / 'root'
    root.mkdir()
    (root / 'index.html').write_text('<p>hello')
    (root / 'data.bin').write_bytes(os.urandom(2_000_000))
    (root / 'two words.txt').write_text('two')
    (tmp_path / 'secret').write_text('secret')
    (root / 'link').symlink_to(tmp_path / 'secret')
    (root / 'inner').mkdir()
    (root / 'inner' / 'index.html').symlink_to(tmp_path / 'secret')
    return root


@pytest.fixture
def web(site):
    with running('http_server.py', site) as port:
        yield port


def test_http_serves_files_on_one_connection(web, site):
    client = http.client.HTTPConnection('127.0.0.1', web, timeout=PATIENCE)
    with contextlib.closing(client):
        for path, body, kind in [
            ('/', b'<p>hello', 'text/html'),
            ('/index.html?query', b'<p>hello', 'text/html'),
            ('/two%20words.txt', b'two', 'text/plain'),
            ('/data.bin', (site / 'data.bin').read_bytes(), 'application/octet-stream'),
        ]:
            client.request('GET', path)
            response = client.getresponse()
            assert (response.status, response.headers['Content-Type']) == (200, kind)
            assert response.read() == body
        used = client.sock
        client.request('HEAD', '/data.bin')
        response = client.getresponse()
        assert response.headers['Content-Length'] == '2000000'
        assert response.read() == b''
        assert client.sock is used


@pytest.mark.parametrize(
    ('method', 'path', 'status'),
    [
        ('GET', '/nothing', 404),
        ('GET', '/../secret', 404),
        ('GET', '/%2e%2e/secret', 404),
        ('GET', '/link', 404),
        ('GET', '/inner', 404),
        ('GET', '/a%00b', 404),
        ('GET', '//etc/passwd', 404),
        ('GET', '/' + 'x' * 5000, 404),
        ('DELETE', '/index.html', 405),
    ],
)
def test_http_refuses(web, method, path, status):
    client = http.client.HTTPConnection('127.0.0.1', web, timeout=PATIENCE)
    with contextlib.closing(client):
        client.request(method, path)
        response = client.getresponse()
        assert response.status == status
        assert b'secret' not in response.read()
        # The connection lives on.
        client.request('GET', '/')
        assert client.getresponse().read() == b'<p>hello'


@pytest.mark.parametrize(
    'request_',
    [b'nonsense\r\n\r\n', b'GET / HTTP/1.1\r\nno colon\r\n\r\n', b'POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc'],
)
def test_http_bad_requests_get_400_and_the_end(web, request_):
    with connect(web) as s:
        s.sendall(request_)
        answer = receive(s)
    assert answer.startswith(b'HTTP/1.1 400 ')


def test_http_endless_head_gets_400(web):
    with connect(web) as s:
        with contextlib.suppress(ConnectionError):
            s.sendall(b'GET / HTTP/1.1\r\n' + b'x: y\r\n' * 20_000)
        assert s.recv(12) == b'HTTP/1.1 400'


def test_http_pipelined_requests_are_answered_in_order_and_close_loses_nothing(web, site):
    big = (site / 'data.bin').read_bytes()
    with connect(web) as s:
        s.sendall(
            b'GET / HTTP/1.1\r\n\r\nGET /two%20words.txt HTTP/1.1\r\n\r\n'
            b'GET /data.bin HTTP/1.1\r\nConnection: close\r\n\r\n' + b'GET / HTTP/1.1\r\n\r\n' * 1000
            # Never read: a plain close would reset the connection now, and cut the last answer off.
        )
        answer = receive(s)
    first, second, last = answer.split(b'HTTP/1.1 200 OK\r\n')[1:]
    assert first.endswith(b'\r\n\r\n<p>hello')
    assert second.endswith(b'\r\n\r\ntwo')
    assert last.endswith(b'\r\n\r\n' + big)


def test_http_1_0_ends_after_the_answer(web):
    with connect(web) as s:
        s.sendall(b'GET / HTTP/1.0\r\n\r\n')
        assert receive(s).endswith(b'<p>hello')


@contextlib.contextmanager
def secure_page(context, page):
    """A stdlib server that answers one request: its port, and a list that will have the request."""
    requests = []

    def serve():
        with contextlib.suppress(ssl.SSLError), listener.accept()[0] as s:
            s.settimeout(PATIENCE)
            with context.wrap_socket(s, server_side=True) as secure:
                requests.append(secure.recv(65536))
                secure.sendall(page)
                secure.unwrap()

    with socket.create_server(('127.0.0.1', 0)) as listener:
        listener.settimeout(PATIENCE)
        server = threading.Thread(target=serve)
        server.start()
        try:
            yield listener.getsockname()[1], requests
        finally:
            server.join(PATIENCE)


def get(port, *args):
    command = [sys.executable, str(EXAMPLES / 'tls_client.py'), 'localhost', '/page', '--port', str(port), *args]
    return subprocess.run(command, capture_output=True, timeout=2 * PATIENCE, check=False)


def test_tls_client_gets_a_page(certificate, certified):
    page = b'HTTP/1.0 200 OK\r\n\r\n' + os.urandom(1_000_000)
    with secure_page(certified, page) as (port, requests):
        done = get(port, '--authorities', certificate[0])
    assert (done.returncode, done.stderr) == (0, b'')
    assert done.stdout == page
    assert requests == [b'GET /page HTTP/1.0\r\nHost: localhost\r\n\r\n']


def test_tls_client_refuses_a_certificate_that_nobody_vouches_for(certified):
    with secure_page(certified, b'') as (port, requests):
        done = get(port)
    assert done.returncode == 1
    assert b'certificate verify failed' in done.stderr
    assert b'Traceback' not in done.stderr
    assert requests == []


@pytest.fixture(params=['client', 'server'])
def secure(request, peer, trusting, certified):
    """TLS over a connection, as either side: ours, before its handshake, and what makes it of the stdlib's."""
    conn, other = peer
    if request.param == 'client':
        ours, context, role = TLS(conn, trusting, 'localhost'), certified, {'server_side': True}
    else:
        ours, context, role = TLS(conn, certified, server_side=True), trusting, {'server_hostname': 'localhost'}
    return ours, lambda: context.wrap_socket(other, suppress_ragged_eofs=False, **role)


async def received(tls, n):
    got = bytearray()
    while len(got) < n and (data := await tls.recv(n - len(got))):
        got += data
    return got


@pytest.mark.parametrize('threads', [1, 3])
@pytest.mark.parametrize('version', ['TLSv1.2', 'TLSv1.3'])
def test_tls_receives_while_a_send_waits_for_the_peer_to_read(secure, trusting, certified, version, threads):
    tls, other_side = secure
    for context in (trusting, certified):
        context.maximum_version = {'TLSv1.2': ssl.TLSVersion.TLSv1_2, 'TLSv1.3': ssl.TLSVersion.TLSv1_3}[version]
    ours, theirs = os.urandom(8_000_000), os.urandom(8_000_000)

    def serve():
        with other_side() as s:
            # Reads nothing before the whole of it has gone.
            s.sendall(theirs)
            got = bytearray()
            while len(got) < len(ours):
                got += s.recv(65536)
            with contextlib.suppress(ssl.SSLError):
                s.unwrap()
            return got

    async def main():
        async with sock.group() as g:
            served = g.newthread(sock.offload, serve)
            await tls.handshake()
            assert tls.ssl.version() == version
            sending = g.newthread(tls.send, ours)
            assert await received(tls, len(theirs)) == theirs
            await sending
            assert await tls.recv(1) == b''
            await tls.close()
        assert served.result() == ours
        assert tls.conn.closed

    sock.run(main, threads=threads)


def test_tls_messages_of_several_senders_stay_whole(secure):
    tls, other_side = secure
    messages = [bytes([i]) * 300_000 for i in range(10)]

    def serve():
        with other_side() as s:
            return receive(s)

    async def main():
        served = sock.newthread(sock.offload, serve)
        await tls.handshake()
        async with sock.group() as g:
            for message in messages:
                g.newthread(tls.send, message)
        await tls.close()
        return await served

    assert run(main) == b''.join(messages)


def test_tls_connection_that_is_cut_off_is_not_taken_for_its_end(secure):
    tls, other_side = secure

    def serve():
        with other_side() as s:
            assert s.recv(1) == b'?'
            s.sendall(b'the first half')

    async def main():
        served = sock.newthread(sock.offload, serve)
        await tls.handshake()
        await tls.send(b'?')
        assert await received(tls, 14) == b'the first half'
        await served
        with pytest.raises(ssl.SSLEOFError):
            await tls.recv(100)

    run(main)


def test_tls_cancelled_recv_loses_nothing_and_a_deadline_ends_it(secure):
    tls, other_side = secure

    async def main():
        shaking = sock.newthread(tls.handshake)
        s = await sock.offload(other_side)
        with s:
            await shaking
            reading = sock.newthread(tls.recv, 100)
            while reading.waiting is None:
                await sock.sleep(0)
            reading.cancel()
            with pytest.raises(sock.Cancelled):
                await reading
            await sock.offload(s.sendall, b'all of it')
            assert await received(tls, 9) == b'all of it'
            with pytest.raises(sock.Timeout), sock.deadline(sock.clock() + 0.02):
                await tls.recv(100)
            assert tls.conn.closed

    run(main)


def test_tls_send_that_is_cut_short_ends_the_connection(secure):
    tls, other_side = secure

    async def main():
        shaking = sock.newthread(tls.handshake)
        with await sock.offload(other_side) as s:
            await shaking
            sending = sock.newthread(tls.send, bytes(20_000_000))
            assert not sending.done
            sending.cancel()
            with pytest.raises(sock.Cancelled):
                await sending
            assert tls.conn.closed
            with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
                await sock.offload(receive, s)

    run(main)


class Chatter:
    def __init__(self, port, name):
        self.socket = connect(port)
        self.file = self.socket.makefile('rw', newline='\n')
        self.say(name)
        assert self.hear() == f'welcome, {name}'

    def say(self, line):
        self.file.write(f'{line}\n')
        self.file.flush()

    def hear(self):
        return self.file.readline().rstrip('\n')

    def close(self):
        with contextlib.suppress(OSError):
            self.file.close()
        self.socket.close()


def test_chat_lines_go_to_all_others():
    with running('chat_server.py') as port, contextlib.ExitStack() as stack:
        ann, bob, eve = (stack.enter_context(contextlib.closing(Chatter(port, name))) for name in ('ann', 'bob', 'eve'))
        assert ann.hear() == 'bob is here'
        assert ann.hear() == bob.hear() == 'eve is here'
        bob.say('hello')
        assert ann.hear() == eve.hear() == 'bob: hello'
        ann.say('one')
        ann.say('two')
        assert [bob.hear(), bob.hear()] == [eve.hear(), eve.hear()] == ['ann: one', 'ann: two']


def test_chat_client_that_does_not_read_delays_nobody_and_is_dropped():
    with running('chat_server.py') as port, contextlib.ExitStack() as stack:
        slow, ann, bob = (
            stack.enter_context(contextlib.closing(Chatter(port, name))) for name in ('slow', 'ann', 'bob')
        )
        assert ann.hear() == 'bob is here'
        text = 'x' * 3000
        # Far more than the buffers of the system hold for the one who does not read.
        for i in range(6000):
            ann.say(f'{i}{text}')
            assert bob.hear() == f'ann: {i}{text}'
        with contextlib.suppress(ConnectionError):
            while slow.socket.recv(1 << 20):
                pass
        bob.say('bye')
        assert ann.hear() == 'bob: bye'


def demo(*args, timeout=60):
    command = [sys.executable, str(EXAMPLES / 'demo.py'), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


def test_demo_ends_with_its_table():
    result = demo('--connections', 50, '--megabytes', 10, '--chat-clients', 5, '--chat-lines', 3)
    assert result.returncode == 0, result.stderr
    table = dict(re.split(r'  +', line, maxsplit=1) for line in result.stdout.splitlines())
    assert table['connections'] == '50'
    assert int(table['megabytes each way, every byte checked']) >= 10
    assert table['chat lines relayed, each one checked'] == str(5 * 4 * 3)
    for row in ('messages/s (16 KB each)', 'MB/s each way', 'latency p50', 'latency p99', 'server CPU per message'):
        assert re.match(r'[\d.,]+|n/a', table[row])
    assert 'server memory per connection' in table


@pytest.mark.parametrize('wrong', ['corrupted', 'swapped', 'too much'])
def test_demo_finds_a_server_that_echoes_wrong_bytes(wrong):
    def serve(s):
        with s, contextlib.suppress(OSError):
            seen = 0
            while data := s.recv(65536):
                begin, seen = seen, seen + len(data)
                if wrong == 'corrupted' and begin <= 100_000 < seen:
                    data = bytearray(data)
                    data[100_000 - begin] ^= 1
                elif wrong == 'swapped' and begin <= 100_000 < seen:
                    data = data[::-1]
                s.sendall(data)
            if wrong == 'too much':
                s.sendall(b'x')

    with socket.create_server(('127.0.0.1', 0)) as listener:
        listener.settimeout(PATIENCE)
        address = f'127.0.0.1:{listener.getsockname()[1]}'
        answers = []
        caller = threading.Thread(
            target=lambda: answers.append(demo('--echo', address, '--connections', 2, '--megabytes', 1))
        )
        caller.start()
        servers = [threading.Thread(target=serve, args=(listener.accept()[0],)) for _ in range(2)]
        for server in servers:
            server.start()
        for thread in (caller, *servers):
            thread.join(60)
    assert answers[0].returncode != 0
    assert 'WRONG BYTE' in answers[0].stderr
