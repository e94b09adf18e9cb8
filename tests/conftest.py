"""What every test gets: a watchdog, and a look at what it left behind (descriptors, OS threads, threads, reports)."""

import faulthandler
import gc
import os
import socket
import sys
import threading

import pytest
import sock

#: Seconds a test may take before the whole run is ended with a traceback of each OS thread.
WATCHDOG = 60

#: Seconds that stdlib sockets wait.
PATIENCE = 10


def open_descriptors():
    # On Windows they are no files: what is left open is told by a ResourceWarning.
    for folder in ('/proc/self/fd', '/dev/fd'):
        if sys.platform != 'win32' and os.path.isdir(folder):
            found = {}
            for name in os.listdir(folder):
                try:
                    found[int(name)] = os.readlink(f'{folder}/{name}')
                except OSError:
                    # The descriptor of the listing itself.
                    continue
            return found
    return {}


def os_threads():
    # Look-ups and offloaded calls run in worker threads that live on for a while.
    workers = ('sock resolver', 'sock offload')
    return {thread for thread in threading.enumerate() if not thread.name.startswith(workers)}


@pytest.fixture(autouse=True)
def watchdog():
    faulthandler.dump_traceback_later(WATCHDOG, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def reported(monkeypatch):
    """What ``sock.excepthook`` was called with; a test without this fixture fails if it is called at all."""
    reports = []
    monkeypatch.setattr(sock, 'excepthook', lambda thread, exc: reports.append((thread, exc)))
    return reports


@pytest.fixture(autouse=True)
def leaves_nothing_behind():
    # Not by `monkeypatch`, which pytest-run-parallel takes for unsafe: `reported` comes later, and goes before.
    unexpected, hook = [], sock.excepthook
    sock.excepthook = lambda thread, exc: unexpected.append((thread.name, repr(exc)))
    # The poller of this OS thread stays.
    sock.poller()
    gc.collect()
    descriptors, threads = open_descriptors(), os_threads()
    yield
    gc.collect()
    sock.excepthook = hook
    assert not unexpected, 'exceptions that nobody awaited'
    assert sock.threads() == [], 'threads left'
    assert os_threads() <= threads, 'OS threads left'
    assert open_descriptors().keys() <= descriptors.keys(), 'descriptors left'


@pytest.fixture
def peer():
    """A connection over loopback: (sock.TCP, stdlib socket)."""
    with socket.create_server(('127.0.0.1', 0)) as listener:
        other = socket.create_connection(listener.getsockname(), PATIENCE)
        accepted, _ = listener.accept()
    conn = sock.fromsocket(accepted)
    with other, conn:
        yield conn, other
