"""64 publishers at a time on PostgreSQL and a durable handler, beside pgqueuer.

An operation is one event: published, durable before its publisher goes on, run by a no-op handler, and
settled. Both sides work in one process and event loop, on one server, with tables that they made
themselves. pgqueuer has a pool of asyncpg's for its publishers and its worker; pool and batches are of the
size with which it was fastest. Its handler gets bytes as they are, ours an event that was decoded and
validated. Its worker sleeps between the rounds, and is woken by a notice, as ours is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.durable import PUBLISHERS, by_publishers, publishing_and_processing, until_none_is_left
from benchmarks.failing import ORDER
from benchmarks.harness import Benchmark, Figure, Operations, Side, Sides, timed
from benchmarks.postgres import server

EVENTS = PUBLISHERS * 32
BATCH = 10
CONNECTIONS = 10

_PAYLOAD = ORDER.model_dump_json().encode()


@asynccontextmanager
async def pgqueuer_side(
    dsn: str, *, batch: int = BATCH, connections: int = CONNECTIONS
) -> AsyncIterator[Side]:
    """Open pgqueuer with one worker."""
    import asyncpg
    from pgqueuer import Job, Queries, QueueManager

    async with asyncpg.create_pool(dsn, min_size=connections, max_size=connections) as pool:
        queries = Queries.from_asyncpg_pool(pool)
        await queries.install()
        manager = QueueManager(queries)

        @manager.entrypoint("ship")
        async def ship(job: Job) -> None:
            pass

        async def enqueue() -> None:
            await queries.enqueue("ship", _PAYLOAD)

        async def run(operations: int) -> None:
            await by_publishers(enqueue, operations)
            await until_none_is_left(lambda: pool.fetchval("SELECT EXISTS (SELECT FROM pgqueuer)"))

        worker = asyncio.create_task(manager.run(batch_size=batch))
        yield Side(run)
        manager.shutdown.set()
        await worker


@asynccontextmanager
async def sides() -> AsyncIterator[Sides]:
    """Open both on one server."""
    with server() as started:
        async with (
            publishing_and_processing(started.url()) as ours,
            pgqueuer_side(started.url(scheme="postgresql")) as rival,
        ):
            yield Sides(ours, rival)


BENCHMARK = Benchmark(
    name="durable-postgres-pgqueuer",
    question="64 publishers, durable and processed, on PostgreSQL",
    rival="pgqueuer",
    take=timed(sides, Operations(EVENTS, EVENTS), rounds=9),
    figure=Figure.SPEEDUP,
    limit=3,
)
