"""64 publishers at a time on SQLite and a durable handler, beside persist-queue.

An operation is one event: published, durable before its publisher goes on (``synchronous=FULL`` on both
sides, SQLite's own default, which persist-queue leaves alone), run by a no-op handler, and settled. The
rival is its queue with acknowledgements, ``SQLiteAckQueue``, which keeps what is being processed. It
blocks, so its publishers are 64 threads; its workers are as many threads as served it best here. It looks
for the next item from the first row on, so what was acknowledged is cleared out between the rounds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.durable import PUBLISHERS, publishing_and_processing
from benchmarks.failing import ORDER
from benchmarks.harness import Benchmark, Figure, Handler, MakeHandler, Operations, Side, Sides, timed
from benchmarks.subjects import no_op
from benchmarks.threads import Crew, finish

WORKERS = 1

_PAYLOAD = ORDER.model_dump()
_EVERYTHING = 1_000_000


@contextmanager
def persist_queue_side(folder: Path, handler: Handler, *, workers: int = WORKERS) -> Iterator[Side]:
    """Open a queue with its publishers and workers."""
    from persistqueue import Empty, SQLiteAckQueue

    queue = SQLiteAckQueue(str(folder), multithreading=True)

    def process() -> bool:
        try:
            item = queue.get(block=False, raw=True)
        except Empty:
            return False
        finish(handler(item["data"]))
        queue.ack(item)
        return True

    def clear(_: int) -> None:
        queue.clear_acked_data(max_delete=_EVERYTHING, keep_latest=0)

    with Crew(PUBLISHERS, lambda: queue.put(_PAYLOAD), workers, process) as crew:
        yield Side(crew.run, clear)
    queue.close()


@asynccontextmanager
async def sides(make_handler: MakeHandler = no_op) -> AsyncIterator[Sides]:
    """Open both, in one folder beside this code: a temporary one may be memory, and sync nothing."""
    with TemporaryDirectory(prefix=".files-", dir=Path(__file__).parent) as folder:
        url = f"sqlite:///{folder}/ours.db"
        with persist_queue_side(Path(folder) / "theirs", make_handler()) as rival:
            async with publishing_and_processing(url, make_handler) as ours:
                yield Sides(ours, rival)


BENCHMARK = Benchmark(
    name="durable-sqlite-persist-queue",
    question="64 publishers, durable and processed, on SQLite",
    rival="persist-queue",
    take=timed(sides, Operations(PUBLISHERS * 64, PUBLISHERS * 4), rounds=11),
    figure=Figure.SPEEDUP,
    limit=5,
)
