"""iperf3's client and server with the TCP proxy of examples/ between them: no byte of theirs is lost, or made up."""

import contextlib
import json
import subprocess

import pytest
from support import EXAMPLES, OTHERS, mortal

BYTES = 200 * 1024 * 1024
#: At most so many are of its own messages: what is wanted, and what came of it.
CONTROL = 20_000


@contextlib.contextmanager
def iperf3_server(path, port):
    """iperf3's server, for one test."""
    command = [path, '--server', '--one-off', '--forceflush', '--bind', '127.0.0.1', '--port', str(port)]
    process = subprocess.Popen(mortal(command), stdout=subprocess.PIPE, text=True, env=OTHERS)
    try:
        assert any(line.startswith('Server listening') for line in process.stdout)
        yield
        process.communicate(timeout=10)
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize('parallel', [1, 8])
@pytest.mark.parametrize('direction', ['up', 'down', 'both'])
def test_iperf3_gets_through_the_proxy_what_it_sends(program, report, counting, free_port, direction, parallel):
    path = program('iperf3')
    arguments = ['--json', '--bytes', BYTES, '--parallel', parallel]
    arguments += dict(up=[], down=['--reverse'], both=['--bidir'])[direction]
    with iperf3_server(path, free_port), counting(EXAMPLES / 'tcp_proxy.py', '127.0.0.1', free_port) as proxy:
        told = json.loads(report('iperf3', '--client', '127.0.0.1', '--port', proxy.port, *arguments))
    assert 'error' not in told
    end = told['end']
    for stream in end['streams']:
        assert stream['receiver']['bytes'] <= stream['sender']['bytes']
    sent, received = end['sum_sent']['bytes'], end['sum_received']['bytes']
    if direction == 'down':
        # The client goes on until it has it all.
        assert sent == received == BYTES
        assert received <= proxy.counts['bytes_sent'] <= sent + CONTROL
    else:
        # The client stops once it has moved as many in one direction, and the server leaves what is still on its way.
        assert sent == BYTES or direction == 'both'
        assert 0 < received <= proxy.counts['bytes_received'] <= sent + CONTROL
    if direction == 'both':
        sent, received = end['sum_sent_bidir_reverse']['bytes'], end['sum_received_bidir_reverse']['bytes']
        assert 0 < received <= proxy.counts['bytes_sent'] <= sent + CONTROL
    assert proxy.counts['connections'] == 1 + parallel * (2 if direction == 'both' else 1)
