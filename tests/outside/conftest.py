"""Well-known programs and packages of others at the other end: what is not installed is skipped, and says so."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
import sock.testing
from support import OTHERS, serving, short_folder

from .servers import Nginx, needed

HERE = Path(__file__).parent

#: Where servers are on Debian, whoever runs the tests.
SEARCHED = os.pathsep.join([os.environ.get('PATH', os.defpath), '/usr/sbin', '/sbin'])


def pytest_addoption(parser):
    parser.addoption('--chaos', type=int, metavar='SEED', help='run each test under sock.testing.chaos, with that seed')


@pytest.fixture(autouse=True)
def chaos(request):
    # Where the whole suite is run, this file comes too late to add an option.
    seed = request.config.getoption('--chaos', None)
    with contextlib.nullcontext() if seed is None else sock.testing.chaos(seed):
        yield


@pytest.fixture(scope='session')
def program():
    """Gives a program's path by its name: ``program('curl')``."""

    def path(name):
        found = shutil.which(name, path=SEARCHED)
        if found is None:
            pytest.skip(f'{name} is not installed: make outside installs it')
        return found

    return path


@pytest.fixture
def package():
    """Imports a package of PyPI by its name: ``package('hiredis')``."""
    return needed


@pytest.fixture
def report(program):
    """Runs a program to its end, which has to be a good one; gives what it printed: ``report('curl', url)``."""

    def run(name, *args, **options):
        command = [program(name), *map(str, args)]
        options = {'env': OTHERS, **options}
        done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False, **options)
        assert done.returncode == 0, f'{done.returncode}: {done.stdout}{done.stderr}'
        return done.stdout

    return run


@pytest.fixture
def counting():
    """Runs a server, whose connections have to end by themselves; gives its `port`, and at its end its `counts`.

    Those are of its connections, by counted.py, and `own` has what the server itself printed at its end.
    """

    @contextlib.contextmanager
    def run(*command):
        with serving(HERE / 'counted.py', *command, interrupt=False) as server:
            yield server
        *own, counts = map(json.loads, server.printed.splitlines())
        server.own, server.counts = own, counts

    return run


@pytest.fixture
def free_port():
    """A port of 127.0.0.1 that a server may listen on which reuses addresses, as all of them do; kept free for it."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(('127.0.0.1', 0))
        yield s.getsockname()[1]


@pytest.fixture(scope='session')
def nginx(program, certificate):
    with short_folder() as folder, Nginx.started(program('nginx'), folder, certificate) as server:
        yield server
