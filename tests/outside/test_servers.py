"""Servers of others go with the tests that started them."""

import contextlib
import socket
import subprocess
import sys
import textwrap

import pytest
from support import LINUX, TESTS, mortal

from .servers import PATIENCE


@pytest.mark.skipif(not LINUX, reason='other systems do not tell a program that its parent has ended')
def test_server_does_not_outlive_tests_that_are_killed(tmp_path):
    if mortal([]) == []:
        pytest.skip('needs setpriv, of util-linux')
    server = """
        import socket, sys

        connections = []
        with socket.create_server(('127.0.0.1', int(sys.argv[1]))) as listener:
            while True:
                connections.append(listener.accept())
    """
    tests = """
        import sys
        from pathlib import Path

        sys.path.append(sys.argv[1])
        from outside.servers import running, unused_port

        port = unused_port()
        with running([sys.executable, '-c', sys.argv[2], port], port, Path(sys.argv[3])):
            print(port, flush=True)
            sys.stdin.read()
    """
    command = [sys.executable, '-c', textwrap.dedent(tests), str(TESTS), textwrap.dedent(server), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        port = int(process.stdout.readline())
        with socket.create_connection(('127.0.0.1', port), PATIENCE) as connection:
            process.kill()
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(1) == b''
