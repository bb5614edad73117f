"""What the look at paused scopes adds to a publish: with 10,000 of others paused, beside nothing paused.

The scopes are of every kind there is: tenants, handlers and events, alone and together, of others each. Some
are of the handler and of the event themselves, for other tenants, so that a publish has to look everywhere.
The event has no tenant, which is looked for like any other: with one, a publish takes twice as long, and the
difference is as large and harder to see. The figure is that difference, in nanoseconds. While nothing is
paused, a publish looks at whether a dict is empty; what that costs is in every other figure here, and is too
little to be measured.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import cycle

from benchmarks.harness import Benchmark, Figure, MakeHandler, Operations, Sides, timed
from benchmarks.subjects import PLACED, Placed, armed_bus, no_op, publishing
from eventbus import EventBus, Scope
from eventbus_dlq import DeadLetterQueue, MemoryStore

OTHERS = 10_000


@asynccontextmanager
async def sides(make_handler: MakeHandler = no_op, *, others: int = OTHERS) -> AsyncIterator[Sides]:
    """Open a bus on a store with paused scopes and one on an empty store, with the same handler."""
    handler = make_handler()
    store = MemoryStore()
    for scope in scopes_of_others(others):
        await store.close_scope(
            scope, "paused", reason="measuring", by="benchmark", until=None, now=datetime.now(UTC)
        )
    controlled, open_to_all = EventBus(dlq=DeadLetterQueue(store)), armed_bus()
    for bus in (controlled, open_to_all):
        bus.subscribe(Placed, handler, id="handler")
    async with controlled, open_to_all:
        assert len(await controlled.controls()) == others
        yield Sides(publishing(controlled, PLACED), publishing(open_to_all, PLACED))


def scopes_of_others(number: int) -> Iterator[Scope]:
    """Return so many scopes, none of which has a delivery of ``Placed`` to ``handler`` that has no tenant."""
    kinds = cycle(range(8))
    for each in range(number):
        tenant, event, handler = f"tenant-{each}", f"event-{each}", f"handler-{each}"
        yield (
            Scope(tenant=tenant),
            Scope(event=event),
            Scope(handler=handler),
            Scope(tenant=tenant, event="Placed"),
            Scope(tenant=tenant, handler="handler"),
            Scope(event=event, handler="handler"),
            Scope(tenant=tenant, handler=handler),
            Scope(tenant=tenant, event="Placed", handler="handler"),
        )[next(kinds)]


BENCHMARK = Benchmark(
    name="pause-check",
    question="one publish with 10,000 scopes of others paused",
    rival="the same with nothing paused",
    take=timed(sides, Operations(2_000, 2_000), rounds=151),
    figure=Figure.DELAY,
    limit=200,
)
