"""How many instructions the main operations take, under valgrind's callgrind, against the recorded numbers.

Each operation of `operations.py` runs twice, with few repetitions and with many: the difference, over the repetitions
more, is its count, so that what starting up takes cancels out. Whatever else the machine does changes nothing; what the
kernel does is not counted. The counts depend on the interpreter and on the compiler: `instructions.json` has them for
each version of Python, with what they were recorded with.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile

from _tools import HERE, names
from operations import OPERATIONS

RECORD = HERE / 'instructions.json'

#: More than so many times the recorded number fails.
MOST = 1.05
#: And how many times at least: less is a miscount, or a record that lets too much pass.
LEAST = 0.9

FREE_THREADED = bool(sysconfig.get_config_var('Py_GIL_DISABLED'))

#: Repetitions.
FEW, MANY = 200, 1200


#: The same everywhere: an order of hashes, or a variable that something reads, would change the counts.
ENVIRONMENT = {'PATH': os.defpath, 'PYTHONHASHSEED': '0', **({'PYTHON_GIL': '0'} if FREE_THREADED else {})}


def callgrind(operation: str, count: int) -> int:
    """Instructions of a process that repeats an operation so often."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder, 'callgrind.out')
        command = ['valgrind', '--tool=callgrind', f'--callgrind-out-file={out}']
        command += [sys.executable, str(HERE / 'operations.py'), operation, str(count)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)
        found = re.search(r'^summary: (\d+)', out.read_text(), re.MULTILINE) if out.exists() else None
    if ran.returncode or found is None:
        sys.exit(f'{operation} failed under valgrind:\n{ran.stderr}')
    return int(found[1])


def made_with() -> dict[str, str]:
    """What the counts depend on."""
    rustc = subprocess.run(['rustc', '--version'], capture_output=True, text=True, check=False).stdout
    return {'python': sys.version.replace('\n', ''), 'rustc': rustc.strip()}


def count(operations: list[str]) -> dict[str, int]:
    """Instructions of one of each."""
    # Whatever is imported is compiled and cached before: no run that counts may be the first.
    for operation in operations:
        subprocess.run([sys.executable, str(HERE / 'operations.py'), operation, '1'], check=True, env=ENVIRONMENT)
    runs = [(operation, count) for operation in operations for count in (FEW, MANY)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        totals = dict(zip(runs, pool.map(lambda run: callgrind(*run), runs), strict=True))
    return {each: round((totals[each, MANY] - totals[each, FEW]) / (MANY - FEW)) for each in operations}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--operations', type=names(OPERATIONS), help=f'of {",".join(OPERATIONS)}; default: all')
    parser.add_argument('--record', action='store_true', help='write them down instead of comparing them')
    options = parser.parse_args()
    if shutil.which('valgrind') is None:
        sys.exit('valgrind is not there: install it (apt-get install valgrind)')
    version = '.'.join(map(str, sys.version_info[:2])) + 't' * FREE_THREADED
    records = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    if version not in records and not options.record:
        sys.exit(f'nothing is recorded for Python {version}: make bench-check RECORD=1 does that')
    counted = count(options.operations or list(OPERATIONS))
    if options.record:
        kept = records.get(version, {}).get('instructions', {})
        records[version] = {**made_with(), 'instructions': {**kept, **counted}}
        RECORD.write_text(json.dumps(dict(sorted(records.items())), indent=1) + '\n')
    recorded = records[version]['instructions']
    print(f'{"instructions":20} {"counted":>9} {"recorded":>9} {"ratio":>7}')
    missed = []
    for operation, instructions in counted.items():
        before = recorded.get(operation)
        ratio = None if before is None else instructions / before
        print(f'{operation:20} {instructions:9} {before or "-":>9} {"-" if ratio is None else f"{ratio:.3f}":>7}')
        if ratio is None:
            missed.append(f'{operation} has no record: make bench-check RECORD=1')
        elif ratio <= LEAST:
            missed.append(f'{operation} takes {ratio:.3f} x the instructions recorded: record what is so much less')
        elif ratio > MOST:
            missed.append(f'{operation} takes {ratio:.3f} x the instructions recorded; {MOST:g} x is the most it may')
    for what, now in made_with().items():
        if records[version][what] != now:
            print(f'recorded with {records[version][what]}, counted with {now}')
    if missed:
        sys.exit('\n'.join(f'check failed: {each}' for each in missed))


if __name__ == '__main__':
    main()
