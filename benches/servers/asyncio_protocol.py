"""asyncio: a Protocol for each connection."""

import asyncio

import _protocol

_protocol.run(asyncio.new_event_loop)
