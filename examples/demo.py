"""Drives the echo server and the chat server of this folder over real sockets, and checks every byte.

All clients are threads of this one process. Ends with a small table; fails if a single byte is wrong.
"""

import argparse
import contextlib
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import sock

HERE = Path(__file__).resolve().parent
MESSAGE_BYTES = 16384
#: A message is a slice of this, at a place that depends on the connection and the number of the message, so that
#: bytes that are lost, swapped or come from another connection are found. 251 is prime: no power of two repeats it.
PATTERN = bytes(range(251)) * (2 * MESSAGE_BYTES // 251 + 2)


def message(connection, number):
    begin = (connection * 7919 + number * 104729) % (251 * 64)
    return memoryview(PATTERN)[begin : begin + MESSAGE_BYTES]


class Server:
    """A server of this folder, as a process of its own."""

    def __init__(self, program):
        command = [sys.executable, str(HERE / program), '--port', '0']
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not (found := re.fullmatch(r'listening on (.*):(\d+)\n', line)):
            self.close()
            sys.exit(f'{program} did not start: {line!r}')
        self.host, self.port = found[1], int(found[2])

    def cpu_seconds(self):
        """User and system time so far; None where /proc is not there."""
        try:
            fields = Path(f'/proc/{self.process.pid}/stat').read_text().rpartition(')')[2].split()
        except OSError:
            return None
        return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')

    def resident_bytes(self):
        try:
            pages = int(Path(f'/proc/{self.process.pid}/statm').read_text().split()[1])
        except OSError:
            return None
        return pages * os.sysconf('SC_PAGE_SIZE')

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()


class Progress:
    """One line that is rewritten on a terminal; elsewhere a line every few seconds."""

    def __init__(self, what, total):
        self.what, self.total, self.done = what, total, 0
        self.interval = 0.1 if sys.stderr.isatty() else 5.0
        self.begin = self.shown = time.monotonic()

    def add(self, n):
        self.done += n
        if (now := time.monotonic()) - self.shown >= self.interval:
            self.shown = now
            self.show('\r' if sys.stderr.isatty() else '')

    def show(self, begin):
        passed = time.monotonic() - self.begin
        end = '' if begin else '\n'
        done = min(self.done, self.total)
        print(
            f'{begin}{self.what}: {done:,.0f} of {self.total:,.0f} ({done / self.total:4.0%}), {passed:.0f} s',
            end=end,
            file=sys.stderr,
            flush=True,
        )

    def end(self):
        if sys.stderr.isatty():
            self.show('\r')
            print(file=sys.stderr)


async def echo_client(number, conn, messages, progress, latencies):
    """Sends each message and takes it back before the next one."""
    buf = bytearray(MESSAGE_BYTES)
    with conn:
        for i in range(messages):
            sent = message(number, i)
            begin = sock.clock()
            await conn.send(sent)
            await conn.recvn(buf, expires=sock.clock() + 60)
            latencies.append(sock.clock() - begin)
            if buf != sent:
                wrong = next(at for at in range(MESSAGE_BYTES) if buf[at] != sent[at])
                sys.exit(f'WRONG BYTE: connection {number}, message {i}, byte {wrong}')
            progress.add(MESSAGE_BYTES / 1e6)
        conn.shutdown('w')
        if rest := await conn.recvall(expires=sock.clock() + 60):
            sys.exit(f'WRONG BYTE: connection {number} got {len(rest)} bytes that nobody sent')


async def echo(server, connections, megabytes):
    """Returns the rows of the table."""
    empty = server.resident_bytes() if isinstance(server, Server) else None
    conns = []
    progress = Progress('connections', connections)
    for _ in range(connections):
        conn = sock.tcp()
        await conn.connect(server.host, server.port, expires=sock.clock() + 60)
        conns.append(conn)
        progress.add(1)
    # One byte each way: all of them are accepted and wait again.
    for conn in conns:
        await conn.send(b'?')
        assert await conn.recv(1, expires=sock.clock() + 60) == b'?'
    progress.end()
    idle = server.resident_bytes() if isinstance(server, Server) else None

    messages = -(-megabytes * 1_000_000 // (connections * MESSAGE_BYTES))
    total = connections * messages
    progress = Progress('MB echoed and checked', total * MESSAGE_BYTES / 1e6)
    latencies = []
    cpu = server.cpu_seconds() if isinstance(server, Server) else None
    begin = time.monotonic()
    clients = [
        sock.newthread(echo_client, number, conn, messages, progress, latencies) for number, conn in enumerate(conns)
    ]
    for client in clients:
        await client
    seconds = time.monotonic() - begin
    progress.end()
    percentiles = statistics.quantiles(latencies, n=100)
    return [
        ('connections', f'{connections:,}'),
        ('megabytes each way, every byte checked', f'{total * MESSAGE_BYTES / 1e6:,.0f}'),
        (f'messages/s ({MESSAGE_BYTES // 1024} KB each)', f'{total / seconds:,.0f}'),
        ('MB/s each way', f'{total * MESSAGE_BYTES / 1e6 / seconds:,.0f}'),
        ('latency p50', f'{percentiles[49] * 1e3:.2f} ms'),
        ('latency p99', f'{percentiles[98] * 1e3:.2f} ms'),
        ('server CPU per message', 'n/a' if cpu is None else f'{(server.cpu_seconds() - cpu) / total * 1e6:.1f} us'),
        ('server memory per connection', 'n/a' if idle is None else f'{(idle - empty) / connections:,.0f} bytes'),
    ]


class ChatClient:
    def __init__(self, name, conn):
        self.name, self.conn, self.got = name, conn, b''

    async def line(self):
        while b'\n' not in self.got:
            if not (more := await self.conn.recv(65536, expires=sock.clock() + 60)):
                sys.exit(f'{self.name}: the chat server ended the connection')
            self.got += more
        line, _, self.got = self.got.partition(b'\n')
        return line.decode()

    async def join(self, server):
        await self.conn.connect(server.host, server.port, expires=sock.clock() + 60)
        await self.conn.send(f'{self.name}\n'.encode())
        assert await self.line() == f'welcome, {self.name}'

    async def talk(self, others, lines, progress):
        """Says its lines, and hears those of all the others, of each in order."""
        await self.conn.send(b''.join(b'line %d\n' % i for i in range(lines)))
        heard = dict.fromkeys(others, 0)
        while min(heard.values()) < lines:
            who, _, text = (await self.line()).partition(': ')
            if not text:
                continue  # who joined
            if text != f'line {heard[who]}':
                sys.exit(f'WRONG LINE: {self.name} heard {text!r} of {who} after {heard[who]} lines')
            heard[who] += 1
            progress.add(1)


async def chat(server, clients, lines):
    """Everybody joins, and then each says its lines to all the others. Returns the rows of the table."""
    with contextlib.ExitStack() as stack:
        everybody = [ChatClient(f'client-{i}', stack.enter_context(sock.tcp())) for i in range(clients)]
        for client in everybody:
            await client.join(server)
        progress = Progress('chat lines relayed and checked', clients * (clients - 1) * lines)
        names = {client.name for client in everybody}
        for thread in [sock.newthread(each.talk, names - {each.name}, lines, progress) for each in everybody]:
            await thread
        progress.end()
    return [('chat clients', f'{clients:,}'), ('chat lines relayed, each one checked', f'{progress.done:,}')]


class Elsewhere:
    """An echo server that is there already."""

    def __init__(self, address):
        self.host, _, port = address.rpartition(':')
        self.port = int(port)

    def close(self):
        pass


def allow_descriptors(n):
    with contextlib.suppress(ImportError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY and hard < n:
            sys.exit(f'{n} descriptors are needed and the limit is {hard}: raise it (ulimit -Hn), or ask for less')
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, n), hard))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--connections', type=int, default=1000)
    parser.add_argument('--megabytes', type=int, default=1024, help='each way, in all')
    parser.add_argument('--chat-clients', type=int, default=40)
    parser.add_argument('--chat-lines', type=int, default=20, help='of each client')
    parser.add_argument('--echo', metavar='HOST:PORT', help='an echo server to use instead of echo_server.py')
    args = parser.parse_args()
    allow_descriptors(args.connections + args.chat_clients + 100)
    rows = []
    with contextlib.ExitStack() as stack:
        server = Elsewhere(args.echo) if args.echo else Server('echo_server.py')
        stack.callback(server.close)
        rows += sock.run(echo, server, args.connections, args.megabytes)
        server = Server('chat_server.py')
        stack.callback(server.close)
        rows += sock.run(chat, server, args.chat_clients, args.chat_lines)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f'{name:<{width}}  {value:>12}')


if __name__ == '__main__':
    try:
        main()
    except KeyboardInterrupt:
        sys.exit('interrupted')
