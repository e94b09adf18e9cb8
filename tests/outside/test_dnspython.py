"""dnspython's asynchronous queries over our sockets, against unbound, or servers that are silent.

``Backend`` is the seam that dnspython has for other libraries.
"""

import contextlib
import socket
import ssl

import pytest
import sock
from support import run
from tls_client import TLS

from .servers import needed, run_many_on, running, unused_ports

dns = needed('dns')
for module in ('asyncbackend', 'asyncquery', 'asyncresolver'):
    needed(f'dns.{module}')


@contextlib.contextmanager
def within(timeout):
    try:
        with sock.deadline(timeout and sock.clock() + timeout):
            yield
    except sock.Timeout as error:
        raise dns.exception.Timeout(timeout=timeout) from error


def low_level(address):
    """An address as the standard library has it, which is what dnspython compares."""
    return (*address, address.flowinfo, address.scope_id) if address.family == 'inet6' else tuple(address)


class Addressed:
    """What both kinds of sockets tell, and how they end."""

    async def getpeername(self):
        return low_level(self.conn.remote_addr)

    async def getsockname(self):
        return low_level(self.conn.local_addr)

    async def close(self):
        self.conn.close()


class DatagramSocket(Addressed, dns.asyncbackend.DatagramSocket):
    def __init__(self, family, conn):
        super().__init__(family, socket.SOCK_DGRAM)
        self.conn = conn

    async def sendto(self, what, destination, timeout):
        host, port = destination[:2]
        with within(timeout):
            return await self.conn.send(what, host=host, port=port)

    async def recvfrom(self, size, timeout):
        with within(timeout):
            data, sender = await self.conn.recvfrom(size)
        return data, low_level(sender)


class StreamSocket(Addressed, dns.asyncbackend.StreamSocket):
    def __init__(self, family, conn, tls=None):
        super().__init__(family, socket.SOCK_STREAM)
        self.conn = conn
        self.stream = tls or conn

    async def sendall(self, what, timeout):
        with within(timeout):
            await self.stream.send(what)

    async def recv(self, size, timeout):
        with within(timeout):
            return await self.stream.recv(size)


class Backend(dns.asyncbackend.Backend):
    def name(self):
        return 'sock'

    async def make_socket(
        self,
        af,
        socktype,
        proto=0,
        source=None,
        destination=None,
        timeout=None,
        ssl_context=None,
        server_hostname=None,
    ):
        family = {socket.AF_INET: 'inet', socket.AF_INET6: 'inet6'}[af]
        conn = sock.udp(family) if socktype == socket.SOCK_DGRAM else sock.tcp(family)
        try:
            if source is not None:
                conn.bind(*source)
            if socktype == socket.SOCK_DGRAM:
                return DatagramSocket(af, conn)
            with within(timeout):
                await conn.connect(*destination)
                if ssl_context is None:
                    return StreamSocket(af, conn)
                tls = TLS(conn, ssl_context, server_hostname)
                await tls.handshake()
                return StreamSocket(af, conn, tls)
        except BaseException:
            conn.close()
            raise

    async def sleep(self, interval):
        await sock.sleep(interval)

    async def wait_for(self, awaitable, timeout):
        with within(timeout):
            return await awaitable


BACKEND = Backend()

#: What unbound answers.
MANY = 500
LONG = [f'{i:03} {"x" * 200}' for i in range(30)]

UNBOUND = """
server:
    interface: 127.0.0.1@{port}
    interface: ::1@{port}
    interface: 127.0.0.1@{tls}
    tls-port: {tls}
    tls-service-pem: "{certificate}"
    tls-service-key: "{key}"
    do-daemonize: no
    use-syslog: no
    chroot: ""
    username: ""
    directory: "{folder}"
    pidfile: ""
    use-systemd: no
    incoming-num-tcp: 200
    module-config: "iterator"
    local-zone: "test." static
{data}
remote-control:
    control-enable: no
"""


@pytest.fixture(scope='module')
def server(program, certificate, tmp_path_factory):
    """Ports of unbound: of plain DNS, and of DNS over TLS."""
    folder = tmp_path_factory.mktemp('unbound')
    records = [f'host{i}.test. A 192.0.2.{i % 250}' for i in range(MANY)] + ['host6.test. AAAA 2001:db8::6']
    data = ''.join(f'    local-data: "{record}"\n' for record in records)
    data += ''.join(f'    local-data: \'long.test. TXT "{text}"\'\n' for text in LONG)
    file, key = certificate
    config = folder / 'unbound.conf'
    with unused_ports(2) as (port, tls):
        config.write_text(UNBOUND.format(port=port, tls=tls, certificate=file, key=key, folder=folder, data=data))
        with running([program('unbound'), '-d', '-c', config], port, folder):
            yield port, tls


def port_of(s):
    return s.getsockname()[1]


def query(name, type_='A', **options):
    return dns.message.make_query(name, type_, **options)


def texts(message):
    return sorted(record.to_text() for rrset in message.answer for record in rrset)


async def udp(name, port, type_='A', where='127.0.0.1', timeout=5, **options):
    return await dns.asyncquery.udp(query(name, type_), where, timeout, port, backend=BACKEND, **options)


@pytest.mark.parametrize('where', ['127.0.0.1', '::1'])
def test_datagrams_are_asked_and_answered(server, where):
    async def main():
        assert texts(await udp('host7.test', server[0], where=where)) == ['192.0.2.7']
        assert texts(await udp('host6.test', server[0], 'AAAA', where)) == ['2001:db8::6']
        nobody = await udp('nobody.test', server[0], where=where)
        assert (nobody.rcode(), nobody.answer) == (dns.rcode.NXDOMAIN, [])

    run(main)


