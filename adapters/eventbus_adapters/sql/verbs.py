"""``change`` and ``delete``: what a person does to a letter without running it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbus_adapters.sql.changes import Changes
from eventbus_adapters.sql.claims import understood
from eventbus_adapters.sql.decoding import letter_of
from eventbus_adapters.sql.loading import row_by_id
from eventbus_dlq import moves
from eventbus_dlq.errors import DeadLetterNotFound
from eventbus_dlq.letter import DeadLetter, Verb, check_verb

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from typing import Any

    from sqlalchemy import Connection

    from eventbus_adapters.sql.counts import Deltas


def get(connection: Connection, dead_letter_id: str) -> DeadLetter:
    """Return one letter, whole, or raise ``DeadLetterNotFound``."""
    return letter_of(_known(connection, dead_letter_id))


def change(
    connection: Connection,
    deltas: Deltas,
    dead_letter_id: str,
    verb: Verb,
    *,
    now: datetime,
    by: str | None,
    note: str | None,
    until: datetime | None,
) -> DeadLetter:
    """Carry out a verb; return the letter as it is then.

    Raises:
        DeadLetterNotFound: no letter has that id.
        LeaseHeld: it is running.
        InvalidTransition: its state does not allow the verb, or its row cannot be understood.
    """
    row = _known(connection, dead_letter_id)
    letter = understood(row)
    check_verb(verb, letter.id, letter.state)
    changes = Changes(connection, deltas, now=now)
    after = moves.changed(letter, verb, now=now, by=by, note=note, until=until)
    after = changes.standing(row, after, announces=False)
    changes.write()
    return after


def remove(connection: Connection, deltas: Deltas, dead_letter_id: str) -> None:
    """Remove a letter, also one whose row cannot be understood.

    Raises:
        DeadLetterNotFound: no letter has that id.
        LeaseHeld: it is running.
    """
    row = _known(connection, dead_letter_id)
    check_verb(Verb.DELETE, dead_letter_id, letter_of(row).state)
    changes = Changes(connection, deltas, now=None)
    changes.remove(row)
    changes.write()


def _known(connection: Connection, dead_letter_id: str) -> Mapping[str, Any]:
    row = row_by_id(connection, dead_letter_id)
    if row is None:
        raise DeadLetterNotFound(dead_letter_id)
    return row
