"""Threads that come, go, take turns and sleep: what they cost in the libraries of `schedulers/`.

What a library calls a task, a greenlet or a coroutine is a thread here. Every measurement has a process of its own, on
one core, warmed up before. The libraries take turns, round after round, so that whatever else the machine does hits
all of them alike; a figure is the median of its rounds, a ratio the median of the rounds' ratios. CPU time is user and
system time of the whole process. Threads that are started by the million are seen to end a batch at a time, so that
the memory stays flat.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import time
from typing import Any

import _plot
from _bars import check, print_bars, verdict_of
from _tools import (
    HERE,
    Others,
    about,
    cores,
    cpu_time,
    disturbances,
    interpreter,
    log,
    machine,
    names,
    pinned,
    save,
    undisturbed,
)


@dataclasses.dataclass(frozen=True)
class Library:
    #: In `schedulers/`.
    program: str
    #: The module it needs, and the distribution that has the module's version.
    module: str
    distribution: str | None = None
    #: By what two threads wake each other, where that is measured: as the program calls it; a row each of `switch`.
    waking: tuple[str, ...] = ()


OURS = 'sock'

LIBRARIES = {
    OURS: Library('sock_threads', 'sock', 'corosock', waking=('resume', 'events')),
    'asyncio': Library('asyncio_tasks', 'asyncio'),
    'asyncio eager': Library('asyncio_eager', 'asyncio'),
    'uvloop': Library('uvloop_tasks', 'uvloop', 'uvloop'),
    'rloop': Library('rloop_tasks', 'rloop', 'rloop'),
    'trio': Library('trio_tasks', 'trio', 'trio'),
    'curio': Library('curio_tasks', 'curio', 'curio'),
    'gevent': Library('gevent_greenlets', 'gevent', 'gevent'),
    'tonio': Library('tonio_coroutines', 'tonio', 'tonio', waking=('events',)),
}

#: A row of the measurement `switch`: two threads that wake each other.
WAKING = '{}, {}'
#: All that are ours; the first one is compared with the others.
OUR_ROWS = (OURS, *(WAKING.format(OURS, by) for by in LIBRARIES[OURS].waking))


@dataclasses.dataclass(frozen=True)
class Measurement:
    title: str
    #: What one unit of work is called.
    unit: str
    count: int
    quick_count: int


SPAWN, SPAWN_YIELD, SWITCH, TIMERS = 'spawn', 'spawn_yield', 'switch', 'timers'

MEASUREMENTS = {
    SPAWN: Measurement('start and finish threads that do nothing', 'thread', 1_000_000, 100_000),
    SPAWN_YIELD: Measurement('start and finish threads that yield once', 'thread', 300_000, 50_000),
    SWITCH: Measurement('switches between two threads', 'switch', 1_000_000, 200_000),
    TIMERS: Measurement('sleeping threads with random deadlines', 'timer', 100_000, 20_000),
}

#: What `--check` demands. Two threads that yield take turns: of those that do, sock is the cheapest.
LEADS_IN = (SPAWN, SWITCH)
#: Timers: less than so many times the CPU time of; of all others less than once.
TIMER_BARS = {'asyncio': 0.5}
MOST_LATE_MS = 5.0
#: Deadlines as close as this may be served in any order: what a clock in float seconds and ns can tell apart.
RESOLUTION_MS = 1e-3

#: Below this share of changes the two threads do not take turns. trio shuffles each round of its scheduler.
TAKES_TURNS = 0.5
NO_TURNS = 'it does not take turns'

Round = dict[str, float]
#: By measurement, by row, in the order of the rounds.
Rounds = dict[str, dict[str, list[Round]]]


class Failed(Exception):
    """A measurement that came to nothing."""


class TookTooLong(Failed):
    def __init__(self, limit: float, cpu: float) -> None:
        super().__init__(f'stopped after {limit:g} s and {cpu:.1f} s of CPU time')
        self.cpu = cpu


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = ','.join(LIBRARIES)
    parser.add_argument('--libraries', type=names(LIBRARIES), help=f'of {known}; default: all that are installed')
    parser.add_argument('--measurements', type=names(MEASUREMENTS), help=f'of {",".join(MEASUREMENTS)}; default: all')
    parser.add_argument('--rounds', type=int, default=3, help='how often each is measured; default: 3')
    parser.add_argument('--scale', type=float, default=1.0, help='of all counts; default: 1')
    parser.add_argument('--batch', type=int, default=1000, help='threads started before they are seen to end; 1000')
    parser.add_argument(
        '--limit', type=float, help='seconds after which a measurement is given up; default: 60, quick: 15'
    )
    parser.add_argument('--quick', action='store_true', help='smaller counts: a fifth and less')
    parser.add_argument('--python', type=interpreter, default=sys.executable, help='the interpreter that is measured')
    parser.add_argument(
        '--name', help="of the files in results; default: 'scheduling', 'quick-scheduling', '...-freethreaded'"
    )
    bars = ', '.join(f'{times:g} x {other}' for other, times in TIMER_BARS.items())
    parser.add_argument(
        '--check',
        action='store_true',
        help=f'fail if {OURS} is not ahead of all others in {" and ".join(LEADS_IN)}, if its timers take more CPU time '
        f'than {bars} or than any other, or if one is early, out of order or late',
    )
    chosen = parser.parse_args()
    chosen.measurements = chosen.measurements or list(MEASUREMENTS)
    chosen.limit = (15 if chosen.quick else 60) if chosen.limit is None else chosen.limit
    if chosen.rounds < 1 or chosen.batch < 1 or chosen.scale <= 0 or chosen.limit <= 0:
        parser.error('--rounds, --batch, --scale and --limit must be positive')
    if chosen.name and pathlib.Path(chosen.name).name != chosen.name:
        parser.error('--name is a name, not a path')
    if chosen.check and chosen.libraries and OURS not in chosen.libraries:
        parser.error(f'--check needs {OURS}')
    chosen.counts = {
        name: max(int((each.quick_count if chosen.quick else each.count) * chosen.scale), 100)
        for name, each in MEASUREMENTS.items()
    }
    return chosen


def measure(program: str, measurement: str, count: int, options: argparse.Namespace) -> Round:
    """One process."""
    command = [options.python, f'schedulers/{program}.py', measurement, str(count), str(options.batch)]
    pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, 'text': True, 'cwd': HERE}
    others, before = Others([options.core]), os.times()
    with pinned(options.core):
        running = subprocess.Popen(command, **pipes)
    try:
        out, err = running.communicate(timeout=options.limit)
    except subprocess.TimeoutExpired:
        cpu = cpu_time(running.pid).total
        running.kill()
        running.communicate()
        raise TookTooLong(options.limit, cpu) from None
    if running.returncode or not out:
        raise Failed((err.strip().splitlines() or [f'it ended with {running.returncode}'])[-1])
    after = os.times()
    own = after.children_user + after.children_system - before.children_user - before.children_system
    result = json.loads(out)
    if result.get('woken', count) != count:
        raise Failed(f'{result["woken"]} of {count} timers came')
    return {
        'cpu_us': result['cpu'] / count * 1e6,
        'per_second': count / result['seconds'],
        'others': others.share(own),
        **result,
    }


def rows_of(measurement: str, libraries: list[str]) -> dict[str, tuple[str, str]]:
    """Row -> program and what it is asked for."""
    rows = {library: (LIBRARIES[library].program, measurement) for library in libraries}
    for library in libraries if measurement == SWITCH else ():
        each = LIBRARIES[library]
        rows |= {WAKING.format(library, by): (each.program, by) for by in each.waking}
    return rows


def run(libraries: list[str], options: argparse.Namespace) -> tuple[Rounds, dict[str, dict[str, float]]]:
    """All measurements, and by measurement and row the CPU time of what was stopped. What fails once is left out."""
    rounds: Rounds = {name: {row: [] for row in rows_of(name, libraries)} for name in options.measurements}
    stopped: dict[str, dict[str, float]] = {name: {} for name in options.measurements}
    for number in range(options.rounds):
        for name in options.measurements:
            measurement, count = MEASUREMENTS[name], options.counts[name]
            log(f'round {number + 1} of {options.rounds}, {count:,} {measurement.title}')
            rows = rows_of(name, libraries)
            # In another order each time: none is always measured after the same one.
            turns = list(rounds[name])
            random.Random(number).shuffle(turns)
            for row in turns:
                try:
                    got = undisturbed(lambda asked=rows[row], count=count: measure(*asked, count, options))
                except Failed as failed:
                    log(f'  {row:14} left out from now on: {failed}')
                    del rounds[name][row]
                    if isinstance(failed, TookTooLong):
                        stopped[name][row] = failed.cpu / count * 1e6
                    continue
                rounds[name][row].append(got)
                late = f', 99 % within {got["late_p99_ms"]:.2f} ms' if name == TIMERS else ''
                late += f' (repeated {got["repeats"]} x)' if got['repeats'] else ''
                log(f'  {row:14} {got["cpu_us"]:8.3f} us CPU/{measurement.unit}{late}')
    return rounds, stopped


def ratio(rounds: dict[str, list[Round]], row: str, other: str) -> float | None:
    """How many times the other's CPU time, as the median of the rounds' ratios."""
    if row not in rounds or other not in rounds:
        return None
    pairs = zip(rounds[row], rounds[other], strict=True)
    return statistics.median(one['cpu_us'] / another['cpu_us'] for one, another in pairs)


def summarize(rounds: Rounds) -> dict[str, dict[str, dict[str, float | None]]]:
    """By measurement, by row, the cheapest first."""
    summary = {}
    for name, rows in rounds.items():
        medians = {}
        for row, all_rounds in rows.items():
            costs = [each['cpu_us'] for each in all_rounds]
            medians[row] = {
                **{
                    figure: statistics.median(each[figure] for each in all_rounds)
                    for figure in all_rounds[0]
                    if figure != 'others'
                },
                'cpu_us_spread': max(costs) - min(costs),
                'times_ours': ratio(rows, row, OURS),
            }
            if name == TIMERS:
                # Of all rounds: one is one too many.
                for worst in ('early', 'earliest_ms', 'late_max_ms', 'disorder_ms'):
                    medians[row][worst] = max(each[worst] for each in all_rounds)
        summary[name] = dict(sorted(medians.items(), key=lambda each: each[1]['cpu_us']))
    return summary


def takes_turns(row: dict[str, float | None]) -> bool:
    changes = row.get('changes')
    return changes is None or changes >= TAKES_TURNS


def print_tables(
    summary: dict[str, dict[str, dict[str, float | None]]],
    stopped: dict[str, dict[str, float]],
    counts: dict[str, int],
) -> None:
    def times(value: float | None) -> str:
        return '-' if value is None else f'{value:.2f}'

    for name, rows in summary.items():
        measurement = MEASUREMENTS[name]
        print(f'\n{counts[name]:,} {measurement.title}')
        head = f'{"":14} {f"us CPU/{measurement.unit}":>14} {f"x {OURS}":>8} {"max - min":>10} '
        if name == TIMERS:
            late = ('CPU s', 'early', 'late: p50', 'p99', 'max ms', 'disorder ms')
            print(head + '{:>8} {:>8} {:>10} {:>8} {:>8} {:>12}'.format(*late))
        else:
            print(head + f'{f"k {measurement.unit}/s":>14}')
        for row, each in rows.items():
            line = f'{row:14} {each["cpu_us"]:14.3f} {times(each["times_ours"]):>8} {each["cpu_us_spread"]:10.3f} '
            if name == TIMERS:
                line += (
                    f'{each["cpu"]:8.2f} {each["early"]:8} {each["late_p50_ms"]:10.2f} {each["late_p99_ms"]:8.2f} '
                    f'{each["late_max_ms"]:8.2f} {each["disorder_ms"]:12.3f}'
                )
            else:
                line += f'{each["per_second"] / 1e3:14.1f}'
            if not takes_turns(each):
                line += f'  does not take turns: {each["changes"]:.1%} of its turns go to the other thread'
            print(line)
        for row, cpu_us in stopped[name].items():
            print(f'{row:14} {f"> {cpu_us:.3f}":>14}')


def panels(summary: dict[str, dict[str, dict[str, float | None]]], counts: dict[str, int]) -> list[_plot.Panel]:
    """For each measurement CPU time on the left; on the right how many a second, or how late."""
    drawn = []
    for name, rows in summary.items():
        measurement = MEASUREMENTS[name]
        right = f'k {measurement.unit}/s: more is better'
        if name == TIMERS:
            right = 'ms late, 99th percentile: less is better'
        bars = []
        for row, each in rows.items():
            second = (each['per_second'], f'{each["per_second"] / 1e3:.0f}')
            if name == TIMERS:
                second = (each['late_p99_ms'], f'{each["late_p99_ms"]:.1f}')
            colour = _plot.OURS if row in OUR_ROWS else _plot.OTHER if takes_turns(each) else _plot.NATIVE
            label = row if takes_turns(each) else f'{row} (no turns)'
            bars.append((label, colour, ((each['cpu_us'], f'{each["cpu_us"]:.2f}'), second)))
        captions = (f'us CPU per {measurement.unit}: less is better', right)
        drawn.append(_plot.Panel(f'{counts[name]:,} {measurement.title}', captions, bars))
    return drawn


def judge(
    rounds: Rounds, summary: dict[str, dict[str, dict[str, float | None]]], stopped: dict[str, dict[str, float]]
) -> list[dict[str, Any]]:
    """The bars, each with what was measured."""
    verdicts = []
    for name in rounds:
        title = MEASUREMENTS[name].title
        if name == SPAWN_YIELD:
            continue
        if OURS not in rounds[name]:
            verdicts.append(verdict_of(title, f'{OURS} is measured', hit=False))
            continue
        for other in [*rounds[name], *stopped[name]]:
            if other in OUR_ROWS:
                continue
            most = TIMER_BARS.get(other, 1.0) if name == TIMERS else 1.0
            demand = f'CPU time: less than {most:g} x {other}'
            measured = ratio(rounds[name], OURS, other)
            if measured is None:
                # It had taken at least so much.
                measured = summary[name][OURS]['cpu_us'] / stopped[name][other]
            elif not takes_turns(summary[name][other]):
                # Which is less work: whoever does it cheaper cannot be compared.
                known = (measured, True, 'though it does not take turns') if measured < most else (None, None, NO_TURNS)
                verdicts.append(verdict_of(title, demand, *known))
                continue
            verdicts.append(verdict_of(title, demand, measured, measured < most))
        if name == TIMERS:
            ours = summary[name][OURS]
            for figure, demand, most in (
                ('early', 'early: none', 0),
                ('late_p99_ms', f'late, 99th percentile: at most {MOST_LATE_MS:g} ms', MOST_LATE_MS),
                ('disorder_ms', f'out of order: at most {RESOLUTION_MS:g} ms', RESOLUTION_MS),
            ):
                verdicts.append(verdict_of(title, demand, ours[figure], ours[figure] <= most))
    return verdicts


def main() -> None:
    options = arguments()
    version, found = about(options.python, [(each.module, each.distribution) for each in LIBRARIES.values()])
    if version.endswith('t'):
        # Whatever is imported.
        os.environ['PYTHON_GIL'] = '0'
    options.name = options.name or 'quick-' * options.quick + 'scheduling' + '-freethreaded' * version.endswith('t')
    libraries = []
    for library in options.libraries or LIBRARIES:
        if LIBRARIES[library].module in found:
            libraries.append(library)
        else:
            log(f'{library} is left out: Python {version} here has no {LIBRARIES[library].module}')
    if not libraries or (options.check and OURS not in libraries):
        sys.exit('nothing is installed that could be measured')
    options.core = cores()[0]
    began = time.monotonic()
    rounds, stopped = run(libraries, options)
    summary = summarize(rounds)
    print_tables(summary, stopped, options.counts)

    verdicts = judge(rounds, summary, stopped) if OURS in libraries else []
    if verdicts:
        print_bars(verdicts)
    disturbed = disturbances(each for rows in rounds.values() for measured in rows.values() for each in measured)
    print(f'\n{disturbed}')
    host = machine()
    subtitle = (
        f'Python {version}, {host["system"]}, {host["cpu"]}; one core; '
        f'rounds: {options.rounds}; {time.monotonic() - began:.0f} s in all'
    )
    report = {
        'machine': host,
        'python': version,
        'versions': {module: release for module, release in found.items() if release},
        'counts': options.counts,
        'batch': options.batch,
        'disturbed': disturbed,
        'bars': verdicts,
        'titles': {name: MEASUREMENTS[name].title for name in rounds},
        'units': {name: MEASUREMENTS[name].unit for name in rounds},
        'summary': summary,
        'stopped': stopped,
        'rounds': rounds,
    }
    save(options.name, report, 'Threads and timers', subtitle, panels(summary, options.counts))

    if options.check:
        check(verdicts)


if __name__ == '__main__':
    main()
