"""Claim and settle first runs in batches of 100, beside ``sqlite3`` that writes the same rows.

What a worker does with durable deliveries that succeed: it claims a hundred and gets them whole, and when
they have run they are deleted. Both sides have a transaction for each claim and one for each settling, both
durable (``synchronous=FULL``); see ``raw_claims`` for what the rival leaves out. Ours is called from an
event loop and answered by the store's thread, as a worker's is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.harness import Benchmark, Figure, Operations, Side, Sides, timed
from benchmarks.raw_claims import RawClaims
from benchmarks.stored import ACCEPTED, BATCH, Stored, claim, settle, stored

DELIVERIES = BATCH * 20


@asynccontextmanager
async def sides() -> AsyncIterator[Sides]:
    """Open a store, and a raw connection with its own file."""
    async with stored(ACCEPTED) as files:
        yield sides_on(files)


def sides_on(files: Stored) -> Sides:
    """Claim and settle in both files."""
    raw = RawClaims(files.theirs.path, ACCEPTED)

    async def run(operations: int) -> None:
        for _ in range(operations // BATCH):
            await settle(files.store, await claim(files.store, ACCEPTED))

    async def run_raw(operations: int) -> None:
        raw.run(operations)

    return Sides(Side(run, files.ours.fill), Side(run_raw, files.theirs.fill))


BENCHMARK = Benchmark(
    name="claim-settle",
    question="first runs claimed and settled in batches of 100",
    rival="sqlite3, the same rows",
    take=timed(sides, Operations(DELIVERIES, DELIVERIES), rounds=21),
    figure=Figure.SPEEDUP,
    limit=0.7,
)
