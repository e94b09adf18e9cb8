"""Installs each wheel of dist where it is for, tests it there, and prints a table of what was run, and how it went.

A wheel is for an interpreter of one version, on one system. Tried are the interpreters of this machine; and, on a
Debian machine as root, those of Debian's newer releases and of its arm64 (under qemu), each in a root of its own that
has nothing else; and for musl, and without the GIL, those that are built here from Debian's sources, or from those of
the repository that CPYTHON= names. In each, pip installs the wheel into a new virtual environment, with no index and
no sources of the library in sight; then come `smoke.py` and, but where programs are emulated, the tests. Of Windows'
wheels, the one for which there is a CPython is installed in that under Wine by `portability.sh`, for `smoke.py`
alone. A wheel for which there is no such place is listed as not run; with --strict that is a failure if it is one for
this system (of Linux, with glibc). The source distribution is built and installed by pip from scratch, and tested
with the tests that it holds. What is made is kept in target/test-wheels, and the table too, which has each row as
soon as it is known.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import io
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from packaging.utils import parse_wheel_filename

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / 'target' / 'test-wheels'

#: What the tests need besides the library.
SOURCES = ('tests', 'examples', 'docs', 'README.md', 'Makefile', 'pyproject.toml')

#: Of the benchmarks and of these tools, which no distribution tests.
ELSEWHERE = ('test_benches.py', 'test_tools.py')

#: The releases of Debian that have a version of Python, the steadiest first.
RELEASES = {'3.11': ('bookworm',), '3.13': ('trixie', 'forky'), '3.14': ('forky', 'sid'), '3.15': ('forky', 'sid')}

#: The releases of Debian from whose sources others are built: for musl, and without the GIL.
SOURCES_OF = {'3.11': 'bookworm', '3.13': 'trixie', '3.14': 'forky', '3.15': 'forky'}

#: Modules in C that pip and the tests take from a Python; ctypes and zlib come of libraries that are built for it.
MODULES = ('ctypes', 'zlib', '_posixsubprocess', '_socket', '_struct', 'array', 'fcntl', 'math', 'select')

#: How Windows is had here, and the version of Python that it has there.
PORTABILITY = ROOT / 'tools' / 'portability.sh'
WINDOWS = '3.11'

#: What a Linux system has in /etc, and a bare root has not.
ETC = ('hosts', 'nsswitch.conf', 'services', 'protocols', 'passwd', 'group')

#: Seconds for one step of one wheel.
PATIENCE = 1800


class Unavailable(Exception):
    """Something that the machine cannot have; the message says why."""


@dataclasses.dataclass(frozen=True)
class Environment:
    name: str
    python: str
    #: The root in which it runs; this machine's own where it is None.
    tree: Path | None = None
    #: The program that runs those of another processor, in the root.
    emulator: str | None = None

    def run(self, *args: str | Path, cwd: Path = WORK, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs Python there."""
        command = [self.emulator] if self.emulator else []
        command += [self.python, *map(str, args)]
        if self.tree is not None:
            enter = (
                'mount -t proc proc "$0/proc"; mount --rbind /dev "$0/dev"; mount --bind "$1" "$0$1";'
                'exec unshare --root="$0" --wd="$2" -- "${@:3}"'
            )
            unshare = ['unshare', '--mount', '--pid', '--fork', '--kill-child']
            command = [*unshare, 'bash', '-ec', enter, str(self.tree), str(WORK), str(cwd), *command]
        ours = ('PYTHON', 'PYENV', 'VIRTUAL_ENV', 'MAKE', 'MFLAGS')
        environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return subprocess.run(
            command, cwd=cwd, env=environment | variables, text=True, errors='replace', timeout=PATIENCE,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip


def call(*command: str | Path, cwd: Path | None = None, **variables: str) -> None:
    """Runs a command that makes something."""
    try:
        done = subprocess.run(
            command, cwd=cwd or WORK, env=os.environ | variables, text=True, errors='replace', timeout=PATIENCE,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Unavailable(f'{shlex.join(map(str, command))} took more than {PATIENCE} s') from None
    if done.returncode:
        tail = '\n'.join(done.stdout.splitlines()[-5:])
        raise Unavailable(f'{shlex.join(map(str, command))} failed:\n{tail}')


class Apt:
    """Debian's archive as this machine has it configured, with a release that it need not run."""

    def __init__(self, release: str, architecture: str = 'amd64') -> None:
        keyring = Path('/usr/share/keyrings/debian-archive-keyring.gpg')
        if not keyring.exists() or os.geteuid() != 0:
            raise Unavailable('this takes a Debian machine, and root')
        self.folder = WORK / 'apt' / f'{release}-{architecture}'
        archive = f'[signed-by={keyring}] {self.archive()} {release} main\n'
        fresh = not self.folder.exists()
        for folder in ('lists/partial', 'cache/archives/partial', 'sources'):
            (self.folder / folder).mkdir(parents=True, exist_ok=True)
        (self.folder / 'sources.list').write_text(f'deb {archive}deb-src {archive}')
        (self.folder / 'status').touch()
        self.options = [
            f'-oDir::Etc::SourceList={self.folder}/sources.list', '-oDir::Etc::SourceParts=-',
            f'-oDir::State::Lists={self.folder}/lists', f'-oDir::State::status={self.folder}/status',
            f'-oDir::Cache={self.folder}/cache', f'-oAPT::Architecture={architecture}',
            f'-oAPT::Architectures::={architecture}', '-oAPT::Sandbox::User=root', '-oAcquire::Languages=none',
            '-oAcquire::Retries=3', '-oDebug::NoLocking=true', '-qq',
        ]  # fmt: skip
        if fresh:
            self.get('update')

    @staticmethod
    def archive() -> str:
        for file in sorted(Path('/etc/apt').glob('sources.list*')) + sorted(Path('/etc/apt/sources.list.d').glob('*')):
            for line in file.read_text().splitlines() if file.is_file() else ():
                for word in line.split():
                    if line.startswith(('URIs:', 'deb ')) and word.startswith('http') and 'debian' in word:
                        return word
        raise Unavailable('no archive of Debian is configured in /etc/apt')

    def get(self, *arguments: str) -> None:
        call('apt-get', *self.options, *arguments, cwd=self.folder / 'sources')

    def unpack(self, tree: Path, *packages: str) -> None:
        """Packages, and what they depend on, into a folder: nothing of the machine's own changes."""
        self.get('install', '--download-only', '--yes', '--no-install-recommends', *packages)
        for name in ('bin', 'lib', 'lib64', 'sbin'):
            (tree / 'usr' / name).mkdir(parents=True, exist_ok=True)
            if not (tree / name).exists():
                (tree / name).symlink_to(f'usr/{name}')
        for package in sorted((self.folder / 'cache' / 'archives').glob('*.deb')):
            call('sh', '-c', 'dpkg --fsys-tarfile "$0" | tar -x -C "$1" --keep-directory-symlink', package, tree)
        furnish(tree)

    def source(self, package: str) -> Path:
        """The folder with its sources, as their authors made them."""
        self.get('source', '--download-only', '--tar-only', package)
        (archive,) = (self.folder / 'sources').glob(f'{package}_*.orig.tar.[gx]z')
        into = self.folder / 'sources' / package
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir()
        call('tar', '-x', '-C', into, '--strip-components=1', '-f', archive)
        return into


def furnish(tree: Path) -> None:
    for name in ('proc', 'dev', 'tmp', 'etc', str(WORK)[1:]):
        (tree / name).mkdir(parents=True, exist_ok=True)
    for name in ETC:
        shutil.copy(f'/etc/{name}', tree / 'etc' / name)


def kept(name: str) -> tuple[Path, bool]:
    """The folder of a root, and whether it was made before; what was left half-made is thrown away."""
    tree = WORK / 'roots' / name
    if (tree / '.made').exists():
        return tree, True
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    return tree, False


@functools.cache
def debian(version: str, architecture: str) -> Environment:
    """Debian's own Python of that version, in a root of its own."""
    if version not in RELEASES:
        raise Unavailable(f'Debian has no CPython {version}')
    failure = None
    for release in RELEASES[version]:
        tree, made = kept(f'{release}-{version}-{architecture}')
        emulator = None if architecture == 'amd64' else '/usr/bin/qemu-aarch64-static'
        try:
            if not made:
                Apt(release, architecture).unpack(tree, f'python{version}', f'python{version}-venv')
                if emulator:
                    qemu = WORK / 'qemu'
                    Apt('bookworm').unpack(qemu, 'qemu-user-static')
                    shutil.copy(f'{qemu}{emulator}', f'{tree}{emulator}')
                (tree / '.made').touch()
        except Unavailable as error:
            failure = error
            continue
        name = f'Debian {release}' + (f', {architecture} under qemu' if emulator else '')
        return Environment(name, f'/usr/bin/python{version}', tree, emulator)
    raise failure


def sources_of(version: str) -> Path:
    """Those of CPython: of the newest tag, where $CPYTHON is a repository of it, else Debian's."""
    if not (repository := os.environ.get('CPYTHON')):
        if version not in SOURCES_OF:
            raise Unavailable(f'Debian has no sources of CPython {version}, and CPYTHON= names no repository')
        return Apt(SOURCES_OF[version]).source(f'python{version}')
    sort = [part for each in ('a', 'b', 'rc') for part in ('-c', f'versionsort.suffix={each}')]
    command = ['git', '-C', repository, *sort, 'tag', '--list', f'v{version}.*', '--sort=-version:refname']
    tags = subprocess.run(command, capture_output=True, text=True).stdout.split()
    if not tags:
        raise Unavailable(f'{repository} has no tag of CPython {version}')
    into = WORK / 'sources' / tags[0]
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    # Without what nothing is built from, which may be too large for a copy of the repository.
    call('git', '-C', repository, 'archive', f'--output={into}.tar', tags[0], '--', '.', ':!Misc/svnmap.txt', ':!Doc')
    call('tar', '-x', '-C', into, '-f', f'{into}.tar')
    return into


def build_tools() -> None:
    macros = Path('/usr/share/aclocal/ltdl.m4')
    if shutil.which('musl-gcc') is None or shutil.which('autoreconf') is None or not macros.exists():
        call('apt-get', 'update', '-qq')
        tools = ('musl-tools', 'autoconf', 'autoconf-archive', 'automake', 'libtool', 'libltdl-dev')
        call('apt-get', 'install', '-qq', '--yes', '--no-install-recommends', *tools)


def write_compiler(path: Path, kind: str) -> None:
    """gcc for that libc, which says so when it is asked.

    As gcc itself, musl's says that it is for glibc: CPython's configure takes that for a contradiction, and setup.py of
    3.11 asks with one dash, and takes glibc's headers, with which no module compiles.
    """
    path.write_text(f"""#!/bin/sh
case "$*" in -print-multiarch | --print-multiarch) exec echo x86_64-linux-{kind};; esac
exec {'musl-gcc' if kind == 'musl' else 'gcc'} "$@"
""")
    path.chmod(0o755)


def vouch(environment: Environment) -> None:
    """That a Python which was built has its modules: make does not fail where they did not compile."""
    done = environment.run('-c', 'import ' + ', '.join(MODULES), cwd=WORK)
    if done.returncode:
        last = done.stdout.strip().rpartition('\n')[2]
        raise Unavailable(f'the Python that was built lacks a module: {last}')


@functools.cache
def built(version: str, free_threaded: bool = False, musl: bool = False) -> Environment:
    """A Python that is built here; for musl, in a root that has no glibc at all."""
    tree, made = kept(f'{version}{"t" * free_threaded}{"-musl" * musl}')
    python = Path(f'/usr/bin/python{version}{"t" * free_threaded}')
    if not made:
        build_tools()
        sources, apt = sources_of(version), Apt('trixie')
        libraries, compiler = tree / 'libraries', tree / 'cc'
        kind = 'musl' if musl else 'gnu'
        write_compiler(compiler, kind)
        build = f'--build=x86_64-pc-linux-{kind}'
        zlib, libffi = apt.source('zlib'), apt.source('libffi')
        call('./autogen.sh', cwd=libffi)
        plain = ('--disable-shared', '--disable-docs', '--disable-exec-static-tramp', build)
        for library, options in ((zlib, ('--static',)), (libffi, plain)):
            call('./configure', f'--prefix={libraries}', *options, cwd=library, CC=str(compiler), CFLAGS='-O2 -fPIC')
            call('make', '-s', 'install', cwd=library)
        include, link = f'-I{libraries}/include', f'-L{libraries}/lib'
        configure = [
            './configure', '-q', '--prefix=/usr', build, '--without-ensurepip', '--disable-test-modules',
            'PKG_CONFIG=/bin/false', f'ZLIB_CFLAGS={include}', f'ZLIB_LIBS={link} -lz',
            f'LIBFFI_CFLAGS={include}', f'LIBFFI_LIBS={link} -lffi', *['--disable-gil'] * free_threaded,
        ]  # fmt: skip
        call(*configure, cwd=sources, CC=str(compiler), CFLAGS='-O1', CPPFLAGS=include, LDFLAGS=link)
        call('make', '-s', f'-j{os.cpu_count()}', 'install', f'DESTDIR={tree}', cwd=sources)
        if musl:
            (tree / 'lib').mkdir()
            shutil.copy('/lib/ld-musl-x86_64.so.1', tree / 'lib', follow_symlinks=True)
            furnish(tree)
    environment = Environment('built from source', f'{tree}{python}')
    if musl:
        environment = Environment('musl, nothing else', str(python), tree)
    if not made:
        vouch(environment)
        (tree / '.made').touch()
    return environment


def windows(version: str) -> Environment:
    """The CPython for Windows that portability.sh puts under Wine: there alone, what is emulated is the system."""
    if version != WINDOWS:
        raise Unavailable(f'built, not run: no CPython {version} for Windows here')
    call(PORTABILITY, 'mingw', 'wine', 'winpy', cwd=ROOT, PYTHON=sys.executable)
    return Environment('CPython for Windows under Wine', 'python.exe', emulator='wine')


def is_python(path: Path, version: str, free_threaded: bool) -> bool:
    code = 'import sys, sysconfig as c; print("%d.%d" % sys.version_info[:2], c.get_config_var("Py_GIL_DISABLED") or 0)'
    try:
        done = subprocess.run([path, '-c', code], capture_output=True, text=True, timeout=60)
    except OSError:
        return False
    return done.stdout.split() == [version, str(int(free_threaded))]


def here(version: str, free_threaded: bool, more: Iterable[str]) -> Environment | None:
    """This machine's own Python of that version."""
    name = f'python{version}' + 't' * free_threaded
    pyenv = Path(os.environ.get('PYENV_ROOT', Path.home() / '.pyenv'))
    found = [Path(sys.executable), *map(Path, more), *(Path(folder, name) for folder in os.get_exec_path())]
    for path in [*found, *sorted(pyenv.glob(f'versions/*/bin/{name}'))]:
        if path.is_file() and is_python(path, version, free_threaded):
            return Environment('this machine', str(path))
    return None


def place(wheel: Path, more: Iterable[str]) -> Environment:
    """Where a wheel can run; a source distribution can here."""
    if not wheel.name.endswith('.whl'):
        return Environment('this machine', sys.executable)
    tag = min(parse_wheel_filename(wheel.name)[3], key=str)
    version, free_threaded = f'{tag.interpreter[2]}.{tag.interpreter[3:]}', tag.abi.endswith('t')
    system = {'manylinux': 'Linux', 'linux': 'Linux', 'musllinux': 'Linux', 'macosx': 'Darwin', 'win': 'Windows'}
    kind = tag.platform.partition('_')[0].rstrip('0123456789')
    arm = tag.platform.endswith(('aarch64', 'arm64'))
    same = (platform.machine().lower() in ('aarch64', 'arm64')) == arm
    if kind == 'win' and platform.system() == 'Linux':
        return windows(version + 't' * free_threaded)
    if platform.system() != system[kind] or (kind == 'musllinux' and (arm or not same)):
        raise Unavailable('no such system here')
    if kind == 'musllinux':
        return built(version, free_threaded, musl=True)
    found = here(version, free_threaded, more) if same else None
    if found is None and 'linux' in kind:
        if not free_threaded:
            found = debian(version, 'arm64' if arm else 'amd64')
        elif same and not arm:
            found = built(version, free_threaded)
    if found is None:
        raise Unavailable(f'no CPython {version}{"t" * free_threaded} here')
    return found


def must_run(artifact: Path) -> bool:
    """Whether it is for this system and processor; of Linux, with glibc."""
    if not artifact.name.endswith('.whl'):
        return True
    platforms = {tag.platform for tag in parse_wheel_filename(artifact.name)[3]}
    system = {'Linux': 'manylinux', 'Darwin': 'macosx', 'Windows': 'win'}[platform.system()]
    arm = platform.machine().lower() in ('aarch64', 'arm64')
    return any(each.startswith(system) and each.endswith(('aarch64', 'arm64')) == arm for each in platforms)


def downloaded(name: str, *arguments: str) -> Path:
    """The folder of that name, with what pip installs."""
    folder = WORK / name
    if not (folder / '.made').exists():
        shutil.rmtree(folder, ignore_errors=True)
        call(sys.executable, '-m', 'pip', 'install', '-q', '--target', folder, *arguments)
        (folder / '.made').touch()
    return folder


def what_tests_import(artifact: Path) -> Path:
    """pytest and, where it is built for that interpreter, hypothesis, without which its tests are skipped."""
    if not artifact.name.endswith('.whl'):
        return downloaded('packages/sdist', 'pytest', 'hypothesis')
    tag = min(parse_wheel_filename(artifact.name)[3], key=str)
    there = ['--only-binary=:all:', f'--python-version={tag.interpreter[2]}.{tag.interpreter[3:]}']
    there += ['--implementation=cp', f'--abi={tag.abi}', '--abi=none', f'--platform={tag.platform}']
    if not tag.abi.endswith('t'):
        there.append('--abi=abi3')
    try:
        return downloaded(f'packages/{tag}', *there, 'pytest', 'hypothesis')
    except Unavailable:
        return downloaded(f'packages/{tag}', *there, 'pytest')


def failed(done: subprocess.CompletedProcess[str]) -> bool:
    if done.returncode:
        print(done.stdout, file=sys.stderr)
    return done.returncode != 0


def needed(wheel: Path) -> set[str]:
    """The shared libraries that its extension names."""
    from elftools.elf.elffile import ELFFile

    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith('.so'))
        dynamic = ELFFile(io.BytesIO(archive.read(name))).get_section_by_name('.dynamic')
        return {tag.needed for tag in dynamic.iter_tags('DT_NEEDED')}


def audit(wheel: Path) -> str:
    """Whether a wheel of Linux keeps to what its tag allows."""
    if 'musllinux' in wheel.name:
        # Not by auditwheel, which knows musl by Alpine's name for it alone: musl takes libc.so for itself everywhere.
        return 'yes' if needed(wheel) <= {'libc.so'} else 'NO'
    if 'win_' in wheel.name:
        # Windows has what it names: Python's own DLL of that very version, and none of the compiler's.
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith('.pyd'))
            named = {each.lower() for each in re.findall(rb'[\w-]+\.dll', archive.read(name), re.IGNORECASE)}
        abi = min(parse_wheel_filename(wheel.name)[3], key=str).abi.removeprefix('cp')
        python = {each for each in named if each.startswith(b'python')}
        foreign = [each for each in named if each.startswith((b'libgcc', b'libwinpthread', b'libstdc'))]
        return 'yes' if python == {f'python{abi}.dll'.encode()} and not foreign else 'NO'
    if 'manylinux' not in wheel.name:
        return ''
    tags = {tag.platform for tag in parse_wheel_filename(wheel.name)[3]}
    command = [sys.executable, '-m', 'auditwheel', 'show', wheel]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return 'yes' if any(f'"{tag}"' in done.stdout for tag in tags) else 'NO'


