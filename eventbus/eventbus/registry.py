"""Which handlers want an event: subscriptions by id, and an index by class, name and pattern."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from eventbus.errors import DuplicateHandler
from eventbus.event_types import EventType
from eventbus.patterns import PatternTree, is_pattern
from eventbus.subscription import Subscription


class Registry:
    """The subscriptions of one bus."""

    def __init__(self) -> None:
        self._by_id: dict[str, Subscription] = {}
        self._aliases: dict[str, Subscription] = {}
        self._by_key: dict[type[Any] | str, list[Subscription]] = {}
        self._patterns: PatternTree[Subscription] = PatternTree()
        self._position: dict[Subscription, int] = {}
        self._added = 0

    def __iter__(self) -> Iterator[Subscription]:
        return iter(list(self._by_id.values()))

    def add(self, subscription: Subscription) -> None:
        """Add a subscription.

        Raises:
            DuplicateHandler: its id or an alias is taken.
        """
        for name in (subscription.id, *subscription.aliases):
            taken = self.find(name)
            if taken is not None:
                raise DuplicateHandler(
                    f"handler id {name!r} is already subscribed ({taken.place}); "
                    "pass id= to give this one another"
                )
        self._by_id[subscription.id] = subscription
        for alias in subscription.aliases:
            self._aliases[alias] = subscription
        for event in dict.fromkeys(subscription.events):
            if isinstance(event, str) and is_pattern(event):
                self._patterns.add(event, subscription)
            else:
                self._by_key.setdefault(event, []).append(subscription)
        self._position[subscription] = self._added
        self._added += 1

    def remove(self, subscription: Subscription) -> None:
        """Remove a subscription; deliveries under way go on.

        Raises:
            ValueError: it is not subscribed here.
        """
        if self._by_id.get(subscription.id) is not subscription:
            raise ValueError(f"handler {subscription.id!r} is not subscribed on this bus")
        del self._by_id[subscription.id], self._position[subscription]
        for alias in subscription.aliases:
            del self._aliases[alias]
        for event in dict.fromkeys(subscription.events):
            if isinstance(event, str) and is_pattern(event):
                self._patterns.remove(event, subscription)
            else:
                self._by_key[event].remove(subscription)
                if not self._by_key[event]:
                    del self._by_key[event]

    def find(self, handler_id: str) -> Subscription | None:
        """Return the subscription of that id or alias, or None."""
        return self._by_id.get(handler_id) or self._aliases.get(handler_id)

    def match(self, event_type: EventType) -> list[Subscription]:
        """Return who wants events of this type, by stage and then in the order of subscribing."""
        found: dict[Subscription, None] = {}
        keys: list[type[Any] | str] = [event_type.name]
        if event_type.cls is not None:
            keys.extend(event_type.cls.__mro__)
        for key in keys:
            found.update(dict.fromkeys(self._by_key.get(key, ())))
        found.update(dict.fromkeys(self._patterns.match(event_type.name)))
        return sorted(found, key=lambda subscription: (subscription.stage, self._position[subscription]))
