"""Which control closes a letter, as its row shows it; kept from one claim to the next."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from eventbus.controls import Control, ControlState, Scope
from eventbus_adapters.sql.decoding import moment_of
from eventbus_adapters.sql.encoding import microseconds
from eventbus_adapters.sql.statements import Statement

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

COLUMNS = """number, tenant, event_name, handler_id,
    state, reason, closed_by, since_us, until_us, drained_us, version"""
_ALL = Statement("SELECT {columns} FROM {controls} WHERE NOT ({reopened})", columns=COLUMNS)
_THESE = Statement(
    """WITH wanted (scope_of) AS (VALUES {rows})
    SELECT {columns} FROM {controls} WHERE scope IN (SELECT scope_of FROM wanted) AND NOT ({reopened})""",
    columns=COLUMNS,
    row=["TEXT"],
)
_ENDED = Statement(
    "SELECT {columns} FROM {controls} WHERE until_us <= :now_us AND NOT ({reopened})", columns=COLUMNS
)
_DRAINING = Statement("SELECT {columns} FROM {controls} WHERE state = 'draining'", columns=COLUMNS)
_STAMP = Statement("SELECT stamp FROM {configuration}")
_STAMPED = Statement(
    """SELECT stamp, {columns} FROM (SELECT stamp FROM {configuration}) AS stamped
    LEFT JOIN (SELECT {columns} FROM {controls} WHERE NOT ({reopened})) AS closing ON 1 = 1""",
    columns=COLUMNS,
)


class Numbered(NamedTuple):
    """A control and the number of its row, by which letters say what has parked them."""

    number: int
    control: Control


def _came_at(it: Numbered) -> tuple[datetime, int]:
    """Return when a control came to be, to be compared with that of others."""
    return (it.control.since, it.control.version)


class Closures:
    """The controls there are, to be asked what closes a letter.

    Args:
        controls: them, with the numbers of their rows.
    """

    def __init__(self, controls: Iterable[Numbered] = ()) -> None:
        self._of: dict[Scope, Numbered] = {it.control.scope: it for it in sorted(controls, key=_came_at)}
        self._shapes = sorted({tuple(name is not None for name in scope) for scope in self._of})

    def __bool__(self) -> bool:
        return bool(self._of)

    @property
    def controls(self) -> list[Control]:
        """All of them, by the time since when they are there."""
        return [it.control for it in self._of.values()]

    def closing(self, tenant: str | None, event: str, handler: str, now: datetime) -> Numbered | None:
        """Return the control that closes a letter at ``now``; of several the one that came first."""
        found: Numbered | None = None
        for of_tenant, of_event, of_handler in self._shapes:
            scope = Scope(
                tenant if of_tenant else None, event if of_event else None, handler if of_handler else None
            )
            known = self._of.get(scope)
            if known is None or not known.control.is_closed(now):
                continue
            if found is None or _came_at(known) < _came_at(found):
                found = known
        return found


NOTHING_CLOSED: Final = Closures()


class KnownControls:
    """What a store has read of the controls last: as long as the stamp is the same, they are.

    It may have been read in a transaction that was rolled back: no other one ever has its stamp.
    """

    def __init__(self) -> None:
        self._known: tuple[str | None, Closures] = (None, NOTHING_CLOSED)

    @property
    def closes(self) -> bool:
        """Whether there were any when they were read last."""
        return bool(self._known[1])

    def at(self, connection: Connection, stamp: str | None) -> Closures:
        """Return the controls as they are with a stamp that was just read; newer ones when they are there.

        Without a stamp nothing was ever set.
        """
        if stamp is None:
            return NOTHING_CLOSED
        known, closures = self._known
        if known == stamp:
            return closures
        return self.read(connection)

    def current(self, connection: Connection) -> Closures:
        """Return the controls as they are."""
        rows = _STAMP.run(connection)
        return self.at(connection, rows[0].stamp if rows else None)

    def read(self, connection: Connection) -> Closures:
        """Read the controls anew, whatever is known."""
        rows = _STAMPED.run(connection)
        if not rows:
            return NOTHING_CLOSED
        closures = Closures(numbered(row) for row in rows if row.number is not None)
        self._known = (rows[0].stamp, closures)
        return closures


def all_controls(connection: Connection) -> Sequence[Numbered]:
    """Return the controls, by the time since when they are there."""
    return _in_order(_ALL.run(connection))


def controls_of(connection: Connection, scopes: Collection[Scope]) -> Sequence[Numbered]:
    """Return those of some scopes; in order, as all of these do."""
    return _in_order(_THESE.over(connection, [(scope_key(it),) for it in set(scopes)]))


def ended_controls(connection: Connection, now: datetime) -> Sequence[Numbered]:
    """Return those that have come to their ``until``."""
    return _in_order(_ENDED.run(connection, now_us=microseconds(now)))


def draining_controls(connection: Connection) -> Sequence[Numbered]:
    """Return those that are being drained."""
    return _in_order(_DRAINING.run(connection))


def _in_order(rows: Iterable[Any]) -> Sequence[Numbered]:
    return sorted(map(numbered, rows), key=_came_at)


def numbered(row: Any) -> Numbered:
    """Return the control of a row with ``COLUMNS``."""
    return Numbered(
        row.number,
        Control(
            scope=Scope(row.tenant, row.event_name, row.handler_id),
            state=ControlState(row.state),
            reason=row.reason,
            by=row.closed_by,
            since=moment_of(row.since_us),
            until=None if row.until_us is None else moment_of(row.until_us),
            drained_at=None if row.drained_us is None else moment_of(row.drained_us),
            version=row.version,
        ),
    )


def scope_key(scope: Sequence[str | None]) -> str:
    """Return what stands for a scope in a column that must be unique."""
    return json.dumps(list(scope))
