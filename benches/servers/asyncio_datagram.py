"""asyncio: a DatagramProtocol."""

import asyncio

import _datagram_server

_datagram_server.run(asyncio.new_event_loop)
