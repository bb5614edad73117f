"""Finding whole rows, within a transaction of the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, select

from eventbus_adapters.sql.prepared import Prepared
from eventbus_adapters.sql.statements import Padded
from eventbus_adapters.sql.tables import letters

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sqlalchemy import Connection, CursorResult

_BIGGEST = 2**63 - 1
_COLUMNS = tuple(column.name for column in letters.columns)
_ID = _COLUMNS.index("id")

_BY_ID = Prepared(select(letters).where(letters.c.id == bindparam("known_id")), ["known_id"])
_BY_KEY = Prepared(
    select(letters)
    .where(letters.c.event_id == bindparam("event"), letters.c.handler_id == bindparam("handler"))
    .with_for_update(),
    ["event", "handler"],
)
_BY_IDS = Padded(
    """WITH wanted (known_id) AS (VALUES {rows})
    SELECT {columns} FROM wanted CROSS JOIN {letters} WHERE id = known_id {sure}""",
    row=["TEXT"],
    columns=", ".join(_COLUMNS),
)


def storable(value: str | int, connection: Connection | None = None) -> bool:
    """Tell whether a database can hold ``value``; it has no row for what it cannot hold."""
    if isinstance(value, int):
        return -_BIGGEST <= value <= _BIGGEST
    if connection is not None and connection.dialect.name == "postgresql" and "\x00" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return "\x00" not in value  # PostgreSQL has no text with it, and the bus lets none in


def row_by_id(connection: Connection, dead_letter_id: str) -> Mapping[str, Any] | None:
    """Return the whole row of a letter, or None."""
    if not storable(dead_letter_id, connection):
        return None
    return _first(_BY_ID.run(connection, dead_letter_id))


def row_by_key(connection: Connection, event_id: str, handler_id: str) -> Mapping[str, Any] | None:
    """Return the whole row of an event and handler, or None."""
    return _first(_BY_KEY.run(connection, event_id, handler_id))


def rows_by_ids(connection: Connection, ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return the whole rows of those of ``ids`` that are known."""
    found = values_by_ids(connection, ids)
    return {known: dict(zip(_COLUMNS, values, strict=True)) for known, values in found.items()}


def values_by_ids(connection: Connection, ids: Collection[str]) -> dict[str, tuple[Any, ...]]:
    """Return the whole rows of those of ``ids`` that are known, each as a tuple."""
    wanted = [(it,) for it in dict.fromkeys(ids) if storable(it, connection)]
    return {row[_ID]: row for row in _BY_IDS.tuples(connection, wanted)}


def _first(result: CursorResult[Any]) -> Mapping[str, Any] | None:
    rows = rows_of(result)
    return rows[0] if rows else None


def rows_of(result: CursorResult[Any]) -> list[dict[str, Any]]:
    """Return all rows of a result by the names of their columns."""
    names = tuple(result.keys())
    return [dict(zip(names, row, strict=True)) for row in result]
