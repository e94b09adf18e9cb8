"""uvloop."""

import _tasks
import uvloop

_tasks.run(uvloop.new_event_loop)
