"""Event types: their names, versions and codecs, and how old payloads are brought up to date."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pydantic
import pydantic_core

from eventbus.envelope import check_text
from eventbus.errors import InvalidEvent, UndecodableEvent, UnknownEvent
from eventbus.payloads import MAX_PAYLOAD, Codec, codec_for, json_values

Upcast: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]
"""Turns the JSON payload of one version into that of the next."""


class EventType:
    """What is known of one kind of event.

    Attributes:
        name: the event's name.
        version: the version of its class; 1 for events without a class.
        cls: the class, or None for a named event with a JSON payload.
        codec: how its payloads are checked, encoded and decoded.
    """

    __slots__ = ("cls", "codec", "name", "version")

    def __init__(
        self, name: str, version: int, cls: type[Any] | None, *, max_payload: int = MAX_PAYLOAD
    ) -> None:
        check_event_name(name)
        self.name = name
        self.version = version
        self.cls = cls
        self.codec: Codec = codec_for(name, cls, max_payload)

    @classmethod
    def of_class(cls, event_class: type[Any], *, max_payload: int = MAX_PAYLOAD) -> EventType:
        """Return the type of a pydantic model or a dataclass.

        Raises:
            InvalidEvent: it is neither, or its ``event_name`` or ``event_version`` cannot be used.
        """
        if not is_event_class(event_class):
            raise InvalidEvent(
                f"{event_class.__qualname__} is not an event: publish a pydantic model, a dataclass, "
                "or a name with a JSON payload"
            )
        name = getattr(event_class, "event_name", event_class.__qualname__)
        version = getattr(event_class, "event_version", 1)
        if type(version) is not int or version < 1:
            raise InvalidEvent(
                f"{event_class.__qualname__}.event_version={version!r} must be an int from 1 up"
            )
        return cls(name, version, event_class, max_payload=max_payload)

    @classmethod
    def named(cls, name: str, *, max_payload: int = MAX_PAYLOAD) -> EventType:
        """Return the type of a named event without a class."""
        return cls(name, 1, None, max_payload=max_payload)

    def __repr__(self) -> str:
        return f"<EventType {self.name} v{self.version}>"


def is_event_class(cls: type[Any]) -> bool:
    """Tell whether instances of ``cls`` can be published."""
    return issubclass(cls, pydantic.BaseModel) or dataclasses.is_dataclass(cls)


def check_event_name(name: object) -> None:
    """Raise InvalidEvent unless ``name`` can be the name of an event: dotted segments, no wildcard."""
    check_text("event name", name)
    if isinstance(name, str) and ("*" in name or not all(name.split("."))):
        raise InvalidEvent(f"event name {name!r} must be segments joined by dots, without '*'")


_MAX_UNREGISTERED_NAMES = 10_000


class EventTypes:
    """The event types of one bus, by class and by name."""

    def __init__(self, *, max_payload: int = MAX_PAYLOAD) -> None:
        self._max_payload = max_payload
        self._by_class: dict[type[Any], EventType] = {}
        self._by_name: dict[str, EventType] = {}
        self._untyped: dict[str, EventType] = {}
        self._upcasts: dict[tuple[str, int], Upcast] = {}
        self._lock = threading.Lock()  # events may be published in a session from any thread

    def of_class(self, cls: type[Any]) -> EventType:
        """Return the type of a class, registering it the first time.

        Raises:
            InvalidEvent: it is no event class, or another class has its name.
        """
        known = self._by_class.get(cls)
        if known is not None:
            return known
        with self._lock:
            return self._by_class.get(cls) or self._add(cls)

    def _add(self, cls: type[Any]) -> EventType:
        event_type = EventType.of_class(cls, max_payload=self._max_payload)
        other = self._by_name.get(event_type.name)
        if other is not None and other.cls is not None:
            raise InvalidEvent(
                f"event name {event_type.name!r} of {_place(cls)} is already that of {_place(other.cls)}; "
                "set event_name on one of them"
            )
        self._by_class[cls] = self._by_name[event_type.name] = event_type
        return event_type

    def named(self, name: str) -> EventType:
        """Return the type registered under ``name``, or one without a class."""
        known = self._by_name.get(name) or self._untyped.get(name)
        if known is None:
            if len(self._untyped) >= _MAX_UNREGISTERED_NAMES:
                self._untyped.clear()
            known = self._untyped[name] = EventType.named(name, max_payload=self._max_payload)
        return known

    def find(self, name: str) -> EventType | None:
        """Return the type whose class has ``name``, looking at subclasses of registered classes too."""
        known = self._by_name.get(name)
        if known is not None:
            return known
        for cls in list(self._by_class):
            for subclass in _subclasses(cls):
                if getattr(subclass, "event_name", subclass.__qualname__) == name and is_event_class(
                    subclass
                ):
                    return self.of_class(subclass)
        return None

    def add_upcast(self, name: str, from_version: int, upcast: Upcast) -> None:
        """Register how a payload of ``from_version`` becomes one of the next version.

        Raises:
            UnknownEvent: no class of that name is registered.
            InvalidEvent: the class is not newer, or the step is already registered.
        """
        event_type = self._by_name.get(name)
        if event_type is None:
            raise UnknownEvent(f"upcast of {name!r}: no class of that name is subscribed; subscribe it first")
        if not 1 <= from_version < event_type.version:
            raise InvalidEvent(
                f"upcast of {name!r} from version {from_version}: its class has event_version "
                f"{event_type.version}, so only older versions have a way up"
            )
        if (name, from_version) in self._upcasts:
            raise InvalidEvent(f"upcast of {name!r} from version {from_version} is already registered")
        self._upcasts[name, from_version] = upcast

    def decode(self, name: str, version: int, payload: bytes) -> tuple[EventType, Any]:
        """Turn a stored payload into today's event object.

        Raises:
            UndecodableEvent: it is no JSON, does not fit, is newer than the class, or an upcast is
                missing or raises.
        """
        event_type = self.find(name) or self.named(name)
        if version == event_type.version or event_type.cls is None:
            return event_type, event_type.codec.decode(payload)
        if version > event_type.version:
            raise UndecodableEvent(
                f"the payload of {name!r} has version {version}, newer than the class's {event_type.version}"
            )
        data = json_values(name, payload)
        for step in range(version, event_type.version):
            data = self._upcast_once(name, step, data)
        return event_type, event_type.codec.decode(pydantic_core.to_json(data))

    def _upcast_once(self, name: str, step: int, data: Any) -> Any:
        upcast = self._upcasts.get((name, step))
        if upcast is None:
            return data  # the class may still read it: its validation decides
        try:
            return upcast(data)
        except Exception as error:
            raise UndecodableEvent(
                f"the upcast of {name!r} from version {step} raised {type(error).__qualname__}"
            ) from error


def _subclasses(cls: type[Any]) -> Iterator[type[Any]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def _place(cls: type[Any]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
