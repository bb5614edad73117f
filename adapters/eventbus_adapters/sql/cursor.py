"""Cursors: where a listing stopped, as text that means nothing to its holder."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from eventbus_adapters.sql.loading import storable
from eventbus_dlq.errors import InvalidCursor

if TYPE_CHECKING:
    from eventbus_dlq.store import Order

_MAX_LENGTH = 200


class Position(NamedTuple):
    """Where a letter stands in every listing: by time, then by insertion."""

    created_us: int
    seq: int


def cursor_of(position: Position, order: Order) -> str:
    """Return the cursor that goes on behind ``position``."""
    text = json.dumps([order, *position], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode()


def position_of(cursor: str, order: Order) -> Position:
    """Return the position that a cursor of this ``order`` means.

    Raises:
        InvalidCursor: it is not one that :func:`cursor_of` makes.
    """
    try:
        position = _decoded(cursor, order)
    except (ValueError, TypeError, RecursionError):
        position = None
    if position is None or cursor_of(position, order) != cursor:
        raise InvalidCursor(
            f"cursor {str(cursor)[:40]!r} is not from a listing with order={order!r}; start without one"
        )
    return position


def _decoded(cursor: str, order: Order) -> Position | None:
    if len(cursor) > _MAX_LENGTH:
        return None
    value: Any = json.loads(base64.urlsafe_b64decode(cursor))
    made_in, created_us, seq = value
    if made_in != order or type(created_us) is not int or type(seq) is not int:
        return None
    return Position(created_us, seq) if storable(created_us) and storable(seq) else None
