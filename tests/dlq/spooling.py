"""What the tests of the spool share: a store that can be down, and a spool that imports beside a test."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import anyio
from letters import build_letter

from eventbus.testing import FakeClock
from eventbus_dlq import DeadLetterQuery, MemoryStore, Spooled, StoreUnavailable
from eventbus_dlq.letter import DeadLetter
from eventbus_dlq.spool import Spool
from eventbus_dlq.spool.file import SpoolFile
from eventbus_dlq.spool.records import encoded
from eventbus_dlq.store import DeadLetterStore


class FlakyStore(MemoryStore):
    """A store whose imports fail as a test says.

    Attributes:
        failure: what every import raises; None for none.
        lost: how many imports are committed and then raise, as when the connection breaks.
        batches: the writes of each import that was committed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.failure: Exception | None = None
        self.refuses: Callable[[DeadLetter], Exception | None] = lambda _: None
        self.lost = 0
        self.asked = 0
        self.batches: list[Sequence[Spooled]] = []

    async def import_spool(
        self, spool_id: str, writes: Sequence[Spooled], *, start: int, end: int, now: datetime
    ) -> bool:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        for write in writes:
            if (refusal := self.refuses(write.letter)) is not None:
                raise refusal
        done = await super().import_spool(spool_id, writes, start=start, end=end, now=now)
        if done:
            self.batches.append(writes)
        if done and self.lost:
            self.lost -= 1
            raise StoreUnavailable("the connection broke after the commit")
        return done

    @property
    def imported(self) -> list[str]:
        """The ids of the letters that were imported, in order."""
        return [write.letter.id for batch in self.batches for write in batch]


def some_writes(count: int) -> list[Spooled]:
    return [Spooled("add", build_letter()) for _ in range(count)]


def ids_of(writes: Sequence[Spooled]) -> list[str]:
    return [write.letter.id for write in writes]


async def kept_in(store: DeadLetterStore) -> set[str]:
    page = await store.find(DeadLetterQuery.everything(), limit=1000)
    return {item.id for item in page.items}


def leave_behind(folder: Path, writes: Sequence[Spooled], *, tail: bytes = b"") -> Path:
    """Leave the file of a process that died after it had spooled ``writes``."""
    file = SpoolFile.create(folder)
    file.append([encoded(write) for write in writes])
    with file.path.open("ab") as raw:
        raw.write(tail)
    file.close()
    return file.path


def spool_files(folder: Path, suffix: str = ".spool") -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.endswith(suffix))


def unmeasured() -> dict[str, str]:
    """Return the environment of a process that is killed, or has no disk: its coverage would be broken."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


@asynccontextmanager
async def importing(
    spool: Spool, store: DeadLetterStore, clock: FakeClock | None = None
) -> AsyncGenerator[FakeClock]:
    """Import in the background of the block."""
    turned = clock or FakeClock()
    async with anyio.create_task_group() as group:
        group.start_soon(spool.run, store, turned)
        yield turned
        group.cancel_scope.cancel()


async def until(told: Callable[[], bool]) -> None:
    """Return when something has come true, which another task or thread sees to."""
    with anyio.fail_after(20):
        while not told():
            await anyio.sleep(0.001)
