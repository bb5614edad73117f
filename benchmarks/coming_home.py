"""100 dead letters come home: from the moment at which the first is due until the last is resolved.

Their handler has failed, each failure is committed, and it does not fail any more. One process with a worker,
on a SQLite file with ``synchronous=FULL``; nothing is asked of it. What it is beside is one second, which is
what a person takes for at once.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from benchmarks.failing import ORDER, ChargeError, Order
from benchmarks.harness import Benchmark, Effort, Sample, Taken
from eventbus import EventBus, RetryPolicy, TelemetryEvent
from eventbus_adapters.sql import SqlStore
from eventbus_dlq import DeadLetterQuery, DeadLetterQueue

LETTERS = 100
WAIT = 1.0
"""Seconds until a failure is due: longer than it takes to store a hundred."""

_SECOND = 1.0
_ROUNDS = 9


class Home:
    """A bus whose handler fails until it is told to accept, and when its letters came home."""

    def __init__(self, path: Path) -> None:
        self.accepts = False
        self.resolved_at: list[float] = []
        self.all_resolved = anyio.Event()
        self.expected = 0
        schedule = RetryPolicy(attempts=3, backoff="fixed", delay=WAIT, jitter=False)
        store = SqlStore(f"sqlite:///{path}", synchronous="FULL")
        self.bus = EventBus(dlq=DeadLetterQueue(store, redelivery=schedule), observers=[self._note])
        self.bus.subscribe(Order, self._charge, id="billing.charge")

    async def _charge(self, event: Order) -> None:
        if not self.accepts:
            raise ChargeError("the charge did not go through: ask again")

    def _note(self, event: TelemetryEvent) -> None:
        if event.name == "dead_letter.resolved":
            self.resolved_at.append(time.time())
            if len(self.resolved_at) == self.expected:
                self.all_resolved.set()

    async def round(self, letters: int) -> float:
        """Have so many events fail; return the seconds from the first due to the last come home."""
        self.accepts, self.resolved_at, self.all_resolved = False, [], anyio.Event()
        self.expected = letters
        known = (await self.bus.stats()).total
        async with anyio.create_task_group() as group:
            for _ in range(letters):
                group.start_soon(self.bus.publish, ORDER)
        self.accepts = True
        page = await self.bus.dead_letters(DeadLetterQuery(state={"pending"}), limit=1_000)
        due = [it.retry_at.timestamp() for it in page.items if it.retry_at is not None]
        if len(due) != letters or (await self.bus.stats()).total != known + letters:
            raise AssertionError(f"{len(due)} of {letters} letters are pending")
        if time.time() >= min(due):
            raise AssertionError(f"{letters} failures took longer to store than they wait: {WAIT} s")
        await self.all_resolved.wait()
        return max(self.resolved_at) - min(due)


@asynccontextmanager
async def home() -> AsyncIterator[Home]:
    """Open a bus on a new file beside this code."""
    with TemporaryDirectory(prefix=".files-", dir=Path(__file__).parent) as folder:
        opened = Home(Path(folder) / "home.db")
        async with opened.bus:
            yield opened


async def rounds_of(letters: int, rounds: int, progress: Callable[[str], None]) -> list[Sample]:
    """Take rounds, the first of which warms up."""
    samples: list[Sample] = []
    async with home() as opened:
        for number in range(rounds + 1):
            progress("warming up" if number == 0 else f"round {number} of {rounds}")
            samples.append(Sample(await opened.round(letters), _SECOND))
    return samples[1:]


def take(effort: Effort) -> Taken:
    """Take the rounds."""
    return Taken(anyio.run(rounds_of, LETTERS, effort.rounds or _ROUNDS, effort.progress))


BENCHMARK = Benchmark(
    name="coming-home",
    question="100 dead letters, from due to resolved",
    rival="a second",
    take=take,
    limit=1.0,
)
