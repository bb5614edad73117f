"""One publish that succeeds, on a bus whose failures are classified by twenty rules, beside one without.

Both buses have had a failure before the clock runs, so that the classifier is loaded and has been asked.
Rules are asked about failures alone: a publish that succeeds is to cost the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.harness import Benchmark, MakeHandler, Operations, Sides, timed
from benchmarks.subjects import PLACED, Placed, armed_bus, no_op, publishing
from eventbus import EventBus, Kind
from eventbus_dlq import DeadLetterQueue, MemoryStore

RULES = 20


def no_rule(error: BaseException) -> Kind | None:
    """Leave an exception to the other rules."""
    return None


async def refuse(event: Placed) -> None:
    """Fail, so that the classifier is asked."""
    raise ConnectionError("down")


@asynccontextmanager
async def sides(make_handler: MakeHandler = no_op) -> AsyncIterator[Sides]:
    """Open a bus with rules and one without, and have both classify a failure."""
    handler = make_handler()
    ruled = EventBus(dlq=DeadLetterQueue(MemoryStore()), classify=[no_rule] * RULES)
    for bus in (ruled, bare := armed_bus()):
        failing = bus.subscribe(Placed, refuse, id="failing")
        async with bus:
            await bus.publish(PLACED)
        bus.unsubscribe(failing)
        bus.subscribe(Placed, handler, id="handler", classify=[no_rule] * RULES if bus is ruled else ())
    async with ruled, bare:
        yield Sides(publishing(ruled, PLACED), publishing(bare, PLACED))


BENCHMARK = Benchmark(
    name="classified-publish",
    question="one publish that succeeds, with twenty rules for its failures",
    rival="the same without rules",
    take=timed(sides, Operations(5_000, 5_000)),
    limit=1.1,
)