def test_query_goes_out_from_the_port_that_was_asked_for(other):
    async def main():
        with unused_ports() as (port,), pytest.raises(dns.exception.Timeout):
            await udp('host7.test', port_of(other), timeout=0.05, source='127.0.0.1', source_port=port)
        wire, sender = other.recvfrom(1000)
        assert sender == ('127.0.0.1', port)
        assert dns.message.from_wire(wire).question[0].name.to_text() == 'host7.test.'

    run(main)


def test_answer_too_long_for_a_datagram_comes_by_tcp(server):
    async def main():
        asked = query('long.test', 'TXT')
        with pytest.raises(dns.message.Truncated):
            await udp('long.test', server[0], 'TXT', raise_on_truncation=True)
        answer, by_tcp = await dns.asyncquery.udp_with_fallback(asked, '127.0.0.1', 5, server[0], backend=BACKEND)
        assert by_tcp
        assert texts(answer) == [f'"{text}"' for text in LONG]
        short, by_tcp = await dns.asyncquery.udp_with_fallback(
            query('host1.test'), '127.0.0.1', 5, server[0], backend=BACKEND
        )
        assert (by_tcp, texts(short)) == (False, ['192.0.2.1'])

    run(main)


@pytest.mark.parametrize('secure', [False, True])
def test_many_queries_on_one_connection(server, trusting, secure):
    async def main():
        stream = await BACKEND.make_socket(
            socket.AF_INET,
            socket.SOCK_STREAM,
            destination=('127.0.0.1', server[secure]),
            timeout=5,
            ssl_context=trusting if secure else None,
            server_hostname='localhost' if secure else None,
        )
        async with stream:
            for i in range(50):
                answer = await dns.asyncquery.tcp(query(f'host{i}.test'), '127.0.0.1', 5, sock=stream, backend=BACKEND)
                assert texts(answer) == [f'192.0.2.{i}']

    run(main)


def test_many_datagrams_at_once(server):
    async def main():
        async with sock.group() as group:
            threads = [group.newthread(udp, f'host{i}.test', server[0]) for i in range(MANY)]
        assert [texts(thread.result()) for thread in threads] == [[f'192.0.2.{i % 250}'] for i in range(MANY)]

    run(main)


def test_many_connections_at_once_with_and_without_tls(server, trusting):
    async def ask(i):
        asked = query(f'host{i}.test')
        if i % 2:
            return await dns.asyncquery.tcp(asked, '127.0.0.1', 10, server[0], backend=BACKEND)
        return await dns.asyncquery.tls(
            asked, '127.0.0.1', 10, server[1], backend=BACKEND, ssl_context=trusting, server_hostname='localhost'
        )

    async def main():
        async with sock.group() as group:
            threads = [group.newthread(ask, i) for i in range(100)]
        assert [texts(thread.result()) for thread in threads] == [[f'192.0.2.{i}'] for i in range(100)]

    run(main)


def test_silent_server_is_a_timeout(other):
    async def main():
        begin = sock.clock()
        with pytest.raises(dns.exception.Timeout):
            await udp('host1.test', port_of(other), timeout=0.1)
        assert 0.1 <= sock.clock() - begin < 5
        with socket.create_server(('127.0.0.1', 0)) as listener, pytest.raises(dns.exception.Timeout):
            await dns.asyncquery.tcp(query('host1.test'), '127.0.0.1', 0.1, port_of(listener), backend=BACKEND)

    run(main)


def test_port_where_nobody_is_is_refused_by_tcp(dead_port):
    async def main():
        with pytest.raises(ConnectionRefusedError):
            await dns.asyncquery.tcp(query('host1.test'), '127.0.0.1', 5, dead_port, backend=BACKEND)

    run(main)


def test_certificate_that_nobody_vouches_for_is_refused(server):
    async def main():
        with pytest.raises(ssl.SSLCertVerificationError):
            await dns.asyncquery.tls(
                query('host1.test'), '127.0.0.1', 5, server[1], backend=BACKEND, server_hostname='localhost'
            )

    run(main)


def test_answer_of_a_stranger_is_not_taken(server):
    """It comes before the right one; dnspython looks at the sender that we tell."""

    async def main():
        asking = await BACKEND.make_socket(socket.AF_INET, socket.SOCK_DGRAM, source=('127.0.0.1', 0))
        async with asking:
            asked = query('host1.test')
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.sendto(dns.message.make_response(asked).to_wire(), await asking.getsockname())
            answer = await dns.asyncquery.udp(
                asked, '127.0.0.1', 5, server[0], sock=asking, backend=BACKEND, ignore_unexpected=True
            )
            assert texts(answer) == ['192.0.2.1']

    run(main)


def test_resolver_goes_on_to_the_next_server(server, other):
    async def main():
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = [
            dns.nameserver.Do53Nameserver('127.0.0.1', port) for port in (port_of(other), server[0])
        ]
        resolver.timeout = 0.1
        answer = await resolver.resolve('host3.test', 'A', backend=BACKEND, lifetime=5)
        assert [record.to_text() for record in answer] == ['192.0.2.3']
        assert answer.port == server[0]
        with pytest.raises(dns.resolver.NXDOMAIN):
            await resolver.resolve('nobody.test', 'A', backend=BACKEND, lifetime=5)

    run(main)


def test_queries_on_three_os_threads(server, trusting):
    async def ask(i):
        for j in range(5):
            number = (i * 5 + j) % 250
            assert texts(await udp(f'host{number}.test', server[0])) == [f'192.0.2.{number}']
            answer, by_tcp = await dns.asyncquery.udp_with_fallback(
                query('long.test', 'TXT'), '127.0.0.1', 5, server[0], backend=BACKEND
            )
            assert by_tcp
            assert len(texts(answer)) == len(LONG)
        return True

    run_many_on(3, ask, 50)
