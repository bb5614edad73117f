"""64 publishers at a time on PostgreSQL and a durable handler, beside procrastinate.

An operation is one event: published, durable before its publisher goes on, run by a no-op handler, and
settled. Both sides work in one process and event loop, on one server, with tables that they made
themselves. procrastinate has a pool of psycopg's for its publishers and its worker; the pool and the number
of jobs at a time are those with which it was fastest. It deletes what has succeeded, as ours does. It
does fewer events in a round: each side's time is divided by its own number.
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
RIVAL_EVENTS = PUBLISHERS * 4
CONCURRENCY = 10
CONNECTIONS = 10


@asynccontextmanager
async def procrastinate_side(
    dsn: str, *, concurrency: int = CONCURRENCY, connections: int = CONNECTIONS
) -> AsyncIterator[Side]:
    """Open procrastinate with one worker."""
    from procrastinate import App, PsycopgConnector

    connector = PsycopgConnector(conninfo=dsn, min_size=connections, max_size=connections)
    app = App(connector=connector)

    @app.task(name="ship")
    async def ship(order: object) -> None:
        pass

    order = ORDER.model_dump(mode="json")

    async def defer() -> None:
        await ship.defer_async(order=order)

    async def run(operations: int) -> None:
        await by_publishers(defer, operations)
        await until_none_is_left(any_left)

    async def any_left() -> bool:
        row = await connector.execute_query_one_async(
            "SELECT EXISTS (SELECT FROM procrastinate_jobs) AS any_left"
        )
        return bool(row["any_left"])

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        worker = asyncio.create_task(
            app.run_worker_async(
                concurrency=concurrency, delete_jobs="successful", install_signal_handlers=False
            )
        )
        yield Side(run)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


@asynccontextmanager
async def sides() -> AsyncIterator[Sides]:
    """Open both on one server."""
    with server() as started:
        async with (
            publishing_and_processing(started.url()) as ours,
            procrastinate_side(started.url(scheme="postgresql")) as rival,
        ):
            yield Sides(ours, rival)


BENCHMARK = Benchmark(
    name="durable-postgres-procrastinate",
    question="64 publishers, durable and processed, on PostgreSQL",
    rival="procrastinate",
    take=timed(sides, Operations(EVENTS, RIVAL_EVENTS), rounds=9),
    figure=Figure.SPEEDUP,
    limit=20,
)
