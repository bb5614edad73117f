"""Seeks for what is due: one per handler and, of what has failed, per priority; no sort of the backlog."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from eventbus_adapters.sql.statements import Statement
from eventbus_dlq.letter import DeadLetterState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

PRIORITIES = range(1, 11)
_ABREAST = 16  # handlers in one statement: SQLite joins at most 500 selects

# A row's number can be any number, by hand; that of the stamp is none.
_STAMP = "SELECT CAST(NULL AS BIGINT), stamp, '', 0, 0 {no_names} FROM {configuration}"
_READY = """SELECT * FROM (
    SELECT seq, state, handler_id, priority, queued_us AS since_us {names} FROM {letters} {ready}
    WHERE {ready_to_run} AND handler_id = :handler_@
    ORDER BY priority, queued_us LIMIT :most_@ {skip_locked}
) AS ready_@"""
_DUE = """SELECT * FROM (
    SELECT seq, state, handler_id, priority, retry_us AS since_us {names} FROM {letters} {due}
    WHERE {pending} AND handler_id = :handler_@ AND priority = # AND waits = 0 AND retry_us <= :now_us
    ORDER BY retry_us LIMIT :most_@ {skip_locked}
) AS due_@_#"""

_NAMES = {"names": ", tenant, event_name", "no_names": ", NULL, NULL"}
_NAMELESS = {"names": "", "no_names": ""}

Found: TypeAlias = "tuple[Any, ...]"
"""What a seek returns: seq, state, handler id, priority, and since when it is due.

What is named has its tenant and its event's name too; without them a seek reads less.
"""


def seek(
    connection: Connection,
    wanted: Mapping[str, int],
    sorts: frozenset[DeadLetterState],
    now_us: int,
    *,
    named: bool,
) -> tuple[str | None, list[Found]]:
    """Return the stamp of the configuration, if there is one, and what is due.

    ``wanted`` says how much of it each seek for a handler brings at most, the most urgent first.
    """
    handlers = list(wanted.items())
    found: list[Found] = []
    start = 0
    while start < len(handlers):
        size = min(_ABREAST, 1 << (len(handlers) - start).bit_length() - 1)
        found += _found(connection, handlers[start : start + size], sorts, now_us, named)
        start += size
    stamps = [row[1] for row in found if row[0] is None]
    return (stamps[0], [row for row in found if row[0] is not None]) if stamps else (None, found)


def _found(
    connection: Connection,
    handlers: list[tuple[str, int]],
    sorts: frozenset[DeadLetterState],
    now_us: int,
    named: bool,
) -> list[Found]:
    """Return what is due, and the stamp of the configuration if there is one."""
    values: dict[str, Any] = {"now_us": now_us}
    for number, (handler, most) in enumerate(handlers):
        values[f"handler_{number}"], values[f"most_{number}"] = handler, most
    return _seeks(len(handlers), sorts, named).tuples(connection, **values)


@lru_cache(maxsize=64)
def _seeks(handlers: int, sorts: frozenset[DeadLetterState], named: bool) -> Statement:
    arms: list[str] = []
    for number in range(handlers):
        if DeadLetterState.ACCEPTED in sorts:
            arms.append(_READY.replace("@", str(number)))
        if DeadLetterState.PENDING in sorts:
            due = _DUE.replace("@", str(number))
            arms += [due.replace("#", str(priority)) for priority in PRIORITIES]
    return Statement(" UNION ALL ".join([_STAMP, *arms]), **(_NAMES if named else _NAMELESS))
