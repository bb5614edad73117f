"""What a listing shows of the rows, and how it goes on from page to page."""

from __future__ import annotations

import base64
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from eventbus_dlq.errors import InvalidCursor
from eventbus_dlq.letter import DeadLetter, DeadLetterSummary
from eventbus_dlq.memory.rows import Position, Rows
from eventbus_dlq.query import Page

if TYPE_CHECKING:
    from eventbus_dlq.query import DeadLetterQuery
    from eventbus_dlq.store import Order

_MAX_LIMIT = 1_000
_MAX_EXAMINED = 1_000
_MAX_SUMMARY_MESSAGE = 500
_OF_THE_ERROR = {"error_type": "type", "kind": "kind", "category": "category", "route": "route"}
_PLAIN_FIELDS = tuple(
    it.name for it in fields(DeadLetterSummary) if it.name not in {*_OF_THE_ERROR, "error_message"}
)


def check(limit: int, order: str) -> None:
    """Let the bounds of a listing pass, or raise ``ValueError``."""
    if not 1 <= limit <= _MAX_LIMIT:
        raise ValueError(f"limit={limit!r} must be from 1 to {_MAX_LIMIT}")
    if order not in ("newest", "oldest"):
        raise ValueError(f"order={order!r} must be 'newest' or 'oldest'")


def page(rows: Rows, query: DeadLetterQuery, *, limit: int, after: Position | None, order: Order) -> Page:
    """Return the next page behind ``after``; at most 1,000 rows are examined."""
    items: list[DeadLetterSummary] = []
    for examined, position in enumerate(rows.after(after, order)):
        if len(items) == limit or examined == _MAX_EXAMINED:
            return Page(tuple(items), None if after is None else _encoded(after, order))
        summary = _summary(rows[position.dead_letter_id].letter)
        if query.matches(summary):
            items.append(summary)
        after = position
    return Page(tuple(items), None)


def position_of(cursor: str, order: Order) -> Position:
    """Return the position that a cursor stands for, or raise ``InvalidCursor``."""
    refusal = f"cursor {cursor[:40]!r} is not from a listing with order={order!r}; start without one"
    try:
        _, microseconds, number = base64.urlsafe_b64decode(cursor).decode().split(":")
        position = Position(int(microseconds), int(number))
    except ValueError:
        raise InvalidCursor(refusal) from None
    if _encoded(position, order) != cursor:
        raise InvalidCursor(refusal)
    return position


def _encoded(position: Position, order: Order) -> str:
    text = f"{order}:{position.microseconds}:{position.number}"
    return base64.urlsafe_b64encode(text.encode()).decode()


def _summary(letter: DeadLetter) -> DeadLetterSummary:
    values: dict[str, Any] = {name: getattr(letter, name) for name in _PLAIN_FIELDS}
    error = letter.error
    values |= {name: "" if error is None else str(getattr(error, it)) for name, it in _OF_THE_ERROR.items()}
    message = "" if error is None else error.message[:_MAX_SUMMARY_MESSAGE]
    return DeadLetterSummary(**values, error_message=message)
