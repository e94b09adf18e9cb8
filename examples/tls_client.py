"""TLS over a coroutine socket, by the standard library's ssl.MemoryBIO, and a client that gets a page with it.

Try it: python examples/tls_client.py example.com
"""

import argparse
import contextlib
import ssl
import sys
import threading

import sock

CHUNK, CLOSE_SECONDS, ALL_SECONDS = 65536, 5, 30


class TLS:
    """TLS over a connected socket. One thread may receive while others send; ``with sock.deadline(t)`` bounds calls."""

    def __init__(self, conn, context, server_hostname=None, server_side=False):
        self.conn = conn
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.ssl = context.wrap_bio(self._incoming, self._outgoing, server_side, server_hostname)
        self._sending = sock.Lock()  # held until all of a message has gone
        self._guard = threading.Lock()  # of the three above: threads may be on several OS threads

    async def handshake(self):
        await self._exchange(self.ssl.do_handshake)

    async def recv(self, n):
        """Up to n bytes; b'' is the peer's end. A connection that was cut off instead is an ssl.SSLEOFError."""
        while True:
            with contextlib.suppress(ssl.SSLWantReadError), self._guard:
                return self.ssl.read(n)
            # Nothing is sent here, for which the peer might wait to be read: what TLS has to answer may come later.
            await self._receive()

    async def send(self, data):
        """Sends all of it. When it is cut short, by a deadline or a cancel, the connection ends."""
        async with self._sending:
            view = memoryview(data).cast('B')
            while view:
                with self._guard:
                    written = self.ssl.write(view[:CHUNK])
                await self._flush()
                view = view[written:]

    async def close(self):
        """Ends the connection in a way that the peer knows that nothing is missing."""
        with self.conn, contextlib.suppress(sock.Error, ssl.SSLError), sock.deadline(sock.clock() + CLOSE_SECONDS):
            async with self._sending:
                await self._exchange(self.ssl.unwrap)

    async def _exchange(self, function):
        """Calls what takes several messages each way."""
        while True:
            try:
                with self._guard:
                    return function()
            except ssl.SSLWantReadError:
                pass
            finally:
                await self._flush()
            await self._receive()

    async def _flush(self):
        with self._guard:
            data = self._outgoing.read()
        try:
            await self.conn.send(data)
        except BaseException:
            self.conn.close()  # the peer could make nothing of what comes after a gap
            raise

    async def _receive(self):
        data = await self.conn.recv(CHUNK)
        with self._guard:
            self._incoming.write(data) if data else self._incoming.write_eof()


async def main(host, port, path, authorities):
    context = ssl.create_default_context(cafile=authorities)
    with sock.tcp(None) as conn, sock.deadline(sock.clock() + ALL_SECONDS):
        await conn.connect(host, port)
        tls = TLS(conn, context, server_hostname=host)
        await tls.handshake()
        await tls.send(f'GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n'.encode())
        while data := await tls.recv(CHUNK):
            sys.stdout.buffer.write(data)
        await tls.close()


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('host')
    parser.add_argument('path', nargs='?', default='/')
    parser.add_argument('--port', type=int, default=443)
    parser.add_argument('--authorities', metavar='FILE', help="trust these certificates instead of the system's")
    args = parser.parse_args()
    try:
        sock.run(main, args.host, args.port, args.path, args.authorities)
    except OSError as error:  # sock's errors and ssl's
        sys.exit(str(error))
