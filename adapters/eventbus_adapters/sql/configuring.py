"""The configuration: its version, the schedules and the switch, and the controls as they are changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventbus.controls import Control, ControlState, Scope
from eventbus.ids import new_id
from eventbus.log import Log
from eventbus_adapters.sql.closures import (
    COLUMNS,
    all_controls,
    controls_of,
    ended_controls,
    numbered,
    scope_key,
)
from eventbus_adapters.sql.decoding import UNREADABLE, moment_of, policy_of
from eventbus_adapters.sql.encoding import microseconds, policy_text
from eventbus_adapters.sql.locking import lock_controls
from eventbus_adapters.sql.statements import Statement
from eventbus_adapters.sql.unparking import Unparked, unpark_some
from eventbus_dlq.control_store import Configuration, Schedule

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from eventbus.retry import RetryPolicy
    from eventbus_adapters.sql.closures import Numbered
    from eventbus_adapters.sql.counts import Deltas
    from eventbus_dlq.control_store import Closing

_log = Log()

AT_ONCE = 1_000
"""How many letters an opening lets go back within its own transaction."""

_SET = Statement("SELECT version, automatic_retries FROM {configuration}")
_BUMP = Statement(
    """INSERT INTO {configuration} (number, version, stamp, automatic_retries) VALUES (1, 1, :stamp, 1)
    ON CONFLICT (number) DO UPDATE SET version = {configuration}.version + 1, stamp = excluded.stamp
    RETURNING version"""
)
_SWITCH = Statement("UPDATE {configuration} SET automatic_retries = :wanted")
_SCHEDULES = Statement(
    "SELECT handler_id, event_name, redelivery, set_by, since_us FROM {schedules} ORDER BY seq"
)
_KEEP_SCHEDULE = Statement(
    """INSERT INTO {schedules} (scope, handler_id, event_name, redelivery, set_by, since_us)
    VALUES (:scope, :handler, :event, :redelivery, :set_by, :since_us)
    ON CONFLICT (scope) DO UPDATE SET
        redelivery = excluded.redelivery, set_by = excluded.set_by, since_us = excluded.since_us"""
)
_FORGET_SCHEDULE = Statement("DELETE FROM {schedules} WHERE scope = :scope RETURNING seq")
_CLOSE = Statement(
    """INSERT INTO {controls} (
        number, scope, tenant, event_name, handler_id,
        state, reason, closed_by, since_us, until_us, drained_us, version
    ) VALUES (
        :version, :scope, :tenant, :event, :handler,
        :state, :reason, :by, :since_us, :until_us, NULL, :version
    ) ON CONFLICT (scope) DO UPDATE SET
        state = excluded.state, reason = excluded.reason, closed_by = excluded.closed_by,
        since_us = excluded.since_us, until_us = excluded.until_us, drained_us = NULL,
        version = excluded.version
    RETURNING {columns}""",
    columns=COLUMNS,
)
_OPEN = Statement(
    """WITH wanted (number_of) AS (VALUES {rows})
    UPDATE {controls} SET state = 'reopened', until_us = NULL
    WHERE number IN (SELECT number_of FROM wanted)""",
    row=["BIGINT"],
)
_FORGET_ACKS = Statement(
    "DELETE FROM {acks} WHERE version NOT IN (SELECT version FROM {controls} WHERE state = 'draining')"
)
_UNFINISHED = Statement(
    """SELECT 1 AS found WHERE EXISTS (SELECT 1 FROM {controls} WHERE {reopened})
    OR EXISTS (SELECT 1 FROM {controls} WHERE until_us <= :now_us)"""
)


def configuration(connection: Connection, known: int | None = None) -> Configuration | None:
    """Return what operators have set; None when its version is still ``known``."""
    rows = _SET.run(connection)
    version = rows[0].version if rows else 0
    if version == known:
        return None
    return Configuration(
        version=version,
        controls=tuple(it.control for it in all_controls(connection)),
        schedules=tuple(_schedules(connection)),
        automatic_retries=not rows or bool(rows[0].automatic_retries),
    )


def configure(
    connection: Connection,
    _: Deltas,
    *,
    now: datetime,
    by: str | None,
    handler: str | None,
    event: str | None,
    redelivery: RetryPolicy | None,
    forget_redelivery: bool,
    automatic_retries: bool | None,
) -> Configuration:
    """Set a schedule, or the switch, or both; return everything as it is then."""
    lock_controls(connection)
    scope = scope_key((handler, event))
    if forget_redelivery and _FORGET_SCHEDULE.run(connection, scope=scope):
        bump(connection)
    if redelivery is not None:
        bump(connection)
        _KEEP_SCHEDULE.run(
            connection,
            scope=scope,
            handler=handler,
            event=event,
            redelivery=policy_text(redelivery),
            set_by=by,
            since_us=microseconds(now),
        )
    if automatic_retries is not None and automatic_retries is not _retries(connection):
        bump(connection)
        _SWITCH.run(connection, wanted=int(automatic_retries))
    found = configuration(connection)
    assert found is not None  # nothing was known
    return found


def close_scope(
    connection: Connection,
    _: Deltas,
    *,
    scope: Scope,
    state: Closing,
    reason: str,
    by: str,
    until: datetime | None,
    now: datetime,
) -> Control:
    """Close a scope, whether it is closed or not; return its control."""
    lock_controls(connection)
    (row,) = _CLOSE.run(
        connection,
        version=bump(connection),
        scope=scope_key(scope),
        tenant=scope.tenant,
        event=scope.event,
        handler=scope.handler,
        state=ControlState(state).value,
        reason=reason,
        by=by,
        since_us=microseconds(now),
        until_us=None if until is None else microseconds(until),
    )
    forget_acks(connection)
    return numbered(row).control


def open_scopes(
    connection: Connection, deltas: Deltas, *, scopes: Collection[Scope] | None, now: datetime
) -> Sequence[Control]:
    """Remove the controls of these scopes, None for all, and let the first letters go back."""
    lock_controls(connection)
    opened = all_controls(connection) if scopes is None else controls_of(connection, scopes)
    if not opened:
        return []
    _open(connection, opened)
    unpark_some(connection, deltas, limit=AT_ONCE, now=now)
    return [it.control for it in opened]


def is_unfinished(connection: Connection, now: datetime) -> bool:
    """Tell whether controls have come to their end, or letters may have to go back."""
    return bool(_UNFINISHED.run(connection, now_us=microseconds(now)))


def unpark(connection: Connection, deltas: Deltas, *, limit: int, now: datetime) -> Unparked:
    """Remove the controls that have come to their end, and let letters go back."""
    lock_controls(connection)
    ended = ended_controls(connection, now)
    if ended:
        _open(connection, ended)
    return unpark_some(connection, deltas, limit=limit, now=now)


def bump(connection: Connection) -> int:
    """Note that the configuration changes; return its new version."""
    (row,) = _BUMP.run(connection, stamp=new_id())
    return int(row.version)


def forget_acks(connection: Connection) -> None:
    """Forget who has acknowledged what is not being drained any more, or is again with another version."""
    _FORGET_ACKS.run(connection)


def _open(connection: Connection, opened: Collection[Numbered]) -> None:
    bump(connection)
    _OPEN.over(connection, [(it.number,) for it in opened])
    forget_acks(connection)


def _retries(connection: Connection) -> bool:
    rows = _SET.run(connection)
    return not rows or bool(rows[0].automatic_retries)


def _schedules(connection: Connection) -> Iterator[Schedule]:
    """Yield the schedules but those that cannot be understood, which keep nobody from working."""
    for row in _SCHEDULES.run(connection):
        try:
            yield _schedule(row)
        except UNREADABLE as error:
            _log.warning(
                "schedule.unreadable", handler_id=row.handler_id, event_name=row.event_name, error=str(error)
            )


def _schedule(row: Any) -> Schedule:
    return Schedule(
        row.handler_id, row.event_name, policy_of(row.redelivery), row.set_by, moment_of(row.since_us)
    )
