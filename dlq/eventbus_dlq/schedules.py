"""Which redelivery schedule applies to a delivery: the most specific one that somebody has given."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eventbus.ports import Redeliverer
    from eventbus.retry import RetryPolicy
    from eventbus_dlq.control_store import Configuration


class Schedules:
    """Finds the schedule of a delivery, the first of these that there is.

    1. the one that was configured for its handler, at run time and for every process;
    2. the ``redelivery=`` of the handler's subscription;
    3. the one that was configured for its event;
    4. the one that was configured for all;
    5. the ``redelivery=`` of the dead-letter queue.

    It is asked whenever a failure is stored or a run has failed again, so that a change applies to the next
    wait of what is stored already. A wait that has begun stays as it is.

    Args:
        bus: knows the subscriptions.
        default: the dead-letter queue's.
    """

    def __init__(self, bus: Redeliverer, *, default: RetryPolicy) -> None:
        self._bus = bus
        self._default = default
        self._by_handler: Mapping[str, RetryPolicy] = {}
        self._by_event: Mapping[str, RetryPolicy] = {}
        self._of_all: RetryPolicy | None = None

    def take(self, configuration: Configuration) -> None:
        """Go by what is configured from now on."""
        schedules = configuration.schedules
        self._by_handler = {it.handler: it.redelivery for it in schedules if it.handler is not None}
        self._by_event = {it.event: it.redelivery for it in schedules if it.event is not None}
        of_all = [it.redelivery for it in schedules if it.handler is None and it.event is None]
        self._of_all = of_all[0] if of_all else None

    def of(self, handler_id: str, event_name: str) -> RetryPolicy:
        """Return the schedule of the deliveries of an event to a handler, which may go by an alias."""
        subscription = self._bus.subscription_of(handler_id)
        if self._by_handler:
            names = (handler_id,) if subscription is None else (handler_id, subscription.id)
            for name in names:
                if name in self._by_handler:
                    return self._by_handler[name]
        if subscription is not None and subscription.redelivery is not None:
            return subscription.redelivery
        return self._by_event.get(event_name) or self._of_all or self._default
