"""The benchmarks: every byte is compared, a stall counts, a disturbance is seen, a miss is told."""

import json
import os
import pathlib
import subprocess
import sys
import tomllib

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / 'benches'), str(ROOT / 'docs')]

import _bars  # noqa: E402
import _tools  # noqa: E402
import bench  # noqa: E402
import instructions  # noqa: E402
import make_benchmarks  # noqa: E402
import scheduling  # noqa: E402
import stats_cost  # noqa: E402
from _load import Failed, Load, under_load  # noqa: E402

needs_unix = pytest.mark.skipif(os.name == 'nt', reason='the benchmarks are of Unix')


@pytest.fixture(scope='session')
def helpers():
    """The native server and the load generator."""
    _tools.build_native()


def server(name, *arguments):
    if name == 'native':
        return [str(_tools.native('server')), *arguments]
    return [sys.executable, f'servers/{name}.py', *arguments]


LOADS = {
    'echo': ('echo', 'echo', (8, 1024, 0.05)),
    'bytes': ('bytes', 'echo', (8, 1024, 0.05)),
    'large': ('echo', 'echo', (4, 300_000, 0.05)),
    'idle': ('bytes', 'echo', (2000, 64, 0.05, '--active', '5')),
    'pipelined': ('echo', 'echo', (4, 64, 0.05, '--outstanding', '16')),
    'open loop': ('echo', 'echo', (4, 64, 0.05, '--rate', '2000')),
    'accept': ('echo', 'accept', (4, 0.05)),
    'source': ('source', 'source', (20,)),
    'sink': ('sink', 'sink', (20,)),
}


@needs_unix
@pytest.mark.parametrize('load', LOADS)
@pytest.mark.parametrize('name', ['native', 'sock_recv', 'asyncio_protocol', 'asyncio_streams', 'asyncio_sock'])
def test_server_passes_under_load(helpers, name, load):
    mode, generator, arguments = LOADS[load]
    got, _ = under_load(server(name, mode), generator, arguments, 0.02)
    assert got['messages'] > 0
    assert got['cpu_us'] > 0
    if load == 'open loop':
        assert got['messages'] == 100
    if load in ('source', 'sink'):
        assert got['bytes'] == 20_000_000
    if load == 'idle':
        # A page and more, but of the native server, which has less than 100 bytes for each.
        assert got['memory'] >= (0 if name == 'native' else 4096)


@needs_unix
@pytest.mark.parametrize('name', ['native', 'sock_recv', 'asyncio_protocol', 'asyncio_streams', 'asyncio_sock'])
def test_server_passes_on_a_unix_socket(helpers, name, tmp_path):
    path = str(tmp_path / 's')
    command = server(name, 'echo', path) if name == 'native' else server(name, '--path', path)
    got, _ = under_load(command, 'echo', (8, 1024, 0.05), 0.02)
    assert got['messages'] > 0


#: A server of one connection after another; `CHANGE` is what it does with the bytes of one, before it sends them.
OTHER_SERVER = """
import itertools, os, socket, sys, threading, time
calls = itertools.count()
def echo(conn):
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
    while data := bytearray(conn.recv(65536)):
        CHANGE
        conn.sendall(data)
def sink(conn):
    count = 0
    while data := conn.recv(65536):
        count += len(data)
    CHANGE
    conn.sendall(count.to_bytes(8, 'little'))
    conn.close()
def accept():
    while True:
        threading.Thread(target=SERVE, args=[listener.accept()[0]], daemon=True).start()
listener = socket.create_server(('127.0.0.1', 0))
print(listener.getsockname()[1], flush=True)
threading.Thread(target=accept, daemon=True).start()
sys.stdin.read()
os._exit(0)
"""


def other_server(serve, change):
    return [sys.executable, '-c', OTHER_SERVER.replace('SERVE', serve).replace('CHANGE', change)]


