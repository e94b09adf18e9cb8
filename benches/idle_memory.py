"""The memory of a connection whose thread waits: on the server's side, in its process.

A server accepts 10,000 connections, a thread for each. Its resident memory with all of them waiting, less that with
the first few, divided by how many came in between. The clients live in another process, and what the kernel holds for
a socket is in no process. In `readable()` a thread has no buffer while it waits, and neither has it in `recv(n)`.
"""

from __future__ import annotations

import argparse
import gc
import json
import socket
import subprocess
import sys

import sock
from _tools import SPARE_FILES, raise_file_limit, resident_memory

#: What `--check` allows, in bytes.
MOST = 1300

#: Connections that are not counted: the first ones pay for what all share.
FIRST = 200

#: All of 127/8 is this host on Linux, and each of its addresses has ports of its own.
CLIENTS_PER_ADDRESS = 5000


async def in_readable(conn: sock.TCP) -> None:
    with conn:
        await conn.readable()


async def in_recv(conn: sock.TCP) -> None:
    with conn:
        await conn.recv(65536)


WAITS = {'readable()': in_readable, 'recv(n)': in_recv}


async def server(wait: str, connections: int) -> None:
    """Prints its port, and once all have come what they take; then sees them go."""
    first = min(FIRST, connections // 2)
    threads = []
    before = 0
    with sock.tcp() as listener:
        listener.listen('127.0.0.1')
        print(listener.local_addr.port, flush=True)
        for number in range(connections):
            if number == first:
                gc.collect()
                before = resident_memory()
            # Clients that cannot connect must not leave the server waiting for them.
            conn, _, _ = await listener.accept(sock.clock() + 30)
            threads.append(sock.newthread(WAITS[wait], conn))
            del conn
        gc.collect()
        taken = resident_memory() - before
        waiting = sum(not thread.done for thread in threads)
    print(json.dumps({'bytes': taken / (connections - first), 'waiting': waiting}), flush=True)
    for thread in threads:
        await thread


def clients(port: int, connections: int) -> None:
    """Connects, and stays until stdin ends."""
    connected = []
    for number in range(connections):
        source = f'127.0.0.{1 + number // CLIENTS_PER_ADDRESS}' if sys.platform == 'linux' else '127.0.0.1'
        connected.append(socket.create_connection(('127.0.0.1', port), timeout=30, source_address=(source, 0)))
    sys.stdin.read()


def measure(wait: str, connections: int) -> float:
    """Bytes per connection."""
    here = [sys.executable, __file__]
    pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'text': True}
    with subprocess.Popen([*here, 'server', wait, str(connections)], **pipes) as serving:
        try:
            port = serving.stdout.readline().strip()
            if not port:
                sys.exit('the server did not start')
            with subprocess.Popen([*here, 'clients', port, str(connections)], **pipes) as connecting:
                try:
                    line = serving.stdout.readline()
                finally:
                    connecting.stdin.close()
            if not line:
                sys.exit('the server ended before all connections were there')
            report = json.loads(line)
            if report['waiting'] != connections:
                sys.exit(f'{report["waiting"]} threads of {connections} waited: nothing is known')
            if serving.wait(60):
                sys.exit('the server failed when the connections went')
            return report['bytes']
        finally:
            if serving.poll() is None:
                serving.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--connections', type=int, default=10_000, help='default: 10000')
    parser.add_argument('--check', action='store_true', help=f'fail above {MOST} bytes')
    options = parser.parse_args()
    if options.connections < 2:
        parser.error('--connections must be at least 2')
    connections = options.connections
    limit = raise_file_limit(connections + SPARE_FILES)
    if limit < connections + SPARE_FILES:
        connections = limit - SPARE_FILES
        print(
            f'The hard limit of open files, {limit}, is too low for {options.connections} connections: '
            f'measured with {connections} (see ulimit -Hn).',
            file=sys.stderr,
        )
    worst = 0.0
    print(f'resident memory of an idle connection, of {connections}')
    for wait in WAITS:
        taken = measure(wait, connections)
        worst = max(worst, taken)
        print(f'{wait:12} {taken:8.0f} bytes')
    if options.check and worst > MOST:
        sys.exit(f'check failed: an idle connection takes {worst:.0f} bytes; {MOST} is the most it may')


if __name__ == '__main__':
    match sys.argv[1:]:
        case ['server', wait, connections]:
            sock.run(server, wait, int(connections))
        case ['clients', port, connections]:
            clients(int(port), int(connections))
        case _:
            main()
