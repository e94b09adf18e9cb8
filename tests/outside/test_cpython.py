"""CPython's own cases of sockets, as the interpreter that runs this has them, over our sockets.

`test.test_socket` runs over the stdlib's `socket` module with our sockets below it (`blocking.py`): most cases run a
client and a server in two OS threads, each with a poller of its own. `test.test_asyncio.test_sock_lowlevel` runs over
asyncio's loop with `sock_*` methods of ours; its servers are the stdlib's.

Every case has to pass, and to make one of our sockets, unless it is in a table below: in `NOT_RUN`, or in `FAILS`, and
then it has to fail. One that skips itself has to do so over the stdlib's sockets too. `-s` prints how many are what.
"""

import asyncio
import contextlib
import gc
import random
import re
import socket
import sys
import unittest

import pytest
import sock
from support import LINUX

if not LINUX:
    pytest.skip('which of its cases cannot pass is known of Linux alone', allow_module_level=True)

WHY_NOT = f"CPython's tests are not installed (Debian has them in libpython3.{sys.version_info.minor}-testsuite)"
theirs = pytest.importorskip('test.test_socket', reason=WHY_NOT)
their_lowlevel = pytest.importorskip('test.test_asyncio.test_sock_lowlevel', reason=WHY_NOT)

from .blocking import Blocking, anew, outcome, over_ours  # noqa: E402

#: What shows nothing of ours: a regular expression of cases, and why.
NOT_RUN = {
    r'\w*(CAN|RDS|VSOCK|UDPLITE|SCTP|ISOTP|J1939|QIPCRTR|Bluetooth|HyperV|TIPC|CryptoAPI)\w*\..*': (
        'a family or protocol that sock does not have'
    ),
    r'(\w*(Sendmsg|Recvmsg|Cmsg|SendRecvFds)|RFC3542|ReentrantMutation)\w*\..*|\w+\.test\w*([Ss]end|[Rr]ecv)msg\w*': (
        'sock has no sendmsg() and recvmsg()'
    ),
    r'GeneralModuleTests\.(test(Crucial|GetServBy|Getaddrinfo|HostnameRes|IPv|Interface|Interpreter|InvalidI|NtoH'
    r'|RefCount|SocketError|StringTo)\w*|test_(addressfamily|addressinfo|csocket|getaddrinfo|getfqdn|getnameinfo|host'
    r'|idna|msgflag|sethostname|socket_methods|socket_type|socketkind|SocketType)\w*)'
    r'|TestExceptions\.testExceptionTree|TestLazyImport\..*': 'about functions and constants: it makes no socket',
    r'TestSocketSharing\..*|TestM\w+TCPFlags\..*|TestUnixDomain\.testEmptyAddress'
    r'|GeneralModuleTests\.test(_sio_|_sock_ioctl|3542|Windows)\w*': 'of another system',
    r'NonBlockingTCPTests\.testSetBlocking_overflow': 'in some versions it wants a descriptor that blocks',
}

#: What has to fail, and why.
FAILS = {
    r'BasicTCPTest2?\.testShutdown_overflow|GeneralModuleTests\.test_(getsockaddrarg|flowinfo|listen_backlog_over.*)': (
        'what is out of range is a ValueError; it wants an OverflowError'
    ),
    r'GeneralModuleTests\.(testSendtoErrors|test_socket_fileno_rejects_(invalid_socket|negative))': (
        "it compares CPython's words"
    ),
    r'GeneralModuleTests\.test_(dealloc_warn|pickle)': "it wants the classes of CPython's own socket module",
    r'GeneralModuleTests\.test_unknown_socket_family_repr': 'a family that sock does not have is refused',
    r'GeneralModuleTests\.(testCloseException|test_socket_close)': (
        'close() is silent, though the descriptor was closed behind its back'
    ),
    r'TestExceptions\.test_setblocking_invalidfd': 'setblocking() asks the OS nothing',
    r'NonBlockingTCPTests\.testSetBlocking|NonblockConstantTest\..*': 'the descriptor never blocks: the poller waits',
    r'BufferIOTest\.testRecvFromIntoEmptyBuffer': 'an empty buffer is refused: 0 would look like the end',
    r'BufferIOTest\.testRecvFromIntoSmallBuffer|EventLoopTests\.test_recvfrom_into_wrong_size': (
        'a maxlen that is more than the buffer is no error: no more is read than fits'
    ),
    r'TestLinuxAbstractNamespace\.testAutobind': 'an empty path is refused: a unix socket needs one',
    r'EventLoopTests\.test_sendto_blocking': "it replaces the socket's sendto(), which nothing calls here",
}


class Waiting(asyncio.Future):
    """The end of a thread of ours, which a task of asyncio's awaits."""

    def __init__(self, loop, thread):
        super().__init__(loop=loop)
        self.thread = thread
        thread.onfinish(lambda _: self.done() or self.set_result(None))

    def cancel(self, msg=None):
        # asyncio takes it that the next one may read right after this.
        self.thread.cancel()
        with self.get_loop().polling():
            while not self.thread.done:
                sock.poll(0)
        return super().cancel(msg)


