"""20,000 letters whose retry is due behind 100,000 that are not, beside 20,000 alone.

Both files are the store's, and on both sides the store claims and settles in batches of 100 until nothing
is due. A claim that sorted what waits, or that walked over it to what is due, would pay for the 100,000
with each batch.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from benchmarks.harness import Benchmark, Operations, Side, Sides, timed
from benchmarks.stored import PENDING, Stored, drain, stored

DUE = 20_000
NOT_DUE = 100_000


@asynccontextmanager
async def sides(not_due: int = NOT_DUE) -> AsyncIterator[Sides]:
    """Open two stores, one of them with a backlog."""
    async with AsyncExitStack() as opened:
        behind, alone = [await opened.enter_async_context(stored(PENDING)) for _ in range(2)]
        behind.ours.fill(not_due)
        behind.ours.put_off()
        yield Sides(draining(behind), draining(alone))


def draining(files: Stored) -> Side:
    """Return the side that claims and settles what is due."""

    async def run(operations: int) -> None:
        settled = await drain(files.store, PENDING)
        if settled != operations:
            raise AssertionError(f"{settled} of {operations} letters were settled")

    return Side(run, files.ours.fill)


BENCHMARK = Benchmark(
    name="due-backlog",
    question="20,000 due behind 100,000 that are not, claimed and settled",
    rival="20,000 alone",
    take=timed(sides, Operations(DUE, DUE), rounds=5),
    limit=1.2,
)
