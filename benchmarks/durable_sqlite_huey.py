"""64 publishers at a time on SQLite and a durable handler, beside huey.

An operation is one event: published, durable before its publisher goes on (``synchronous=FULL`` on both
sides, which huey calls ``fsync=True``), run by a no-op handler, and settled. huey blocks, so its publishers
are 64 threads. Its workers do what its consumer's do, with as many threads as served it best here, and
without the consumer's sleep when there is nothing to do. huey takes a task out of the file before it runs
it: one that is running when the process is killed is lost, while ours runs again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.durable import PUBLISHERS, publishing_and_processing
from benchmarks.failing import ORDER
from benchmarks.harness import Benchmark, Figure, Handler, MakeHandler, Operations, Side, Sides, timed
from benchmarks.subjects import no_op
from benchmarks.threads import Crew, finish

WORKERS = 2

_PAYLOAD = ORDER.model_dump()


@contextmanager
def huey_side(path: Path, handler: Handler, *, workers: int = WORKERS) -> Iterator[Side]:
    """Open huey with its publishers and workers."""
    from huey import SqliteHuey

    huey = SqliteHuey(filename=str(path), fsync=True)

    def ship(order: dict[str, Any]) -> None:
        finish(handler(order))

    task = huey.task()(ship)

    def process() -> bool:
        found = huey.dequeue()
        if found is not None:
            huey.execute(found)
        return found is not None

    with Crew(PUBLISHERS, lambda: task(_PAYLOAD), workers, process) as crew:
        yield Side(crew.run)
    huey.storage.close()


@asynccontextmanager
async def sides(make_handler: MakeHandler = no_op) -> AsyncIterator[Sides]:
    """Open both, in one folder beside this code: a temporary one may be memory, and sync nothing."""
    with TemporaryDirectory(prefix=".files-", dir=Path(__file__).parent) as folder:
        url = f"sqlite:///{folder}/ours.db"
        with huey_side(Path(folder) / "theirs.db", make_handler()) as rival:
            async with publishing_and_processing(url, make_handler) as ours:
                yield Sides(ours, rival)


BENCHMARK = Benchmark(
    name="durable-sqlite-huey",
    question="64 publishers, durable and processed, on SQLite",
    rival="huey",
    take=timed(sides, Operations(PUBLISHERS * 64, PUBLISHERS * 16), rounds=11),
    figure=Figure.SPEEDUP,
    limit=5,
)
