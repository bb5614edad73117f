"""One event made and published to one async handler, beside abxbus.

An abxbus event is its own envelope and can be emitted once, so both sides make their event in the
timed part. ``await bus.emit(event).now()`` is how its documentation waits for an event's handlers.
With its default settings it refuses the 101st event, so it runs with ``max_history_size=0``, its own
setting for emitting without end, and the fastest that it has.

The rival's round has few events, since each takes it about a millisecond.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from benchmarks.harness import Benchmark, Figure, MakeHandler, Operations, Side, Sides, timed
from benchmarks.subjects import Placed, armed_bus, no_op


@asynccontextmanager
async def sides(make_handler: MakeHandler = no_op) -> AsyncIterator[Sides]:
    """Open a bus of either kind with one handler."""
    abxbus = import_module("abxbus")
    base: Any = abxbus.BaseEvent

    class TheirPlaced(base):  # type: ignore[misc]  # known only where it is installed
        order_id: int
        customer: str

    handler = make_handler()
    theirs = abxbus.EventBus(name="Benchmark", max_history_size=0)
    theirs.on(TheirPlaced, handler)
    bus = armed_bus()
    bus.subscribe(Placed, handler, id="handler")

    async def publish(operations: int) -> None:
        for _ in range(operations):
            await bus.publish(Placed(order_id=1, customer="ann"))

    async def emit(operations: int) -> None:
        for _ in range(operations):
            await theirs.emit(TheirPlaced(order_id=1, customer="ann")).now()

    async with bus:
        try:
            yield Sides(Side(publish), Side(emit))
        finally:
            await theirs.destroy()


BENCHMARK = Benchmark(
    name="one-handler-abxbus",
    question="one event made and published, one handler",
    rival="abxbus emit",
    take=timed(sides, Operations(5_000, 80), rounds=15),
    figure=Figure.SPEEDUP,
    limit=100,
)
