"""What the tests of clients share: servers of others, as child processes, and a server of ours for their clients."""

import contextlib
import errno
import os
import random
import socket
import subprocess
import time
from pathlib import Path

import pytest
import sock
from support import LINUX, OTHERS, mortal

#: Seconds that a server has to come up, or to go.
PATIENCE = 10


def needed(name):
    """Imports a package of PyPI by its name."""
    return pytest.importorskip(name, reason=f'{name} is not installed: make outside installs it')


def candidates():
    """Ports in any order that the system gives to nobody who asks for any: only who names one can take it."""
    try:
        lowest, highest = map(int, Path('/proc/sys/net/ipv4/ip_local_port_range').read_text().split())
    except OSError:
        lowest, highest = 32768, 65535
    ports = [port for port in range(10000, 65536) if not lowest <= port <= highest]
    random.shuffle(ports)
    return ports


def has_nobody(port):
    """Whether it is free, of TCP and of UDP, at all addresses that this host has."""
    for family, host in ((socket.AF_INET, '0.0.0.0'), (socket.AF_INET6, '::')):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            try:
                with socket.socket(family, kind) as s:
                    if family == socket.AF_INET6:
                        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    s.bind((host, port))
            except OSError as error:
                if error.errno in (errno.EADDRINUSE, errno.EACCES):
                    return False
    return True


@contextlib.contextmanager
def unused_ports(count=1):
    """So many ports that nobody has, and that no other tests choose until the block ends.

    From the look whether a port is free to the server's bind nobody takes it: the system gives it to nobody, and who
    chooses as here has bound its name, which lives as long as a descriptor, and as ports is of a network namespace.
    """
    ports = []
    with contextlib.ExitStack() as held:
        for port in candidates():
            if LINUX:
                claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                try:
                    claim.bind(f'\0a port of the tests: {port}')
                except OSError:
                    claim.close()
                    continue
                held.enter_context(claim)
            if has_nobody(port):
                ports.append(port)
            if len(ports) == count:
                break
        else:
            pytest.fail(f'{count} ports are not free')
        yield ports


def answers(port):
    with contextlib.suppress(OSError), socket.create_connection(('127.0.0.1', port), PATIENCE):
        return True
    return False


@contextlib.contextmanager
def running(command, port, folder):
    """Runs a server, which stays in the foreground and takes connections at that port of 127.0.0.1."""
    log = folder / 'log'
    with log.open('wb') as file:
        process = subprocess.Popen(
            mortal(command), stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=OTHERS
        )
    try:
        until = time.monotonic() + PATIENCE
        while not answers(port):
            if process.poll() is not None or time.monotonic() > until:
                pytest.fail(f'{command[0]} does not come up:\n{log.read_text(errors="replace")}')
            time.sleep(0.02)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def run_on(threads, func):
    """Runs a coroutine function on so many OS threads, for 30 seconds at most."""

    async def bounded():
        with sock.deadline(sock.clock() + 3 * PATIENCE):
            return await func()

    return sock.run(bounded, threads=threads)


def run_many_on(threads, func, count):
    """Runs a coroutine function so many times at once, with a number each: it has to give True."""

    async def main():
        async with sock.group() as group:
            running = [group.newthread(func, i) for i in range(count)]
        assert all(thread.result() for thread in running)

    run_on(threads, main)


def with_server(serve, client, threads=1):
    """Calls a client that blocks with the port of a server of ours, of which no thread fails; what it gave."""

    async def main():
        async def accept():
            while True:
                group.newthread(serve, (await listener.accept())[0])

        with sock.tcp() as listener:
            listener.listen('127.0.0.1')
            async with sock.group() as group:
                accepting = group.newthread(accept)
                result = await sock.offload(client, listener.local_addr.port)
                # The connections end as their clients have.
                accepting.cancel()
            return result

    return run_on(threads, main)


NGINX = """
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/errors;
events {{ worker_connections 2000; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 100m;
    http2_max_concurrent_streams 100;
    server {{
        listen 127.0.0.1:{port};
        listen 127.0.0.1:{tls} ssl http2;
        {unix}
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        root {folder}/root;
        # Which connection this is, and the how many-th request on it.
        add_header X-Connection $connection always;
        add_header X-Request $connection_requests always;
        {uploads}
        location /few/ {{ alias {folder}/root/; keepalive_requests 3; }}
    }}
}}
"""


class Nginx:
    """nginx, with HTTP/1.1 at `port`, TLS and either HTTP at `tls`, and a unix socket; it serves and takes files."""

    def __init__(self, folder, port, tls, takes_files):
        self.folder = folder
        self.root = folder / 'root'
        self.takes_files = takes_files
        self.unix = folder / 'socket'
        self.port, self.tls = port, tls

    @property
    def uploads(self):
        if not self.takes_files:
            pytest.skip('nginx is there, but its dav module, which takes files, is not installed')
        return self.root / 'upload'

    @classmethod
    @contextlib.contextmanager
    def started(cls, program, folder, certificate):
        with unused_ports(2) as ports:
            built = subprocess.run([program, '-V'], capture_output=True, text=True, timeout=PATIENCE, check=True).stderr
            self = cls(folder, *ports, takes_files='dav_module' in built)
            (self.root / 'upload').mkdir(parents=True)
            config = folder / 'nginx.conf'
            settings = NGINX.format(
                folder=folder.as_posix(),
                port=self.port,
                tls=self.tls,
                certificate=certificate[0].as_posix(),
                key=certificate[1].as_posix(),
                unix=f'listen unix:{self.unix};' if os.name == 'posix' else '',
                uploads='location /upload/ { dav_methods PUT; }' if self.takes_files else '',
            )
            config.write_text(settings, encoding='utf-8')
            command = [program, '-e', folder / 'errors', '-p', folder, '-c', config]
            with running(command, self.port, folder):
                yield self
