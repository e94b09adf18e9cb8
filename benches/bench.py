"""The servers of `servers/` and the native one under the same load: CPU time per message, messages per second, latency.

A server runs on one core, the load generator on another. In each round all servers of a scenario are started; then they
take turns, lap after lap, so that whatever else the machine does hits all of them alike. A figure is the median of its
turns, a ratio the median of the laps' ratios. A lap that others disturbed is run again.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import os
import pathlib
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from typing import Any

import _plot
from _bars import check, print_bars, verdict_of
from _load import Failed, Load
from _tools import (
    SPARE_FILES,
    Others,
    about,
    build_native,
    cores,
    disturbances,
    interpreter,
    log,
    machine,
    names,
    native,
    raise_file_limit,
    save,
    undisturbed,
)

NATIVE = 'native'

#: What a server can be asked for, see servers/_program.py. UDP has programs of its own.
STREAM = ('echo', 'bytes', 'source', 'sink')
UDP = 'udp'


@dataclasses.dataclass(frozen=True)
class Server:
    #: What it can be asked for; what none is asked for is named by a scenario.
    modes: tuple[str, ...]
    #: The module that it runs on; None: none.
    module: str | None
    #: The distribution that has the module's version.
    distribution: str | None = None


#: The program of each, but of `native`, is `servers/NAME.py`.
SERVERS = {
    NATIVE: Server((*STREAM, UDP), None),
    'sock_recv': Server(STREAM, 'sock', 'corosock'),
    'sock_recv_expires': Server((), 'sock', 'corosock'),
    'uvloop_protocol': Server(STREAM, 'uvloop', 'uvloop'),
    'rloop_protocol': Server(STREAM, 'rloop', 'rloop'),
    'asyncio_protocol': Server(STREAM, 'asyncio'),
    'epoll_by_hand': Server(STREAM, 'select'),
    'gevent_socket': Server(STREAM, 'gevent', 'gevent'),
    'curio_socket': Server(STREAM, 'curio', 'curio'),
    'trio_socket': Server(STREAM, 'trio', 'trio'),
    'tonio_socket': Server(STREAM, 'tonio', 'tonio'),
    'anyio_streams': Server(STREAM, 'anyio', 'anyio'),
    'uvloop_streams': Server(STREAM, 'uvloop', 'uvloop'),
    'asyncio_streams': Server(STREAM, 'asyncio'),
    'uvloop_sock': Server(STREAM, 'uvloop', 'uvloop'),
    'rloop_sock': Server(STREAM, 'rloop', 'rloop'),
    'asyncio_sock': Server(STREAM, 'asyncio'),
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

#: Those that serve many connections cheaply, for the scenarios whose set-up takes longer than their measurement.
SCALING = (NATIVE, 'sock_recv', 'uvloop_protocol', 'rloop_protocol', 'asyncio_protocol', 'epoll_by_hand')


@dataclasses.dataclass(frozen=True)
class Scenario:
    title: str
    #: The generator's mode, and what goes between the address and the seconds.
    load: str
    arguments: tuple[int, ...]
    #: The generator's further options.
    more: tuple[str, ...] = ()
    #: What the server is asked for, and what its program is told besides.
    mode: str = 'echo'
    server_arguments: tuple[str, ...] = ()
    #: What one unit of work is called.
    unit: str = 'msg'
    unix: bool = False
    #: Generator and server on one core, always.
    same_core: bool = False
    #: The generator needs a core for itself.
    own_core: bool = False
    #: What it takes in memory matters.
    memory: bool = False
    #: The servers that take part; none: all that have the mode.
    only: tuple[str, ...] = ()

    def load_arguments(self, options: argparse.Namespace) -> list[object]:
        """The generator's, of one turn."""
        if self.unit == 'MB':
            return [max(self.arguments[0] // options.laps, 1), *self.more]
        return [*self.arguments, options.seconds, *self.more]

    @property
    def connections(self) -> int:
        return self.arguments[0] if self.load in ('echo', 'accept', 'udp') else 1

    def within(self, files: int) -> Scenario:
        """With as many connections as so many open files allow; the title says how many those are."""
        most = files - SPARE_FILES
        if self.connections <= most:
            return self
        title = self.title.replace(f'{self.connections:,}', f'{most:,}')
        return dataclasses.replace(self, title=title, arguments=(most, *self.arguments[1:]))


def echoes() -> Iterator[tuple[str, Scenario]]:
    """Of each size on so many connections. Many buffers, or large ones, would be in no cache when their turn comes."""
    for size, buffer in ((1, 16384), (10, 16384), (100, 131072)):
        for connections in (1, 64, 1000):
            yield (
                f'{size}kx{connections}',
                Scenario(
                    f'{size} KB x {connections:,}' + ', server and generator on one core' * (connections == 1),
                    'echo',
                    (connections, size * 1024),
                    mode='bytes' if connections == 1000 or size == 100 else 'echo',
                    server_arguments=('--buffer', str(buffer)),
                    same_core=connections == 1,
                ),
            )


#: Messages a second of the open loop: what the slowest library here can still serve.
RATE = 15_000

SCENARIOS = {
    **dict(echoes()),
    'pipelined': Scenario('64 bytes x 64, 16 outstanding on each', 'echo', (64, 64), ('--outstanding', '16')),
    'unix1kx64': Scenario('unix stream, 1 KB x 64', 'echo', (64, 1024), unix=True),
    'accept': Scenario('accept + 1 byte each way + close, 64 at a time', 'accept', (64,), unit='conn', mode='bytes'),
    'udp512x64': Scenario('UDP, 512 bytes x 64', 'udp', (64, 512), mode=UDP),
    'source': Scenario('1 GB from the server', 'source', (1000,), mode='source', unit='MB'),
    'sink': Scenario('1 GB to the server', 'sink', (1000,), mode='sink', unit='MB'),
    'rate': Scenario(
        f'1 KB x 64, open loop: {RATE:,} messages/s', 'echo', (64, 1024), ('--rate', str(RATE)), own_core=True
    ),
    'expires': Scenario(
        '1 KB x 64, a deadline for each operation', 'echo', (64, 1024), only=('sock_recv', 'sock_recv_expires')
    ),
    'idle10k': Scenario(
        '1 KB x 100, 10,100 connections, no buffers held',
        'echo',
        (10_100, 1024),
        ('--active', '100'),
        mode='bytes',
        memory=True,
    ),
    '100of10k': Scenario('1 KB x 100 of 10,000', 'echo', (10_000, 1024), ('--active', '100'), only=SCALING),
    '200of20k': Scenario('1 KB x 200 of 20,000', 'echo', (20_000, 1024), ('--active', '200'), only=SCALING),
}

#: What `--quick` measures: these, and in each scenario also whom its bars name.
QUICK_SCENARIOS = ('1kx1', '1kx64', '1kx1000', '10kx64', '100kx64', 'unix1kx64', 'accept', 'udp512x64')
QUICK_SERVERS = (
    *(NATIVE, 'sock_recv', 'uvloop_protocol', 'rloop_protocol'),
    *('sock_recvfrom', 'uvloop_datagram', 'rloop_datagram'),
)

#: Instead of a server: that of all other libraries' which does best.
BEST = 'the best peer'


@dataclasses.dataclass(frozen=True)
class Bar:
    """What `--check` demands: at most so many times the figure of another server, or at least."""

    scenario: str
    server: str
    #: None: `times` is a figure, not a ratio.
    other: str | None
    times: float
    figure: str = 'cpu_us'
    at_least: bool = False
    #: Where the other's figure is from; default: the same.
    other_scenario: str | None = None

    def demand(self) -> str:
        sense = 'at least' if self.at_least else 'at most'
        of = '' if self.other is None else f' x {self.other}'
        where = '' if self.other_scenario is None else f', {SCENARIOS[self.other_scenario].title}'
        return f'{FIGURES[self.figure]}: {sense} {self.times:g}{of}{where}'


FIGURES = {
    'cpu_us': 'CPU time',
    'per_second': 'messages/s',
    'p99_us': 'p99 latency',
    'memory_each': 'bytes of a connection',
}

COROUTINES = ('trio_socket', 'curio_socket', 'gevent_socket', 'tonio_socket', 'asyncio_sock', 'uvloop_sock')

BARS = (
    *(
        Bar(scenario, 'sock_recv', *bar)
        for scenario in ('1kx64', '1kx1')
        for bar in ((NATIVE, 1.15), ('uvloop_protocol', 1), ('rloop_protocol', 1))
    ),
    Bar('1kx1000', 'sock_recv', NATIVE, 1.2),
    Bar('10kx64', 'sock_recv', NATIVE, 1.15),
    Bar('100kx64', 'sock_recv', BEST, 1),
    Bar('accept', 'sock_recv', NATIVE, 1.3),
    Bar('accept', 'sock_recv', BEST, 1),
    Bar('udp512x64', 'sock_recvfrom', NATIVE, 1.2),
    Bar('udp512x64', 'sock_recvfrom', BEST, 1),
    Bar('udp512x64', 'sock_recvmany', NATIVE, 1),
    Bar('unix1kx64', 'sock_recv', NATIVE, 1.25),
    *(Bar('1kx64', 'sock_recv', peer, 1.8, 'per_second', at_least=True) for peer in COROUTINES),
    Bar('rate', 'sock_recv', NATIVE, 1.2, 'p99_us'),
    Bar('rate', 'sock_recv', BEST, 1, 'p99_us'),
    Bar('expires', 'sock_recv_expires', 'sock_recv', 1.1),
    Bar('100of10k', 'sock_recv', 'sock_recv', 1.3, other_scenario='1kx64'),
    Bar('200of20k', 'sock_recv', 'sock_recv', 1.3, other_scenario='1kx64'),
    Bar('idle10k', 'sock_recv', None, 1300, 'memory_each'),
)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--servers', type=names(SERVERS), help=f'of {",".join(SERVERS)}; default: all')
    parser.add_argument('--scenarios', type=names(SCENARIOS), help=f'of {",".join(SCENARIOS)}; default: all')
    parser.add_argument('--rounds', type=int, default=3, help='how often each server is started; default: 3')
    parser.add_argument('--laps', type=int, default=5, help='how many turns it has in each round; default: 5')
    parser.add_argument('--seconds', type=float, help='how long a turn takes; default: 0.2, quick: 0.1')
    parser.add_argument('--warmup', type=float, help='the same load before, not counted; default: 0.3, quick: 0.2')
    parser.add_argument('--quick', action='store_true', help='the main rows: fewer scenarios, whom the bars name')
    parser.add_argument('--same-core', action='store_true', help='the load generator on the core of the server')
    parser.add_argument(
        '--python', type=interpreter, default=sys.executable, help='the interpreter that runs the servers'
    )
    parser.add_argument(
        '--name', help="of the files in results; default: 'latest', 'quick', with '-same-core', '-freethreaded'"
    )
    parser.add_argument('--check', action='store_true', help='fail where a bar is missed')
    chosen = parser.parse_args()
    chosen.scenarios = chosen.scenarios or list(QUICK_SCENARIOS if chosen.quick else SCENARIOS)
    chosen.seconds = (0.1 if chosen.quick else 0.2) if chosen.seconds is None else chosen.seconds
    chosen.warmup = (0.2 if chosen.quick else 0.3) if chosen.warmup is None else chosen.warmup
    if min(chosen.rounds, chosen.laps) < 1 or chosen.seconds <= 0 or chosen.warmup <= 0:
        parser.error('--rounds, --laps, --seconds and --warmup must be positive')
    if chosen.name and pathlib.Path(chosen.name).name != chosen.name:
        parser.error('--name is a name, not a path')
    return chosen


def bars_of(scenarios: Iterable[str], servers: Iterable[str] | None = None) -> list[Bar]:
    """What is to be checked of what is to be measured; servers of None: all."""
    scenarios = set(scenarios)
    chosen = [bar for bar in BARS if {bar.scenario, bar.other_scenario or bar.scenario} <= scenarios]
    if servers is None:
        return chosen
    servers = {None, BEST, *servers}
    return [bar for bar in chosen if {bar.server, bar.other} <= servers]


def participants(name: str, options: argparse.Namespace) -> list[str]:
    """The servers of a scenario."""
    scenario = SCENARIOS[name]
    if scenario.only:
        servers = list(scenario.only)
    else:
        servers = [server for server, each in SERVERS.items() if scenario.mode in each.modes]
    if options.servers:
        return [server for server in servers if server in options.servers]
    if options.quick:
        named = {each for bar in bars_of([name]) for each in (bar.server, bar.other)}
        return [server for server in servers if server in QUICK_SERVERS or server in named]
    return servers


Measured = dict[str, Any]
#: By scenario, by server, in the order of the laps of all rounds.
Laps = dict[str, dict[str, list[Measured]]]
Summary = dict[str, dict[str, dict[str, Any]]]


def start(server: str, scenario: Scenario, options: argparse.Namespace, stack: contextlib.ExitStack) -> Load:
    """A server process with its load, until the stack is closed."""
    path = str(pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix='bench-')), 'socket'))
    if server == NATIVE:
        command = [str(native('server')), scenario.mode, *([path] if scenario.unix else [])]
    else:
        command = [options.python, f'servers/{server}.py', scenario.mode, *scenario.server_arguments]
        command += ['--path', path] if scenario.unix else []
    load_core = options.server_core if scenario.same_core else options.load_core
    arguments = scenario.load_arguments(options)
    return stack.enter_context(Load(command, scenario.load, arguments, options.warmup, options.server_core, load_core))


