"""uvloop: a task for each connection, on the loop's socket methods."""

import _loop_sock_server
import uvloop

_loop_sock_server.run(uvloop.new_event_loop)
