"""Texts from outside: what a store can hold, and moments as RFC 3339 writes them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, StringConstraints

MAX_TEXT = 512
"""No name, id or tenant that the bus accepts is longer, in characters."""
MAX_NOTE = 4_096
"""The longest note, in characters."""
MAX_CURSOR = 1_024
"""The longest cursor, in characters."""

_RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def is_storable(text: str) -> bool:
    """Tell whether every store can hold ``text``: no NUL, no lone surrogate."""
    return "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def storable(text: str) -> str:
    """Return ``text``, or raise ValueError for what no store can hold."""
    if not is_storable(text):
        raise ValueError("has a NUL or a lone surrogate, which no store can hold")
    return text


def moment(value: object) -> datetime:
    """Return the moment (aware UTC) that an RFC 3339 text with a zone names.

    Raises:
        ValueError: for anything else, and for moments outside the years 1 to 9999 of UTC.
    """
    if not isinstance(value, str) or not _RFC_3339.fullmatch(value):
        raise ValueError(
            "must be an RFC 3339 time with a zone, such as 2026-11-22T08:00:00Z (in a URL, + is written %2B)"
        )
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("is not a moment of the calendar") from None


def whole_number(value: object) -> int:
    """Return the number that plain decimal digits write, or raise ValueError."""
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{1,9}", value):
        raise ValueError("must be a whole number in decimal digits")
    return int(value)


Text = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT), AfterValidator(storable)]
"""A name or an id."""
Note = Annotated[str, StringConstraints(max_length=MAX_NOTE), AfterValidator(storable)]
"""What somebody says about what they do."""
Cursor = Annotated[str, StringConstraints(min_length=1, max_length=MAX_CURSOR), AfterValidator(storable)]
"""Where a listing goes on."""
Moment = Annotated[datetime, BeforeValidator(moment)]
"""A moment, aware UTC."""