class Field:
    """The servers of a scenario that run, as long as nothing fails."""

    def __init__(self, laps: dict[str, list[Measured]]) -> None:
        #: Of those that have never failed.
        self.laps = laps
        self.loads: dict[str, Load] = {}

    @contextlib.contextmanager
    def leaving_out(self, server: str) -> Iterator[None]:
        """If this fails, the scenario goes on without the server."""
        try:
            yield
        except Failed as failed:
            log(f'  {server:18} left out from now on: {failed}')
            del self.laps[server]
            self.loads.pop(server, None)

    def lap(self, turns: list[str], cores: Iterable[int | None]) -> dict[str, Any]:
        """A turn for each, one after the other; and what share of the cores others took meanwhile."""
        others = Others(cores)
        measured = {}
        for server in turns:
            if server in self.loads:
                with self.leaving_out(server):
                    measured[server] = self.loads[server].measure()
        return {'measured': measured, 'others': others.share(sum(each['own_s'] for each in measured.values()))}


def run(options: argparse.Namespace) -> tuple[Laps, list[dict[str, Any]]]:
    """All measurements, less those of a server that has failed, and how the laps were disturbed."""
    all_laps: Laps = {name: {server: [] for server in options.participants[name]} for name in options.scenarios}
    told = []
    for number in range(options.rounds):
        for name, laps in all_laps.items():
            scenario = SCENARIOS[name]
            log(f'round {number + 1} of {options.rounds}, {scenario.title}')
            cores = {options.server_core, options.server_core if scenario.same_core else options.load_core}
            field = Field(laps)
            with contextlib.ExitStack() as stack:
                for server in list(laps):
                    with field.leaving_out(server):
                        field.loads[server] = start(server, scenario, options, stack)
                begin = {server: len(measured) for server, measured in laps.items()}
                for lap in range(options.laps):
                    # In another order each time: none is always measured after the same one.
                    turns = list(field.loads)
                    random.Random(number * options.laps + lap).shuffle(turns)
                    got = undisturbed(functools.partial(field.lap, turns, cores))
                    for server, measured in got['measured'].items():
                        if server in laps:
                            measured['memory_each'] = measured['memory'] and measured['memory'] / scenario.connections
                            laps[server].append(measured)
                    told.append({'repeats': got['repeats'], 'others': got['others']})
            for server, measured in laps.items():
                cpu, rate = (
                    statistics.median(each[figure] for each in measured[begin[server] :])
                    for figure in ('cpu_us', 'per_second')
                )
                log(f'  {server:18} {cpu:8.2f} us CPU/{scenario.unit} {rate / 1e3:8.1f} k {scenario.unit}/s')
    return all_laps, told


