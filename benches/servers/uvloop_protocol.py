"""uvloop: a Protocol for each connection."""

import _protocol_server
import uvloop

_protocol_server.run(uvloop.new_event_loop)
