"""rloop: a DatagramProtocol."""

import _datagram_server
import rloop

_datagram_server.run(rloop.new_event_loop)
