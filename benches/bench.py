"""The echo servers of `servers/` and the native one under the same load: CPU time per message, messages per second.

A server runs on one core, the load generator on another. Every measurement has a server process of its own. The
servers take turns, round after round, so that whatever else the machine does hits all of them alike; a figure is the
median of its rounds, a ratio the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import statistics
import sys

import _plot
from _load import Failed, under_load
from _tools import about, build_native, cores, log, machine, names, native, save

NATIVE = 'native'
TCP, UDP = 'tcp', 'udp'


@dataclasses.dataclass(frozen=True)
class Server:
    #: The transports it serves.
    serves: tuple[str, ...]
    #: The module that it runs on; None: none.
    module: str | None
    #: The distribution that has the module's version.
    distribution: str | None = None


#: The program of each, but of `native`, is `servers/NAME.py`.
SERVERS = {
    NATIVE: Server((TCP, UDP), None),
    'sock_recv': Server((TCP,), 'sock', 'corosock'),
    'uvloop_protocol': Server((TCP,), 'uvloop', 'uvloop'),
    'rloop_protocol': Server((TCP,), 'rloop', 'rloop'),
    'asyncio_protocol': Server((TCP,), 'asyncio'),
    'epoll_by_hand': Server((TCP,), 'select'),
    'gevent_socket': Server((TCP,), 'gevent', 'gevent'),
    'curio_socket': Server((TCP,), 'curio', 'curio'),
    'trio_socket': Server((TCP,), 'trio', 'trio'),
    'asyncio_sock': Server((TCP,), 'asyncio'),
    'sock_recvfrom': Server((UDP,), 'sock', 'corosock'),
    'sock_recvmany': Server((UDP,), 'sock', 'corosock'),
    'uvloop_datagram': Server((UDP,), 'uvloop', 'uvloop'),
    'rloop_datagram': Server((UDP,), 'rloop', 'rloop'),
    'asyncio_datagram': Server((UDP,), 'asyncio'),
    'gevent_recvfrom': Server((UDP,), 'gevent', 'gevent'),
    'curio_recvfrom': Server((UDP,), 'curio', 'curio'),
    'trio_recvfrom': Server((UDP,), 'trio', 'trio'),
    'asyncio_recvfrom': Server((UDP,), 'asyncio'),
}


@dataclasses.dataclass(frozen=True)
class Bar:
    """What `--check` demands: less than so many times the CPU time of another server."""

    scenario: str
    server: str
    other: str
    times: float


BARS = (
    Bar('1kx64', 'sock_recv', NATIVE, 1.3),
    Bar('1kx64', 'sock_recv', 'uvloop_protocol', 1),
    Bar('udp512x64', 'sock_recvfrom', NATIVE, 1.3),
    Bar('udp512x64', 'sock_recvfrom', 'uvloop_datagram', 1),
    Bar('udp512x64', 'sock_recvfrom', 'rloop_datagram', 1),
    Bar('udp512x64', 'sock_recvmany', NATIVE, 1),
)

#: What `--quick` measures: what the bars are about.
QUICK = [name for name in SERVERS if any(name in (bar.server, bar.other) for bar in BARS)]


@dataclasses.dataclass(frozen=True)
class Scenario:
    title: str
    #: What one unit of work is called.
    unit: str
    #: The generator's mode, and what goes between the port and the seconds.
    mode: str
    arguments: tuple[int, ...]
    transport: str = TCP


SCENARIOS = {
    '1kx64': Scenario('1 KB x 64', 'msg', 'echo', (64, 1024)),
    '1kx1000': Scenario('1 KB x 1000', 'msg', 'echo', (1000, 1024)),
    '10kx64': Scenario('10 KB x 64', 'msg', 'echo', (64, 10240)),
    'accept': Scenario('accept + 1 byte each way + close, 64 at a time', 'conn', 'accept', (64,)),
    'udp512x64': Scenario('UDP, 512 bytes x 64', 'msg', 'udp', (64, 512), UDP),
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--servers', type=names(SERVERS), help=f'of {",".join(SERVERS)}; default: all')
    parser.add_argument('--scenarios', type=names(SCENARIOS), help=f'of {",".join(SCENARIOS)}; default: all')
    parser.add_argument('--rounds', type=int, help='how often each server is measured; default: 5')
    parser.add_argument('--seconds', type=float, help='how long one measurement takes; default: 1')
    parser.add_argument('--warmup', type=float, help='the same load before, not counted; default: 0.3')
    parser.add_argument('--quick', action='store_true', help='only what --check compares; 7 rounds of 0.4 s')
    parser.add_argument('--same-core', action='store_true', help='the load generator on the core of the server')
    parser.add_argument('--python', default=sys.executable, help='the interpreter that runs the servers')
    parser.add_argument('--name', help="of the files in results; default: 'latest', 'quick', 'same-core', ...")
    bars = '; '.join(f'{bar.scenario}: {bar.server} below {bar.times:g} x {bar.other}' for bar in BARS)
    parser.add_argument('--check', action='store_true', help=f'fail where sock takes too much CPU time: {bars}')
    chosen = parser.parse_args()
    chosen.servers = chosen.servers or (QUICK if chosen.quick else list(SERVERS))
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
    if chosen.check and not bars_of(chosen):
        parser.error('--check compares none of these servers in any of these scenarios')
    return chosen


def bars_of(options: argparse.Namespace) -> list[Bar]:
    """What is to be checked of what is to be measured."""
    return [
        bar for bar in BARS if bar.scenario in options.scenarios and {bar.server, bar.other} <= set(options.servers)
    ]


def measure(server: str, scenario: Scenario, options: argparse.Namespace) -> dict[str, float]:
    """One server process under one load."""
    command = [options.python, f'servers/{server}.py']
    if server == NATIVE:
        command = [str(native('echo-server')), *([UDP] if scenario.transport == UDP else [])]
    times, where = (options.seconds, options.warmup), (options.server_core, options.load_core)
    got, _ = under_load(command, scenario.mode, scenario.arguments, *times, *where)
    return got


Rounds = dict[str, dict[str, list[dict[str, float]]]]


def run(servers: list[str], options: argparse.Namespace) -> Rounds:
    """All measurements: by scenario, by server, in the order of the rounds. What fails once is left out."""
    rounds: Rounds = {
        name: {server: [] for server in servers if SCENARIOS[name].transport in SERVERS[server].serves}
        for name in options.scenarios
    }
    for number in range(options.rounds):
        for name in options.scenarios:
            scenario = SCENARIOS[name]
            log(f'round {number + 1} of {options.rounds}, {scenario.title}')
            # Another server begins each round: none is always measured after the same one.
            turns = list(rounds[name])
            turn = number % max(len(turns), 1)
            for server in turns[turn:] + turns[:turn]:
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
                'resent': sum(each['resent'] for each in all_rounds),
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
        if lost := ', '.join(f'{server} {row["resent"]}' for server, row in rows.items() if row['resent']):
            print(f'lost and sent again, in all rounds: {lost}')


def panels(summary: dict[str, dict[str, dict[str, float | None]]]) -> list[_plot.Panel]:
    """For each scenario CPU time on the left, messages per second on the right."""

    def colour(server: str) -> str:
        if SERVERS[server].module == 'sock':
            return _plot.OURS
        return _plot.NATIVE if server == NATIVE else _plot.OTHER

    drawn = []
    for name, rows in summary.items():
        scenario = SCENARIOS[name]
        captions = (f'us CPU per {scenario.unit}: less is better', f'k {scenario.unit}/s: more is better')
        bars = [
            (
                server,
                colour(server),
                (
                    (each['cpu_us'], f'{each["cpu_us"]:.1f}'),
                    (each['per_second'], f'{each["per_second"] / 1e3:.1f}'),
                ),
            )
            for server, each in rows.items()
        ]
        drawn.append(_plot.Panel(scenario.title, captions, bars))
    return drawn


def check(rounds: Rounds, bars: list[Bar]) -> list[str]:
    """What falls short of the bars, a sentence each."""
    missed = []
    print()
    for bar in bars:
        title = SCENARIOS[bar.scenario].title
        measured = rounds[bar.scenario]
        times = ratio(measured, bar.server, bar.other, 'cpu_us')
        if times is not None:
            said = f'{title}: {bar.server} takes {times:.3f} x the CPU time of {bar.other}'
            if times < bar.times:
                print(f'check passed: {said}')
            else:
                missed.append(f'{said}; less than {bar.times:g} x is demanded')
        elif bar.server in measured and bar.other != NATIVE:
            log(f'check: {title}: {bar.other} was not measured, so {bar.server} is not compared with it')
        else:
            missed.append(f'{title}: {bar.server} or {bar.other} could not be measured: nothing is known')
    return missed


def main() -> None:
    options = arguments()
    build_native()
    version, found = about(
        options.python, [(each.module, each.distribution) for each in SERVERS.values() if each.module]
    )
    servers = []
    for server in options.servers:
        module = SERVERS[server].module
        if module is None or module in found:
            servers.append(server)
        else:
            missing = 'select.epoll' if module == 'select' else module
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
    report = {
        'machine': host,
        'python': version,
        'versions': {module: release for module, release in found.items() if release},
        'cores': where,
        'seconds': options.seconds,
        'warmup': options.warmup,
        'summary': summary,
        'rounds': rounds,
    }
    save(options.name, report, 'Echo servers', subtitle, panels(summary))

    if options.check and (missed := check(rounds, bars_of(options))):
        sys.exit('\n'.join(f'check failed: {each}' for each in missed))


if __name__ == '__main__':
    main()