@needs_unix
@pytest.mark.parametrize(
    ('serve', 'change', 'load', 'arguments', 'said'),
    [
        ('echo', 'data[-1] ^= 1', 'echo', (2, 64, 1), 'is not what was sent'),
        ('echo', 'data[0] ^= 1', 'echo', (2, 64, 1, '--rate', '1000'), 'is not what was sent'),
        ('echo', 'data = data + data', 'echo', (2, 64, 1), 'more came back than was sent'),
        ('echo', 'data[-1] ^= 1', 'accept', (2, 1), 'not what was sent'),
        ('sink', 'count -= 1', 'sink', (1,), 'does not say that it got 1000000 bytes'),
    ],
)
def test_a_server_that_gets_it_wrong_fails(helpers, serve, change, load, arguments, said):
    with pytest.raises(Failed, match=said):
        under_load(other_server(serve, change), load, arguments)


@needs_unix
def test_latency_of_an_open_loop_counts_what_a_stall_makes_wait(helpers):
    # One pause of 0.3 s in a second of 1,000 messages on one connection. Whoever waits for an answer before the next
    # message has one slow message; of those that were due, three in ten are.
    stall = 'time.sleep(0.3 if next(calls) == 20 else 0)'
    closed, _ = under_load(other_server('echo', stall), 'echo', (1, 64, 1))
    due, _ = under_load(other_server('echo', stall), 'echo', (1, 64, 1, '--rate', '1000'))
    assert due['messages'] == 1000
    assert due['p99_us'] > 200_000
    assert closed['messages'] > 200
    assert closed['p99_us'] < 200_000


@pytest.mark.skipif(sys.platform != 'linux', reason='/proc/stat is of Linux')
def test_what_others_take_of_a_core_is_seen():
    core = _tools.cores()[0]
    others = _tools.Others([core])
    spin = 'import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass'
    with _tools.pinned(core):
        subprocess.run([sys.executable, '-c', spin], check=True)
    assert others.share(0) > _tools.Others.TOO_MUCH
    # Less what was measured itself, which is not others'.
    assert others.share(1000) == 0


def test_disturbed_measurements_are_repeated_and_the_least_disturbed_one_stays():
    def measured(*shares):
        left = list(shares)
        return _tools.undisturbed(lambda: {'others': left.pop(0)})

    assert measured(0.01) == {'others': 0.01, 'repeats': 0}
    assert measured(0.5, 0.01) == {'others': 0.01, 'repeats': 1}
    assert measured(0.5, 0.3, 0.4) == {'others': 0.3, 'repeats': 2}
    assert measured(None) == {'others': None, 'repeats': 0}
    told = _tools.disturbances([measured(0.5, 0.01), measured(0.5, 0.3, 0.4)])
    assert '3 repeats in 2 measurements, 1 of which stayed disturbed' in told


def rows(**costs):
    """A scenario's laps, of one figure each."""
    return {
        name: [{'cpu_us': cost, 'user_us': cost / 2, 'system_us': cost / 2, 'memory_each': cost} for cost in each]
        for name, each in costs.items()
    }


