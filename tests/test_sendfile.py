"""sendfile: regular files by the OS, others by reading; the stdlib's socket is the other side."""

import errno
import io
import os
import threading
import time

import pytest
import sock
from support import LINUX, run, unread


@pytest.fixture
def content():
    return os.urandom(1 << 20) * 24


@pytest.fixture
def file(tmp_path, content):
    path = tmp_path / 'content'
    path.write_bytes(content)
    with path.open('rb') as f:
        yield f


def receiving(other):
    """Receives all in an OS thread: a list of what came, once it has ended, and the OS thread."""
    got = []

    def receive():
        while data := other.recv(1 << 16):
            got.append(data)

    receiver = threading.Thread(target=receive)
    receiver.start()
    return got, receiver


def sends(peer, *args):
    conn, other = peer
    got, receiver = receiving(other)

    async def main():
        with conn:
            return await conn.sendfile(*args, expires=sock.clock() + 10)

    sent = run(main)
    receiver.join()
    data = b''.join(got)
    assert sent == len(data)
    return data


def test_whole_file(peer, file, content):
    assert sends(peer, file) == content
    assert file.tell() == 0, 'the position stays'


def test_part_of_a_file(peer, file, content):
    assert sends(peer, file, 1000, 2_000_000) == content[1000:2_001_000]


def test_count_beyond_the_end(peer, file, content):
    assert sends(peer, file, 20_000_000, 1 << 40) == content[20_000_000:]


@pytest.mark.parametrize('args', [(0, 0), (1 << 30,)])
def test_nothing_to_send(peer, file, args):
    assert sends(peer, file, *args) == b''


def test_file_in_memory(peer, content):
    assert sends(peer, io.BytesIO(content), 1000, 2_000_000) == content[1000:2_001_000]


def test_pipe(peer):
    read, write = os.pipe()
    with os.fdopen(read, 'rb') as f:
        os.write(write, b'through a pipe')
        os.close(write)
        assert sends(peer, f) == b'through a pipe'


@pytest.mark.skipif(not LINUX, reason='procfs is of Linux')
def test_file_that_the_os_cannot_map(peer):
    with open('/proc/self/cmdline', 'rb', buffering=0) as f:
        expected = f.read()
    with open('/proc/self/cmdline', 'rb', buffering=0) as f:
        assert sends(peer, f) == expected


def test_file_closed_meanwhile_is_sent_whole(peer, tmp_path, content):
    conn, other = peer
    path = tmp_path / 'content'
    path.write_bytes(content)

    async def main():
        with conn, path.open('rb') as f:
            sending = sock.newthread(conn.sendfile, f)
            assert not sending.done, 'the peer does not read yet'
            f.close()
            got, receiver = receiving(other)
            assert await sending == len(content)
            conn.close()
            await sock.offload(receiver.join)
            assert b''.join(got) == content

    run(main)


@pytest.mark.parametrize('kind', ['file', 'memory'])
def test_expiry_tells_how_much_went(peer, file, content, kind):
    conn, other = peer

    async def main():
        with pytest.raises(sock.Timeout, match='send') as caught:
            await conn.sendfile(file if kind == 'file' else io.BytesIO(content), expires=sock.clock() + 0.1)
        assert conn.closed
        return caught.value.sent

    sent = run(main)
    assert 0 < sent < len(content)
    got = 0
    while data := other.recv(1 << 16):
        got += len(data)
    assert got == sent


@pytest.mark.parametrize(
    ('make', 'args', 'error', 'says'),
    [
        (
            io.StringIO,
            (),
            TypeError,
            "sendfile takes a file opened for reading in binary, mode 'rb', not <_io.StringIO",
        ),
        (
            lambda: '/etc/hostname',
            (),
            TypeError,
            "sendfile takes a file opened for reading in binary, mode 'rb', not '/",
        ),
        (io.BytesIO, (-1,), ValueError, r'offset must not be negative, nor above 2\*\*63 - 1, and is -1$'),
        (io.BytesIO, (2**63,), ValueError, 'offset must not be negative, nor above .* and is 9223372036854775808$'),
        (io.BytesIO, (0, -1), ValueError, 'count must not be negative, nor above .* and is -1$'),
        (io.BytesIO, (0.5,), TypeError, 'offset must be a number of bytes, not float$'),
        (io.BytesIO, (0, '5'), TypeError, 'count must be a number of bytes, not str$'),
        (io.BytesIO, (0, True), TypeError, 'count must be a number of bytes, not bool$'),
    ],
)
def test_wrong_arguments_are_refused(peer, make, args, error, says):
    conn, _ = peer

    async def main():
        with pytest.raises(error, match=f'^{says}'):
            await conn.sendfile(make(), *args)

    run(main)


