"""An HTTP/1.1 file server: keep-alive, pipelining. Try it: python examples/http_server.py . and curl 127.0.0.1:8000"""

import argparse
import contextlib
import mimetypes
import urllib.parse
from pathlib import Path

import sock

IDLE_SECONDS, REQUEST_BYTES = 30, 65536


def answer(root, method, target):
    """The status and the file of a request."""
    if method not in ('GET', 'HEAD'):
        return '405 Method Not Allowed', None
    with contextlib.suppress(ValueError, OSError):  # a NUL, a name too long
        file = (root / urllib.parse.unquote(target.partition('?')[0]).lstrip('/')).resolve()
        file = (file / 'index.html').resolve() if file.is_dir() else file
        if file.is_relative_to(root) and file.is_file():
            return '200 OK', file
    return '404 Not Found', None


async def respond(conn, root, head):
    """Answers one request, its file read in one go; False: the connection ends with it."""
    lines = head.decode('latin-1').split('\r\n')
    try:
        method, target, version = lines[0].split(' ')
        fields = {name.lower(): value.strip() for name, value in (line.split(':', 1) for line in lines[1:])}
        has_body = fields.get('content-length', '0') != '0' or 'transfer-encoding' in fields
        valid = version.startswith('HTTP/1.') and not has_body
    except ValueError:
        valid = False
    status, file = answer(root, method, target) if valid else ('400 Bad Request', None)
    keep = valid and fields.get('connection', '' if version == 'HTTP/1.1' else 'close').lower() != 'close'
    body = file.read_bytes() if file else f'{status}\n'.encode()
    kind = (mimetypes.guess_type(file)[0] or 'application/octet-stream') if file else 'text/plain'
    allow = 'Allow: GET, HEAD\r\n' if status.startswith('405') else ''
    end = f'{allow}Connection: {"keep-alive" if keep else "close"}\r\n\r\n'
    head = f'HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{end}'.encode()
    await conn.send(head if valid and method == 'HEAD' else head + body, expires=sock.clock() + IDLE_SECONDS)
    return keep


async def serve(conn, root):
    with conn, contextlib.suppress(sock.Error):
        got, keep = b'', True
        while keep:
            expires = sock.clock() + IDLE_SECONDS  # for the whole request, however slowly it comes
            while b'\r\n\r\n' not in got and len(got) < REQUEST_BYTES:
                if not (more := await conn.recv(65536, expires=expires)):
                    return
                got += more
            head, complete, got = got.partition(b'\r\n\r\n')
            keep = await respond(conn, root, head if complete else b'')
        # Closing with unread requests would reset the connection, and the last answer might be lost with it.
        conn.shutdown('w')
        while await conn.recv(65536, expires=expires):
            pass


async def main(root, host, port):
    with sock.tcp() as listener:
        listener.listen(host, port)
        print(f'listening on {listener.local_addr}', flush=True)
        while True:
            sock.newthread(serve, (await listener.accept())[0], root)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('root', type=Path, help='the folder to serve')
    parser.add_argument('--host', default='127.0.0.1', help="'*' for all interfaces")
    parser.add_argument('--port', type=int, default=8000, help='0 for any free port')
    args = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        sock.run(main, args.root.resolve(), args.host, args.port)
