"""The poller of an OS thread by the number of the OS's poll, which goes where no object can."""

from __future__ import annotations

from . import _scheduler, _sock
from ._errors import NotSupported


def _by_handle(name: str, poll: str, handle: int | None) -> int:
    if poll != _sock.POLL:
        here = {'epoll': 'epoll_fd', 'kqueue': 'kqueue_fd', 'iocp': 'iocp'}[_sock.POLL]
        raise NotSupported(f'{name}(): this OS polls with {_sock.POLL}: call {here}(), or poller() on any OS')
    if handle is None:
        return _scheduler.poller()._handle
    if not isinstance(handle, int) or isinstance(handle, bool):
        raise TypeError(f'{name} takes the number that {name}() gave elsewhere, not {type(handle).__name__}')
    poller = _scheduler._pollers.get(handle)
    if poller is None:
        raise ValueError(f'{handle} is no live Poller of this process: {name}() gives the number of one')
    return _scheduler.poller(poller)._handle


def epoll_fd(fd: int | None = None) -> int:
    """The calling OS thread's poller as a number (Linux: the descriptor of its epoll); with an argument, sets it first.

    The number is another OS thread's, of this process: both then share the poller. ``poller()`` does the same with the
    object, which also keeps the poller alive; a number does not. ``NotSupported`` where the OS has no epoll,
    ``ValueError`` for a number that is no live Poller's, ``RuntimeError`` while this OS thread polls.
    """
    return _by_handle('epoll_fd', 'epoll', fd)


def kqueue_fd(fd: int | None = None) -> int:
    """As ``epoll_fd``, for macOS and FreeBSD."""
    return _by_handle('kqueue_fd', 'kqueue', fd)


def iocp(handle: int | None = None) -> int:
    """As ``epoll_fd``, for Windows. The number names the poller's port within this process; the OS does not know it."""
    return _by_handle('iocp', 'iocp', handle)