#: What is kept of each turn.
KEPT = (
    'cpu_us',
    'user_us',
    'system_us',
    'per_second',
    'p50_us',
    'p99_us',
    'p999_us',
    'memory_each',
    'messages',
    'resent',
)


def columns(laps: Laps) -> dict[str, dict[str, dict[str, list[float | None]]]]:
    """The turns of each server by figure, as far as digits mean something."""
    return {
        scenario: {
            server: {
                figure: [None if each[figure] is None else float(f'{each[figure]:.6g}') for each in measured]
                for figure in KEPT
            }
            for server, measured in servers.items()
        }
        for scenario, servers in laps.items()
    }


def ratios(some: list[Measured], others: list[Measured], figure: str) -> list[float]:
    """How many times the others' figure, lap by lap."""
    return [one[figure] / other[figure] for one, other in zip(some, others, strict=True)]


def ratio(some: list[Measured], others: list[Measured], figure: str) -> float:
    """How many times the others' figure, as the median of the laps' ratios."""
    return statistics.median(ratios(some, others, figure))


def shares(measured: list[Measured]) -> dict[str, float]:
    """The median CPU time divided as all laps together were: the system samples where a process is."""
    whole = sum(each['user_us'] + each['system_us'] for each in measured)
    median = statistics.median(each['cpu_us'] for each in measured)
    return {
        part: median * sum(each[part] for each in measured) / whole if whole else median / 2
        for part in ('user_us', 'system_us')
    }


