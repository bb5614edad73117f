"""New rows that have most of their columns in common, as deliveries of one handler have: sent once for all.

asyncpg looks at every element of an array, and the server takes it apart again. Of the columns of a
delivery that has not failed, a third differs from one delivery to the next.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, TypeAlias

from eventbus_adapters.sql.encoding import ROW, Value
from eventbus_adapters.sql.statements import Statement
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


def type_of(name: str) -> str:
    """Return the SQL type of a column."""
    return str(letters.c[name].type.compile()).replace("BLOB", "BYTEA")


def _value_of(name: str) -> str:
    if name in _SHARED:
        return f"CAST(:{name} AS {type_of(name)})"
    return "{arriving_lease}" if name == "lease_us" else name


_INSERT = Statement(
    """WITH arrived ({own}) AS (VALUES {rows})
    INSERT INTO {letters} ({columns}) SELECT {values} FROM arrived ON CONFLICT DO NOTHING RETURNING id""",
    row=[type_of(name) for name in _OWN],
    own=", ".join(_OWN),
    columns=", ".join(ROW),
    values=", ".join(_value_of(name) for name in ROW),
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
    if len({row[_ID] for row in rows}) < len(rows):
        return None
    groups: dict[Row, list[Row]] = {}
    for row in rows:
        groups.setdefault(_shared_of(row), []).append(_own_of(row))
    if len(groups) > 1 and (
        len(rows) < ENOUGH * len(groups) or any(row[_ORDERING_KEY] is not None for row in rows)
    ):
        return None
    return [
        dead_letter_id
        for shared, own in groups.items()
        for (dead_letter_id,) in _INSERT.over(connection, own, **dict(zip(_SHARED, shared, strict=True)))
    ]
