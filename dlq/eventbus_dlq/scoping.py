"""What an operator says, of a scope above all, checked before anything is done."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING

from eventbus.controls import Scope
from eventbus.envelope import check_text
from eventbus.errors import InvalidEvent, UnknownEvent, UnknownHandler
from eventbus.event_types import check_event_name
from eventbus_dlq.processes import GONE_AFTER

if TYPE_CHECKING:
    from eventbus.ports import Redeliverer
    from eventbus_dlq.store import DeadLetterStore


def checked_scope(tenant: object, event: object, handler: object) -> Scope:
    """Return the scope of these, each a text or None.

    Raises:
        ValueError: one is empty, too long, no text, or cannot be the name of an event.
    """
    if tenant is not None:
        _check_text("tenant", tenant)  # a blank one may be published for, and so may be stopped
    for name, value in (("event", event), ("handler", handler)):
        if value is not None:
            check_words(name, value)
    if event is not None:
        try:
            check_event_name(event)
        except InvalidEvent as error:
            raise ValueError(f"{error}; a control is for one event, or, with event=None, for all") from None
    return Scope(
        None if tenant is None else str(tenant),
        None if event is None else str(event),
        None if handler is None else str(handler),
    )


def check_words(name: str, value: object) -> None:
    """Refuse what is no text, is blank, or cannot be stored.

    Raises:
        ValueError: it is not a text of 1 to 512 characters that says something.
    """
    _check_text(name, value)
    if not str(value).strip():
        raise ValueError(f"{name}={value!r} is blank; say something that others can read later")


def _check_text(name: str, value: object) -> None:
    try:
        check_text(name, value)
    except InvalidEvent as error:
        raise ValueError(str(error)) from None


def checked_moment(name: str, value: object) -> datetime:
    """Return a moment in UTC: another zone's, kept as it is, may be one that the calendar has not in UTC.

    Raises:
        ValueError: it is no datetime, has no time zone, or is beyond the calendar in UTC.
    """
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise ValueError(f"{name}={value!r} has no time zone; give an aware datetime")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{name}={value!r} is beyond the calendar in UTC; give a nearer moment") from None


def checked_until(until: object, now: datetime) -> datetime | None:
    """Return the moment to come at which something ends, in UTC; None for not by itself.

    Raises:
        ValueError: it is no aware datetime, or has passed.
    """
    if until is None:
        return None
    end = checked_moment("until", until)
    if end <= now:
        raise ValueError(f"until={end.isoformat()} has passed: it is {now.isoformat()}")
    return end


class Known:
    """Knows which events and handlers there are: here, in other processes, and in the store.

    A control for what does not exist would hold nothing back, and whoever set it would not learn of it.
    """

    def __init__(self, store: DeadLetterStore, bus: Redeliverer) -> None:
        self._store = store
        self._bus = bus

    async def scopes(self, scope: Scope, *, now: datetime) -> tuple[Scope, ...]:
        """Return the scopes that are meant: this one, and those of the other ids of its handler.

        A handler that was renamed has deliveries under its former ids, too. The first is that of its id now.

        Raises:
            UnknownEvent: no process and no stored delivery knows the event.
            UnknownHandler: nor the handler.
            StoreUnavailable: the store cannot be read.
        """
        if scope.event is not None and not self._bus.knows_event(scope.event):
            await self._check_event(scope.event, now)
        if scope.handler is not None and self._bus.subscription_of(scope.handler) is None:
            await self._check_handler(scope.handler, now)
        return self.scopes_of(scope)

    def scopes_of(self, scope: Scope) -> tuple[Scope, ...]:
        """Return this scope, and those of the other ids of its handler, known or not."""
        subscription = None if scope.handler is None else self._bus.subscription_of(scope.handler)
        if subscription is None:
            return (scope,)
        return tuple(scope._replace(handler=name) for name in (subscription.id, *subscription.aliases))

    async def _check_event(self, event: str, now: datetime) -> None:
        stats = await self._store.stats(now=now)
        if event not in stats.by_event:
            raise UnknownEvent(
                f"event {event!r} is not known: no handler here listens to it, and no stored delivery has "
                "it; its name is the class's event_name, or else its qualified name"
            )

    async def _check_handler(self, handler: str, now: datetime) -> None:
        stats = await self._store.stats(now=now)
        if handler in stats.by_handler:
            return
        since = now - timedelta(seconds=GONE_AFTER)
        names = {name for it in await self._store.processes() if it.beat_at >= since for name in it.handlers}
        if handler not in names:
            alike = get_close_matches(handler, names.union(stats.by_handler, self._bus.handlers), n=1)
            hint = f"; did you mean {alike[0]!r}?" if alike else ""
            raise UnknownHandler(
                f"handler {handler!r} is not known: it is subscribed neither here nor in another process "
                f"that runs, and no stored delivery is its{hint}"
            )
