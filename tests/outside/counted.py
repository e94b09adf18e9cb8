"""counted.py PROGRAM ...: runs a server until its input and connections have ended, and prints what those counted."""

import json
import runpy
import sys

import sock

connections = []
newthread, run = sock.newthread, sock.run


def newthread_and_count(func, *args, **options):
    thread = newthread(func, *args, **options)
    if func.__name__ == 'serve':
        connections.append((thread, args[0]))
    return thread


def run_until_told(main, *args, threads=1):
    async def until_told():
        server = newthread(main, *args)
        await sock.offload(sys.stdin.read)
        for thread, _ in connections:
            await thread
        server.cancel()

    run(until_told, threads=threads)


del sys.argv[0]
sock.newthread, sock.run = newthread_and_count, run_until_told
runpy.run_path(sys.argv[0], run_name='__main__')
stats = [conn.stats for _, conn in connections]
print(
    json.dumps(
        {'connections': len(stats), **{name: sum(getattr(s, name) for s in stats) for name in sock.Stats._fields}}
    )
)
