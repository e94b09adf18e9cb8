"""A server process under the native load generator: what it took, and how much it did."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Iterable
from typing import Any

from _tools import HERE, Others, cpu_time, native, pinned, resident_memory

#: A measurement that takes longer is stuck. Seconds.
PATIENCE = 120


class Failed(Exception):
    """A measurement that came to nothing."""


def under_load(
    command: list[str],
    mode: str,
    arguments: Iterable[object],
    warmup: float = 0,
    server_core: int | None = None,
    load_core: int | None = None,
) -> tuple[dict[str, Any], str]:
    """What the server took and did, and what it printed after its port or path.

    `mode`, and `arguments` after the address, are the generator's. A core of None: any. The report is the generator's
    with, for each message, `cpu_us`, `user_us` and `system_us`; `per_second`; of `echo` on Linux and Unix `memory`, the
    bytes by which all connections made the process grow; and `others`, the share of the cores that others took.
    """
    pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'text': True, 'cwd': HERE}
    with pinned(server_core):
        serving = subprocess.Popen(command, **pipes)
    started = [serving]
    told = ''
    watchdog = threading.Timer(PATIENCE, lambda: [each.kill() for each in started])
    watchdog.start()
    try:
        place = serving.stdout.readline().strip()
        if not place:
            raise Failed('the server did not start')
        address = place if '/' in place else f'127.0.0.1:{place}'
        load = [str(native('load')), mode, address, *map(str, arguments), '--warmup', str(warmup), '--gate']
        with pinned(load_core):
            loading = subprocess.Popen(load, stderr=subprocess.PIPE, **pipes)
        started.append(loading)

        def line() -> str:
            line = loading.stdout.readline().strip()
            if not line:
                late = f'stopped after {PATIENCE} s'
                raise Failed(loading.communicate()[1].strip() or ('it failed' if watchdog.is_alive() else late))
            return line

        def go_on() -> None:
            loading.stdin.write('\n')
            loading.stdin.flush()

        memory = None
        if line() == 'warm':
            memory = resident_memory(serving.pid)
            go_on()
            line()
            memory = resident_memory(serving.pid) - memory
        before = [cpu_time(each.pid) for each in started]
        others = Others((server_core, load_core))
        go_on()
        report = json.loads(line())
        cpu, generators = (cpu_time(each.pid).since(then) for each, then in zip(started, before, strict=True))
        taken = others.share(cpu.total + generators.total)
    finally:
        watchdog.cancel()
        watchdog.join()
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
    messages = report['messages']
    if not messages:
        raise Failed('not one message came back')
    return {
        'cpu_us': cpu.total / messages * 1e6,
        'user_us': cpu.user / messages * 1e6,
        'system_us': cpu.system / messages * 1e6,
        'per_second': messages / report['seconds'],
        'memory': memory,
        'others': taken,
        **report,
    }, told
