"""One event made and published to one async handler, beside bubus.

A bubus event is its own envelope and can be dispatched once, so both sides make their event in the
timed part. ``await bus.dispatch(event)`` is how its documentation waits for an event's handlers. The
bus has its default settings: a history of 50, in which old events make room for new ones.

The rival's round has few events, since each takes it milliseconds.
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
    bubus = import_module("bubus")
    base: Any = bubus.BaseEvent

    class TheirPlaced(base):  # type: ignore[misc]  # known only where it is installed
        order_id: int
        customer: str

    handler = make_handler()
    theirs = bubus.EventBus(name="Benchmark")
    theirs.on(TheirPlaced, handler)
    bus = armed_bus()
    bus.subscribe(Placed, handler, id="handler")

    async def publish(operations: int) -> None:
        for _ in range(operations):
            await bus.publish(Placed(order_id=1, customer="ann"))

    async def dispatch(operations: int) -> None:
        for _ in range(operations):
            await theirs.dispatch(TheirPlaced(order_id=1, customer="ann"))

    async with bus:
        try:
            yield Sides(Side(publish), Side(dispatch))
        finally:
            await theirs.stop(clear=True)


BENCHMARK = Benchmark(
    name="one-handler-bubus",
    question="one event made and published, one handler",
    rival="bubus dispatch",
    take=timed(sides, Operations(5_000, 40), rounds=15),
    figure=Figure.SPEEDUP,
    limit=200,
)
