"""What the programs here share: the native helpers, pinning to a core, how much memory and CPU time a process took."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator

HERE = pathlib.Path(__file__).resolve().parent


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
