"""What a handler can ask about the delivery it runs in."""

from __future__ import annotations

from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eventbus.delivery import Delivery
    from eventbus.envelope import Envelope

current_delivery: ContextVar[Delivery | None] = ContextVar("eventbus_delivery", default=None)
"""The delivery that runs in this context, or None. Every handler has a context of its own."""


def current_envelope() -> Envelope | None:
    """Return the envelope of the delivery that runs here, or None outside of a handler."""
    delivery = current_delivery.get()
    return None if delivery is None else delivery.envelope


def in_handler() -> bool:
    """Tell whether a delivery runs here. A task that a handler left behind is in none any more."""
    delivery = current_delivery.get()
    return delivery is not None and delivery.state is None


def annotate(**values: Any) -> None:
    """Keep ``values`` with a failure of the delivery that runs here; see :meth:`Envelope.annotate`."""
    delivery = current_delivery.get()
    if delivery is not None:
        delivery.annotate(values)


def add_delivery_context(
    _logger: Any, _method: str, event_dict: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Structlog processor: add event_id, event_name, handler_id, correlation_id and tenant to a line.

    Put it among the processors of ``structlog.configure``. It reads the running delivery when a line
    is really logged; what the line says itself is kept.
    """
    delivery = current_delivery.get()
    if delivery is not None:
        envelope = delivery.envelope
        event_dict.setdefault("event_id", envelope.id)
        event_dict.setdefault("event_name", envelope.name)
        event_dict.setdefault("handler_id", delivery.handler_id)
        event_dict.setdefault("correlation_id", envelope.correlation_id)
        event_dict.setdefault("tenant", envelope.tenant)
    return event_dict
