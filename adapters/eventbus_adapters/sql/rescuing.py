"""``leased`` and ``rescue``: deliveries whose owner may have died."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventbus_adapters.sql.changes import Changes
from eventbus_adapters.sql.claims import before_of
from eventbus_adapters.sql.decoding import BrokenRowError, checked_letter_of, moment_of
from eventbus_adapters.sql.encoding import microseconds
from eventbus_adapters.sql.leasing import set_aside
from eventbus_adapters.sql.loading import rows_by_ids
from eventbus_adapters.sql.statements import Statement
from eventbus_dlq import moves
from eventbus_dlq.letter import DeadLetter, DeadLetterState
from eventbus_dlq.store import Leased

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from eventbus_adapters.sql.counts import Deltas

_LEASED = Statement(
    """SELECT id, token, lease_us, lease_owner, lease_us <= {clock} AS expired
    FROM {letters} {leased} WHERE {running} AND lease_us IS NOT NULL ORDER BY lease_us"""
)
_CLOCK = Statement("SELECT {clock} AS now_us")


def leased(connection: Connection, *, now: datetime, judges: bool, owner: str | None) -> list[Leased]:
    """Return the letters that are running, or those of ``owner``.

    Where the database ``judges`` leases, and no owner is named, they are the expired ones.
    """
    rows = _LEASED.run(connection, now_us=microseconds(now))
    return [
        Leased(
            dead_letter_id=row.id,
            token=row.token,
            lease_until=moment_of(row.lease_us),
            owner=row.lease_owner or "",
            expired=bool(row.expired) if judges else None,
        )
        for row in rows
        if (row.expired or not judges if owner is None else row.lease_owner == owner)
    ]


def rescue(
    connection: Connection,
    deltas: Deltas,
    leased: Sequence[Leased],
    *,
    max_crashes: int,
    now: datetime,
    judges: bool,
) -> list[DeadLetter]:
    """Take letters back from owners that have died; return them as they are then."""
    clock_us = _CLOCK.run(connection, now_us=microseconds(now))[0].now_us if judges else None
    changes = Changes(connection, deltas, now=now)
    rows = rows_by_ids(connection, [it.dead_letter_id for it in leased])
    rescued: list[DeadLetter] = []
    for seen in leased:
        row = rows.get(seen.dead_letter_id)
        if row is None or not _is_as_seen(row, seen) or (clock_us is not None and row["lease_us"] > clock_us):
            continue
        del rows[seen.dead_letter_id]
        try:
            letter = checked_letter_of(row)
        except BrokenRowError:
            set_aside(connection, deltas, row, now=now)
            continue
        after = moves.rescued(letter, before_of(row), max_crashes=max_crashes, now=now)
        if after.error is not letter.error:
            rescued.append(changes.failing(row, after))
        else:
            rescued.append(changes.standing(row, after, announces=after.crashes >= max_crashes))
    changes.write()
    return rescued


def _is_as_seen(row: Mapping[str, Any], seen: Leased) -> bool:
    found = (row["state"], row["token"], row["lease_us"])
    return found == (DeadLetterState.RUNNING, seen.token, microseconds(seen.lease_until))
