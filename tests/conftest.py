"""What every test gets: a watchdog, and a look at what it left behind (descriptors, OS threads, threads, reports)."""

import contextlib
import faulthandler
import gc
import os
import signal
import socket
import ssl
import threading

import pytest
import sock
import wine
from held import open_descriptors
from support import LINUX, REFUSED_BY_WINE, WINE, busy, certify, short_folder

# Tests of other folders use it too.
pytest.register_assert_rewrite('scenarios.faults')

#: Seconds a test may take, on a free machine, before the whole run is ended with a traceback of each OS thread.
WATCHDOG = 60

#: Seconds that stdlib sockets wait.
PATIENCE = 10


def pytest_collection_modifyitems(items):
    for item in items if WINE else ():
        for fault, tests in wine.TESTS.items():
            if item.nodeid.partition('tests/')[2].startswith(tests):
                item.add_marker(pytest.mark.xfail(reason=wine.says(fault), run=fault not in wine.AT_TIMES))


def os_threads():
    # Look-ups and offloaded calls run in worker threads that live on for a while.
    # What stands for one that `threading` has not started ('Dummy-1') stays, before Python 3.13, after its end.
    passing = ('sock resolver', 'sock offload', 'Dummy-')
    return {thread for thread in threading.enumerate() if not thread.name.startswith(passing)}


#: Where the watchdog writes: what is captured goes with the process, unread.
uncaptured = pytest.StashKey()


def pytest_configure(config):
    # In the background of a script Ctrl-C is ignored, also by the programs that are started there.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with config.pluginmanager.getplugin('capturemanager').global_and_fixture_disabled():
        config.stash[uncaptured] = os.fdopen(os.dup(2), 'w')


def pytest_unconfigure(config):
    config.stash[uncaptured].close()


def missing_programs(terminalreporter):
    """Why tests were skipped that would have run, had somebody installed what they drive."""
    reports = terminalreporter.stats.get('skipped', ())
    reasons = {report.longrepr[2].removeprefix('Skipped: ') for report in reports if not hasattr(report, 'wasxfail')}
    return sorted(reason for reason in reasons if 'not installed' in reason)


def pytest_sessionfinish(session):
    # Who has installed all of that says so, and no test may then be skipped for the lack of it.
    if 'PROGRAMS_INSTALLED' in os.environ and session.exitstatus == pytest.ExitCode.OK:
        reporter = session.config.pluginmanager.getplugin('terminalreporter')
        if missing_programs(reporter):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    if WINE:
        passed = terminalreporter.stats.get('passed', ())
        refused = sum(REFUSED_BY_WINE in report.user_properties for report in passed)
        terminalreporter.write_line(f'{refused} {wine.REFUSALS}')
    if 'PROGRAMS_INSTALLED' in os.environ:
        for reason in missing_programs(terminalreporter):
            terminalreporter.write_line(f'FAILED, since all programs were to be installed: {reason}', red=True)


@pytest.fixture(autouse=True)
def watchdog(request):
    faulthandler.dump_traceback_later(WATCHDOG * busy(), exit=True, file=request.config.stash[uncaptured])
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
def short_path():
    """As `tmp_path`, and short."""
    with short_folder() as folder:
        yield folder


@pytest.fixture
def whole_process():
    """Of tests that change what all OS threads share: several at once would meet."""


@pytest.fixture
def peer():
    """A connection over loopback: (sock.TCP, stdlib socket)."""
    with socket.create_server(('127.0.0.1', 0)) as listener:
        other = socket.create_connection(listener.getsockname(), PATIENCE)
        accepted, _ = listener.accept()
    conn = sock.fromsocket(accepted)
    with other, conn:
        yield conn, other


@pytest.fixture(scope='session')
def certificate(tmp_path_factory):
    """A certificate for localhost, 127.0.0.1 and ::1: its file, with whom to trust for it, and that of its key."""
    return certify(tmp_path_factory.mktemp('certificate'))


@pytest.fixture
def trusting(certificate):
    """The TLS context of a client that trusts it."""
    return ssl.create_default_context(cafile=certificate[0])


@pytest.fixture
def certified(certificate):
    """The TLS context of a server that shows it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


@pytest.fixture
def dead_port():
    """A port of 127.0.0.1 that is taken and refuses connections."""
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        yield s.getsockname()[1]


@contextlib.contextmanager
def silent(host, port=0):
    """A port of that host that answers nothing: a listener with a full backlog."""
    if not LINUX:
        pytest.skip('a full backlog drops new connections on Linux')
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    with contextlib.ExitStack() as stack:
        s = stack.enter_context(socket.socket(family))
        s.bind((host, port))
        s.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket(family))
            filler.setblocking(False)
            filler.connect_ex(s.getsockname())
        yield s.getsockname()[1]


@pytest.fixture
def black_hole():
    """An address that answers nothing."""
    with silent('127.0.0.1') as port:
        yield sock.addr('127.0.0.1', port).addr


@pytest.fixture
def names(monkeypatch):
    """What host names stand for, instead of what the system says."""
    table = {}

    def getaddrinfo(host, port, family=0, type=0, proto=0, flags=0):
        if host not in table:
            raise socket.gaierror(socket.EAI_NONAME, 'Name or service not known')
        found = [
            (socket.AF_INET6, (each, port, 0, 0)) if ':' in each else (socket.AF_INET, (each, port))
            for each in table[host]
        ]
        return [(its, socket.SOCK_STREAM, 6, '', address) for its, address in found if family in (0, its)]

    monkeypatch.setattr(socket, 'getaddrinfo', getaddrinfo)
    return table


@pytest.fixture
def listener():
    with sock.tcp() as s:
        s.listen('127.0.0.1')
        yield s


@pytest.fixture
def udp():
    with sock.udp() as s:
        s.bind('127.0.0.1')
        yield s


@pytest.fixture
def other():
    """A stdlib socket of datagrams, bound."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(PATIENCE)
        s.bind(('127.0.0.1', 0))
        yield s


@pytest.fixture
def dead():
    """An address of datagrams where nobody is."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(('127.0.0.1', 0))
        return sock.addr(*s.getsockname(), 'udp').addr
