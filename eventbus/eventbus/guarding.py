"""The circuit on the publish path: what is published asks before it runs, and tells how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbus.circuit import CircuitState

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from contextvars import Context

    from eventbus.breaker import Breaker
    from eventbus.circuit import Permit
    from eventbus.deliverer import Deliverer
    from eventbus.delivery import Delivery


def start_guarded(
    deliverer: Deliverer, breaker: Breaker, delivery: Delivery, context: Context | None, begun: int
) -> Awaitable[None] | None:
    """Begin a delivery if its handler's circuit lets it; else have it stored, for a worker to run later.

    It takes what :meth:`Deliverer.start` takes, and returns what that returns.
    """
    permit = breaker.begin()
    if permit is None:
        delivery.held_back = True
        return deliverer.hold(delivery)
    delivery.permit = permit
    pending: Awaitable[None] | None = None
    try:
        pending = deliverer.start(delivery, context, begun)
    finally:
        if pending is None:
            _report(breaker, permit, delivery)
    return None if pending is None else _see_through(breaker, permit, delivery, pending)


async def _see_through(
    breaker: Breaker, permit: Permit, delivery: Delivery, pending: Awaitable[None]
) -> None:
    """Await a delivery that has begun, and give back its permit however that ends."""
    try:
        await pending
    finally:
        _report(breaker, permit, delivery)


def note_open_circuit(delivery: Delivery) -> None:
    """Note that a delivery, which is stored for its order, would not have been let through either."""
    breaker = delivery.route.breaker
    if breaker is not None and breaker.state is CircuitState.OPEN:
        delivery.held_back = True


def is_held_back(delivery: Delivery) -> bool:
    """Tell, and note, whether the circuit of a delivery has opened since it was let through."""
    breaker = delivery.route.breaker
    if breaker is None or delivery.permit is None or breaker.is_current(delivery.permit):
        return False
    delivery.held_back = True
    return True


def _report(breaker: Breaker, permit: Permit, delivery: Delivery) -> None:
    failure = delivery.failure
    if delivery.state == "succeeded":
        breaker.succeeded(permit)
    elif failure is not None and failure.reason == "failed" and delivery.failures:
        breaker.failed(permit, failure.error, delivery=delivery.envelope.id)
    else:  # cut short, skipped, stored without a run
        breaker.cancelled(permit)
