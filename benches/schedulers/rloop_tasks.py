"""rloop."""

import _tasks
import rloop

_tasks.run(rloop.new_event_loop)
