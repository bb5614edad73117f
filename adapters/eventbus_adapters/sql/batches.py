"""Group commit: how the jobs that have gathered become one transaction, and what each caller is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from eventbus.errors import EventBusError
from eventbus_adapters.sql.adding import TakenIdError, accept, add
from eventbus_adapters.sql.bridge import Failed
from eventbus_adapters.sql.counts import Deltas
from eventbus_adapters.sql.inserting import lines_of
from eventbus_adapters.sql.locking import lock, locks, try_lock
from eventbus_adapters.sql.work import Add, Change
from eventbus_dlq.errors import StoreLocked, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection

    from eventbus_adapters.sql.sequences import Key

WriteJob: TypeAlias = Add | Change

MAX_ROWS = 512
"""How many rows one transaction takes before what still waits is left to the next one."""

CROWD = 8
"""From so many jobs on their callers come in a crowd, most of which hands over its next ones at once."""

BREATH = 0.00005
"""Seconds for which a writer leaves the interpreter to them, to have what comes in the same commit."""

HELD_UP: Final = object()
"""The outcome of a job that was left alone, because it would have had to wait for somebody else."""


class Transactions(Protocol):
    """Where transactions come from."""

    def transaction(self) -> AbstractContextManager[Connection]:
        """Run a block in one transaction: committed, or rolled back.

        Raises:
            StoreUnavailable: the database is at fault, and no job of the transaction.
        """
        ...

    def repeats(self, error: Exception, tries: int) -> bool:
        """Tell whether what ended with ``error``, after so many tries, should be tried again at once."""
        ...

    def unavailable(self, error: BaseException) -> StoreUnavailable:
        """Return what a caller is told of an error."""
        ...


def size_of(job: WriteJob) -> int:
    """Return about how many rows a job writes."""
    return len(job.letters) if isinstance(job, Add) else 1


class Batches:
    """Commits jobs together.

    Args:
        transactions: where they are committed.
        committed: is told what each committed transaction has counted, and how much of it waits for
            being folded.
        waits: whether jobs wait for sequences that somebody else's transaction has locked, all of them;
            else those have the outcome ``HELD_UP``, and must be given to somebody who waits.
    """

    def __init__(
        self,
        transactions: Transactions,
        committed: Callable[[Deltas, int], None] | None = None,
        *,
        waits: bool = True,
    ) -> None:
        self._transactions = transactions
        self._committed = committed
        self._waits = waits

    def commit(self, jobs: list[WriteJob]) -> list[Any]:
        """Return the outcome of each job: its result, or ``Failed``."""
        try:
            return self._together(jobs)
        except StoreUnavailable as error:  # the database is at fault, for all of them
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
        return Failed(error if isinstance(error, TakenIdError) else self._transactions.unavailable(error))

    def _together(self, jobs: list[WriteJob]) -> list[Any]:
        tries = 0
        while True:
            tries += 1
            try:
                return self._transacted(jobs)
            except Exception as error:
                if not self._transactions.repeats(error, tries):
                    raise

    def _transacted(self, jobs: list[WriteJob]) -> list[Any]:
        deltas = Deltas()
        with self._transactions.transaction() as connection:
            held_up = self._lock(connection, jobs)
            going = [job for number, job in enumerate(jobs) if number not in held_up]
            done = iter([it for run in _runs(going) for it in _outcomes(connection, deltas, run)])
            outcomes = [held_up.get(number) or next(done) for number in range(len(jobs))]
            appended = deltas.write(connection)
        if self._committed is not None:
            self._committed(deltas, appended)
        return outcomes

    def _lock(self, connection: Connection, jobs: list[WriteJob]) -> Mapping[int, Any]:
        """Lock what jobs are about; return the outcomes of those that would have to wait, by number."""
        if not locks(connection):
            return {}
        locked_by = [_locked_by(job) for job in jobs]
        keys = {key for own, _ in locked_by for key in own}
        ids = {it for _, own in locked_by for it in own}
        alone = {it for job in jobs if isinstance(job, Change) for it in job.alone}
        if self._waits:
            lock(connection, keys, ids, alone)
            return {}
        taken = try_lock(connection, keys, ids, alone)
        if not taken:
            return {}
        held_up: dict[int, Any] = {}
        behind: set[Key] = set()
        for number, (job, own) in enumerate(zip(jobs, locked_by, strict=True)):
            theirs = taken & {*own[0], *own[1]}
            if theirs or (isinstance(job, Add) and not behind.isdisjoint(own[0])):
                held_up[number] = _held_up(job, theirs)
                if isinstance(job, Add):
                    behind.update(own[0])
        return held_up


def _held_up(job: WriteJob, taken: AbstractSet[Key | str]) -> Any:
    if not (isinstance(job, Change) and job.divisible):
        return HELD_UP
    ids = frozenset(it for it in taken if isinstance(it, str))
    return Failed(
        StoreLocked(
            "another transaction, a write of some process or one of the application's own, holds the "
            f"sequences of dead letters {', '.join(sorted(ids))}; nothing was changed: try again, or without "
            "these, and if that goes on look for a transaction with a publish in it that is left open",
            ids,
        )
    )


def _locked_by(job: WriteJob) -> tuple[Collection[Key], Collection[str]]:
    """Return the sequences, and the ids of letters, that a job locks."""
    return (lines_of(job.rows), ()) if isinstance(job, Add) else (job.keys, job.ids)


def _runs(jobs: list[WriteJob]) -> Iterator[list[Add] | Change]:
    """Yield the jobs in order, with neighbouring additions put together."""
    adds: list[Add] = []
    for job in jobs:
        if adds and not (isinstance(job, Add) and job.verb == adds[0].verb):
            yield adds
            adds = []
        if isinstance(job, Add):
            adds.append(job)
        else:
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
    kept: Sequence[Any]
    if run[0].verb == "add":
        kept = add(connection, deltas, letters, rows)
    else:
        kept = accept(connection, deltas, letters, rows, known=run[0].known)
    end = 0
    for job in run:
        start, end = end, end + len(job.letters)
        yield kept[start:end]
