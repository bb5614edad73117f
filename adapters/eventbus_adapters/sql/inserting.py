"""New rows, many with one statement, each at its place in its sequence."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, func, select
from sqlalchemy.dialects import sqlite

from eventbus_adapters.sql import sequences
from eventbus_adapters.sql.alike import count_alike, insert_alike, type_of
from eventbus_adapters.sql.counts import KEY, tenant_key
from eventbus_adapters.sql.encoding import ROW, Value
from eventbus_adapters.sql.prepared import Prepared
from eventbus_adapters.sql.statements import Statement
from eventbus_adapters.sql.tables import letters
from eventbus_dlq.closing import HELD_REASONS
from eventbus_dlq.letter import OPEN_STATES, DeadLetterState, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection

    from eventbus_adapters.sql.counts import Deltas
    from eventbus_adapters.sql.sequences import Key, Line

Row = tuple[Value, ...]


class TakenIdError(ValueError):
    """A letter's id is the one of another event or handler."""


_INSERT = Prepared(
    sqlite.insert(letters).values({name: bindparam(name) for name in ROW}).on_conflict_do_nothing(), ROW
)
_LAST_SEQ = Prepared(select(func.max(letters.c.seq)), ())
_IDS_FROM = Prepared(select(letters.c.id).where(letters.c.seq > bindparam("last")), ["last"])
_INSERT_AND_TELL = Statement(
    """WITH arrived ({columns}) AS (VALUES {rows})
    INSERT INTO {letters} ({columns}) SELECT {values} FROM arrived ON CONFLICT DO NOTHING RETURNING id""",
    columns=", ".join(ROW),
    values=", ".join("{arriving_lease}" if name == "lease_us" else name for name in ROW),
    row=[type_of(name) for name in ROW],
)
_KNOWN = Statement(
    """WITH wanted (event, handler) AS (VALUES {rows})
    SELECT event_id, handler_id FROM wanted CROSS JOIN {letters}
    WHERE event_id = event AND handler_id = handler""",
    row=["TEXT", "TEXT"],
)
_KEY_OF_ID = Prepared(
    select(letters.c.event_id, letters.c.handler_id).where(letters.c.id == bindparam("taken")), ["taken"]
)

_counted_of = itemgetter(*[ROW.index(name) for name in KEY])
_delivery_of = itemgetter(ROW.index("event_id"), ROW.index("handler_id"))
_line_of = itemgetter(ROW.index("handler_id"), ROW.index("ordering_key"))
_STATES: dict[Value, DeadLetterState] = {str(state): state for state in DeadLetterState}
_ANNOUNCED = ("id", "event_id", "event_name", "handler_id", "tenant", "reason", "updated_us")
_announced_of = itemgetter(*[ROW.index(it) for it in _ANNOUNCED])
_EXHAUSTED = DeadLetterState.EXHAUSTED.value
_ID = ROW.index("id")
_ORDERING_KEY = ROW.index("ordering_key")
_STATE = ROW.index("state")
_REASON = ROW.index("reason")
_ATTEMPTS = ROW.index("attempts")
_CREATED = ROW.index("created_us")
_LIVE = ROW.index("live")
_WAITS = ROW.index("waits")
_QUEUED = ROW.index("queued_us")
_KIND = ROW.index("kind")


def state_in(row: Row) -> DeadLetterState:
    """Return the state of a row that was inserted."""
    return _STATES[row[_STATE]]


def exhausted_of(rows: list[Row], fresh: set[str] | None) -> list[tuple[Value, ...]]:
    """Return what is announced of the rows of those ids that were inserted, None for all."""
    exhausted = [row for row in rows if row[_STATE] == _EXHAUSTED]
    if exhausted and fresh is not None:
        exhausted = [row for row in _first_of(fresh, rows) if row[_STATE] == _EXHAUSTED]
    return [_announced_of(row) for row in exhausted]


def lines_of(rows: Iterable[Row]) -> set[Key]:
    """Return the sequences that rows are in."""
    return {_line_of(row) for row in rows if row[_ORDERING_KEY] is not None}


def insert(connection: Connection, deltas: Deltas, rows: list[Row]) -> set[str] | None:
    """Insert the rows whose id, and whose event and handler, are not known yet, and count them.

    Rows of sequences are replaced, in ``rows``, by what they have become there; the sequences are locked.

    Returns:
        The ids that were inserted; None for all of them.
    """
    lined = [number for number, row in enumerate(rows) if row[_ORDERING_KEY] is not None]
    if not lined:
        return _insert(connection, deltas, rows)
    places = _Places(connection, rows, lined)
    fresh = _insert(connection, deltas, rows)
    places.follow(connection, deltas, fresh)
    return fresh


