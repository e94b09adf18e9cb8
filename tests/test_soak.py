"""The storm of `soak.py`, short; `make soak` runs it for ten minutes."""

import subprocess
import sys
from pathlib import Path

import pytest
import soak
from support import SLOWER

SOAK = Path(__file__).parent / 'soak.py'


def run(*options):
    command = [sys.executable, SOAK, *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, timeout=90 * SLOWER, check=False)


@pytest.mark.parametrize(('pollers', 'os_threads'), [(1, 8), (2, 4), (4, 1)])
def test_storm_holds_its_crowd_leaves_nothing_behind_and_loses_no_byte(pollers, os_threads):
    done = run('--seconds', 4, '--crowd', 300, '--pollers', pollers, '--os-threads', os_threads)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '\n300 connections held' in done.stdout
    assert '; 99 % have to take no more than ' in done.stdout
    assert 'nothing left' in done.stdout


@pytest.mark.skipif(sys.platform == 'win32', reason='there is no limit of descriptors')
def test_more_connections_than_the_system_allows_are_a_failure_that_names_the_limit():
    done = run('--crowd', 10**12)
    assert done.returncode == 1
    assert '1000000000000 connections take 1000000000500 descriptors in each of two processes' in done.stderr
    assert 'ulimit -Hn' in done.stderr


def test_fewer_connections_than_asked_for_are_a_failure():
    storm = soak.Storm(60, seed=1)
    storm.stand(3)
    storm.hear(['{"standing": 3}'])
    # One that comes before another one goes, and one that goes before.
    for n in (1, -1, -1, 1):
        storm.stand(n)
    with pytest.raises(SystemExit, match='of 3 connections only 2 were held at some time'):
        soak.judge(storm, crowd=3, patience=1)


def test_slow_echo_is_a_failure():
    done = run('--seconds', 4, '--crowd', 100, '--p99', 1e-9)
    assert done.returncode == 1
    assert 'an echo in a hundred takes more than' in done.stderr, done.stdout + done.stderr


@pytest.mark.parametrize(('load', 'expected'), [(1, 0.5), (3, 1.5), (4, 2), (50, 2)])
def test_busy_machine_raises_the_bound_of_an_echo_four_times_at_most(load, expected, monkeypatch):
    monkeypatch.setattr(soak, 'busy', lambda: load)
    assert soak.bound(0.5) == expected


def test_crowd_ends_with_the_storm_that_is_killed():
    command = [sys.executable, SOAK, '--seconds', '1000', '--crowd', '10']
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as storm:
        first, second = storm.stdout.readline(), storm.stdout.readline()
        storm.kill()
        # The crowd has the other end of it, too.
        _, errors = storm.communicate(timeout=30 * SLOWER)
    assert '10 connections' in first
    assert 'all stand' in second
    assert errors == ''
