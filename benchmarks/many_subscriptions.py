"""One publish on a bus with 10,000 subscriptions on other names, beside one without them.

Half of the others are on names, half on patterns. The first publish of an event finds its handlers and
is part of the warm-up. Both buses live in one process, so the collector's work on 10,000 subscriptions
weighs on both.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.harness import Benchmark, MakeHandler, Operations, Sides, timed
from benchmarks.subjects import PLACED, Placed, armed_bus, no_op, publishing

OTHERS = 10_000


@asynccontextmanager
async def sides(make_handler: MakeHandler = no_op, *, others: int = OTHERS) -> AsyncIterator[Sides]:
    """Open a crowded bus and a lonely one, with the same handler for the event."""
    handler = make_handler()
    crowded, lonely = armed_bus(), armed_bus()
    for number in range(others):
        name = f"other.{number}.*" if number % 2 else f"other.{number}"
        crowded.subscribe(name, handler, id=f"other-{number}")
    crowded.subscribe(Placed, handler, id="handler")
    lonely.subscribe(Placed, handler, id="handler")
    async with crowded, lonely:
        yield Sides(publishing(crowded, PLACED), publishing(lonely, PLACED))


BENCHMARK = Benchmark(
    name="many-subscriptions",
    question="one publish beside 10,000 other subscriptions",
    rival="the same without them",
    take=timed(sides, Operations(5_000, 5_000)),
    limit=1.1,
)
