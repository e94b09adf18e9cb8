"""curl, wrk, ab, siege and slowhttptest against the HTTP server of examples/: what they report, and what it counted."""

import json
import os
import re

import pytest
from support import EXAMPLES, OTHERS

#: A response to a request for it: small enough to go in one call.
PAGE = b'<p>hello'


@pytest.fixture
def site(tmp_path):
    root = tmp_path / 'root'
    root.mkdir()
    (root / 'index.html').write_bytes(PAGE)
    (root / 'data.bin').write_bytes(os.urandom(1_000_000))
    return root


@pytest.fixture
def web(counting, site):
    return counting(EXAMPLES / 'http_server.py', site)


def test_curl_gets_the_bytes_of_each_file_on_one_connection(report, web, site, tmp_path):
    with web as server:
        url = f'http://127.0.0.1:{server.port}'
        report('curl', '-sSf', '-o', tmp_path / 'data', f'{url}/data.bin', '-o', tmp_path / 'page', f'{url}/index.html')
    assert (tmp_path / 'data').read_bytes() == (site / 'data.bin').read_bytes()
    assert (tmp_path / 'page').read_bytes() == PAGE
    assert server.counts['connections'] == 1


def test_curl_gets_a_hundred_files_at_once(report, web, site, tmp_path):
    with web as server:
        url = f'http://127.0.0.1:{server.port}/data.bin?[1-100]'
        command = ['--parallel', '--parallel-immediate', '--parallel-max', 20]
        printed = report('curl', '-sSf', *command, '-w', '%{http_code} %{size_download}\n', '-o', tmp_path / '#1', url)
    assert printed.splitlines() == ['200 1000000'] * 100
    data = (site / 'data.bin').read_bytes()
    assert all((tmp_path / str(i)).read_bytes() == data for i in range(1, 101))
    assert 100_000_000 < server.counts['bytes_sent'] < 100_100_000


@pytest.mark.parametrize(
    ('arguments', 'path', 'expected'),
    [
        (['--head'], '/data.bin', '200 0'),
        (['--http1.0'], '/', f'200 {len(PAGE)}'),
        (['--path-as-is'], '/../secret', '404 14'),
        (['--data', 'body'], '/', '400 16'),
        # A body that long is announced, and held back until the server has answered.
        (['--data-binary', '@{root}/data.bin'], '/', '400 16'),
        (['--request', 'DELETE'], '/', '405 23'),
    ],
    ids=['head', 'http1.0', 'dots', 'body', 'expect', 'delete'],
)
def test_curl_understands_each_kind_of_answer(report, web, site, tmp_path, arguments, path, expected):
    (tmp_path / 'secret').write_text('secret')
    with web as server:
        url = f'http://127.0.0.1:{server.port}{path}'
        arguments = [argument.format(root=site) for argument in arguments]
        printed = report('curl', '-sS', *arguments, '-o', tmp_path / 'out', '-w', '%{http_code} %{size_download}', url)
    assert printed == expected


PIPELINING = """
init = function()
    pipeline = string.rep(wrk.format('GET', '/'), 16)
end
request = function()
    return pipeline
end
"""


@pytest.mark.parametrize('pipelined', [False, True], ids=['one-by-one', 'pipelined'])
def test_wrk_gets_all_that_it_asks_for(report, web, tmp_path, pipelined):
    (tmp_path / 'pipelining.lua').write_text(PIPELINING)
    script = ['-s', tmp_path / 'pipelining.lua'] if pipelined else []
    connections, in_flight = 100, 16 if pipelined else 1
    with web as server:
        printed = report('wrk', '-t2', f'-c{connections}', '-d1s', *script, f'http://127.0.0.1:{server.port}/')
    requests = int(re.search(r'(\d+) requests in', printed)[1])
    assert requests > connections
    assert 'Non-2xx' not in printed
    assert 'Socket errors' not in printed
    # It asks once on a connection more, and leaves what is on its way when its time is over.
    assert server.counts['connections'] == connections + 1
    assert requests <= server.counts['send_calls'] <= requests + connections * in_flight + 1


