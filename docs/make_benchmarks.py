"""Prints the page of the last runs from benches/results: python docs/make_benchmarks.py > docs/benchmarks.md"""

import json
import pathlib
import sys

RESULTS = pathlib.Path(__file__).resolve().parent.parent / 'benches' / 'results'

HEAD = """# Benchmarks

The last run of each part of `make bench`, which makes this page; each says when, and in how many rounds. What is
measured and how is in `benches/README.md`; in short: in each round all servers of a scenario are started and warmed
up; then they take turns, lap after lap; a figure is the median of its turns, a ratio that of the laps' ratios; every
byte is compared with what was sent. CPU time is the server's own, user and system, per message. A lap while others
took the cores is repeated.

A bar is what the project demands of itself. One that is missed stands here as such, with the CPU time spent in Python
and Rust (user) and in the kernel (system), ours against the other's. Where other machines have a part of the same
processor, figures of the same server lie far apart (`max - min` in what the benchmarks print): so what is compared
was measured within a second or two, many times; only the bars that compare two loads, of 10,000 or 20,000 connections
and of 64, are of laps minutes apart. What the bars are about is measured once more, in more rounds. Each has one
verdict: of the run with most laps, and against the best peer of one in which that peer is. Where a bar was met in
about half of the laps, another run may end on the other side. Where two demands were made, the stricter one stands:
for `recvfrom`, 1.2 times the native server's CPU time, not 1.3.

On the free-threaded interpreter only those are measured whom the bars name, and those of the first rows: tonio is one
of them, which has no build for any other interpreter, so its bar is `not measured` there. gevent is built from its
sources where there is no wheel. Of the switches between two threads tonio has two rows. Its `yield_now` goes on with
the same coroutine: that row counts calls of it, which is less than a switch. In the other one two coroutines wake
each other by events, and so take turns; `sock, events` is the same with events of sock, which are written in Python
and cost more, where `thread.resume()` costs less.

## Where the time goes

Of `sock_recv`'s CPU time with 64 connections and 1 KB (`perf record -e cpu-clock`, Python 3.13) 81 % are the
kernel's, 8 % the extension's, 7 % the interpreter's, 4 % libc's. For each message there is one `recv` and one `send`,
as in the native server: strace counts 2.02 calls for a message with 64 connections, of both. So what is beyond the
native server's time is the way from the call in Python to the system call and back, twice for each message, and once
through the loop. `make bench-check` counts its instructions. What of that is the interpreter's cannot be had cheaper
from outside of it: up to 3.14 an `await` with a result ends with a `StopIteration`; without the GIL a `bytearray` is
locked to lend its memory, and once more to have it back.

So the misses are these. Where the bar is 15 % over the native server, with 64 connections or one, the way through
Python is about as much: some runs end on this side, some on the other, and without the GIL it is longer. On a unix
stream it is the same way, but the calls cost half of TCP's, and one of them is `recvmsg`, which tells whether
descriptors came along, where the native server's is `recv`. With 1,000 connections both times grow, the kernel's too,
likely since more memory is touched between two messages of a connection than the nearest caches hold; that was not
measured. The same may be so of 100 KB: there is one `recv` and one `send` for each message as well (strace: 2.08
calls), and the profile of the process's own time has no copying in it and no function that stands out. The latency at
a fixed rate is the machine's more than anybody's: each lap has 3,000 messages, and its p99 is the thirtieth of them.

A deadline costs what Python takes for `sock.clock() + 60` and for a call with a keyword; the library touches its
timers only for a deadline that is nearer than the one its thread has among them."""

#: Files that hold a run of `bench.py`, with what they are about, and of `scheduling.py`.
LOADS = {
    'latest': 'Servers under load',
    'bars': 'The bars once more',
    'datagrams': 'Datagrams once more',
    'latest-freethreaded': 'Servers under load',
    'datagrams-freethreaded': 'Datagrams once more',
}
SCHEDULING = dict.fromkeys(('scheduling', 'scheduling-freethreaded'), 'Threads and timers')

VERDICTS = {True: 'hit', False: '**missed**', None: 'not measured'}


def number(value, digits=2):
    return '' if value is None else f'{value:,.{digits}f}'


def table(head, rows):
    # The first column is names, the others are figures.
    yield '| ' + ' | '.join(head) + ' |'
    yield '|---|' + '--:|' * (len(head) - 1)
    for row in rows:
        yield '| ' + ' | '.join(row) + ' |'


def introduction(title, report):
    machine = report['machine']
    versions = ', '.join(f'{name} {version}' for name, version in sorted(report['versions'].items()))
    yield from ('', f'## {title}: Python {report["python"]}', '')
    yield f'{machine["system"]}, {machine["cpu"]}, {machine["cores"]} cores; {report["date"]}. {versions}.'
    yield f'Of disturbances: {report["disturbed"]}.'


