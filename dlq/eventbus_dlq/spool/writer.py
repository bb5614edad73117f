"""The thread that appends: one write and one fsync for all that has gathered meanwhile."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeAlias

from eventbus_dlq.errors import SpoolUnavailable
from eventbus_dlq.spool.file import SpoolFile
from eventbus_dlq.spool.records import encoded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from eventbus_dlq.spool.progress import Progress
    from eventbus_dlq.spool.waking import Answer
    from eventbus_dlq.store import Spooled

_MAX_APPENDS = 512


@dataclass(frozen=True, slots=True)
class Append:
    """Writes to be kept, together or not at all."""

    writes: Sequence[Spooled]
    answer: Answer[None]


@dataclass(frozen=True, slots=True)
class Clear:
    """The file is to be emptied, if nothing came behind ``position``; the answer says whether it was."""

    position: int
    answer: Answer[bool]


@dataclass(frozen=True, slots=True)
class Stop:
    """The last thing that the thread is given: it lets go of the file, and removes it if all is imported."""

    answer: Answer[None]


_Job: TypeAlias = "Append | Clear | Stop"


class Writer:
    """Owns this process's file, from a thread of its own.

    Attributes:
        file: the file; another one once a damaged one was set aside.
    """

    def __init__(
        self, folder: Path, file: SpoolFile, progress: Progress, appended: Callable[[], None]
    ) -> None:
        self.file = file
        self._folder = folder
        self._progress = progress
        self._appended = appended
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._lock = threading.Lock()
        self._stopping = False
        threading.Thread(target=self._run, name=f"eventbus-spool {folder}", daemon=True).start()

    def put(self, job: _Job) -> None:
        """Hand over a job.

        Raises:
            SpoolUnavailable: the spool is being closed.
        """
        with self._lock:
            if self._stopping:
                raise SpoolUnavailable(f"the spool {self._folder} is closed; open it first")
            self._stopping = isinstance(job, Stop)
            if isinstance(job, Append):
                self._progress.appending()
            self._jobs.put(job)

    def _run(self) -> None:
        while True:
            appends, job = self._gather()
            if appends:
                self._append(appends)
            if isinstance(job, Clear):
                job.answer.give(self._clear(job.position))
            elif job is not None:
                self._let_go()
                job.answer.give(None)
                return

    def _gather(self) -> tuple[list[Append], Clear | Stop | None]:
        appends: list[Append] = []
        job = self._jobs.get()
        while isinstance(job, Append):
            appends.append(job)
            if len(appends) == _MAX_APPENDS:
                return appends, None
            try:
                job = self._jobs.get_nowait()
            except Empty:
                return appends, None
        return appends, job

    def _append(self, appends: list[Append]) -> None:
        outcomes = self._together(appends)
        self._progress.appended(len(appends), kept=self.file.position)
        for append, outcome in zip(appends, outcomes, strict=True):
            append.answer.give(outcome)
        self._appended()

    def _together(self, appends: list[Append]) -> list[Exception | None]:
        """Return the outcome of each append: None, or why nothing of it was kept."""
        try:
            self._keep([encoded(write) for append in appends for write in append.writes])
        except Exception as error:
            if len(appends) > 1:  # one may be too large for a disk that has room for the others
                return [outcome for append in appends for outcome in self._together([append])]
            return [self._unavailable(error)]
        return [None] * len(appends)

    def _keep(self, bodies: Sequence[bytes]) -> None:
        if self.file.is_removed and self.file.position == self._progress.imported_to:
            self._replace()
        self.file.append(bodies)

    def _unavailable(self, cause: Exception) -> SpoolUnavailable:
        why = cause.strerror if isinstance(cause, OSError) else str(cause)
        error = SpoolUnavailable(f"nothing was kept in the spool {self.file.path}: {why}")
        error.__cause__ = cause
        return error

    def _clear(self, position: int) -> bool | Exception:
        if self.file.position != position:
            return False
        try:
            if self.file.is_damaged:
                self._replace()
            else:
                self.file.clear()
        except OSError as error:
            return error
        return True

    def _replace(self) -> None:
        """Go on with a new file: the old one is imported, and must not be written to again."""
        new = SpoolFile.create(self._folder)
        self.file.retire()
        self.file = new
        self._progress.replaced()

    def _let_go(self) -> None:
        if self.file.position == self._progress.imported_to:
            self.file.retire()
        else:
            self.file.close()
