"""The one thread that writes: it commits together what has gathered while it committed the last batch."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, TypeAlias

from eventbus.errors import EventBusError
from eventbus_adapters.sql.adding import TakenIdError, add
from eventbus_adapters.sql.bridge import Failed, deliver
from eventbus_adapters.sql.counts import Deltas
from eventbus_adapters.sql.engine import Database, Held
from eventbus_adapters.sql.failures import unavailable
from eventbus_adapters.sql.work import Add, Change, Mailbox, Stop
from eventbus_dlq.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from eventbus_adapters.sql.bridge import Waiter

WriteJob: TypeAlias = Add | Change

_MAX_ROWS = 512


class Writer:
    """Group commit: one transaction for all jobs that wait, one answer for each."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._held = Held(database, "write")
        self._mailbox: Mailbox[WriteJob] = Mailbox(database)
        self.put = self._mailbox.put
        threading.Thread(target=self._run, name=f"eventbus-writer {database}", daemon=True).start()

    def stop(self, stopped: Waiter[None]) -> None:
        """Finish what was handed over, then end the thread and answer ``stopped``."""
        self._mailbox.close([Stop(stopped)])

    def _run(self) -> None:
        while True:
            jobs, stop = self._gather()
            if jobs:
                outcomes = self._commit(jobs)
                deliver([(job.waiter, outcome) for job, outcome in zip(jobs, outcomes, strict=True)])
            if stop is not None:
                self._held.close()
                deliver([(stop.waiter, None)])
                return

    def _gather(self) -> tuple[list[WriteJob], Stop | None]:
        jobs: list[WriteJob] = []
        rows = 0
        job: WriteJob | Stop | None = self._mailbox.take()
        while job is not None:
            if isinstance(job, Stop):
                return jobs, job
            jobs.append(job)
            rows += len(job.letters) if isinstance(job, Add) else 1
            job = self._mailbox.take_waiting() if rows < _MAX_ROWS else None
        return jobs, None

    def _commit(self, jobs: list[WriteJob]) -> list[Any]:
        """Return the outcome of each job: its result, or ``Failed``."""
        try:
            return self._together(jobs)
        except StoreUnavailable as error:  # no transaction could begin, for any of them
            return [self._failed(error) for _ in jobs]
        except Exception as error:
            if len(jobs) == 1:
                return [self._failed(error)]
            return self._one_by_one(jobs)  # one of them spoils the batch, and only its caller must suffer

    def _one_by_one(self, jobs: list[WriteJob]) -> list[Any]:
        outcomes: list[Any] = []
        for number, job in enumerate(jobs):
            try:
                outcomes += self._together([job])
            except StoreUnavailable as error:
                return outcomes + [self._failed(error) for _ in jobs[number:]]
            except Exception as error:
                outcomes.append(self._failed(error))
        return outcomes

    def _failed(self, error: Exception) -> Failed:
        return Failed(error if isinstance(error, TakenIdError) else unavailable(self._database, error))

    def _together(self, jobs: list[WriteJob]) -> list[Any]:
        deltas = Deltas()
        with self._held.transaction() as connection:
            outcomes = [outcome for run in _runs(jobs) for outcome in _outcomes(connection, deltas, run)]
            deltas.write(connection)
        return outcomes


def _runs(jobs: list[WriteJob]) -> Iterator[list[Add] | Change]:
    """Yield the jobs in order, with neighbouring additions put together."""
    adds: list[Add] = []
    for job in jobs:
        if isinstance(job, Add):
            adds.append(job)
            continue
        if adds:
            yield adds
            adds = []
        yield job
    if adds:
        yield adds


def _outcomes(connection: Connection, deltas: Deltas, run: list[Add] | Change) -> Iterator[Any]:
    if isinstance(run, Change):
        try:
            yield run.work(connection, deltas)
        except EventBusError as error:  # a refusal, before anything was written
            yield Failed(error)
        return
    letters = [letter for job in run for letter in job.letters]
    rows = [row for job in run for row in job.rows]
    ids = add(connection, deltas, letters, rows)
    end = 0
    for job in run:
        start, end = end, end + len(job.letters)
        yield ids[start:end]
