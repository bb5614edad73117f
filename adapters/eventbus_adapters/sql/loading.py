"""Reading and writing whole rows, within a transaction of the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, select, update

from eventbus_adapters.sql.encoding import ROW, STANDING, row_of, standing_of
from eventbus_adapters.sql.prepared import Prepared
from eventbus_adapters.sql.tables import letters

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection, CursorResult

    from eventbus_adapters.sql.counts import Deltas
    from eventbus_dlq.letter import DeadLetter, DeadLetterState

_BIGGEST = 2**63 - 1

FAILING = (
    *STANDING,
    *(name for name in ROW[ROW.index("fingerprint") :] if name not in {"tags", "headers", "payload"}),
)
"""The columns that a further failure changes."""

EVERYTHING = tuple(name for name in ROW if name not in {"id", "event_id", "handler_id"})
"""The columns that are not how a letter is known."""

_BY_ID = Prepared(
    select(letters).where(letters.c.id == bindparam("known_id")).with_for_update(), ["known_id"]
)
_BY_KEY = Prepared(
    select(letters)
    .where(letters.c.event_id == bindparam("event"), letters.c.handler_id == bindparam("handler"))
    .with_for_update(),
    ["event", "handler"],
)


def storable(value: str | int) -> bool:
    """Tell whether a database can hold ``value``; it has no row for what it cannot hold."""
    if isinstance(value, int):
        return -_BIGGEST <= value <= _BIGGEST
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def row_by_id(connection: Connection, dead_letter_id: str) -> Mapping[str, Any] | None:
    """Return the whole row of a letter, or None."""
    if not storable(dead_letter_id):
        return None
    return _first(_BY_ID.run(connection, dead_letter_id))


def row_by_key(connection: Connection, event_id: str, handler_id: str) -> Mapping[str, Any] | None:
    """Return the whole row of an event and handler, or None."""
    return _first(_BY_KEY.run(connection, event_id, handler_id))


def _first(result: CursorResult[Any]) -> Mapping[str, Any] | None:
    rows = rows_of(result)
    return rows[0] if rows else None


def rows_of(result: CursorResult[Any]) -> list[dict[str, Any]]:
    """Return all rows of a result by the names of their columns."""
    names = tuple(result.keys())
    return [dict(zip(names, row, strict=True)) for row in result]


def _saving(names: Sequence[str]) -> Prepared:
    values: list[tuple[str, Any]] = [(name, bindparam(f"new_{name}")) for name in names]
    return Prepared(
        update(letters).where(letters.c.seq == bindparam("row_seq")).ordered_values(*values),
        [*(f"new_{name}" for name in names), "row_seq"],
    )


_SAVE_STANDING = _saving(STANDING)
_SAVE_FAILING = _saving(FAILING)
_SAVE_EVERYTHING = _saving(EVERYTHING)


def save_standing(
    connection: Connection,
    deltas: Deltas,
    row: Mapping[str, Any],
    letter: DeadLetter,
    before: DeadLetterState | None,
) -> None:
    """Write where ``letter`` stands now into its ``row``; its error and history stay as they are."""
    values = standing_of(letter, before)
    _SAVE_STANDING.run(connection, *values, row["seq"])
    deltas.move(row, {**row, **dict(zip(STANDING, values, strict=True))})


def save_failing(connection: Connection, deltas: Deltas, row: Mapping[str, Any], letter: DeadLetter) -> None:
    """Write where ``letter`` stands now, and how it failed, into its ``row``."""
    _save(connection, deltas, row, letter, _SAVE_FAILING, FAILING)


def save_everything(
    connection: Connection, deltas: Deltas, row: Mapping[str, Any], letter: DeadLetter
) -> None:
    """Write ``letter`` over its ``row``; only its id, event id and handler id stay."""
    _save(connection, deltas, row, letter, _SAVE_EVERYTHING, EVERYTHING)


def _save(
    connection: Connection,
    deltas: Deltas,
    row: Mapping[str, Any],
    letter: DeadLetter,
    saving: Prepared,
    names: Sequence[str],
) -> None:
    after = dict(zip(ROW, row_of(letter), strict=True))
    saving.run(connection, *(after[name] for name in names), row["seq"])
    deltas.move(row, {**row, **{name: after[name] for name in names}})
