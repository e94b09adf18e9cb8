"""Ctrl-C: where it may come out, and what it leaves whole. How fast it is: test_scheduler.py and test_sharing.py."""

import gc
import os
import signal
import socket
import sys
import threading
import weakref

import pytest
import sock
from sock import _interrupts, _sock
from support import interrupt, python

pytestmark = pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason='the handler runs in the main OS thread'
)


def cut(function, at, call):
    """Calls ``call``, and sends Ctrl-C before line ``at`` of a function of ours, or after it if it has not so many."""
    lines = 0

    def trace(frame, event, arg):
        nonlocal lines
        if frame.f_code is not function.__code__:
            return None
        if event == 'line':
            lines += 1
            if lines == at:
                signal.raise_signal(signal.SIGINT)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
        if lines < at:
            signal.raise_signal(signal.SIGINT)


async def until_interrupted():
    while True:
        await sock.sleep(0)


@pytest.mark.parametrize('at', range(1, 12))
def test_release_of_a_semaphore_is_never_cut(at):
    seen = []

    async def waits(semaphore):
        await semaphore.acquire()
        seen.append('got')

    async def main():
        semaphore = sock.Semaphore(0)
        sock.newthread(waits, semaphore)
        cut(sock.Semaphore.release, at, semaphore.release)
        await until_interrupted()

    with pytest.raises(KeyboardInterrupt):
        sock.run(main)
    assert seen == ['got']


@pytest.mark.skipif(os.name == 'nt', reason='sends SIGINT')
@pytest.mark.parametrize('threads', [1, 4])
def test_ctrl_c_again_and_again_leaves_locks_whole_and_is_told_once(threads):
    """Also where the turns of other OS threads are broken off."""
    python(f"""
        import os, signal, sock, threading, time

        semaphore = sock.Semaphore(2)

        async def brief():
            await sock.sleep(0.0001)

        async def groups():
            while True:
                async with sock.group() as g:
                    for _ in range(5):
                        g.newthread(brief)

        async def spins():
            while True:
                async with semaphore:
                    pass

        async def main():
            threading.Thread(target=interrupts).start()
            async with sock.group() as g:
                for _ in range(3):
                    g.newthread(groups)
                    g.newthread(spins)

        def interrupts():
            time.sleep(0.03)
            os.kill(os.getpid(), signal.SIGINT)

        for _ in range(15):
            try:
                sock.run(main, threads={threads})
            except KeyboardInterrupt:
                pass
            else:
                raise AssertionError('not interrupted')
            assert sock.threads() == []
            assert semaphore.value == 2
    """)


@pytest.mark.skipif(os.name == 'nt', reason='sends SIGINT')
def test_ctrl_c_ends_run_whose_function_has_ended_while_another_os_thread_goes_on_and_on():
    interrupt(
        """
        import sock, threading

        spinning = threading.Event()

        async def spins():
            while threading.current_thread() is threading.main_thread():
                await sock.sleep(0)
            spinning.set()
            while True:
                pass

        async def main():
            sock.newthread(spins)
            while not spinning.is_set():
                await sock.sleep(0)
            print('ready', flush=True)

        try:
            sock.run(main, threads=2)
        except KeyboardInterrupt:
            print('interrupted', flush=True)
        """,
        5,
    )


@pytest.mark.skipif(os.name == 'nt', reason='sends SIGINT')
@pytest.mark.parametrize('where', ['main', 'another'])
def test_ctrl_c_ends_a_turn_that_is_nearly_always_in_code_of_ours(where):
    interrupt(
        f"""
        import sock, threading

        def is_main():
            return threading.current_thread() is threading.main_thread()

        async def main():
            while is_main() != ('{where}' == 'main'):
                await sock.sleep(0)
            semaphore = sock.Semaphore(1)
            print('ready', flush=True)
            while True:
                semaphore.try_acquire()
                semaphore.release()

        try:
            sock.run(main, threads={1 if where == 'main' else 2})
        except KeyboardInterrupt:
            print('interrupted', flush=True)
        """,
        # On 3.11 each attempt needs the interpreter's lock: more of them on a busy machine.
        5,
    )


def test_user_code_that_a_plain_function_of_ours_calls_is_not_cut_either():
    seen = []

    def finished(thread):
        signal.raise_signal(signal.SIGINT)
        seen.append('whole')

    async def main():
        thread = sock.newthread(sock.sleep, 0)
        thread.onfinish(finished)
        await until_interrupted()

    with pytest.raises(KeyboardInterrupt):
        sock.run(main)
    assert seen == ['whole']


class Interrupts:
    """Sends Ctrl-C as it goes."""

    def __del__(self):
        signal.raise_signal(signal.SIGINT)
        for _ in range(1000):
            pass


class Members(set):
    """Sends Ctrl-C as a callback of a weak reference takes something out."""

    def discard(self, each):
        signal.raise_signal(signal.SIGINT)
        for _ in range(1000):
            pass
        super().discard(each)


