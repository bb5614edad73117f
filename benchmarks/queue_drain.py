"""10,000 events enqueued and drained, beside 10,000 bare tasks and a gather.

Ours: ``enqueue`` for each, then ``wait_idle``. The rival is what people write who want an event handled
later: ``asyncio.create_task(handler(event))`` for each, and one ``gather`` of them all, without bound,
envelope, metrics or capture. Both end when all handlers have; the figure is per event.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.harness import Benchmark, Figure, MakeHandler, Operations, Side, Sides, timed
from benchmarks.subjects import PLACED, Placed, armed_bus, no_op


@asynccontextmanager
async def sides(make_handler: MakeHandler = no_op) -> AsyncIterator[Sides]:
    """Open a bus with one handler, and bare tasks of the same handler."""
    handler = make_handler()
    bus = armed_bus()
    bus.subscribe(Placed, handler, id="handler")

    async def drain(operations: int) -> None:
        for _ in range(operations):
            await bus.enqueue(PLACED)
        await bus.wait_idle()

    async def gather(operations: int) -> None:
        await asyncio.gather(*[asyncio.create_task(handler(PLACED)) for _ in range(operations)])

    async with bus:
        yield Sides(Side(drain), Side(gather))


BENCHMARK = Benchmark(
    name="queue-drain",
    question="10,000 events enqueued and drained",
    rival="10,000 create_task and a gather",
    take=timed(sides, Operations(10_000, 10_000), rounds=21),
    figure=Figure.SPEEDUP,
    limit=1.5,
)
