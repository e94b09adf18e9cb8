"""uvloop: a task for each connection, on asyncio's streams."""

import _streams_server
import uvloop

_streams_server.run(uvloop.new_event_loop)
