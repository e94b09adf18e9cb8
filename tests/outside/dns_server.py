"""A name server of one zone, over UDP and TCP: dnspython reads the queries and writes the answers.

Ends by printing how many queries came each way.
"""

import argparse
import contextlib
import json

import dns.flags
import dns.message
import dns.rcode
import dns.zone
import sock

ZONE = f"""
@    3600 IN SOA ns hostmaster 1 7200 3600 1209600 300
@    3600 IN NS ns
ns   3600 IN A 127.0.0.1
www  3600 IN A 192.0.2.1
www  3600 IN A 192.0.2.2
www  3600 IN AAAA 2001:db8::1
long 3600 IN TXT {' '.join(['x' * 100] * 20)}
"""


class Server:
    def __init__(self):
        self.zone = dns.zone.from_text(ZONE, 'example.', relativize=False)
        self.queries = dict(udp=0, tcp=0)

    def answer(self, wire, transport):
        """The answer to a query. What is none raises an exception of dnspython's."""
        query = dns.message.from_wire(wire)
        self.queries[transport] += 1
        (question,) = query.question
        response = dns.message.make_response(query)
        response.flags |= dns.flags.AA
        if node := self.zone.get_node(question.name):
            if found := node.get_rdataset(question.rdclass, question.rdtype):
                response.answer.append(dns.rrset.from_rdata_list(question.name, found.ttl, found))
        else:
            response.set_rcode(dns.rcode.NXDOMAIN)
        if transport == 'tcp':
            return response.to_wire(max_size=65535, prepend_length=True)
        # Plain DNS has 512 bytes; who gets more, in an EDNS query, says so.
        return response.to_wire(max_size=max(512, query.payload), prefer_truncation=True)

    async def datagrams(self, s):
        while True:
            await s.sendmany([(self.answer(wire, 'udp'), sender) for wire, sender in await s.recvmany(32)])

    async def serve(self, conn):
        buf = bytearray(65535)
        with conn, contextlib.suppress(sock.Closed):  # the peer's end
            while True:
                await conn.recvn(buf, 2)
                length = await conn.recvn(buf, int.from_bytes(buf[:2], 'big'))
                await conn.send(self.answer(bytes(buf[:length]), 'tcp'))


async def main(server, port):
    with sock.tcp() as listener, sock.udp() as s:
        listener.listen('127.0.0.1', port)
        s.bind(listener.local_addr)
        sock.newthread(server.datagrams, s)
        print(f'listening on {listener.local_addr}', flush=True)
        while True:
            conn, _, _ = await listener.accept()
            sock.newthread(server.serve, conn)


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--port', type=int, default=5353)
    server = Server()
    sock.run(main, server, parser.parse_args().port)
    print(json.dumps(server.queries))