def test_bars_tell_hits_misses_and_what_was_not_measured():
    laps = {
        '1kx64': rows(native=[10, 10, 20], sock_recv=[11, 12, 22], uvloop_protocol=[11, 11, 11]),
        'accept': rows(native=[10], sock_recv=[12], rloop_sock=[11], epoll_by_hand=[13]),
        '100of10k': rows(sock_recv=[14, 14, 14]),
        'idle10k': rows(sock_recv=[1301]),
    }

    def judged(*bar, **more):
        [verdict] = bench.judge(laps, [bench.Bar(*bar, **more)])
        return verdict['hit'], verdict['measured'] and round(verdict['measured'], 3), verdict['note']

    # The median of the laps' ratios, not the ratio of the medians.
    assert judged('1kx64', 'sock_recv', 'native', 1.15) == (True, 1.1, 'in 2 of 3 laps')
    hit, measured, note = judged('1kx64', 'sock_recv', 'uvloop_protocol', 1)
    assert (hit, measured) == (False, 1.091)
    assert note == 'in 1 of 3 laps; user + system: 6.00 + 6.00 us against 5.50 + 5.50'
    assert judged('1kx64', 'sock_recv', 'rloop_protocol', 1) == (None, None, '')
    hit, measured, note = judged('accept', 'sock_recv', bench.BEST, 1)
    assert (hit, measured) == (False, 1.091)
    assert note.startswith('rloop_sock; in 0 of 1 laps; user')
    assert judged('100of10k', 'sock_recv', 'sock_recv', 1.3, other_scenario='1kx64') == (True, 1.167, '')
    assert judged('idle10k', 'sock_recv', None, 1300, 'memory_each')[:2] == (False, 1301)
    assert judged('1kx64', 'sock_recv', 'native', 1.2, 'cpu_us', at_least=True)[0] is False
    # Without the native server nothing is known, and that is no hit.
    del laps['1kx64']['native']
    assert judged('1kx64', 'sock_recv', 'native', 1.15)[0] is False


def test_bars_of_some_servers_are_those_that_name_no_other():
    bars = bench.bars_of(['udp512x64'], ['sock_recvfrom', 'rloop_datagram'])
    assert [(bar.server, bar.other) for bar in bars] == [('sock_recvfrom', bench.BEST)]


def test_check_fails_where_a_bar_is_missed_and_where_none_was_measured(capsys):
    hit, missed, unknown = (_bars.verdict_of('it', 'at most 1', 1.0, each) for each in (True, False, None))
    _bars.check([hit, unknown])
    _bars.print_bars([hit, missed, unknown])
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()[2:]] == ['hit', 'MISSED', 'measured']
    for verdicts in ([hit, missed], [unknown], []):
        with pytest.raises(SystemExit, match='check failed'):
            _bars.check(verdicts)


def test_a_server_that_fails_is_left_out_of_all_laps(capsys):
    class Fails:
        def measure(self):
            raise Failed('it is gone')

    class Works:
        def measure(self):
            return {'own_s': 0.0}

    laps = {'broken': [{'own_s': 1.0}], 'native': [{'own_s': 1.0}]}
    field = bench.Field(laps)
    field.loads = {'broken': Fails(), 'native': Works()}
    for _ in range(2):
        assert field.lap(['broken', 'native'], [None]) == {'measured': {'native': {'own_s': 0.0}}, 'others': None}
    assert (set(laps), set(field.loads)) == ({'native'}, {'native'})
    assert 'broken             left out from now on: it is gone' in capsys.readouterr().err


@needs_unix
def test_one_load_measures_as_often_as_it_is_asked(helpers):
    with Load(server('native', 'echo'), 'echo', (4, 64, 0.02), 0.02) as load:
        first, second = load.measure(), load.measure()
    assert first['messages'] != second['messages']
    assert min(first['cpu_us'], second['cpu_us'], first['own_s'], second['own_s']) > 0


