"""Scenarios 42 to 50: turns, what ends them and what they leave."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

import pytest
import sock
from sock import _group, _scheduler, _sockets, _sync, _timers
from support import LINUX, TESTS, busy, interrupt, python

from .conftest import own_program

posix = pytest.mark.skipif(os.name == 'nt', reason='sends SIGINT')
forks = pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork')


async def value(result):
    return result


def ends_promptly(code):
    """Ctrl-C ends the program within the promised 100 ms: in one of five runs, on a machine with a processor free."""
    for _ in range(4):
        with contextlib.suppress(AssertionError):
            # Asked each time: the load that the system tells is the mean of a minute, and follows late.
            interrupt(code, 0.1 * busy())
            return
    interrupt(code, 0.1 * busy())


@posix
@pytest.mark.parametrize('threads', [1, 3])
@own_program
def test_s42_ctrl_c_ends_a_thread_that_never_waits(threads):
    """Scenario 42: A thread that never waits -> others starve by definition, but Ctrl-C still ends it; a socket that is
    always ready -> budgeted, others run."""
    code = f"""
        import sock

        async def never_waits():
            print('ready', flush=True)
            while True:
                pass

        async def main():
            await sock.newthread(never_waits)

        try:
            sock.run(main, threads={threads})
        except KeyboardInterrupt:
            print('interrupted', flush=True)
    """
    ends_promptly(code)


@pytest.mark.parametrize('operation', ['recv', 'send', 'readable', 'recvall'])
@pytest.mark.not_under('chaos', 'it shows the budget of a thread, of which chaos leaves none')
@pytest.mark.not_under('virtual-clock', 'it stands still while a socket is always ready')
def test_s42_socket_that_is_always_ready_lets_others_run(operation):
    """Scenario 42: A thread that never waits -> others starve by definition, but Ctrl-C still ends it; a socket that is
    always ready -> budgeted, others run."""
    ours, other = socket.socketpair()
    conn = sock.fromsocket(ours)
    over = False

    def feed():
        data = bytes(1 << 16)
        with contextlib.suppress(OSError):
            while not over:
                other.recv(1 << 16) if operation == 'send' else other.sendall(data)

    async def uses():
        buf = bytearray(100)
        while not over:
            match operation:
                case 'recv':
                    await conn.recv(buf)
                case 'send':
                    await conn.send(b'x')
                case 'readable':
                    await conn.readable()
                case 'recvall':
                    with contextlib.suppress(sock.MessageTooLong):
                        await conn.recvall(50_000_000)

    async def main():
        nonlocal over
        feeder = threading.Thread(target=feed)
        feeder.start()
        thread = sock.newthread(uses)
        turns, until = 0, sock.clock() + 0.3 * busy()
        while sock.clock() < until:
            await sock.sleep(0)
            turns += 1
        over = True
        # Which ends what the feeder is in the middle of.
        conn.close()
        await sock.offload(feeder.join)
        with contextlib.suppress(sock.Closed):
            await thread
        return turns

    with conn, other:
        # By one OS thread, where nobody else could run them.
        assert sock.run(main) > 20


def test_s43_exception_anywhere_is_reported_once_and_the_others_go_on(run, reported):
    """Scenario 43: An exception in one thread, in a timer, in `onfinish`, in `excepthook` itself -> the others go on;
    it is reported once."""
    ticks = []

    async def fails(text):
        await sock.sleep(0)
        raise ValueError(text)

    def raises(text):
        raise ValueError(text)

    async def ticking():
        for _ in range(20):
            ticks.append(await sock.sleep(0.001))

    async def main():
        others = sock.newthread(ticking)
        sock.newthread(fails, 'thread')
        sock.newthread(sock.sleep, 0).onfinish(lambda thread: raises('onfinish'))
        sock.runafter(0.001, lambda: raises('timer'))
        sock.runafter(0.001, lambda: fails('async timer'))
        every = sock.runevery(0.002, lambda: len(ticks) < 15 or every.cancel() or raises('every'))
        with pytest.raises(ValueError, match='awaited'):
            await sock.newthread(fails, 'awaited')
        await others
        while not every.done:
            await sock.sleep(0.001)

    run(main)
    assert len(ticks) == 20
    gc.collect()
    assert sorted(str(exc) for _, exc in reported) == ['async timer', 'every', 'onfinish', 'thread', 'timer']


@pytest.mark.parametrize('error', [RuntimeError, SystemExit, sock.Cancelled])
def test_s43_exception_in_excepthook_is_reported_with_the_one_it_was_called_for(run, monkeypatch, capsys, error):
    """Scenario 43: An exception in one thread, in a timer, in `onfinish`, in `excepthook` itself -> the others go on;
    it is reported once."""

    def hook(thread, exc):
        raise error('from the hook')

    async def fails():
        await sock.sleep(0)
        raise ValueError('from the thread')

    async def main():
        sock.newthread(fails)
        await sock.sleep(0.005)
        return 'went on'

    monkeypatch.setattr(sock, 'excepthook', hook)
    assert run(main) == 'went on'
    printed = capsys.readouterr().err
    assert printed.count('ValueError: from the thread') == 1
    assert printed.count(f'{error.__name__}: from the hook') == 1


@pytest.mark.skipif(not LINUX, reason='reads its memory from /proc')
@pytest.mark.parametrize('threads', [1, 3])
@own_program
def test_s44_million_threads_and_hundred_thousand_alive_leave_no_memory_behind(threads):
    """Scenario 44: 1,000,000 threads started and ended; 100,000 alive -> memory returns; recursion limit untouched by
    nested `newthread`."""
    python(f"""
        import gc, sys, sock
        sys.path.append({str(TESTS)!r})
        from held import resident

        async def ends_at_once():
            pass

        async def yields():
            await sock.sleep(0)

        async def sleeps():
            await sock.sleep(3600)

        async def alive():
            threads = [sock.newthread(sleeps) for _ in range(100_000)]
            assert len(sock.threads()) > 100_000

        async def ended():
            for _ in range(90):
                for _ in range(1_000):
                    sock.newthread(ends_at_once)
                    last = sock.newthread(yields)
                await last

        def round_trip():
            sock.run(alive, threads={threads})
            sock.run(ended, threads={threads})
            assert not sock.threads()
            gc.collect()
            after.append(resident())

        after = []
        for _ in range(6):
            round_trip()
        # A few bytes of each thread, and 10 of each that was alive at the same time.
        assert min(after[4:]) - max(after[1:3]) < 4_000_000, after
    """)


def test_s44_newthread_nests_deeper_than_the_recursion_limit_and_leaves_it(run):
    """Scenario 44: 1,000,000 threads started and ended; 100,000 alive -> memory returns; recursion limit untouched by
    nested `newthread`."""
    reached = []
    limit = sys.getrecursionlimit()

    async def nests(depth):
        reached.append(depth)
        assert sys.getrecursionlimit() == limit
        if depth:
            await sock.newthread(nests, depth - 1)

    run(nests, 5 * limit)
    assert min(reached) == 0
    assert sys.getrecursionlimit() == limit


LOOPS = {'start': sock.start, 'poll': sock.poll, 'run': lambda: sock.run(value, 1)}


@pytest.mark.parametrize('loop', LOOPS)
def test_s45_loop_inside_a_thread_is_a_runtime_error_that_says_so(run, loop):
    """Scenario 45: `start` inside a thread, `run` inside `run`, `poll` from two places, awaiting oneself, awaiting
    under asyncio -> RuntimeError that says so."""

    async def main():
        with pytest.raises(RuntimeError, match=rf"{loop}\(\) inside thread 'test': it polls already"):
            LOOPS[loop]()
        await sock.sleep(0.001)
        return 'unharmed'

    assert run(main) == 'unharmed'


@posix
@pytest.mark.parametrize('loop', LOOPS)
def test_s45_loop_in_a_signal_handler_while_one_polls_is_a_runtime_error_that_says_so(amid, loop):
    """Scenario 45: `start` inside a thread, `run` inside `run`, `poll` from two places, awaiting oneself, awaiting
    under asyncio -> RuntimeError that says so."""
    caught = []

    def handler(number, frame):
        if sock.thread() is not None:  # amid a turn by chance, which is the scenario before
            signal.setitimer(signal.ITIMER_REAL, 0.0137)
            return
        with pytest.raises(
            RuntimeError, match=rf'{loop}\(\) inside a loop of this OS thread, which polls already'
        ) as error:
            LOOPS[loop]()
        caught.append(error.value)

    async def main():
        started = time.monotonic()
        while not caught:
            assert time.monotonic() < started + 20
            await sock.sleep(0.01)
        return 'unharmed'

    old = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        assert sock.run(main) == 'unharmed'
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert len(caught) == 1


def test_s45_awaiting_oneself_is_a_runtime_error_that_says_so(run):
    """Scenario 45: `start` inside a thread, `run` inside `run`, `poll` from two places, awaiting oneself, awaiting
    under asyncio -> RuntimeError that says so."""

    async def main():
        with pytest.raises(RuntimeError, match="thread 'test' awaits itself: that would never end"):
            await sock.thread()

    run(main)


@pytest.mark.parametrize(
    'wait', [lambda: sock.sleep(0), sock.suspend, lambda: sock.Event().wait(), lambda: sock.newthread(sock.suspend)]
)
@pytest.mark.not_under('chaos', 'virtual-clock', 'the loop of asyncio runs it, and none of ours')
def test_s45_awaiting_under_asyncio_is_a_runtime_error_that_says_so(wait, reported):
    """Scenario 45: `start` inside a thread, `run` inside `run`, `poll` from two places, awaiting oneself, awaiting
    under asyncio -> RuntimeError that says so."""

    async def main():
        with pytest.raises(RuntimeError, match='inside a sock thread'):
            await wait()
        await asyncio.sleep(0)

    asyncio.run(main())


def test_s45_awaiting_something_of_asyncio_is_a_runtime_error_that_says_so(run):
    """Scenario 45: `start` inside a thread, `run` inside `run`, `poll` from two places, awaiting oneself, awaiting
    under asyncio -> RuntimeError that says so."""
    loop = asyncio.new_event_loop()

    async def main():
        with pytest.raises(RuntimeError, match="thread 'test' awaited 'Future', which belongs to another event loop"):
            await loop.create_future()
        await sock.sleep(0.001)
        return 'unharmed'

    try:
        assert run(main) == 'unharmed'
    finally:
        loop.close()


@pytest.mark.parametrize('held', [False, True], ids=['dropped', 'held'])
@pytest.mark.parametrize('ends', ['returns', 'raises', 'is cancelled'])
def test_s46_async_generator_left_half_way_runs_its_finally_with_io(run, reported, held, ends):
    """Scenario 46: Async generator left half-way -> its `finally` runs, with I/O in it, before `start` returns."""
    ours, other = socket.socketpair()
    conn = sock.fromsocket(ours)
    kept, steps = [], []

    async def generator():
        try:
            yield 1
            yield 2
        finally:
            await conn.send(b'bye')
            buf = bytearray(7)
            await conn.recvn(buf)
            assert buf == b'bye too'
            steps.append('closed')

    async def leaves():
        numbers = generator()
        if held:
            kept.append(numbers)
        async for _ in numbers:
            break
        del numbers
        if ends == 'raises':
            raise KeyError('while it is half-way')
        if ends == 'is cancelled':
            await sock.sleep(60)

    def answer():
        with other.makefile('rb') as incoming:
            assert incoming.read(3) == b'bye'
        other.sendall(b'bye too')

    async def main():
        answering = threading.Thread(target=answer)
        answering.start()
        thread = sock.newthread(leaves)
        if ends == 'is cancelled':
            thread.cancel()
        errors = {'returns': contextlib.nullcontext(), 'raises': pytest.raises(KeyError)}
        with errors.get(ends, pytest.raises(sock.Cancelled)):
            await thread
        # Its thread has ended only now.
        assert steps == ['closed']
        await sock.offload(answering.join)

    with conn, other:
        run(main)
    assert not reported


def test_s46_start_does_not_return_before_the_finally_has_run(amid):
    """Scenario 46: Async generator left half-way -> its `finally` runs, with I/O in it, before `start` returns."""
    steps = []

    async def generator():
        try:
            yield
        finally:
            await sock.sleep(0.01)
            steps.append('closed')

    async def leaves():
        async for _ in generator():
            break

    before = sys.get_asyncgen_hooks()
    sock.newthread(leaves)
    assert not steps
    assert sock.start(10) is True
    assert steps == ['closed']
    assert sys.get_asyncgen_hooks() == before


@posix
@pytest.mark.parametrize('threads', [1, 3])
@pytest.mark.parametrize(
    'waits',
    [
        'await conn.recv(1)',
        'await conn.send(bytes(10_000_000))',
        'await sock.sleep(60)',
        'await sock.suspend()',
        'await sock.Event().wait()',
        'await sock.offload(time.sleep, 1)',
        'while True: await sock.sleep(0)',
        'while True: pass',
        'while True: await sock.newthread(sock.sleep(0))',
    ],
)
@own_program
def test_s47_ctrl_c_ends_run_within_100_ms_whatever_it_does(waits, threads):
    """Scenario 47: KeyboardInterrupt at any point (main thread waiting, running, or not the poller) -> within 100 ms;
    sockets closed; no traceback from the library itself."""
    code = f"""
        import socket, sock, time

        async def works(conn):
            with conn:
                print('ready', flush=True)
                {waits}

        async def main(conn):
            working = sock.newthread(works, conn)
            await sock.sleep(60)

        ours, other = socket.socketpair()
        conn = sock.fromsocket(ours)
        try:
            sock.run(main, conn, threads={threads})
        except KeyboardInterrupt:
            print('interrupted', flush=True)
        assert conn.closed
        assert sock.threads() == []
        other.close()
    """
    ends_promptly(code)


@posix
@pytest.mark.parametrize('where', ['main', 'another', 'nowhere'])
@own_program
def test_s47_ctrl_c_ends_run_over_several_os_threads_wherever_python_runs(where):
    """Scenario 47: KeyboardInterrupt at any point (main thread waiting, running, or not the poller) -> within 100 ms;
    sockets closed; no traceback from the library itself."""
    code = f"""
        import sock, threading

        def is_main():
            return threading.current_thread() is threading.main_thread()

        async def main():
            if '{where}' != 'nowhere':
                while is_main() != ('{where}' == 'main'):
                    await sock.sleep(0)
                print('ready', flush=True)
                while True:
                    pass
            print('ready', flush=True)
            await sock.sleep(60)

        try:
            sock.run(main, threads=3)
        except KeyboardInterrupt:
            print('interrupted', flush=True)
    """
    ends_promptly(code)


@posix
@pytest.mark.parametrize('threads', [1, 3])
@own_program
def test_s47_ctrl_c_at_any_time_closes_the_sockets_and_ends_each_thread(threads):
    """Scenario 47: KeyboardInterrupt at any point (main thread waiting, running, or not the poller) -> within 100 ms;
    sockets closed; no traceback from the library itself."""
    python(f"""
        import contextlib, os, random, signal, socket, sock, threading, time, warnings

        # As with any coroutine, the interpreter tells of one that Ctrl-C has kept from being awaited.
        warnings.filterwarnings('ignore', 'coroutine .* was never awaited')

        async def serves(conn):
            with contextlib.suppress(sock.Error), conn:
                while n := await conn.recv(buf := bytearray(100)):
                    await conn.send(buf, n)

        async def calls(conn, queue, lock):
            with contextlib.suppress(sock.Error), conn:
                while True:
                    async with lock, sock.group() as g:
                        g.newthread(conn.send, b'x')
                        if not await conn.recv(1):
                            # The other side was interrupted before us.
                            return
                    await queue.put(await sock.newthread(sock.sleep, 0))

        async def takes(queue):
            async for _ in queue:
                pass

        async def main():
            queue, lock = sock.Queue(2), sock.Lock()
            started.release()
            sock.runevery(0.001, lambda: None)
            with contextlib.ExitStack() as stack:
                for ours, theirs in pairs:
                    stack.enter_context(ours)
                    stack.enter_context(theirs)
                    sock.newthread(serves, ours)
                    sock.newthread(calls, theirs, queue, lock)
                complete.append(i)
                await takes(queue)

        def interrupts(seconds, started):
            started.acquire()
            time.sleep(seconds)
            os.kill(os.getpid(), signal.SIGINT)

        pauses = random.Random(47)
        complete = []
        for i in range(30):
            pairs = [[sock.fromsocket(s) for s in socket.socketpair()] for _ in range(5)]
            # It is started out here: what `threading` does in Python, Ctrl-C may leave half done.
            started = threading.Lock()
            started.acquire()
            timer = threading.Thread(target=interrupts, args=(pauses.random() / 60, started))
            timer.start()
            try:
                sock.run(main, threads={threads})
            except KeyboardInterrupt:
                pass
            else:
                raise AssertionError('not interrupted')
            timer.join()
            for conn in (conn for pair in pairs for conn in pair):
                assert conn.closed or i not in complete, i
                conn.close()
            assert sock.threads() == []
        assert complete
    """)


#: Every Python module of ours in which the interpreter may be when Ctrl-C comes.
OURS = {module.__name__ for module in (_scheduler, _group, _sockets, _sync, _timers)}


@posix
@pytest.mark.filterwarnings('ignore:coroutine .* was never awaited:RuntimeWarning')
@pytest.mark.not_under('chaos', 'virtual-clock', 'each round takes the same calls as the one before and one more')
def test_s47_ctrl_c_at_each_call_and_return_of_our_own_leaves_all_whole():
    """Scenario 47: KeyboardInterrupt at any point (main thread waiting, running, or not the poller) -> within 100 ms;
    sockets closed; no traceback from the library itself."""

    def interrupted_at(number):
        """Runs a program that gets Ctrl-C at the so manieth call or return, where the interpreter looks for signals.

        False: it has fewer.
        """
        seen = 0
        ours, theirs = (sock.fromsocket(s) for s in socket.socketpair())
        entered = []

        def profile(frame, event, arg):
            nonlocal seen
            if event != 'c_call' and frame.f_globals.get('__name__') in OURS:
                seen += 1
                if seen == number:
                    sys.setprofile(None)
                    signal.raise_signal(signal.SIGINT)

        async def serves(conn):
            with conn:
                while data := await conn.recv(100):
                    await conn.send(data)

        async def numbers():
            try:
                yield 1
            finally:
                await sock.sleep(0)

        async def main():
            queue, lock = sock.Queue(1), sock.Lock()
            sock.runafter(0, lambda: None)
            with ours, theirs:
                entered.append(True)
                async with sock.group() as g:
                    g.newthread(serves, ours)
                    with sock.deadline(sock.clock() + 5):
                        await theirs.send(b'x')
                        async with lock:
                            await theirs.recv(1)
                    g.newthread(queue.put, 1)
                    await queue.get()
                    async for _ in numbers():
                        break
                    theirs.shutdown('w')

        interrupted = False
        try:
            sys.setprofile(profile)
            sock.run(main)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            sys.setprofile(None)
        assert interrupted == (seen >= number)
        assert sock.threads() == []
        closed = ours.closed, theirs.closed
        ours.close()
        theirs.close()
        assert closed == (True, True) or not entered, number
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert not sock._interrupts.is_late()
        # Whole enough to go on with.
        assert sock.run(value, number) == number
        return interrupted

    number = 1
    while interrupted_at(number):
        number += 1
    assert number > 100


#: Programs that end while something still goes on.
EXITS = {
    'threads wait': """
        suspended = sock.newthread(sock.suspend)
        sock.newthread(sock.sleep, 60)
        sock.newthread(conn.recv, 1)
        sock.newthread(spins)
        sock.start(0.01)
    """,
    'never polled': """
        sock.newthread(conn.recv, 1)
        sock.runevery(0.001, print)
    """,
    'OS threads poll Pollers of their own': """
        def poll():
            sock.newthread(sock.sleep, 60)
            sock.newthread(spins)
            ready.release()
            sock.start()

        polling(poll)
    """,
    'OS threads poll that of the main one': """
        poller = sock.poller()
        sock.runevery(0.0001, lambda: None)
        sock.newthread(sock.sleep, 60)
        sock.newthread(conn.recv, 1)

        def poll():
            sock.poller(poller)
            ready.release()
            sock.start()

        polling(poll)
    """,
    'OS threads are busy with threads of the main one': """
        poller = sock.poller()
        for _ in range(10):
            sock.newthread(spins)

        def poll():
            sock.poller(poller)
            ready.release()
            sock.start()

        polling(poll)
    """,
    'OS threads are in the middle of run': """
        async def main():
            ready.release()
            await sock.newthread(spins)

        polling(lambda: sock.run(main, threads=2))
    """,
    'a thread ends the program': """
        async def ends():
            sock.newthread(spins)
            sock.newthread(conn.recv, 1)
            await sock.sleep(0.01)
            sys.exit()

        sock.run(ends, threads=3)
    """,
}


@pytest.mark.parametrize('what', EXITS)
@own_program
def test_s48_interpreter_exits_at_once_and_quietly_whatever_still_goes_on(what):
    """Scenario 48: Interpreter exit with threads alive, daemon OS threads polling -> no crash, no hang, no deadlock
    with the GIL."""
    code = """
