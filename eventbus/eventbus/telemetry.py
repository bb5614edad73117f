"""The catalogue of named events that observers receive.

=========================  ===================================================================
name                       fields
=========================  ===================================================================
``event.published``        event, event_id, correlation_id, tenant, handlers (how many)
``event.unhandled``        event, event_id, correlation_id, tenant
``delivery.started``       event, event_id, correlation_id, tenant, handler
``delivery.succeeded``     as started, and: duration (seconds), attempts
``delivery.failed``        as started, and: duration, attempts, error_type, kind
``delivery.retried``       as started, and: attempt (that failed), wait (seconds), error_type, kind
``delivery.timed_out``     as started, and: timeout (seconds)
``delivery.interrupted``   as started
``delivery.skipped``       as started
``delivery.accepted``      as started, and: dead_letter (where it is kept until a worker runs it)
``delivery.parked``        as started, and: dead_letter (where it is held back until it may run)
``delivery.lost``          as started, and: error (why neither the store nor a spool has taken it)
``dead_letter.captured``   dead_letter, event, event_id, handler, tenant, state, kind
``dead_letter.replayed``   dead_letter, event, handler, tenant, state (after it), duration
``dead_letter.resolved``   dead_letter, event, handler, tenant, age (seconds since it was stored)
``dead_letter.exhausted``  dead_letter, event, event_id, handler, tenant, reason, key
``dead_letter.changed``    dead_letter, event, handler, tenant, verb, state, by
``dead_letter.rescued``    dead_letter, event, handler, tenant, crashes
``control.changed``        tenant, event, handler, state (paused, draining, drained or resumed), reason, by
``circuit.changed``        handler, state, failures (transient ones, since the last success), error_type
``configuration.changed``  handler, event, redelivery (set for them), automatic_retries, by
``lease.lost``             dead_letter, token
``store.unavailable``      error; once for each outage
``store.available``        seconds (that the outage has lasted), refused (how many calls)
=========================  ===================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from eventbus.log import Log

_OF_A_DELIVERY = ("event", "event_id", "correlation_id", "tenant", "handler")
_OF_A_LETTER = ("dead_letter", "event", "handler", "tenant")

CATALOGUE: Mapping[str, tuple[str, ...]] = {
    "event.published": ("event", "event_id", "correlation_id", "tenant", "handlers"),
    "event.unhandled": ("event", "event_id", "correlation_id", "tenant"),
    "delivery.started": _OF_A_DELIVERY,
    "delivery.succeeded": (*_OF_A_DELIVERY, "duration", "attempts"),
    "delivery.failed": (*_OF_A_DELIVERY, "duration", "attempts", "error_type", "kind"),
    "delivery.retried": (*_OF_A_DELIVERY, "attempt", "wait", "error_type", "kind"),
    "delivery.timed_out": (*_OF_A_DELIVERY, "timeout"),
    "delivery.interrupted": _OF_A_DELIVERY,
    "delivery.skipped": _OF_A_DELIVERY,
    "delivery.accepted": (*_OF_A_DELIVERY, "dead_letter"),
    "delivery.parked": (*_OF_A_DELIVERY, "dead_letter"),
    "delivery.lost": (*_OF_A_DELIVERY, "error"),
    "dead_letter.captured": (*_OF_A_LETTER, "event_id", "state", "kind"),
    "dead_letter.replayed": (*_OF_A_LETTER, "state", "duration"),
    "dead_letter.resolved": (*_OF_A_LETTER, "age"),
    "dead_letter.exhausted": (*_OF_A_LETTER, "event_id", "reason", "key"),
    "dead_letter.changed": (*_OF_A_LETTER, "verb", "state", "by"),
    "dead_letter.rescued": (*_OF_A_LETTER, "crashes"),
    "control.changed": ("tenant", "event", "handler", "state", "reason", "by"),
    "circuit.changed": ("handler", "state", "failures", "error_type"),
    "configuration.changed": ("handler", "event", "redelivery", "automatic_retries", "by"),
    "lease.lost": ("dead_letter", "token"),
    "store.unavailable": ("error",),
    "store.available": ("seconds", "refused"),
}
"""Every name with the fields that its events carry."""


@dataclass(frozen=True, slots=True)
class TelemetryEvent:
    """Something that happened in the bus: a name of the catalogue, and its fields."""

    name: str
    fields: Mapping[str, Any]


Observer: TypeAlias = Callable[[TelemetryEvent], object]
"""A plain callable that receives every telemetry event. One that raises is logged and ignored."""

_log = Log()


class Telemetry:
    """Hands telemetry events to the observers. Falsy when nobody listens, so that callers can skip it."""

    __slots__ = ("_observers",)

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self._observers = tuple(observers)

    def __bool__(self) -> bool:
        return bool(self._observers)

    def emit(self, name: str, /, **fields: Any) -> None:
        """Tell every observer, in order; what one raises stays with it."""
        if not self._observers:
            return
        event = TelemetryEvent(name, fields)
        for observer in self._observers:
            try:
                observer(event)
            except Exception:
                _log.exception("observer.failed", observer=repr(observer), telemetry_event=name)
