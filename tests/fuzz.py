"""Two ends of a connection, and whatever may be done to them in any order, against a model of where each byte may be.

hypothesis chooses the steps; `make fuzz` does a million of them, the tests some thousands.
"""

import argparse
import multiprocessing
import multiprocessing.connection
import os
import socket
import sys
import time

import hypothesis
import pytest
import sock
from hypothesis import strategies
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from soak import LARGEST, part

#: Seconds within which whatever must end does.
PATIENCE = 3
#: Bytes around what a call may write to, and what they hold.
MARGIN = 16
UNTOUCHED = 0xA5
#: The kernel's buffers: little room, so that senders wait.
ROOM = 4096

ENDS = strategies.integers(0, 1)
SIZES = strategies.one_of(
    strategies.integers(0, 40), strategies.sampled_from([1, ROOM, ROOM + 1, 3 * ROOM]), strategies.integers(0, LARGEST)
)


class Way:
    """The bytes of one direction: byte i is that of the pattern, so what is lost, doubled or swapped shows."""

    def __init__(self):
        #: What sends that are over have handed to the OS, and receives that are over have had from it.
        self.sent = 0
        self.received = 0
        #: A receive has met the end, after so many bytes.
        self.ended = None


class Op:
    """An operation that some thread is in, or was."""

    def __init__(self, end, name, want, awaitable, buf=None, begin=0):
        self.end = end
        self.name = name
        self.want = want
        self.buf = buf
        self.begin = begin
        self.cancelled = False
        self.expires = False
        self.result = None
        self.error = None
        self.thread = sock.newthread(self.run, awaitable)

    async def run(self, awaitable):
        try:
            self.result = await awaitable
        except (sock.Error, sock.Cancelled) as error:
            # On 3.12 and 3.13 a traceback keeps the frames of who started the coroutine, too, with the buffers in them.
            self.error = error.with_traceback(None)

    @property
    def over(self):
        return self.thread.done

    @property
    def sends(self):
        return self.name == 'send'

    @property
    def data(self):
        """What was received, whether it ended well or not."""
        whole = memoryview(self.buf if self.buf is not None else b'')
        if self.error is None:
            return whole[self.begin : self.begin + self.result] if self.buf is not None else self.result
        return whole[self.begin : self.begin + self.error.received] if self.buf is not None else self.error.data


class End:
    def __init__(self, conn, out, into):
        self.conn = conn
        self.out = out
        self.into = into
        self.peer = None
        self.reader = None
        self.writer = None
        self.closed = False
        self.no_more_reads = False
        self.no_more_writes = False