@pytest.mark.parametrize('keep_alive', [False, True], ids=['close', 'keep-alive'])
def test_ab_completes_all_requests(report, web, keep_alive):
    with web as server:
        arguments = ['-k'] if keep_alive else []
        printed = report('ab', '-q', *arguments, '-n', 3000, '-c', 100, f'http://127.0.0.1:{server.port}/')
    counts = {
        name: int(number) for name, number in re.findall(r'^([\w -]+): +(\d+)(?: bytes)?$', printed, re.MULTILINE)
    }
    assert counts['Complete requests'] == server.counts['send_calls'] == 3000
    assert counts['Failed requests'] == 0
    assert 'Non-2xx' not in printed
    assert counts['HTML transferred'] == 3000 * len(PAGE)
    assert counts['Total transferred'] == server.counts['bytes_sent']
    # With one for each request it opens a few more at the end, and leaves them.
    assert server.counts['connections'] == 100 if keep_alive else server.counts['connections'] >= 3000


def test_ab_gets_each_byte_of_large_files(report, web):
    with web as server:
        printed = report('ab', '-q', '-n', 200, '-c', 20, f'http://127.0.0.1:{server.port}/data.bin')
    assert re.search(r'Complete requests: +200\n', printed)
    assert re.search(r'Failed requests: +0\n', printed)
    assert re.search(r'HTML transferred: +200000000 bytes\n', printed)
    assert re.search(rf'Total transferred: +{server.counts["bytes_sent"]} bytes\n', printed)


@pytest.mark.parametrize('connection', ['close', 'keep-alive'])
def test_siege_has_every_transaction_succeed(report, web, tmp_path, connection):
    (tmp_path / 'siegerc').write_text(f'connection = {connection}\njson_output = true\nlimit = 255\n')
    with web as server:
        # It writes a configuration of its own where it finds none.
        environment = OTHERS | {'HOME': str(tmp_path)}
        arguments = ['--rc', tmp_path / 'siegerc', '--benchmark', '--concurrent=50', '--reps=40']
        printed = report('siege', *arguments, f'http://127.0.0.1:{server.port}/', env=environment)
    told = json.loads(printed[printed.index('{') :])
    assert told['transactions'] == told['successful_transactions'] == 2000
    assert told['failed_transactions'] == 0
    assert told['availability'] == 100
    assert server.counts['send_calls'] == 2000
    assert server.counts['connections'] == (2000 if connection == 'close' else 50)


@pytest.mark.parametrize(
    ('attack', 'end'),
    [
        (['-H', '-i', 1, '-x', 24], 'Hit test time limit'),
        (['-X', '-w', 512, '-y', 1024, '-n', 1, '-z', 32, '-k', 3], 'Hit test time limit'),
        # The server takes no bodies, and says so.
        (['-B', '-i', 1], 'No open connections left'),
    ],
    ids=['slow-headers', 'slow-read', 'slow-body'],
)
def test_slowhttptest_never_finds_the_service_unavailable(report, web, site, attack, end):
    (site / 'data.bin').write_bytes(os.urandom(200_000))
    with web as server:
        url = f'http://127.0.0.1:{server.port}/'
        arguments = ['-c', 200, '-r', 200, '-l', 2, '-p', 2, '-t', 'GET', '-v', 1]
        printed = report('slowhttptest', *arguments, *attack, '-u', f'{url}data.bin')
        assert report('curl', '-sSf', url) == PAGE.decode()
    printed = re.sub(r'\x1b\[[\d;]*[A-Za-z]', '', printed)
    available = re.findall(r'service available: +(\w+)', printed)
    assert available
    assert set(available) == {'YES'}
    assert re.findall(r'error: +(\d+)', printed)[-1] == '0'
    assert f'Exit status: {end}' in printed
    assert server.counts['connections'] > 200
