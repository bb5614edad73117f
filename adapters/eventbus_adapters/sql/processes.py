"""The processes that share a database, and the deliveries whose handler none of them has."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, bindparam, case, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from eventbus_adapters.sql.changes import Changes
from eventbus_adapters.sql.decoding import BrokenRowError, checked_letter_of, moment_of
from eventbus_adapters.sql.encoding import microseconds
from eventbus_adapters.sql.loading import rows_by_ids
from eventbus_adapters.sql.locking import try_lock
from eventbus_adapters.sql.prepared import Prepared
from eventbus_adapters.sql.statements import Statement
from eventbus_adapters.sql.tables import handlers, processes
from eventbus_dlq import moves
from eventbus_dlq.letter import DeadLetterState
from eventbus_dlq.store import Process

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from eventbus_adapters.sql.counts import Deltas

MOST = 1_000
"""How many letters one call exhausts, at most."""

_COLUMNS = [column.name for column in processes.columns]


def _announcing(insert: Any) -> Any:
    statement = insert(processes).values({name: bindparam(name) for name in _COLUMNS})
    news = {name: statement.excluded[name] for name in _COLUMNS if name != "id"}
    return statement.on_conflict_do_update(index_elements=["id"], set_=news)


def _noting(insert: Any) -> Any:
    statement = insert(handlers).values(
        handler_id=bindparam("handler_id"), announced_us=bindparam("announced_us")
    )
    known, news = handlers.c.announced_us, statement.excluded.announced_us
    return statement.on_conflict_do_update(
        index_elements=["handler_id"], set_={"announced_us": case((news > known, news), else_=known)}
    )


_ANNOUNCE = Prepared(
    {"sqlite": _announcing(sqlite.insert), "postgresql": _announcing(postgresql.insert)}, _COLUMNS
)
_NOTE = Prepared(
    {"sqlite": _noting(sqlite.insert), "postgresql": _noting(postgresql.insert)},
    ["handler_id", "announced_us"],
)
_ALL: Select[Any] = select(processes).order_by(processes.c.id)
_HANDLERS_WITH_WORK = Statement(
    """WITH RECURSIVE known (handler) AS (
        SELECT (SELECT handler_id FROM {letters} {ready}
            WHERE {ready_to_run} ORDER BY handler_id LIMIT 1)
        UNION ALL
        SELECT (SELECT handler_id FROM {letters} {ready}
            WHERE {ready_to_run} AND handler_id > handler ORDER BY handler_id LIMIT 1)
        FROM known WHERE handler IS NOT NULL
    ) SELECT handler FROM known WHERE handler IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM {handlers} WHERE handler_id = handler AND announced_us >= :since_us
    )"""
)
_ORPHANS = Statement(
    """SELECT id FROM {letters} {ready}
    WHERE {ready_to_run} AND handler_id = :handler AND created_us < :since_us
    ORDER BY priority, queued_us LIMIT :most"""
)


def announce(connection: Connection, process: Process) -> None:
    """Keep a process's row as it is given, and that its handlers were announced."""
    values = (
        process.id,
        process.name,
        process.host,
        process.pid,
        microseconds(process.started_at),
        microseconds(process.beat_at),
        json.dumps(process.handlers),
    )
    _ANNOUNCE.run(connection, *values)
    noted = [(it, microseconds(process.beat_at)) for it in sorted(set(process.handlers))]
    if noted:
        _NOTE.many(connection, noted)


def withdraw(connection: Connection, process_id: str) -> None:
    """Remove the row of a process that ends."""
    connection.execute(delete(processes).where(processes.c.id == process_id))


def all_processes(connection: Connection) -> list[Process]:
    """Return the rows of all processes, by id."""
    return [
        Process(
            id=row.id,
            name=row.name,
            host=row.host,
            pid=row.pid,
            started_at=moment_of(row.started_us),
            beat_at=moment_of(row.beat_us),
            handlers=tuple(json.loads(row.handlers)),
        )
        for row in connection.execute(_ALL)
    ]


def exhaust_unhandled(connection: Connection, deltas: Deltas, *, since: datetime, now: datetime) -> list[str]:
    """Give up the deliveries that nobody has had a handler for ``since`` then; return their ids."""
    since_us = microseconds(since)
    connection.execute(delete(processes).where(processes.c.beat_us < since_us))
    ids = _orphans(connection, since_us)
    held_up = try_lock(connection, (), ids)
    ids = [it for it in ids if it not in held_up]
    rows = rows_by_ids(connection, ids)
    changes = Changes(connection, deltas, now=now)
    exhausted: list[str] = []
    for dead_letter_id in ids:
        row = rows.get(dead_letter_id)
        if row is None or row["state"] != DeadLetterState.ACCEPTED or row["waits"]:
            continue  # on PostgreSQL another process was faster
        try:
            letter = checked_letter_of(row)
        except BrokenRowError:
            continue
        changes.standing(row, moves.unhandled(letter, now=now))
        exhausted.append(dead_letter_id)
    changes.write()
    return exhausted


def _orphans(connection: Connection, since_us: int) -> Sequence[str]:
    """Return the ids of what is ready for handlers that nobody has, along the index."""
    found: list[str] = []
    for row in _HANDLERS_WITH_WORK.run(connection, since_us=since_us):
        most = MOST - len(found)
        if most:
            own = _ORPHANS.run(connection, handler=row.handler, since_us=since_us, most=most)
            found += [it.id for it in own]
    return found
