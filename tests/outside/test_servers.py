"""Servers of others go with the tests that started them; programs that are not there are told of."""

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import sys
import textwrap

import pytest
from support import LINUX, TESTS, certify, mortal

from . import servers
from .servers import PATIENCE, candidates, needed, unused_ports


def test_ports_are_none_that_the_system_gives_away():
    among = set(candidates())
    with socket.socket() as s, socket.socket(type=socket.SOCK_DGRAM) as u:
        for each in (s, u):
            each.bind(('127.0.0.1', 0))
            assert each.getsockname()[1] not in among
    with unused_ports(3) as ports:
        assert len(set(ports)) == 3
        assert set(ports) <= among


@pytest.mark.skipif(not LINUX, reason='other systems have no names that go with a descriptor')
def test_port_that_others_have_or_have_chosen_is_passed_over(monkeypatch):
    with unused_ports(4) as ports:
        chosen, listened, bound, free = ports
    monkeypatch.setattr(servers, 'candidates', lambda: ports)
    with unused_ports() as first, contextlib.ExitStack() as stack:
        assert first == [chosen]
        listener = stack.enter_context(socket.create_server(('127.0.0.1', listened)))
        user = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        user.bind(('127.0.0.1', bound))
        with unused_ports() as second:
            assert second == [free]
        assert listener.getsockname()[1] == listened
    with unused_ports(4) as again:
        assert again == ports


@pytest.mark.skipif(not LINUX, reason='other systems do not tell a program that its parent has ended')
def test_server_does_not_outlive_tests_that_are_killed(tmp_path):
    if mortal([]) == []:
        pytest.skip('setpriv, of util-linux, is not installed')
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
        from outside.servers import running, unused_ports

        with unused_ports() as (port,), running([sys.executable, '-c', sys.argv[2], port], port, Path(sys.argv[3])):
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


@pytest.mark.parametrize('maker', ['openssl', 'trustme'])
def test_certificate_is_trusted_by_each_of_its_names_and_no_other(tmp_path, maker):
    if maker == 'trustme':
        needed('trustme')
    elif shutil.which('openssl') is None:
        pytest.skip('openssl is not installed')
    certificate, key = certify(tmp_path, openssl=maker == 'openssl')
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    client = ssl.create_default_context(cafile=certificate)

    def handshake(name):
        there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
        ends = [client.wrap_bio(back, there, server_hostname=name), server.wrap_bio(there, back, server_side=True)]
        while ends:
            end = ends.pop(0)
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                ends.append(end)

    for name in ('localhost', '127.0.0.1', '::1'):
        handshake(name)
    with pytest.raises(ssl.SSLCertVerificationError, match='not valid for'):
        handshake('example.org')


@pytest.mark.skipif(not LINUX, reason='programs are installed by us on Linux alone')
@pytest.mark.parametrize('installed', [False, True])
def test_skip_for_lack_of_a_program_is_a_failure_where_all_were_installed(installed):
    skipped = f'{TESTS}/outside/test_iperf3.py::test_iperf3_gets_through_the_proxy_what_it_sends[up-1]'
    environment = {name: value for name, value in os.environ.items() if name != 'PROGRAMS_INSTALLED'}
    environment |= {'PATH': os.devnull} | ({'PROGRAMS_INSTALLED': '1'} if installed else {})
    command = [sys.executable, '-m', 'pytest', '-p', 'no:cacheprovider', skipped]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=50, check=False)
    assert done.returncode == installed, done.stdout + done.stderr
    assert '1 skipped' in done.stdout
    assert ('FAILED, since all programs were to be installed: iperf3 is not installed' in done.stdout) == installed
