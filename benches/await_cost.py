"""What an `await` that completes at once costs beyond its system call.

A sock thread receives bytes that are there already, one at a time, `await conn.recv(buf)`; the native helper does the
same with nothing but recv(2). Both take turns on one core, in short batches. A batch holds many times the number of
successes after which a thread lets the others run, so that this is part of the price. Reported are the best batch of
each, which nothing disturbed, and their difference.
"""

from __future__ import annotations

import argparse
import itertools
import socket
import statistics
import subprocess
import sys
from time import perf_counter_ns

import sock
from _tools import build_native, cores, native, pinned

BATCH = 4096

#: What `--check` allows, in ns.
MOST = 150


async def receive(conn: sock.TCP, calls: int) -> float:
    """ns per await."""
    buf = bytearray(1)
    start = perf_counter_ns()
    for _ in itertools.repeat(None, calls):
        await conn.recv(buf)
    return (perf_counter_ns() - start) / calls


async def main(batches: int, helper: subprocess.Popen[str]) -> tuple[list[float], list[float]]:
    """ns of each batch: of awaits, of system calls."""
    ours, theirs = socket.socketpair()
    awaits, calls = [], []
    with sock.fromsocket(ours) as conn, theirs:
        for _ in range(batches):
            theirs.sendall(bytes(BATCH))
            awaits.append(await receive(conn, BATCH))
            helper.stdin.write('\n')
            helper.stdin.flush()
            calls.append(float(helper.stdout.readline()))
    return awaits, calls


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--batches', type=int, default=300, help=f'of {BATCH} awaits each; default: 300')
    parser.add_argument('--check', action='store_true', help=f'fail where the difference is above {MOST} ns')
    options = parser.parse_args()
    if options.batches < 1:
        parser.error('--batches must be at least 1')
    build_native()
    command = [str(native('load')), 'syscall-cost', str(BATCH)]
    with (
        pinned(cores()[-1]),
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as helper,
    ):
        awaits, calls = sock.run(main, options.batches, helper)
        helper.stdin.close()
    extra = min(awaits) - min(calls)
    print(f'                      best   median  (ns, {options.batches} batches of {BATCH})')
    print(f'await conn.recv   {min(awaits):8.1f} {statistics.median(awaits):8.1f}')
    print(f'recv(2) alone     {min(calls):8.1f} {statistics.median(calls):8.1f}')
    print(f'difference        {extra:8.1f} {statistics.median(awaits) - statistics.median(calls):8.1f}')
    if options.check and extra > MOST:
        sys.exit(f'check failed: an await costs {extra:.1f} ns beyond its system call; {MOST} ns is the most it may')
