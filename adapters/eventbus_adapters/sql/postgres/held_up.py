"""Writes that wait for sequences which somebody else's transaction has locked."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from eventbus_adapters.sql.inserting import lines_of
from eventbus_adapters.sql.postgres.inbox import Inbox
from eventbus_adapters.sql.work import Add

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from eventbus_adapters.sql.batches import WriteJob
    from eventbus_adapters.sql.sequences import Key


class HeldUp:
    """Hands out what waits; letters of one sequence one job after the other, in the order of their coming.

    Used in one event loop.

    Args:
        loop: the event loop.
        database: what messages call the store.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, database: object) -> None:
        self._ready: Inbox[WriteJob] = Inbox(loop, database)
        self._lines: dict[Key, deque[Add]] = {}
        self._closing = False

    def behind(self, jobs: Sequence[WriteJob]) -> set[int]:
        """Return the numbers of those jobs that must wait, because letters before theirs do."""
        if not self._lines:
            return set()
        waiting = set(self._lines)
        found: set[int] = set()
        for number, job in enumerate(jobs):
            if isinstance(job, Add) and not waiting.isdisjoint(keys := lines_of(job.rows)):
                waiting |= keys
                found.add(number)
        return found

    def put(self, job: WriteJob) -> None:
        """Have a job wait, behind those with letters of the same sequences."""
        if isinstance(job, Add):
            for key in lines_of(job.rows):
                self._lines.setdefault(key, deque()).append(job)
            if not self._is_next(job):
                return
        self._ready.put(job)

    async def take(self) -> WriteJob | None:
        """Return the next job, for which :meth:`done` is to be called; None when there will be none."""
        return await self._ready.take()

    def done(self, job: WriteJob) -> None:
        """Let those behind a job have their turn, however it has ended."""
        if isinstance(job, Add):
            followers: list[Add] = []
            for key in lines_of(job.rows):
                line = self._lines[key]
                line.popleft()
                if not line:
                    del self._lines[key]
                elif not any(it is line[0] for it in followers):
                    followers.append(line[0])
            for follower in followers:
                if self._is_next(follower):
                    self._ready.put(follower)
        self._close_at_the_end()

    def close(self) -> None:
        """Expect no more; what waits is still handed out, and then None."""
        self._closing = True
        self._close_at_the_end()

    def take_everything(self) -> list[WriteJob]:
        """Return all jobs that nobody has taken."""
        waiting: list[WriteJob] = self._ready.take_everything()
        for line in self._lines.values():
            waiting += [it for it in line if not (self._is_next(it) or any(it is job for job in waiting))]
        self._lines.clear()
        return waiting

    def _is_next(self, job: Add) -> bool:
        return all(self._lines[key][0] is job for key in lines_of(job.rows))

    def _close_at_the_end(self) -> None:
        if self._closing and not self._lines:
            self._ready.close()
