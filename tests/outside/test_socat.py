"""socat at the other end of TCP, UDP, unix sockets and abstract names, as client and server: bytes, ends and resets."""

import contextlib
import os
import re
import signal
import subprocess
import tempfile

import pytest
import sock
from support import LINUX, LONG_UNIX_DATAGRAM, LONGEST_DATAGRAM, OTHERS, mortal, run

DATA = os.urandom(3_000_000)

#: Seconds that socat gives one direction after the end of the other, and that we give socat.
PATIENCE = 15


UNIX = [
    pytest.param('unix', marks=pytest.mark.skipif(os.name == 'nt', reason='socat has none there')),
    pytest.param('abstract', marks=pytest.mark.skipif(not LINUX, reason='abstract names are of Linux')),
]


@pytest.fixture(params=['ip', *UNIX])
def place(request, short_path):
    """Where a socket may be: its family, and its host."""
    path = str(short_path / 'socket')
    return dict(ip=('inet', '127.0.0.1'), unix=('unix', path), abstract=('unix', f'\0{path}'))[request.param]


def there(transport, kind, place, port=None):
    """What socat calls a place, with a kind of its addresses: CONNECT, LISTEN or the like."""
    family, host = place
    if family == 'inet':
        return f'{transport}4-{kind}:' + (f'0,bind={host}' if port is None else f'{host}:{port}')
    return f'ABSTRACT-{kind}:{host[1:]}' if host[0] == '\0' else f'UNIX-{kind}:{host}'


class Socat:
    def __init__(self, process, output):
        self.process, self.output = process, output
        self.at = None

    def listens(self):
        """Waits until it does, and tells where: what `connect` and `send` take."""
        line = self.process.stderr.readline().decode()
        found = re.search(r' (?:listening|receiving) on .*AF=\d+ (?:"(.*)"|(.*):(\d+))\n', line)
        assert found, line
        return (found[2], int(found[3])) if found[3] else (found[1].replace(r'\0', '\0'), 0)

    def ends(self):
        """Waits until it does, and well; gives what it has put out, and what it has said."""
        _, errors = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, errors
        self.output.seek(0)
        return self.output.read(), errors.decode()


@pytest.fixture
def socat(program):
    """Starts socat with its two addresses, the data that it has as its input, and further options."""
    path = program('socat')

    @contextlib.contextmanager
    def start(*addresses, data=b'', options=()):
        with tempfile.TemporaryFile() as file, tempfile.TemporaryFile() as output:
            file.write(data)
            file.seek(0)
            # With the second -d it says where it listens.
            command = [path, '-d', '-d', '-t', str(PATIENCE), *options, *addresses]
            process = subprocess.Popen(
                mortal(command), stdin=file, stdout=output, stderr=subprocess.PIPE, start_new_session=True, env=OTHERS
            )
            try:
                yield Socat(process, output)
            finally:
                # Those that it has forked too: they have its stderr.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.communicate()

    return start


@pytest.fixture
def server(place):
    """A socket of ours that listens, and what socat calls to connect to it."""
    family, host = place
    with sock.tcp(family) as listener:
        listener.listen(host)
        yield listener, there('TCP', 'CONNECT', place, listener.local_addr.port)


async def accepted(listener):
    conn, _, _ = await listener.accept(sock.clock() + PATIENCE)
    return conn


@pytest.mark.parametrize('block', [1, 8192])
def test_client_gets_back_what_it_sends_while_it_sends_it(socat, server, block):
    listener, connect = server
    data = DATA[:20_000] if block == 1 else DATA

    async def echo():
        with await accepted(listener) as conn:
            while received := await conn.recv(65536):
                await conn.send(received)
            return conn.stats

    with socat('STDIO', connect, data=data, options=['-b', str(block)]) as client:
        stats = run(echo)
        assert client.ends()[0] == data
    assert stats.bytes_received == stats.bytes_sent == len(data)


@pytest.mark.parametrize('block', [1000, 1_000_000])
def test_client_that_has_ended_its_half_gets_the_answer(socat, server, block):
    listener, connect = server

    async def answer():
        with await accepted(listener) as conn:
            # Its end is all that tells that this is all.
            await conn.send((await conn.recvall())[::-1])

    with socat('STDIO', connect, data=DATA, options=['-b', str(block)]) as client:
        run(answer)
        assert client.ends()[0] == DATA[::-1]


def test_client_sends_on_after_our_half_has_ended(socat, server):
    listener, connect = server

    async def greet():
        with await accepted(listener) as conn:
            await conn.send(b'hello\n')
            conn.shutdown('w')
            return await conn.recvall()

    # `cat` ends with our half, and what follows is still to come.
    with socat(connect, 'SYSTEM:cat; seq 100000') as client:
        received = run(greet)
        client.ends()
    assert received == b'hello\n' + b''.join(b'%d\n' % i for i in range(1, 100_001))


def test_server_answers_at_our_end(socat, place):
    async def ask(host, port):
        with sock.tcp(place[0]) as conn:
            await conn.connect(host, port)
            await conn.send(DATA)
            conn.shutdown('w')
            return await conn.recvall()

    with socat(there('TCP', 'LISTEN', place), 'EXEC:wc -c') as server:
        at = server.listens()
        assert run(lambda: ask(*at)) == b'%d\n' % len(DATA)
        server.ends()


