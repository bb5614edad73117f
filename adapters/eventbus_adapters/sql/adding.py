"""``add`` and ``accept``: new letters in one statement, and a look at each that is known already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbus_adapters.sql.announcing import announce
from eventbus_adapters.sql.changes import Changes
from eventbus_adapters.sql.decoding import BrokenRowError, checked_letter_of, letter_of
from eventbus_adapters.sql.inserting import (
    TakenIdError,
    exhausted_of,
    insert,
    refuse_taken_id,
    state_in,
)
from eventbus_adapters.sql.loading import row_by_key
from eventbus_adapters.sql.parking import hold_arrived, hold_back
from eventbus_dlq import moves
from eventbus_dlq.letter import CLOSED_STATES, DeadLetter, DeadLetterState
from eventbus_dlq.store import Kept

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from typing import Any

    from sqlalchemy import Connection

    from eventbus_adapters.sql.closures import KnownControls
    from eventbus_adapters.sql.counts import Deltas
    from eventbus_adapters.sql.encoding import Value

__all__ = ["TakenIdError", "accept", "add"]


def add(
    connection: Connection,
    deltas: Deltas,
    arrived: Sequence[DeadLetter],
    rows: list[tuple[Value, ...]],
    *,
    reopen: bool = True,
) -> list[str]:
    """Keep failures, each with the row it would be; return the ids under which they are kept, in order.

    A further failure opens a letter that is closed, unless ``reopen`` is False.

    Raises:
        TakenIdError: an id is already taken by the letter of another event or handler.
    """
    fresh = insert(connection, deltas, rows)
    announce(connection, exhausted_of(rows, fresh))
    if fresh is None:
        return [letter.id for letter in arrived]
    ids: list[str] = []
    for letter in arrived:
        row = _known(connection, letter)
        if letter.id in fresh:
            fresh.remove(letter.id)
        else:
            _merge(connection, deltas, row, letter, reopen=reopen)
        ids.append(row["id"])
    return ids


def accept(
    connection: Connection,
    deltas: Deltas,
    arrived: Sequence[DeadLetter],
    rows: list[tuple[Value, ...]],
    *,
    known: KnownControls | None = None,
    now: datetime | None = None,
) -> list[Kept]:
    """Keep deliveries that have not run yet; return where each is kept, in order.

    Args:
        connection: in a transaction.
        deltas: what is counted.
        arrived: the deliveries.
        rows: the row that each of them would be.
        known: what the store knows of the controls; without it nothing is taken in parked by them.
        now: when a control must close what arrives parked; None for when that was last changed.

    Raises:
        TakenIdError: an id is already taken by the letter of another event or handler.
    """
    held = hold_back(connection, arrived, rows, known=known, now=now)
    fresh = insert(connection, deltas, rows)
    if held:
        hold_arrived(connection, held)
    if fresh is None:
        return [Kept(letter.id, state_in(row)) for letter, row in zip(arrived, rows, strict=True)]
    kept: list[Kept] = []
    for letter in arrived:
        row = _known(connection, letter)
        if row["id"] != letter.id:
            refuse_taken_id(connection, letter.id, (letter.event_id, letter.handler_id))
        kept.append(Kept(row["id"], letter_of(row).state))
    return kept


def _known(connection: Connection, letter: DeadLetter) -> Mapping[str, Any]:
    row = row_by_key(connection, letter.event_id, letter.handler_id)
    if row is None:  # its key is not there, and yet it was not inserted
        refuse_taken_id(connection, letter.id, (letter.event_id, letter.handler_id))
        raise AssertionError(  # pragma: no cover  # the INSERT left it out, so its key or its id is there
            f"dead letter {letter.id} was neither inserted nor known"
        )
    return row


def _merge(
    connection: Connection, deltas: Deltas, row: Mapping[str, Any], letter: DeadLetter, *, reopen: bool
) -> None:
    refuse_taken_id(connection, letter.id, (letter.event_id, letter.handler_id))
    changes = Changes(connection, deltas, now=letter.updated_at)
    try:
        known = checked_letter_of(row)
    except BrokenRowError:  # nothing can be added to it, and the failure that arrives must not be lost
        changes.everything(row, letter)
    else:
        if known.id == letter.id or known.state is DeadLetterState.RUNNING:
            return  # it was added already, or is left to its owner
        if known.state in CLOSED_STATES and not reopen:
            return
        changes.failing(row, moves.merged(known, letter))
    changes.write()
