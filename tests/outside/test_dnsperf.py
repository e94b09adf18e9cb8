"""dnsperf against dns_server.py, which uses dnspython: each query is answered, none is lost."""

import re
from pathlib import Path

import pytest

SERVER = Path(__file__).with_name('dns_server.py')

#: One of each kind of answer: an address, several, one too long for plain UDP, nothing of that type, no such name.
QUERIES = [
    'ns.example. A',
    'WWW.example. A',
    'www.example. AAAA',
    'long.example. TXT',
    'ns.example. TXT',
    'none.example. A',
]
RUNS = 300


@pytest.mark.parametrize(
    ('transport', 'arguments'),
    [
        ('udp', ['-q', 10]),
        ('udp', ['-q', 100, '-c', 20, '-T', 2]),
        ('udp', ['-q', 100, '-e']),
        ('tcp', ['-q', 100]),
        ('tcp', ['-q', 100, '-c', 20, '-T', 2]),
    ],
    ids=['udp', 'udp-20-clients', 'udp-edns', 'tcp', 'tcp-20-clients'],
)
def test_dnsperf_loses_no_query(package, report, counting, tmp_path, transport, arguments):
    package('dns')
    (tmp_path / 'queries').write_text('\n'.join(QUERIES))
    with counting(SERVER) as server:
        where = ['-m', transport, '-s', '127.0.0.1', '-p', server.port]
        printed = report('dnsperf', *where, '-d', tmp_path / 'queries', '-n', RUNS, '-t', 20, *arguments)
    total = RUNS * len(QUERIES)
    told = {name: int(number) for name, number in re.findall(r'Queries (\w+): +(\d+)', printed)}
    assert told == dict(sent=total, completed=total, lost=0)
    codes = {name: int(number) for name, number in re.findall(r'([A-Z]+) (\d+) \(', printed)}
    assert codes == dict(NOERROR=total - RUNS, NXDOMAIN=RUNS)
    assert server.own == [{'udp': 0, 'tcp': 0} | {transport: total}]