def test_server_echoes_to_many_clients_at_once(socat, place):
    async def ask(number, host, port):
        data = DATA[number:][:200_000]
        with sock.tcp(place[0]) as conn:
            await conn.connect(host, port)
            reading = sock.newthread(conn.recvall)
            await conn.send(data)
            conn.shutdown('w')
            return await reading == data

    async def ask_all(at):
        threads = [sock.newthread(ask, number, *at) for number in range(20)]
        return [await thread for thread in threads]

    # Linux may tell a TCP client that it is connected, and then drop it, where the backlog is full. It is 5.
    backlog = ',backlog=20' if place[0] == 'inet' else ''
    with socat(there('TCP', 'LISTEN', place) + ',fork' + backlog, 'EXEC:cat') as server:
        at = server.listens()
        assert run(lambda: ask_all(at)) == [True] * 20


#: Says something, and goes on as long as the connection does.
TALKER = 'SYSTEM:echo hello; cat'


def test_client_is_reset_by_our_linger(socat):
    async def reset(listener):
        with await accepted(listener) as conn:
            conn.setopt('so_linger', 0)
            assert await conn.recv(100) == b'hello\n'

    with sock.tcp() as listener:
        listener.listen('127.0.0.1')
        connect = there('TCP', 'CONNECT', ('inet', '127.0.0.1'), listener.local_addr.port)
        with socat(connect, TALKER) as client:
            run(lambda: reset(listener))
            assert 'Connection reset by peer' in client.ends()[1]


def test_client_is_reset_as_we_close_with_its_data_unread(socat, server):
    listener, connect = server

    async def reset():
        with await accepted(listener) as conn:
            await conn.readable(sock.clock() + PATIENCE)

    with socat(connect, TALKER) as client:
        run(reset)
        assert 'Connection reset by peer' in client.ends()[1]


@pytest.mark.skipif(not LINUX, reason='elsewhere a reset drops what was not read')
def test_reset_of_the_client_comes_after_its_data(socat):
    async def until_reset(listener):
        with await accepted(listener) as conn:
            received = b''
            try:
                while more := await conn.recv(65536):
                    received += more
            except sock.ConnectionReset:
                return received

    with sock.tcp() as listener:
        listener.listen('127.0.0.1')
        connect = there('TCP', 'CONNECT', ('inet', '127.0.0.1'), listener.local_addr.port)
        # It closes at once when its input ends.
        with socat('STDIO', f'{connect},shut-close,linger=0', data=DATA[:5000], options=['-u']) as client:
            assert run(lambda: until_reset(listener)) == DATA[:5000]
            client.ends()


def test_server_that_leaves_our_data_unread_resets_us(socat, place):
    async def ask(host, port):
        with sock.tcp(place[0]) as conn:
            await conn.connect(host, port)
            with pytest.raises((sock.ConnectionReset, sock.BrokenPipe)):
                while True:
                    await conn.send(DATA, expires=sock.clock() + PATIENCE)
            return conn.stats.bytes_sent

    # `head` reads some, and then both end.
    with socat(there('TCP', 'LISTEN', place), 'EXEC:head -c 1', options=['-t', '0']) as server:
        at = server.listens()
        assert run(lambda: ask(*at)) > 0


async def ping_pong(s, to, sizes):
    """Sends a datagram of each size once the one before is back; gives the sizes of those that came back changed."""
    wrong = []
    for number, size in enumerate(sizes):
        data = DATA[number:][:size]
        await s.send(data, host=to, expires=sock.clock() + PATIENCE)
        if await s.recvfrom(65536, expires=sock.clock() + PATIENCE) != (data, to):
            wrong.append(size)
    return wrong


@pytest.mark.parametrize('connected', [False, True])
def test_server_echoes_datagrams_over_udp(socat, connected):
    async def ask(host, port):
        with sock.udp() as s:
            to = sock.addr(host, port, 'udp').addr
            if connected:
                await s.connect(to)
            return await ping_pong(s, to, [1, 100, 1472, 9000, LONGEST_DATAGRAM] * 20)

    with socat('UDP4-LISTEN:0,bind=127.0.0.1', 'EXEC:cat', options=['-b', '65536']) as server:
        at = server.listens()
        assert run(lambda: ask(*at)) == []


@pytest.mark.parametrize('place', UNIX, indirect=True)
def test_server_sends_a_unix_datagram_back(socat, place, short_path):
    family, host = place

    async def ask():
        with sock.udp(family) as s:
            s.bind(str(short_path / 'ours'))
            return await ping_pong(s, sock.SockAddr(family, host), [min(60_000, LONG_UNIX_DATAGRAM)])

    with socat(there('UDP', 'RECVFROM', place), 'EXEC:cat', options=['-b', '65536']) as server:
        assert server.listens() == (host, 0)
        assert run(ask) == []
        server.ends()


def test_client_sends_datagrams_of_which_none_is_lost(socat, place):
    family, host = place
    data, size = DATA[:150_000], 1000

    async def receive(s):
        parts = []
        while len(parts) < len(data) // size:
            parts += [part for part, _ in await s.recvmany(32, expires=sock.clock() + PATIENCE)]
        return parts

    with sock.udp(family) as s:
        s.bind(host)
        if family == 'inet':
            s.setopt('so_rcvbuf', 1 << 20)
        to = there('UDP', 'SENDTO', place, s.local_addr.port)
        with socat('STDIO', to, data=data, options=['-u', '-b', str(size)]) as client:
            parts = run(lambda: receive(s))
            client.ends()
    assert {len(part) for part in parts} == {size}
    assert b''.join(parts) == data
