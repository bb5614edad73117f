"""Drains: which processes have acknowledged one, and when nothing of it runs any more."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from eventbus.controls import Control, ControlState, Scope
from eventbus_adapters.sql.closures import Numbered, draining_controls
from eventbus_adapters.sql.configuring import bump, forget_acks
from eventbus_adapters.sql.encoding import microseconds
from eventbus_adapters.sql.locking import lock_controls
from eventbus_adapters.sql.statements import Statement

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from eventbus_adapters.sql.counts import Deltas

_ACKNOWLEDGE = Statement(
    """WITH wanted (seen) AS (VALUES {rows})
    INSERT INTO {acks} (version, process_id)
    SELECT version, CAST(:process AS TEXT) FROM wanted CROSS JOIN {controls}
    WHERE version = seen AND state = 'draining'
    ON CONFLICT DO NOTHING""",
    row=["BIGINT"],
)
_LIVE = Statement("SELECT id FROM {processes} WHERE beat_us >= :since_us")
_ACKS = Statement("SELECT version, process_id FROM {acks}")
_RUNNING = Statement("SELECT DISTINCT tenant, event_name, handler_id FROM {letters} {leased} WHERE {running}")
_DRAIN = Statement(
    """WITH wanted (number_of) AS (VALUES {rows})
    UPDATE {controls} SET state = 'drained', drained_us = :now_us
    WHERE number IN (SELECT number_of FROM wanted)""",
    row=["BIGINT"],
)


def acknowledge(connection: Connection, _: Deltas, *, process_id: str, drains: Collection[Control]) -> None:
    """Note that a process runs nothing of draining controls, where they still have these versions."""
    versions = sorted({it.version for it in drains})
    _ACKNOWLEDGE.over(connection, [(it,) for it in versions], process=process_id)


def has_ended(connection: Connection, live_since: datetime) -> bool:
    """Tell whether a draining control has come to its end."""
    return bool(_ended(connection, live_since))


def drain(connection: Connection, _: Deltas, *, live_since: datetime, now: datetime) -> Sequence[Control]:
    """Make drained what has come to its end; return what became so."""
    lock_controls(connection)
    ended = _ended(connection, live_since)
    if not ended:
        return []
    bump(connection)
    _DRAIN.over(connection, [(it.number,) for it in ended], now_us=microseconds(now))
    forget_acks(connection)
    return [replace(it.control, state=ControlState.DRAINED, drained_at=now) for it in ended]


def _ended(connection: Connection, live_since: datetime) -> list[Numbered]:
    """Return the draining controls that all who live have acknowledged and of which nothing runs."""
    draining = draining_controls(connection)
    if not draining:
        return []
    live = {row.id for row in _LIVE.run(connection, since_us=microseconds(live_since))}
    acknowledged: dict[int, set[str]] = {}
    for row in _ACKS.run(connection):
        acknowledged.setdefault(row.version, set()).add(row.process_id)
    agreed = [it for it in draining if live <= acknowledged.get(it.control.version, set())]
    running = [Scope(*row) for row in _RUNNING.run(connection)] if agreed else []
    return [it for it in agreed if not any(_is_of(it.control.scope, delivery) for delivery in running)]


def _is_of(scope: Scope, delivery: Scope) -> bool:
    tenant, event, handler = delivery
    return scope.covers(tenant, str(event), str(handler))
