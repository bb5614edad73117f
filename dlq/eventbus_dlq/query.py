"""Which dead letters are meant: one frozen query for listing, counting and acting."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from eventbus_dlq.letter import DeadLetterSummary

OneOrMany: TypeAlias = "str | Iterable[str] | None"

_TEXT_SETS = (
    "state",
    "reason",
    "event",
    "handler",
    "tenant",
    "user_id",
    "kind",
    "category",
    "route",
    "error_type",
    "fingerprint",
    "correlation_id",
    "tag",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterQuery:
    """A condition on dead letters. Fields are combined with AND; a set of values means any of them.

    A single value stands for the set of it. ``None`` is no condition; an empty set matches nothing.

    Attributes:
        state: see :class:`~eventbus_dlq.DeadLetterState`.
        reason: see :class:`~eventbus_dlq.Reason`.
        event: the event's name.
        handler: the handler's id.
        tenant: letters without a tenant match only when this is None.
        user_id: the user on whose behalf the event was published.
        kind: what went wrong.
        category: transient, permanent or unknown.
        route: what to do about it.
        error_type: qualified name of the last error's class.
        fingerprint: the group.
        correlation_id: the flow.
        tag: letters that carry one of these tags.
        priority: 1 (high) to 10 (low).
        since: stored at this moment or later (aware).
        until: stored before this moment (aware).
        text: part of the event's name, the handler's id, the error's type or message, or an id;
            letters in upper or lower case. Never searches payloads or headers.

    Raises:
        TypeError: for a value that is not a text, such as None within a set.
        ValueError: for a naive ``since`` or ``until``.
    """

    state: OneOrMany = None
    reason: OneOrMany = None
    event: OneOrMany = None
    handler: OneOrMany = None
    tenant: OneOrMany = None
    user_id: OneOrMany = None
    kind: OneOrMany = None
    category: OneOrMany = None
    route: OneOrMany = None
    error_type: OneOrMany = None
    fingerprint: OneOrMany = None
    correlation_id: OneOrMany = None
    tag: OneOrMany = None
    priority: int | Iterable[int] | None = None
    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None

    def __post_init__(self) -> None:
        for name in _TEXT_SETS:
            value: OneOrMany = getattr(self, name)
            if value is not None:
                texts = (value,) if isinstance(value, str) else value
                object.__setattr__(self, name, frozenset(_as_text(name, text) for text in texts))
        if self.priority is not None:
            numbers = (self.priority,) if isinstance(self.priority, int) else self.priority
            object.__setattr__(self, "priority", frozenset(numbers))
        for name in ("since", "until"):
            moment: datetime | None = getattr(self, name)
            if moment is not None and moment.tzinfo is None:
                raise ValueError(f"{name}={moment!r} has no time zone; give an aware datetime")

    @classmethod
    def everything(cls) -> DeadLetterQuery:
        """Return the query that means every letter, for verbs that refuse an empty one."""
        return _EVERYTHING

    @property
    def is_everything(self) -> bool:
        """Whether it was made by :meth:`everything`."""
        return self is _EVERYTHING

    @property
    def is_empty(self) -> bool:
        """Whether it has no condition at all."""
        return all(getattr(self, field.name) is None for field in fields(self))

    def values(self, name: str) -> frozenset[str] | None:
        """Return the set of texts of a field, or None when the field is no condition."""
        value: frozenset[str] | str | None = getattr(self, name)
        return frozenset((value,)) if isinstance(value, str) else value

    def within(self, tenants: Iterable[str] | None) -> DeadLetterQuery:
        """Return the query limited to ``tenants``; None is no limit, an empty set matches nothing."""
        if tenants is None:
            return self
        own = frozenset(tenants)
        asked = self.values("tenant")
        return replace(self, tenant=own if asked is None else own & asked)

    def matches(self, letter: DeadLetterSummary) -> bool:
        """Tell whether ``letter`` is meant: the reference for what stores do in their own language."""
        return (
            self._matches_values(letter)
            and self._matches_time(letter)
            and (self.text is None or _contains(letter, self.text.lower()))
        )

    def _matches_values(self, letter: DeadLetterSummary) -> bool:
        for name in _TEXT_SETS:
            wanted = self.values(name)
            if wanted is None:
                continue
            if name == "tag":
                if not wanted.intersection(letter.tags):
                    return False
            elif getattr(letter, _ATTRIBUTE_OF.get(name, name)) not in wanted:
                return False
        return self.priority is None or letter.priority in frozenset(_as_numbers(self.priority))

    def _matches_time(self, letter: DeadLetterSummary) -> bool:
        return (self.since is None or letter.created_at >= self.since) and (
            self.until is None or letter.created_at < self.until
        )


_ATTRIBUTE_OF = {"event": "event_name", "handler": "handler_id"}
_EVERYTHING = DeadLetterQuery()


def _as_text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name}={value!r} is not a text; leave {name} out for no condition")
    return str(value)


def _as_numbers(value: int | Iterable[int]) -> Iterable[int]:
    return (value,) if isinstance(value, int) else value


def _contains(letter: DeadLetterSummary, text: str) -> bool:
    searched = (
        letter.event_name,
        letter.handler_id,
        letter.error_type,
        letter.error_message,
        letter.id,
        letter.event_id,
        letter.correlation_id,
    )
    return any(text in value.lower() for value in searched)


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a listing.

    Attributes:
        items: summaries, newest first unless asked otherwise.
        next_cursor: hand it to the next call; None when the listing has ended. A page may be short
            while its cursor goes on: a call examines a bounded number of letters.
    """

    items: tuple[DeadLetterSummary, ...]
    next_cursor: str | None
