"""The examples in the README and in the docstrings run as they stand."""

import ast
import doctest
import functools
import itertools
import os
import re
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import sock
import sock.testing
import wine
from scenarios import conftest as scenarios
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
        until = time.monotonic() + 30
        while time.monotonic() < until:
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


def test_workflows_call_commands_that_are_there_and_pin_each_action_once():
    targets = set(re.findall(r'^([a-z-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE))
    folder = ROOT / '.github' / 'workflows'
    # A source distribution has no workflows.
    text = ''.join(path.read_text() for path in folder.glob('*.yml')) if folder.exists() else ''
    words = {word for line in re.findall(r'- run: make (.*)', text) for word in line.split()}
    commands = {word for word in words if re.fullmatch('[a-z-]+', word)}
    assert commands <= targets
    assert bool(commands) == folder.exists()
    local = re.findall(r'uses: \$/(\S+)\n', text)
    assert all((ROOT / name).exists() for name in local)
    pins = re.findall(r'uses: (\S+)@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)\n', text)
    assert len(pins) + len(local) == text.count('uses:')
    assert len(set(pins)) == len({action for action, _, _ in pins})


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
EXAMPLES = re.findall(r'```python\n(.*?)```', REFERENCE, re.DOTALL)
SHARED = [example for example in EXAMPLES if example.startswith('# for the examples below\n')]


class Seen(ast.NodeTransformer):
    """Notes each assertion that was reached, since one that was not shows nothing."""

    def visit_Assert(self, node):
        return [node, *ast.parse(f'_seen.add({node.lineno})').body]


@pytest.mark.parametrize('example', [each for each in EXAMPLES if each not in SHARED])
def test_examples_of_the_reference(example):
    names = {'sock': sock, '_seen': set()}
    exec(''.join(SHARED), names)
    plain = example.startswith('# outside of any thread\n')
    tree = ast.parse(example if plain else 'async def main():\n' + textwrap.indent(example, '    '))
    asserted = {node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)}
    exec(compile(ast.fix_missing_locations(Seen().visit(tree)), 'example', 'exec'), names)
    if not plain:
        thread = sock.newthread(names['main'])
        assert sock.start(20)
        thread.result()
    for_root = 'geteuid' in example and not (hasattr(os, 'geteuid') and os.geteuid() == 0)
    for_unix = "!= 'win32'" in example and sys.platform == 'win32'
    if not (for_root or for_unix):
        assert names['_seen'] == asserted


#: Where the reference has what a class has.
SECTIONS = {
    sock.AddrInfo: ['Addresses'],
    sock.SockAddr: ['Addresses'],
    sock.TCP: ['Sockets', 'TCP'],
    sock.UDP: ['Sockets', 'UDP and raw'],
    sock.Raw: ['Sockets', 'UDP and raw'],
    sock.Stats: ['Sockets'],
    sock.Thread: ['Threads', 'What is new'],
    sock.Poller: ['Running'],
    sock.Error: ['Errors'],
    sock.Group: ['What is new'],
    sock.Lock: ['What is new'],
    sock.Semaphore: ['What is new'],
    sock.Event: ['What is new'],
    sock.Condition: ['What is new'],
    sock.Queue: ['What is new'],
    sock.SleepJob: ['What is new'],
    sock.Timer: ['What is new'],
    sock.Watchdog: ['What is new'],
}


def section(title):
    return re.search(rf'^## {title}\n(.*?)(?=^## |\Z)', REFERENCE, re.DOTALL | re.MULTILINE)[1]


@pytest.mark.parametrize('name', sock.__all__)
def test_reference_has_every_public_name(name):
    assert re.search(rf'\bsock\.{name}\b|`{name}`', REFERENCE)


@pytest.mark.parametrize('owner', SECTIONS, ids=lambda owner: owner.__name__)
def test_reference_has_what_each_class_has(owner):
    text = ''.join(map(section, SECTIONS[owner]))
    prose = re.sub(r'```.*?```', '', text, flags=re.DOTALL)
    described = set(re.findall(r'\w+', ' '.join(re.findall(r'`[^`]+`', prose))))
    inherited = {*dir(OSError), *dir(tuple)}
    own = {name for name in dir(owner) if not name.startswith('_')} - inherited
    assert own
    assert own <= described


def test_reference_has_every_class_with_attributes():
    classes = {name for name in sock.__all__ if isinstance(getattr(sock, name), type)}
    errors = {name for name in classes if issubclass(getattr(sock, name), BaseException)}
    assert classes - errors - {'deadline'} == {owner.__name__ for owner in SECTIONS if owner is not sock.Error}


def test_reference_has_every_error_with_its_name():
    errors = {
        name for name in sock.__all__ if isinstance(each := getattr(sock, name), type) and issubclass(each, sock.Error)
    }
    rows = re.findall(r'^\| `(\w+)` \| `(\w+)` \| ([\w.]*)', section('Errors'), re.M)
    assert sorted(errors) == sorted(name for name, _, _ in rows)
    for name, err, builtin in rows:
        error = getattr(sock, name)
        assert error.err == err
        others = [each for each in error.__bases__ if not issubclass(each, sock.Error) and error is not sock.Error]
        assert [each.__name__ for each in others] == ([builtin.removeprefix('socket.')] if builtin else [])


def test_each_entry_of_the_table_has_its_section():
    headings = ' '.join(re.findall(r'^### (.*)', REFERENCE, re.M))
    for row in re.findall(r'^\| `.*', section("The manual's entries"), re.M):
        here = row.split(' | ')[1]
        for name in re.findall(r'`(?:await )?((?:\w+\.)?\w+)\(', here):
            if name not in ('iter', 'len', 'str'):
                assert re.search(rf'\b{name.split(".")[-1]}\b', headings), name


#: What the manual's own table has, in its order.
ENTRIES = """
    socket.addr ai:free ai:next ai:addrs ai:type ai:family ai:protocol ai:name ai:tostring
    socket.tcp socket.udp socket.raw s:type s:family s:protocol s:close s:bind s:setopt s:getopt
    tcp:listen tcp:connect tcp:accept tcp:send tcp:recv tcp:shutdown udp:send udp:recv
    socket.newthread socket.poll socket.start socket.stop socket.sleep_until socket.sleep socket.iocp socket.epoll_fd
""".split()  # noqa: SIM905


def entries():
    """The rows of the table: there, here, shown by. A vertical bar within a cell has a backslash before it."""
    rows = re.findall(r'^\| (`.*|\w.*) \|$', section("The manual's entries"), re.M)
    return [re.split(r'(?<!\\) \| ', row) for row in rows if not row.startswith('there ')]


def test_table_has_each_entry_of_the_manual_once_and_no_other():
    rows = entries()
    assert [len(row) for row in rows] == [3] * len(rows)
    assert [name for there, _, _ in rows for name in re.findall(r'\w+[.:]\w+(?=\()', there)] == ENTRIES


def test_each_row_of_the_table_says_what_is_here_and_names_a_test_that_is_there():
    there = defined_tests()
    for manual, here, shown_by in entries():
        assert re.search(r'`[^`]*\w', here), manual
        assert re.fullmatch(r'`test_\w+`(, `test_\w+`)*', shown_by), manual
        assert set(re.findall(r'\w+', shown_by)) <= there, manual


def defined_tests():
    """The names of all tests."""
    return set(
        re.findall(r'^def (test_\w+)', ''.join(p.read_text() for p in Path(__file__).parent.rglob('*.py')), re.M)
    )


def test_reference_names_tests_that_are_there():
    named = re.findall(r'`(test_\w+)`', REFERENCE)
    assert len(named) > 25
    assert set(named) <= defined_tests()


def test_reliability_names_the_tests_of_all_80_scenarios():
    rows = re.findall(r'^\| (\d+) \| .* \| (.*) \|$', (ROOT / 'docs' / 'reliability.md').read_text(), re.M)
    assert [int(number) for number, _ in rows] == list(range(1, 81))
    named = {(int(number), test) for number, tests in rows for test in re.findall(r'`(test_s\d+_\w+)`', tests)}
    others = {test for _, tests in rows for test in re.findall(r'`(test_(?!s\d+_)\w+)`', tests)}
    assert others <= defined_tests()
    # What a virtual clock makes of a scenario is shown by the tests of the clock.
    assert {test for test in defined_tests() if test.startswith('test_deadlock_')} <= others
    there = {
        (int(number), test)
        for path in (Path(__file__).parent / 'scenarios').glob('test_*.py')
        for test, number in re.findall(r'^def (test_s(\d+)_\w+)', path.read_text(), re.M)
    }
    assert named == there
    assert {number for number, _ in named} == set(range(1, 81)), 'a scenario without a test'


def words_of(text):
    return set(re.findall(r"[\w'-]+(?:\.\w+)*", text.replace('`', ' ').lower()))


def scenario_rows():
    """Of each scenario: its number; what happens, and what is expected."""
    text = (ROOT / 'docs' / 'reliability.md').read_text()
    rows = re.findall(r'^\| (\d+) \| (.*) \| (.*) \| .* \|$', text, re.M)
    return [(int(number), f'{happens} {expected}') for number, happens, expected in rows]


@functools.cache
def scenario_docstrings():
    """The words of the docstrings of each scenario's tests, together."""
    words = {}
    for path in (Path(__file__).parent / 'scenarios').glob('test_*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and (found := re.match(r'test_s(\d+)_', node.name)):
                docstring = ast.get_docstring(node) or ''
                assert re.match(rf'Scenario {int(found[1])}: ', docstring), node.name
                words.setdefault(int(found[1]), set()).update(words_of(docstring))
    return words


@pytest.mark.parametrize(('number', 'row'), scenario_rows(), ids=lambda part: part if isinstance(part, int) else '')
def test_docstrings_of_a_scenario_have_each_word_of_its_row(number, row):
    assert words_of(row) - scenario_docstrings()[number] == set()


def test_skips_for_the_lack_of_a_program_are_those_that_may_not_be_where_all_are_installed():
    tests = [path for path in Path(__file__).parent.rglob('*.py') if path != Path(__file__)]
    found = [each for path in tests for each in re.findall(r'which\([^)]*\)+ is None.{0,200}', path.read_text(), re.S)]
    assert len(found) >= 6
    for each in found:
        assert 'not installed' in each


SCENARIO = """
import pytest
import sock

both = pytest.mark.not_under('chaos', 'virtual-clock', 'for a reason')


async def value():
    return 1


def test_run(run):
    assert run(value) == 1


@pytest.mark.not_under('virtual-clock', 'for a reason')
def test_amid(amid):
    assert sock.run(value) == 1


@both
def test_neither():
    pass
"""


@pytest.mark.parametrize(
    ('mark', 'complaint'),
    [
        ('', 'no `not_under` says why it does not run under chaos and virtual-clock'),
        (
            "@pytest.mark.not_under('chaos', 'for a reason')",
            'no `not_under` says why it does not run under virtual-clock',
        ),
        ("@pytest.mark.not_under('chaos', 'virtual-clock')", 'not_under says why'),
        ("@pytest.mark.not_under('storm', 'for a reason')", 'ways are'),
        ('@both', None),
    ],
)
def test_scenarios_run_in_each_way_or_say_why_not(tmp_path, mark, complaint):
    (tmp_path / 'pytest.ini').write_text('[pytest]\nmarkers =\n    not_under: ...\n')
    (tmp_path / 'test_it.py').write_text(f'{SCENARIO}\n\n{mark}\ndef test_other():\n    pass\n')
    command = [sys.executable, '-m', 'pytest', '-p', 'no:cacheprovider', '-p', 'scenarios.conftest', '-v', tmp_path]
    environment = {**os.environ, 'PYTHONPATH': str(Path(__file__).parent)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, cwd=tmp_path, env=environment)
    if complaint is not None:
        assert done.returncode == 2, done.stdout
        assert complaint in done.stdout
        return
    assert done.returncode == 0, done.stdout
    assert re.findall(r'::test_(\S+) PASSED', done.stdout) == [
        *(f'run[{way}]' for way in ('1-os-thread', '3-os-threads', 'chaos', 'virtual-clock')),
        *(f'amid[{way}]' for way in ('plain', 'chaos')),
        'neither',
        'other',
    ]


def test_chaos_of_a_scenario_is_its_own_and_another_with_another_seed(monkeypatch):
    monkeypatch.delenv(scenarios.SEED, raising=False)
    first = scenarios.seed_of('test_one'), scenarios.seed_of('test_other')
    assert first == (scenarios.seed_of('test_one'), scenarios.seed_of('test_other'))
    monkeypatch.setenv(scenarios.SEED, '1')
    assert len({*first, scenarios.seed_of('test_one'), scenarios.seed_of('test_other')}) == 4
    assert scenarios.SEED in (ROOT / 'CONTRIBUTING.md').read_text()


def test_tests_that_fail_for_wine_are_there():
    for name in itertools.chain.from_iterable(wine.TESTS.values()):
        module, _, test = name.partition('::')
        assert f'def {test.partition("[")[0]}(' in (ROOT / 'tests' / module).read_text(encoding='utf-8')


def test_docs_name_what_there_is():
    """Each `sock.name` in the docs is a public name."""
    for page in ('reference.md', 'coming-from.md', 'options.md'):
        for name in re.findall(r'\bsock\.(\w+)', (ROOT / 'docs' / page).read_text()):
            assert hasattr(sock, name), f'{page}: sock.{name}'


def test_reference_has_every_name_of_testing():
    for name in sock.testing.__all__:
        value = getattr(sock.testing, name)
        assert value.__doc__, name
        if not isinstance(value, type) or issubclass(value, Exception):
            assert f'sock.testing.{name}' in section('Testing')
        for attribute in vars(value) if isinstance(value, type) else ():
            if not attribute.startswith('_'):
                assert attribute in section('Testing')


def test_every_public_name_has_a_docstring():
    for name in sock.__all__:
        # The fixture of all tests has put another hook in its place.
        value = _scheduler.excepthook if name == 'excepthook' else getattr(sock, name)
        assert value.__doc__, name
