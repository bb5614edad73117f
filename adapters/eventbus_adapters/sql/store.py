"""``SqlStore``: the dead-letter store in an SQL database. No logic of its own: it hands work to threads."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic_core import PydanticSerializationError

from eventbus_adapters.sql import (
    claims,
    due,
    finding,
    leasing,
    processes,
    rescuing,
    sequences,
    settling,
    spooling,
    totals,
    verbs,
)
from eventbus_adapters.sql.bridge import BlockingWaiter, waiter
from eventbus_adapters.sql.control_store import SqlControlStore
from eventbus_adapters.sql.cursor import position_of
from eventbus_adapters.sql.encoding import row_of
from eventbus_adapters.sql.work import Add, Change
from eventbus_dlq.errors import StoreUnavailable
from eventbus_dlq.letter import Verb

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from eventbus_adapters.sql.bridge import Waiter
    from eventbus_adapters.sql.sessions import Guest
    from eventbus_dlq.letter import DeadLetter, DeadLetterState
    from eventbus_dlq.query import DeadLetterQuery, Page
    from eventbus_dlq.stats import Stats
    from eventbus_dlq.store import (
        Claim,
        Kept,
        Lease,
        Leased,
        Order,
        Process,
        SequenceKey,
        Settlement,
        Spooled,
    )

_MAX_LIMIT = 1_000


class SqlStore(SqlControlStore):
    """Keeps dead letters in an SQLite file or a PostgreSQL database, which several processes may share.

    Writes of all callers are committed together, so that many callers cost little more than one; reads run
    beside them. It serves asyncio and trio, and several loops at a time. It may be opened again after a
    close.

    Args:
        url: ``sqlite+aiosqlite:///file.db`` or ``sqlite:///file.db``, which mean the same. The file and
            its tables are created by the first ``open``, its directory is not. Or
            ``postgresql+asyncpg://user:password@host/database``, ``postgresql://`` or ``postgres://``, with
            the parameters that libpq knows (``?sslmode=verify-full``); the tables are created by the first
            ``open``, the database is not. It needs the extra ``eventbus[postgres]``.
        synchronous: ``FULL`` makes every write durable before its caller goes on. ``NORMAL`` does not wait
            for the disk: after a power failure or a crash of the machine the latest writes may be missing,
            although their callers were told that they are kept. A crash of the process alone loses nothing.
        busy_timeout: seconds to wait for somebody else who is writing, before ``StoreUnavailable``.
        timeout: seconds to wait for a connection to PostgreSQL, and for each statement there.

    Raises:
        ValueError: the URL names no such database, or an option has no such value.
        ModuleNotFoundError: a library that the URL needs is not installed.
    """

    async def accept(self, deliveries: Sequence[DeadLetter]) -> Sequence[Kept]:
        """Commit deliveries that have not run yet; return where each is kept, in order.

        Raises:
            StoreUnavailable: they could not be committed; none of them is kept.
            ValueError: an id is already taken by the letter of another event or handler.
        """
        return await self._take_in("accept", deliveries)

    async def add(self, letters: Sequence[DeadLetter]) -> Sequence[str]:
        """Commit new letters; return the ids under which they are kept, in order.

        Raises:
            StoreUnavailable: they could not be committed; none of them is kept.
            ValueError: an id is already taken by the letter of another event or handler.
        """
        return await self._take_in("add", letters)

    async def accept_in(self, session: Any, deliveries: Sequence[DeadLetter]) -> Sequence[Kept]:
        """Write deliveries in the transaction of an ``AsyncSession``; return where each is kept, in order.

        Nothing of the session's own is flushed. What comes parked by a control is taken in accepted: the
        claim that meets it parks it. Deliveries become visible with its commit; a rollback, of the
        transaction or of the savepoint that it is in, leaves nothing. On SQLite the session writes from
        then on, and this store and everybody else wait for its end, up to their ``busy_timeout``: keep the
        transaction short. The session itself waits as long as its engine says (``connect_args={"timeout":
        seconds}``). sqlite3 begins no transaction before a savepoint unless the engine is told to, see
        SQLAlchemy's documentation of the dialect, and the release of a first savepoint commits then: within
        one it is refused, unless there are deliveries in the transaction around it.

        Raises:
            InvalidSession: it is no ``AsyncSession``, is on another database, in AUTOCOMMIT, finds no tables
                of eventbus, is closed or failed, or has a PostgreSQL transaction above READ COMMITTED that is
                to keep an order; nothing was written.
            StoreUnavailable: the store is not open, or the database failed; the cause is SQLAlchemy's error.
        """
        guest = self._guest(deliveries)
        return await guest.enter_async(session) if deliveries else []

    def accept_in_sync(self, session: Any, deliveries: Sequence[DeadLetter]) -> Sequence[Kept]:
        """Do the same with a synchronous ``Session``, in its thread; needs no event loop."""
        guest = self._guest(deliveries)
        return guest.enter(session) if deliveries else []

    async def spool_position(self, spool_id: str) -> int:
        """Return up to which byte a spool was imported; 0 for one that is not known."""
        return await self._read(partial(spooling.position, spool_id=spool_id))

    async def import_spool(
        self, spool_id: str, writes: Sequence[Spooled], *, start: int, end: int, now: datetime
    ) -> bool:
        """Carry out writes of a spool file and note its new position; False when it is not ``start``."""
        work = partial(
            spooling.import_spool,
            spool_id=spool_id,
            writes=tuple(writes),
            start=start,
            end=end,
            now=now,
            known=self._known,
        )
        keys = [
            (it.letter.handler_id, it.letter.ordering_key)
            for it in writes
            if it.letter.ordering_key is not None
        ]
        return await self._change(work, lambda: f"import {len(writes)} writes of spool {spool_id}", keys=keys)

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
        return await self._read(partial(totals.stats, now=now, tenants=tenants, known=self._known))

    async def blocked(self, handlers: Collection[str]) -> frozenset[SequenceKey]:
        """Return the sequences of ``handlers`` that have open letters."""
        wanted = tuple(handlers)
        return await self._read(lambda connection: sequences.blocked(connection, wanted))

    async def claim(
        self, dead_letter_ids: Sequence[str], *, owner: str, lease: float, now: datetime
    ) -> Sequence[Claim | Exception]:
        """Take letters for a run; what cannot be claimed has its error in its place."""
        work = partial(
            claims.claim, ids=tuple(dead_letter_ids), owner=owner, lease=lease, now=now, known=self._known
        )
        return await self._change(work, lambda: f"claim {dead_letter_ids}", alone=dead_letter_ids)

    async def claim_due(
        self,
        wanted: Mapping[str, int],
        *,
        states: Collection[DeadLetterState],
        limit: int,
        owner: str,
        lease: float,
        now: datetime,
    ) -> Sequence[Claim]:
        """Take what is due for a run, the most urgent first; park some 5,000 of what is closed."""
        work = partial(
            due.claim_due,
            wanted=dict(wanted),
            states=frozenset(states),
            limit=limit,
            owner=owner,
            lease=lease,
            now=now,
            known=self._known,
        )
        found = await self._change(work, lambda: f"claim what is due of {sorted(wanted)}")
        wake = self._wake
        if found.goes_on and wake is not None:
            wake()
        claims, broken = leasing.granted(found.rows)
        if broken:
            aside = partial(leasing.set_aside_broken, broken=broken, owner=owner, now=now)
            await self._change(aside, lambda: f"set aside {len(broken)} rows that cannot be understood")
        return claims

    def heartbeat(self, leases: Sequence[Lease], *, lease: float, now: datetime) -> Sequence[Lease]:
        """Extend leases to ``lease`` seconds from now; return those that are lost. It blocks."""
        waiting: BlockingWaiter[Sequence[Lease]] = BlockingWaiter()
        work = partial(claims.heartbeat, leases=tuple(leases), lease=lease, now=now)
        self._opened().write(Change(work, waiting, urgent=True))
        return waiting.block()

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime) -> Sequence[Lease]:
        """Record how claimed runs ended; return the leases that were lost."""
        work = partial(settling.settle, settlements=tuple(settlements), now=now)
        ids = [it.lease.dead_letter_id for it in settlements]
        about = lambda: f"settle {[it.lease for it in settlements]}"  # noqa: E731  # made when it is needed
        return await self._change(work, about, ids=ids, divisible=True)

    async def release(self, leases: Sequence[Lease], *, now: datetime) -> Sequence[Lease]:
        """Give claimed letters back to the state before, uncharged; return the lost leases."""
        work = partial(claims.release, leases=tuple(leases), now=now)
        ids = [it.dead_letter_id for it in leases]
        return await self._change(work, lambda: f"release {leases}", ids=ids, divisible=True)

    async def leased(self, *, now: datetime, owner: str | None = None) -> Sequence[Leased]:
        """Return the letters that are running; on PostgreSQL those whose lease has run out."""
        return await self._read(partial(rescuing.leased, now=now, judges=self.judges_leases, owner=owner))

    async def rescue(
        self, leased: Sequence[Leased], *, max_crashes: int, now: datetime
    ) -> Sequence[DeadLetter]:
        """Take letters back from owners that have died; return them as they are then."""
        work = partial(
            rescuing.rescue,
            leased=tuple(leased),
            max_crashes=max_crashes,
            now=now,
            judges=self.judges_leases,
        )
        ids = [it.dead_letter_id for it in leased]
        return await self._change(work, lambda: f"rescue {ids}", ids=ids, divisible=True)

    async def announce(self, process: Process) -> None:
        """Keep a process's row as it is given, in place of an earlier one of the same id."""
        await self._change(
            lambda connection, _: processes.announce(connection, process), lambda: f"announce {process.id}"
        )

    async def withdraw(self, process_id: str) -> None:
        """Remove the row of a process that ends. What it has announced stays known."""
        await self._change(
            lambda connection, _: processes.withdraw(connection, process_id), lambda: f"withdraw {process_id}"
        )

    async def processes(self) -> Sequence[Process]:
        """Return the rows of all processes, dead ones included, by id."""
        return await self._read(processes.all_processes)

    async def exhaust_unhandled(self, *, since: datetime, now: datetime) -> Sequence[str]:
        """Make deliveries ``exhausted/unhandled`` whose handler no process has announced since then."""
        work = partial(processes.exhaust_unhandled, since=since, now=now)
        return await self._change(work, lambda: "exhaust what is unhandled")

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
        return await self._change(work, lambda: f"{verb} {dead_letter_id}", ids=[dead_letter_id])

    async def delete(self, dead_letter_id: str) -> None:
        """Remove a letter, or raise ``DeadLetterNotFound`` or ``LeaseHeld``."""
        await self._change(
            partial(verbs.remove, dead_letter_id=dead_letter_id),
            lambda: f"delete {dead_letter_id}",
            ids=[dead_letter_id],
        )

    async def _take_in(self, verb: Literal["add", "accept"], letters: Sequence[DeadLetter]) -> Sequence[Any]:
        if not letters:
            return []
        running = self._opened()
        try:
            rows = [row_of(letter) for letter in letters]
        except PydanticSerializationError as error:
            raise self._unfit(letters, error) from error
        waiting: Waiter[Sequence[Any]] = waiter(partial(_adding, letters))
        running.write(Add(letters, rows, waiting, verb, self._known))
        return await waiting.wait()

    def _guest(self, deliveries: Sequence[DeadLetter]) -> Guest:
        from eventbus_adapters.sql.sessions import Guest  # with SQLAlchemy's ORM, which is slow to load

        home = self._opened().home
        try:
            rows = [row_of(delivery) for delivery in deliveries]
        except PydanticSerializationError as error:
            raise self._unfit(deliveries, error) from error
        return Guest(deliveries, rows, home=home, after_commit=self._after_commit)

    def _unfit(self, letters: Sequence[DeadLetter], error: Exception) -> StoreUnavailable:
        return StoreUnavailable(
            f"the dead-letter store {self._database} cannot hold {_adding(letters)}: {error}", retryable=False
        )


def _adding(letters: Sequence[DeadLetter]) -> str:
    return "dead letters " + ", ".join(letter.id for letter in letters)
