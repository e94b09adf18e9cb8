"""The tools that build and check: what they say of what they could not do, and what they take for a failure."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import wine
from support import LINUX

ROOT = Path(__file__).parent.parent

HERE = 'corosock-0.1.0-cp313-cp313-manylinux2014_x86_64.whl'
ELSEWHERE = (
    'corosock-0.1.0-cp313-cp313-musllinux_1_2_x86_64.whl',
    'corosock-0.1.0-cp313-cp313-manylinux2014_aarch64.whl',
    'corosock-0.1.0-cp313-cp313-win_amd64.whl',
)


of_linux = pytest.mark.skipif(not LINUX, reason='.ci/run, and what builds a Python, is of Linux')


def tool(name, monkeypatch):
    """A program of tools, as a module."""
    spec = importlib.util.spec_from_file_location(f'{name}_tool', ROOT / 'tools' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """tools/test_wheels.py over a dist of its own, on a Linux machine of x86-64."""
    module = tool('test_wheels', monkeypatch)
    monkeypatch.setattr(module, 'ROOT', tmp_path)
    monkeypatch.setattr(module, 'WORK', tmp_path / 'work')
    monkeypatch.setattr(module, 'audit', lambda wheel: 'yes')
    monkeypatch.setattr(module, 'place', lambda wheel, more: module.Environment('here', sys.executable))
    monkeypatch.setattr(module.platform, 'system', lambda: 'Linux')
    monkeypatch.setattr(module.platform, 'machine', lambda: 'x86_64')
    (tmp_path / 'dist').mkdir()
    for name in (HERE, *ELSEWHERE):
        (tmp_path / 'dist' / name).touch()
    return module


def table_of(module, monkeypatch, *arguments):
    """How its end was, and the rows of its table."""
    monkeypatch.setattr(sys, 'argv', ['test_wheels.py', *arguments])
    end = None
    try:
        module.main()
    except SystemExit as error:
        end = error.code
    rows = (module.WORK / 'results.md').read_text().splitlines()[2:]
    return end, [tuple(cell.strip() for cell in row.strip('|').split('|')) for row in rows]


@pytest.mark.parametrize(
    ('strict', 'untested', 'end'),
    [
        ([], HERE, None),
        (['--strict'], HERE, '1 of 4 failed'),
        *((['--strict'], name, None) for name in ELSEWHERE),
    ],
)
def test_wheel_of_this_system_that_was_not_tested_fails_where_that_is_asked_for(
    wheels, monkeypatch, strict, untested, end
):
    def place(wheel, more):
        if wheel.name == untested:
            raise wheels.Unavailable('nobody is there')
        return wheels.Environment('here', sys.executable)

    monkeypatch.setattr(wheels, 'place', place)
    monkeypatch.setattr(wheels, 'try_out', lambda *_: iter(['echo']))
    got, rows = table_of(wheels, monkeypatch, *strict)
    assert got == end
    (row,) = (row for row in rows if row[0] == untested)
    assert row[2:] == ('not run', 'nobody is there' + '; FAILED: it is for this system, and not tested' * bool(end))


def test_wheel_that_takes_too_long_has_failed_and_the_others_are_in_the_table(wheels, monkeypatch):
    def try_out(wheel, *_):
        yield 'echo'
        if wheel.name == HERE:
            raise subprocess.TimeoutExpired('pytest', 1800)

    monkeypatch.setattr(wheels, 'try_out', try_out)
    end, rows = table_of(wheels, monkeypatch)
    assert end == '1 of 4 failed'
    assert {row[0]: row[3] for row in rows} == dict.fromkeys(ELSEWHERE, 'echo') | {
        HERE: 'echo; FAILED: not done in 1800 s'
    }


def test_table_has_the_rows_so_far_whatever_then_happens(wheels, monkeypatch):
    def try_out(wheel, *_):
        yield 'echo'
        if wheel.name == ELSEWHERE[0]:
            raise KeyboardInterrupt

    monkeypatch.setattr(wheels, 'try_out', try_out)
    with pytest.raises(KeyboardInterrupt):
        table_of(wheels, monkeypatch)
    assert (wheels.WORK / 'results.md').read_text().count('echo') == 2


@pytest.mark.parametrize(
    ('named', 'verdict'),
    [
        (b'WS2_32.dll\0python314t.dll\0', 'yes'),
        (b'WS2_32.dll\0python314.dll\0', 'NO'),
        (b'python314t.dll\0libgcc_s_seh-1.dll\0', 'NO'),
    ],
)
def test_windows_wheel_names_the_dll_of_its_python_and_none_of_the_compiler(
    wheels, monkeypatch, tmp_path, named, verdict
):
    monkeypatch.undo()
    wheel = tmp_path / 'corosock-0.1.0-cp314-cp314t-win_amd64.whl'
    with wheels.zipfile.ZipFile(wheel, 'w') as archive:
        archive.writestr('sock/_sock.cp314t-win_amd64.pyd', b'MZ' + named)
    assert wheels.audit(wheel) == verdict


@of_linux
def test_python_is_built_from_the_newest_tag_of_its_version(wheels, monkeypatch, tmp_path):
    repository = tmp_path / 'repository'
    repository.mkdir()
    named = ('-c', 'user.name=anyone', '-c', 'user.email=anyone@localhost')

    def git(*arguments):
        subprocess.run(['git', *named, *arguments], cwd=repository, check=True, capture_output=True, timeout=50)

    git('init')
    for tag in ('v3.15.0rc2', 'v3.15.0b4', 'v3.15.0rc10', 'v3.16.0a1', 'v3.15.0a7'):
        (repository / 'configure').write_text(tag)
        git('add', 'configure')
        git('commit', '-m', tag)
        git('tag', tag)
    monkeypatch.setenv('CPYTHON', str(repository))
    assert (wheels.sources_of('3.15') / 'configure').read_text() == 'v3.15.0rc10'
    git('tag', 'v3.15.0', 'v3.15.0b4')
    assert (wheels.sources_of('3.15') / 'configure').read_text() == 'v3.15.0b4'
    with pytest.raises(wheels.Unavailable, match=r'no tag of CPython 3\.11'):
        wheels.sources_of('3.11')


@of_linux
@pytest.mark.parametrize(('kind', 'program'), [('musl', 'musl-gcc'), ('gnu', 'gcc')])
def test_compiler_of_a_python_says_its_libc_with_one_dash_and_with_two(wheels, tmp_path, kind, program):
    for name in ('gcc', 'musl-gcc'):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@"\n')
        (tmp_path / name).chmod(0o755)
    compiler = tmp_path / 'cc'
    wheels.write_compiler(compiler, kind)

    def said(*arguments):
        path = {'PATH': f'{tmp_path}:{os.environ["PATH"]}'}
        done = subprocess.run([compiler, *arguments], env=path, check=True, capture_output=True, text=True, timeout=50)
        return done.stdout.strip()

    assert said('-print-multiarch') == said('--print-multiarch') == f'x86_64-linux-{kind}'
    assert said('-O1', '-c', 'x.c') == f'{program} -O1 -c x.c'


def test_python_that_was_built_without_a_module_is_not_to_be_had(wheels, monkeypatch):
    wheels.WORK.mkdir()
    monkeypatch.setattr(wheels, 'MODULES', ('math', 'select'))
    wheels.vouch(wheels.Environment('here', sys.executable))
    monkeypatch.setattr(wheels, 'MODULES', ('math', 'nobody_has_this'))
    with pytest.raises(wheels.Unavailable, match=r"lacks a module: .*No module named 'nobody_has_this'"):
        wheels.vouch(wheels.Environment('here', sys.executable))


def test_python_without_virtual_environments_is_no_failure_of_a_wheel_but_where_it_must_be_tested(
    wheels, monkeypatch, tmp_path
):
    def run(environment, *args, **_):
        if '--without-pip' in args:
            return subprocess.CompletedProcess(args, 1, 'No module named venv')
        pytest.fail(f'{args} ran after that')

    monkeypatch.setattr(wheels.Environment, 'run', run)
    monkeypatch.setattr(wheels, 'SOURCES', ())
    monkeypatch.setattr(wheels, 'downloaded', lambda *_: tmp_path)
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'tools' / 'smoke.py').touch()
    end, rows = table_of(wheels, monkeypatch, '--smoke')
    assert end is None
    assert {row[2:] for row in rows} == {('here', 'not run: that Python makes no virtual environment')}
    end, rows = table_of(wheels, monkeypatch, '--smoke', '--strict')
    assert end == '1 of 4 failed'


LOG = """
SKIPPED [2] tests/outside/test_dnsperf.py:12: dnsperf is not installed: make outside installs it
SKIPPED [1] tests/outside/test_cpython.py:28: CPython's tests are not installed (Debian has them)
SKIPPED [1] tests/test_moving.py:9: numpy is not there
SKIPPED [3] tests/test_udp.py:318: unix datagrams are not there
SKIPPED [1] tests/test_new.py:10: nobody has thought of it
XFAIL tests/test_raw.py::test_ping_ipv6_connected - Wine has no raw icmpv6
XFAIL at teardown of tests/test_raw.py::test_ping_ipv6_connected - Wine has no raw icmpv6
53 of those that pass do since Wine refuses the option, as it has to
"""


@pytest.mark.parametrize(
    ('last', 'sentence', 'enough'),
    [
        (
            '96 passed, 8 skipped, 5 xfailed in 3.1s',
            '96 of 100 pass, 96.0%: 0 fail, 4 cannot under Wine. Not run: 4 lack a program or package there, 1 are not '
            'made for Windows, which makes it 91.4% of 105 if they count as failed; 3 are of other systems by nature. '
            '53 of those that pass do since Wine refuses the option, as it has to.',
            True,
        ),
        (
            '2 failed, 94 passed, 8 skipped, 4 xfailed, 1 error in 3.1s',
            '94 of 100 pass, 94.0%: 3 fail, 3 cannot under Wine. Not run: 4 lack a program or package there, 1 are not '
            'made for Windows, which makes it 89.5% of 105 if they count as failed; 3 are of other systems by nature. '
            '53 of those that pass do since Wine refuses the option, as it has to.',
            False,
        ),
        (
            # What is skipped and told of in no line is of no other system either.
            '96 passed, 24 skipped, 5 xfailed in 3.1s',
            '96 of 100 pass, 96.0%: 0 fail, 4 cannot under Wine. Not run: 4 lack a program or package there, 17 are '
            'not made for Windows, which makes it 79.3% of 121 if they count as failed; 3 are of other systems by '
            'nature. 53 of those that pass do since Wine refuses the option, as it has to.',
            False,
        ),
        ('Timeout (0:04:00)!', 'pytest did not come to its end', False),
    ],
)
def test_share_of_windows_counts_what_lacks_a_program_or_has_a_reason_that_is_not_named(last, sentence, enough):
    assert wine.tally(f'{LOG}{last}\n') == (sentence, enough)


def test_reasons_that_are_not_named_are_told():
    assert wine.undone(LOG) == {'nobody has thought of it': 1}
    assert 'It is not said how many of those that pass do' in wine.tally('1 passed in 0.1s')[0]


def test_reasons_that_are_named_are_those_of_tests():
    modules = [path for path in (ROOT / 'tests').rglob('*.py') if path.stem != 'wine']
    sources = '\n'.join(path.read_text(encoding='utf-8') for path in modules)
    assert [why for why in wine.NAMED if f"'{why}'" not in sources] == []


@pytest.fixture
def ci(tmp_path):
    """Runs .ci/run amid commands that do nothing: how its end was, what it said, and which targets it made."""
    folder, programs, made = tmp_path / 'sources', tmp_path / 'programs', tmp_path / 'made'
    shutil.copytree(ROOT / '.ci', folder / '.ci')
    (folder / 'tools').mkdir()
    programs.mkdir()

    def put(path, line):
        path.write_text(f'#!/bin/sh\n{line}\n')
        path.chmod(0o755)

    put(folder / 'tools' / 'outside.sh', 'echo "$MISSING"')
    put(folder / 'tools' / 'portability.sh', 'case " $* " in *" $PART "*) exit $STATUS;; esac')
    put(programs / 'make', f'echo "$1" >>"{made}"; [ "$1" != "$FAILING" ]')
    put(programs / 'id', 'echo 1000')
    put(programs / 'rustup', 'true')

    def run(part='', status=0, failing='', missing=''):
        environment = {
            'PATH': f'{programs}{os.pathsep}{os.defpath}', 'PYTHON_DEBUG': sys.executable, 'PART': part,
            'STATUS': str(status), 'FAILING': failing, 'MISSING': missing,
        }  # fmt: skip
        done = subprocess.run(
            [folder / '.ci' / 'run'],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=50,
        )
        return done.returncode, done.stdout, made.read_text().split()

    return run


@of_linux
def test_says_what_it_skipped_and_did_not_run_also_where_the_first_check_fails(ci):
    status, said, made = ci(failing='lint', missing='no nginx')
    assert (status, made) == (1, ['lint'])
    assert 'SKIPPED, see above: tests of the programs that are missing\n' in said
    assert 'NOT run here' in said


@of_linux
def test_runs_the_wheel_and_python_tests_under_wine_where_all_parts_are_there(ci):
    status, said, made = ci()
    assert status == 0
    assert {'check-targets', 'test-windows-rust', 'test-windows-steady', 'leaks-debug', 'test'} <= set(made)
    assert 'Wine (make test-windows-rust)' not in said
    assert 'the other Python tests under Wine' in said


@of_linux
@pytest.mark.parametrize(
    ('part', 'lost'),
    [
        ('rust-src', {'check-targets', 'test-windows-rust', 'test-windows-steady'}),
        ('wine', {'test-windows-rust', 'test-windows-steady'}),
        ('winpy', {'test-windows-steady'}),
    ],
)
@pytest.mark.parametrize(('status', 'why'), [(75, 'could not be installed'), (124, 'were not installed within')])
def test_skips_what_a_part_is_not_to_be_had_for_and_says_why(ci, part, lost, status, why):
    end, said, made = ci(part, status)
    assert end == 0
    assert lost.isdisjoint(made)
    for target in lost:
        assert f'(make {target})' in said
    assert why in said
    assert 'test' in made


@of_linux
@pytest.mark.parametrize('part', ['rust-src', 'wine', 'winpy'])
def test_fails_where_a_part_fails_in_another_way(ci, part):
    end, _, made = ci(part, 1)
    assert end == 1
    assert 'model' not in made


@pytest.mark.skipif(sys.platform == 'win32', reason='wheels of other systems are built on Unix')
def test_wheels_for_windows_are_not_built_without_mingw_and_that_is_said(tmp_path):
    (tmp_path / 'dirname').symlink_to(shutil.which('dirname'))
    command = [shutil.which('bash'), ROOT / 'tools' / 'wheels.sh', 'x86_64-pc-windows-gnu', '3.13']
    done = subprocess.run(command, env={'PATH': str(tmp_path)}, capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout == (
        'wheels.sh: x86_64-w64-mingw32-gcc is not there: wheels for x86_64-pc-windows-gnu are NOT built\n'
    )


def program(path, *lines):
    path.write_text('\n'.join(['#!/bin/sh', *lines, '']))
    path.chmod(0o755)


@of_linux
@pytest.mark.parametrize(('strict', 'status'), [('', 0), ('1', 1)])
def test_wheels_of_linux_without_a_profile_are_built_but_where_one_has_to_be(tmp_path, strict, status):
    """Here since none of their Pythons is there; the rest is no matter, so zig and maturin do nothing."""
    here = subprocess.run(['rustc', '-vV'], capture_output=True, text=True, check=True).stdout
    host = re.search(r'^host: (.*)$', here, re.MULTILINE)[1]
    for name in ('python', 'maturin'):
        program(tmp_path / name, f'echo {name} "$@"')
    folder = tmp_path / 'sources'
    shutil.copytree(ROOT / 'tools', folder / 'tools')
    command = [folder / 'tools' / 'wheels.sh', host.replace('-musl', '-gnu'), '9.9']
    path = {'PATH': f'{tmp_path}{os.pathsep}{os.environ["PATH"]}', 'STRICT': strict}
    done = subprocess.run(command, env={**os.environ, **path}, capture_output=True, text=True, timeout=50)
    assert 'none of the Pythons 9.9 is here: no profile' in done.stderr
    assert done.returncode == status, done.stderr
    assert ('maturin build' in done.stdout) == (not strict)


@of_linux
@pytest.mark.parametrize(('strict', 'status'), [((), 0), (('STRICT=1',), 2)])
def test_wheel_without_a_profile_is_built_but_where_one_has_to_be(tmp_path, strict, status):
    """A Makefile of its own, amid tools that do nothing: rustup has no llvm-tools to give."""
    shutil.copy(ROOT / 'Makefile', tmp_path)
    for name in ('tools', 'src', 'venv/bin'):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / 'venv' / '.tools').touch()
    (tmp_path / 'pyproject.toml').touch()
    os.utime(tmp_path / 'pyproject.toml', (0, 0))
    program(tmp_path / 'tools' / 'profdata.sh', 'echo no llvm-tools >&2', 'exit 1')
    program(tmp_path / 'venv' / 'bin' / 'maturin', 'echo built "$@"')
    command = ['make', '-C', tmp_path, 'wheel', 'VENV=venv', *strict]
    given = ('MAKEFLAGS', 'MAKELEVEL', 'STRICT')
    environment = {name: value for name, value in os.environ.items() if name not in given}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50)
    assert done.returncode == status, done.stderr
    assert ('built build --release' in done.stdout) == (not strict)


@of_linux
@pytest.mark.parametrize(
    ('lacks', 'prefix', 'says'),
    [
        ('', '/usr', ''),
        (
            'exit 1',
            '/usr',
            'outside.sh: could not be installed, which takes root, and their tests are NOT run: '
            'libpython3.9-testsuite\n',
        ),
        ('exit 1', '/opt/python', "outside.sh: not there, and NOT run: CPython's own tests of /opt/python\n"),
    ],
)
def test_cpythons_own_tests_are_those_of_the_interpreter_that_runs_ours(tmp_path, lacks, prefix, says):
    program(tmp_path / 'python', f'case "$2" in *test_socket*) {lacks or "exit 0"};; *) echo {prefix} 3.9;; esac')
    program(tmp_path / 'apt-get', 'exit 1')
    program(tmp_path / 'id', 'echo 1000')
    # All is there but what is asked for in the end.
    program(tmp_path / 'dpkg-query', 'for each; do :; done', 'case $each in *testsuite) ;; *) echo installed;; esac')
    environment = {'PATH': f'{tmp_path}{os.pathsep}{os.defpath}', 'PYTHON': str(tmp_path / 'python')}
    command = [ROOT / 'tools' / 'outside.sh']
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout) == (0, says)


def test_crates_that_are_linked_are_named_and_those_that_only_compile_or_test_are_not(monkeypatch, tmp_path):
    notices = tool('notices', monkeypatch)
    kinds = {'sock': 'cdylib', 'ours': 'lib', 'deep': 'lib', 'macros': 'proc-macro', 'parses': 'lib', 'tests': 'lib'}
    for name in kinds:
        (tmp_path / name).mkdir()
        (tmp_path / name / 'LICENSE-MIT').write_text('They may.\n\n' if name != 'deep' else 'Copyright, deep.')

    def needs(name, kind=None):
        return {'pkg': name, 'dep_kinds': [{'kind': kind}]}

    edges = {
        'sock': [needs('ours'), needs('macros'), needs('tests', 'dev')],
        'ours': [needs('deep')],
        'macros': [needs('parses')],
    }
    metadata = {
        'packages': [
            {
                'id': name, 'name': name, 'version': '1.2', 'license': 'MIT OR Apache-2.0',
                'targets': [{'kind': [kind]}], 'manifest_path': str(tmp_path / name / 'Cargo.toml'),
            }
            for name, kind in kinds.items()
        ],
        'resolve': {'root': 'sock', 'nodes': [{'id': name, 'deps': edges.get(name, [])} for name in kinds]},
    }  # fmt: skip
    found = notices.linked(json.loads(json.dumps(metadata)))
    assert [package['name'] for package in found] == ['deep', 'ours']
    text = notices.notices(found)
    assert text.endswith('ours 1.2\n\nThey may.\n')
    assert 'deep 1.2\n\nCopyright, deep.\n' in text
    found[0]['license'] = 'GPL-3.0-only'
    with pytest.raises(SystemExit, match=r'deep has no MIT license: GPL-3\.0-only'):
        notices.notices(found)


def test_notices_are_of_the_versions_that_are_linked():
    """All of it is compared by `make lint`, which asks cargo."""
    packages = tomllib.loads((ROOT / 'Cargo.lock').read_text())['package']
    locked = {(each['name'], each['version']) for each in packages}
    text = (ROOT / 'THIRD-PARTY-NOTICES.txt').read_text()
    named = set(re.findall(r'^([a-z0-9_-]+) (\d+\.\d+\.\d+\S*)$', text, re.MULTILINE))
    assert named <= locked
    assert {'mio', 'pyo3', 'socket2', 'windows-sys', 'libc', 'parking_lot', 'slab'} <= {name for name, _ in named}
    packed = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['license-files']
    assert packed == ['LICENSE', 'THIRD-PARTY-NOTICES.txt']


#: The columns of the table of options, and where the headers' numbers of each system are.
SYSTEMS = {
    'Linux': ('unix', 'any(target_os = "linux", target_os = "android")'),
    'macOS': ('unix', 'target_vendor = "apple"'),
    'FreeBSD': ('unix', 'target_os = "freebsd"'),
    'Windows': ('windows', ''),
}


def test_docs_say_how_many_options_are_compared_with_the_headers():
    rows = re.findall(r'\brow\("(\w+)", .*\[(.*)\]\)', (ROOT / 'src' / 'options.rs').read_text())
    parts = []
    for column, (system, (file, condition)) in enumerate(SYSTEMS.items()):
        there = {name for name, numbers in rows if numbers.split(', ')[column] != 'NO'}
        source = (ROOT / 'src' / 'sys' / f'{file}_options.rs').read_text()
        listing = source.partition(f'{condition}))]\n#[rustfmt::skip]\n' if condition else 'pub const HEADERS')[2]
        compared = set(re.findall(r'^    \("(\w+)",', listing.partition('\n];')[0], re.MULTILINE))
        assert compared <= there
        parts.append(f'{len(compared)} of {len(there)} on {system}')
    text = ' '.join((ROOT / 'docs' / 'design.md').read_text().split())
    assert f'{", ".join(parts[:-1])} and {parts[-1]}' in text


def job(workflow, name):
    text = (ROOT / '.github' / 'workflows' / workflow).read_text()
    return re.search(rf'^  {name}:\n(.*?)(?=^  \w+:\n|\Z)', text, re.MULTILINE | re.DOTALL)[1]


def test_only_a_pull_request_that_is_changed_cancels_its_checks():
    for workflow, wanted in (('ci.yml', "${{ github.event_name == 'pull_request' }}"), ('release.yml', 'false')):
        text = (ROOT / '.github' / 'workflows' / workflow).read_text()
        assert re.findall(r'cancel-in-progress: (.*)', text) == [wanted]


def test_release_builds_each_wheel_with_a_profile_and_a_job_of_its_own():
    linux = job('release.yml', 'linux')
    assert 'make wheels STRICT=1' in linux
    assert 'make wheel test-wheels STRICT=1' in job('release.yml', 'others')
    pythons = re.search('^PYTHONS := (.*)$', (ROOT / 'Makefile').read_text(), re.MULTILINE)[1].split()
    for each in (linux, job('release.yml', 'others')):
        assert re.findall(r"'([\d.]+t?)'", re.search(r'python: \[(.*)\]', each)[1]) == pythons
        # What two jobs upload by one name would be one of them.
        uploaded = re.search('name: (dist-.*)', each)[1]
        assert '${{ matrix.python }}' in uploaded


def test_source_distribution_is_tried_in_each_run_and_tested_in_release():
    assert 'make test-sdist SMOKE=1' in job('ci.yml', 'sdist')
    assert 'SMOKE' not in job('release.yml', 'sdist')


def test_checkouts_have_the_ends_of_lines_that_bash_takes():
    assert '* text=auto eol=lf\n' in (ROOT / '.gitattributes').read_text()
    scripts = [*(ROOT / 'tools').glob('*.sh'), ROOT / 'Makefile', ROOT / '.ci' / 'run']
    assert len(scripts) > 4
    assert [path.name for path in scripts if b'\r' in path.read_bytes()] == []


def test_unix_sockets_of_tests_have_short_paths():
    """`short_path`: what `tmp_path` has may be longer than macOS takes."""
    long = re.compile(r'\b(bind|connect|listen|sendto)\([^\n]*tmp_path|unix=[^\n]*tmp_path')
    found = {path.name: long.findall(path.read_text()) for path in (ROOT / 'tests').rglob('*.py')}
    assert {name: lines for name, lines in found.items() if lines and name != Path(__file__).name} == {}


@of_linux
def test_windows_itself_runs_the_rust_tests_that_are_ignored_for_wine():
    def commands(*options):
        command = ['make', '-n', '--no-print-directory', 'test-rust', *options]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=True).stdout

    assert commands('OS=Windows_NT').endswith('--no-default-features -- --include-ignored\n')
    assert commands('OS=').endswith('--no-default-features\n')
    assert '      - run: make test-rust\n' in job('ci.yml', 'test')
    ignored = [why for path in (ROOT / 'src').rglob('*.rs') for why in re.findall(r'ignore\b.*', path.read_text())]
    assert ignored
    assert [why for why in ignored if not why.startswith('ignore = "Wine ')] == []


def test_release_publishes_after_all_other_jobs_ci_among_them_and_tests_strictly():
    release, ci = ((ROOT / '.github' / 'workflows' / name).read_text() for name in ('release.yml', 'ci.yml'))
    jobs = release.partition('\njobs:\n')[2]
    (needs,) = re.findall(r'^    needs: \[(.*)\]$', jobs, re.MULTILINE)
    assert {*needs.split(', '), 'publish'} == set(re.findall(r'^  (\w+):$', jobs, re.MULTILINE))
    assert '    uses: $/.github/workflows/ci.yml\n' in jobs
    assert '  workflow_call:' in ci
    # What is called has the caller's name: in the same group, each would wait for the other.
    groups = [re.search(r'^  group: (.*)$', text, re.MULTILINE)[1] for text in (release, ci)]
    assert groups[0] != groups[1]
    assert all('STRICT=1' in line for line in re.findall(r'make .*test-wheels.*', jobs))
