"""``SqlStore``: the dead-letter store in an SQLite file. No logic of its own: it hands work to threads."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from anyio import to_thread
from pydantic_core import PydanticSerializationError

from eventbus_adapters.sql import claims, finding, totals, verbs
from eventbus_adapters.sql.bridge import waiter
from eventbus_adapters.sql.cursor import position_of
from eventbus_adapters.sql.encoding import row_of
from eventbus_adapters.sql.engine import Database, Synchronous
from eventbus_adapters.sql.readers import THREADS, Readers
from eventbus_adapters.sql.url import path_of
from eventbus_adapters.sql.work import Add, Change, Read
from eventbus_adapters.sql.writer import Writer
from eventbus_dlq.errors import StoreUnavailable
from eventbus_dlq.letter import Verb

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from eventbus_adapters.sql.bridge import Waiter
    from eventbus_adapters.sql.counts import Deltas
    from eventbus_dlq.letter import DeadLetter
    from eventbus_dlq.query import DeadLetterQuery, Page
    from eventbus_dlq.stats import Stats
    from eventbus_dlq.store import Claim, Lease, Order, Settlement

T = TypeVar("T")

_MAX_LIMIT = 1_000


@dataclass(frozen=True, slots=True)
class _Threads:
    """What runs between an open and a close."""

    writer: Writer
    readers: Readers


class SqlStore:
    """Keeps dead letters in one SQLite file, which several processes may share.

    Writes of all callers are committed together by one thread, so that many callers cost little more
    than one; reads run beside them. It serves asyncio and trio, and several loops at a time. It may be
    opened again after a close.

    Args:
        url: ``sqlite+aiosqlite:///file.db`` or ``sqlite:///file.db``, which mean the same. The file and
            its tables are created by the first ``open``, its directory is not.
        synchronous: ``FULL`` makes every write durable before its caller goes on. ``NORMAL`` does not wait
            for the disk: after a power failure or a crash of the machine the latest writes may be missing,
            although their callers were told that they are kept. A crash of the process alone loses nothing.
        busy_timeout: seconds to wait for another process that is writing, before ``StoreUnavailable``.

    Raises:
        ValueError: the URL names no SQLite file, or an option has no such value.
    """

    def __init__(self, url: str, *, synchronous: Synchronous = "FULL", busy_timeout: float = 5.0) -> None:
        self._database = Database(path_of(url), synchronous=synchronous, busy_timeout=busy_timeout)
        self._lock = threading.Lock()
        self._threads: _Threads | None = None

    def __repr__(self) -> str:
        return f"SqlStore({str(self._database)!r})"

    async def open(self) -> None:
        """Create file and tables if they are missing, check them, and start the threads.

        Raises:
            StoreUnavailable: the file cannot be opened and written, or has tables of another version.
        """
        if self._threads is not None:
            return
        await to_thread.run_sync(self._database.create)
        with self._lock:
            if self._threads is None:
                self._threads = _Threads(Writer(self._database), Readers(self._database))

    async def close(self) -> None:
        """Finish every write that was handed over, then end the threads."""
        with self._lock:
            threads, self._threads = self._threads, None
        if threads is None:
            return
        stopped = [waiter() for _ in range(1 + THREADS)]
        threads.writer.stop(stopped[0])
        threads.readers.stop(stopped[1:])
        for waiting in stopped:
            await waiting.wait()

    async def add(self, letters: Sequence[DeadLetter]) -> Sequence[str]:
        """Commit new letters; return the ids under which they are kept, in order.

        Raises:
            StoreUnavailable: they could not be committed; none of them is kept.
            ValueError: an id is already taken by the letter of another event or handler.
        """
        if not letters:
            return []
        threads = self._opened()
        try:
            rows = [row_of(letter) for letter in letters]
        except PydanticSerializationError as error:
            raise self._unfit(letters, error) from error
        waiting: Waiter[Sequence[str]] = waiter(partial(_adding, letters))
        threads.writer.put(Add(letters, rows, waiting))
        return await waiting.wait()

    async def get(self, dead_letter_id: str) -> DeadLetter:
        """Return one letter, whole, or raise ``DeadLetterNotFound``."""
        return await self._read(partial(verbs.get, dead_letter_id=dead_letter_id))

    async def find(
        self, query: DeadLetterQuery, *, limit: int = 50, cursor: str | None = None, order: Order = "newest"
    ) -> Page:
        """Return a page of summaries; a call examines at most 5,000 letters, or 200 per value of a set.

        Raises:
            InvalidCursor: the cursor is not from this method with this ``order``.
            ValueError: ``limit`` is not between 1 and 1,000, or there is no such ``order``.
        """
        if not 1 <= limit <= _MAX_LIMIT:
            raise ValueError(f"limit={limit!r} must be from 1 to {_MAX_LIMIT}")
        if order not in ("newest", "oldest"):
            raise ValueError(f"order={order!r} must be 'newest' or 'oldest'")
        after = None if cursor is None else position_of(cursor, order)
        return await self._read(partial(finding.find, query=query, limit=limit, after=after, order=order))

    async def stats(self, *, now: datetime, tenants: Collection[str] | None = None) -> Stats:
        """Return the totals, of all letters or of those of ``tenants``, without reading a letter."""
        return await self._read(partial(totals.stats, now=now, tenants=tenants))

    async def claim(
        self, dead_letter_ids: Sequence[str], *, owner: str, lease: float, now: datetime
    ) -> Sequence[Claim | Exception]:
        """Take letters for a run; what cannot be claimed has its error in its place."""
        work = partial(claims.claim, ids=tuple(dead_letter_ids), owner=owner, lease=lease, now=now)
        return await self._change(work, lambda: f"claim {dead_letter_ids}")

    async def heartbeat(self, leases: Sequence[Lease], *, lease: float, now: datetime) -> Sequence[Lease]:
        """Extend leases to ``lease`` seconds from now; return those that are lost."""
        work = partial(claims.heartbeat, leases=tuple(leases), lease=lease, now=now)
        return await self._change(work, lambda: f"heartbeat {leases}")

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime) -> Sequence[Lease]:
        """Record how claimed runs ended; return the leases that were lost."""
        work = partial(claims.settle, settlements=tuple(settlements), now=now)
        return await self._change(work, lambda: f"settle {[it.lease for it in settlements]}")

    async def release(self, leases: Sequence[Lease], *, now: datetime) -> Sequence[Lease]:
        """Give claimed letters back to the state before, uncharged; return the lost leases."""
        return await self._change(
            partial(claims.release, leases=tuple(leases), now=now), lambda: f"release {leases}"
        )

    async def change(
        self,
        dead_letter_id: str,
        verb: Verb,
        *,
        now: datetime,
        by: str | None = None,
        note: str | None = None,
        until: datetime | None = None,
    ) -> DeadLetter:
        """Carry out a person's verb (all but delete); return the letter as it is then.

        Raises:
            DeadLetterNotFound: no letter has that id.
            LeaseHeld: it is running.
            InvalidTransition: its state does not allow the verb, or its row cannot be understood.
            ValueError: the verb is delete.
        """
        if verb is Verb.DELETE:
            raise ValueError("delete leaves no letter to return; call delete() for it")
        work = partial(
            verbs.change, dead_letter_id=dead_letter_id, verb=verb, now=now, by=by, note=note, until=until
        )
        return await self._change(work, lambda: f"{verb} {dead_letter_id}")

    async def delete(self, dead_letter_id: str) -> None:
        """Remove a letter, or raise ``DeadLetterNotFound`` or ``LeaseHeld``."""
        await self._change(
            partial(verbs.remove, dead_letter_id=dead_letter_id), lambda: f"delete {dead_letter_id}"
        )

    def _opened(self) -> _Threads:
        threads = self._threads
        if threads is None:
            raise StoreUnavailable(
                f"the dead-letter store {self._database} is not open; await its open() first", retryable=False
            )
        return threads

    async def _read(self, work: Callable[[Connection], T]) -> T:
        threads = self._opened()
        waiting: Waiter[T] = waiter()
        threads.readers.put(Read(work, waiting))
        return await waiting.wait()

    async def _change(self, work: Callable[[Connection, Deltas], T], about: Callable[[], str]) -> T:
        threads = self._opened()
        waiting: Waiter[T] = waiter(about)
        threads.writer.put(Change(work, waiting))
        return await waiting.wait()

    def _unfit(self, letters: Sequence[DeadLetter], error: Exception) -> StoreUnavailable:
        return StoreUnavailable(
            f"the dead-letter store {self._database} cannot hold {_adding(letters)}: {error}", retryable=False
        )


def _adding(letters: Sequence[DeadLetter]) -> str:
    return "dead letters " + ", ".join(letter.id for letter in letters)
