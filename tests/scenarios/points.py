"""Named points at which a process kills itself: before and after a commit, in a handler, in a file write."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from eventbus_adapters.sql import SqlStore

POINTS = (
    "accept.before_commit",
    "accept.after_commit",
    "handler",
    "settle.before_commit",
    "settle.after_commit",
    "capture.before_commit",
    "capture.after_commit",
    "rescue.before_commit",
    "rescue.after_commit",
    "replay.handler",
    "replay.before_commit",
    "replay.after_commit",
    "spool.before_write",
    "spool.after_write",
    "import.before_commit",
    "import.after_commit",
)


class Points:
    """Kills the process when one point has been passed for the n-th time."""

    def __init__(self, point: str | None, hit: int) -> None:
        self._point = point
        self._left = hit
        self._committing: set[str] = set()
        if point is not None:
            event.listen(Engine, "commit", self._at_commit)

    def passing(self, point: str) -> None:
        if point == self._point:
            self._left -= 1
            if self._left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def before_commit(self, what: str) -> None:
        """Note that the next commit will be one of ``what``."""
        self._committing.add(what)

    def _at_commit(self, _connection: object) -> None:
        for what in tuple(self._committing):
            self._committing.discard(what)
            self.passing(f"{what}.before_commit")


class KillingStore(SqlStore):
    """A store that dies around its own commits."""

    points: Points
    replaying = False

    async def accept(self, deliveries: Sequence[Any]) -> Any:
        return await self._around("accept", super().accept(deliveries))

    async def add(self, letters: Sequence[Any]) -> Any:
        return await self._around("capture", super().add(letters))

    async def settle(self, settlements: Sequence[Any], **options: Any) -> Any:
        what = "replay" if self.replaying else "settle"
        return await self._around(what, super().settle(settlements, **options))

    async def rescue(self, leased: Sequence[Any], **options: Any) -> Any:
        return await self._around("rescue", super().rescue(leased, **options))

    async def import_spool(self, *arguments: Any, **options: Any) -> Any:
        return await self._around("import", super().import_spool(*arguments, **options))

    async def _around(self, what: str, call: Any) -> Any:
        self.points.before_commit(what)
        answer = await call
        self.points.passing(f"{what}.after_commit")
        return answer
