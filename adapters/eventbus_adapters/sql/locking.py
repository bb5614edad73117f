"""What keeps transactions that run side by side from crossing: nothing on SQLite, which has one writer.

PostgreSQL locks a sequence by an advisory lock, before any of its rows, and rows in the order of their ids.
Whoever changes where a letter of a sequence stands holds the lock until the commit; so the next one that
looks at the sequence sees it whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbus_adapters.sql.loading import storable
from eventbus_adapters.sql.statements import Statement

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Connection

_LOCK_SEQUENCES = Statement(
    """WITH wanted (handler, line) AS (VALUES {rows})
    SELECT pg_advisory_xact_lock(number) FROM (
        SELECT DISTINCT hashtextextended(handler || chr(31) || line, 0) AS number FROM wanted ORDER BY number
    ) AS numbers""",
    row=["TEXT", "TEXT"],
)
_LOCK_SEQUENCES_OF = Statement(
    """WITH wanted (known_id) AS (VALUES {rows})
    SELECT pg_advisory_xact_lock(number) FROM (
        SELECT DISTINCT hashtextextended(handler_id || chr(31) || ordering_key, 0) AS number
        FROM wanted JOIN {letters} ON id = known_id WHERE ordering_key IS NOT NULL ORDER BY number
    ) AS numbers""",
    row=["TEXT"],
)
_LOCK_ROWS = Statement(
    """WITH wanted (known_id) AS (VALUES {rows})
    SELECT 1 FROM {letters} WHERE id IN (SELECT known_id FROM wanted) ORDER BY id FOR UPDATE""",
    row=["TEXT"],
)


def lock_sequences(connection: Connection, keys: Collection[tuple[str, str]]) -> None:
    """Keep all others from changing the sequences of ``keys`` until the transaction ends."""
    if keys and connection.dialect.name == "postgresql":
        _LOCK_SEQUENCES.over(connection, sorted(keys))


def lock_rows(connection: Connection, ids: Collection[str]) -> None:
    """Keep all others from changing the letters of ``ids``; enough where no sequence follows."""
    if ids and connection.dialect.name == "postgresql":
        _LOCK_ROWS.over(connection, _in_order(connection, ids))


def lock_letters(connection: Connection, ids: Collection[str]) -> None:
    """Keep all others from changing the letters of ``ids``, and their sequences."""
    if ids and connection.dialect.name == "postgresql":
        wanted = _in_order(connection, ids)
        _LOCK_SEQUENCES_OF.over(connection, wanted)
        _LOCK_ROWS.over(connection, wanted)


def _in_order(connection: Connection, ids: Collection[str]) -> list[tuple[str]]:
    return sorted({(it,) for it in ids if storable(it, connection)})
