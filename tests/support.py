"""What several test modules use."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import sock

LINUX = os.path.isdir('/proc/self')


def run(func):
    """Runs a coroutine (function) of a test to its end, for 20 seconds at most."""
    thread = sock.newthread(func, name='test')
    if not sock.start(20):
        thread.cancel()
        sock.start(5)
        pytest.fail('not done after 20 s')
    return thread.result()


def python(code, **options):
    """Runs a program to its end."""
    return subprocess.run(
        [sys.executable, '-W', 'error', '-c', textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=30,
        **options,
    )


def interrupt(code, within):
    """Runs a program that prints 'ready', sends it Ctrl-C, and sees it print 'interrupted' within so many seconds."""
    process = subprocess.Popen(
        [sys.executable, '-c', textwrap.dedent(code)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == 'ready\n'
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == 'interrupted\n'
        assert time.monotonic() - begin < within
        _, errors = process.communicate(timeout=10)
        assert errors == ''
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()
