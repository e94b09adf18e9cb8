"""Echoes whatever it receives. Try it: python examples/echo_server.py --port 7000, then: nc 127.0.0.1 7000"""

import argparse
import contextlib

import sock


async def serve(conn):
    with conn, contextlib.suppress(sock.ConnectionReset, sock.BrokenPipe):
        # With a number instead of a buffer: a connection that waits costs no buffer.
        while data := await conn.recv(65536):
            await conn.send(data)


async def main(host, port):
    with sock.tcp() as listener:
        listener.listen(host, port)
        print(f'listening on {listener.local_addr}', flush=True)
        while True:
            try:
                conn, _, _ = await listener.accept()
            except sock.TooManyOpenFiles as error:
                print(error, flush=True)
                await sock.sleep(0.1)
            else:
                sock.newthread(serve, conn)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--host', default='127.0.0.1', help="'*' for all interfaces")
    parser.add_argument('--port', type=int, default=7000, help='0 for any free port')
    parser.add_argument('--threads', type=int, default=1, help='OS threads that share the work')
    args = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        sock.run(main, args.host, args.port, threads=args.threads)
