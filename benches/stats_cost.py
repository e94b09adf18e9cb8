"""What counting for `s.stats` costs: instructions of operations, with it and in a copy of the library without.

The copy is built beside the library (`target/uncounted`), as it is built itself, but for the two lines that count. Both
run the same operations of `operations.py` under valgrind's callgrind, on the interpreter that runs this.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import shutil
import subprocess
import sys

import instructions
from _tools import HERE, names
from operations import OPERATIONS

ROOT = HERE.parent
COPY = ROOT / 'target' / 'uncounted'

#: What is built of.
SOURCES = ('src', 'python', 'Cargo.toml', 'Cargo.lock', 'build.rs', 'pyproject.toml', 'README.md', 'LICENSE')

ADD = re.compile(r'(pub fn add\(&self, bytes: usize\) \{\n)(?: +self\.(?:bytes|calls)\.store\(.*\n){2}( +\}\n)')


def without_counting(source: str) -> str:
    """The text of `socket.rs` with nothing in `Counter::add`."""
    without, found = ADD.subn(r'\1        let _ = bytes;\n\2', source)
    if found != 1:
        sys.exit('what counts is not where it was: see ADD in benches/stats_cost.py')
    return without


def build() -> pathlib.Path:
    """A folder with the library that does not count."""
    shutil.rmtree(COPY, ignore_errors=True)
    COPY.mkdir(parents=True)
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, COPY / name, ignore=shutil.ignore_patterns('*.so'))
        else:
            shutil.copy2(ROOT / name, COPY / name)
    socket = COPY / 'src' / 'socket.rs'
    socket.write_text(without_counting(socket.read_text(encoding='utf-8')), encoding='utf-8')
    site = COPY / 'site'
    maturin = [sys.executable, '-m', 'maturin', 'build', '--release', '--locked', '--quiet', '-i', sys.executable]
    subprocess.run(
        [*maturin, '-m', COPY / 'Cargo.toml', '--target-dir', ROOT / 'target', '-o', COPY / 'dist'], check=True
    )
    (wheel,) = (COPY / 'dist').glob('*.whl')
    pip = [sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps', '--no-index', '--target', site, wheel]
    subprocess.run(pip, check=True)
    return site


#: Prints how many bytes a socket says that it has sent.
SENDS = """
import socket, sock

async def main():
    ours, theirs = socket.socketpair()
    with sock.fromsocket(ours) as conn, theirs:
        await conn.send(bytes(10))
        print(conn.stats.bytes_sent)

sock.run(main)
"""


def check(expected: str) -> None:
    """The library that is about to run counts, or does not."""
    command = [sys.executable, '-c', SENDS]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env=instructions.ENVIRONMENT)
    if ran.stdout.strip() != expected:
        sys.exit(f'10 bytes were sent, and the library says {ran.stdout.strip()}, not {expected}')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--operations', type=names(OPERATIONS), default=['ready_recv', 'echo', 'datagram'])
    options = parser.parse_args()
    if shutil.which('valgrind') is None:
        sys.exit('valgrind is not there: install it (apt-get install valgrind)')
    check('10')
    counts = instructions.count(options.operations)
    instructions.ENVIRONMENT['PYTHONPATH'] = str(build())
    check('0')
    without = instructions.count(options.operations)
    print(f'{"instructions":20} {"counted":>10} {"uncounted":>10} {"of it":>7}')
    for name in options.operations:
        share = (counts[name] - without[name]) / counts[name]
        print(f'{name:20} {counts[name]:10} {without[name]:10} {share:7.2%}')


if __name__ == '__main__':
    main()
