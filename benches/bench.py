"""The echo servers of `servers/` and the native one under the same load: CPU time per message, messages per second.

A server runs on one core, the load generator on another. Every measurement has a server process of its own. The
servers take turns, round after round, so that whatever else the machine does hits all of them alike; a figure is the
median of its rounds, a ratio the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import html
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterable

from _tools import HERE, build_native, cores, cpu_time, native, pinned

NATIVE = 'native'
OURS = 'sock_recv'
RIVAL = 'uvloop_protocol'
OUR_DATAGRAMS, OUR_BATCHES = 'sock_recvfrom', 'sock_recvmany'

#: Server -> what it runs on: the module, and the distribution that has its version.
STREAMS = {
    NATIVE: None,
    OURS: ('sock', 'corosock'),
    RIVAL: ('uvloop', 'uvloop'),
    'rloop_protocol': ('rloop', 'rloop'),
    'asyncio_protocol': ('asyncio', None),
    'epoll_by_hand': ('select', None),
    'gevent_socket': ('gevent', 'gevent'),
    'curio_socket': ('curio', 'curio'),
    'trio_socket': ('trio', 'trio'),
    'asyncio_sock': ('asyncio', None),
}
DATAGRAMS = {
    NATIVE: None,
    OUR_DATAGRAMS: ('sock', 'corosock'),
    OUR_BATCHES: ('sock', 'corosock'),
    'uvloop_datagram': ('uvloop', 'uvloop'),
    'rloop_datagram': ('rloop', 'rloop'),
    'asyncio_datagram': ('asyncio', None),
    'gevent_recvfrom': ('gevent', 'gevent'),
    'curio_recvfrom': ('curio', 'curio'),
    'trio_recvfrom': ('trio', 'trio'),
    'asyncio_recvfrom': ('asyncio', None),
}
SERVERS = {**STREAMS, **DATAGRAMS}
OUR_SERVERS = (OURS, OUR_DATAGRAMS, OUR_BATCHES)

#: What `--check` demands: at most so many times the CPU time of the native server ...
MOST_TIMES_NATIVE = 1.3
#: ... and less than these: scenario -> (our server, the others).
CHECKED = {
    '1kx64': (OURS, (RIVAL,)),
    'udp512x64': (OUR_DATAGRAMS, ('uvloop_datagram', 'rloop_datagram')),
}

#: A measurement that takes so much longer than it should is stuck.
PATIENCE = 60


@dataclasses.dataclass(frozen=True)
class Scenario:
    title: str
    #: What one unit of work is called.
    unit: str
    #: The generator's mode, and what goes between the port and the seconds.
    mode: str
    arguments: tuple[int, ...]
    servers: tuple[str, ...] = tuple(STREAMS)
    native: str = 'echo-server'


SCENARIOS = {
    '1kx64': Scenario('1 KB x 64', 'msg', 'echo', (64, 1024)),
    '1kx1000': Scenario('1 KB x 1000', 'msg', 'echo', (1000, 1024)),
    '10kx64': Scenario('10 KB x 64', 'msg', 'echo', (64, 10240)),
    'accept': Scenario('accept + 1 byte each way + close, 64 at a time', 'conn', 'accept', (64,)),
    'udp512x64': Scenario('UDP 512 B x 64', 'msg', 'udp', (64, 512), tuple(DATAGRAMS), 'udp-echo-server'),
}


class Failed(Exception):
    """A measurement that came to nothing."""


def log(*words: object) -> None:
    print(*words, file=sys.stderr, flush=True)


def names(known: Iterable[str]):
    """For argparse: some of the known names, with commas between."""
    known = list(known)

    def parse(value: str) -> list[str]:
        chosen = [name.strip() for name in value.split(',') if name.strip()]
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f'{name!r} is none of {", ".join(known)}')
        return chosen

    return parse


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--servers', type=names(SERVERS), help=f'of {",".join(SERVERS)}; default: all')
    parser.add_argument('--scenarios', type=names(SCENARIOS), help=f'of {",".join(SCENARIOS)}; default: all')
    parser.add_argument('--rounds', type=int, help='how often each server is measured; default: 5')
    parser.add_argument('--seconds', type=float, help='how long one measurement takes; default: 1')
    parser.add_argument('--warmup', type=float, help='the same load before, not counted; default: 0.3')
    parser.add_argument('--quick', action='store_true', help='native, sock, uvloop and rloop alone; 7 rounds of 0.4 s')
    parser.add_argument('--same-core', action='store_true', help='the load generator on the core of the server')
    parser.add_argument('--python', default=sys.executable, help='the interpreter that runs the servers')
    parser.add_argument('--name', help="of the files in results; default: 'latest', 'quick', 'same-core', ...")
    parser.add_argument(
        '--check',
        action='store_true',
        help=f'fail if sock takes more than {MOST_TIMES_NATIVE} x the CPU of native, or not less than its rivals',
    )
    chosen = parser.parse_args()
    quick = [NATIVE, *(name for name in SERVERS if name.startswith(('sock', 'uvloop', 'rloop')))]
    chosen.servers = chosen.servers or (quick if chosen.quick else list(SERVERS))
    chosen.scenarios = chosen.scenarios or list(SCENARIOS)
    chosen.rounds = (7 if chosen.quick else 5) if chosen.rounds is None else chosen.rounds
    chosen.seconds = (0.4 if chosen.quick else 1.0) if chosen.seconds is None else chosen.seconds
    chosen.warmup = (0.2 if chosen.quick else 0.3) if chosen.warmup is None else chosen.warmup
    chosen.name = chosen.name or '-'.join(
        ['quick' if chosen.quick else 'latest', *(['same-core'] if chosen.same_core else [])]
    )
    if chosen.rounds < 1 or chosen.seconds <= 0 or chosen.warmup < 0:
        parser.error('--rounds, --seconds and --warmup must be positive')
    if pathlib.Path(chosen.name).name != chosen.name:
        parser.error('--name is a name, not a path')
    if chosen.check and not set(CHECKED) & set(chosen.scenarios):
        parser.error(f'--check needs one of the scenarios {", ".join(CHECKED)}')
    return chosen


#: Runs in the interpreter of the servers, which need not be this one.
_ABOUT = """
import importlib.metadata, importlib.util, json, platform, select, sys, sysconfig
found = {}
for module, distribution in json.loads(sys.argv[1]):
    if importlib.util.find_spec(module) is not None:
        try:
            found[module] = importlib.metadata.version(distribution) if distribution else ''
        except importlib.metadata.PackageNotFoundError:
            found[module] = ''
