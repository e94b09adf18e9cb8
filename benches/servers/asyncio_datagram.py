"""asyncio: a DatagramProtocol."""

import asyncio

import _datagram_protocol

_datagram_protocol.run(asyncio.new_event_loop)
