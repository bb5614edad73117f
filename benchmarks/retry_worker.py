"""2,000 failures that are due, run by a bus that starts, beside as many accepted deliveries.

Both sides are the same bus with the same handler on a file of their own: it opens, claims what is there in
batches of 100, runs it, settles it, and closes. What is accepted has never failed and leaves no row. A
failure is read with its error and its history, and is kept as resolved: its row is written once more, and
goes over from one counter to another. The figure is what of the durable worker's rate is left.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio

from benchmarks.failing import Order
from benchmarks.harness import Benchmark, Figure, Operations, Side, Sides, timed
from benchmarks.stored import ACCEPTED, HANDLER, PENDING, Filler, stored
from eventbus import EventBus
from eventbus_adapters.sql import SqlStore
from eventbus_dlq import DeadLetterQueue

LETTERS = 2_000


@asynccontextmanager
async def sides() -> AsyncIterator[Sides]:
    """Make a file of failures that are due, and one of accepted deliveries."""
    async with AsyncExitStack() as opened:
        due, accepted = [
            (await opened.enter_async_context(stored(state))).ours for state in (PENDING, ACCEPTED)
        ]
        yield Sides(running(due), running(accepted))


def running(file: Filler) -> Side:
    """Return the side on which a bus runs all that is in a file."""

    async def run(operations: int) -> None:
        bus = EventBus(dlq=DeadLetterQueue(SqlStore(f"sqlite:///{file.path}", synchronous="FULL")))
        all_ran = anyio.Event()
        left = operations

        async def ship(event: Order) -> None:
            nonlocal left
            left -= 1
            if not left:
                all_ran.set()

        bus.subscribe(Order, ship, id=HANDLER)
        async with bus:  # its stop records what has ended
            await all_ran.wait()
        if left:
            raise AssertionError(f"{-left} deliveries were run twice")

    return Side(run, file.fill)


BENCHMARK = Benchmark(
    name="retry-worker",
    question="2,000 failures that are due, run and settled by a worker",
    rival="2,000 accepted deliveries",
    take=timed(sides, Operations(LETTERS, LETTERS), rounds=15),
    figure=Figure.SPEEDUP,
    limit=0.8,
)
