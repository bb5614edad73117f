"""A ``DeadLetterQuery`` in SQL: which index drives the listing, and which conditions are left over."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Index, Text, case, cast, exists, func, select, true

from eventbus_adapters.sql.encoding import microseconds
from eventbus_adapters.sql.loading import storable
from eventbus_adapters.sql.tables import (
    BY_CORRELATION,
    BY_CREATED,
    BY_EVENT,
    BY_FINGERPRINT,
    BY_HANDLER,
    BY_STATE,
    BY_TENANT,
    letters,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

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
_SEARCHED = ("event_name", "handler_id", "error_type", "error_message", "id", "event_id", "correlation_id")


@dataclass(frozen=True, slots=True)
class Plan:
    """How a query is answered.

    Attributes:
        index: the index whose order is followed.
        seeks: what narrows the index, one condition per seek; their letters do not overlap.
        window: conditions on the time of creation, which narrow the index further.
        leftovers: conditions that are checked letter by letter.
    """

    index: Index
    seeks: tuple[ColumnElement[bool], ...]
    window: tuple[ColumnElement[bool], ...]
    leftovers: tuple[ColumnElement[bool], ...]


def plan_of(query: DeadLetterQuery) -> Plan | None:
    """Return how to answer ``query``, or None when nothing can match it."""
    wanted = {name: _storable_texts(query.values(name)) for name in (*_COLUMN_OF, "tag")}
    numbers = _storable_numbers(query.priority)
    if any(values is not None and not values for values in (*wanted.values(), numbers)):
        return None
    if query.text is not None and not storable(query.text):
        return None
    tags = wanted.pop("tag")
    sets = {name: values for name, values in wanted.items() if values is not None}
    driver = next((name for name in _DRIVERS if name in sets and len(sets[name]) <= MAX_SEEKS), None)
    seeks = [true()] if driver is None else [_COLUMN_OF[driver] == value for value in sets.pop(driver)]
    leftovers = [_one_of(_COLUMN_OF[name], values) for name, values in sets.items()]
    if numbers is not None:
        leftovers.append(letters.c.priority.in_(numbers))
    if tags is not None:
        leftovers.append(_tagged(tags))
    if query.text is not None:
        searched = [letters.c[name] for name in _SEARCHED]
        leftovers.append(func.eventbus_contains(query.text.lower(), *searched) == 1)
    index = BY_CREATED if driver is None else _DRIVERS[driver]
    return Plan(index, tuple(seeks), tuple(_window(query)), tuple(leftovers))


def _window(query: DeadLetterQuery) -> Iterable[ColumnElement[bool]]:
    if query.since is not None:
        yield letters.c.created_us >= microseconds(query.since)
    if query.until is not None:
        yield letters.c.created_us < microseconds(query.until)


def _storable_texts(values: frozenset[str] | None) -> list[str] | None:
    return None if values is None else sorted(value for value in values if storable(value))


def _storable_numbers(values: int | Iterable[int] | None) -> list[int] | None:
    if values is None:
        return None
    numbers = (values,) if isinstance(values, int) else values
    return sorted(number for number in numbers if storable(number))


def _one_of(column: ColumnElement[Any], values: list[str]) -> ColumnElement[bool]:
    if len(values) <= _MAX_PARAMETERS:
        return column.in_(values)
    return column.in_(select(func.json_each(json.dumps(values)).table_valued("value").c.value))


def _tagged(tags: list[str]) -> ColumnElement[bool]:
    """Return the condition that a letter carries one of ``tags``; broken JSON carries none."""
    readable = case((func.json_valid(letters.c.tags) == 1, letters.c.tags), else_="[]")
    carried = func.json_each(readable).table_valued("value")
    return exists(select(carried.c.value).where(_one_of(cast(carried.c.value, Text), tags)))
