"""A server process under the native load generator: what it took, and how much it did."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Iterable, Iterator
from typing import Any, Self

from _tools import HERE, cpu_time, native, pinned, resident_memory

#: A start or a measurement that takes longer is stuck. Seconds.
PATIENCE = 120


class Failed(Exception):
    """A measurement that came to nothing."""


class Load:
    """A server process, and a load generator that is connected to it and warm; `measure` as often as wanted.

    `mode`, and `arguments` after the address, are the generator's. A core of None: any.
    """

    def __init__(
        self,
        command: list[str],
        mode: str,
        arguments: Iterable[object],
        warmup: float = 0,
        server_core: int | None = None,
        load_core: int | None = None,
    ) -> None:
        self._started: list[subprocess.Popen[str]] = []
        #: What the server printed after its port or path: once it is closed.
        self.told = ''
        #: By how many bytes all connections made the server grow; of `echo` on Linux and Unix.
        self.memory: int | None = None
        try:
            with self._patience():
                self._start(command, mode, arguments, warmup, server_core, load_core)
        except BaseException:
            self.close()
            raise

    def _start(
        self,
        command: list[str],
        mode: str,
        arguments: Iterable[object],
        warmup: float,
        server_core: int | None,
        load_core: int | None,
    ) -> None:
        pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'text': True, 'cwd': HERE}
        with pinned(server_core):
            serving = subprocess.Popen(command, **pipes)
        self._started.append(serving)
        place = serving.stdout.readline().strip()
        if not place:
            raise Failed('the server did not start')
        address = place if '/' in place else f'127.0.0.1:{place}'
        load = [str(native('load')), mode, address, *map(str, arguments), '--warmup', str(warmup), '--gate']
        with pinned(load_core):
            self._started.append(subprocess.Popen(load, stderr=subprocess.PIPE, **pipes))
        if self._line() == 'warm':
            before = resident_memory(serving.pid)
            self._go_on()
            self._line()
            self.memory = resident_memory(serving.pid) - before

    @contextlib.contextmanager
    def _patience(self) -> Iterator[None]:
        """Whatever takes too long ends as if the processes had failed."""
        self._late = False

        def stop() -> None:
            self._late = True
            for each in self._started:
                each.kill()

        watchdog = threading.Timer(PATIENCE, stop)
        watchdog.start()
        try:
            yield
        finally:
            watchdog.cancel()
            watchdog.join()

    def _line(self) -> str:
        loading = self._started[1]
        line = loading.stdout.readline().strip()
        if not line:
            late = f'stopped after {PATIENCE} s' if self._late else 'it failed'
            raise Failed(loading.communicate()[1].strip() or late)
        return line

    def _go_on(self) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has failed, and what it says of that is read next
            self._started[1].stdin.write('\n')
            self._started[1].stdin.flush()

    def measure(self) -> dict[str, Any]:
        """What the server took and did in one run of the generator, on the connections that it has.

        The generator's report with, for each message, `cpu_us`, `user_us` and `system_us`; `per_second`; `memory`; and
        `own_s`, the CPU time of server and generator.
        """
        with self._patience():
            before = [cpu_time(each.pid) for each in self._started]
            self._go_on()
            report = json.loads(self._line())
            cpu, generators = (cpu_time(each.pid).since(then) for each, then in zip(self._started, before, strict=True))
        messages = report['messages']
        if not messages:
            raise Failed('not one message came back')
        return {
            'cpu_us': cpu.total / messages * 1e6,
            'user_us': cpu.user / messages * 1e6,
            'system_us': cpu.system / messages * 1e6,
            'per_second': messages / report['seconds'],
            'memory': self.memory,
            'own_s': cpu.total + generators.total,
            **report,
        }

    def close(self) -> None:
        # The server comes last, and ends when its stdin does.
        while self._started:
            each = self._started.pop()
            with contextlib.suppress(BrokenPipeError):
                each.stdin.close()
            try:
                each.wait(5)
            except subprocess.TimeoutExpired:
                each.kill()
                each.wait()
            if not each.stdout.closed:
                self.told = each.stdout.read()
                each.stdout.close()
            if each.stderr:
                each.stderr.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def under_load(*arguments: Any) -> tuple[dict[str, Any], str]:
    """One measurement of a `Load` of its own, and what its server told."""
    with Load(*arguments) as load:
        measured = load.measure()
    return measured, load.told