class Pair(RuleBasedStateMachine):
    #: Of all examples: those that did something.
    steps = 0

    def __init__(self):
        super().__init__()
        Pair.steps -= 1  # the look before the first step
        self.ends = []

    def end(self, at):
        """One of the ends; of a new connection if the last one has been over for some steps."""
        self.age += 1
        self.dead += any(end.closed for end in self.ends)
        if self.dead > 5:
            self.connect()
        return self.ends[at]

    def old(self):
        """What ends a connection does so after a while alone: there is not much to see in one that is over."""
        return self.age >= self.life

    def nothing(self):
        """The step has turned out to have nothing to do: it does not count.

        No precondition can say so before: what has been received by then goes by time, what hypothesis chooses may not.
        """
        Pair.steps -= 1

    @property
    def ops(self):
        return [op for end in self.ends for op in (end.reader, end.writer) if op is not None]

    @property
    def lent(self):
        """Those that hold a buffer."""
        return [op for op in self.ops if op.buf is not None]

    # What may be done

    @initialize(tcp=strategies.booleans(), life=strategies.integers(0, 15))
    def choose(self, tcp, life):
        Pair.steps -= 1
        self.tcp, self.life = tcp, life
        self.connect()

    def connect(self):
        self.finish()
        self.age = self.dead = 0
        if self.tcp:
            with socket.socket() as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
                listener.bind(('127.0.0.1', 0))
                listener.listen(1)
                one = socket.create_connection(listener.getsockname(), PATIENCE)
                other, _ = listener.accept()
        else:
            one, other = socket.socketpair()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM)
        there, back = Way(), Way()
        self.ends = [End(sock.fromsocket(one), there, back), End(sock.fromsocket(other), back, there)]
        for end in self.ends:
            end.peer = self.ends[end is self.ends[0]]

    @rule(at=ENDS, size=SIZES, late=strategies.booleans())
    def send(self, at, size, late):
        end = self.end(at)
        begin = end.out.sent
        self.begin(end, 'send', size, late, lambda expires: end.conn.send(part(begin, size, 0), expires=expires))

    @rule(at=ENDS, size=SIZES, late=strategies.booleans(), how=strategies.sampled_from(['bytes', 'maxlen', 'view']))
    def recv(self, at, size, late, how):
        end, size = self.end(at), max(size, 1)
        if how == 'bytes':
            self.begin(end, 'recv', size, late, lambda expires: end.conn.recv(size, expires=expires))
            return
        buf = untouched(size)
        if how == 'maxlen':
            self.begin(end, 'recv', size, late, lambda expires: end.conn.recv(buf, size, expires=expires), buf)
            return
        view = memoryview(buf)[MARGIN : MARGIN + size]
        self.begin(end, 'recv', size, late, lambda expires: end.conn.recv(view, expires=expires), buf, MARGIN)

    @rule(at=ENDS, size=SIZES, late=strategies.booleans())
    def recvn(self, at, size, late):
        end, buf = self.end(at), untouched(size)
        self.begin(end, 'recvn', size, late, lambda expires: end.conn.recvn(buf, size, expires=expires), buf)

    @rule(at=ENDS, most=SIZES, late=strategies.booleans())
    def recvall(self, at, most, late):
        end = self.end(at)
        if not self.old():
            self.nothing()
            return
        self.begin(end, 'recvall', most, late, lambda expires: end.conn.recvall(most, expires=expires))

    @rule(at=ENDS, how=strategies.sampled_from(['r', 'w', 'rw']))
    def shutdown(self, at, how):
        end = self.end(at)
        if not self.old():
            self.nothing()
            return
        try:
            end.conn.shutdown(how)
        except sock.Closed:
            assert end.closed
        except sock.NotConnected:
            # TCP has forgotten the connection: it was reset, or is over both ways.
            assert self.tcp
            assert self.may_be_reset(end) or end.no_more_writes
        else:
            assert not end.closed
            end.no_more_reads |= 'r' in how
            end.no_more_writes |= 'w' in how

    @rule(at=ENDS)
    def close(self, at):
        end = self.end(at)
        if not self.old():
            self.nothing()
            return
        end.conn.close()
        end.closed = True

    @rule(which=strategies.integers(0, 3))
    def cancel(self, which):
        some = self.ops[which : which + 1]
        if not some:
            self.nothing()
        for op in some:
            op.cancelled = True
            op.thread.cancel()

    @rule(which=strategies.integers(0, 1))
    def resize(self, which):
        """A buffer that is in use cannot be resized: its memory stays where it is."""
        some = self.lent[which : which + 1]
        if not some:
            self.nothing()
        for op in some:
            with pytest.raises(BufferError):
                op.buf.append(0)

    @rule(at=ENDS, sends=strategies.booleans(), size=SIZES, then=strategies.sampled_from(['', 'close', 'cancel']))
    def expire(self, at, sends, size, then):
        """A deadline that passes while the operation waits, or just as something else ends it."""
        end = self.end(at)
        if not self.old() or (end.writer if sends else end.reader) is not None:
            self.nothing()
            return
        expires = sock.clock() + 0.0002
        if sends:
            data = part(end.out.sent, size, 0)
            op = self.begin(end, 'send', size, True, lambda _: end.conn.send(data, expires=expires))
        else:
            op = self.begin(end, 'recv', size + 1, True, lambda _: end.conn.recv(size + 1, expires=expires))
        if then == 'close':
            end.conn.close()
            end.closed = True
        elif then == 'cancel' and not op.over:
            op.cancelled = True
            op.thread.cancel()
        self.until(lambda: op.over)

    @rule()
    def poll(self):
        sock.poll(0)

    @rule()
    def settle(self):
        """Whatever can end does, with no more than polling."""
        self.until(lambda: not any(self.must_end(op) for op in self.ops))

    # What must be so

    @invariant()
    def look(self):
        Pair.steps += 1
        for op in self.ops:
            # A deadline closes the socket, also under an operation in the other direction.
            op.end.closed |= op.over and isinstance(op.error, sock.Timeout)
        for end in self.ends:
            if end.reader is not None and end.reader.over:
                self.received(end, end.reader)
                end.reader = None
            if end.writer is not None and end.writer.over:
                self.sent(end, end.writer)
                end.writer = None
        for end in self.ends:
            way, sending = end.into, end.peer.writer
            assert way.received <= way.sent + (0 if sending is None else sending.want), 'bytes from nowhere'
            if way.ended is None or sending is not None:
                continue
            may_end = end.peer.closed or end.peer.no_more_writes or end.no_more_reads or self.may_be_reset(end)
            assert may_end, 'an end that nobody made'
            if not end.no_more_reads and not self.may_be_reset(end):
                assert way.ended == way.sent, f'{way.sent - way.ended} bytes are lost'

    def begin(self, end, name, want, late, make, buf=None, begin=0):
        """A thread that begins an operation; `late`: with a deadline that has passed."""
        other = end.writer if name == 'send' else end.reader
        late = late and self.old()
        op = Op(end, name, want, make(0.0 if late else None), buf, begin)
        op.expires = late
        if other is not None:
            # The other one has the direction; but a socket that was closed tells that.
            assert op.over
            assert isinstance(op.error, sock.Busy), op.error
            return op
        if name == 'send':
            end.writer = op
        else:
            end.reader = op
        return op

    def received(self, end, op):
        way, data = end.into, bytes(op.data)
        assert data == part(way.received, len(data), 0), f'wrong bytes after {way.received}'
        way.received += len(data)
        if op.buf is not None:
            around = op.buf[: op.begin] + op.buf[op.begin + len(data) :]
            assert around == bytes([UNTOUCHED]) * len(around), 'bytes written beyond what was received'
            op.buf.append(0)  # no longer in use
        match op.error:
            case None if op.name == 'recvn':
                assert len(data) == op.want
            case None if op.name == 'recvall':
                assert len(data) <= op.want
                way.ended = way.received
            case None:
                assert len(data) <= op.want
                if not data:
                    way.ended = way.received
            case sock.MessageTooLong():
                assert op.name == 'recvall'
                assert len(data) == op.want + 1
            case sock.Closed() if op.name == 'recvn' and not end.closed:
                assert len(data) < op.want
                way.ended = way.received
            case sock.ConnectionReset():
                assert end.peer.closed or self.may_be_reset(end), op.error
            case _:
                self.stopped(end, op)

    def sent(self, end, op):
        way = end.out
        match op.error:
            case None:
                assert op.result == op.want
                way.sent += op.want
            case error:
                assert 0 <= error.sent <= op.want
                assert error.sent < op.want or op.want == 0
                way.sent += error.sent
                if isinstance(error, (sock.BrokenPipe, sock.ConnectionReset)):
                    refuses = end.peer.closed or end.peer.no_more_reads
                    assert refuses or end.no_more_writes or self.may_be_reset(end), error
                else:
                    self.stopped(end, op)

    def stopped(self, end, op):
        """It ended because we wanted it to."""
        match op.error:
            case sock.Timeout():
                assert op.expires
                assert end.conn.closed
            case sock.Closed():
                assert end.closed
            case sock.Cancelled():
                assert op.cancelled
            case error:
                raise AssertionError(f'an error from nowhere: {error!r}')

    def may_be_reset(self, end):
        """TCP may throw away what is on its way to this end, and tell it of a reset."""
        peer = end.peer
        refuses = peer.closed or (peer.no_more_reads and peer.no_more_writes)
        all_read = end.no_more_writes and end.writer is None and end.out.received == end.out.sent
        refused = end.no_more_reads and end.no_more_writes
        return self.tcp and ((refuses and not all_read) or refused)

    def must_end(self, op):
        end = op.end
        if op.over or op.cancelled or op.expires or end.closed or end.peer.closed:
            return True
        if op.sends:
            # Who receives all has made room. Linux tells nobody who waits that a unix socket's peer reads no more.
            return end.no_more_writes or end.peer.reader is not None
        there = end.into.sent - end.into.received
        if end.no_more_reads or end.peer.no_more_writes or (end.peer.writer is not None and op.name == 'recv'):
            return True
        return there > op.want if op.name == 'recvall' else there >= (op.want if op.name == 'recvn' else 1)

    def until(self, done):
        limit = sock.clock() + PATIENCE
        while True:
            while sock.poll(0):
                pass
            self.look()
            Pair.steps -= 1
            if done():
                return
            assert sock.clock() < limit, f'waits for ever: {[thread.waiting for thread in sock.threads()]}'
            sock.poll(0.01)

    def finish(self):
        for end in self.ends:
            end.conn.close()
            end.closed = True
        if self.ends:
            self.until(lambda: not self.ops)
        self.ends = []

    def teardown(self):
        self.finish()
        assert sock.threads() == []