def summarize(all_laps: Laps) -> Summary:
    """By scenario, by server, the cheapest first."""
    summary = {}
    for scenario, servers in all_laps.items():
        rows = {}
        for server, measured in servers.items():
            costs = [each['cpu_us'] for each in measured]
            row: dict[str, Any] = {
                figure: None if measured[0][figure] is None else statistics.median(each[figure] for each in measured)
                for figure in (*('cpu_us', 'per_second', 'p50_us', 'p99_us', 'p999_us', 'memory_each'),)
            }
            row.update(shares(measured))
            row['cpu_us_spread'] = max(costs) - min(costs)
            row['resent'] = sum(each['resent'] for each in measured)
            for figure in ('cpu_us', 'per_second'):
                native = servers.get(NATIVE)
                row[f'{figure}_times_native'] = ratio(measured, native, figure) if native else None
            rows[server] = row
        summary[scenario] = dict(sorted(rows.items(), key=lambda row: row[1]['cpu_us']))
    return summary


def judge(laps: Laps, bars: Iterable[Bar]) -> list[dict[str, Any]]:
    """The bars, what was measured, and whether it is a hit. `hit` of None: there was nothing to compare with."""
    return [_judge(laps, bar) for bar in bars]


def _judge(laps: Laps, bar: Bar) -> dict[str, Any]:
    verdict = verdict_of(f'{SCENARIOS[bar.scenario].title}: {bar.server}', bar.demand())
    ours = laps[bar.scenario].get(bar.server)
    there = laps[bar.other_scenario or bar.scenario]
    if bar.other == BEST:
        peers = [name for name in there if SERVERS[name].module not in (None, 'sock')]
    else:
        peers = [bar.other] if bar.other in there else []
    # Without our own server or the native one nothing is known, and that is no hit.
    if not ours or (bar.other == NATIVE and not peers):
        return {**verdict, 'hit': False}
    if bar.other is None:
        figures = [each[bar.figure] for each in ours]
        measured = None if None in figures else statistics.median(figures)
        return {**verdict, 'measured': measured, 'hit': measured is not None and measured <= bar.times}
    if not peers:
        return verdict
    pick = min if bar.at_least else max
    measured, against = pick((ratio(ours, there[name], bar.figure), name) for name in peers)

    def meets(times: float) -> bool:
        return times >= bar.times if bar.at_least else times <= bar.times

    hit = meets(measured)

    def split(server: list[Measured]) -> str:
        return '{user_us:.2f} + {system_us:.2f}'.format(**shares(server))

    notes = [against] if bar.other == BEST else []
    if bar.other_scenario is None:
        each_lap = ratios(ours, there[against], bar.figure)
        notes.append(f'in {sum(map(meets, each_lap))} of {len(each_lap)} laps')
    if not hit:
        notes.append(f'user + system: {split(ours)} us against {split(there[against])}')
    return {**verdict, 'measured': measured, 'hit': hit, 'note': '; '.join(notes)}


