"""Taking letters for a run: the one statement behind every claim."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from eventbus_adapters.sql.announcing import announce, exhausted
from eventbus_adapters.sql.counts import COUNTED
from eventbus_adapters.sql.decoding import BrokenRowError
from eventbus_adapters.sql.encoding import lease_us, microseconds
from eventbus_adapters.sql.plain import COLUMNS, letter_of_values
from eventbus_adapters.sql.statements import Padded, Statement
from eventbus_dlq.claiming import claim_of
from eventbus_dlq.letter import DeadLetterState, Reason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from eventbus_adapters.sql.counts import Deltas
    from eventbus_dlq.store import Claim

_LIVE, _KIND = COLUMNS.index("live"), COLUMNS.index("kind")
_counted_of = itemgetter(*[COLUMNS.index(name) for name in COUNTED])

_TAKE = Padded(
    """WITH wanted (row_seq) AS (VALUES {rows})
    UPDATE {letters} SET
        state = 'running', state_before = state, attempts = attempts + 1, token = token + 1,
        retries = retries + CASE WHEN state = 'accepted' THEN 0 ELSE 1 END,
        queued_us = NULL,
        lease_owner = :owner, lease_us = {clock} + CAST(:lease_us AS BIGINT), updated_us = :now_us
    WHERE seq IN (SELECT row_seq FROM wanted) RETURNING {columns}""",
    row=["BIGINT"],
    columns=", ".join(COLUMNS),
)
# Not in the statement above: SQLite would write most indexes again, although live hardly ever changes.
_MAKE_LIVE = Padded(
    """WITH wanted (row_seq) AS (VALUES {rows})
    UPDATE {letters} SET live = 1 WHERE seq IN (SELECT row_seq FROM wanted)""",
    row=["BIGINT"],
)
_SET_ASIDE = Statement(
    """UPDATE {letters} SET state = 'exhausted', reason = 'undecodable', state_before = NULL, live = 0,
        lease_owner = NULL, lease_us = NULL
    WHERE seq = :row_seq"""
)


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
    taken = _TAKE.tuples(
        connection,
        [(seq,) for seq in before],
        owner=owner,
        lease_us=lease_us(lease),
        now_us=microseconds(now),
    )
    found = {row[0]: row for row in taken}
    _MAKE_LIVE.over(connection, [(seq,) for seq, row in found.items() if not (row[_LIVE] or row[_KIND])])
    deltas.claim((state, _counted_of(found[seq])) for seq, state in before.items())
    claims: list[Claim] = []
    for seq in before:
        values = found[seq]
        try:
            letter = letter_of_values(values)
        except BrokenRowError:
            set_aside(connection, deltas, dict(zip(COLUMNS, values, strict=True)), now=now)
            continue
        claims.append(claim_of(letter))
    return claims


def set_aside(connection: Connection, deltas: Deltas, row: Mapping[str, Any], *, now: datetime) -> None:
    """Make a row that cannot be understood ``exhausted/undecodable``."""
    _SET_ASIDE.run(connection, row_seq=row["seq"])
    deltas.move(row, {**row, "state": DeadLetterState.EXHAUSTED.value})
    announce(connection, [exhausted({**row, "reason": Reason.UNDECODABLE.value}, microseconds(now))])