import socket, sock, sys, threading, warnings

# What is still open is told as such, and is not what this is about.
warnings.simplefilter('ignore', ResourceWarning)
ready = threading.Semaphore(0)
ours, other = socket.socketpair()
conn = sock.fromsocket(ours)

async def spins():
    while True:
        await sock.sleep(0)

def polling(target):
    for _ in range(3):
        threading.Thread(target=target, daemon=True).start()
    for _ in range(3):
        assert ready.acquire(timeout=20)

"""
    for _ in range(5):
        python(code + textwrap.dedent(EXITS[what]))


FORKS = """
    import os, socket, sock, warnings

    # That there are other OS threads is what this is about.
    warnings.simplefilter('ignore', DeprecationWarning)

    async def echo_once(conn):
        await conn.send(await conn.recv(10))
        return 'echoed'

    async def sleeps():
        await sock.sleep(0.05)
        return 'slept'

    def in_child(conn, other, old):
        try:
            assert sock.thread() is None
            assert sock.threads() == []
            assert sock.poller() is not old
            other.send(b'child')
            assert sock.run(echo_once, conn) == 'echoed'
            assert other.recv(10) == b'child'
            assert sock.run(sleeps, threads=2) == 'slept'
            os._exit(0)
        finally:
            os._exit(1)
