"""Raw sockets: a ping, written by hand."""

import os
import struct

import pytest
import sock
from support import ROOT, run

privileged = pytest.mark.skipif(not ROOT, reason='raw sockets need the rights of root')


def checksum(data):
    total = sum(struct.unpack(f'!{len(data) // 2}H', data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def echo_request(kind, payload=b'payload!'):
    header = struct.pack('!BBHHH', kind, 0, 0, os.getpid() & 0xFFFF, 1)
    return struct.pack('!BBHHH', kind, 0, checksum(header + payload), os.getpid() & 0xFFFF, 1) + payload


@privileged
def test_ping_ipv4():
    async def main():
        with sock.raw('inet', 'icmp') as s:
            assert (s.type, s.family, s.protocol) == ('raw', 'inet', 'icmp')
            await s.send(echo_request(8), host='127.0.0.1')
            while True:
                packet, sender = await s.recvfrom(1500, expires=sock.clock() + 10)
                # The IP header comes first; our own request comes back too, on loopback.
                reply = packet[(packet[0] & 15) * 4 :]
                if reply[0] == 0 and reply[8:] == b'payload!':
                    assert sender.host == '127.0.0.1'
                    return

    run(main)


@privileged
def test_ping_ipv6_connected():
    async def main():
        with sock.raw('inet6', 'icmpv6') as s:
            await s.connect('::1')
            await s.send(echo_request(128))
            while True:
                reply = await s.recv(1500, expires=sock.clock() + 10)
                if reply[0] == 129 and reply[8:] == b'payload!':
                    return

    run(main)


@privileged
def test_packet_longer_than_the_buffer():
    async def main():
        with sock.raw('inet', 'icmp') as s:
            await s.send(echo_request(8, bytes(500)), host='127.0.0.1')
            with pytest.raises(sock.MessageTooLong) as caught:
                await s.recv(bytearray(20), expires=sock.clock() + 10)
            assert caught.value.received == 20

    run(main)


@privileged
def test_raw_without_a_protocol_sends_whole_packets():
    async def main():
        with sock.raw() as s, sock.udp() as receiver:
            assert s.protocol == 'raw'
            receiver.bind('127.0.0.1')
            here = bytes([127, 0, 0, 1])
            udp = struct.pack('!HHHH', 9, receiver.local_addr.port, 8 + 5, 0) + b'hello'
            ip = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, here, here)
            await s.send(ip + udp, host='127.0.0.1')
            data, sender = await receiver.recvfrom(100, expires=sock.clock() + 10)
            assert (data, sender.port) == (b'hello', 9)

    run(main)


def test_raw_needs_rights_or_works():
    if ROOT:
        sock.raw('inet', 'icmp').close()
    else:
        with pytest.raises(sock.AccessDenied, match='rights'):
            sock.raw('inet', 'icmp')


def test_raw_refuses_what_there_is_not():
    with pytest.raises(ValueError, match=r"^a raw socket is of the family 'inet' or 'inet6', not 'unix'$"):
        sock.raw('unix')
    with pytest.raises(ValueError, match='protocol'):
        sock.raw('inet', 'nosuch')