def test_out_of_descriptors_is_too_many_open_files(peer, file, content, monkeypatch):
    """It needs a descriptor of its own for the file."""
    conn, _ = peer

    def dup(number):
        raise OSError(errno.EMFILE, 'no more')

    async def main():
        with monkeypatch.context() as patched:
            patched.setattr(os, 'dup', dup)
            with pytest.raises(sock.TooManyOpenFiles) as caught:
                await conn.sendfile(file)
        assert caught.value.errno == errno.EMFILE

    run(main())
    assert not conn.closed


@pytest.fixture
def stalled():
    """A pipe that gives a few bytes, and then nothing until the test is over."""
    read, write = os.pipe()
    os.write(write, b'few')
    with os.fdopen(read, 'rb', buffering=0) as f:
        try:
            yield f
        finally:
            os.close(write)


def test_expiry_while_the_file_gives_nothing(peer, stalled):
    conn, other = peer

    async def main():
        with pytest.raises(sock.Timeout, match=r'sendfile tcp 127.*3 bytes of the file were sent') as caught:
            await conn.sendfile(stalled, expires=sock.clock() + 0.05)
        assert caught.value.sent == 3
        assert conn.closed

    run(main)
    assert unread(other) == b'few'


def test_deadline_of_the_thread_while_the_file_gives_nothing(peer, stalled):
    conn, _ = peer

    async def main():
        with pytest.raises(sock.Timeout) as caught, sock.deadline(sock.clock() + 0.05):
            await conn.sendfile(stalled)
        assert caught.value.sent == 3
        assert conn.closed

    run(main)


def test_cancel_while_the_file_gives_nothing_leaves_the_connection_whole(peer, stalled):
    conn, other = peer

    async def main():
        with conn:
            sending = sock.newthread(conn.sendfile, stalled)
            while not conn.stats.bytes_sent:
                await sock.sleep(0)
            # It has the place of a writer also while it reads.
            with pytest.raises(sock.Busy, match='sendfile'):
                await conn.send(b'in between')
            sending.cancel()
            with pytest.raises(sock.Cancelled) as caught:
                await sending
            assert caught.value.sent == 3
            await conn.send(b' and more')

    run(main)
    assert unread(other) == b'few and more'


def test_cancel_tells_what_went_of_a_file_in_memory(peer, content):
    conn, other = peer

    async def main():
        with conn:
            sending = sock.newthread(conn.sendfile, io.BytesIO(content))
            await sock.sleep(0)
            assert not sending.done, 'the peer does not read'
            sending.cancel()
            with pytest.raises(sock.Cancelled) as caught:
                await sending
            return caught.value.sent

    sent = run(main)
    assert unread(other) == content[:sent]


class Failing(io.RawIOBase):
    """Gives some bytes, and then an error."""

    def __init__(self, error):
        self.error = error
        self.parts = [b'two', b'parts']

    def readable(self):
        return True

    def read(self, size=-1):
        if not self.parts:
            raise self.error
        return self.parts.pop(0)


def test_error_of_reading_is_an_error_of_ours_that_tells_what_went(peer):
    conn, other = peer
    failed = OSError(errno.EIO, 'Input/output error')

    async def main():
        with conn:
            with pytest.raises(
                sock.Error, match=r'^other: read the file for sendfile to 127.*: the disk or the'
            ) as caught:
                await conn.sendfile(Failing(failed))
            assert (caught.value.errno, caught.value.sent) == (errno.EIO, 8)
            assert caught.value.__cause__ is failed
            await conn.send(b'!')

    run(main)
    assert unread(other) == b'twoparts!'


def test_error_of_reading_is_also_a_builtin(peer):
    conn, _ = peer

    async def main():
        with pytest.raises(
            PermissionError, match=r'^access_denied: read the file .*: no \(EACCES\): the file may .*; 8 '
        ) as caught:
            await conn.sendfile(Failing(PermissionError(errno.EACCES, 'no')))
        assert isinstance(caught.value, sock.AccessDenied)

    run(main)


@pytest.mark.parametrize('error', [KeyError('theirs'), EOFError()])
def test_other_exceptions_of_the_file_come_out_as_they_are(peer, error):
    conn, _ = peer

    async def main():
        with pytest.raises(type(error)) as caught:
            await conn.sendfile(Failing(error))
        assert caught.value is error

    run(main)
    assert not conn.closed


@pytest.mark.skipif(os.name == 'nt', reason='Windows lets pipes be sought in')
def test_offset_in_a_pipe_is_an_error_of_ours(peer, stalled):
    conn, _ = peer

    async def main():
        with pytest.raises(sock.Error) as caught:
            await conn.sendfile(stalled, 1)
        assert caught.value.errno == errno.ESPIPE

    run(main)


@pytest.mark.skipif(os.name == 'nt', reason='Windows has no pipes that do not block')
def test_pipe_that_does_not_block_is_refused_when_it_has_nothing(peer, stalled):
    """Not taken for its end."""
    conn, _ = peer
    os.set_blocking(stalled.fileno(), False)

    async def main():
        with pytest.raises(sock.InvalidArgument, match='set_blocking') as caught:
            await conn.sendfile(stalled)
        assert caught.value.sent == 3

    run(main)


