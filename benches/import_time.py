"""What `import sock` takes: the time of an interpreter that imports it, less that of one that imports nothing.

Both run in turns; the figure is the median of the pairs' differences.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from time import perf_counter

from _tools import HERE

#: What `--check` demands it to stay below, in ms.
LIMIT = 40


def interpreter(code: str, environment: dict[str, str]) -> float:
    """ms that an interpreter takes to run it."""
    start = perf_counter()
    subprocess.run([sys.executable, '-c', code], check=True, cwd=HERE, env=environment)
    return (perf_counter() - start) * 1e3


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--runs', type=int, default=25, help='pairs of runs; default: 25')
    parser.add_argument('--check', action='store_true', help=f'fail at {LIMIT} ms or more')
    options = parser.parse_args()
    if options.runs < 1:
        parser.error('--runs must be at least 1')
    environment = {name: value for name, value in os.environ.items() if name != 'PYTHONDONTWRITEBYTECODE'}
    with tempfile.TemporaryDirectory() as cache:
        # The first import compiles, as pip does when it installs a package, and reads from the disk.
        environment['PYTHONPYCACHEPREFIX'] = cache
        interpreter('import sock', environment)
        pairs = [
            (interpreter('import sock', environment), interpreter('pass', environment)) for _ in range(options.runs)
        ]
    took = statistics.median(full - bare for full, bare in pairs)
    print(f'with import sock  {statistics.median(full for full, _ in pairs):6.1f} ms')
    print(f'bare interpreter  {statistics.median(bare for _, bare in pairs):6.1f} ms')
    print(f'import sock       {took:6.1f} ms (median of {options.runs} pairs)')
    if options.check and took >= LIMIT:
        sys.exit(f'check failed: import sock takes {took:.1f} ms; it must take less than {LIMIT} ms')
