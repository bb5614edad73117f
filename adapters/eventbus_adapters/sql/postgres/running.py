"""The thread of a store on PostgreSQL: an event loop with a writer, a few readers and the upkeep."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from time import sleep
from typing import TYPE_CHECKING, Any

from sqlalchemy.util import greenlet_spawn

from eventbus.errors import EventBusError
from eventbus_adapters.sql.batches import BREATH, CROWD, HELD_UP, MAX_ROWS, Batches, WriteJob, size_of
from eventbus_adapters.sql.bridge import Failed, deliver, waiter
from eventbus_adapters.sql.homes import Home, PostgresHome
from eventbus_adapters.sql.portable import fit
from eventbus_adapters.sql.postgres.database import (
    PATIENT_WRITERS,
    READERS,
    PostgresDatabase,
    Transactions,
    Unreachable,
)
from eventbus_adapters.sql.postgres.held_up import HeldUp
from eventbus_adapters.sql.postgres.inbox import Inbox
from eventbus_adapters.sql.postgres.notices import Notices
from eventbus_adapters.sql.postgres.rights import check_rights
from eventbus_adapters.sql.postgres.upkeep import Upkeep
from eventbus_adapters.sql.schema import prepare
from eventbus_adapters.sql.work import Change
from eventbus_dlq.errors import StoreUnavailable
from eventbus_dlq.letter import DeadLetterState

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from eventbus_adapters.sql.bridge import Waiter
    from eventbus_adapters.sql.counts import Deltas
    from eventbus_adapters.sql.work import Add, Read

_ONE_SNAPSHOT = {"isolation_level": "REPEATABLE READ"}  # a fold between two looks would count twice
_PATIENCE = 2.0  # seconds that closing the connections may take


class OnPostgres:
    """One thread with an event loop, in which everything that touches the database runs.

    Attributes:
        home: tells whether a connection of the application's own is on this database.
    """

    home: Home

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database
        self._loop = asyncio.new_event_loop()
        self._claimed: Inbox[WriteJob] = Inbox(self._loop, database)
        self._writes: Inbox[WriteJob] = Inbox(self._loop, database)
        self._reads: Inbox[Read] = Inbox(self._loop, database)
        self._beats: Inbox[WriteJob] = Inbox(self._loop, database)
        self._apart: Inbox[WriteJob] = Inbox(self._loop, database)
        self._held_up = HeldUp(self._loop, database)
        self._notices = Notices(database)
        self._upkeep = Upkeep()
        self.read = self._reads.put
        self._stopped: list[Waiter[None]] = []

    @classmethod
    async def start(cls, database: PostgresDatabase) -> Self:
        """Create the tables if they are missing, check them, and start.

        Raises:
            StoreUnavailable: the database cannot be reached, or its tables are not the ones of this code.
        """
        running = cls(database)
        opened: Waiter[None] = waiter()
        threading.Thread(
            target=running._run, args=(opened,), name=f"eventbus-postgres {database}", daemon=True
        ).start()
        try:
            await opened.wait()
        except BaseException:
            running._close()
            raise
        identity = database.identity
        assert identity is not None  # it was learned when the tables were checked
        running.home = PostgresHome(identity, database, database.unavailable)
        return running

    def write(self, job: WriteJob) -> None:
        """Hand over a write.

        What is urgent has a connection of its own, and so has what is claimed as it arrives: nobody but
        its owner can do anything with it. So has what waits for the lock of the controls, each a transaction
        of its own. All else happens in the order in which it was handed over, but for what is held up by
        somebody else's transaction, with the later letters of the same sequences.
        """
        if isinstance(job, Change):
            (self._beats if job.urgent else self._apart if job.apart else self._writes).put(job)
        else:
            (self._claimed if _is_claimed(job) else self._writes).put(job)

    def on_work(self, wake: Callable[[], None] | None) -> None:
        """Call ``wake`` when another process may have made something claimable."""
        self._loop.call_soon_threadsafe(self._notices.on_work, wake)

    def tell(self) -> None:
        """Tell other processes that something became claimable. From any thread."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._notices.tell)

    async def stop(self) -> None:
        """Finish what was handed over, then end the thread."""
        stopped: Waiter[None] = waiter()
        self._stopped.append(stopped)
        self._close()
        await stopped.wait()

    def _close(self) -> None:
        self._claimed.close()
        self._writes.close()
        self._reads.close()
        self._beats.close()
        self._apart.close()

    def _run(self, opened: Waiter[None]) -> None:
        try:
            self._loop.run_until_complete(self._serve(opened))
        finally:
            self._loop.close()
            for inbox in (
                self._claimed,
                self._writes,
                self._beats,
                self._apart,
                self._held_up,
                self._reads,
            ):  # after a fault of this code alone
                _refuse(
                    inbox, lambda: StoreUnavailable(f"the dead-letter store {self._database} has stopped")
                )
            if self._stopped:
                deliver([(it, None) for it in self._stopped])

    async def _serve(self, opened: Waiter[None]) -> None:
        engine = self._database.engine()
        transactions = Transactions(self._database, engine.sync_engine)
        try:
            await greenlet_spawn(_prepare, transactions, self._database)
        except Exception as error:
            deliver([(opened, Failed(self._database.unavailable(error)))])
        else:
            deliver([(opened, None)])
            aside = [
                asyncio.ensure_future(it) for it in (self._notices.run(), self._upkeep.run(transactions))
            ]
            reading = Transactions(self._database, engine.sync_engine.execution_options(**_ONE_SNAPSHOT))
            await asyncio.gather(
                self._write_to_the_end(transactions),
                self._write_apart(transactions),
                *(self._write_patiently(transactions) for _ in range(PATIENT_WRITERS)),
                *(self._read_all(reading) for _ in range(READERS)),
            )
            for task in aside:
                task.cancel()
            await asyncio.gather(*aside, return_exceptions=True)
        finally:
            self._close()
            with suppress(TimeoutError):
                await asyncio.wait_for(engine.dispose(), _PATIENCE)
            await self._database.cut()

    async def _write_to_the_end(self, transactions: Transactions) -> None:
        """Write until nothing comes any more; then, what is held up has all been handed on."""
        try:
            inboxes = (self._claimed, self._writes, self._beats)
            await asyncio.gather(*(self._write_all(it, transactions) for it in inboxes))
        finally:
            self._held_up.close()

    async def _write_all(self, inbox: Inbox[WriteJob], transactions: Transactions) -> None:
        """Write what comes; a transaction of the application's own, however long, holds up nothing else."""
        batches = Batches(transactions, self._committed, waits=False)
        told: list[tuple[Any, Any]] = []
        while (job := await inbox.take()) is not None:
            await asyncio.sleep(0)  # whoever is busy handing over more has the interpreter meanwhile
            jobs = _gathered(inbox, [job], crowd=len(told))
            behind = self._held_up.behind(jobs)
            going = [it for number, it in enumerate(jobs) if number not in behind]
            outcomes = await greenlet_spawn(batches.commit, going) if going else []
            answers = iter(outcomes)
            told = []
            for number, it in enumerate(jobs):
                outcome = HELD_UP if number in behind else next(answers)
                if outcome is HELD_UP:
                    self._held_up.put(it)
                else:
                    told.append((it.waiter, outcome))
            if told:
                deliver(told)
            if outcomes:
                self._fail_others(inbox, outcomes[-1])

    async def _write_apart(self, transactions: Transactions) -> None:
        """Write what changes controls, each by itself."""
        batches = Batches(transactions, self._committed)
        while (job := await self._apart.take()) is not None:
            (outcome,) = await greenlet_spawn(batches.commit, [job])
            deliver([(job.waiter, outcome)])

    async def _write_patiently(self, transactions: Transactions) -> None:
        """Write what has to wait for somebody else, each by itself."""
        batches = Batches(transactions, self._committed)
        while (job := await self._held_up.take()) is not None:
            (outcome,) = await greenlet_spawn(batches.commit, [job])
            self._held_up.done(job)
            deliver([(job.waiter, outcome)])

    def _committed(self, deltas: Deltas, appended: int) -> None:
        if deltas.accepts:
            self._notices.tell()
        self._upkeep.note(appended)

    async def _read_all(self, transactions: Transactions) -> None:
        while (job := await self._reads.take()) is not None:
            outcome = await greenlet_spawn(_outcome, transactions, job)
            deliver([(job.waiter, outcome)])
            self._fail_others(self._reads, outcome)

    def _fail_others(self, inbox: Inbox[Any], outcome: Any) -> None:
        """Tell everybody who waits of an outcome that theirs cannot differ from: no connection."""
        if isinstance(outcome, Failed) and isinstance(outcome.error.__cause__, Unreachable):
            _refuse(inbox, lambda: self._database.unavailable(outcome.error))