def refuse_taken_id(connection: Connection, dead_letter_id: str, own: tuple[str, str]) -> None:
    """Raise ``TakenIdError`` when an id is not the one of the event and handler ``own``."""
    taken = _KEY_OF_ID.run(connection, dead_letter_id).first()
    if taken is not None and tuple(taken) != own:
        raise TakenIdError(
            f"id {dead_letter_id!r} of the letter for {own!r} is taken by {tuple(taken)!r}; "
            "make a new one with eventbus.ids.new_id()"
        )


class _Places:
    """Where new rows stand in their sequences."""

    def __init__(self, connection: Connection, rows: list[Row], lined: list[int]) -> None:
        deliveries = [_delivery_of(rows[number]) for number in lined]
        known = {tuple(row) for row in _KNOWN.over(connection, deliveries)}
        self._lines = sequences.lines(connection, [_line_of(rows[number]) for number in lined])
        self._heads: dict[str, Key] = {}
        self._newly_blocked: set[Key] = set()
        for number, delivery in zip(lined, deliveries, strict=True):
            if delivery not in known and rows[number][_STATE] in OPEN_STATES:
                known.add(delivery)
                rows[number] = self._placed(rows[number])

    def follow(self, connection: Connection, deltas: Deltas, fresh: set[str] | None) -> None:
        """Let the sequences follow, now that the rows are inserted."""
        if self._newly_blocked:
            sequences.park(connection, deltas, self._newly_blocked, None)
        if fresh is not None:
            # A transaction beside this one may have stored a head, under another key, in the meantime.
            missed = [key for dead_letter_id, key in self._heads.items() if dead_letter_id not in fresh]
            sequences.promote(connection, deltas, missed, None)

    def _placed(self, row: Row) -> Row:
        key = _line_of(row)
        line = self._lines[key]
        placed = _behind(row, line) if line.open else _as_head(row)
        if not line.open:
            self._heads[str(row[_ID])] = key
        fails = sequences.blocks(str(placed[_STATE]), None)
        if fails and line.open and not line.blocked:
            self._newly_blocked.add(key)
        self._lines[key] = sequences.Line(open=True, blocked=line.blocked or fails)
        return placed


def as_accepted(row: Row) -> Row:
    """Return the row of a delivery that comes parked by a control, as if it had come accepted."""
    placed = list(row)
    placed[_STATE], placed[_REASON] = DeadLetterState.ACCEPTED.value, None
    placed[_LIVE], placed[_QUEUED] = int(row[_KIND] == ""), row[_CREATED]
    return tuple(placed)


def _behind(row: Row, line: Line) -> Row:
    if row[_STATE] == DeadLetterState.PARKED and row[_REASON] in HELD_REASONS:
        row = as_accepted(row)
    placed = list(row)
    placed[_WAITS], placed[_QUEUED] = 1, None
    if line.blocked and row[_STATE] == DeadLetterState.ACCEPTED:
        placed[_STATE], placed[_REASON] = DeadLetterState.PARKED.value, Reason.SEQUENCE.value
        placed[_LIVE] = 0
    return tuple(placed)


def _as_head(row: Row) -> Row:
    placed = list(row)
    placed[_WAITS] = 0
    if row[_STATE] == DeadLetterState.PARKED and row[_REASON] == Reason.SEQUENCE:
        return as_accepted(tuple(placed))
    return tuple(placed)


def _insert(connection: Connection, deltas: Deltas, rows: list[Row]) -> set[str] | None:
    if connection.dialect.name == "sqlite":
        inserted = count_alike(connection, rows)
        if inserted is None:
            inserted = _INSERT.many_at_once(connection, rows)
        if inserted == len(rows):
            _count(deltas, rows)
            return None
        newest = _LAST_SEQ.run(connection).scalar() or 0  # new rows are the last ones of the table
        ids = {it for (it,) in _IDS_FROM.run(connection, newest - inserted)}
    else:
        alike = insert_alike(connection, rows)
        ids = set(alike) if alike is not None else {it for (it,) in _INSERT_AND_TELL.over(connection, rows)}
        if len(ids) == len(rows):
            _count(deltas, rows)
            return None
    fresh = _first_of(ids, rows)
    _count(deltas, fresh)
    return None if len(fresh) == len(rows) else ids


def _first_of(ids: set[str], rows: list[Row]) -> list[Row]:
    """Return the row of each of ``ids``: of two with one id, the first was inserted."""
    found: dict[str, Row] = {}
    for row in rows:
        if row[_ID] in ids:
            found.setdefault(str(row[_ID]), row)
    return list(found.values())


def _count(deltas: Deltas, rows: Sequence[tuple[Any, ...]]) -> None:
    groups: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
    for row in rows:
        groups.setdefault(_counted_of(row), []).append(row)
    for (tenant, *rest), alike in groups.items():
        deltas.count(
            (tenant_key(tenant), *rest),
            len(alike),
            sum([row[_ATTEMPTS] for row in alike]),
            sum([row[_CREATED] for row in alike]),
        )