def try_out(artifact: Path, environment: Environment, tests: Sequence[str] | None) -> Iterable[str]:
    """Yields what was seen; what went wrong begins with FAILED."""
    if environment.emulator == 'wine':
        command = [PORTABILITY, 'winsmoke']
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | {'WHEEL': str(artifact), 'PYTHON': sys.executable},
            text=True, errors='replace', timeout=PATIENCE,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        said = [line for line in done.stdout.splitlines() if line.strip() and not line.startswith('==')]
        yield 'FAILED: no echo' if failed(done) else f'echo in {said[-1].strip()}'
        return
    folder = WORK / 'environments' / artifact.name
    shutil.rmtree(folder, ignore_errors=True)
    sources = folder / 'sources'
    sources.mkdir(parents=True)
    shutil.copy(artifact, folder)
    options: Sequence[str] = ('--no-index', '--no-deps')
    if artifact.name.endswith('.tar.gz'):
        options = ()
        with tarfile.open(artifact) as archive:
            archive.extractall(sources, filter='data')
        (sources,) = sources.iterdir()
        if missing := [name for name in (*SOURCES, 'LICENSE', 'Cargo.lock') if not (sources / name).exists()]:
            yield f'FAILED: lacks {", ".join(missing)}'
    else:
        for name in SOURCES:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns(*ELSEWHERE))
            else:
                shutil.copy(ROOT / name, sources / name)
    shutil.copy(ROOT / 'tools' / 'smoke.py', folder)
    pip = downloaded('pip', 'pip')
    venv = folder / 'venv'
    if failed(environment.run('-m', 'venv', '--without-pip', venv)):
        raise Unavailable('not run: that Python makes no virtual environment')
    python = venv / ('Scripts/python.exe' if os.name == 'nt' else 'bin/python')
    inside = dataclasses.replace(environment, python=str(python))
    if failed(inside.run(pip / 'pip', 'install', '--no-compile', *options, folder / artifact.name, cwd=folder)):
        yield 'FAILED: pip does not install it'
        return
    done = inside.run('smoke.py', cwd=folder)
    yield 'FAILED: no echo' if failed(done) else f'echo in {done.stdout.strip()}'
    if tests is None:
        return
    packages = what_tests_import(artifact)
    done = inside.run('-m', 'pytest', '-q', '-p', 'no:cacheprovider', *tests, cwd=sources, PYTHONPATH=str(packages))
    verdict = done.stdout.strip().rpartition('\n')[2].strip('= ')
    yield f'FAILED: {verdict}' if failed(done) else verdict


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--smoke', action='store_true', help='an echo alone, no tests')
    parser.add_argument('--strict', action='store_true', help='fail where one for this system was not tested')
    parser.add_argument('--only', default='*', metavar='GLOB', help='of the files in dist')
    parser.add_argument('--python', action='append', default=[], metavar='PATH', help='one more interpreter to look at')
    parser.add_argument('tests', nargs='*', help='arguments of pytest; default: all tests')
    options = parser.parse_args()
    artifacts = sorted(path for path in (ROOT / 'dist').glob(options.only) if path.name.endswith(('.whl', '.tar.gz')))
    if not artifacts:
        sys.exit('nothing of that name in dist: make wheels, make sdist')
    WORK.mkdir(parents=True, exist_ok=True)
    rows = [('file', 'tag holds', 'where', 'result'), ('---',) * 4]
    bad = []
    for artifact in artifacts:
        holds, where, seen = audit(artifact), 'not run', []
        try:
            environment = place(artifact, options.python)
            where = environment.name
            tests = None if options.smoke or environment.emulator else options.tests
            seen.extend(try_out(artifact, environment, tests))
        except Unavailable as error:
            seen.append(str(error).replace('\n', ' '))
            if options.strict and must_run(artifact):
                seen.append('FAILED: it is for this system, and not tested')
        except subprocess.TimeoutExpired as error:
            seen.append(f'FAILED: not done in {error.timeout:.0f} s')
        rows.append((artifact.name, holds, where, '; '.join(seen)))
        print(' | '.join(rows[-1]), flush=True)
        (WORK / 'results.md').write_text(''.join(f'| {" | ".join(row)} |\n' for row in rows))
        if holds == 'NO' or 'FAILED' in rows[-1][3]:
            bad.append(artifact)
    if bad:
        sys.exit(f'{len(bad)} of {len(artifacts)} failed')


if __name__ == '__main__':
    main()
