"""uvloop: a Protocol for each connection."""

import _protocol
import uvloop

_protocol.run(uvloop.new_event_loop)