def _is_claimed(job: Add) -> bool:
    return job.verb == "accept" and all(letter.state is DeadLetterState.RUNNING for letter in job.letters)


def _refuse(inbox: Inbox[Any] | HeldUp, error: Callable[[], Exception]) -> None:
    """Answer every job that waits with an error, a new one for each."""
    waiting = inbox.take_everything()
    if waiting:
        deliver([(job.waiter, Failed(error())) for job in waiting])


def _prepare(transactions: Transactions, database: PostgresDatabase) -> None:
    with transactions.transaction() as connection:
        database.identity = prepare(connection, database)
        check_rights(connection, database)
        fit(connection)


def _gathered(inbox: Inbox[WriteJob], jobs: list[WriteJob], *, crowd: int) -> list[WriteJob]:
    rows = sum(size_of(job) for job in jobs)
    before = 0
    while rows < MAX_ROWS:
        job = inbox.take_waiting()
        if job is None and max(len(jobs), crowd) >= CROWD and len(jobs) > before:
            before = len(jobs)
            sleep(BREATH)
            job = inbox.take_waiting()
        if job is None:
            break
        jobs.append(job)
        rows += size_of(job)
    return jobs


def _outcome(transactions: Transactions, job: Read) -> Any:
    tries = 0
    while True:
        tries += 1
        try:
            with transactions.transaction() as connection:
                return job.work(connection)
        except Exception as error:
            if transactions.repeats(error, tries):
                continue
            if isinstance(error, EventBusError) and not isinstance(error, StoreUnavailable):
                return Failed(error)
            return Failed(transactions.unavailable(error))
