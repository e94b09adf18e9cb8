"""One poller over 1, 2 and 4 OS threads: what a second OS thread brings, and what it costs.

Echo servers under the native load generator (1 KB x 64): plain, and with about 100 us of Python for each message;
threads that only let others run, which costs nothing but the poller itself; hashing, which lets go of the interpreter.
Numbers of OS threads take turns within each round; a ratio is of one round.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys

import _plot
from _load import PATIENCE, under_load
from _tools import HERE, about, build_native, interpreter, log, machine, save

CONNECTIONS = 64

# Programs that need no load: count, work -> operations and the seconds that they took.
INSIDE = {
    'switch': """
import json, sys, time, sock
os_threads, count, steps = map(int, sys.argv[1:])
async def passes(rounds):
    for _ in range(rounds):
        for _ in range(steps):
            pass
        await sock.sleep(0)
async def main():
    begin, cpu = time.perf_counter(), time.process_time()
    for thread in [sock.newthread(passes, count // 64) for _ in range(64)]:
        await thread
    print(json.dumps({'per_second': count / (time.perf_counter() - begin),
                      'cpu_us': (time.process_time() - cpu) / count * 1e6}))
sock.run(main, threads=os_threads)
""",
    'hash': """
import hashlib, json, sys, time, sock
os_threads, count, _ = map(int, sys.argv[1:])
block = bytes(1 << 20)
async def hashes(rounds):
    for _ in range(rounds):
        hashlib.sha256(block).digest()
        await sock.sleep(0)
async def main():
    begin, cpu = time.perf_counter(), time.process_time()
    for thread in [sock.newthread(hashes, count // 16) for _ in range(16)]:
        await thread
    print(json.dumps({'per_second': count / (time.perf_counter() - begin),
                      'cpu_us': (time.process_time() - cpu) / count * 1e6}))
sock.run(main, threads=os_threads)
""",
}

#: Title, program, steps of Python for each operation, numbers of OS threads; of what runs inside, how many operations.
ROWS = {
    'echo': ('echo 1 KB x 64', 'sock_shared', 0, (1, 2), None),
    'echo_tonio': ('echo 1 KB x 64, tonio', 'tonio_socket', 0, (1, 2), None),
    'compute': ('echo, 100 us of Python each', 'sock_shared', 100, (1, 2), None),
    'switch': ('switches', 'switch', 0, (1, 2, 4), 640_000),
    'switch_1us': ('switches with 1 us of Python', 'switch', 1, (1, 2, 4), 640_000),
    'switch_10us': ('switches with 10 us of Python', 'switch', 10, (1, 2, 4), 64_000),
    'switch_100us': ('switches with 100 us of Python', 'switch', 100, (1, 2, 4), 6_400),
    'hash': ('SHA-256 of 1 MB', 'hash', 0, (1, 2, 4), 320),
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--python', type=interpreter, default=sys.executable, help='the interpreter that is measured')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--seconds', type=float, default=2.0, help='of each measurement under load')
    parser.add_argument('--rows', default=','.join(ROWS), help=f'of {",".join(ROWS)}')
    parser.add_argument('--check', action='store_true', help='fail where a bar is missed')
    return parser.parse_args()


def steps_of_a_microsecond(python: str) -> float:
    """How many rounds of an empty loop a microsecond has."""
    command = [python, '-m', 'timeit', '--unit', 'usec', '-r', '5', 'for _ in range(100000): pass']
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return 100_000 / float(done.stdout.rpartition(': ')[2].split()[0])


def inside(python: str, program: str, os_threads: int, count: int, steps: int) -> dict[str, float]:
    command = [python, '-c', INSIDE[program], str(os_threads), str(count), str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE, cwd=HERE)
    return json.loads(done.stdout)


def echo(python: str, program: str, os_threads: int, steps: int, seconds: float) -> dict[str, float]:
    """Server and generator on any core: the OS threads and the generator share what there is."""
    command = [python, f'servers/{program}.py', '--threads', str(os_threads), '--steps', str(steps)]
    got, told = under_load(command, 'echo', (CONNECTIONS, 1024, seconds))
    return {**got, 'least': json.loads(told)['least'] if told.strip() else 0.0}


def main() -> None:
    options = arguments()
    build_native()
    version, found = about(options.python, [('sock', None), ('tonio', 'tonio')])
    if 'sock' not in found:
        sys.exit(f'{options.python} has no sock: build it there first')
    free_threaded = version.endswith('t')
    if free_threaded:
        # Whatever is imported.
        os.environ['PYTHON_GIL'] = '0'
    rows = [name for name in options.rows.split(',') if name]
    if 'tonio' not in found:
        log('tonio is not there: its row is left out')
        rows = [name for name in rows if name != 'echo_tonio']
    microsecond = steps_of_a_microsecond(options.python)
    rounds: dict[str, dict[int, list[dict[str, float]]]] = {}
    for number in range(options.rounds):
        log(f'round {number + 1} of {options.rounds}')
        for name in rows:
            title, program, microseconds, os_threads, count = ROWS[name]
            steps = round(microseconds * microsecond)
            for n in os_threads if number % 2 == 0 else os_threads[::-1]:
                if count is None:
                    got = echo(options.python, program, n, steps, options.seconds)
                else:
                    got = inside(options.python, program, n, count, steps)
                rounds.setdefault(name, {}).setdefault(n, []).append(got)
                log(f'  {title}, {n} OS threads: {got["per_second"]:.0f}/s, {got["cpu_us"]:.2f} us CPU each')

    def figure(name: str, n: int, what: str) -> float:
        return statistics.median(each[what] for each in rounds[name][n])

    def scale(name: str, n: int) -> list[float]:
        pairs = zip(rounds[name][n], rounds[name][1], strict=True)
        return [more['per_second'] / one['per_second'] for more, one in pairs]

    head = ('', 'OS threads', 'per second', 'x 1', 'best x 1', 'us CPU', 'least')
    print('\n{:32} {:>10} {:>12} {:>6} {:>8} {:>9} {:>6}'.format(*head))
    panels = []
    for name in rounds:
        title = ROWS[name][0]
        bars = []
        for n in rounds[name]:
            ratios = scale(name, n)
            rate, cpu = figure(name, n, 'per_second'), figure(name, n, 'cpu_us')
            least = figure(name, n, 'least') if 'least' in rounds[name][n][0] else 0
            print(
                f'{title:32} {n:10} {rate:12.0f} {statistics.median(ratios):6.2f} {max(ratios):8.2f} {cpu:9.2f} '
                + (f'{least:6.2f}' if least else '     -')
            )
            colour = _plot.OTHER if 'tonio' in name else _plot.OURS
            texts = ((statistics.median(ratios), f'{statistics.median(ratios):.2f}'), (cpu, f'{cpu:.2f}'))
            bars.append((f'{n} OS threads', colour, texts))
        panels.append(_plot.Panel(title, ('times one OS thread: more is better', 'us CPU each: less is better'), bars))

    host = machine()
    subtitle = (
        f'Python {version}, {host["system"]}, {host["cpu"]}, {host["cores"]} cores, shared with the load generator; '
        f'medians of {options.rounds}'
    )
    name = 'sharing-freethreaded' if free_threaded else 'sharing'
    report = {'machine': host, 'python': version, 'rounds': rounds}
    save(name, report, 'One poller, several OS threads', subtitle, panels)

    if options.check and (missed := check(rounds, free_threaded, scale, figure)):
        sys.exit('\n'.join(f'check failed: {each}' for each in missed))


def check(rounds, free_threaded, scale, figure) -> list[str]:
    missed = []

    def demand(said: str, value: float, holds: bool) -> None:
        print(f'check {"passed" if holds else "FAILED"}: {said}: {value:.2f}')
        if not holds:
            missed.append(f'{said}: {value:.2f}')

    if os.cpu_count() == 1:
        return ['one core: nothing to compare']
    if 'hash' in rounds:
        best = max(scale('hash', 2))
        demand('hashing with 2 OS threads, at least 1.6 x one', best, best >= 1.6)
    if not free_threaded:
        for name in ('compute',):
            if name in rounds:
                ratio = statistics.median(scale(name, 2))
                demand(f'{ROWS[name][0]} with 2 OS threads, at least 0.9 x one', ratio, ratio >= 0.9)
        return missed
    if 'compute' in rounds:
        best = max(scale('compute', 2))
        demand('100 us of Python each with 2 OS threads, at least 1.85 x one', best, best >= 1.85)
        least = figure('compute', 2, 'least')
        demand('the connection with the fewest messages, at least 0.5 x the mean', least, least >= 0.5)
    if 'echo' in rounds and 'echo_tonio' in rounds:
        for what, text in (('per_second', 'messages/s, at least'), ('cpu_us', 'CPU per message, at most')):
            ratio = figure('echo', 2, what) / figure('echo_tonio', 2, what)
            demand(
                f'echo with 2 OS threads: {text} 1 x tonio', ratio, ratio >= 1 if what == 'per_second' else ratio <= 1
            )
    return missed


if __name__ == '__main__':
    main()