def decided(reports):
    """The bars of all runs of an interpreter, each of the run that says most of it, whose name it gets.

    That is the one with most laps; against the best peer, of those in which that one took part whom the run with most
    peers found best.
    """
    runs = {}
    for name, report in reports.items():
        scenarios = {about['title']: scenario for scenario, about in report.get('scenarios', {}).items()}
        for bar in report['bars']:
            peers = report['summary'].get(scenarios.get(bar['what'].rpartition(': ')[0]), {})
            laps = report['rounds'] * report['laps'] if 'laps' in report else 0
            runs.setdefault((bar['what'], bar['demand']), []).append(({**bar, 'run': name}, peers, laps))
    for (_, demand), all_of_it in runs.items():
        if 'the best peer' in demand:
            widest, _, _ = max(all_of_it, key=lambda run: len(run[1]))
            best = widest['note'].partition(';')[0]
            all_of_it = [run for run in all_of_it if best in run[1]] or all_of_it
        yield max(all_of_it, key=lambda run: (run[0]['hit'] is not None, run[2]))[0]


def bars(python, reports):
    found = list(decided(reports))
    if not found:
        return
    missed = sum(each['hit'] is False for each in found)
    yield from ('', f'## The bars: Python {python}', '')
    yield from (f'{missed} of {len(found)} are missed.', '')
    yield '| | demanded | measured | | | run |'
    yield '|---|---|--:|---|---|---|'
    for each in found:
        measured = '' if each['measured'] is None else f'{each["measured"]:.4g}'
        cells = (each['what'], each['demand'], measured, VERDICTS[each['hit']], each['note'], each['run'])
        yield '| ' + ' | '.join(cells) + ' |'


def of_loads(name, report):
    yield from introduction(LOADS[name], report)
    times = f'{report["rounds"]} rounds of {report["laps"]} laps, {report["seconds"]:g} s each'
    yield f'Server and load generator: {report["cores"]}; {times}. Run `{name}`.'
    yield from ('', f'![all of it as bars](../benches/results/{name}.svg)')
    for scenario, rows in report['summary'].items():
        about = report['scenarios'][scenario]
        unit = about['unit']
        yield from ('', f'### {about["title"]}', '')
        head = ['', f'us CPU/{unit}', 'x native', 'user', 'system', f'k {unit}/s', 'p50 us', 'p99', 'p99.9']
        if about['memory']:
            head.append('bytes/connection')
        yield from table(
            head,
            [
                (
                    server,
                    number(row['cpu_us']),
                    number(row['cpu_us_times_native']),
                    number(row['user_us']),
                    number(row['system_us']),
                    number(row['per_second'] / 1e3, 1),
                    *(number(row[rank], 0) for rank in ('p50_us', 'p99_us', 'p999_us')),
                    *([number(row['memory_each'], 0)] if about['memory'] else []),
                )
                for server, row in rows.items()
            ],
        )


def of_scheduling(name, report):
    yield from introduction(SCHEDULING[name], report)
    yield f'Run `{name}`.'
    yield from ('', f'![all of it as bars](../benches/results/{name}.svg)')
    for measurement, rows in report['summary'].items():
        unit = report['units'][measurement]
        yield from ('', f'### {report["counts"][measurement]:,} {report["titles"][measurement]}', '')
        late = 'late_p99_ms' in next(iter(rows.values()), {})
        last = 'ms late, p99' if late else f'k {unit}/s'
        yield from table(
            ('', f'us CPU/{unit}', 'x sock', last),
            [
                (
                    row,
                    number(each['cpu_us'], 3),
                    number(each['times_ours']),
                    number(each['late_p99_ms']) if late else number(each['per_second'] / 1e3, 1),
                )
                for row, each in rows.items()
            ]
            + [(row, f'> {number(cpu, 3)}', '', '') for row, cpu in report['stopped'][measurement].items()],
        )


def main(results):
    paths = {name: results / f'{name}.json' for name in (*LOADS, *SCHEDULING)}
    reports = {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}
    if not reports:
        sys.exit(f'{results} has no results: make bench makes them')
    print(HEAD)
    for python in sorted({report['python'] for report in reports.values()}):
        for line in bars(python, {name: report for name, report in reports.items() if report['python'] == python}):
            print(line)
    for names, page in ((LOADS, of_loads), (SCHEDULING, of_scheduling)):
        for name in names:
            if name in reports:
                for line in page(name, reports[name]):
                    print(line)


if __name__ == '__main__':
    main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS)
