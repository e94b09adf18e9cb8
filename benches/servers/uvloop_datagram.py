"""uvloop: a DatagramProtocol."""

import _datagram_server
import uvloop

_datagram_server.run(uvloop.new_event_loop)
