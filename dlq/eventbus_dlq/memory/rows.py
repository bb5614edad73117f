"""The rows of the memory store, and the ways to find one."""

from __future__ import annotations

import itertools
from bisect import bisect_left, insort
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from eventbus_dlq.closing import is_held
from eventbus_dlq.errors import DeadLetterNotFound
from eventbus_dlq.letter import DeadLetter, DeadLetterState
from eventbus_dlq.memory.sequences import Line, is_open, sequence_of
from eventbus_dlq.moves import as_follower, as_head, held_back

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from eventbus_dlq.store import Order, SequenceKey

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Position(NamedTuple):
    """Where a letter stands in every listing: by time, then by insertion."""

    microseconds: int
    number: int
    dead_letter_id: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A letter with what the store alone knows of it.

    Attributes:
        letter: the letter.
        position: its place in listings; its number is its place in a sequence.
        before: the state that a release restores, or a control that opens; None when it arrived running,
            or is at rest.
        queued_at: since when it has been accepted and claimable; None while it is not.
    """

    letter: DeadLetter
    position: Position
    before: DeadLetterState | None = None
    queued_at: datetime | None = None


class Rows:
    """All rows, by id, by event and handler, by time, by what may be claimed, and by sequence."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}
        self._id_of: dict[tuple[str, str], str] = {}
        self._order: list[Position] = []
        self._numbers = itertools.count()
        self._claimable: dict[str, None] = {}
        self._held: dict[str, None] = {}
        self._lines: dict[SequenceKey, Line] = {}

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows.values())

    def find(self, dead_letter_id: str) -> Row | None:
        """Return the row of an id, or None."""
        return self._rows.get(dead_letter_id)

    def __getitem__(self, dead_letter_id: str) -> Row:
        """Return the row of an id, or raise ``DeadLetterNotFound``."""
        row = self._rows.get(dead_letter_id)
        if row is None:
            raise DeadLetterNotFound(dead_letter_id)
        return row

    def known(self, letter: DeadLetter) -> Row | None:
        """Return the row of the same event and handler, or None."""
        known_id = self._id_of.get(delivery_of(letter))
        return None if known_id is None else self._rows[known_id]

    def claimable(self) -> Iterable[Row]:
        """Return what is accepted or pending and does not wait."""
        return [self._rows[it] for it in self._claimable]

    def held(self) -> Sequence[Row]:
        """Return what controls have parked, the oldest first."""
        return sorted((self._rows[it] for it in self._held), key=lambda row: row.position)

    def sequences(self) -> Iterable[SequenceKey]:
        """Return the sequences that have open letters."""
        return self._lines.keys()

    def insert(self, letter: DeadLetter) -> Row:
        """Keep a letter whose event and handler are not known yet; return its row."""
        microseconds = (letter.created_at - _EPOCH) // _MICROSECOND
        claimed = letter.state is DeadLetterState.RUNNING and letter.error is None
        before = DeadLetterState.ACCEPTED if claimed else None
        position = Position(microseconds, next(self._numbers), letter.id)
        row = Row(replace(letter, waits=False), position, before)
        self._id_of[delivery_of(letter)] = letter.id
        insort(self._order, row.position)
        return self._place(row, now=None)

    def put(self, letter: DeadLetter, *, now: datetime | None, before: DeadLetterState | None = None) -> Row:
        """Replace a row's letter, and let its sequence move on; return the row as it is then."""
        return self._place(replace(self._rows[letter.id], letter=letter, before=before), now=now)

    def remove(self, row: Row) -> None:
        """Forget a row, and let its sequence move on."""
        letter = row.letter
        del self._rows[letter.id]
        del self._id_of[delivery_of(letter)]
        del self._order[bisect_left(self._order, row.position)]
        self._claimable.pop(letter.id, None)
        self._held.pop(letter.id, None)
        key = sequence_of(letter)
        if key is not None and is_open(letter):
            line = self._lines[key]
            former = line.head
            line.leave(letter.id)
            self._arrange(key, former, now=None)

    def after(self, after: Position | None, order: Order) -> Iterator[Position]:
        """Yield the positions behind ``after`` in ``order``; whether ``after`` still exists is all one."""
        if order == "oldest":
            start = 0 if after is None else bisect_left(self._order, (after.microseconds, after.number + 1))
            return itertools.islice(self._order, start, None)
        end = len(self._order)
        if after is not None:
            end = bisect_left(self._order, (after.microseconds, after.number))
        return (self._order[index] for index in range(end - 1, -1, -1))

    def _place(self, row: Row, *, now: datetime | None) -> Row:
        letter = row.letter
        key = sequence_of(letter)
        if key is None:
            return self._write(row, now=now)
        line = self._lines.setdefault(key, Line())
        former = line.head
        if is_open(letter) and letter.id not in line:
            line.enter(row.position.number, letter.id)
        elif letter.id in line and not is_open(letter):
            line.leave(letter.id)
        waits = is_open(letter) and letter.id != line.head
        self._write(replace(row, letter=replace(letter, waits=waits)), now=now)
        self._arrange(key, former, now=now)
        return self._rows[letter.id]

    def _write(self, row: Row, *, now: datetime | None) -> Row:
        """Keep ``row`` as it is, and what the indexes say of it."""
        letter = row.letter
        is_queued = letter.state is DeadLetterState.ACCEPTED and not letter.waits
        since = row.queued_at or now or letter.created_at
        row = replace(row, queued_at=since if is_queued else None)
        self._rows[letter.id] = row
        if is_queued or (letter.state is DeadLetterState.PENDING and not letter.waits):
            self._claimable[letter.id] = None
        else:
            self._claimable.pop(letter.id, None)
        if is_held(letter):
            self._held[letter.id] = None
        else:
            self._held.pop(letter.id, None)
        key = sequence_of(letter)
        if key is not None and is_open(letter):
            self._lines[key].note(letter, row.before)
        return row

    def _arrange(self, key: SequenceKey, former: str | None, *, now: datetime | None) -> None:
        """Let the head of a sequence go first, and park what a failure holds back."""
        line = self._lines[key]
        if line.head is None:
            del self._lines[key]
            return
        if line.head != former:
            self._alter(line.head, as_head, now=now)
            if former is not None and former in line:
                self._alter(former, as_follower, now=now)
        for dead_letter_id in line.held_back():
            self._alter(dead_letter_id, held_back, now=now)

    def _alter(
        self, dead_letter_id: str, move: Callable[[DeadLetter], DeadLetter], *, now: datetime | None
    ) -> None:
        row = self._rows[dead_letter_id]
        letter = move(row.letter)
        if now is not None and letter.state is not row.letter.state:
            letter = replace(letter, updated_at=now)
        self._write(replace(row, letter=letter), now=now)


def delivery_of(letter: DeadLetter) -> tuple[str, str]:
    """Return what names a delivery: its event's id and its handler's."""
    return (letter.event_id, letter.handler_id)


def detached(letter: DeadLetter) -> DeadLetter:
    """Return ``letter`` with mappings and a decoded payload of its own, which nobody else can change."""
    return replace(letter, headers=dict(letter.headers), annotations=deepcopy(dict(letter.annotations)))
