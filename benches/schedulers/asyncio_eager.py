"""asyncio, with tasks that run at once up to their first wait."""

import asyncio

import _tasks

_tasks.run(asyncio.new_event_loop, asyncio.eager_task_factory)
