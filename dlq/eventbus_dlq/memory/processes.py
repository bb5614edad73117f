"""The processes that share the store, and the deliveries that none of them has a handler for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbus_dlq import moves
from eventbus_dlq.letter import DeadLetterState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from eventbus_dlq.memory.announcements import Announcements
    from eventbus_dlq.memory.rows import Row, Rows
    from eventbus_dlq.store import Process

_AT_A_TIME = 1_000


class Processes:
    """The rows of the processes, and when each handler was announced last."""

    def __init__(self) -> None:
        self._processes: dict[str, Process] = {}
        self._announced: dict[str, datetime] = {}

    def announce(self, process: Process) -> None:
        """Keep a process's row in place of its earlier one."""
        self._processes[process.id] = process
        for handler_id in process.handlers:
            earlier = self._announced.get(handler_id, process.beat_at)
            self._announced[handler_id] = max(earlier, process.beat_at)

    def withdraw(self, process_id: str) -> None:
        """Remove a process's row; its handlers stay announced."""
        self._processes.pop(process_id, None)

    def all(self) -> Sequence[Process]:
        """Return all rows, by id."""
        return [self._processes[it] for it in sorted(self._processes)]

    def forget(self, *, before: datetime) -> None:
        """Remove the rows of processes that beat last ``before`` that moment."""
        self._processes = {it.id: it for it in self._processes.values() if it.beat_at >= before}

    def knows(self, handler_id: str, *, since: datetime) -> bool:
        """Tell whether a process has announced a handler ``since`` then."""
        announced = self._announced.get(handler_id)
        return announced is not None and announced >= since


def exhaust_unhandled(
    rows: Rows, processes: Processes, announcements: Announcements, *, since: datetime, now: datetime
) -> Sequence[str]:
    """Give up the deliveries that nobody has had a handler for; return the ids of at most 1,000."""
    processes.forget(before=since)
    orphans = [row for row in rows.claimable() if _is_orphan(row, processes, since)]
    orphans.sort(key=lambda row: row.position.number)
    for row in orphans[:_AT_A_TIME]:
        announcements.note(rows.put(moves.unhandled(row.letter, now=now), now=now).letter, at=now)
    return [row.letter.id for row in orphans[:_AT_A_TIME]]


def _is_orphan(row: Row, processes: Processes, since: datetime) -> bool:
    letter = row.letter
    if letter.state is not DeadLetterState.ACCEPTED or letter.created_at >= since:
        return False
    return not processes.knows(letter.handler_id, since=since)
