"""One publish to one async handler, beside pyee's ``AsyncIOEventEmitter``.

``emit`` starts a task and returns; ``wait_for_complete`` is pyee's own way to wait for it, so that both
sides return when the handler has ended. The event is made once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.harness import Benchmark, Figure, MakeHandler, Operations, Side, Sides, timed
from benchmarks.subjects import PLACED, Placed, armed_bus, no_op, publishing


@asynccontextmanager
async def sides(make_handler: MakeHandler = no_op) -> AsyncIterator[Sides]:
    """Open a bus and an emitter with one handler each."""
    from pyee.asyncio import AsyncIOEventEmitter

    handler = make_handler()
    emitter = AsyncIOEventEmitter()
    emitter.on("placed", handler)
    bus = armed_bus()
    bus.subscribe(Placed, handler, id="handler")

    async def emit(operations: int) -> None:
        for _ in range(operations):
            emitter.emit("placed", PLACED)
            await emitter.wait_for_complete()

    async with bus:
        yield Sides(publishing(bus, PLACED), Side(emit))


BENCHMARK = Benchmark(
    name="one-handler-pyee",
    question="one publish, one handler",
    rival="pyee AsyncIOEventEmitter",
    take=timed(sides, Operations(5_000, 1_000)),
    figure=Figure.SPEEDUP,
    limit=3,
)
