"""A chat: the first line is the name, each further one goes to everybody else. Try it: several nc 127.0.0.1 7001"""

import argparse
import collections
import contextlib

import sock

LINE_BYTES, BACKLOG_LINES = 4096, 1000


class Client:
    """One connection: a thread reads it, another writes, so that a slow client delays nobody."""

    def __init__(self, conn):
        self.conn, self.name, self.lines = conn, b'', collections.deque()
        self.writer = sock.newthread(self.write)
        self.idle = True

    def say(self, line):
        """Queues a line. Who does not read a thousand of them is dropped: memory has its bounds."""
        self.lines.append(line)
        if len(self.lines) > BACKLOG_LINES:
            self.conn.close()
        elif self.idle:
            self.idle = False
            self.writer.resume()

    async def write(self):
        with contextlib.suppress(sock.Error):
            while True:
                self.idle = True
                await sock.suspend()
                while self.lines:
                    data = b''.join(self.lines)
                    self.lines.clear()
                    await self.conn.send(data)

    async def read_lines(self):
        got = b''
        while (more := await self.conn.recv(LINE_BYTES)) and len(got) < LINE_BYTES:
            *lines, got = (got + more).split(b'\n')
            for line in lines:
                yield line.strip()


async def serve(conn, clients):
    client = Client(conn)
    with conn, contextlib.suppress(sock.Error):
        async for line in client.read_lines():
            if client.name:
                news = client.name + b': ' + line
            else:
                client.name = line or str(conn.remote_addr).encode()
                clients.add(client)
                client.say(b'welcome, ' + client.name + b'\n')
                news = client.name + b' is here'
            for other in clients - {client}:
                other.say(news + b'\n')
    clients.discard(client)
    client.writer.cancel()


async def main(host, port):
    clients = set()
    with sock.tcp() as listener:
        listener.listen(host, port)
        print(f'listening on {listener.local_addr}', flush=True)
        while True:
            sock.newthread(serve, (await listener.accept())[0], clients)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--host', default='127.0.0.1', help="'*' for all interfaces")
    parser.add_argument('--port', type=int, default=7001, help='0 for any free port')
    args = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        sock.run(main, args.host, args.port)