"""


@forks
@pytest.mark.parametrize('threads', [1, 3])
@own_program
def test_s49_fork_in_a_thread_leaves_the_parent_undisturbed_and_the_child_clean(threads):
    """Scenario 49: `fork` in a thread, in an OS thread, with a shared Poller; `multiprocessing` fork/spawn/forkserver;
    `subprocess` while polling -> parent undisturbed, child clean, no descriptor inherited."""
    python(
        textwrap.dedent(FORKS)
        + textwrap.dedent(f"""
            async def main():
                ours, other = socket.socketpair()
                conn = sock.fromsocket(ours)
                with conn, other:
                    sleeper = sock.newthread(sleeps)
                    reader = sock.newthread(echo_once, conn)
                    pid = os.fork()
                    if pid == 0:
                        in_child(conn, other, poller)
                    assert os.waitpid(pid, 0)[1] == 0
                    other.send(b'parent')
                    assert await reader == 'echoed'
                    assert await sleeper == 'slept'
                    assert other.recv(10) == b'parent'

            poller = sock.poller()
            for _ in range(5):
                sock.run(main, threads={threads})
        """)
    )


@forks
@pytest.mark.parametrize('threads', [1, 2])
@own_program
def test_s49_child_that_comes_back_from_the_loop_has_loops_of_its_own(threads):
    """Scenario 49: `fork` in a thread, in an OS thread, with a shared Poller; `multiprocessing` fork/spawn/forkserver;
    `subprocess` while polling -> parent undisturbed, child clean, no descriptor inherited."""
    python(f"""if True:
        import os, sock

        turns = []

        async def forks():
            return os.fork()

        async def main(inside):
            # Inside: the fork is in the first turn of a thread, inside the turn of its starter.
            thread = sock.newthread(forks)
            pid = thread.result() if inside else os.fork()
            if pid == 0:
                try:
                    await sock.sleep(0)
                except RuntimeError as error:
                    assert 'only inside a sock thread' in str(error)
                else:
                    os._exit(1)
            return pid

        async def sleeps():
            turns.append('first')
            await sock.sleep(0.01)
            return 'slept'

        for inside in False, True:
            pid = sock.run(main, inside, threads={threads})
            if pid == 0:
                assert sock.threads() == []
                assert sock.run(sleeps, threads={threads}) == 'slept'
                thread = sock.newthread(sleeps)
                assert turns == ['first', 'first'], 'a first turn runs at once'
                sock.start()
                assert thread.result() == 'slept'
                os._exit(7)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    """)


@forks
@own_program
def test_s49_fork_in_an_os_thread_that_shares_a_poller():
    """Scenario 49: `fork` in a thread, in an OS thread, with a shared Poller; `multiprocessing` fork/spawn/forkserver;
    `subprocess` while polling -> parent undisturbed, child clean, no descriptor inherited."""
    python(
        textwrap.dedent(FORKS)
        + textwrap.dedent("""
            import threading

            def fork():
                sock.poller(poller)
                ours, other = socket.socketpair()
                conn = sock.fromsocket(ours)
                with conn, other:
                    pid = os.fork()
                    if pid == 0:
                        in_child(conn, other, poller)
                    codes.append(os.waitpid(pid, 0)[1])

            async def spins():
                while not over:
                    await sock.sleep(0)
                    await sock.newthread(sock.sleep(0))

            async def main():
                spinning = [sock.newthread(spins) for _ in range(4)]
                for _ in range(10):
                    forking = threading.Thread(target=fork)
                    forking.start()
                    await sock.offload(forking.join)
                    assert await sock.newthread(sleeps) == 'slept'
                over.append(True)
                for thread in spinning:
                    await thread

            poller, codes, over = sock.poller(), [], []
            sock.run(main, threads=3)
            assert codes == [0] * 10
        """)
    )


@forks
@pytest.mark.filterwarnings('ignore:.*fork.*:DeprecationWarning')
def test_s49_child_of_a_fork_lets_threads_and_their_poller_go_whoever_held_a_lock(amid):
    """Scenario 49: `fork` in a thread, in an OS thread, with a shared Poller; `multiprocessing` fork/spawn/forkserver;
    `subprocess` while polling -> parent undisturbed, child clean, no descriptor inherited."""
    stop = threading.Event()

    def churn():
        async def main():
            while not stop.is_set():
                for thread in [sock.newthread(value, 1) for _ in range(20)]:
                    await thread
                await sock.sleep(0)

        sock.run(main, threads=2)

    os_thread = threading.Thread(target=churn)
    os_thread.start()
    try:
        for _ in range(30):
            kept = sock.newthread(sock.sleep, 60)
            pid = os.fork()
            if pid == 0:
                del kept
                sock.run(value, 1)
                gc.collect()
                os._exit(7)
            until = time.monotonic() + 10
            while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
                if time.monotonic() > until:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                    pytest.fail('the child hangs')
                time.sleep(0.001)
            assert os.waitstatus_to_exitcode(ended[1]) == 7
            kept.cancel()
            sock.start(5)
    finally:
        stop.set()
        os_thread.join(10)


WORKERS = """
import multiprocessing, socket, sock, sys, threading, warnings

