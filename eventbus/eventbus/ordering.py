"""Ordering keys: what a subscription may say about them, and reading them from an event."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import pydantic

from eventbus.envelope import check_text
from eventbus.errors import InvalidEvent

if TYPE_CHECKING:
    from eventbus.subscription import Subscription

OrderingKey: TypeAlias = "str | Callable[[Any], str | int | None]"
"""Where the key is: a field of the event (or a key of its mapping), or a function of the event."""

_MISSING = object()
_MOST_BITS = 2_048  # 617 digits: more than a key may have, and fewer than Python may ever refuse to write


def check_ordering(ordering_key: object, events: Sequence[type[Any] | str], place: str) -> None:
    """Refuse an ``ordering_key=`` that can be read from no event.

    Raises:
        ValueError: a class that is subscribed to has no field of that name, or the name is empty.
        TypeError: it is neither a name nor a plain function.
    """
    if callable(ordering_key):
        if inspect.iscoroutinefunction(ordering_key):
            raise TypeError(
                f"ordering_key of {place} is an async function; the key is read before anything is awaited, "
                "so make it a plain one"
            )
        return
    if not isinstance(ordering_key, str):
        raise TypeError(
            f"ordering_key={ordering_key!r} of {place} must be the name of a field, or a function of the "
            "event that returns a text, an int or None"
        )
    if not ordering_key:
        raise ValueError(f"ordering_key='' of {place} names no field; leave it out for no order")
    for event in events:
        if isinstance(event, type) and _lacks(event, ordering_key):
            raise ValueError(
                f"ordering_key={ordering_key!r} of {place}: {event.__qualname__} has no such field; it has: "
                f"{', '.join(_fields(event)) or 'none'}"
            )


def _fields(cls: type[Any]) -> Sequence[str]:
    if issubclass(cls, pydantic.BaseModel):
        return tuple(cls.model_fields)
    return tuple(field.name for field in dataclasses.fields(cls))


def _lacks(cls: type[Any], name: str) -> bool:
    """Tell whether no instance of the class can have the attribute."""
    if name in _fields(cls) or hasattr(cls, name) or "__getattr__" in _own_attributes(cls):
        return False
    if issubclass(cls, pydantic.BaseModel):
        return cls.model_config.get("extra") != "allow" and name not in cls.__private_attributes__
    return True


def _own_attributes(cls: type[Any]) -> set[str]:
    """Return what a class and its bases define, without what every pydantic model has."""
    return {name for base in cls.__mro__ if base is not pydantic.BaseModel for name in vars(base)}


def key_for(subscription: Subscription, event_name: str, payload: Any) -> str | None:
    """Read the key of an event that goes to a handler with an ``ordering_key=``; None for no order.

    Raises:
        InvalidEvent: it cannot be read; the message names the handler, the key and the event.
    """
    asked = subscription.ordering_key
    called = asked if isinstance(asked, str) else getattr(asked, "__qualname__", repr(asked))
    what = f"ordering key {called!r} of handler {subscription.id!r} for event {event_name!r}"
    found: object
    if isinstance(asked, str):
        found = _part(payload, asked)
        if found is _MISSING:
            raise InvalidEvent(f"{what} cannot be read: the event has no {asked!r}; nothing was delivered")
    else:
        assert asked is not None
        try:
            found = asked(payload)
        except Exception as error:
            raise InvalidEvent(
                f"{what} cannot be read: it raised {type(error).__qualname__}; nothing was delivered"
            ) from error
    return None if found is None else as_key(found, what)


def _part(payload: Any, name: str) -> object:
    if isinstance(payload, Mapping):
        return cast("Mapping[str, object]", payload).get(name, _MISSING)
    try:
        return getattr(payload, name, _MISSING)
    except Exception:  # a property of the event's own
        return _MISSING


def as_key(value: object, what: str) -> str:
    """Return a key as the text by which it is compared; an int becomes one.

    Raises:
        InvalidEvent: it is neither a text nor an int, is empty, longer than 512 characters, or has what
            no store can hold.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        number = int(value)
        if number.bit_length() > _MOST_BITS:
            raise InvalidEvent(
                f"{what} is an int of more than 600 digits, at most 512 are kept; take a shorter key"
            )
        value = str(number)
    if not isinstance(value, str):
        raise InvalidEvent(
            f"{what} is a {type(value).__qualname__}, and must be a text, an int or None; "
            "convert it with ordering_key=lambda event: str(...)"
        )
    key = str.__str__(value)
    check_text(what, key)
    return key
