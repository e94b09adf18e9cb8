"""Forwards connections to another address, each direction by itself, so that one may end while the other goes on.

Try it: python examples/tcp_proxy.py example.com 80 --port 8080, then: curl -H 'Host: example.com' 127.0.0.1:8080
"""

import argparse
import contextlib

import sock

CONNECT_SECONDS = 10


async def forward(source, target):
    """Moves bytes until the source ends, and passes the end on. An error on either side ends both directions."""
    buf = bytearray(65536)
    try:
        while n := await source.recv(buf):
            await target.send(buf, n)
        target.shutdown('w')
    except sock.Error:
        source.close()
        target.close()


async def serve(client, host, port):
    with client, sock.tcp() as server:
        try:
            await server.connect(host, port, expires=sock.clock() + CONNECT_SECONDS)
        except sock.Error as error:
            print(f'no connection for {client.remote_addr}: {error}', flush=True)
            return
        upwards = sock.newthread(forward, client, server)
        await forward(server, client)
        await upwards


async def main(host, port, target_host, target_port):
    with sock.tcp() as listener:
        listener.listen(host, port)
        print(f'listening on {listener.local_addr}', flush=True)
        while True:
            client, _, _ = await listener.accept()
            sock.newthread(serve, client, target_host, target_port)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('target_host')
    parser.add_argument('target_port', type=int)
    parser.add_argument('--host', default='127.0.0.1', help="'*' for all interfaces")
    parser.add_argument('--port', type=int, default=8080, help='0 for any free port')
    args = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        sock.run(main, args.host, args.port, args.target_host, args.target_port)
