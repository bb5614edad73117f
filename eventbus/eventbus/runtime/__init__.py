"""How handlers are run, cut short and awaited: the one room that knows the event loop.

Trio goes through anyio. Asyncio is driven natively, because an anyio task group per event costs
more than everything else about it: a handler that never waits needs no task and no timer, and a
single one that waits goes on in its publisher's task.
"""

from __future__ import annotations

import asyncio

import anyio

from eventbus.runtime.driving import FINISHED, within
from eventbus.runtime.on_anyio import AnyioRuntime
from eventbus.runtime.on_asyncio import AsyncioRuntime
from eventbus.runtime.port import Runtime, Stopped

__all__ = ["FINISHED", "Runtime", "Stopped", "open_runtime", "within"]


async def open_runtime() -> Runtime:
    """Return the runtime of the event loop that runs here."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        runtime = AnyioRuntime(anyio.create_task_group())
        await runtime.open()
        return runtime
    return AsyncioRuntime(loop)
