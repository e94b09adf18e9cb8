"""asyncio."""

import asyncio

import _tasks

_tasks.run(asyncio.new_event_loop)
