"""What the programs here share: the native helpers, pinning to a core, how much memory and CPU time a process took,
what is known of the machine and of an interpreter."""

from __future__ import annotations

import argparse
import contextlib
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

import _plot

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


def build_native() -> None:
    """Builds the native helpers; cargo does nothing where nothing has changed."""
    if shutil.which('cargo') is None:
        if native('load').exists() and native('echo-server').exists():
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


def cpu_time(pid: int) -> float:
    """User and system time, in seconds, of all OS threads of a process."""
    if sys.platform == 'linux':
        # The CPU-time clock of another process, as clock_getcpuclockid(3) makes it: exact to the ns, where
        # /proc/PID/stat counts ticks of 10 ms.
        return time.clock_gettime((~pid << 3) | 2)
    if os.name == 'nt':
        sys.exit('the CPU time of a server is measured on Linux, macOS and BSD alone')
    ps = subprocess.run(['ps', '-o', 'time=', '-p', str(pid)], check=True, capture_output=True, text=True)
    days, _, clock = ps.stdout.strip().rpartition('-')
    seconds = 0.0
    for part in clock.split(':'):
        seconds = seconds * 60 + float(part)
    return seconds + 86400 * int(days or 0)


def resident_memory() -> int:
    """Bytes of this process that are in memory now."""
    if sys.platform == 'linux':
        return int(pathlib.Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')
    ps = subprocess.run(['ps', '-o', 'rss=', '-p', str(os.getpid())], check=True, capture_output=True, text=True)
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
    """Writes `results/NAME.json` and `results/NAME.svg`, and says so."""
    results = HERE / 'results'
    results.mkdir(exist_ok=True)
    report = {'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'), **report}
    (results / f'{name}.json').write_text(json.dumps(report, indent=1) + '\n')
    (results / f'{name}.svg').write_text(_plot.svg(title, subtitle, panels))
    print(f'\n{subtitle}\nresults/{name}.json, results/{name}.svg')
