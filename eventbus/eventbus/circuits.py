"""The circuits of a bus: one for each handler, made when it is asked for first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbus.breaker import Breaker
from eventbus.circuit import CircuitPolicy
from eventbus.errors import NoDeadLetterQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from eventbus.breaker import CircuitStatus
    from eventbus.event_types import EventTypes
    from eventbus.ports import Clock
    from eventbus.registry import Registry
    from eventbus.subscription import Subscription
    from eventbus.telemetry import Telemetry

_DEFAULT = CircuitPolicy()


def check_guarded(subscription: Subscription, types: EventTypes, *, has_dlq: bool) -> None:
    """Refuse a subscription with a circuit whose deliveries could not be stored while that is open.

    Raises:
        NoDeadLetterQueue: there is nowhere to keep them.
        ValueError: an event of its has secrets, which are stored as asterisks.
    """
    if not has_dlq:
        raise NoDeadLetterQueue(
            f"handler {subscription.id!r} has a circuit, and its bus has no dead-letter queue to keep its "
            "deliveries while that is open; make it with EventBus(dlq=DeadLetterQueue(...)), or leave "
            "circuit out"
        )
    for event in subscription.events:
        if isinstance(event, type) and types.of_class(event).codec.has_secrets:
            raise ValueError(
                f"handler {subscription.id!r} has a circuit, and {event.__qualname__} has secret fields, "
                "which are stored as asterisks: what is kept while the circuit is open would run with those; "
                "keep the secret elsewhere and publish a reference to it, or leave circuit out"
            )


class Circuits:
    """The breakers of a bus, by the ids and aliases of its handlers.

    Attributes:
        steady: ids and aliases of which any number of stored deliveries may run: their handler has
            answered in this process, and its circuit is closed; or it has none.
        on_change: called with a breaker whose circuit has come into another state.
    """

    def __init__(self, registry: Registry, *, clock: Clock, telemetry: Telemetry) -> None:
        self.steady: set[str] = set()
        self.on_change: Callable[[Breaker], None] | None = None
        self._registry = registry
        self._clock = clock
        self._telemetry = telemetry
        self._breakers: dict[str, Breaker] = {}

    def of(self, handler_id: str) -> Breaker | None:
        """Return the breaker of a handler, by its id or an alias; None when it has no circuit, or is gone."""
        known = self._breakers.get(handler_id)
        if known is not None:
            return known
        subscription = self._registry.find(handler_id)
        return None if subscription is None else self.of_subscription(subscription)

    def of_subscription(self, subscription: Subscription) -> Breaker | None:
        """Return the breaker of a subscription; None when it has no circuit."""
        if subscription.circuit is False:
            return None
        known = self._breakers.get(subscription.id)
        if known is None:
            known = self._breakers[subscription.id] = Breaker(
                subscription.id,
                subscription.circuit or _DEFAULT,
                clock=self._clock,
                telemetry=self._telemetry,
                changed=self._changed,
            )
        return known

    def snapshot(self) -> Mapping[str, CircuitStatus]:
        """Return how the circuits stand, by handler id."""
        return {handler_id: breaker.status() for handler_id, breaker in sorted(self._breakers.items())}

    def forget(self, subscription: Subscription) -> None:
        """Let go of the circuit of a subscription that is gone."""
        self._breakers.pop(subscription.id, None)
        self.steady.difference_update((subscription.id, *subscription.aliases))

    def reset(self) -> None:
        """Know nothing of the handlers; called when the bus starts."""
        self._breakers.clear()
        self.steady.clear()

    def _changed(self, breaker: Breaker) -> None:
        if not breaker.is_closed:
            subscription = self._registry.find(breaker.handler_id)
            aliases = () if subscription is None else subscription.aliases
            self.steady.difference_update((breaker.handler_id, *aliases))
        if self.on_change is not None:
            self.on_change(breaker)
