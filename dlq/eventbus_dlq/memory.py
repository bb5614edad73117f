"""The reference store: what ``eventbus_dlq.store`` promises, in plain Python."""

from __future__ import annotations

import base64
import itertools
import threading
from bisect import bisect_left, insort
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from eventbus_dlq import moves
from eventbus_dlq.errors import DeadLetterNotFound, InvalidCursor, LeaseHeld
from eventbus_dlq.letter import (
    DeadLetter,
    DeadLetterState,
    DeadLetterSummary,
    Verb,
    check_claim,
    check_verb,
)
from eventbus_dlq.query import Page
from eventbus_dlq.recount import recount
from eventbus_dlq.store import Claim, Lease

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from eventbus_dlq.query import DeadLetterQuery
    from eventbus_dlq.stats import Stats
    from eventbus_dlq.store import Order, Settlement

_MAX_LIMIT = 1_000
_MAX_EXAMINED = 1_000
_MAX_SUMMARY_MESSAGE = 500
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class _Position(NamedTuple):
    """Where a letter stands in every listing: by time, then by insertion."""

    microseconds: int
    number: int
    dead_letter_id: str = ""


@dataclass(frozen=True, slots=True)
class _Row:
    """A letter with what the store alone knows of it."""

    letter: DeadLetter
    position: _Position
    before: DeadLetterState | None = None
    """The state that a release restores; None when it arrived running."""


