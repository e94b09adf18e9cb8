"""redis-benchmark against redis_server.py: each request is answered and counted, and redis-cli finds it done."""

import re
from pathlib import Path

import pytest
from support import descriptors

SERVER = Path(__file__).with_name('redis_server.py')


@pytest.fixture
def redis(package, counting):
    package('hiredis')
    return lambda threads=1: counting(SERVER, '--threads', threads)


@pytest.fixture
def completed(report):
    """Runs redis-benchmark, which ends badly at the first error; gives how many requests of each kind it completed."""

    def run(server, *arguments):
        printed = report('redis-benchmark', '-p', server.port, *arguments)
        found = re.findall(r'====== (.*) ======\s+(\d+) requests completed in .*\s+(\d+) parallel clients', printed)
        return {name: int(number) for name, number, _ in found}

    return run


@pytest.fixture
def cli(report):
    return lambda server, *command: report('redis-cli', '-p', server.port, *command).removesuffix('\n')


@pytest.mark.parametrize('threads', [1, 3])
def test_all_tests_of_redis_benchmark_pipelined(redis, completed, cli, threads):
    n = 320
    with redis(threads) as server:
        done = completed(server, '-n', n, '-c', 50, '-P', 16)
        assert cli(server, 'get', 'counter:__rand_int__') == str(n)
    assert len(done) == 20
    assert set(done.values()) == {n}
    times = dict(
        ping=2, set=1, get=1, incr=1, lpush=2, rpush=1, lpop=1, rpop=1, sadd=1, hset=1, spop=1, zadd=1, zpopmin=1
    )
    times |= dict(lrange=4, mset=1)
    (commands,) = server.own
    assert commands.pop('config') == 2
    assert commands.pop('get') == n + 1
    del times['get']
    assert commands == {name: n * number for name, number in times.items()}


@pytest.mark.parametrize('threads', [1, 4])
def test_thousand_connections_pipelined(redis, completed, cli, threads):
    n = 5000
    with descriptors(1200), redis(threads) as server:
        done = completed(server, '-n', n, '-c', 1000, '-P', 10, '--threads', 2, '-t', 'incr,lpush,rpop')
        assert cli(server, 'get', 'counter:__rand_int__') == str(n)
        assert cli(server, 'llen', 'mylist') == '0'
    assert done == dict.fromkeys(['INCR', 'LPUSH', 'RPOP'], n)
    assert server.own == [dict(config=2, incr=n, lpush=n, rpop=n, get=1, llen=1)]
    assert server.counts['connections'] >= 3 * 1000


@pytest.mark.parametrize('threads', [1, 2])
def test_connection_for_each_request(redis, completed, threads):
    n = 3000
    with redis(threads) as server:
        done = completed(server, '-n', n, '-c', 100, '-k', 0, '-t', 'ping_mbulk')
    assert done == {'PING_MBULK': n}
    assert server.own == [dict(config=2, ping=n)]
    assert server.counts['connections'] >= n


@pytest.mark.parametrize('threads', [1, 2])
def test_values_of_a_megabyte(redis, completed, cli, threads):
    n, size = 100, 1_000_000
    with redis(threads) as server:
        done = completed(server, '-n', n, '-c', 20, '-d', size, '-t', 'set,get')
        value = cli(server, 'get', 'key:__rand_int__')
    assert done == {'SET': n, 'GET': n}
    assert len(value) == size
    assert server.own == [dict(config=2, set=n, get=n + 1)]
    assert server.counts['bytes_received'] > n * size
    assert server.counts['bytes_sent'] > (n + 1) * size
