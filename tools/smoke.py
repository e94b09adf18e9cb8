"""An echo over TCP and one over UDP, with the library as it is installed, licenses and all. Prints what ran it."""

import importlib.metadata
import platform
import sys
import sysconfig
from pathlib import Path

import sock


async def echo_stream(listener):
    conn, _, _ = await listener.accept()
    with conn:
        while data := await conn.recv(65536):
            await conn.send(data)


async def echo_datagrams(server):
    with server:
        data, remote = await server.recvfrom(1024)
        await server.send(data, host=remote)


async def main():
    message = bytes(range(256)) * 1024
    with sock.tcp() as listener, sock.tcp() as conn:
        listener.listen('127.0.0.1', 0)
        thread = sock.newthread(echo_stream, listener)
        deadline = sock.clock() + 30
        await conn.connect(listener.local_addr, expires=deadline)
        sender = sock.newthread(conn.send(message, expires=deadline))
        received = bytearray(len(message))
        await conn.recvn(received, expires=deadline)
        assert received == message
        await sender
        conn.shutdown('w')
        assert await conn.recv(1, expires=deadline) == b''
        await thread
    with sock.udp() as server, sock.udp() as client:
        server.bind('127.0.0.1')
        thread = sock.newthread(echo_datagrams, server)
        await client.connect(server.local_addr)
        await client.send(b'datagram', expires=deadline)
        assert await client.recv(1024, expires=deadline) == b'datagram'
        await thread


assert Path(sock.__file__).is_relative_to(sys.prefix), f'{sock.__file__} is not in the environment under test'
licenses = {path.name for path in importlib.metadata.files('corosock') if 'licenses' in path.parts}
assert licenses == {'LICENSE', 'THIRD-PARTY-NOTICES.txt'}, licenses
sock.run(main)
if sysconfig.get_config_var('Py_GIL_DISABLED'):
    assert not sys._is_gil_enabled(), 'importing sock switched the GIL on'
print(platform.python_version(), platform.machine(), '-'.join(platform.libc_ver()))
