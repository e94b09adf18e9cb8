"""asyncio: a Protocol for each connection."""

import asyncio

import _protocol_server

_protocol_server.run(asyncio.new_event_loop)
