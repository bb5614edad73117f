"""An event that was accepted and will be delivered later: its receipt, and all that its turn needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from eventbus.envelope import Envelope, envelope_of
from eventbus.receipt import DeliveryResult, Receipt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextvars import Context

    from eventbus.delivery import Delivery
    from eventbus.envelope import Metadata
    from eventbus.plan import Plan


class Enqueued(Receipt):
    """The receipt of an enqueued event: its deliveries are ``accepted`` until their turn has come.

    Attributes:
        plan: who gets it.
        payload: the event object.
        encoded: its encoded payload, where the check had to encode it.
        metadata: what its publisher said about it.
        published: when, as a reading of ``perf_counter_ns``.
        context: the context variables of its publisher.
    """

    _deliveries: Sequence[Delivery] = ()

    def __init__(
        self,
        plan: Plan,
        payload: Any,
        encoded: bytes | None,
        metadata: Metadata,
        published: int,
        context: Context,
    ) -> None:
        self.plan = plan
        self.payload = payload
        self.encoded = encoded
        self.metadata = metadata
        self.published = published
        self.context = context

    def follow(self, deliveries: Sequence[Delivery]) -> None:
        """Show these deliveries from now on: the event's turn has come."""
        self._deliveries = deliveries

    def use(self, envelope: Envelope) -> None:
        """Travel in this envelope."""
        self._envelope = envelope

    @property
    def is_looked_at(self) -> bool:
        """Whether its envelope has been made already."""
        return self._envelope is not None

    @property
    def envelope(self) -> Envelope:
        """The event with its metadata."""
        if self._envelope is None:
            if self._deliveries:
                return self._deliveries[0].envelope
            self._envelope = envelope_of(self.plan.event_type, self.payload, self.metadata, self.published)
        return self._envelope

    @property
    def deliveries(self) -> Mapping[str, DeliveryResult]:
        """The result of every delivery so far, by handler id, in the order of the handlers."""
        if self._deliveries:
            return super().deliveries
        return dict.fromkeys(self.plan.handler_ids, DeliveryResult("accepted", None, None, 0.0, 0))
