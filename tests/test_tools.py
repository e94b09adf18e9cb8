"""The tools that build and check: what they say of what they could not do, and what they take for a failure."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
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


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """tools/test_wheels.py over a dist of its own, on a Linux machine of x86-64."""
    spec = importlib.util.spec_from_file_location('test_wheels_tool', ROOT / 'tools' / 'test_wheels.py')
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
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
SKIPPED [1] tests/test_properties.py:300: memory that is not there until it is written: Linux
"""


@pytest.mark.parametrize(
    ('last', 'sentence', 'enough'),
    [
        (
            '96 passed, 8 skipped, 4 xfailed in 3.1s',
            '96 of 100 pass, 96.0%: 0 fail, 4 cannot under Wine. Not run: 4 lack a program or package there, which '
            'makes it 92.3% of 104 if they count as failed; 4 are of other systems.',
            True,
        ),
        (
            '2 failed, 94 passed, 8 skipped, 3 xfailed, 1 error in 3.1s',
            '94 of 100 pass, 94.0%: 3 fail, 3 cannot under Wine. Not run: 4 lack a program or package there, which '
            'makes it 90.4% of 104 if they count as failed; 4 are of other systems.',
            False,
        ),
        ('Timeout (0:04:00)!', 'pytest did not come to its end', False),
    ],
)
def test_share_of_windows_counts_what_lacks_a_program_too(last, sentence, enough):
    assert wine.tally(f'{LOG}{last}\n') == (sentence, enough)


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