def print_tables(summary: Summary) -> None:
    def number(value: float | None, digits: int = 2) -> str:
        return '-' if value is None else f'{value:.{digits}f}'

    for name, rows in summary.items():
        scenario = SCENARIOS[name]
        print(f'\n{scenario.title}')
        head = ('server', f'us CPU/{scenario.unit}', 'x native', 'user', 'system', 'max - min')
        head += (f'k {scenario.unit}/s', 'x native', 'p50 us', 'p99', 'p99.9')
        print('{:18} {:>12} {:>9} {:>9} {:>9} {:>10} {:>10} {:>9} {:>9} {:>9} {:>9}'.format(*head), end='')
        print(' bytes/conn' * scenario.memory)
        for server, row in rows.items():
            print(
                f'{server:18} {row["cpu_us"]:12.2f} {number(row["cpu_us_times_native"]):>9} {row["user_us"]:9.2f} '
                f'{row["system_us"]:9.2f} {row["cpu_us_spread"]:10.2f} '
                f'{row["per_second"] / 1e3:10.1f} {number(row["per_second_times_native"]):>9} '
                f'{number(row["p50_us"], 0):>9} {number(row["p99_us"], 0):>9} {number(row["p999_us"], 0):>9}'
                + (f' {number(row["memory_each"], 0):>10}' if scenario.memory else '')
            )
        if lost := ', '.join(f'{server} {row["resent"]}' for server, row in rows.items() if row['resent']):
            print(f'lost and sent again, in all laps: {lost}')


