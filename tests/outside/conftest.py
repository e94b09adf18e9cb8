"""Well-known programs and packages of others at the other end: what is not installed is skipped, and says so."""

import os
import shutil

import pytest
from servers import Nginx

#: Where servers are on Debian, whoever runs the tests.
SEARCHED = os.pathsep.join([os.environ.get('PATH', os.defpath), '/usr/sbin', '/sbin'])


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
    return lambda name: pytest.importorskip(name, reason=f'{name} is not installed: make outside installs it')


@pytest.fixture(scope='session')
def nginx(program, certificate, tmp_path_factory):
    with Nginx.started(program('nginx'), tmp_path_factory.mktemp('nginx'), certificate) as server:
        yield server