if not hasattr(select, 'epoll'):
    found.pop('select', None)
free = sysconfig.get_config_var('Py_GIL_DISABLED')
print(json.dumps([platform.python_version() + ('t' if free else ''), found]))
"""


def about(python: str) -> tuple[str, dict[str, str]]:
    """The interpreter's version, and the versions of the modules that it has."""
    wanted = json.dumps([needs for needs in SERVERS.values() if needs])
    ran = subprocess.run([python, '-c', _ABOUT, wanted], capture_output=True, text=True, cwd=HERE / 'servers')
    if ran.returncode:
        sys.exit(f'--python cannot be used: {ran.stderr.strip()}')
    version, found = json.loads(ran.stdout)
    return version, found


def measure(server: str, scenario: Scenario, options: argparse.Namespace) -> dict[str, float]:
    """One server process under one load."""
    command = [str(native(scenario.native))] if server == NATIVE else [options.python, f'servers/{server}.py']
    load = [str(native('load')), scenario.mode, '127.0.0.1']
    pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'text': True, 'cwd': HERE}
    with pinned(options.server_core):
        serving = subprocess.Popen(command, **pipes)
    started = [serving]
    watchdog = threading.Timer(options.seconds + options.warmup + PATIENCE, lambda: [each.kill() for each in started])
    watchdog.start()
    try:
        port = serving.stdout.readline().removeprefix('port ').strip()
        if not port:
            raise Failed('the server did not start')
        load += [port, *map(str, scenario.arguments), str(options.seconds), '--warmup', str(options.warmup), '--gate']
        with pinned(options.load_core):
            loading = subprocess.Popen(load, stderr=subprocess.PIPE, **pipes)
        started.append(loading)
        if loading.stdout.readline().strip() != 'ready':
            raise Failed(loading.communicate()[1].strip() or 'the load generator ended')
        before = cpu_time(serving.pid)
        loading.stdin.write('\n')
        loading.stdin.flush()
        line = loading.stdout.readline()
        if not line:
            raise Failed(loading.communicate()[1].strip() or 'the load generator ended')
        cpu = cpu_time(serving.pid) - before
        report = json.loads(line)
        return {
            'cpu_us': cpu / report['messages'] * 1e6,
            'per_second': report['messages'] / report['seconds'],
            **report,
        }
    finally:
        watchdog.cancel()
        for each in reversed(started):
            with contextlib.suppress(BrokenPipeError):
                each.stdin.close()
            try:
                each.wait(5)
            except subprocess.TimeoutExpired:
                each.kill()
                each.wait()
            each.stdout.close()
            if each.stderr:
                each.stderr.close()


Rounds = dict[str, dict[str, list[dict[str, float]]]]