class MemoryStore:
    """Keeps dead letters in this process: for tests, and as the reference for every other store.

    It does no I/O and nothing survives the process, so a bus in production wants another one.
    Letters do survive :meth:`close`. It may be used from asyncio, from trio and from several threads
    at a time; every method is one step under one lock. ``DeadLetterStore`` says what each does.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[str, _Row] = {}
        self._id_of: dict[tuple[str, str], str] = {}
        self._order: list[_Position] = []
        self._numbers = itertools.count()

    async def open(self) -> None:
        """Do nothing: the store is ready as it is."""

    async def close(self) -> None:
        """Do nothing: there is nothing to flush, and the letters stay."""

    async def add(self, letters: Sequence[DeadLetter]) -> Sequence[str]:
        """Keep new letters; return the ids under which they are kept, in order.

        Raises:
            ValueError: an id is already taken by the letter of another event or handler.
        """
        own = [_detached(letter) for letter in letters]
        with self._lock:
            self._refuse_taken_ids(own)
            return [self._add(letter) for letter in own]

    async def get(self, dead_letter_id: str) -> DeadLetter:
        """Return one letter, whole, or raise ``DeadLetterNotFound``."""
        with self._lock:
            return _detached(self._row(dead_letter_id).letter)

    async def find(
        self, query: DeadLetterQuery, *, limit: int = 50, cursor: str | None = None, order: Order = "newest"
    ) -> Page:
        """Return a page of summaries; a call examines at most 1,000 letters.

        Raises:
            InvalidCursor: the cursor is not from this method with this ``order``.
            ValueError: ``limit`` is not between 1 and 1,000, or there is no such ``order``.
        """
        if not 1 <= limit <= _MAX_LIMIT:
            raise ValueError(f"limit={limit!r} must be from 1 to {_MAX_LIMIT}")
        if order not in ("newest", "oldest"):
            raise ValueError(f"order={order!r} must be 'newest' or 'oldest'")
        after = None if cursor is None else _decoded(cursor, order)
        items: list[DeadLetterSummary] = []
        examined = 0
        with self._lock:
            for position in self._after(after, order):
                if len(items) == limit or examined == _MAX_EXAMINED:
                    return Page(tuple(items), None if after is None else _encoded(after, order))
                summary = _summary(self._rows[position.dead_letter_id].letter)
                if query.matches(summary):
                    items.append(summary)
                examined += 1
                after = position
        return Page(tuple(items), None)

    async def stats(self, *, now: datetime, tenants: Collection[str] | None = None) -> Stats:
        """Return the totals, counted anew over all letters or those of ``tenants``."""
        with self._lock:
            letters = [row.letter for row in self._rows.values()]
        return recount([it for it in letters if tenants is None or it.tenant in tenants], now)

    async def claim(
        self, dead_letter_ids: Sequence[str], *, owner: str, lease: float, now: datetime
    ) -> Sequence[Claim | Exception]:
        """Take letters for a run; what cannot be claimed has its error in its place."""
        with self._lock:
            return [self._claim(it, owner=owner, lease=lease, now=now) for it in dead_letter_ids]

    async def heartbeat(self, leases: Sequence[Lease], *, lease: float, now: datetime) -> Sequence[Lease]:
        """Extend leases to ``lease`` seconds from now; return those that are lost."""
        until = now + timedelta(seconds=lease)

        def extended(row: _Row) -> DeadLetter:
            return replace(row.letter, lease_until=until)

        with self._lock:
            return [it for it in leases if not self._move(it, extended)]

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime) -> Sequence[Lease]:
        """Record how claimed runs ended; return the leases that were lost."""
        with self._lock:
            return [it.lease for it in settlements if not self._settle(it, now)]

    async def release(self, leases: Sequence[Lease], *, now: datetime) -> Sequence[Lease]:
        """Give claimed letters back to the state before, uncharged; return the lost leases."""

        def released(row: _Row) -> DeadLetter:
            return moves.released(row.letter, row.before, now=now)

        with self._lock:
            return [it for it in leases if not self._move(it, released)]

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
            row = self._row(dead_letter_id)
            check_verb(verb, dead_letter_id, row.letter.state)
            letter = moves.changed(row.letter, verb, now=now, by=by, note=note, until=until)
            self._rows[dead_letter_id] = replace(row, letter=letter)
        return _detached(letter)

    async def delete(self, dead_letter_id: str) -> None:
        """Remove a letter that is not running, or raise ``DeadLetterNotFound`` or ``LeaseHeld``."""
        with self._lock:
            row = self._row(dead_letter_id)
            check_verb(Verb.DELETE, dead_letter_id, row.letter.state)
            del self._rows[dead_letter_id]
            del self._id_of[_key(row.letter)]
            del self._order[bisect_left(self._order, row.position)]

    def _row(self, dead_letter_id: str) -> _Row:
        row = self._rows.get(dead_letter_id)
        if row is None:
            raise DeadLetterNotFound(dead_letter_id)
        return row

    def _refuse_taken_ids(self, letters: Sequence[DeadLetter]) -> None:
        taken = {it.id: _key(self._rows[it.id].letter) for it in letters if it.id in self._rows}
        for letter in letters:
            taker = taken.setdefault(letter.id, _key(letter))
            if taker != _key(letter):
                raise ValueError(
                    f"id {letter.id!r} of the letter for {_key(letter)!r} is taken by {taker!r}; "
                    "make a new one with eventbus.ids.new_id()"
                )

    def _add(self, letter: DeadLetter) -> str:
        known_id = self._id_of.get(_key(letter))
        if known_id is not None:
            row = self._rows[known_id]
            if known_id != letter.id and row.letter.state is not DeadLetterState.RUNNING:
                self._rows[known_id] = _Row(moves.merged(row.letter, letter), row.position)
            return known_id
        microseconds = (letter.created_at - _EPOCH) // _MICROSECOND
        position = _Position(microseconds, next(self._numbers), letter.id)
        self._rows[letter.id] = _Row(letter, position)
        self._id_of[_key(letter)] = letter.id
        insort(self._order, position)
        return letter.id

    def _after(self, after: _Position | None, order: Order) -> Iterator[_Position]:
        """Yield the positions behind ``after`` in ``order``; whether ``after`` still exists is all one."""
        if order == "oldest":
            start = 0 if after is None else bisect_left(self._order, (after.microseconds, after.number + 1))
            return itertools.islice(self._order, start, None)
        end = len(self._order)
        if after is not None:
            end = bisect_left(self._order, (after.microseconds, after.number))
        return (self._order[index] for index in range(end - 1, -1, -1))

    def _claim(self, dead_letter_id: str, *, owner: str, lease: float, now: datetime) -> Claim | Exception:
        row = self._rows.get(dead_letter_id)
        if row is None:
            return DeadLetterNotFound(dead_letter_id)
        letter = row.letter
        rescued = letter.state is DeadLetterState.RUNNING
        if rescued and letter.lease_until is not None and now < letter.lease_until:
            return LeaseHeld(
                f"dead letter {dead_letter_id} is run by {letter.lease_owner!r} until {letter.lease_until}; "
                "try again when it has settled"
            )
        if not rescued:
            try:
                check_claim(dead_letter_id, letter.state)
            except Exception as error:
                return error
        running = moves.claimed(letter, owner=owner, lease=lease, now=now)
        before = row.before if rescued else letter.state
        self._rows[dead_letter_id] = replace(row, letter=running, before=before)
        return Claim(
            letter=_detached(running),
            lease=Lease(dead_letter_id=dead_letter_id, token=running.token),
            rescued=rescued,
        )

    def _settle(self, settlement: Settlement, now: datetime) -> bool:
        return self._move(settlement.lease, lambda row: moves.settled(row.letter, settlement, now=now))

    def _move(self, lease: Lease, move: Callable[[_Row], DeadLetter]) -> bool:
        """Replace the letter under ``lease``; return False, and change nothing, when it is lost."""
        row = self._rows.get(lease.dead_letter_id)
        if row is None or row.letter.state is not DeadLetterState.RUNNING or row.letter.token != lease.token:
            return False
        self._rows[lease.dead_letter_id] = replace(row, letter=move(row))
        return True


def _key(letter: DeadLetter) -> tuple[str, str]:
    return (letter.event_id, letter.handler_id)


def _detached(letter: DeadLetter) -> DeadLetter:
    """Return ``letter`` with mappings and a decoded payload of its own, which nobody else can change."""
    return replace(letter, headers=dict(letter.headers), annotations=deepcopy(dict(letter.annotations)))


_OF_THE_ERROR = {"error_type": "type", "kind": "kind", "category": "category", "route": "route"}
_PLAIN_FIELDS = tuple(
    it.name for it in fields(DeadLetterSummary) if it.name not in {*_OF_THE_ERROR, "error_message"}
)


def _summary(letter: DeadLetter) -> DeadLetterSummary:
    values: dict[str, Any] = {name: getattr(letter, name) for name in _PLAIN_FIELDS}
    values.update((name, str(getattr(letter.error, source))) for name, source in _OF_THE_ERROR.items())
    return DeadLetterSummary(**values, error_message=letter.error.message[:_MAX_SUMMARY_MESSAGE])


def _encoded(position: _Position, order: Order) -> str:
    text = f"{order}:{position.microseconds}:{position.number}"
    return base64.urlsafe_b64encode(text.encode()).decode()


def _decoded(cursor: str, order: Order) -> _Position:
    refusal = f"cursor {cursor[:40]!r} is not from a listing with order={order!r}; start without one"
    try:
        _, microseconds, number = base64.urlsafe_b64decode(cursor).decode().split(":")
        position = _Position(int(microseconds), int(number))
    except ValueError:
        raise InvalidCursor(refusal) from None
    if _encoded(position, order) != cursor:
        raise InvalidCursor(refusal)
    return position