def panels(summary: Summary) -> list[_plot.Panel]:
    """For each scenario CPU time on the left; on the right messages per second, of an open loop latency."""

    def colour(server: str) -> str:
        if SERVERS[server].module == 'sock':
            return _plot.OURS
        return _plot.NATIVE if server == NATIVE else _plot.OTHER

    drawn = []
    for name, rows in summary.items():
        scenario = SCENARIOS[name]
        figure, scale, caption = 'per_second', 1e3, f'k {scenario.unit}/s: more is better'
        if scenario.own_core:
            figure, scale, caption = 'p99_us', 1, 'us latency, 99th percentile: less is better'
        elif scenario.memory:
            figure, scale, caption = 'memory_each', 1e3, 'KB a connection: less is better'
        bars = [
            (
                server,
                colour(server),
                (
                    (each['cpu_us'], f'{each["cpu_us"]:.1f}'),
                    (each[figure] or 0, f'{(each[figure] or 0) / scale:.1f}'),
                ),
            )
            for server, each in rows.items()
        ]
        drawn.append(_plot.Panel(scenario.title, (f'us CPU per {scenario.unit}: less is better', caption), bars))
    return drawn


def leave_out(options: argparse.Namespace, version: str, found: dict[str, str]) -> None:
    """Says what cannot be measured here, and why."""
    for name in list(options.scenarios):
        scenario = SCENARIOS[name]
        files = scenario.connections + SPARE_FILES
        if (allowed := raise_file_limit(files)) < files:
            log(f'{scenario.title}: only {allowed} open files are allowed (ulimit -Hn), so it has fewer connections')
            scenario = SCENARIOS[name] = scenario.within(allowed)
        if scenario.unix and os.name == 'nt':
            why = 'the native helpers have no unix sockets here'
        elif scenario.own_core and (options.load_core == options.server_core):
            why = 'the load generator needs a core for itself'
        else:
            continue
        log(f'{scenario.title}: left out: {why}')
        options.scenarios.remove(name)
    options.participants = {name: participants(name, options) for name in options.scenarios}
    missing = {
        server
        for servers in options.participants.values()
        for server in servers
        if SERVERS[server].module is not None and SERVERS[server].module not in found
    }
    for server in sorted(missing):
        module = SERVERS[server].module
        log(f'{server} is left out: Python {version} here has no {"select.epoll" if module == "select" else module}')
    for name, servers in options.participants.items():
        options.participants[name] = [server for server in servers if server not in missing]


