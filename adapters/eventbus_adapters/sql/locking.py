"""What keeps transactions that run side by side from crossing: nothing on SQLite, which has one writer.

PostgreSQL locks a sequence by an advisory lock, before any of its rows, and rows in the order of their ids.
Whoever changes where a letter of a sequence stands holds the lock until the commit; so the next one that
looks at the sequence sees it whole. A transaction takes all its locks at its beginning, in one order for
all: if each of its jobs took its own, two transactions would soon wait for each other.

The controls have a lock of their own. Whoever changes them, or lets letters go back, holds it alone, as the
first one and in a transaction that does nothing else. Whoever parks letters shares it, and looks at the
controls again once it has it: so no letter is parked for a control that is gone. It is never waited for with
other locks in hand: what cannot be parked now is left where it is, and met again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbus_adapters.sql.loading import storable
from eventbus_adapters.sql.statements import Statement

if TYPE_CHECKING:
    from collections.abc import Collection
    from collections.abc import Set as AbstractSet

    from sqlalchemy import Connection

    from eventbus_adapters.sql.sequences import Key

_NUMBERED = """WITH wanted (known_id, handler, line) AS (VALUES {rows}), numbered AS (
        SELECT known_id, handler, line, hashtextextended(
            coalesce(handler_id, handler) || chr(31) || coalesce(ordering_key, line), 0
        ) AS number
        FROM wanted LEFT JOIN {letters} ON id = known_id WHERE coalesce(ordering_key, line) IS NOT NULL
    )"""
_LINE = ("TEXT", "TEXT", "TEXT")
_LOCK_SEQUENCES = Statement(
    """{numbered} SELECT pg_advisory_xact_lock(number) FROM (
        SELECT DISTINCT number FROM numbered ORDER BY number
    ) AS numbers""",
    row=_LINE,
    numbered=_NUMBERED,
)
_TRY_SEQUENCES = Statement(
    """{numbered}, tried AS MATERIALIZED (
        SELECT number, pg_try_advisory_xact_lock(number) AS locked FROM (
            SELECT DISTINCT number FROM numbered ORDER BY number
        ) AS numbers
    ) SELECT known_id, handler, line FROM numbered JOIN tried USING (number) WHERE NOT locked""",
    row=_LINE,
    numbered=_NUMBERED,
)
_LOCK_FREE_ROWS = Statement(
    """WITH wanted (known_id) AS (VALUES {rows})
    SELECT 1 FROM {letters} WHERE id IN (SELECT known_id FROM wanted) AND NOT EXISTS (
        SELECT 1 FROM wanted JOIN {letters} ON id = known_id WHERE ordering_key IS NOT NULL
    ) ORDER BY id FOR UPDATE""",
    row=["TEXT"],
)
"""It locks rows in one step where none of them is in a sequence; else it finds none."""
_LOCK_ROWS = Statement(
    """WITH wanted (known_id) AS (VALUES {rows})
    SELECT 1 FROM {letters} WHERE id IN (SELECT known_id FROM wanted) ORDER BY id FOR UPDATE""",
    row=["TEXT"],
)


_CONTROLS = """CAST(1702258030 AS INTEGER),
    CAST(CAST(CAST('{controls}' AS regclass) AS oid) AS INTEGER)"""
_LOCK_CONTROLS = Statement(f"SELECT pg_advisory_xact_lock({_CONTROLS})")
_TRY_CONTROLS = Statement(f"SELECT pg_try_advisory_xact_lock_shared({_CONTROLS}) AS locked")


def locks(connection: Connection) -> bool:
    """Tell whether anything has to be locked at all."""
    return connection.dialect.name == "postgresql"


def lock_controls(connection: Connection) -> None:
    """Keep all others from changing controls, and from parking letters; the first thing in a transaction."""
    if locks(connection):
        _LOCK_CONTROLS.run(connection)


def share_controls(connection: Connection) -> bool:
    """Keep all others from changing controls; False when somebody is changing them just now."""
    if not locks(connection):
        return True
    return bool(_TRY_CONTROLS.run(connection)[0].locked)


def lock(
    connection: Connection, keys: Collection[Key], ids: Collection[str], alone: Collection[str] = ()
) -> None:
    """Keep all others from changing the letters of ``ids`` with their sequences, and those of ``keys``.

    Of the letters of ``alone`` the sequences are left to others. It holds until the transaction ends.
    """
    if not (keys or ids or alone) or not locks(connection):
        return
    rows = _in_order(connection, {*ids, *alone})
    if not _lock_free(connection, keys, ids, rows):
        _LOCK_SEQUENCES.over(connection, _lines(keys, _in_order(connection, ids)))
        _LOCK_ROWS.over(connection, rows)


def try_lock(
    connection: Connection, keys: Collection[Key], ids: Collection[str], alone: Collection[str] = ()
) -> AbstractSet[Key | str]:
    """Do the same without waiting for a sequence; return those keys and ids that others have locked."""
    if not (keys or ids or alone) or not locks(connection):
        return frozenset()
    rows = _in_order(connection, {*ids, *alone})
    if _lock_free(connection, keys, ids, rows):
        return frozenset()
    taken: set[Key | str] = {
        (row.handler, row.line) if row.known_id is None else row.known_id
        for row in _TRY_SEQUENCES.over(connection, _lines(keys, _in_order(connection, ids)))
    }
    _LOCK_ROWS.over(connection, [(it,) for (it,) in rows if it not in taken])
    return taken


def _lock_free(
    connection: Connection, keys: Collection[Key], ids: Collection[str], rows: list[tuple[str]]
) -> bool:
    """Lock rows where there is no sequence to be locked, and tell whether that is so."""
    if keys:
        return False
    return bool((_LOCK_FREE_ROWS if ids else _LOCK_ROWS).over(connection, rows)) or not ids


def lock_rows(connection: Connection, ids: Collection[str]) -> None:
    """Keep all others from changing the letters of ``ids``; enough where no sequence follows."""
    if ids and locks(connection):
        _LOCK_ROWS.over(connection, _in_order(connection, ids))


def _lines(keys: Collection[Key], letters: list[tuple[str]]) -> list[tuple[str | None, ...]]:
    return [*((None, *key) for key in keys), *((it, None, None) for (it,) in letters)]


def _in_order(connection: Connection, ids: Collection[str]) -> list[tuple[str]]:
    return sorted({(it,) for it in ids if storable(it, connection)})
