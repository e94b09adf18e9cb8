"""rloop: a Protocol for each connection."""

import _protocol
import rloop

_protocol.run(rloop.new_event_loop)
