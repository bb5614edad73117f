"""Running one stored delivery, through the same wrapped path as the first time."""

from __future__ import annotations

from contextvars import copy_context
from time import perf_counter_ns
from typing import TYPE_CHECKING

from eventbus.context import current_delivery
from eventbus.delivery import Delivery
from eventbus.durable import is_masked
from eventbus.envelope import Envelope, Metadata, ReplayInfo
from eventbus.errors import InvalidEvent, OrderDeadlock, UndecodableEvent
from eventbus.ids import sequence
from eventbus.stored import (
    FailedAgain,
    Held,
    Interrupted,
    Redacted,
    RedeliveryOutcome,
    StoredDelivery,
    Succeeded,
    Undecodable,
    Unhandled,
)

if TYPE_CHECKING:
    from eventbus.event_types import EventTypes
    from eventbus.plan import RouteMaker
    from eventbus.registry import Registry
    from eventbus.turns import Turns


async def redeliver(
    stored: StoredDelivery,
    *,
    types: EventTypes,
    registry: Registry,
    routes: RouteMaker,
    turns: Turns,
) -> RedeliveryOutcome:
    """Decode a stored delivery and run it with its handler; see ``ports.Redeliverer``.

    Raises:
        OrderDeadlock: a running handler asked for it, and its turn only comes when that one is done.
    """
    subscription = registry.find(stored.handler_id)
    if subscription is None:
        return Unhandled(
            f"no handler {stored.handler_id!r} is subscribed here; subscribe it, or give a handler that was "
            "renamed aliases=(...) with its old id"
        )
    try:
        envelope = _envelope(stored, types)
    except (UndecodableEvent, InvalidEvent) as error:
        return Undecodable(error)
    if is_masked(envelope.event_type, stored.payload):
        return Redacted()
    route = routes.for_redelivery(subscription, envelope.event_type)
    delivery = Delivery()
    delivery.route = route
    delivery.envelope = envelope
    delivery.metadata = envelope.metadata
    delivery.payload = envelope.payload
    delivery.encoded = stored.payload
    delivery.redelivered = True
    delivery.stored_as = stored.handler_id
    delivery.runs_once = stored.once or stored.first_failed_at is not None
    delivery.attempt = stored.attempt
    delivery.attempts_before = stored.attempt - 1
    delivery.ordering_key = stored.ordering_key
    parent = current_delivery.get()
    if parent is not None:
        delivery.parent = parent
    turns.join(delivery)
    try:
        if delivery.ticket is not None and delivery.ticket.never_runs:
            raise OrderDeadlock(
                f"dead letter {stored.dead_letter_id} with ordering key {stored.ordering_key!r} runs when "
                "the handler that asks for it is done with its own delivery; ask for it elsewhere"
            )
        pending = turns.run(delivery, copy_context(), perf_counter_ns())
        if pending is not None:
            await pending
    finally:
        turns.drop([delivery])
    return _outcome(delivery)


def _envelope(stored: StoredDelivery, types: EventTypes) -> Envelope:
    event_type, payload = types.decode(stored.event_name, stored.event_version, stored.payload)
    metadata = Metadata(
        id=stored.event_id,
        correlation_id=stored.correlation_id,
        causation_id=stored.causation_id,
        source=stored.source,
        tenant=stored.tenant,
        user_id=stored.user_id,
        ordering_key=stored.ordering_key,
        priority=stored.priority,
        tags=stored.tags,
        headers=stored.headers,
        replay=None
        if stored.first_failed_at is None
        else ReplayInfo(stored.dead_letter_id, stored.attempt, stored.first_failed_at),
    )
    return Envelope(
        event_type, payload, int(stored.occurred_at.timestamp() * 1_000_000) * 1000, sequence.next(), metadata
    )


def _outcome(delivery: Delivery) -> RedeliveryOutcome:
    duration = delivery.duration_ns / 1e9
    if delivery.state == "parked":
        return Held()
    if delivery.state == "succeeded":
        return Succeeded(duration, delivery.runs)
    failure, error = delivery.failure, delivery.error
    assert failure is not None
    assert error is not None
    if failure.reason == "interrupted":
        return Interrupted()
    return FailedAgain(failure, error, duration)
