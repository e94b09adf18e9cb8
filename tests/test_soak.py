"""The storm of `soak.py`, short; `make soak` runs it for ten minutes."""

import subprocess
import sys
from pathlib import Path

import pytest
from support import SLOWER, busy

SOAK = Path(__file__).parent / 'soak.py'


@pytest.mark.parametrize(('pollers', 'os_threads'), [(1, 8), (2, 4), (4, 1)])
def test_storm_leaves_nothing_behind_and_loses_no_byte(pollers, os_threads):
    # The crowd has to come together in that time, which takes Wine longer; an echo waits for a processor.
    command = [sys.executable, SOAK, '--seconds', str(4 * SLOWER), '--crowd', '300', '--p99', str(2 * busy())]
    command += ['--pollers', str(pollers), '--os-threads', str(os_threads)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90 * SLOWER, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'nothing left' in done.stdout
