"""The shortest way: an event with one async handler, and nothing else to be asked or told.

It does what :meth:`Deliverer.start` does, with everything looked up beforehand. Most publishes take
it, and each call or object that it saves is a twentieth of such a publish; the long way explains the
steps. What makes it short, in the order of what it pays:

- the handler is begun with ``next(coroutine.__await__(), FINISHED)``: one that never waits ends
  without a StopIteration being made, raised and caught;
- the envelope, its id and its time are made when somebody looks (:class:`DirectDelivery`);
- what belongs to the route is in the closure's own variables.
"""

from __future__ import annotations

from contextvars import Context, copy_context
from functools import cached_property
from time import perf_counter_ns, time_ns
from typing import TYPE_CHECKING, Any, TypeAlias

from eventbus.context import current_delivery
from eventbus.delivery import Delivery
from eventbus.envelope import Envelope
from eventbus.ids import sequence
from eventbus.receipt import Receipt
from eventbus.runtime import FINISHED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from eventbus.envelope import Metadata
    from eventbus.plan import Plan, Publish, Route

Recover: TypeAlias = "Callable[[Delivery, BaseException, int], Awaitable[None]]"
"""What becomes of a failure: takes the delivery, the error, and when the attempt began."""

Resume: TypeAlias = "Callable[[Delivery, Context, Any, int], Awaitable[None]]"
"""Takes a handler that waits to its end: the delivery, its context, what it waits for, its beginning."""


class DirectDelivery(Delivery):
    """A delivery that was begun directly; its envelope is made when somebody looks."""

    def __init__(self, route: Route, payload: Any, metadata: Metadata, begun: int) -> None:
        self.route = route
        self.payload = payload
        self._metadata = metadata
        self._begun = begun

    @cached_property
    def envelope(self) -> Envelope:  # type: ignore[override]  # computed here, given in Delivery
        """The event with its metadata; its time is when it was published."""
        occurred = time_ns() - (perf_counter_ns() - self._begun)
        return Envelope(self.route.event_type, self.payload, occurred, sequence.next(), self._metadata)


def direct_publish(plan: Plan, *, recover: Recover, resume: Resume) -> Publish:
    """Return how to publish events of ``plan``, whose one route has neither condition nor slots."""
    (route,) = plan.routes
    check = plan.check
    counters = route.counters
    latency = counters.latency
    plain = route.plain
    call: Callable[[Any], Coroutine[Any, Any, None]] = plain or route.invoke
    enter = current_delivery.set

    def begin(delivery: Delivery, argument: Any) -> Any:
        enter(delivery)
        coroutine = call(argument)
        yielded = next(coroutine.__await__(), FINISHED)
        if yielded is not FINISHED:
            delivery.coroutine = coroutine
        return yielded

    def publish(
        payload: Any, metadata: Metadata, parent: Delivery | None
    ) -> tuple[Receipt, Awaitable[None] | None]:
        encoded = check(payload)
        counters.started += 1
        context = copy_context()
        begun = perf_counter_ns()
        delivery = DirectDelivery(route, payload, metadata, begun)
        if encoded is not None:
            delivery.encoded = encoded
        if parent is not None:
            delivery.parent = parent
        receipt = Receipt((delivery,))
        try:
            yielded = context.run(begin, delivery, delivery if plain is None else payload)
        except BaseException as error:  # a handler's failure, whatever it is, is judged in one place
            return receipt, recover(delivery, error, begun)
        if yielded is not FINISHED:
            return receipt, resume(delivery, context, yielded, begun)
        delivery.duration_ns = elapsed = perf_counter_ns() - begun
        delivery.state = "succeeded"
        counters.delivered += 1
        counters.latency_sum_ns += elapsed
        latency[elapsed.bit_length()] += 1
        return receipt, None

    return publish
