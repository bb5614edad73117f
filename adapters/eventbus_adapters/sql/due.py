"""``claim_due``: takes what is due, the most urgent first, and parks what is closed on its way there."""

from __future__ import annotations

from collections import Counter
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from eventbus_adapters.sql.closures import Closures, KnownControls, Numbered
from eventbus_adapters.sql.encoding import microseconds
from eventbus_adapters.sql.leasing import take
from eventbus_adapters.sql.loading import storable
from eventbus_adapters.sql.locking import share_controls
from eventbus_adapters.sql.parking import park
from eventbus_adapters.sql.seeks import Found, seek
from eventbus_dlq.letter import DeadLetterState

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from sqlalchemy import Connection

    from eventbus_adapters.sql.counts import Deltas
    from eventbus_adapters.sql.leasing import Unread

MOST_PARKED = 5_000
"""How many letters one call parks, about."""

_WIDEST, _WIDER = 1_024, 8  # what a seek brings at most that has met what is closed, and how it gets there

_urgency = itemgetter(3, 4, 0)


class Due(NamedTuple):
    """What a look for due letters has brought.

    Attributes:
        rows: what was claimed, the most urgent first.
        goes_on: whether so many were parked that the caller should ask again.
    """

    rows: list[Unread]
    goes_on: bool


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
    known: KnownControls,
) -> Due:
    """Take what is due for a run, the most urgent first, at most ``limit``; park what is closed.

    The rows are left to be read once they are committed: the next transaction need not wait for that.
    """
    handlers = {it: min(most, limit) for it, most in wanted.items() if most > 0 and storable(it, connection)}
    sorts = frozenset(states) & {DeadLetterState.ACCEPTED, DeadLetterState.PENDING}
    if limit <= 0 or not handlers or not sorts:
        return Due([], goes_on=False)
    search = _Search(connection, deltas, handlers, sorts=sorts, limit=limit, now=now, known=known)
    found = {seq: state for seq, state, *_ in search.run()}
    rows = take(connection, deltas, found, owner=owner, lease=lease, now=now)
    return Due(rows, goes_on=search.goes_on)


class _Search:
    """Looks for what is due, and parks what is closed until none of it hides what is not."""

    def __init__(
        self,
        connection: Connection,
        deltas: Deltas,
        handlers: dict[str, int],
        *,
        sorts: frozenset[DeadLetterState],
        limit: int,
        now: datetime,
        known: KnownControls,
    ) -> None:
        self._connection = connection
        self._deltas = deltas
        self._handlers = handlers
        self._sorts = sorts
        self._limit = limit
        self._now = now
        self._now_us = microseconds(now)
        self._known = known
        self._widths = dict(handlers)
        self._left = MOST_PARKED
        self._left_alone: set[int] = set()
        self.goes_on = False

    def run(self) -> list[Found]:
        """Return what is to be claimed, the most urgent first."""
        named = self._known.closes
        stamp, found = self._seek(named=named)
        closures = self._known.at(self._connection, stamp)
        if found and closures and not named:
            _, found = self._seek(named=True)
        allowed, closed = self._allowed(found, closures)
        if not closed or not share_controls(self._connection):
            return allowed
        closures = self._known.current(self._connection)  # now nobody changes them any more
        while True:
            allowed, closed = self._allowed(found, closures)
            parked = self._park(closed)
            hiding = self._hiding(found, closed)
            self.goes_on = bool(hiding) and self._left <= 0
            if not hiding or self.goes_on or not (self._widen(hiding) or parked):
                return allowed
            _, found = self._seek(named=True)

    def _seek(self, *, named: bool) -> tuple[str | None, list[Found]]:
        return seek(self._connection, self._widths, self._sorts, self._now_us, named=named)

    def _allowed(self, found: list[Found], closures: Closures) -> tuple[list[Found], dict[int, Numbered]]:
        """Return the most urgent, of each handler no more than are wanted, and what is closed before them."""
        left = dict(self._handlers)
        allowed: list[Found] = []
        closed: dict[int, Numbered] = {}
        for row in _by_urgency(found):
            handler = row[2]
            if left[handler] <= 0:
                continue
            control = closures.closing(row[5], row[6], handler, self._now) if closures else None
            if control is None:
                left[handler] -= 1
                allowed.append(row)
                if len(allowed) == self._limit:
                    break
            else:
                closed[row[0]] = control
        return allowed, closed

    def _park(self, closed: dict[int, Numbered]) -> set[int]:
        """Park what is closed, as far as may be within one call; return the rows that were."""
        going = [it for it in closed if it not in self._left_alone][: self._left]
        parked = park(self._connection, self._deltas, {it: closed[it] for it in going}, self._now_us)
        self._left -= len(parked)
        self._left_alone.update(it for it in going if it not in parked)
        return parked

    def _hiding(self, found: list[Found], closed: Mapping[int, Numbered]) -> set[str]:
        """Return the handlers of which there may be more behind what is closed."""
        brought = Counter(map(_seek_of, found))
        return {
            row[2] for row in found if row[0] in closed and brought[_seek_of(row)] >= self._widths[row[2]]
        }

    def _widen(self, handlers: Collection[str]) -> bool:
        """Have the seeks for ``handlers`` bring more; return whether they do."""
        narrow = [it for it in handlers if self._widths[it] < _WIDEST]
        for handler in narrow:
            self._widths[handler] = min(_WIDEST, max(self._widths[handler], 16) * _WIDER)
        return bool(narrow)


def _by_urgency(found: list[Found]) -> list[Found]:
    """Return the most urgent first; what somebody has made of a row by hand comes before."""
    try:
        return sorted(found, key=_urgency)
    except TypeError:
        return sorted(found, key=lambda row: (_number(row[3]), _number(row[4]), row[0]))


def _number(value: Any) -> int:
    return value if type(value) is int else 0


def _seek_of(row: Found) -> tuple[str, str, int]:
    """Return what the seek that has brought a row was for."""
    _, state, handler, priority, *_ = row
    return (handler, state, priority if state == DeadLetterState.PENDING else 0)
