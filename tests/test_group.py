"""Structured work: groups of threads, and deadlines around a block."""

import pytest
import sock
from support import run


def soon(seconds=10):
    return sock.clock() + seconds


async def fail(error, after=0.0):
    await sock.sleep(after)
    raise error


async def forever(ended=None):
    try:
        await sock.suspend()
    finally:
        if ended is not None:
            ended.append(1)


def test_group_leaves_when_all_have_ended():
    async def main():
        done = []

        async def work(i):
            await sock.sleep(0.001 * i)
            done.append(i)

        async with sock.group() as g:
            threads = [g.newthread(work, i) for i in range(5)]
        assert done == [0, 1, 2, 3, 4]
        assert all(thread.done for thread in threads)

    run(main)


def test_group_of_nothing():
    async def main():
        async with sock.group():
            pass

    run(main)


def test_first_exception_cancels_the_others_and_comes_out():
    async def main():
        ended = []
        with pytest.raises(ValueError, match='first'):
            async with sock.group() as g:
                others = [g.newthread(forever, ended) for _ in range(3)]
                g.newthread(fail, ValueError('first'), 0.01)
        assert len(ended) == 3
        assert all(other.done for other in others)

    run(main)


def test_exception_cancels_the_block_too():
    async def main():
        reached = []
        with pytest.raises(ValueError, match='in a thread'):
            async with sock.group() as g:
                g.newthread(fail, ValueError('in a thread'), 0.005)
                await sock.sleep(60)
                reached.append(1)
        assert not reached
        # Nothing of that cancel is left.
        await sock.sleep(0)

    run(main)


def test_exception_in_a_thread_that_failed_at_once_reaches_the_block_only_once():
    async def main():
        with pytest.raises(ValueError, match='at once'):
            async with sock.group() as g:

                async def at_once():
                    raise ValueError('at once')

                g.newthread(at_once)
        await sock.sleep(0)

    run(main)


def test_exception_of_the_block_cancels_the_threads():
    async def main():
        ended = []
        with pytest.raises(KeyError):
            async with sock.group() as g:
                g.newthread(forever, ended)
                raise KeyError('block')
        assert ended == [1]

    run(main)


def test_group_outside_a_thread_is_told_what_to_do():
    says = r'^a group works inside a sock thread: start one with sock\.newthread\(\) or sock\.run\(\)$'
    with pytest.raises(RuntimeError, match=says):
        sock.group().__aenter__().send(None)


def test_several_exceptions_come_out_as_a_group():
    async def main():
        async def fails_when_cancelled():
            try:
                await sock.suspend()
            finally:
                raise KeyError('second')

        with pytest.raises(ExceptionGroup, match='2 failures') as caught:
            async with sock.group() as g:
                g.newthread(fails_when_cancelled)
                g.newthread(fail, ValueError('first'), 0.001)
        assert [type(each) for each in caught.value.exceptions] == [ValueError, KeyError]

    run(main)


def test_cancel_of_the_owner_cancels_all():
    async def main():
        ended = []

        async def owner():
            async with sock.group() as g:
                for _ in range(3):
                    g.newthread(forever, ended)

        for _ in range(2):
            thread = sock.newthread(owner)
            await sock.sleep(0)
            thread.cancel()
            with pytest.raises(sock.Cancelled):
                await thread
        assert len(ended) == 6

    run(main)


def test_thread_that_somebody_cancels_just_ends():
    async def main():
        async with sock.group() as g:
            thread = g.newthread(forever)
            thread.cancel()
        with pytest.raises(sock.Cancelled):
            thread.result()

    run(main)


async def cleans(log):
    try:
        await sock.suspend()
    finally:
        await sock.sleep(0)
        log.append('clean')


def test_threads_of_a_group_are_cancelled_once_however_many_fail():
    async def main():
        log = []
        with pytest.raises(ExceptionGroup, match='2 failures'):
            async with sock.group() as g:
                g.newthread(cleans, log)
                g.newthread(fail, ValueError('first'), 0.005)
                g.newthread(fail, ValueError('second'), 0.005)
                # Both are due, in one round.
                until = sock.clock() + 0.01
                while sock.clock() < until:
                    pass
        assert log == ['clean']

    run(main)


def test_run_and_a_group_that_it_leaves_cancel_its_threads_once():
    log = []

    async def owner():
        async with sock.group() as g:
            g.newthread(cleans, log)
            await sock.suspend()

    async def main():
        sock.newthread(owner)

    sock.run(main)
    assert log == ['clean']


@pytest.mark.parametrize('first', ['child', 'other'])
@pytest.mark.parametrize('waits', [True, False])
def test_cancel_of_the_owner_is_not_lost_when_a_thread_fails_too(first, waits, reported):
    async def child(error):
        await sock.suspend()
        raise error

    async def owner():
        async with sock.group() as g:
            children.append(g.newthread(child, ValueError('child')))
            if waits:
                await sock.suspend()
            else:
                steps[0]()
                steps[1]()

    children, threads = [], []

    def cancel():
        threads[0].cancel()

    def let_fail():
        children[0].resume()

    steps = [let_fail, cancel] if first == 'child' else [cancel, let_fail]

    async def guarded():
        threads.append(sock.thread())
        try:
            await owner()
        except ValueError:
            await sock.sleep(0)
            return 'went on'

    async def test():
        thread = sock.newthread(guarded)
        if waits:
            steps[0]()
            steps[1]()
        with pytest.raises(sock.Cancelled):
            await thread

    run(test)
    assert {repr(exc) for _, exc in reported} <= {"ValueError('child')"}


