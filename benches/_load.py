"""A server process under the native load generator: what it took, and how much it did."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Iterable

from _tools import HERE, cpu_time, native, pinned

#: A measurement that takes so much longer than it should is stuck.
PATIENCE = 60


class Failed(Exception):
    """A measurement that came to nothing."""


def under_load(
    command: list[str],
    mode: str,
    arguments: Iterable[int],
    seconds: float,
    warmup: float = 0,
    server_core: int | None = None,
    load_core: int | None = None,
) -> tuple[dict[str, float], str]:
    """The generator's report with CPU time and messages per second, and what the server printed after its port.

    `mode`, and `arguments` between the port and the seconds, are the generator's. A core of None: any.
    """
    load = [str(native('load')), mode, '127.0.0.1']
    pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'text': True, 'cwd': HERE}
    with pinned(server_core):
        serving = subprocess.Popen(command, **pipes)
    started = [serving]
    told = ''
    watchdog = threading.Timer(seconds + warmup + PATIENCE, lambda: [each.kill() for each in started])
    watchdog.start()
    try:
        port = serving.stdout.readline().removeprefix('port ').strip()
        if not port:
            raise Failed('the server did not start')
        load += [port, *map(str, arguments), str(seconds), '--warmup', str(warmup), '--gate']
        with pinned(load_core):
            loading = subprocess.Popen(load, stderr=subprocess.PIPE, **pipes)
        started.append(loading)
        if loading.stdout.readline().strip() != 'ready':
            raise Failed(loading.communicate()[1].strip() or 'the load generator ended')
        before = cpu_time(serving.pid)
        loading.stdin.write('\n')
        loading.stdin.flush()
        line = loading.stdout.readline()
        if not line:
            raise Failed(loading.communicate()[1].strip() or 'the load generator ended')
        cpu = cpu_time(serving.pid) - before
        report = json.loads(line)
    finally:
        watchdog.cancel()
        # The server comes last, and ends when its stdin does.
        for each in reversed(started):
            with contextlib.suppress(BrokenPipeError):
                each.stdin.close()
            try:
                each.wait(5)
            except subprocess.TimeoutExpired:
                each.kill()
                each.wait()
            if not each.stdout.closed:
                told = each.stdout.read()
                each.stdout.close()
            if each.stderr:
                each.stderr.close()
    rates = {'cpu_us': cpu / report['messages'] * 1e6, 'per_second': report['messages'] / report['seconds']}
    return {**rates, **report}, told