warnings.simplefilter('ignore', DeprecationWarning)

async def doubles(conn):
    with conn:
        async def serve():
            await conn.send(bytes([2 * (await conn.recv(1))[0]]))
        await sock.newthread(serve)

def work(ours):
    assert sock.threads() == []
    sock.run(doubles, sock.fromsocket(ours), threads=2)

def use_worker(context):
    ours, other = socket.socketpair()
    with ours, other:
        process = context.Process(target=work, args=(ours,))
        process.start()
        other.sendall(b'\\x15')
        assert other.recv(1) == b'*'
        process.join()
        assert process.exitcode == 0, process.exitcode

async def pings(conn, other):
    while not over:
        other.send(b'x')
        assert await conn.recv(1, expires=sock.clock() + 10) == b'x'
        counts.append(1)
        await sock.sleep(0.001)

async def main(context):
    ours, other = socket.socketpair()
    with sock.fromsocket(ours) as conn, other:
        pinging = sock.newthread(pings, conn, other)
        for _ in range(3):
            await sock.offload(use_worker, context)
        over.append(True)
        await pinging

if __name__ == '__main__':
    over, counts = [], []
    sock.run(main, multiprocessing.get_context(sys.argv[1]), threads=int(sys.argv[2]))
    assert len(counts) > 3