@pytest.mark.parametrize('where', ['finalizer', 'weak set'])
def test_ctrl_c_is_not_swallowed_by_what_the_interpreter_calls_as_an_object_goes(where):
    async def main():
        if where == 'finalizer':
            each = Interrupts()
        else:
            each = sock.Event()
            weak = weakref.WeakSet()
            weak.data = Members()
            weak.add(each)
        del each
        gc.collect()
        with sock.deadline(sock.clock() + 10):
            await until_interrupted()

    with pytest.raises(KeyboardInterrupt):
        sock.run(main)
    assert sock.threads() == []


def test_nothing_is_left_of_a_turn_that_was_to_be_broken_off():
    def tools():
        return [sys.monitoring.get_tool(i) for i in range(6)] if sys.version_info >= (3, 12) else sys.gettrace()

    before = tools()
    ident = threading.get_ident()
    assert _interrupts.break_off(ident)
    assert tools() != before
    _interrupts.spare(ident)
    assert tools() == before


def test_interrupt_of_a_thread_of_a_group_is_not_told_besides():
    async def interrupted():
        await sock.sleep(0)
        raise KeyboardInterrupt

    async def main():
        async with sock.group() as g:
            g.newthread(interrupted)
            g.newthread(sock.sleep, 60)

    with pytest.raises(KeyboardInterrupt):
        sock.run(main)


def test_failures_beside_an_interrupt_are_told(reported):
    async def fails():
        try:
            await sock.sleep(60)
        finally:
            raise ValueError('beside')

    async def interrupted():
        await sock.sleep(0)
        raise KeyboardInterrupt

    async def main():
        async with sock.group() as g:
            g.newthread(fails)
            g.newthread(interrupted)

    with pytest.raises(KeyboardInterrupt):
        sock.run(main)
    assert [repr(exc) for _, exc in reported] == ["ValueError('beside')"]


def test_handler_and_wakeup_fd_that_a_program_sets_inside_run_stay():
    def handler(number, frame):
        pass

    async def main():
        signal.signal(signal.SIGINT, handler)
        signal.set_wakeup_fd(write.fileno())

    # Windows takes a socket alone.
    read, write = socket.socketpair()
    write.setblocking(False)
    before = signal.getsignal(signal.SIGINT)
    try:
        sock.run(main)
        assert signal.getsignal(signal.SIGINT) is handler
        assert signal.set_wakeup_fd(-1) == write.fileno()
    finally:
        signal.signal(signal.SIGINT, before)
        read.close()
        write.close()


def test_handler_and_wakeup_fd_are_put_back():
    seen = []

    async def main():
        seen.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    sock.run(main)
    assert seen != [before]
    assert signal.getsignal(signal.SIGINT) is before
    assert signal.set_wakeup_fd(-1) == -1


#: Where the interpreter may be on the way into a loop and out of it.
AROUND_THE_LOOP = {'sock._interrupts', 'sock._scheduler', 'contextlib', 'signal'}


def test_handler_that_raises_anywhere_in_the_loops_own_code_leaves_the_signals_as_they_were(whole_process, reported):
    """The handler is the program's, of any signal but Ctrl-C's."""

    class Alarm(Exception):
        pass

    def handler(*_args):
        raise Alarm

    async def main():
        await sock.sleep(0)

    def raises_at(number):
        """Has the signal come at the so manieth place where the interpreter looks for signals. False: it has fewer."""
        seen = 0

        def profile(frame, event, arg):
            nonlocal seen
            if event in ('call', 'c_return') and frame.f_globals.get('__name__') in AROUND_THE_LOOP:
                seen += 1
                if seen == number:
                    sys.setprofile(None)
                    signal.raise_signal(signal.SIGTERM)

        try:
            sys.setprofile(profile)
            sock.run(main)
        except Alarm:
            pass
        finally:
            sys.setprofile(None)
        descriptor = signal.set_wakeup_fd(-1)
        assert descriptor == -1
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        return seen >= number

    before = signal.signal(signal.SIGTERM, handler)
    try:
        number = 1
        while raises_at(number):
            number += 1
    finally:
        signal.signal(signal.SIGTERM, before)
    assert number > 50


def test_look_at_frames_runs_no_code_of_their_modules():
    """It comes in a signal handler, and from another OS thread."""
    asked = []

    class Package:
        def __eq__(self, other):
            asked.append(other)
            return True

        __hash__ = None

    class Name(str):
        __eq__ = Package.__eq__
        __hash__ = str.__hash__

    code = """
async def coroutine():
    return _sock.is_interruptible(sys._getframe())
"""
    found = []
    for package in (Package(), Name('theirs'), Name('sock')):
        space = {'__package__': package, '_sock': _sock, 'sys': sys}
        exec(code, space)
        with pytest.raises(StopIteration) as caught:
            space['coroutine']().send(None)
        found.append(caught.value.value)
    assert (found, asked) == ([True, True, False], [])
