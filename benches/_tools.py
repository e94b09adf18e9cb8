"""What the programs here share: the native helpers, pinning to a core, how much memory and CPU time a process took,
what is known of the machine and of an interpreter."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import _plot

try:
    import resource
except ImportError:
    resource = None

HERE = pathlib.Path(__file__).resolve().parent


def log(*words: object) -> None:
    print(*words, file=sys.stderr, flush=True)


def names(known: Iterable[str]) -> Callable[[str], list[str]]:
    """For argparse: some of the known names, with commas between."""
    known = list(known)

    def parse(value: str) -> list[str]:
        chosen = [name.strip() for name in value.split(',') if name.strip()]
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f'{name!r} is none of {", ".join(known)}')
        return chosen

    return parse


def interpreter(value: str) -> str:
    """For argparse: a command, or the path of one, which holds in any folder."""
    return os.path.abspath(value) if os.path.dirname(value) else value


def build_native() -> None:
    """Builds the native helpers; cargo does nothing where nothing has changed."""
    if shutil.which('cargo') is None:
        if native('load').exists() and native('server').exists():
            return
        sys.exit('cargo is not there, and benches/native has not been built: install Rust, see https://rustup.rs')
    command = ['cargo', 'build', '--release', '--locked', '--quiet', '--target-dir', 'target']
    if subprocess.run(command, cwd=HERE / 'native', check=False).returncode:
        sys.exit('benches/native could not be built')


def native(name: str) -> pathlib.Path:
    """Where a native helper is, once it is built."""
    return HERE / 'native' / 'target' / 'release' / (name + ('.exe' if os.name == 'nt' else ''))


def cores() -> list[int | None]:
    """The cores to use; None where processes cannot be pinned."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, 'sched_setaffinity') else [None]


@contextlib.contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Runs on one core, and so do the processes that are started meanwhile, for all of their life."""
    if core is None:
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


@dataclasses.dataclass(frozen=True)
class Cpu:
    """CPU time of all OS threads of a process, in seconds."""

    total: float
    #: As the system divides it, which it samples: of a tenth of a second and less it is a guess.
    user: float = 0.0
    system: float = 0.0

    def since(self, before: Cpu) -> Cpu:
        total, user, system = (getattr(self, name) - getattr(before, name) for name in ('total', 'user', 'system'))
        return Cpu(total, user, system)


def cpu_time(pid: int) -> Cpu:
    """So far."""
    if sys.platform == 'linux':
        fields = pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
        user, system = (int(ticks) / os.sysconf('SC_CLK_TCK') for ticks in fields[11:13])
        # The CPU-time clock of another process, as clock_getcpuclockid(3) makes it: exact to the ns, where
        # /proc/PID/stat counts ticks of 10 ms.
        return Cpu(time.clock_gettime((~pid << 3) | 2), user, system)
    if os.name == 'nt':
        sys.exit('the CPU time of a server is measured on Linux, macOS and BSD alone')
    ps = subprocess.run(['ps', '-o', 'time=', '-p', str(pid)], check=True, capture_output=True, text=True)
    days, _, clock = ps.stdout.strip().rpartition('-')
    seconds = 0.0
    for part in clock.split(':'):
        seconds = seconds * 60 + float(part)
    return Cpu(seconds + 86400 * int(days or 0))


class Others:
    """What others than the measured took of the cores meanwhile, from /proc/stat, which counts ticks of 10 ms.

    `share(own)`, with the CPU time of the measured: of all the time of these cores. None where that is not known.
    """

    #: From here on a measurement counts as disturbed.
    TOO_MUCH = 0.05

    def __init__(self, used: Iterable[int | None]) -> None:
        self._used = set(used)
        self._busy = self._busy_so_far()
        self._begun = time.perf_counter()

    def share(self, own: float) -> float | None:
        if self._busy is None:
            return None
        taken = self._busy_so_far() - self._busy - own
        return max(taken, 0) / ((time.perf_counter() - self._begun) * len(self._used))

    def _busy_so_far(self) -> float | None:
        if sys.platform != 'linux' or None in self._used:
            return None
        busy = 0
        for line in pathlib.Path('/proc/stat').read_text().splitlines():
            name, *ticks = line.split()
            if name in {f'cpu{core}' for core in self._used}:
                user, nice, system, _, _, irq, softirq, steal = map(int, ticks[:8])
                busy += user + nice + system + irq + softirq + steal
        return busy / os.sysconf('SC_CLK_TCK')


#: How often a disturbed measurement is repeated at most.
REPEATS = 2


def undisturbed(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A measurement, repeated while its `others` is too much; the least disturbed one, with its `repeats`."""
    tries = []
    while len(tries) <= REPEATS:
        tries.append(measure())
        if (tries[-1]['others'] or 0) <= Others.TOO_MUCH:
            break
    return {**min(tries, key=lambda each: each['others'] or 0), 'repeats': len(tries) - 1}


def disturbances(measured: Iterable[dict[str, Any]]) -> str:
    """A sentence on what was repeated."""
    measured = list(measured)
    repeats = sum(each['repeats'] for each in measured)
    left = sum((each['others'] or 0) > Others.TOO_MUCH for each in measured)
    return (
        f'others took more than {Others.TOO_MUCH:.0%} of the cores: {repeats} repeats in {len(measured)} measurements, '
        f'{left} of which stayed disturbed'
    )


#: Descriptors that a process needs for anything else than connections.
SPARE_FILES = 64


def raise_file_limit(wanted: int) -> int:
    """Lets this process, and those that it starts, have so many descriptors. Returns how many it may have."""
    if resource is None:
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    enough = hard == resource.RLIM_INFINITY or hard >= wanted
    # Who has the right to may go beyond the hard limit. macOS refuses what is beyond a limit of its own.
    for limits in ((wanted, hard if enough else wanted), (hard, hard), (10240, hard)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        except (ValueError, OSError):
            continue
        return limits[0]
    return soft


def resident_memory(pid: int | None = None) -> int:
    """Bytes of a process, or this one, that are in memory now."""
    pid = pid or os.getpid()
    if sys.platform == 'linux':
        return int(pathlib.Path(f'/proc/{pid}/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')
    ps = subprocess.run(['ps', '-o', 'rss=', '-p', str(pid)], check=True, capture_output=True, text=True)
    return int(ps.stdout) * 1024


def machine() -> dict[str, object]:
    """What the report says of this machine."""
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


#: Runs in the interpreter that is measured, which need not be this one.
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


def about(python: str, wanted: Iterable[tuple[str, str | None]]) -> tuple[str, dict[str, str]]:
    """The interpreter's version, and the versions of those modules that it has, of (module, distribution) pairs."""
    ran = subprocess.run([python, '-c', _ABOUT, json.dumps(list(wanted))], capture_output=True, text=True, check=False)
    if ran.returncode:
        sys.exit(f'--python cannot be used: {ran.stderr.strip()}')
    version, found = json.loads(ran.stdout)
    return version, found


def save(name: str, report: dict[str, object], title: str, subtitle: str, panels: list[_plot.Panel]) -> None:
    """Writes `results/NAME.json`, a line for each part of the report, and `results/NAME.svg`, and says so."""
    results = HERE / 'results'
    results.mkdir(exist_ok=True)
    report = {'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'), **report}
    parts = ',\n'.join(f'{json.dumps(part)}: {json.dumps(of_it)}' for part, of_it in report.items())
    (results / f'{name}.json').write_text(f'{{\n{parts}\n}}\n')
    (results / f'{name}.svg').write_text(_plot.svg(title, subtitle, panels))
    print(f'\n{subtitle}\nresults/{name}.json, results/{name}.svg')
