"""New deliveries and failures: ``accept``, ``add``, and what a spool file has kept meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbus_dlq import moves
from eventbus_dlq.closing import is_held
from eventbus_dlq.letter import CLOSED_STATES, DeadLetterState
from eventbus_dlq.memory import parking
from eventbus_dlq.memory.rows import delivery_of, detached
from eventbus_dlq.store import Kept

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from eventbus_dlq.letter import DeadLetter
    from eventbus_dlq.memory.announcements import Announcements
    from eventbus_dlq.memory.controls import Controls
    from eventbus_dlq.memory.rows import Row, Rows
    from eventbus_dlq.store import Spooled


def accept(rows: Rows, controls: Controls, delivery: DeadLetter, *, now: datetime) -> Kept:
    """Keep a delivery that has not run, unless it is known; say where it is kept."""
    row = rows.known(delivery) or _take_in(rows, controls, detached(delivery), now=now)
    return Kept(row.letter.id, row.letter.state)


def _take_in(rows: Rows, controls: Controls, delivery: DeadLetter, *, now: datetime) -> Row:
    if is_held(delivery):
        return parking.take_in(rows, controls, delivery, now=now)
    return rows.insert(delivery)


def add(rows: Rows, announcements: Announcements, letter: DeadLetter) -> str:
    """Keep a failure, or merge it into the row of its delivery; return the id that it is kept under."""
    known = rows.known(letter)
    if known is None:
        row = rows.insert(detached(letter))
        announcements.note(row.letter, at=letter.updated_at)
        return letter.id
    if known.letter.id != letter.id and known.letter.state is not DeadLetterState.RUNNING:
        row = rows.put(moves.merged(known.letter, detached(letter)), now=letter.updated_at)
        if known.letter.state is not DeadLetterState.EXHAUSTED:
            announcements.note(row.letter, at=letter.updated_at)
    return known.letter.id


def add_from_spool(rows: Rows, announcements: Announcements, letter: DeadLetter) -> None:
    """Do the same, and leave what is closed as it is: it may have been closed after the failure."""
    known = rows.known(letter)
    if known is None or known.letter.state not in CLOSED_STATES:
        add(rows, announcements, letter)


def import_writes(
    rows: Rows, controls: Controls, announcements: Announcements, writes: Sequence[Spooled], *, now: datetime
) -> None:
    """Carry out the writes of a spool file, in order."""
    for write in writes:
        if write.verb == "accept":
            accept(rows, controls, write.letter, now=now)
        else:
            add_from_spool(rows, announcements, write.letter)


def refuse_taken_ids(rows: Rows, letters: Sequence[DeadLetter]) -> None:
    """Let new letters pass, or raise ``ValueError`` when one has the id of another delivery's."""
    taken = {it.id: delivery_of(row.letter) for it in letters if (row := rows.find(it.id)) is not None}
    for letter in letters:
        taker = taken.setdefault(letter.id, delivery_of(letter))
        if taker != delivery_of(letter):
            raise ValueError(
                f"id {letter.id!r} of the letter for {delivery_of(letter)!r} is taken by {taker!r}; "
                "make a new one with eventbus.ids.new_id()"
            )
