"""What an `await` that completes at once costs beyond its system call.

A sock thread receives bytes that are there already, one at a time, `await conn.recv(buf)`; the native helper does the
same with nothing but recv(2), and so does, to compare, the stdlib's `socket.recv_into`, with no await. All take turns
on one core, in short batches; what the Python loop around them takes is measured too, and taken off. A batch holds many
times the number of successes after which a thread lets the others run, so that this is part of the price. Reported are
the best batch of each, which nothing disturbed, and the medians.
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

AWAIT, PLAIN, LOOP, SYSCALL = 'await conn.recv(buf)', 'socket.recv_into(buf)', 'the loop alone', 'recv(2) alone'

#: What `--check` allows, in ns.
MOST = 150


async def receive(conn: sock.TCP, calls: int) -> float:
    """ns per await."""
    buf = bytearray(1)
    start = perf_counter_ns()
    for _ in itertools.repeat(None, calls):
        await conn.recv(buf)
    return (perf_counter_ns() - start) / calls


def receive_plainly(conn: socket.socket, calls: int) -> float:
    """ns per call."""
    buf = bytearray(1)
    start = perf_counter_ns()
    for _ in itertools.repeat(None, calls):
        conn.recv_into(buf)
    return (perf_counter_ns() - start) / calls


def loop_alone(calls: int) -> float:
    """ns per round."""
    start = perf_counter_ns()
    for _ in itertools.repeat(None, calls):
        pass
    return (perf_counter_ns() - start) / calls


async def main(batches: int, helper: subprocess.Popen[str]) -> dict[str, list[float]]:
    """ns of each batch."""
    ours, theirs = socket.socketpair()
    plain, other = socket.socketpair()
    plain.setblocking(False)
    took = {AWAIT: [], PLAIN: [], LOOP: [], SYSCALL: []}
    with sock.fromsocket(ours) as conn, theirs, plain, other:
        for _ in range(batches):
            theirs.sendall(bytes(BATCH))
            took[AWAIT].append(await receive(conn, BATCH))
            other.sendall(bytes(BATCH))
            took[PLAIN].append(receive_plainly(plain, BATCH))
            took[LOOP].append(loop_alone(BATCH))
            helper.stdin.write('\n')
            helper.stdin.flush()
            took[SYSCALL].append(float(helper.stdout.readline()))
    return took


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
        took = sock.run(main, options.batches, helper)
        helper.stdin.close()
    best = {what: min(each) for what, each in took.items()}
    median = {what: statistics.median(each) for what, each in took.items()}
    print(f'{"ns":22} {"best":>8} {"median":>8}  ({options.batches} batches of {BATCH})')
    for what in took:
        print(f'{what:22} {best[what]:8.1f} {median[what]:8.1f}')
    extra, usual = (each[AWAIT] - each[LOOP] - each[SYSCALL] for each in (best, median))
    print(f'{"await beyond recv(2)":22} {extra:8.1f} {usual:8.1f}')
    if options.check and extra > MOST:
        sys.exit(f'check failed: an await costs {extra:.1f} ns beyond its system call; {MOST} ns is the most it may')
