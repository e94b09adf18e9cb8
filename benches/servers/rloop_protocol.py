"""rloop: a Protocol for each connection."""

import _protocol_server
import rloop

_protocol_server.run(rloop.new_event_loop)
