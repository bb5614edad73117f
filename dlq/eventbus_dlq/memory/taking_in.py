"""New deliveries and failures: ``accept``, ``add``, and what a spool file has kept meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbus_dlq import moves
from eventbus_dlq.letter import CLOSED_STATES, DeadLetterState
from eventbus_dlq.memory.rows import delivery_of, detached
from eventbus_dlq.store import Kept

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventbus_dlq.letter import DeadLetter
    from eventbus_dlq.memory.rows import Rows
    from eventbus_dlq.store import Spooled


def accept(rows: Rows, delivery: DeadLetter) -> Kept:
    """Keep a delivery that has not run, unless it is known; say where it is kept."""
    row = rows.known(delivery) or rows.insert(detached(delivery))
    return Kept(row.letter.id, row.letter.state)


def add(rows: Rows, letter: DeadLetter) -> str:
    """Keep a failure, or merge it into the row of its delivery; return the id that it is kept under."""
    known = rows.known(letter)
    if known is None:
        return rows.insert(detached(letter)).letter.id
    if known.letter.id != letter.id and known.letter.state is not DeadLetterState.RUNNING:
        rows.put(moves.merged(known.letter, detached(letter)), now=letter.updated_at)
    return known.letter.id


def add_from_spool(rows: Rows, letter: DeadLetter) -> None:
    """Do the same, and leave what is closed as it is: it may have been closed after the failure."""
    known = rows.known(letter)
    if known is None or known.letter.state not in CLOSED_STATES:
        add(rows, letter)


def import_writes(rows: Rows, writes: Sequence[Spooled]) -> None:
    """Carry out the writes of a spool file, in order."""
    for write in writes:
        if write.verb == "accept":
            accept(rows, write.letter)
        else:
            add_from_spool(rows, write.letter)


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
