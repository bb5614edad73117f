"""Which event names an application knows: those that somebody listens to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbus.event_types import EventType
from eventbus.patterns import PatternTree, is_pattern

if TYPE_CHECKING:
    from eventbus import EventBus


class KnownNames:
    """The names that the subscriptions of a bus listen to, as they are now."""

    def __init__(self, bus: EventBus) -> None:
        self._types: dict[str, EventType] = {}
        self._names: set[str] = set()
        self._patterns: PatternTree[str] = PatternTree()
        for subscription in bus.subscriptions:
            for event in subscription.events:
                self._add(event)

    def _add(self, event: type | str) -> None:
        if isinstance(event, type):
            event_type = EventType.of_class(event)
            self._types[event_type.name] = event_type
        elif is_pattern(event):
            self._patterns.add(event, event)
        else:
            self._names.add(event)

    def check(self, name: str, version: int | None = None) -> None:
        """Make sure that an event of this name, and of this version if it is said, is to be handled.

        Raises:
            ValueError: nobody listens to it, or its class has another version.
        """
        event_type = self._types.get(name)
        if event_type is None and name not in self._names and not self._patterns.match(name):
            raise ValueError(f"nobody listens to {name[:80]!r}")
        if event_type is not None and version not in (None, event_type.version):
            raise ValueError(f"dataversion {version} of {name!r}, whose class has {event_type.version}")
