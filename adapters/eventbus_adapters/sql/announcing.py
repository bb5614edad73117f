"""Announcements of what has become exhausted, from the transaction of the move until somebody has told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventbus.ids import new_id
from eventbus_adapters.sql.decoding import moment_of
from eventbus_adapters.sql.encoding import lease_us, microseconds
from eventbus_adapters.sql.loading import storable
from eventbus_adapters.sql.statements import Statement
from eventbus_dlq.control_store import Announcement
from eventbus_dlq.letter import Reason

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from eventbus_adapters.sql.counts import Deltas

COLUMNS = ("key", "dead_letter_id", "event_id", "event_name", "handler_id", "tenant", "reason", "at_us")

_OF_LETTER = ("id", *COLUMNS[2:-1])
_ANY = Statement("SELECT 1 FROM {announcements} LIMIT 1")
_TAKE = Statement(
    """UPDATE {announcements} SET owner = :owner, lease_us = {clock} + CAST(:lease_us AS BIGINT)
    WHERE seq IN (
        SELECT seq FROM {announcements}
        WHERE lease_us IS NULL OR lease_us <= {clock} OR owner = :owner
        ORDER BY seq LIMIT :most {skip_locked}
    ) RETURNING seq, {columns}""",
    columns=", ".join(COLUMNS),
)
_ADD = Statement(
    "INSERT INTO {announcements} ({columns}) VALUES {rows}",
    columns=", ".join(COLUMNS),
    row=[*("TEXT" for _ in COLUMNS[:-1]), "BIGINT"],
)
_CONFIRM = Statement(
    """WITH wanted (told) AS (VALUES {rows})
    DELETE FROM {announcements} WHERE key IN (SELECT told FROM wanted)""",
    row=["TEXT"],
)


def announce(connection: Connection, moves: Sequence[tuple[Any, ...]]) -> None:
    """Note that letters have become exhausted, each as :func:`exhausted` returns it."""
    _ADD.over(connection, [(new_id(), *move) for move in moves])


def exhausted(row: Mapping[str, Any], at_us: int) -> tuple[Any, ...]:
    """Return what is announced of a row that has become exhausted."""
    return (*[row[name] for name in _OF_LETTER], at_us)


def has_announcements(connection: Connection) -> bool:
    """Tell whether there are any."""
    return bool(_ANY.run(connection))


def claim_announcements(
    connection: Connection, _: Deltas, *, limit: int, owner: str, lease: float, now: datetime
) -> list[Announcement]:
    """Take announcements, the oldest first, for ``lease`` seconds."""
    rows = _TAKE.run(connection, owner=owner, lease_us=lease_us(lease), most=limit, now_us=microseconds(now))
    return [_announcement(row) for row in sorted(rows, key=lambda row: row.seq)]


def confirm_announcements(connection: Connection, _: Deltas, *, keys: Collection[str]) -> None:
    """Forget what was told."""
    _CONFIRM.over(connection, [(it,) for it in sorted(set(keys)) if storable(it, connection)])


def _announcement(row: Any) -> Announcement:
    return Announcement(
        key=row.key,
        dead_letter_id=row.dead_letter_id,
        event_id=row.event_id,
        event_name=row.event_name,
        handler_id=row.handler_id,
        tenant=row.tenant,
        reason=None if row.reason is None else Reason(row.reason),
        at=moment_of(row.at_us),
    )
