"""The examples in the README and in the docstrings run as they stand."""

import doctest
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import sock
from sock import _addrinfo, _errors, _scheduler, _sockets, _sync, _timers, _workers

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    'module', [sock, _addrinfo, _errors, _scheduler, _sockets, _sync, _timers, _workers, sock.SockAddr]
)
def test_docstring_examples(module):
    finder = doctest.DocTestFinder(exclude_empty=True)
    tests = finder.find(module, module.__name__, module=sock, globs={'sock': sock, **vars(sock), **vars(_errors)})
    runner = doctest.DocTestRunner()
    for test in tests:
        runner.run(test)
    assert runner.failures == 0


def test_there_are_docstring_examples():
    found = doctest.DocTestFinder().find(sock.SockAddr, 'SockAddr', module=sock, globs={})
    assert any(test.examples for test in found)


def test_readme_server_and_client_talk():
    server_code, client_code = re.findall(r'```python\n(.*?)```', (ROOT / 'README.md').read_text(), re.DOTALL)
    with socket.create_server(('127.0.0.1', 0)) as s:
        port = str(s.getsockname()[1])
    assert '7000' in server_code
    assert '7000' in client_code
    server = subprocess.Popen([sys.executable, '-c', server_code.replace('7000', port)])
    try:
        # Until it listens.
        for _ in range(1000):
            try:
                socket.create_connection(('127.0.0.1', int(port)), 10).close()
                break
            except ConnectionRefusedError:
                assert server.poll() is None
        client = subprocess.run(
            [sys.executable, '-c', client_code.replace('7000', port)], capture_output=True, text=True, timeout=30
        )
    finally:
        server.terminate()
        server.wait()
    assert (client.stdout, client.stderr) == ("b'hello'\n", '')


def test_readme_names_commands_that_are_there():
    makefile = (ROOT / 'Makefile').read_text()
    for command in re.findall(r'`?make ([a-z-]+)', (ROOT / 'README.md').read_text()):
        assert re.search(rf'^{command}:', makefile, re.MULTILINE), command


def test_public_names_are_those_of_the_package():
    public = {name for name in vars(sock) if not name.startswith('_')}
    modules = {name for name in public if isinstance(getattr(sock, name), type(sys))}
    assert public - modules == set(sock.__all__)
    assert sorted(set(sock.__all__)) == sorted(sock.__all__)


SCALING = (ROOT / 'docs' / 'scaling.md').read_text()


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='forks, and spreads connections as Linux does')
@pytest.mark.parametrize('example', re.findall(r'```python\n(.*?)```', SCALING, re.DOTALL))
def test_examples_of_scaling(example):
    done = subprocess.run([sys.executable, '-W', 'error', '-c', example], capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr, done.returncode) == ('', '', 0)


REFERENCE = (ROOT / 'docs' / 'reference.md').read_text()


@pytest.mark.parametrize('example', re.findall(r'```python\n(.*?)```', REFERENCE, re.DOTALL))
def test_examples_of_the_reference(example):
    names = {'sock': sock}
    lines = ''.join(f'    {line}\n' if line else '\n' for line in example.splitlines())
    exec(f'async def main():\n{lines}', names)
    thread = sock.newthread(names['main'])
    assert sock.start(20)
    thread.result()


def test_reference_names_tests_that_are_there():
    named = re.findall(r'`(test_\w+)`', REFERENCE)
    assert len(named) > 25
    there = set(
        re.findall(r'^def (test_\w+)', ''.join(p.read_text() for p in Path(__file__).parent.glob('*.py')), re.M)
    )
    assert set(named) <= there


def test_docs_name_what_there_is():
    """Each `sock.name` in the docs is a public name."""
    for page in ('reference.md', 'coming-from.md', 'options.md'):
        for name in re.findall(r'\bsock\.(\w+)', (ROOT / 'docs' / page).read_text()):
            assert hasattr(sock, name), f'{page}: sock.{name}'


def test_every_public_name_has_a_docstring():
    for name in sock.__all__:
        # The fixture of all tests has put another hook in its place.
        value = _scheduler.excepthook if name == 'excepthook' else getattr(sock, name)
        assert value.__doc__, name
