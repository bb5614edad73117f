"""The shortest way through a route that nothing has to be asked about or told of.

It does what :meth:`Deliverer.start` does, with everything looked up beforehand. Most deliveries take
it, and each call or object that it saves is a twentieth of a publish; the long way explains the
steps. What makes it short, in the order of what it pays:

- the handler is begun with ``next(coroutine.__await__(), FINISHED)``: one that never waits ends
  without a StopIteration being made, raised and caught;
- the envelope, its id and its time are made when somebody looks (:class:`DirectDelivery`);
- what belongs to the route is in the closure's own variables.
"""

from __future__ import annotations

from contextvars import Context, copy_context
from functools import cached_property
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, TypeAlias

from eventbus.context import current_delivery
from eventbus.delivery import Delivery
from eventbus.envelope import Envelope, envelope_of
from eventbus.receipt import Receipt
from eventbus.runtime import FINISHED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from eventbus.enqueued import Enqueued
    from eventbus.envelope import Metadata
    from eventbus.gate import Gate
    from eventbus.plan import Deliver, Plan, Publish, Route, Run, RunInTask

Recover: TypeAlias = "Callable[[Delivery, BaseException, int], Awaitable[None]]"
"""What becomes of a failure: takes the delivery, the error, and when the attempt began."""

Settle: TypeAlias = "Callable[[Sequence[Delivery], Awaitable[None]], Coroutine[Any, Any, None]]"
"""Awaits deliveries that have begun, and stores what a cancellation cuts off."""

Hold: TypeAlias = "Callable[[Delivery], Awaitable[None] | None]"
"""Stores a delivery whose scope is closed, instead of running it."""

IsClosed: TypeAlias = "Callable[[Delivery], bool]"
"""Tells whether an operator has closed the scope of a delivery."""

Resume: TypeAlias = "Callable[[Delivery, Context | None, Any, int], Awaitable[None]]"
"""Takes a handler that waits to its end: the delivery, its context, what it waits for, its beginning."""


class DirectDelivery(Delivery):
    """A delivery whose envelope is made when somebody looks: most are never looked at.

    Attributes:
        published: when, as a reading of ``perf_counter_ns``.
    """

    published: int

    @cached_property
    def envelope(self) -> Envelope:  # type: ignore[override]  # computed here, given in Delivery
        """The event with its metadata; its time is when it was published."""
        return envelope_of(self.route.event_type, self.payload, self.metadata, self.published)


class QueuedDelivery(DirectDelivery):
    """The same of an enqueued event."""

    from_queue = True


def direct_ways(
    route: Route, *, gate: Gate, is_closed: IsClosed, hold: Hold, recover: Recover, resume: Resume
) -> tuple[Run, RunInTask]:
    """Return the shortest ways to run a delivery of ``route``: in the current task, and in its own."""
    counters = route.counters
    latency = counters.latency
    begin = _beginning(route)
    closed, tenants = gate.closed, gate.tenants
    assert route.way is not None  # it runs
    tenants_here, everybody = route.way.tenants, route.way.everybody

    def run(delivery: Delivery, context: Context, begun: int) -> Awaitable[None] | None:
        if (
            closed
            and ((tenant := delivery.metadata.tenant) in tenants or tenant in tenants_here or everybody)
            and is_closed(delivery)
        ):
            return hold(delivery)
        counters.started += 1
        try:
            yielded = context.run(begin, delivery)
        except BaseException as error:  # a handler's failure, whatever it is, is judged in one place
            return recover(delivery, error, begun)
        if yielded is not FINISHED:
            return resume(delivery, context, yielded, begun)
        delivery.duration_ns = elapsed = perf_counter_ns() - begun
        delivery.state = "succeeded"
        counters.latency_sum_ns += elapsed
        latency[elapsed.bit_length()] += 1
        return None

    async def run_in_task(delivery: Delivery) -> None:
        if closed and is_closed(delivery):
            pending = hold(delivery)
            if pending is not None:
                await pending
            return
        counters.started += 1
        begun = perf_counter_ns()
        try:
            yielded = begin(delivery)
        except BaseException as error:
            await recover(delivery, error, begun)
            return
        if yielded is not FINISHED:
            await resume(delivery, None, yielded, begun)
            return
        delivery.duration_ns = elapsed = perf_counter_ns() - begun
        delivery.state = "succeeded"
        counters.latency_sum_ns += elapsed
        latency[elapsed.bit_length()] += 1

    return run, run_in_task


def _beginning(route: Route) -> Callable[[Delivery], Any]:
    """Return what calls the handler in the current context, and says what it waits for, or FINISHED."""
    plain = route.plain
    call: Callable[[Any], Coroutine[Any, Any, None]] = plain or route.invoke
    takes_payload = plain is not None
    enter = current_delivery.set

    def begin(delivery: Delivery) -> Any:
        enter(delivery)
        coroutine = call(delivery.payload if takes_payload else delivery)
        yielded = next(coroutine.__await__(), FINISHED)
        if yielded is not FINISHED:
            delivery.coroutine = coroutine
        return yielded

    return begin


def direct_publish(plan: Plan, settle: Settle) -> Publish:
    """Return how to publish events of ``plan``, whose one route has the shortest way."""
    (route,) = plan.routes
    run = route.run
    check = plan.check

    def publish(
        payload: Any, metadata: Metadata, parent: Delivery | None
    ) -> tuple[Receipt, Awaitable[None] | None]:
        encoded = check(payload)
        begun = perf_counter_ns()
        delivery = DirectDelivery()
        delivery.route = route
        delivery.payload = payload
        delivery.metadata = metadata
        delivery.published = begun
        if encoded is not None:
            delivery.encoded = encoded
        if parent is not None:
            delivery.parent = parent
        pending = run(delivery, copy_context(), begun)
        receipt = Receipt()
        receipt.begun = (delivery,)
        return receipt, None if pending is None else settle(receipt.begun, pending)

    return publish


def direct_deliver(plan: Plan, settle: Settle) -> Deliver:
    """Return how to deliver enqueued events of ``plan``, whose one route has the shortest way."""
    (route,) = plan.routes
    run = route.run

    def deliver(item: Enqueued) -> Coroutine[Any, Any, None] | None:
        delivery = QueuedDelivery()
        delivery.route = route
        delivery.payload = item.payload
        delivery.metadata = item.metadata
        delivery.published = item.published
        if item.made is not None:
            delivery.envelope = item.made
        if item.encoded is not None:
            delivery.encoded = item.encoded
        deliveries = (delivery,)
        item.begun = deliveries
        pending = run(delivery, item.context.copy(), perf_counter_ns())
        return None if pending is None else settle(deliveries, pending)

    return deliver
