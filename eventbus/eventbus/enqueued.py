"""An event that was accepted and will be delivered later: its receipt, and all that its turn needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from eventbus.envelope import Envelope, envelope_of
from eventbus.receipt import DeliveryResult, Receipt

if TYPE_CHECKING:
    from contextvars import Context

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

    plan: Plan
    payload: Any
    encoded: bytes | None
    metadata: Metadata
    published: int
    context: Context

    @property
    def envelope(self) -> Envelope:
        """The event with its metadata."""
        if self.made is None:
            if self.begun:
                return self.begun[0].envelope
            self.made = envelope_of(self.plan.event_type, self.payload, self.metadata, self.published)
        return self.made

    @property
    def deliveries(self) -> Mapping[str, DeliveryResult]:
        """The result of every delivery so far, by handler id, in the order of the handlers."""
        if self.begun:
            return super().deliveries
        return dict.fromkeys(self.plan.handler_ids, DeliveryResult("accepted", None, None, 0.0, 0))
