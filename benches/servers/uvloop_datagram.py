"""uvloop: a DatagramProtocol."""

import _datagram_protocol
import uvloop

_datagram_protocol.run(uvloop.new_event_loop)