"""


@forks
@pytest.mark.parametrize('threads', [1, 3])
@pytest.mark.parametrize('method', ['fork', 'spawn', 'forkserver'])
@own_program
def test_s49_multiprocessing_while_polling(tmp_path, method, threads):
    """Scenario 49: `fork` in a thread, in an OS thread, with a shared Poller; `multiprocessing` fork/spawn/forkserver;
    `subprocess` while polling -> parent undisturbed, child clean, no descriptor inherited."""
    program = tmp_path / 'workers.py'
    program.write_text(WORKERS)
    command = [sys.executable, program, method, str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stderr) == (0, ''), done.stderr


@pytest.mark.skipif(not LINUX, reason='looks for descriptors in /proc')
@pytest.mark.not_under('virtual-clock', 'it stands still while a call is offloaded')
def test_s49_subprocess_while_polling_inherits_no_descriptor(run):
    """Scenario 49: `fork` in a thread, in an OS thread, with a shared Poller; `multiprocessing` fork/spawn/forkserver;
    `subprocess` while polling -> parent undisturbed, child clean, no descriptor inherited."""
    listing = """if True:
        import os
        for path in (f'/proc/self/fd/{n}' for n in os.listdir('/proc/self/fd')):
            # The descriptor of the listing is gone.
            if os.path.exists(path):
                print(os.readlink(path).split('[')[0])
    """

    def inherited():
        command = [sys.executable, '-c', listing]
        # Nothing is closed but what the OS closes by itself.
        done = subprocess.run(
            command, close_fds=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
        )
        return sorted(done.stdout.split())

    before = inherited()
    pings = 0

    async def ping(conn, other):
        nonlocal pings
        while True:
            other.send(b'x')
            assert await conn.recv(1, expires=sock.clock() + 10) == b'x'
            pings += 1
            await sock.sleep(0.001)

    async def main():
        ours, other = socket.socketpair()
        with sock.fromsocket(ours) as conn, other, sock.tcp() as listener, sock.udp() as udp, sock.tcp() as client:
            listener.listen('127.0.0.1')
            udp.bind('127.0.0.1')
            await client.connect(listener.local_addr)
            accepted, _, _ = await listener.accept()
            pinging = sock.newthread(ping, conn, other)
            with accepted:
                for _ in range(3):
                    assert await sock.offload(inherited) == before
            pinging.cancel()
            with pytest.raises(sock.Cancelled):
                await pinging

    run(main)
    assert pings > 3


def test_s50_thread_that_nothing_can_wake_is_reported_and_its_finally_runs(run, reported):
    """Scenario 50: Garbage collection of a thread that will never be resumed -> reported, its `finally` runs."""
    ended = []

    async def waits(operation, name):
        try:
            await operation()
        finally:
            ended.append(name)

    async def circles(others, i):
        try:
            await sock.sleep(0)
            while len(others) < 3:  # another OS thread may run this before all of them are there
                await sock.sleep(0)
            await others[(i + 1) % len(others)]
        finally:
            ended.append(i)

    async def main():
        sock.newthread(waits, sock.suspend, 'suspend', name='suspend')
        sock.newthread(waits, sock.Event().wait, 'event', name='event')
        sock.newthread(waits, sock.Queue().get, 'queue', name='queue')
        circle = []
        for i in range(3):
            circle.append(sock.newthread(circles, circle, i, name=str(i)))
        while any(thread.waiting is None for thread in circle):
            await sock.sleep(0)
        await sock.sleep(0.01)
        assert not {0, 1, 2} & {*ended}
        del circle
        gc.collect()
        await sock.sleep(0)
        return 'went on'

    assert run(main) == 'went on'
    expected = {'suspend', 'event', 'queue', 0, 1, 2}
    assert {*ended} == expected
    assert len(ended) == len(expected)
    assert sorted(thread.name for thread, _ in reported) == sorted(map(str, expected))
    assert all('can never be resumed' in str(exc) for _, exc in reported)