@needs_unix
def test_a_run_makes_tables_bars_and_the_page(helpers, tmp_path):
    name = f'quick-test-{os.getpid()}'
    command = [sys.executable, 'benches/bench.py', '--quick', '--scenarios', 'unix1kx64', '--name', name]
    files = [ROOT / 'benches' / 'results' / f'{name}.{ending}' for ending in ('json', 'svg')]
    try:
        ran = subprocess.run(
            [*command, '--rounds', '2', '--laps', '3', '--seconds', '0.02', '--warmup', '0.02'],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        report = json.loads(files[0].read_text())
        assert files[1].read_text().startswith('<svg')
    finally:
        for file in files:
            file.unlink(missing_ok=True)
    measured = report['measured']['unix1kx64']
    assert {'native', 'sock_recv'} <= set(report['summary']['unix1kx64']) == set(measured)
    assert {len(figures) for each in measured.values() for figures in each.values()} == {6}
    assert [each['what'] for each in report['bars']] == ['unix stream, 1 KB x 64: sock_recv']
    assert 'CPU time: at most 1.25 x native' in ran.stdout
    (tmp_path / 'latest.json').write_text(json.dumps(report))
    page = subprocess.run(
        [sys.executable, make_benchmarks.__file__, str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout
    assert '### unix stream, 1 KB x 64' in page
    assert f'Python {report["python"]}' in page
    assert '| sock_recv |' in page
    assert '| CPU time: at most 1.25 x native |' in page


def test_page_has_one_verdict_for_each_bar_of_the_run_that_says_most():
    def run(laps, peers, *bars):
        return {
            'rounds': 2,
            'laps': laps,
            'scenarios': {'some': {'title': 'the load'}},
            'summary': {'some': {peer: {} for peer in peers}},
            'bars': [
                {'what': 'the load: sock', 'demand': demand, 'hit': hit, 'measured': 1, 'note': note}
                for demand, hit, note in bars
            ],
        }

    best, other = 'at most 1 x the best peer', 'at most 1.2 x native'
    wide = run(3, ['sock', 'a', 'b', 'c'], (best, False, 'b; in 1 of 3 laps'), (other, True, ''), ('alone', None, ''))
    long = run(9, ['sock', 'a', 'b'], (best, True, 'b; in 9 of 9 laps'), (other, False, ''))
    narrow = run(99, ['sock', 'a'], (best, False, 'a; in 9 of 99 laps'), (other, None, ''))
    found = make_benchmarks.decided({'wide': wide, 'long': long, 'narrow': narrow})
    assert {each['demand']: (each['run'], each['hit']) for each in found} == {
        best: ('long', True),
        other: ('long', False),
        'alone': ('wide', None),
    }


def test_readme_has_the_figures_of_the_last_run():
    report = json.loads((make_benchmarks.RESULTS / 'latest.json').read_text(encoding='utf-8'))
    summary = report['summary']
    names = {
        '**sock**': 'sock_recv',
        'rloop, Protocol': 'rloop_protocol',
        'uvloop, Protocol': 'uvloop_protocol',
        '`select.epoll` by hand': 'epoll_by_hand',
        'asyncio, Protocol': 'asyncio_protocol',
        'gevent': 'gevent_socket',
        'curio': 'curio_socket',
        'trio': 'trio_socket',
        'asyncio, `sock_recv_into`': 'asyncio_sock',
    }
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    for name, server in names.items():
        ratios = [
            summary[each].get(server, {}).get('cpu_us_times_native')
            for each in ('1kx64', '1kx1000', '10kx64', 'accept')
        ]
        cells = ' | '.join('' if ratio is None else f'{ratio:.2f}' for ratio in ratios)
        assert f'| {name} | {cells} |'.replace('|  |', '| |') in readme
    assert f'medians of {report["rounds"] * report["laps"]} laps' in ' '.join(readme.split())


def test_page_needs_results(tmp_path):
    with pytest.raises(SystemExit, match='has no results'):
        make_benchmarks.main(tmp_path)


def test_page_says_which_run_has_all_libraries_as_the_bars_and_the_groups_are():
    (why,) = (
        each for each in make_benchmarks.HEAD.split('\n\n') if each.startswith('On the free-threaded interpreter')
    )
    assert f'\n\n{why}\n\n' in (ROOT / 'docs' / 'benchmarks.md').read_text(encoding='utf-8')
    text = ' '.join(make_benchmarks.HEAD.split())
    (udp,) = (bar for bar in bench.BARS if (bar.server, bar.other) == ('sock_recvfrom', 'native'))
    assert f"for `recvfrom`, {udp.times:g} times the native server's CPU time" in text
    groups = tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))['dependency-groups']
    assert 'tonio is one of them, which has no build for any other interpreter' in text
    others = {'include-group': 'peers'}
    assert (groups['bench'], groups['bench-freethreaded']) == ([others], [others, 'tonio'])
    assert 'gevent' in groups['peers']


def test_who_does_not_take_turns_is_compared_all_the_same_where_it_costs_more():
    rounds = {
        'switch': {
            name: [{'cpu_us': cost, 'changes': changes}]
            for name, cost, changes in (('sock', 2, 1), ('dear', 3, 0), ('cheap', 1, 0), ('fair', 3, 1))
        }
    }
    summary = {
        'switch': {
            name: {'cpu_us': row[0]['cpu_us'], 'changes': row[0]['changes']} for name, row in rounds['switch'].items()
        }
    }
    verdicts = scheduling.judge(rounds, summary, {'switch': {}})
    assert [(each['demand'].split()[-1], each['hit'], each['note']) for each in verdicts] == [
        ('dear', True, 'though it does not take turns'),
        ('cheap', None, 'it does not take turns'),
        ('fair', True, ''),
    ]


def test_counting_is_taken_out_of_a_copy_where_its_cost_is_measured():
    source = (ROOT / 'src' / 'socket.rs').read_text(encoding='utf-8')
    without = stats_cost.without_counting(source)
    gone = source[: source.index('fn add(')].count('\n'), source[: source.index('/// Bytes, calls.')].count('\n')
    body = '\n'.join(source.splitlines()[gone[0] : gone[1]])
    assert body.count('.store(') == 2
    assert without == source.replace(body, body.replace('\n'.join(body.splitlines()[1:3]), '        let _ = bytes;'))
    with pytest.raises(SystemExit, match='is not where it was'):
        stats_cost.without_counting(without)


@pytest.mark.skipif(os.name == 'nt', reason='valgrind, which counts them, is of Unix')
def test_more_instructions_than_recorded_fail(monkeypatch, tmp_path, capsys):
    record = tmp_path / 'instructions.json'
    counts = {'echo': 10_000, 'spawn': 1_000}
    monkeypatch.setattr(instructions, 'RECORD', record)
    monkeypatch.setattr(instructions, 'count', lambda operations: {each: counts[each] for each in operations})
    monkeypatch.setattr(instructions.shutil, 'which', lambda name: name)

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['instructions.py', '--operations', 'echo,spawn', *arguments])
        instructions.main()

    with pytest.raises(SystemExit, match='nothing is recorded'):
        run()
    run('--record')
    counts['echo'] = 10_499
    run()
    counts['echo'] = 10_501
    with pytest.raises(SystemExit, match=r'echo takes 1\.050 x the instructions recorded'):
        run()
    run('--record')
    run()
    assert 'echo                     10501     10501   1.000' in capsys.readouterr().out
    for miscounted in (-3_000, 0, 9_000):
        counts['echo'] = miscounted
        with pytest.raises(SystemExit, match=r'echo takes .* x the instructions recorded: record what'):
            run()


@pytest.mark.skipif(_tools.resource is None, reason='the benchmarks set a limit of Unix')
def test_limit_of_open_files_goes_up_as_far_as_it_may_and_never_down():
    code = """
import resource, sys, _tools
soft, wanted = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, 1024))
print(_tools.raise_file_limit(wanted), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""

    def raised(soft, wanted):
        command = [sys.executable, '-c', code, str(soft), str(wanted)]
        ran = subprocess.run(command, cwd=ROOT / 'benches', capture_output=True, text=True, check=True)
        return tuple(map(int, ran.stdout.split()))

    assert raised(100, 500) == (500, 500, 1024)
    assert raised(600, 500) == (500, 600, 1024)
    allowed, soft, hard = raised(100, 2000)
    # With the right to, beyond the hard limit.
    assert (allowed, soft, hard) in ((1024, 1024, 1024), (2000, 2000, 2000))
