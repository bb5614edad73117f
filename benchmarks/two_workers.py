"""Two worker processes on one SQLite file, beside one: claim and settle in batches of 100.

SQLite has one writer, so two can at best be as fast as one: what they lose is lost in waiting for each
other. Each round drains the same number of accepted deliveries, once with one process and once with two;
the processes are started before the clock runs, and have the store open.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio

from benchmarks.harness import Benchmark, Figure, Operations, Side, Sides, timed
from benchmarks.stored import ACCEPTED, Filler, drain, stored
from eventbus_adapters.sql import SqlStore

DELIVERIES = 6_000


class Worker:
    """A process that drains a file when it is told to."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.two_workers", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()  # it is ready

    def begin(self) -> None:
        """Have it claim and settle until nothing is left."""
        assert self._process.stdin is not None
        self._process.stdin.write("drain\n")
        self._process.stdin.flush()

    def end(self) -> int:
        """Wait until nothing is left; return how many it has settled."""
        return int(self._answer())

    def stop(self) -> None:
        """End the process."""
        self._process.communicate()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


def draining(workers: list[Worker], file: Filler) -> Side:
    """Return the side on which ``workers`` drain the file together."""

    async def run(operations: int) -> None:
        for worker in workers:
            worker.begin()
        settled = sum([worker.end() for worker in workers])
        if settled != operations:
            raise AssertionError(f"{settled} of {operations} deliveries were settled")

    return Side(run, file.fill)


@contextmanager
def working(path: Path, number: int) -> Iterator[list[Worker]]:
    """Start worker processes."""
    workers = [Worker(path) for _ in range(number)]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.stop()


@asynccontextmanager
async def sides() -> AsyncIterator[Sides]:
    """Fill a file; have two processes drain it, and one of them alone."""
    async with stored(ACCEPTED) as files:
        with working(files.ours.path, 2) as workers:
            yield Sides(draining(workers, files.ours), draining(workers[:1], files.ours))


async def serve(path: str) -> None:
    """Drain the file each time that a line comes in."""
    store = SqlStore(f"sqlite:///{path}", synchronous="FULL")
    await store.open()
    print("ready", flush=True)
    try:
        while await anyio.to_thread.run_sync(sys.stdin.readline):
            print(await drain(store), flush=True)
    finally:
        await store.close()


BENCHMARK = Benchmark(
    name="two-workers",
    question="claim and settle in batches of 100, two processes on one file",
    rival="one process",
    take=timed(sides, Operations(DELIVERIES, DELIVERIES), rounds=9),
    figure=Figure.SPEEDUP,
    limit=0.9,
)

if __name__ == "__main__":
    anyio.run(serve, sys.argv[1])
