"""The face of the memory store: one lock, and one step under it for each method of the contract."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from eventbus_dlq import closing, moves
from eventbus_dlq.errors import InvalidSession
from eventbus_dlq.letter import Verb, check_verb
from eventbus_dlq.memory import listing, running, taking_in
from eventbus_dlq.memory.control_store import MemoryControlStore
from eventbus_dlq.memory.processes import exhaust_unhandled
from eventbus_dlq.memory.rows import detached
from eventbus_dlq.recount import recount
from eventbus_dlq.store import SequenceKey

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime

    from eventbus_dlq.letter import DeadLetter, DeadLetterState
    from eventbus_dlq.query import DeadLetterQuery, Page
    from eventbus_dlq.stats import Stats
    from eventbus_dlq.store import Claim, Kept, Lease, Leased, Order, Process, Settlement, Spooled


class MemoryStore(MemoryControlStore):
    """Keeps deliveries and dead letters in this process: for tests, and as the reference for other stores.

    It does no I/O and nothing survives the process, so a bus in production wants another one.
    Letters do survive :meth:`close`. It may be used from asyncio, from trio and from several threads
    at a time; every method is one step under one lock. ``DeadLetterStore`` says what each does.
    """

    def __init__(self) -> None:
        super().__init__()
        self._spools: dict[str, int] = {}

    @property
    def judges_leases(self) -> bool:
        """False: a rescuer watches a letter for a whole lease by its own clock."""
        return False

    async def open(self) -> None:
        """Do nothing: the store is ready as it is."""

    async def close(self) -> None:
        """Do nothing: there is nothing to flush, and the letters stay."""

    def on_work(self, wake: Callable[[], None] | None) -> None:
        """Do nothing: no other process can put anything in."""

    # -- taking in

    async def accept(self, deliveries: Sequence[DeadLetter]) -> Sequence[Kept]:
        """Keep deliveries that have not run yet; say where each is kept, in order.

        Raises:
            ValueError: an id is already taken by the letter of another event or handler.
        """
        with self._lock:
            taking_in.refuse_taken_ids(self._rows, deliveries)
            return [taking_in.accept(self._rows, self._controls, it, now=it.updated_at) for it in deliveries]

    async def add(self, letters: Sequence[DeadLetter]) -> Sequence[str]:
        """Keep new letters; return the ids under which they are kept, in order.

        Raises:
            ValueError: an id is already taken by the letter of another event or handler.
        """
        with self._lock:
            taking_in.refuse_taken_ids(self._rows, letters)
            return [taking_in.add(self._rows, self._announcements, it) for it in letters]

    async def spool_position(self, spool_id: str) -> int:
        """Return up to which byte a spool was imported; 0 for one that is not known."""
        with self._lock:
            return self._spools.get(spool_id, 0)

    async def import_spool(
        self, spool_id: str, writes: Sequence[Spooled], *, start: int, end: int, now: datetime
    ) -> bool:
        """Carry out writes of a spool file, unless its position is not ``start`` any more.

        Raises:
            ValueError: an id is already taken by the letter of another event or handler.
        """
        with self._lock:
            if self._spools.get(spool_id, 0) != start:
                return False
            taking_in.refuse_taken_ids(self._rows, [it.letter for it in writes])
            taking_in.import_writes(self._rows, self._controls, self._announcements, writes, now=now)
            self._spools[spool_id] = end
            return True

    async def accept_in(self, session: Any, deliveries: Sequence[DeadLetter]) -> NoReturn:
        """Refuse: there is no transaction of a database to take part in.

        Raises:
            InvalidSession: always.
        """
        raise _takes_no_part(session)

    def accept_in_sync(self, session: Any, deliveries: Sequence[DeadLetter]) -> NoReturn:
        """Refuse in the same way.

        Raises:
            InvalidSession: always.
        """
        raise _takes_no_part(session)

    # -- looking

    async def get(self, dead_letter_id: str) -> DeadLetter:
        """Return one letter, whole, or raise ``DeadLetterNotFound``."""
        with self._lock:
            return detached(self._rows[dead_letter_id].letter)

    async def find(
        self, query: DeadLetterQuery, *, limit: int = 50, cursor: str | None = None, order: Order = "newest"
    ) -> Page:
        """Return a page of summaries; a call examines at most 1,000 letters.

        Raises:
            InvalidCursor: the cursor is not from this method with this ``order``.
            ValueError: ``limit`` is not between 1 and 1,000, or there is no such ``order``.
        """
        listing.check(limit, order)
        after = None if cursor is None else listing.position_of(cursor, order)
        with self._lock:
            return listing.page(self._rows, query, limit=limit, after=after, order=order)

    async def stats(self, *, now: datetime, tenants: Collection[str] | None = None) -> Stats:
        """Return the totals, counted anew over all letters or those of ``tenants``."""
        with self._lock:
            letters = [row.letter for row in self._rows]
            controls = self._controls.all
        stats = recount([it for it in letters if tenants is None or it.tenant in tenants], now)
        paused, draining = closing.closed_scopes(controls, now, tenants)
        return replace(stats, paused=paused, draining=draining)

    async def blocked(self, handlers: Collection[str]) -> frozenset[SequenceKey]:
        """Return the sequences of ``handlers`` that have open letters."""
        with self._lock:
            return frozenset(key for key in self._rows.sequences() if key.handler_id in handlers)

    # -- running

    async def claim(
        self, dead_letter_ids: Sequence[str], *, owner: str, lease: float, now: datetime
    ) -> Sequence[Claim | Exception]:
        """Take letters for a run; what cannot be claimed has its error in its place."""
        with self._lock:
            return [
                running.claim(self._rows, self._controls, it, owner=owner, lease=lease, now=now)
                for it in dead_letter_ids
            ]

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
        """Take what is due for a run, the most urgent first; at most ``limit``; park what is closed."""
        with self._lock:
            return running.claim_due(
                self._rows,
                self._controls,
                wanted,
                states=states,
                limit=limit,
                owner=owner,
                lease=lease,
                now=now,
            )

    def heartbeat(self, leases: Sequence[Lease], *, lease: float, now: datetime) -> Sequence[Lease]:
        """Extend leases to ``lease`` seconds from now; return those that are lost."""
        until = now + timedelta(seconds=lease)
        with self._lock:
            return [it for it in leases if not running.extend(self._rows, it, until=until)]

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime) -> Sequence[Lease]:
        """Record how claimed runs ended; return the leases that were lost."""
        with self._lock:
            return [
                it.lease
                for it in settlements
                if not running.settle(self._rows, self._announcements, it, now=now)
            ]

    async def release(self, leases: Sequence[Lease], *, now: datetime) -> Sequence[Lease]:
        """Give claimed letters back to the state before, uncharged; return the lost leases."""
        with self._lock:
            return [it for it in leases if not running.release(self._rows, it, now=now)]

    async def leased(self, *, now: datetime, owner: str | None = None) -> Sequence[Leased]:
        """Return the letters that are running."""
        with self._lock:
            leased = running.leased(self._rows)
        return leased if owner is None else [it for it in leased if it.owner == owner]

    async def rescue(
        self, leased: Sequence[Leased], *, max_crashes: int, now: datetime
    ) -> Sequence[DeadLetter]:
        """Take letters back whose token and lease are as they were seen; return them as they are then."""
        with self._lock:
            taken = [
                running.rescue(self._rows, self._announcements, it, max_crashes=max_crashes, now=now)
                for it in leased
            ]
        return [letter for letter in taken if letter is not None]

    # -- the processes that share the store

    async def announce(self, process: Process) -> None:
        """Keep a process's row, in place of an earlier one of the same id."""
        with self._lock:
            self._processes.announce(process)

    async def withdraw(self, process_id: str) -> None:
        """Remove the row of a process that ends; its handlers stay announced."""
        with self._lock:
            self._processes.withdraw(process_id)

    async def processes(self) -> Sequence[Process]:
        """Return the rows of all processes, by id."""
        with self._lock:
            return self._processes.all()

    async def exhaust_unhandled(self, *, since: datetime, now: datetime) -> Sequence[str]:
        """Give up deliveries whose handler nobody has announced ``since`` then; return their ids."""
        with self._lock:
            return exhaust_unhandled(self._rows, self._processes, self._announcements, since=since, now=now)

    # -- deciding by hand

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
            InvalidTransition: its state does not allow the verb.
            ValueError: the verb is delete.
        """
        if verb is Verb.DELETE:
            raise ValueError("delete leaves no letter to return; call delete() for it")
        with self._lock:
            letter = self._rows[dead_letter_id].letter
            check_verb(verb, dead_letter_id, letter.state)
            after = moves.changed(letter, verb, now=now, by=by, note=note, until=until)
            return detached(self._rows.put(after, now=now).letter)

    async def delete(self, dead_letter_id: str) -> None:
        """Remove a letter that is not running, or raise ``DeadLetterNotFound`` or ``LeaseHeld``."""
        with self._lock:
            row = self._rows[dead_letter_id]
            check_verb(Verb.DELETE, dead_letter_id, row.letter.state)
            self._rows.remove(row)


def _takes_no_part(session: object) -> InvalidSession:
    return InvalidSession(
        f"MemoryStore takes part in no database transaction, so not in that of {session!r} either; "
        "use eventbus_adapters.sql.SqlStore on the session's database, or publish without session="
    )
