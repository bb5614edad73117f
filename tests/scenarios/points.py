"""Named points at which a process dies: before and after a commit, in a handler, in the write of a file."""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.engine import Engine

from eventbus_adapters.sql import batches, rescuing, sessions, settling, spooling
from eventbus_dlq.spool import file as spool_file

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
    "spool.half_written",
    "spool.after_write",
    "import.before_commit",
    "import.after_commit",
    "session.before_commit",
    "session.after_commit",
)


class Points:
    """Sends the process a signal, once, when a point has been passed for the n-th time.

    Attributes:
        point: its name; None for none.
    """

    def __init__(self, point: str | None, hit: int, number: signal.Signals = signal.SIGKILL) -> None:
        self.point = point
        self._signal = number
        self._left = hit
        self._written: dict[Connection, set[str]] = defaultdict(set)
        if point is not None:
            self._watch_transactions()
            self._watch_the_spool()

    def passing(self, point: str) -> None:
        if point == self.point:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), self._signal)

    def _watch_transactions(self) -> None:
        """Learn what each transaction writes, and when it is about to be committed."""
        batches.accept = self._noting(batches.accept, lambda *_: "accept")
        batches.add = self._noting(batches.add, lambda *_: "capture")
        sessions.accept = self._noting(sessions.accept, lambda *_: "session")
        settling.settle = self._noting(settling.settle, settling_what)
        rescuing.rescue = self._noting(rescuing.rescue, lambda *_: "rescue")
        spooling.import_spool = self._noting(spooling.import_spool, lambda *_: "import")
        event.listen(Engine, "commit", self._at_commit)
        event.listen(Engine, "rollback", lambda connection: self._written.pop(connection, None))

    def _noting(self, write: Callable[..., Any], what: Callable[..., str]) -> Callable[..., Any]:
        def noted(connection: Connection, deltas: Any, *arguments: Any, **options: Any) -> Any:
            self._written[connection].add(what(*arguments, *options.values()))
            return write(connection, deltas, *arguments, **options)

        return noted

    def _at_commit(self, connection: Connection) -> None:
        for what in self._written.pop(connection, ()):
            self.passing(f"{what}.before_commit")

    def _watch_the_spool(self) -> None:
        write_whole, fsync = spool_file.write_whole, os.fsync

        def written(fd: int, data: bytes, offset: int) -> None:
            self.passing("spool.before_write")
            os.pwrite(fd, data[: len(data) // 2], offset)
            self.passing("spool.half_written")
            write_whole(fd, data, offset)

        def synced(fd: int) -> None:
            fsync(fd)
            self.passing("spool.after_write")

        spool_file.write_whole = written
        os.fsync = synced  # SQLite has its own


def settling_what(settlements: Any, *_: Any) -> str:
    """Return what a settlement ends: a run of the worker, or a replay, which somebody has asked for."""
    return "replay" if any(it.acted_by is not None for it in settlements) else "settle"
