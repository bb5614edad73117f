"""One publish to ten async handlers at a time on trio, beside a trio nursery that spawns the ten.

Reported without a limit. On trio every delivery runs in a cancel scope of anyio's, because a handler
may open scopes of its own there, and the fan-out is an anyio task group.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.harness import Benchmark, MakeHandler, Operations, Side, Sides, timed
from benchmarks.subjects import PLACED, no_op, publishing, ten_handlers


@asynccontextmanager
async def sides(make_handler: MakeHandler = no_op) -> AsyncIterator[Sides]:
    """Open a bus with ten handlers, and a nursery for each event."""
    import trio

    bus, handlers = ten_handlers(make_handler, "concurrent")

    async def spawn(operations: int) -> None:
        for _ in range(operations):
            async with trio.open_nursery() as nursery:
                for handler in handlers:
                    nursery.start_soon(handler, PLACED)

    async with bus:
        yield Sides(publishing(bus, PLACED), Side(spawn))


BENCHMARK = Benchmark(
    name="ten-handlers-trio",
    question="one publish, ten handlers at a time, on trio",
    rival="trio nursery",
    take=timed(sides, Operations(100, 200), backend="trio"),
)
