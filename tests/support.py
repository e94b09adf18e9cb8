"""What several test modules use."""

import os

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
