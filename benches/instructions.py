"""Instructions that one round trip takes: 64 bytes sent from one thread to another, and back, over a socket pair.

Counted by valgrind's callgrind, kernel not included, as the difference between two runs of different length. Unlike
times it is the same each time, on busy machines too: for judging one change against another.
"""

import os
import re
import shutil
import subprocess
import sys

FEW, MANY = 2000, 6000

PROGRAM = """
import socket
import sock

async def echo(conn):
    buf = bytearray(64)
    while n := await conn.recv(buf):
        await conn.send(buf[:n])

async def main(rounds):
    ours, theirs = socket.socketpair()
    with sock.fromsocket(ours) as server, sock.fromsocket(theirs) as client:
        thread = sock.newthread(echo, server)
        buf, message = bytearray(64), bytes(64)
        for _ in range(rounds):
            await client.send(message)
            await client.recv(buf)
        client.shutdown()
        await thread

sock.run(main, {})
"""


def instructions(rounds: int) -> int:
    command = ['valgrind', '--tool=callgrind', '--callgrind-out-file=/dev/null', sys.executable, '-c']
    program = PROGRAM.replace('{}', str(rounds))
    # Where names fall in dicts would make a difference of a percent.
    fixed = os.environ | {'PYTHONHASHSEED': '0'}
    done = subprocess.run([*command, program], stderr=subprocess.PIPE, text=True, check=True, env=fixed)
    return int(re.search(r'Collected : (\d+)', done.stderr)[1])


if __name__ == '__main__':
    if shutil.which('valgrind') is None:
        sys.exit('valgrind is not there: install it, e.g. apt-get install valgrind')
    print(f'{(instructions(MANY) - instructions(FEW)) / (MANY - FEW):,.0f} instructions a round trip')
