"""256 publishers at a time whose handler fails, beside a raw ``sqlite3`` writer with group commit.

Each publisher goes on when its failure is durable (``synchronous=FULL``), so the figure is the rate of
dead letters that a busy bus keeps. Ours pays for the whole failure: the exception, its traceback's
text, the attempt, the classification, the letter, the row and the commit. The rival has 256 callers
that await their rows too, and a thread that commits what has gathered; see ``raw_writer`` for what it
leaves out. The files grow while they are measured, both alike, and lie in one folder on one disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from benchmarks.failing import ORDER, Databases, databases
from benchmarks.harness import Benchmark, Figure, Operations, Side, Sides, timed
from benchmarks.raw_writer import FreshRows, RawWriter

CALLERS = 256
EACH = 8  # failures of one caller in a round


@asynccontextmanager
async def sides() -> AsyncIterator[Sides]:
    """Open a bus over a store, and a raw writer with its own file."""
    async with databases() as opened:
        with sides_on(opened) as both:
            yield both


@contextmanager
def sides_on(opened: Databases, *, callers: int = CALLERS) -> Iterator[Sides]:
    """Write into both files with that many callers each."""
    writer, rows = RawWriter(opened.raw), FreshRows(opened.raw)

    async def publish() -> None:
        await opened.bus.publish(ORDER)

    async def write() -> None:
        await writer.write(rows.take())

    try:
        yield Sides(Side(_by(callers, publish)), Side(_by(callers, write), rows.prepare))
    finally:
        writer.stop()


def _by(callers: int, operation: Callable[[], Awaitable[None]]) -> Callable[[int], Awaitable[None]]:
    """Return what carries out operations with that many callers, each waiting for its own."""

    async def caller(times: int) -> None:
        for _ in range(times):
            await operation()

    async def run(operations: int) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(caller(operations // callers))

    return run


BENCHMARK = Benchmark(
    name="capture-many",
    question="256 failing publishes at a time, each durable",
    rival="sqlite3, group commit",
    take=timed(sides, Operations(CALLERS * EACH, CALLERS * EACH), rounds=21),
    figure=Figure.SPEEDUP,
    limit=0.6,
)
