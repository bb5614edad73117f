"""Taking letters for a run: the one statement behind every claim."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from eventbus_adapters.sql.counts import COUNTED, tenant_key
from eventbus_adapters.sql.decoding import BrokenRowError
from eventbus_adapters.sql.encoding import microseconds
from eventbus_adapters.sql.fresh import COLUMNS, letter_of_values
from eventbus_adapters.sql.statements import Statement
from eventbus_dlq.letter import DeadLetterState
from eventbus_dlq.store import Claim, Lease

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from eventbus_adapters.sql.counts import Deltas

_counted_of = itemgetter(*[COLUMNS.index(name) for name in COUNTED])
_SECOND_US = 1_000_000

_TAKE = Statement(
    """WITH wanted (row_seq) AS (VALUES {rows})
    UPDATE {letters} SET
        state = 'running', state_before = state, attempts = attempts + 1, token = token + 1,
        retries = retries + CASE WHEN state = 'accepted' THEN 0 ELSE 1 END,
        live = CASE WHEN kind = '' THEN 1 ELSE 0 END, queued_us = NULL,
        lease_owner = :owner, lease_us = {clock} + CAST(:lease_us AS BIGINT), updated_us = :now_us
    WHERE seq IN (SELECT row_seq FROM wanted) RETURNING {columns}""",
    row=["BIGINT"],
    columns=", ".join(COLUMNS),
)
_SET_ASIDE = Statement(
    """UPDATE {letters} SET state = 'exhausted', reason = 'undecodable', state_before = NULL, live = 0,
        lease_owner = NULL, lease_us = NULL
    WHERE seq = :row_seq"""
)


def lease_us(lease: float) -> int:
    """Return how long a lease of ``lease`` seconds is, in microseconds."""
    return round(lease * _SECOND_US)


def take(
    connection: Connection,
    deltas: Deltas,
    rows: Sequence[Mapping[str, Any]],
    *,
    owner: str,
    lease: float,
    now: datetime,
) -> list[Claim]:
    """Claim the letters of ``rows``, of which ``seq`` and ``state`` are needed; return them in that order.

    One whose row cannot be understood becomes ``exhausted/undecodable``: else it would be found, and stand
    before all others, each time.
    """
    before = {row["seq"]: row["state"] for row in rows}
    taken = _TAKE.over(
        connection,
        [(seq,) for seq in before],
        owner=owner,
        lease_us=lease_us(lease),
        now_us=microseconds(now),
    )
    found = {row[0]: tuple(row) for row in taken}
    claims: list[Claim] = []
    for seq, state in before.items():
        values = found[seq]
        _count(deltas, values, state)
        try:
            letter = letter_of_values(values)
        except BrokenRowError:
            set_aside(connection, deltas, dict(zip(COLUMNS, values, strict=True)))
            continue
        claims.append(Claim(letter=letter, lease=Lease(dead_letter_id=letter.id, token=letter.token)))
    return claims


def _count(deltas: Deltas, values: tuple[Any, ...], state: str) -> None:
    tenant, *rest, now, attempts, created_us = _counted_of(values)
    key = (tenant_key(tenant), *rest)
    deltas.count((*key, state), -1, 1 - attempts, -created_us)
    deltas.count((*key, now), 1, attempts, created_us)


def set_aside(connection: Connection, deltas: Deltas, row: Mapping[str, Any]) -> None:
    """Make a row that cannot be understood ``exhausted/undecodable``."""
    _SET_ASIDE.run(connection, row_seq=row["seq"])
    deltas.move(row, {**row, "state": DeadLetterState.EXHAUSTED.value})
