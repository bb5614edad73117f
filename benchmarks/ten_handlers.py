"""One publish to ten async handlers at a time, beside a bare ``asyncio.TaskGroup`` that spawns the ten.

The group starts ten tasks and waits for them; it has no metrics, no envelope, and one failure cancels
the rest. The handlers return at once: what is measured is the fan-out, not the waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.harness import Benchmark, MakeHandler, Operations, Side, Sides, timed
from benchmarks.subjects import PLACED, no_op, publishing, ten_handlers


@asynccontextmanager
async def sides(make_handler: MakeHandler = no_op) -> AsyncIterator[Sides]:
    """Open a bus with ten handlers, and a task group for each event."""
    bus, handlers = ten_handlers(make_handler, "concurrent")

    async def spawn(operations: int) -> None:
        for _ in range(operations):
            async with asyncio.TaskGroup() as group:
                for handler in handlers:
                    group.create_task(handler(PLACED))

    async with bus:
        yield Sides(publishing(bus, PLACED), Side(spawn))


BENCHMARK = Benchmark(
    name="ten-handlers",
    question="one publish, ten handlers at a time",
    rival="asyncio.TaskGroup",
    take=timed(sides, Operations(500, 500)),
    limit=1.0,
)
