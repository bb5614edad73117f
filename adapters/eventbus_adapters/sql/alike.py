"""New rows that have most of their columns in common, as deliveries of one handler have: sent once for all.

Of the columns of a delivery that has not failed, a third differs from one delivery to the next. asyncpg looks
at every element of an array, and the server takes it apart again; SQLite has a step for every value of every
row, which is half of what an insert costs there.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, TypeAlias

from eventbus_adapters.sql.encoding import ROW, Value
from eventbus_adapters.sql.statements import Padded, Statement
from eventbus_adapters.sql.tables import letters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

Row: TypeAlias = "tuple[Value, ...]"

ENOUGH = 8
"""How many rows a group has on average for which a statement of its own pays."""

_OWN = (
    "id",
    "event_id",
    "correlation_id",
    "causation_id",
    "tenant",
    "user_id",
    "source",
    "occurred_us",
    "created_us",
    "updated_us",
    "lease_us",
    "queued_us",
    "headers",
    "payload",
)
_SHARED = tuple(name for name in ROW if name not in _OWN)


def type_of(name: str, *, bytes_are: str = "BYTEA") -> str:
    """Return the SQL type of a column; what bytes are is called ``BLOB`` by SQLite."""
    return str(letters.c[name].type.compile()).replace("BLOB", bytes_are)


def _values(*, bytes_are: str) -> str:
    return ", ".join(
        f"CAST(:{name} AS {type_of(name, bytes_are=bytes_are)})"
        if name in _SHARED
        else "{arriving_lease}"
        if name == "lease_us"
        else name
        for name in ROW
    )


_INSERT_AND_TELL = Statement(
    """WITH arrived ({own}) AS (VALUES {rows})
    INSERT INTO {letters} ({columns}) SELECT {values} FROM arrived ON CONFLICT DO NOTHING RETURNING id""",
    row=[type_of(name) for name in _OWN],
    own=", ".join(_OWN),
    columns=", ".join(ROW),
    values=_values(bytes_are="BYTEA"),
)
_INSERT_ON_SQLITE = Padded(
    """INSERT INTO {letters} ({columns}) WITH arrived ({own}) AS (VALUES {rows})
    SELECT {values} FROM arrived WHERE id IS NOT NULL ON CONFLICT DO NOTHING""",
    row=[type_of(name, bytes_are="BLOB") for name in _OWN],
    own=", ".join(_OWN),
    columns=", ".join(ROW),
    values=_values(bytes_are="BLOB"),
)
_ID = ROW.index("id")
_ORDERING_KEY = ROW.index("ordering_key")
_own_of = itemgetter(*[ROW.index(name) for name in _OWN])
_shared_of = itemgetter(*[ROW.index(name) for name in _SHARED])


def insert_alike(connection: Connection, rows: Sequence[Row]) -> list[str] | None:
    """Insert rows group by group; return the ids of those that were, or None when they are too different.

    Nothing was inserted then. So it is where one comes twice, and where an order is to be kept, because
    groups do not keep it.
    """
    groups = _groups(rows)
    if groups is None:
        return None
    return [
        dead_letter_id
        for shared, own in groups.items()
        for (dead_letter_id,) in _INSERT_AND_TELL.over(connection, own, **_named(shared))
    ]


def count_alike(connection: Connection, rows: Sequence[Row]) -> int | None:
    """Do the same on SQLite, and return how many were inserted; None when they are too few as well.

    It takes a single group: listings there go by the order in which rows of one moment were inserted.
    """
    if len(rows) < ENOUGH or (groups := _groups(rows)) is None or len(groups) > 1:
        return None
    ((shared, own),) = groups.items()
    return _INSERT_ON_SQLITE.count(connection, own, **_named(shared))


def _groups(rows: Sequence[Row]) -> dict[Row, list[Row]] | None:
    """Return what the rows of each group have of their own, by what they share."""
    if len({row[_ID] for row in rows}) < len(rows):
        return None
    groups: dict[Row, list[Row]] = {}
    for row in rows:
        groups.setdefault(_shared_of(row), []).append(_own_of(row))
    if len(groups) > 1 and (
        len(rows) < ENOUGH * len(groups) or any(row[_ORDERING_KEY] is not None for row in rows)
    ):
        return None
    return groups


def _named(shared: Row) -> dict[str, Value]:
    return dict(zip(_SHARED, shared, strict=True))
