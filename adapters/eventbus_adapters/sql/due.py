"""``claim_due``: a seek per handler, and for what has failed one per priority; no sort of the backlog."""

from __future__ import annotations

from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from eventbus_adapters.sql.encoding import microseconds
from eventbus_adapters.sql.leasing import take
from eventbus_adapters.sql.loading import storable
from eventbus_adapters.sql.statements import Statement
from eventbus_dlq.letter import DeadLetterState

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from sqlalchemy import Connection

    from eventbus_adapters.sql.counts import Deltas
    from eventbus_dlq.store import Claim

PRIORITIES = range(1, 11)
_ABREAST = 16  # handlers in one statement: SQLite joins at most 500 selects

_READY = """SELECT * FROM (
    SELECT seq, state, handler_id, priority, queued_us AS since_us FROM {letters} {ready}
    WHERE {ready_to_run} AND handler_id = :handler_@
    ORDER BY priority, queued_us LIMIT :most_@ {skip_locked}
) AS ready_@"""
_DUE = """SELECT * FROM (
    SELECT seq, state, handler_id, priority, retry_us AS since_us FROM {letters} {due}
    WHERE {pending} AND handler_id = :handler_@ AND priority = # AND waits = 0 AND retry_us <= :now_us
    ORDER BY retry_us LIMIT :most_@ {skip_locked}
) AS due_@_#"""


_Found: TypeAlias = "tuple[int, str, str, int, int]"
"""What a seek returns: seq, state, handler id, priority, and since when it is due."""

_urgency = itemgetter(3, 4, 0)


def claim_due(
    connection: Connection,
    deltas: Deltas,
    wanted: Mapping[str, int],
    *,
    states: Collection[DeadLetterState],
    limit: int,
    owner: str,
    lease: float,
    now: datetime,
) -> list[Claim]:
    """Take what is due for a run, the most urgent first; return at most ``limit``."""
    handlers = [
        (it, min(most, limit)) for it, most in wanted.items() if most > 0 and storable(it, connection)
    ]
    sorts = frozenset(states) & {DeadLetterState.ACCEPTED, DeadLetterState.PENDING}
    if limit <= 0 or not handlers or not sorts:
        return []
    found: list[_Found] = []
    start = 0
    while start < len(handlers):
        size = min(_ABREAST, 1 << (len(handlers) - start).bit_length() - 1)
        found += _found(connection, handlers[start : start + size], sorts, microseconds(now))
        start += size
    allowed = _allowed(found, dict(handlers))[:limit]
    rows = [{"seq": seq, "state": state} for seq, state, *_ in allowed]
    return take(connection, deltas, rows, owner=owner, lease=lease, now=now)


def _found(
    connection: Connection, handlers: list[tuple[str, int]], sorts: frozenset[DeadLetterState], now_us: int
) -> list[_Found]:
    values: dict[str, Any] = {"now_us": now_us}
    for number, (handler, most) in enumerate(handlers):
        values[f"handler_{number}"], values[f"most_{number}"] = handler, most
    return cast("list[_Found]", _seeks(len(handlers), sorts).tuples(connection, **values))


@lru_cache(maxsize=64)
def _seeks(handlers: int, sorts: frozenset[DeadLetterState]) -> Statement:
    arms: list[str] = []
    for number in range(handlers):
        if DeadLetterState.ACCEPTED in sorts:
            arms.append(_READY.replace("@", str(number)))
        if DeadLetterState.PENDING in sorts:
            due = _DUE.replace("@", str(number))
            arms += [due.replace("#", str(priority)) for priority in PRIORITIES]
    return Statement(" UNION ALL ".join(arms))


def _allowed(found: list[_Found], wanted: dict[str, int]) -> list[_Found]:
    """Return the most urgent first, and of each handler no more than are wanted."""
    left = dict(wanted)
    allowed: list[_Found] = []
    for row in sorted(found, key=_urgency):
        handler = row[2]
        if left[handler] > 0:
            left[handler] -= 1
            allowed.append(row)
    return allowed
