"""rloop: a task for each connection, on the loop's socket methods."""

import _loop_sock_server
import rloop

_loop_sock_server.run(rloop.new_event_loop)
