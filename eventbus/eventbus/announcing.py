"""Telling of an event that was accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eventbus.envelope import Envelope
    from eventbus.metrics import Metrics
    from eventbus.telemetry import Telemetry


def announce(envelope: Envelope, handlers: int, telemetry: Telemetry, metrics: Metrics) -> None:
    """Tell the observers of an event and how many handlers want it; count it when there are none."""
    if handlers and not telemetry:
        return
    fields = {
        "event": envelope.name,
        "event_id": envelope.id,
        "correlation_id": envelope.correlation_id,
        "tenant": envelope.tenant,
    }
    telemetry.emit("event.published", **fields, handlers=handlers)
    if not handlers:
        metrics.unhandled += 1
        telemetry.emit("event.unhandled", **fields)