def run(servers: list[str], options: argparse.Namespace) -> Rounds:
    """All measurements: by scenario, by server, in the order of the rounds. What fails once is left out."""
    rounds: Rounds = {
        scenario: {server: [] for server in servers if server in SCENARIOS[scenario].servers}
        for scenario in options.scenarios
    }
    for number in range(options.rounds):
        for name in options.scenarios:
            scenario = SCENARIOS[name]
            log(f'round {number + 1} of {options.rounds}, {scenario.title}')
            # Another server begins each round: none is always measured after the same one.
            these = list(rounds[name])
            turn = number % max(len(these), 1)
            for server in these[turn:] + these[:turn]:
                try:
                    got = measure(server, scenario, options)
                except Failed as failed:
                    log(f'  {server:18} left out from now on: {failed}')
                    del rounds[name][server]
                    continue
                rounds[name][server].append(got)
                rate = got['per_second'] / 1e3
                log(f'  {server:18} {got["cpu_us"]:8.2f} us CPU/{scenario.unit} {rate:8.1f} k {scenario.unit}/s')
    return rounds


def ratio(rounds: dict[str, list[dict[str, float]]], server: str, other: str, figure: str) -> float | None:
    """How many times the other's figure, as the median of the rounds' ratios."""
    if server not in rounds or other not in rounds:
        return None
    pairs = zip(rounds[server], rounds[other], strict=True)
    return statistics.median(one[figure] / another[figure] for one, another in pairs)


def summarize(rounds: Rounds) -> dict[str, dict[str, dict[str, float | None]]]:
    """By scenario, by server, the cheapest first."""
    summary = {}
    for scenario, servers in rounds.items():
        rows = {}
        for server, all_rounds in servers.items():
            median = {
                figure: statistics.median(each[figure] for each in all_rounds)
                for figure in ('cpu_us', 'per_second', 'p50_us', 'p99_us')
            }
            costs = [each['cpu_us'] for each in all_rounds]
            rows[server] = {
                **median,
                'cpu_us_spread': max(costs) - min(costs),
                'cpu_times_native': ratio(servers, server, NATIVE, 'cpu_us'),
                'per_second_times_native': ratio(servers, server, NATIVE, 'per_second'),
            }
        summary[scenario] = dict(sorted(rows.items(), key=lambda row: row[1]['cpu_us']))
    return summary


def print_tables(summary: dict[str, dict[str, dict[str, float | None]]]) -> None:
    def times(value: float | None) -> str:
        return '-' if value is None else f'{value:.2f}'

    for name, rows in summary.items():
        scenario = SCENARIOS[name]
        print(f'\n{scenario.title}')
        head = ('server', f'us CPU/{scenario.unit}', 'x native', 'max - min', f'k {scenario.unit}/s', 'x native')
        print('{:18} {:>12} {:>9} {:>10} {:>10} {:>9} {:>9} {:>9}'.format(*head, 'p50 us', 'p99 us'))
        for server, row in rows.items():
            print(
                f'{server:18} {row["cpu_us"]:12.2f} {times(row["cpu_times_native"]):>9} {row["cpu_us_spread"]:10.2f} '
                f'{row["per_second"] / 1e3:10.1f} {times(row["per_second_times_native"]):>9} '
                f'{row["p50_us"]:9.0f} {row["p99_us"]:9.0f}'
            )


def machine() -> dict[str, object]:
    model = platform.processor()
    try:
        for line in pathlib.Path('/proc/cpuinfo').read_text().splitlines():
            if line.startswith('model name'):
                model = line.partition(':')[2].strip()
                break
    except OSError:
        pass
    release = platform.release().partition('-')[0]
    return {'system': f'{platform.system()} {release}', 'cpu': model, 'cores': os.cpu_count()}


def svg(summary: dict[str, dict[str, dict[str, float | None]]], subtitle: str) -> str:
    """Bars: a panel for each scenario, CPU time on the left, messages per second on the right."""
    width, margin, label, row, bar, value = 980, 24, 130, 22, 14, 56
    gap = 40
    half = (width - 2 * margin - label - gap) / 2 - value
    left, right = margin + label, margin + label + half + value + gap
    colours = {NATIVE: '#868e96'} | dict.fromkeys(OUR_SERVERS, '#e8590c')
    shapes = []

    def text(x: float, y: float, what: str, style: str = '') -> None:
        shapes.append(f'<text x="{x:.1f}" y="{y:.1f}" {style}>{html.escape(what)}</text>')

    y = margin + 16.0
    text(margin, y, 'Echo servers', 'font-size="18" font-weight="bold"')
    y += 20
    text(margin, y, subtitle, 'fill="#495057"')
    for name, rows in summary.items():
        if not rows:
            continue
        scenario = SCENARIOS[name]
        y += 36
        text(margin, y, scenario.title, 'font-size="15" font-weight="bold"')
        y += 20
        text(left, y, f'us CPU per {scenario.unit}: less is better', 'fill="#495057"')
        text(right, y, f'k {scenario.unit}/s: more is better', 'fill="#495057"')
        y += 6
        most_cpu = max(each['cpu_us'] for each in rows.values())
        most_rate = max(each['per_second'] for each in rows.values())
        for server, each in rows.items():
            base = y + bar - 3
            colour = colours.get(server, '#4c6ef5')
            bold = 'font-weight="bold"' if server in OUR_SERVERS else ''
            text(left - 8, base, server, f'text-anchor="end" {bold}')
            bars = (
                (left, each['cpu_us'] / most_cpu, f'{each["cpu_us"]:.1f}'),
                (right, each['per_second'] / most_rate, f'{each["per_second"] / 1e3:.1f}'),
            )
            for x, share, figure in bars:
                long = max(share * half, 1)
                shapes.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{long:.1f}" height="{bar}" fill="{colour}"/>')
                text(x + long + 5, base, figure, bold)
            y += row
    height = y + margin
    return '\n'.join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height:.0f}" '
            f'viewBox="0 0 {width} {height:.0f}" font-family="sans-serif" font-size="12" fill="#212529">',
            f'<rect width="{width}" height="{height:.0f}" fill="#ffffff"/>',
            *shapes,
            '</svg>\n',
        ]
    )


