"""The one thread that writes to an SQLite file: it commits together what gathers during the last commit."""

from __future__ import annotations

import threading
from time import sleep
from typing import TYPE_CHECKING

from eventbus_adapters.sql.batches import BREATH, CROWD, MAX_ROWS, Batches, WriteJob, size_of
from eventbus_adapters.sql.bridge import deliver
from eventbus_adapters.sql.engine import Database, Held
from eventbus_adapters.sql.work import Mailbox, Stop

if TYPE_CHECKING:
    from eventbus_adapters.sql.bridge import Waiter


class Writer:
    """Group commit: one transaction for all jobs that wait, one answer for each."""

    def __init__(self, database: Database) -> None:
        self._held = Held(database, "write")
        self._batches = Batches(self._held)
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
                outcomes = self._batches.commit(jobs)
                deliver([(job.waiter, outcome) for job, outcome in zip(jobs, outcomes, strict=True)])
            if stop is not None:
                self._held.close()
                deliver([(stop.waiter, None)])
                return

    def _gather(self) -> tuple[list[WriteJob], Stop | None]:
        jobs: list[WriteJob] = []
        rows = before = 0
        job: WriteJob | Stop | None = self._mailbox.take()
        while job is not None:
            if isinstance(job, Stop):
                return jobs, job
            jobs.append(job)
            rows += size_of(job)
            if rows >= MAX_ROWS:
                break
            job = self._mailbox.take_waiting()
            if job is None and len(jobs) >= max(CROWD, before + 1):
                before = len(jobs)
                sleep(BREATH)
                job = self._mailbox.take_waiting()
        return jobs, None
