"""asyncio: a task for each connection, on asyncio's streams."""

import asyncio

import _streams_server

_streams_server.run(asyncio.new_event_loop)