def test_group_inside_a_group_takes_its_own_cancel_back():
    async def fails_when_resumed(error):
        await sock.suspend()
        raise error

    async def main():
        with pytest.raises(KeyError):
            async with sock.group() as outer:
                thread = outer.newthread(fails_when_resumed, KeyError('outer'))
                with pytest.raises(ValueError, match='inner'):
                    async with sock.group() as inner:
                        inner.newthread(fail, ValueError('inner'), 0.001)
                        await sock.suspend()
                sock.runafter(0, thread.resume)
                await sock.suspend()
        await sock.sleep(0)

    run(main)


def test_cancel_of_a_group():
    async def main():
        ended = []
        async with sock.group() as g:
            for _ in range(3):
                g.newthread(forever, ended)
            g.cancel()
        assert len(ended) == 3

    run(main)


def test_threads_of_a_group_start_others_in_it():
    async def main():
        done = []

        async def child():
            await sock.sleep(0)
            done.append('child')

        async def parent(g):
            await sock.sleep(0)
            g.newthread(child)
            done.append('parent')

        async with sock.group() as g:
            g.newthread(parent, g)
        assert done == ['parent', 'child']

    run(main)


def test_group_misuse_is_told():
    async def main():
        g = sock.group()
        with pytest.raises(RuntimeError, match='not entered'):
            g.newthread(forever)
        async with g:
            pass
        with pytest.raises(RuntimeError, match='has ended'):
            g.newthread(forever)
        with pytest.raises(RuntimeError, match='used once'):
            async with g:
                pass

    run(main)


def test_group_over_several_os_threads():
    async def main():
        total = []

        async def work(i):
            for _ in range(20):
                await sock.sleep(0)
            total.append(i)

        for _ in range(20):
            async with sock.group() as g:
                for i in range(20):
                    g.newthread(work, i)
            assert len(total) == 20
            total.clear()
        for _ in range(20):
            with pytest.raises(ValueError, match='x'):
                async with sock.group() as g:
                    for _ in range(10):
                        g.newthread(forever)
                    g.newthread(fail, ValueError('x'))
                    await sock.sleep(60)

    sock.run(main, threads=4)


# ---- deadline


def test_deadline_ends_every_kind_of_wait(peer):
    conn, _ = peer

    async def waits():
        await sock.sleep(60)

    async def main():
        other = sock.newthread(waits)
        for wait in (lambda: sock.sleep(60), sock.suspend, lambda: other, sock.Event().wait, sock.Queue().get):
            begin = sock.clock()
            with pytest.raises(sock.Timeout), sock.deadline(begin + 0.01):
                await wait()
            assert 0.01 <= sock.clock() - begin < 5
        assert not other.done
        other.cancel()
        with pytest.raises(sock.Timeout, match='recv tcp'), sock.deadline(sock.clock() + 0.01):
            await conn.recv(10)
        assert conn.closed, 'as with an expires of its own'

    run(main)


def test_nearer_expires_and_nearer_deadlines_win():
    async def main():
        begin = sock.clock()
        with sock.deadline(begin + 60):
            with pytest.raises(sock.Timeout), sock.deadline(begin + 0.01), sock.deadline(begin + 60):
                await sock.sleep(30)
            with pytest.raises(sock.Timeout):
                await sock.Event().wait(sock.clock() + 0.01)
            await sock.sleep(0.001)
        assert sock.clock() - begin < 5
        await sock.sleep(0.001)

    run(main)


def test_deadline_that_passed_lets_through_what_can_be_done_at_once(peer):
    conn, other = peer

    async def main():
        other.sendall(b'hello')
        await conn.readable()
        with sock.deadline(0):
            assert await conn.recv(10) == b'hello'
            with pytest.raises(sock.Timeout):
                await conn.recv(10)

    run(main)


def test_deadline_is_of_its_thread_alone():
    async def main():
        async def other():
            await sock.sleep(0.05)
            return 'done'

        with sock.deadline(sock.clock() + 0.01):
            thread = sock.newthread(other)
        assert await thread == 'done'

    run(main)


def test_deadline_around_a_group():
    async def main():
        ended = []
        with pytest.raises(sock.Timeout), sock.deadline(sock.clock() + 0.01):
            async with sock.group() as g:
                g.newthread(forever, ended)
        assert ended == [1]

    run(main)


def test_deadline_of_none_is_none():
    async def main():
        begin = sock.clock()
        with pytest.raises(sock.Timeout), sock.deadline(None):
            await sock.Event().wait(begin + 0.01)
        with pytest.raises(sock.Timeout), sock.deadline(begin + 0.02), sock.deadline(None):
            await sock.sleep_until(None)
        assert 0.02 <= sock.clock() - begin < 5

    run(main)


def test_deadline_misuse_is_told():
    with pytest.raises(RuntimeError, match='none runs here'), sock.deadline(5):
        pass

    async def main():
        with pytest.raises(TypeError), sock.deadline('soon'):
            pass
        with pytest.raises(ValueError, match='not a number'), sock.deadline(float('nan')):
            pass

    run(main)


def test_deadline_is_for_one_block_at_a_time():
    async def nested():
        limit = sock.deadline(soon(0.01))
        with limit, pytest.raises(RuntimeError, match='make one for each block'), limit:
            pass
        await sock.sleep(0.02)
        # One after the other is fine.
        with pytest.raises(sock.Timeout), limit:
            await sock.sleep(1)

    async def enters(limit):
        with limit:
            await sock.sleep(0.001)

    async def shared():
        limit = sock.deadline(soon(0.01))
        first = sock.newthread(enters, limit)
        with pytest.raises(RuntimeError, match='make one for each block'), limit:
            pass
        await first
        await sock.sleep(0.02)

    async def wrong():
        limit = sock.deadline('soon')
        for _ in range(2):
            with pytest.raises(TypeError), limit:
                pass

    for each in (nested, shared, wrong):
        run(each)
