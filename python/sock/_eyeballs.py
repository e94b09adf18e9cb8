"""Connecting to a name that has addresses of both families: RFC 8305, "happy eyeballs".

The addresses are tried in the OS's order of preference (RFC 6724), the families in turn; the next one begins when the
one before has failed, or after 250 ms without an answer. The first connection wins and the others are closed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

from . import _errors, _sock
from ._scheduler import Thread, clock, newthread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._sockets import TCP

#: Seconds after which the next address is tried beside the ones before: RFC 8305, section 5.
DELAY = 0.25


def in_turn(addresses: Iterable[_sock.SockAddr]) -> list[_sock.SockAddr]:
    """The addresses with their families in turn, each in its order, beginning with the first one's."""
    families: dict[str, list[_sock.SockAddr]] = {}
    for address in addresses:
        families.setdefault(address.family, []).append(address)
    rounds = itertools.zip_longest(*families.values())
    return [address for each in rounds for address in each if address is not None]


class Race:
    """Several addresses, one connection: ``socket`` becomes the first one that is made."""

    def __init__(self, socket: TCP, addresses: Iterable[_sock.SockAddr], make: Callable[[str], TCP]) -> None:
        self.socket = socket
        self.addresses = in_turn(addresses)
        self.make = make
        self.attempts: list[Thread] = []
        self.errors: list[tuple[_sock.SockAddr, _errors.Error]] = []
        self.won = False
        #: No attempt begins any more: one has won, or nobody waits for it.
        self.over = False
        #: Woken by an attempt that failed: the next one begins.
        self.failed: _sock.Wait | None = None

    async def run(self, expires: float | None) -> None:
        """Until one has won; else raises the last error, with all addresses in its message."""
        starter = newthread(self._start(), name='connect')
        try:
            while not self.won and len(self.errors) < len(self.addresses):
                await self.socket._hold(False, expires)
        except _errors.Timeout as late:
            _errors.advise(late, f'tried {", ".join(map(str, self.addresses))}')
            raise
        finally:
            # Who was woken before it is cancelled runs on to its next wait.
            self.over = True
            starter.cancel()
            for attempt in self.attempts:
                attempt.cancel()
        if not self.won:
            _, error = self.errors[-1]
            tried = ', '.join(f'{address} ({each.err})' for address, each in self.errors)
            message = error.message if len(self.errors) == 1 else f'{error.message}; tried {tried}'
            raise type(error)(message, errno=error.errno) from None
        # What waits to write finds it ready.
        self.socket._nudge()

    async def _start(self) -> None:
        for address in self.addresses:
            self.failed = failed = _sock.Wait('an address to answer', clock() + DELAY)
            attempt = newthread(self._attempt(address), name=f'connect {address}')
            self.attempts.append(attempt)
            if not self.over:
                try:
                    await failed
                except _errors.Timeout:
                    pass
            if self.over:
                attempt.cancel()
                return

    async def _attempt(self, address: _sock.SockAddr) -> None:
        try:
            with self.make(address.family) as candidate:
                await candidate._connect(address)
                if not self.over:
                    self.won = self.over = self.socket._become(candidate)
        except _errors.Error as error:
            self.errors.append((address, error))
        self.socket._nudge()
        if self.failed is not None:
            self.failed.wake()
