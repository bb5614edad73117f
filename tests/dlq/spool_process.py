"""Processes that the tests of the spool kill: ``python -m tests.dlq.spool_process <part> <folder> ...``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import anyio
from letters import build_letter

from eventbus.clock import SystemClock
from eventbus_dlq import MemoryStore, Spooled
from eventbus_dlq.spool import Spool
from eventbus_dlq.spool.file import SpoolFile


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


class JournalStore(MemoryStore):
    """A store on the disk, of which every import is one line: position and the letters' ids."""

    def __init__(self, journal: Path) -> None:
        super().__init__()
        self.journal = journal
        self.before_commit: Callable[[], object] = lambda: None
        self.after_commit: Callable[[], object] = lambda: None

    def lines(self) -> list[list[str]]:
        return (
            [line.split() for line in self.journal.read_text().splitlines()] if self.journal.exists() else []
        )

    @property
    def imported(self) -> list[str]:
        return [letter_id for _, _, *ids in self.lines() for letter_id in ids]

    async def spool_position(self, spool_id: str) -> int:
        return max((int(end) for spool, end, *_ in self.lines() if spool == spool_id), default=0)

    async def import_spool(
        self, spool_id: str, writes: Sequence[Spooled], *, start: int, end: int, now: datetime
    ) -> bool:
        if await self.spool_position(spool_id) != start:
            return False
        self.before_commit()
        with self.journal.open("a") as journal:
            journal.write(" ".join([spool_id, str(end), *[it.letter.id for it in writes]]) + "\n")
        self.after_commit()
        return True


async def append_for_ever(folder: Path) -> None:
    """Append from several tasks, and tell what was kept."""
    spool = Spool(folder)
    await spool.open()

    async def append() -> None:
        while True:
            writes = [Spooled("add", build_letter()) for _ in range(3)]
            await spool.append(writes)
            os.write(1, "".join(f"{it.letter.id}\n" for it in writes).encode())

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(append)


async def import_and_die(folder: Path, where: str) -> None:
    """Spool and import, and die at a named point."""
    store = JournalStore(folder.parent / "journal")
    if where == "before the commit":
        store.before_commit = die
    elif where == "after the commit":
        store.after_commit = die
    elif where == "before the clearing":
        SpoolFile.clear = die_instead  # type: ignore[method-assign]  # what a kill does there
    elif where == "after the clearing":
        clear = SpoolFile.clear

        def clear_and_die(file: SpoolFile) -> None:
            clear(file)
            die()

        SpoolFile.clear = clear_and_die  # type: ignore[method-assign]  # what a kill does there
    spool = Spool(folder)
    await spool.open()
    writes = [Spooled("add", build_letter()) for _ in range(300)]
    await spool.append(writes)
    os.write(1, "".join(f"{it.letter.id}\n" for it in writes).encode())
    await spool.run(store, SystemClock())


def die_instead(*_: Any) -> NoReturn:
    die()


if __name__ == "__main__":
    _, part, where, *rest = sys.argv
    if part == "append":
        anyio.run(append_for_ever, Path(where))
    else:
        anyio.run(import_and_die, Path(where), *rest)