class Loop(asyncio.SelectorEventLoop):
    """asyncio's, with operations of ours as its `sock_*` methods. It waits for our poller as for any descriptor."""

    def __init__(self):
        super().__init__()
        # Not this OS thread's: a call that blocks must not go on with what the loop has under way.
        self._poller = sock.Poller()
        with self.polling():
            self.add_reader(sock.epoll_fd(), self._poll)

    @contextlib.contextmanager
    def polling(self):
        before = sock.poller()
        sock.poller(self._poller)
        try:
            yield
        finally:
            sock.poller(before)

    def _poll(self):
        with self.polling():
            while sock.poll(0):
                pass

    async def _do(self, s, operation, *args):
        if self.get_debug() and s.gettimeout() != 0:
            raise ValueError('the socket must be non-blocking')
        with self.polling():
            waiting = Waiting(self, sock.newthread(outcome(operation(*args))))
        await waiting
        result, failure = waiting.thread.result()
        if failure is not None:
            raise failure
        return result

    async def sock_recv(self, s, n):
        return await self._do(s, s.ours.recv, n)

    async def sock_recv_into(self, s, buf):
        return await self._do(s, s.ours.recv, buf)

    async def sock_recvfrom(self, s, bufsize):
        data, sender = await self._do(s, s.ours.recvfrom, bufsize)
        return data, s.theirs(sender)

    async def sock_recvfrom_into(self, s, buf, nbytes=0):
        length, sender = await self._do(s, s.ours.recvfrom, buf, nbytes or None)
        return length, s.theirs(sender)

    async def sock_sendall(self, s, data):
        await self._do(s, s.ours.send, data)

    async def sock_sendto(self, s, data, address):
        return await self._do(s, s.ours.send, data, None, s.host(address))

    async def sock_connect(self, s, address):
        await self._do(s, s.ours.connect, s.host(address))

    async def sock_accept(self, s):
        conn, remote, _ = await self._do(s, s.ours.accept)
        accepted = over_ours.socket(fileno=conn.detach())
        accepted.setblocking(False)
        return accepted, s.theirs(remote)


lowlevel = anew('test.test_asyncio.test_sock_lowlevel', socket=over_ours)


class EventLoopTests(lowlevel.BaseSockTestsMixin, lowlevel.test_utils.TestCase):
    __test__ = False

    def create_event_loop(self):
        return Loop()


def classes(module):
    return {
        name: each
        for name, each in vars(module).items()
        if isinstance(each, type) and issubclass(each, unittest.TestCase)
    }


OVER_OURS = {**classes(anew('test.test_socket', socket=over_ours)), 'EventLoopTests': EventLoopTests}
OVER_THEIRS = {**classes(theirs), 'EventLoopTests': their_lowlevel.SelectEventLoopTests}

# All that was imported would be looked through by each test's collection of garbage.
gc.collect()
gc.freeze()

CASES = [f'{name}.{case}' for name, each in OVER_OURS.items() for case in unittest.TestLoader().getTestCaseNames(each)]


def which(table):
    """The cases of each entry: one that several match is of the first one."""
    cases = {entry: [] for entry in table}
    for case in CASES:
        for entry in table:
            if re.fullmatch(entry, case):
                cases[entry].append(case)
                break
    return cases


LEFT_OUT = {case: NOT_RUN[entry] for entry, cases in which(NOT_RUN).items() for case in cases}
HAS_TO_FAIL = {case: FAILS[entry] for entry, cases in which(FAILS).items() for case in cases}


def runs():
    for case in CASES:
        if case in HAS_TO_FAIL:
            yield pytest.param(case, marks=pytest.mark.xfail(reason=HAS_TO_FAIL[case]))
        elif case not in LEFT_OUT:
            yield case


def result_of(case, classes):
    name, _, method = case.partition('.')
    result = unittest.TestResult()
    unittest.TestSuite([classes[name](method)]).run(result)
    return result


def unused_port():
    """One that nobody gets meanwhile: it is not among those that the OS gives away."""
    while True:
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(('', random.randrange(10000, 32768)))
            return s.getsockname()[1]


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    """They write files where they are, and take ports that were free a moment ago."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(theirs.socket_helper, 'find_unused_port', unused_port)


@pytest.mark.parametrize('case', list(runs()))
def test_case_of_cpython_passes_over_our_sockets(case):
    made = Blocking.made
    result = result_of(case, OVER_OURS)
    for _, trace in result.failures + result.errors:
        pytest.fail(trace, pytrace=False)
    if result.skipped:
        reasons = [reason for _, reason in result.skipped]
        assert reasons == [reason for _, reason in result_of(case, OVER_THEIRS).skipped], 'skips over our sockets alone'
        pytest.skip(reasons[0])
    assert Blocking.made > made, 'it makes no socket of ours: an entry of NOT_RUN is missing'


def test_tables_name_cases_that_there_are_and_none_twice():
    assert len(set(CASES)) == len(CASES)
    assert not LEFT_OUT.keys() & HAS_TO_FAIL.keys()
    passes = len(list(runs())) - len(HAS_TO_FAIL)
    print(f'\n{sys.version.split()[0]}: {len(CASES)} cases')
    numbers = [passes]
    for table, what in ((NOT_RUN, 'not run'), (FAILS, 'has to fail')):
        for entry, cases in which(table).items():
            print(f'{len(cases):5} {what}: {table[entry]}')
            numbers.append(len(cases))
            assert cases, f'each case of {entry} is one of an entry before it, or there is none'
    print(f'{passes:5} has to pass, or to skip itself over the stdlib too')
    assert sum(numbers) == len(CASES)