def test_file_that_is_truncated_meanwhile_ends_there(peer, tmp_path, content):
    conn, other = peer
    path = tmp_path / 'content'
    path.write_bytes(content)

    async def main():
        with conn, path.open('r+b') as f:
            sending = sock.newthread(conn.sendfile, f)
            assert not sending.done, 'the peer does not read yet'
            f.truncate(1000)
            got, receiver = receiving(other)
            sent = await sending
            conn.close()
            await sock.offload(receiver.join)
            assert len(b''.join(got)) == sent
            # The OS may take the content of a page only when it is received.
            assert b''.join(got)[:1000] == content[:1000]
            return sent

    assert 1000 <= run(main) < len(content)


def test_number_that_is_given_away_while_sendfile_begins_is_sent_to_nobody(peer, file, tmp_path, monkeypatch):
    """Another OS thread closes the file once its number was looked at, and what it opens next gets that."""
    conn, other = peer
    (tmp_path / 'canary').write_bytes(b'canary')
    dup, canaries = os.dup, []

    def late(number):
        file.close()
        with (tmp_path / 'canary').open('rb') as canary:
            if canary.fileno() == number:
                canaries.append(dup(number))
            else:
                os.dup2(canary.fileno(), number)
                canaries.append(number)
            return dup(canary.fileno())

    async def main():
        with conn, monkeypatch.context() as patched:
            patched.setattr(os, 'dup', late)
            with pytest.raises(ValueError, match='closed file'):
                await conn.sendfile(file)

    run(main)
    assert os.lseek(canaries[0], 0, os.SEEK_CUR) == 0
    os.close(canaries[0])
    assert unread(other) == b''


def test_number_that_is_closed_while_sendfile_begins_is_said_as_files_say_it(peer, file, monkeypatch):
    conn, other = peer
    dup = os.dup

    def late(number):
        file.close()
        return dup(number)

    async def main():
        with conn, monkeypatch.context() as patched:
            patched.setattr(os, 'dup', late)
            with pytest.raises(ValueError, match='closed file'):
                await conn.sendfile(file)

    run(main)
    assert unread(other) == b''


def test_file_that_is_closed_already_is_said_as_files_say_it(peer, file):
    conn, _ = peer
    file.close()

    async def main():
        with pytest.raises(ValueError, match='closed file'):
            await conn.sendfile(file)

    run(main)
    assert not conn.closed


@pytest.mark.skipif(not LINUX, reason='procfs is of Linux')
def test_read_that_outlasts_sendfile_never_meets_a_number_that_was_given_away(peer, monkeypatch):
    conn, _ = peer
    path = '/proc/self/cmdline'
    begun, over, done = threading.Event(), threading.Event(), threading.Event()
    found = []

    def pread(number, size, offset):
        begun.set()
        assert over.wait(20)
        found.append((number, os.path.samefile(f'/proc/self/fd/{number}', path)))
        done.set()
        return b''

    async def main():
        with conn, open(path, 'rb', buffering=0) as f, monkeypatch.context() as patched:
            patched.setattr(os, 'pread', pread)
            sending = sock.newthread(conn.sendfile, f)
            await sock.offload(begun.wait, 20)
            sending.cancel()
            with pytest.raises(sock.Cancelled):
                await sending
            # The lowest number that is free.
            with open(os.devnull, 'rb', buffering=0):
                over.set()
                await sock.offload(done.wait, 20)

    run(main)
    [(number, same)] = found
    assert same
    # Whoever read last has closed it.
    end = time.monotonic() + 20
    while os.path.exists(f'/proc/self/fd/{number}'):
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.mark.parametrize('buffering', [0, -1])
def test_pipe_that_is_closed_meanwhile_says_so_and_tells_nothing_of_others(peer, buffering):
    """Between two reads: the first one gave something, and the peer has to take that before the next."""
    conn, other = peer
    read, write = os.pipe()
    os.write(write, b'few')
    f = os.fdopen(read, 'rb', buffering=buffering)
    if buffering:
        # Else its first read would wait for as much as it was asked for.
        os.close(write)

    async def main():
        with conn:
            sends = conn.send

            async def close_first(data, **options):
                sent = await sends(data, **options)
                f.close()
                canary, nest = os.pipe()
                os.write(nest, b'canary')
                made.extend([canary, nest])
                return sent

            made = []
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(type(conn), 'send', lambda self, data, **options: close_first(data, **options))
                with pytest.raises(ValueError, match='closed file'):
                    await conn.sendfile(f)
            assert os.read(made[0], 100) == b'canary'
            for each in made:
                os.close(each)

    run(main)
    if not buffering:
        os.close(write)
    assert unread(other) == b'few'
