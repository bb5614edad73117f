"""``find``: keyset seeks over a pinned index, merged, with a bound on what one call examines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import ColumnElement, Select, and_, or_, select

from eventbus_adapters.sql.conditions import Arm, Plan, plan_of
from eventbus_adapters.sql.cursor import Position, cursor_of
from eventbus_adapters.sql.decoding import summary_of
from eventbus_adapters.sql.encoding import ROW
from eventbus_adapters.sql.loading import rows_of
from eventbus_adapters.sql.tables import letters
from eventbus_dlq.query import Page

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import Connection

    from eventbus_dlq.query import DeadLetterQuery
    from eventbus_dlq.store import Order

EXAMINED = 5_000
"""How many letters one call looks at, at most, for conditions that no index answers."""

_MIN_EXAMINED = 200  # by one seek of many
_Selected = TypeVar("_Selected", bound=Select[*tuple[Any, ...]])
_WIDE = {"redelivery", "headers", "annotations", "payload", "error", "history"}
_SHOWN = [letters.c.seq, *(letters.c[name] for name in ROW if name not in _WIDE)]


@dataclass(frozen=True, slots=True)
class _Found:
    """What one seek found.

    Attributes:
        rows: in order, at most one more than asked for.
        horizon: up to where it looked; None when it looked at everything there is.
    """

    rows: Sequence[Mapping[str, Any]]
    horizon: Position | None


def find(
    connection: Connection, query: DeadLetterQuery, *, limit: int, after: Position | None, order: Order
) -> Page:
    """Return a page of summaries; see ``DeadLetterStore.find``."""
    plan = plan_of(query, connection)
    if plan is None:
        return Page((), None)
    listing = _Listing(connection, plan, order, limit)
    found = [listing.seek(arm, after) for arm in plan.arms]
    horizons = [it.horizon for it in found if it.horizon is not None]
    rows = [row for it in found for row in it.rows]
    if len(found) > 1:
        rows.sort(key=_position, reverse=order == "newest")
    horizon = None
    if horizons:  # behind the first horizon another seek may have missed some
        horizon = max(horizons) if order == "newest" else min(horizons)
        rows = [row for row in rows if not listing.is_behind(_position(row), horizon)]
    shown = rows[:limit]
    end = _position(shown[-1]) if len(rows) > limit else horizon
    return Page(tuple(summary_of(row) for row in shown), None if end is None else cursor_of(end, order))


def _position(row: Mapping[str, Any]) -> Position:
    return Position(row["created_us"], row["seq"])


class _Listing:
    """One call of :func:`find`: the parts that all its seeks share."""

    def __init__(self, connection: Connection, plan: Plan, order: Order, limit: int) -> None:
        self._connection = connection
        self._plan = plan
        self._newest = order == "newest"
        self._limit = limit
        self._budget = max(EXAMINED // len(plan.arms), _MIN_EXAMINED)

    def seek(self, arm: Arm, after: Position | None) -> _Found:
        """Return what follows ``after`` in one arm."""
        rows: list[Mapping[str, Any]] = []
        for stretch in self._stretches(after):
            within = and_(arm.seek, *stretch)
            horizon = self._horizon(arm, within)
            rows += self._rows(arm, within, horizon, self._limit + 1 - len(rows))
            if horizon is not None or len(rows) > self._limit:
                return _Found(rows, horizon)
        return _Found(rows, None)

    def is_behind(self, position: Position, horizon: Position) -> bool:
        """Tell whether ``position`` comes after ``horizon`` in this listing's order."""
        return position < horizon if self._newest else position > horizon

    def _stretches(self, after: Position | None) -> Iterator[tuple[ColumnElement[bool], ...]]:
        """Yield what comes behind ``after``: SQLite seeks each part, and not the two as one condition.

        Nor does it seek a moment that is also said to be in a window, so that is decided here.
        """
        created, seq, window = letters.c.created_us, letters.c.seq, self._plan.window
        if after is None:
            yield window
            return
        if self._plan.spans(after.created_us):
            yield created == after.created_us, seq < after.seq if self._newest else seq > after.seq
        yield *window, created < after.created_us if self._newest else created > after.created_us

    def _horizon(self, arm: Arm, within: ColumnElement[bool]) -> Position | None:
        """Return the last position that may be examined, or None when there are not so many."""
        if not arm.leftovers:
            return None
        keys = self._ordered(arm, select(letters.c.created_us, letters.c.seq).where(within))
        found = self._connection.execute(keys.limit(1).offset(self._budget - 1)).first()
        return None if found is None else Position(*found)

    def _rows(
        self, arm: Arm, within: ColumnElement[bool], horizon: Position | None, limit: int
    ) -> Sequence[Mapping[str, Any]]:
        statement = self._ordered(arm, select(*_SHOWN).where(within, *arm.leftovers)).limit(limit)
        if horizon is not None:
            statement = statement.where(*self._up_to(horizon))
        return rows_of(self._connection.execute(statement))

    def _up_to(self, horizon: Position) -> tuple[ColumnElement[bool], ...]:
        created, seq = letters.c.created_us, letters.c.seq
        if self._newest:
            return created >= horizon.created_us, or_(created > horizon.created_us, seq >= horizon.seq)
        return created <= horizon.created_us, or_(created < horizon.created_us, seq <= horizon.seq)

    def _ordered(self, arm: Arm, statement: _Selected) -> _Selected:
        columns = (letters.c.created_us, letters.c.seq)
        keys = [column.desc() for column in columns] if self._newest else list(columns)
        pinned = f"INDEXED BY {arm.index.name}"  # without statistics the planner takes any index
        return statement.with_hint(letters, pinned, "sqlite").order_by(*keys)