def untouched(size):
    return bytearray([UNTOUCHED]) * (size + 2 * MARGIN)


def settings(examples, steps=100):
    return hypothesis.settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )


def run(steps, seed, done):
    """So many steps, counted in `done` too as they are made."""
    Pair.steps = rounds = 0
    while Pair.steps < steps:
        before = Pair.steps
        run_state_machine_as_test(hypothesis.seed(seed + rounds)(Pair), settings=settings(50))
        rounds += 1
        with done.get_lock():
            done.value += Pair.steps - before


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--steps', type=int, default=1_000_000)
    parser.add_argument('--seed', type=int, default=int(time.time()))
    parser.add_argument('--jobs', type=int, default=os.cpu_count(), help='processes')
    options = parser.parse_args()
    print(f'{options.steps} steps in {options.jobs} processes, seed {options.seed}', flush=True)
    begin = time.monotonic()
    context = multiprocessing.get_context('spawn')
    done = context.Value('q', 0)
    each = -(-options.steps // options.jobs)
    jobs = [context.Process(target=run, args=(each, options.seed + i * 1_000_000, done)) for i in range(options.jobs)]
    for job in jobs:
        job.start()
    while any(job.is_alive() for job in jobs):
        multiprocessing.connection.wait([job.sentinel for job in jobs if job.is_alive()], 10)
        print(f'{time.monotonic() - begin:6.0f} s {done.value:9} steps', flush=True)
    if any(job.exitcode for job in jobs):
        sys.exit('a counterexample, or a crash: see above')
    print(f'{done.value} steps in {time.monotonic() - begin:.0f} s, no counterexample')


if __name__ == '__main__':
    main()