def main() -> None:
    options = arguments()
    build_native()
    version, found = about(
        options.python, [(each.module, each.distribution) for each in SERVERS.values() if each.module]
    )
    free_threaded = version.endswith('t')
    if free_threaded:
        # Whatever is imported.
        os.environ['PYTHON_GIL'] = '0'
    parts = ('quick' if options.quick else 'latest', 'same-core' * options.same_core, 'freethreaded' * free_threaded)
    options.name = options.name or '-'.join(part for part in parts if part)
    available = cores()
    options.server_core = available[0]
    options.load_core = available[0] if options.same_core else available[-1 if len(available) < 2 else 1]
    if options.server_core is None:
        log('this OS does not pin processes to cores: the figures will vary more')
    elif options.load_core == options.server_core and not options.same_core:
        log('there is one core only: the load generator shares it with the server')
    leave_out(options, version, found)
    if not any(options.participants.values()):
        sys.exit('none of the servers can run in any of the scenarios')

    began = time.monotonic()
    laps, told = run(options)
    summary = summarize(laps)
    print_tables(summary)
    verdicts = judge(laps, bars_of(options.scenarios, options.servers))
    if verdicts:
        print_bars(verdicts)

    host = machine()
    where = 'one core for both' if options.load_core == options.server_core else 'a core each'
    if options.server_core is None:
        where = 'not pinned'
    subtitle = (
        f'Python {version}, {host["system"]}, {host["cpu"]}; server and load generator: {where}; '
        f'medians of {options.rounds} x {options.laps} x {options.seconds:g} s'
    )
    disturbed = disturbances(told)
    print(f'\n{disturbed}; {time.monotonic() - began:.0f} s in all')
    report = {
        'machine': host,
        'python': version,
        'versions': {module: release for module, release in found.items() if release},
        'cores': where,
        'rounds': options.rounds,
        'laps': options.laps,
        'seconds': options.seconds,
        'warmup': options.warmup,
        'disturbed': disturbed,
        'bars': verdicts,
        'scenarios': {
            name: {'title': SCENARIOS[name].title, 'unit': SCENARIOS[name].unit, 'memory': SCENARIOS[name].memory}
            for name in laps
        },
        'summary': summary,
        'measured': columns(laps),
    }
    save(options.name, report, 'Servers under load', subtitle, panels(summary))

    if options.check:
        check(verdicts)


if __name__ == '__main__':
    main()
