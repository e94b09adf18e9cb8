"""asyncio: a task for each connection, on the loop's socket methods."""

import asyncio

import _loop_sock_server

_loop_sock_server.run(asyncio.new_event_loop)
