"""A ``DeadLetterQuery`` in SQL: which index drives the listing, and which conditions are left over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Index, and_

from eventbus_adapters.sql.encoding import microseconds
from eventbus_adapters.sql.loading import storable
from eventbus_adapters.sql.portable import among, carries, contains
from eventbus_adapters.sql.tables import (
    BY_CORRELATION,
    BY_CREATED,
    BY_EVENT,
    BY_FINGERPRINT,
    BY_HANDLER,
    BY_STATE,
    BY_TENANT,
    FAILED,
    LIVE,
    LIVE_BY_CREATED,
    letters,
)
from eventbus_dlq.letter import DeadLetterState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import Connection, TextClause

    from eventbus_dlq.query import DeadLetterQuery

MAX_SEEKS = 32
"""A set with more values than this is looked up for each letter instead of driving the listing."""

_MAX_PARAMETERS = 500  # more values than this travel as one JSON parameter

_COLUMN_OF = {
    "state": letters.c.state,
    "reason": letters.c.reason,
    "event": letters.c.event_name,
    "handler": letters.c.handler_id,
    "tenant": letters.c.tenant,
    "user_id": letters.c.user_id,
    "kind": letters.c.kind,
    "category": letters.c.category,
    "route": letters.c.route,
    "error_type": letters.c.error_type,
    "fingerprint": letters.c.fingerprint,
    "correlation_id": letters.c.correlation_id,
}
_DRIVERS = {  # the most selective first
    "fingerprint": BY_FINGERPRINT,
    "correlation_id": BY_CORRELATION,
    "handler": BY_HANDLER,
    "event": BY_EVENT,
    "tenant": BY_TENANT,
    "state": BY_STATE,
}
_LIVE_STATES = frozenset({DeadLetterState.ACCEPTED.value, DeadLetterState.RUNNING.value})
_EMPTY_WHILE_LIVE = ("fingerprint", "error_type", "kind", "category", "route")
_SEARCHED = ("event_name", "handler_id", "error_type", "error_message", "id", "event_id", "correlation_id")


@dataclass(frozen=True, slots=True)
class Arm:
    """One seek of a listing; the letters of two arms do not overlap.

    Attributes:
        index: the index whose order is followed.
        seek: what narrows the index.
        leftovers: conditions that are checked letter by letter.
    """

    index: Index
    seek: ColumnElement[bool]
    leftovers: tuple[ColumnElement[bool], ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a query is answered.

    Attributes:
        arms: the seeks, whose letters are merged.
        since_us: when a letter was created at the earliest, if that was asked.
        until_us: before when it was created, if that was asked.
    """

    arms: tuple[Arm, ...]
    since_us: int | None
    until_us: int | None

    @property
    def window(self) -> tuple[ColumnElement[bool], ...]:
        """The conditions on the time of creation, which narrow every index further."""
        created = letters.c.created_us
        since = () if self.since_us is None else (created >= self.since_us,)
        return since if self.until_us is None else (*since, created < self.until_us)

    def spans(self, created_us: int) -> bool:
        """Tell whether what was created then is asked for."""
        return (self.since_us is None or created_us >= self.since_us) and (
            self.until_us is None or created_us < self.until_us
        )


def plan_of(query: DeadLetterQuery, connection: Connection) -> Plan | None:
    """Return how to answer ``query``, or None when nothing can match it."""
    wanted = {name: _storable_texts(query.values(name), connection) for name in (*_COLUMN_OF, "tag")}
    numbers = _storable_numbers(query.priority)
    if any(values is not None and not values for values in (*wanted.values(), numbers)):
        return None
    if query.text is not None and not storable(query.text, connection):
        return None
    tags = wanted.pop("tag")
    sets = {name: values for name, values in wanted.items() if values is not None}
    others = tuple(_others(query, numbers, tags))
    arms = list(_failed_arms(sets, others))
    if _may_be_live(sets):
        every = [_one_of(_COLUMN_OF[name], values) for name, values in sets.items()]
        arms.append(Arm(LIVE_BY_CREATED, _literally(LIVE), (*every, *others)))
    since = None if query.since is None else microseconds(query.since)
    until = None if query.until is None else microseconds(query.until)
    return Plan(tuple(arms), since, until)


def _failed_arms(sets: Mapping[str, list[str]], others: tuple[ColumnElement[bool], ...]) -> Iterable[Arm]:
    driver = next((name for name in _DRIVERS if name in sets and len(sets[name]) <= MAX_SEEKS), None)
    rest = [_one_of(_COLUMN_OF[name], values) for name, values in sets.items() if name != driver]
    if driver is None:
        yield Arm(BY_CREATED, _literally(FAILED), (*rest, *others))
        return
    for value in sets[driver]:
        seek = and_(_literally(FAILED), _COLUMN_OF[driver] == value)
        yield Arm(_DRIVERS[driver], seek, (*rest, *others))


def _may_be_live(sets: Mapping[str, list[str]]) -> bool:
    """Tell whether letters that have never failed may be among what is asked for."""
    states = sets.get("state")
    if states is not None and not _LIVE_STATES.intersection(states):
        return False
    return all("" in sets[name] for name in _EMPTY_WHILE_LIVE if name in sets)


def _literally(condition: TextClause) -> ColumnElement[bool]:
    return and_(condition)


def _others(
    query: DeadLetterQuery, numbers: list[int] | None, tags: list[str] | None
) -> Iterable[ColumnElement[bool]]:
    if numbers is not None:
        yield letters.c.priority.in_(numbers)
    if tags is not None:
        yield carries(letters.c.tags, tags)
    if query.text is not None:
        yield contains(query.text, [letters.c[name] for name in _SEARCHED])


def _storable_texts(values: frozenset[str] | None, connection: Connection) -> list[str] | None:
    return None if values is None else sorted(value for value in values if storable(value, connection))


def _storable_numbers(values: int | Iterable[int] | None) -> list[int] | None:
    if values is None:
        return None
    numbers = (values,) if isinstance(values, int) else values
    return sorted(number for number in numbers if storable(number))


def _one_of(column: ColumnElement[Any], values: list[str]) -> ColumnElement[bool]:
    if len(values) <= _MAX_PARAMETERS:
        return column.in_(values)
    return among(column, values)
