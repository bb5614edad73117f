"""Importing spool files: their writes and the new position are one transaction."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, select
from sqlalchemy.dialects import postgresql, sqlite

from eventbus_adapters.sql.adding import accept, add
from eventbus_adapters.sql.encoding import microseconds, row_of
from eventbus_adapters.sql.prepared import Prepared
from eventbus_adapters.sql.statements import Statement
from eventbus_adapters.sql.tables import spools

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from typing import Any

    from sqlalchemy import Connection

    from eventbus_adapters.sql.closures import KnownControls
    from eventbus_adapters.sql.counts import Deltas
    from eventbus_dlq.store import Spooled


def _knowing(insert: Any) -> Any:
    statement = insert(spools).values(
        id=bindparam("id"), position=bindparam("position"), imported_us=bindparam("imported_us")
    )
    return statement.on_conflict_do_nothing()


_POSITION = Prepared(select(spools.c.position).where(spools.c.id == bindparam("spool")), ["spool"])
_KNOW = Prepared(
    {"sqlite": _knowing(sqlite.insert), "postgresql": _knowing(postgresql.insert)},
    ["id", "position", "imported_us"],
)
_MOVE = Statement(
    """UPDATE {spools} SET position = :end_at, imported_us = :now_us
    WHERE id = :spool AND position = :start_at RETURNING id"""
)


def position(connection: Connection, spool_id: str) -> int:
    """Return up to which byte a spool was imported; 0 for one that is not known."""
    return int(_POSITION.run(connection, spool_id).scalar() or 0)


def import_spool(
    connection: Connection,
    deltas: Deltas,
    spool_id: str,
    writes: Sequence[Spooled],
    *,
    start: int,
    end: int,
    now: datetime,
    known: KnownControls,
) -> bool:
    """Carry out writes and move the position from ``start`` to ``end``; False when it is not ``start``."""
    now_us = microseconds(now)
    if start == 0:
        _KNOW.run(connection, spool_id, 0, now_us)
    if not _MOVE.run(connection, spool=spool_id, start_at=start, end_at=end, now_us=now_us):
        return False
    for verb, neighbours in groupby(writes, key=lambda write: write.verb):
        arrived = [write.letter for write in neighbours]
        rows = [row_of(letter) for letter in arrived]
        if verb == "accept":
            accept(connection, deltas, arrived, rows, known=known, now=now)
        else:
            add(connection, deltas, arrived, rows, reopen=False)
    return True
