"""One failing publish after another, beside a raw ``sqlite3`` commit of the same row.

A single caller waits for its disk, so there is nothing to commit together. The rival commits in the
event loop's own thread and crosses to no other; it blocks the loop meanwhile, which ours does not.
See ``raw_writer`` for what else it leaves out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.failing import ORDER, Databases, databases
from benchmarks.harness import Benchmark, Operations, Side, Sides, timed
from benchmarks.raw_writer import FreshRows
from benchmarks.subjects import publishing


@asynccontextmanager
async def sides() -> AsyncIterator[Sides]:
    """Open a bus over a store, and a raw connection to its own file."""
    async with databases() as opened:
        yield sides_on(opened)


def sides_on(opened: Databases) -> Sides:
    """Write into both files, one caller each."""
    rows = FreshRows(opened.raw)

    async def commit(operations: int) -> None:
        for _ in range(operations):
            opened.raw.commit([rows.take()])

    return Sides(publishing(opened.bus, ORDER), Side(commit, rows.prepare))


BENCHMARK = Benchmark(
    name="capture-one",
    question="one failing publish, durable",
    rival="sqlite3, one commit",
    take=timed(sides, Operations(100, 100), rounds=21),
    limit=3.0,
)
