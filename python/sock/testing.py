"""For tests of programs that use ``sock``: a clock that jumps ahead, and trouble made on purpose.

Both are of the whole process, also at once, and cost nothing while they are not used. Nothing imports this module but
you: ``import sock.testing``.
"""

from __future__ import annotations

import contextlib
import io
import random
import threading
import time
from collections.abc import Iterator

from . import _addrinfo, _inspect, _scheduler, _sock, _sync, _workers

__all__ = ['Chaos', 'Deadlock', 'VirtualClock', 'chaos', 'virtual_clock']

#: On the poller's clock: no deadline.
_NEVER = 2**64 - 1

#: Seconds, some thirty years: well within what that clock counts.
_FARTHEST = 1e9


class Deadlock(RuntimeError):
    """Under a virtual clock: all threads wait, and nothing is left that could wake one of them.

    ``dump``: what each waits for, and where, as ``sock.dump`` prints it; also part of the message.
    """

    def __init__(self, message: str, dump: str = '') -> None:
        super().__init__(message, dump)
        self.message = message
        self.dump = dump

    def __str__(self) -> str:
        return f'{self.message}\n{self.dump}' if self.dump else self.message


class VirtualClock:
    """What ``virtual_clock`` gives."""

    __slots__ = ('_grace', '_guard', '_now', '_quiet', '_turns')

    def __init__(self, grace: float) -> None:
        self._grace = grace
        # Guards the rest: several loops may find at once that nothing is left to do. Reentrant, as signal handlers may
        # advance the clock.
        self._guard = threading.RLock()
        self._now = 0
        #: How many turns all loops had given, and since when, in real time, there have been no more.
        self._turns = -1
        self._quiet = 0.0

    def __repr__(self) -> str:
        return f'<sock.testing.VirtualClock {self.now}>'

    @property
    def now(self) -> float:
        """The same as ``sock.clock()``."""
        return self._now / 1e9

    def advance(self, s: float) -> None:
        """Puts the clock ``s`` seconds ahead at once, from anywhere; what is due then runs when a loop comes to it."""
        s = _sock.seconds(s, 'advance takes seconds')
        if not 0 <= s <= _FARTHEST:
            raise ValueError(f'advance takes 0 to {_FARTHEST:.0e} seconds, not {s}')
        with self._guard:
            self._set(self._now + round(s * 1e9))

    def _set(self, now: int) -> None:
        self._now = now
        if _clock is self:
            _sock.set_clock(now)
            for poller in _scheduler._all_pollers():
                poller._clock_was_set()

    def _idle(self) -> float:
        """A loop has found nothing to do. Jumps, or says for how many seconds, of real time, to wait for the world."""
        with self._guard:
            loops = list(_scheduler._loops.values())
            pollers = {id(poller): poller for poller, _ in loops}.values()
            running = not all(thread._waits for poller in pollers for thread in _scheduler.threads(poller))
            if running or _workers._offload.awaited or _addrinfo._resolvers.awaited:
                self._turns = -1
                return self._grace
            sockets = any(poller._waits_for_sockets() for poller in pollers)
            due = min([_NEVER, *(poller._next_due() for poller in pollers), *(turns.until for _, turns in loops)])
            if (sockets or due == _NEVER) and (left := self._unseen(sum(turns.given for _, turns in loops))) > 0:
                return left
            if due < _NEVER:
                self._turns = -1
                self._set(max(self._now, due))
                return 0
            if sockets:
                return 1
            raise _deadlock()

    def _unseen(self, turns: int) -> float:
        """For how long, in real time, something may still be on its way that we do not see."""
        now = time.monotonic()
        if turns != self._turns:
            self._turns, self._quiet = turns, now
        return self._quiet + self._grace - now


#: The one that is used now.
_clock: VirtualClock | None = None


def _idle() -> float:
    clock = _clock
    return 0 if clock is None else clock._idle()


def _deadlock() -> Deadlock:
    out = io.StringIO()
    _inspect.dump(out)
    return Deadlock('all threads wait, and no socket, deadline or call can wake any of them', out.getvalue())


@contextlib.contextmanager
def virtual_clock(*, grace: float = 0.01) -> Iterator[VirtualClock]:
    """A clock that stands still while anything runs, and jumps to the next deadline when all threads wait.

    ``with sock.testing.virtual_clock() as clock:`` ``sock.clock()``, sleeps, timers and every ``expires`` go by it, so
    that hours pass in no time and each sleep takes exactly as long as it should.

    What the clock does not see gets time to happen: while a thread waits for a socket, it jumps only when nothing has
    come for ``grace`` seconds of real time; while one awaits ``offload`` or a look-up, not at all. Where all wait and
    nothing is left that could wake one, no deadline, socket or call, ``run`` and ``start`` raise ``Deadlock``, after
    ``grace`` too: a plain OS thread, or a signal handler, counts for nothing after that.

    It is of the whole process: all pollers, and all OS threads. At the end the clock is the OS's again, which is
    behind: nothing that was set inside should be left.
    """
    global _clock
    if not isinstance(grace, (int, float)):
        raise TypeError(f'grace must be seconds, not {type(grace).__name__}')
    if not 0 <= grace <= 3600:
        raise ValueError(f'grace must be 0 to 3600 seconds, not {grace}')
    if _clock is not None:
        raise RuntimeError('there is a virtual clock already, for the whole process: leave its block first')
    _clock = clock = VirtualClock(grace)
    try:
        clock._set(round(_sock.clock() * 1e9))
        yield clock
    finally:
        _clock = None
        _sock.set_clock(None)
        for poller in _scheduler._all_pollers():
            poller._clock_was_set()


class Chaos:
    """What ``chaos`` gives: ``seed``, which makes the same trouble again."""

    __slots__ = ('seed',)

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __repr__(self) -> str:
        return f'<sock.testing.Chaos seed={self.seed}>'


@contextlib.contextmanager
def chaos(seed: int | None = None) -> Iterator[Chaos]:
    """Trouble that a program must bear, made on purpose, over real sockets.

    ``with sock.testing.chaos(seed=1):`` reads and writes of streams move a part, often one byte; threads are woken for
    nothing; an ``await`` that need not wait lets others run first, once or several times; one of a socket begins, or
    goes on, up to 4 ms late; events come in another order; with several OS threads a thread goes on in another one more
    often. What is promised stays: ``send`` sends all, ``recvn`` receives all, datagrams are whole, locks and queues are
    fair, ``newthread`` and ``resume`` run at once; and nothing is late beyond its deadline: what is there by then is
    received.

    Without a ``seed`` it takes one, which an exception that leaves the block tells in a note. What happens to a thread
    depends on the seed, on how many threads were made before it and on what it does alone, not on the others: with one
    OS thread, peers in the same process and ``virtual_clock``, by which those delays go too, runs are the same;
    otherwise they are as far as the OS and the time make them so.
    """
    if seed is None:
        seed = random.SystemRandom().randrange(2**32)
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise TypeError(f'seed must be an int or None, not {type(seed).__name__}')
    if not _sock.begin_chaos(seed % 2**64):
        raise RuntimeError('there is chaos already, in the whole process: leave its block first')
    budget, _sync._BUDGET = _sync._BUDGET, 2
    try:
        yield Chaos(seed)
    except BaseException as exc:
        exc.add_note(f'under sock.testing.chaos(seed={seed})')
        raise
    finally:
        _sync._BUDGET = budget
        _sock.end_chaos()
