"""Publishing in the application's own transaction: every delivery becomes a row that commits with it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from eventbus.announcing import announce
from eventbus.delivery import Delivery
from eventbus.durable import acceptance_of, admits, note_kept, take_back_once
from eventbus.envelope import Envelope
from eventbus.errors import InvalidEvent
from eventbus.ids import sequence
from eventbus.intake import made_metadata
from eventbus.kept_dispatch import ordering_key
from eventbus.receipt import Receipt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventbus.acceptance import Acceptance, Accepted
    from eventbus.event_types import EventType
    from eventbus.intake import PublishOptions
    from eventbus.metrics import Metrics
    from eventbus.plan import RouteMaker
    from eventbus.ports import Clock, DeadLetters
    from eventbus.registry import Registry
    from eventbus.telemetry import Telemetry


class SessionPublisher:
    """Publishes events into the sessions of the application; needs no event loop, and runs no handler."""

    def __init__(
        self,
        *,
        dlq: DeadLetters,
        registry: Registry,
        routes: RouteMaker,
        clock: Clock,
        telemetry: Telemetry,
        metrics: Metrics,
        history: deque[Receipt] | None,
    ) -> None:
        self._dlq = dlq
        self._registry = registry
        self._routes = routes
        self._clock = clock
        self._telemetry = telemetry
        self._metrics = metrics
        self._history = history

    async def publish(
        self, session: Any, event_type: EventType, payload: Any, options: PublishOptions
    ) -> Receipt:
        """Write the deliveries of an event in the transaction of an ``AsyncSession``; see ``bus.publish``."""
        receipt, taken, acceptances = self._prepare(event_type, payload, options)
        try:
            kept = await self._dlq.accept_in(session, acceptances) if acceptances else ()
        except BaseException:
            take_back_once(taken)
            raise
        return self._published(receipt, taken, kept)

    def publish_in(
        self, session: Any, event_type: EventType, payload: Any, options: PublishOptions
    ) -> Receipt:
        """Do the same with a synchronous ``Session``."""
        receipt, taken, acceptances = self._prepare(event_type, payload, options)
        try:
            kept = self._dlq.accept_in_sync(session, acceptances) if acceptances else ()
        except BaseException:
            take_back_once(taken)
            raise
        return self._published(receipt, taken, kept)

    def _prepare(
        self, event_type: EventType, payload: Any, options: PublishOptions
    ) -> tuple[Receipt, Sequence[Delivery], Sequence[Acceptance]]:
        """Return the receipt of an event, its deliveries that are to be stored, and what is stored of them.

        Raises:
            InvalidEvent: the event cannot be accepted, or a handler's condition raised.
        """
        encoded = event_type.codec.check(payload)
        metadata = made_metadata(**options)
        envelope = Envelope(event_type, payload, self._clock.time_ns(), sequence.next(), metadata)
        deliveries: list[Delivery] = []
        for subscription in self._registry.match(event_type):
            delivery = Delivery()
            delivery.route = route = self._routes.make(subscription, event_type, runs=False)
            delivery.envelope = envelope
            delivery.metadata = metadata
            delivery.payload = payload
            delivery.encoded = encoded
            delivery.ordering_key = ordering_key(route, payload, metadata)
            deliveries.append(delivery)
        receipt = Receipt()
        receipt.made = envelope
        receipt.begun = deliveries
        try:
            taken = [delivery for delivery in deliveries if _is_wanted(delivery)]
            return receipt, taken, [acceptance_of(delivery) for delivery in taken]
        except BaseException:
            take_back_once(deliveries)
            raise

    def _published(self, receipt: Receipt, taken: Sequence[Delivery], kept: Sequence[Accepted]) -> Receipt:
        announce(receipt.envelope, len(receipt.begun), self._telemetry, self._metrics)
        self._metrics.published += 1
        for delivery in receipt.begun:
            if delivery not in taken:
                delivery.state = "skipped"
                delivery.route.counters.skipped += 1
        note_kept(taken, kept, self._telemetry)
        if self._history is not None:
            self._history.append(receipt)
        return receipt


def _is_wanted(delivery: Delivery) -> bool:
    """Ask ``when`` and ``once``: what is not asked now would be asked of nobody.

    Raises:
        InvalidEvent: the condition raised. In the application's transaction nothing can be kept of that.
    """
    try:
        return admits(delivery)
    except Exception as error:
        raise InvalidEvent(
            f"the condition when= of handler {delivery.handler_id!r} raised {type(error).__qualname__} for "
            f"event {delivery.envelope.name!r}; nothing was written"
        ) from error