def check(rounds: Rounds) -> list[str]:
    """What falls short of the bars, a sentence each."""
    missed = []
    for name, (ours, rivals) in CHECKED.items():
        if name not in rounds:
            continue
        servers, title = rounds[name], SCENARIOS[name].title
        times_native = ratio(servers, ours, NATIVE, 'cpu_us')
        if times_native is None:
            missed.append(f'{ours} or {NATIVE} could not be measured at {title}: nothing is known')
            continue
        least = {NATIVE: (times_native, MOST_TIMES_NATIVE)}
        least |= {rival: (times, 1) for rival in rivals if (times := ratio(servers, ours, rival, 'cpu_us')) is not None}
        found = ', '.join(f'{times:.3f} x {other}' for other, (times, _) in least.items())
        log(f'check: at {title} {ours} takes {found}, of their CPU time')
        for rival in rivals:
            if rival not in least:
                log(f'check: {rival} was not measured at {title}')
        missed += [
            f'at {title} {ours} takes {times:.3f} x the CPU time of {other}; it must take less than {most} x'
            for other, (times, most) in least.items()
            if times >= most
        ]
    batches = ratio(rounds.get('udp512x64', {}), OUR_BATCHES, NATIVE, 'cpu_us')
    if batches is not None:
        log(f'check: {OUR_BATCHES} takes {batches:.3f} x {NATIVE}, one by one')
        if batches >= 1:
            missed.append(f'{OUR_BATCHES} takes {batches:.3f} x the CPU time of {NATIVE}, which takes one by one')
    if not missed:
        print('\ncheck passed')
    return missed


def main() -> None:
    options = arguments()
    build_native()
    version, found = about(options.python)
    servers = []
    for server in options.servers:
        needs = SERVERS[server]
        if needs is None or needs[0] in found:
            servers.append(server)
        else:
            missing = 'select.epoll' if needs[0] == 'select' else needs[0]
            log(f'{server} is left out: Python {version} here has no {missing}')
    if not servers:
        sys.exit('none of the servers can run')
    available = cores()
    options.server_core = available[0]
    options.load_core = available[0] if options.same_core else available[-1 if len(available) < 2 else 1]
    if options.server_core is None:
        log('this OS does not pin processes to cores: the figures will vary more')
    elif options.load_core == options.server_core and not options.same_core:
        log('there is one core only: the load generator shares it with the server')

    rounds = run(servers, options)
    summary = summarize(rounds)
    print_tables(summary)

    host = machine()
    where = 'one core for both' if options.load_core == options.server_core else 'a core each'
    if options.server_core is None:
        where = 'not pinned'
    subtitle = (
        f'Python {version}, {host["system"]}, {host["cpu"]}; server and load generator: {where}; '
        f'medians of {options.rounds} x {options.seconds:g} s'
    )
    results = HERE / 'results'
    results.mkdir(exist_ok=True)
    report = {
        'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
        'machine': host,
        'python': version,
        'versions': {module: release for module, release in found.items() if release},
        'cores': where,
        'seconds': options.seconds,
        'warmup': options.warmup,
        'summary': summary,
        'rounds': rounds,
    }
    (results / f'{options.name}.json').write_text(json.dumps(report, indent=1) + '\n')
    (results / f'{options.name}.svg').write_text(svg(summary, subtitle))
    print(f'\n{subtitle}\nresults/{options.name}.json, results/{options.name}.svg')

    if options.check and (missed := check(rounds)):
        sys.exit('\n'.join(f'check failed: {each}' for each in missed))


if __name__ == '__main__':
    main()
