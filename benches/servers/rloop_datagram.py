"""rloop: a DatagramProtocol."""

import _datagram_protocol
import rloop

_datagram_protocol.run(rloop.new_event_loop)
