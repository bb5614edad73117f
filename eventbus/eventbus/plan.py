"""A plan: the routes of one event type, worked out once and kept until somebody subscribes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio

from eventbus.handlers import finish

if TYPE_CHECKING:
    from contextvars import Context

    from eventbus.breaker import Breaker
    from eventbus.circuits import Circuits
    from eventbus.delivery import Delivery
    from eventbus.enqueued import Enqueued
    from eventbus.envelope import Envelope, Metadata
    from eventbus.event_types import EventType
    from eventbus.gate import Gate, Way
    from eventbus.handlers import Handler
    from eventbus.metrics import Counters, Metrics
    from eventbus.ports import Middleware
    from eventbus.receipt import Receipt
    from eventbus.retry import RetryPolicy
    from eventbus.subscription import Subscription

MAX_THREADS = 40
"""How many plain functions run in threads at a time, per bus. Those left to themselves do not count."""

_MAX_REDELIVERIES = 1_000
"""How many routes of redeliveries are kept: names of events may be endless."""

Invoke: TypeAlias = "Callable[[Delivery], Coroutine[Any, Any, None]]"
Run: TypeAlias = "Callable[[Delivery, Context, int], Awaitable[None] | None]"
"""Runs a delivery in a context, begun at a reading of ``perf_counter_ns``; returns None when it has
settled already, else what to await."""
RunInTask: TypeAlias = "Callable[[Delivery], Coroutine[Any, Any, None]]"
"""Runs a delivery in the current task, which is its own."""
Deliver: TypeAlias = "Callable[[Enqueued], Coroutine[Any, Any, None] | None]"
"""Begins an enqueued event; returns what to await in its context until all deliveries have settled."""
CompilePlan: TypeAlias = "Callable[[Plan], tuple[Publish, Deliver]]"
Published: TypeAlias = "tuple[Receipt, Awaitable[None] | None]"
Publish: TypeAlias = "Callable[[Any, Metadata, Delivery | None], Published]"


class Route:
    """The way of one event type to one handler.

    Attributes:
        event_type: the events that take it.
        subscription: the handler and its options.
        handler_id: the subscription's id.
        invoke: calls the handler through the middleware.
        plain: the handler itself, when it is async, takes only the event and has no middleware.
        counters: where its deliveries are counted.
        policy: the in-process attempts that apply.
        timeout: seconds one attempt may take, or None.
        run: runs a delivery in the current task; given by the dispatcher.
        run_in_task: runs a delivery in a task of its own; given by the dispatcher.
        slots: how many deliveries may run at a time, or None for any number.
        threads: how many plain functions of the bus may, or None for an async handler.
        is_limited: whether one of the two must be asked for a place.
        conditional: whether ``when`` or ``once`` must be asked first.
        way: what operators have closed on it; None of one that runs nothing.
        breaker: the circuit that is asked before what is published runs, or None.
    """

    __slots__ = (
        "breaker",
        "conditional",
        "counters",
        "event_type",
        "handler_id",
        "invoke",
        "is_limited",
        "plain",
        "policy",
        "run",
        "run_in_task",
        "slots",
        "subscription",
        "threads",
        "timeout",
        "way",
    )

    def __init__(
        self,
        event_type: EventType,
        subscription: Subscription,
        invoke: Invoke,
        plain: Handler | None,
        counters: Counters,
        policy: RetryPolicy,
        slots: anyio.Semaphore | None,
        threads: anyio.Semaphore | None,
        way: Way | None,
        breaker: Breaker | None,
    ) -> None:
        self.event_type = event_type
        self.subscription = subscription
        self.handler_id = subscription.id
        self.invoke = invoke
        self.plain = plain
        self.counters = counters
        self.policy = policy
        self.timeout = subscription.timeout
        self.slots = slots
        self.threads = threads
        self.is_limited = slots is not None or threads is not None
        self.way = way
        self.breaker = breaker
        self.run: Run
        self.run_in_task: RunInTask
        self.conditional = subscription.once or subscription.when is not None

    def admits(self, envelope: Envelope) -> bool:
        """Ask ``when`` and ``once``; an event that both let pass uses up ``once``."""
        subscription = self.subscription
        if subscription.spent or (subscription.when is not None and not subscription.when(envelope)):
            return False
        subscription.spent = subscription.once
        return True


class Plan:
    """Who gets events of one type.

    Attributes:
        event_type: the type.
        check: makes sure that a payload can be stored, see :class:`~eventbus.payloads.Codec`.
        routes: the ways to its handlers, in order.
        stages: the same, stage by stage.
        is_ordered: whether its events come with an ordering key of their publisher's.
        is_plain: whether no handler is durable or keeps an order, so that deliveries just run.
        publish: begins an event: takes its checked metadata, and the delivery whose handler publishes
            it; returns the receipt, and what to await until every delivery has settled, None when
            they have.
        deliver: begins an enqueued event; returns what to await in its context, or None.
    """

    __slots__ = ("check", "deliver", "event_type", "is_ordered", "is_plain", "publish", "routes", "stages")

    def __init__(
        self,
        event_type: EventType,
        routes: Sequence[Route],
        compile_plan: CompilePlan,
        *,
        is_ordered: bool = False,
    ) -> None:
        self.is_ordered = is_ordered
        self.is_plain = not is_ordered and not any(
            route.subscription.durable or route.subscription.ordering_key is not None for route in routes
        )
        self.event_type = event_type
        self.check = event_type.codec.check
        self.stages = tuple(
            tuple(stage) for _, stage in groupby(routes, key=lambda route: route.subscription.stage)
        )
        self.routes = tuple(routes)
        self.publish, self.deliver = compile_plan(self)

    @property
    def handler_ids(self) -> tuple[str, ...]:
        """The ids of all handlers, in order."""
        return tuple(route.handler_id for route in self.routes)


class RouteMaker:
    """Makes the routes of one bus; what handlers of one subscription share is made once."""

    def __init__(
        self,
        *,
        middleware: Sequence[Middleware],
        metrics: Metrics,
        retry: RetryPolicy,
        gate: Gate,
        circuits: Circuits,
    ) -> None:
        self._gate = gate
        self._circuits = circuits
        self._middleware = tuple(middleware)
        self._metrics = metrics
        self._retry = retry
        self._threads: anyio.Semaphore | None = None
        self._slots: dict[Subscription, anyio.Semaphore] = {}
        self._redeliveries: dict[tuple[Subscription, EventType], Route] = {}

    def for_redelivery(self, subscription: Subscription, event_type: EventType) -> Route:
        """Return the route of a delivery from the store, made once; it may be in no plan any more."""
        known = self._redeliveries.get((subscription, event_type))
        if known is None:
            if len(self._redeliveries) >= _MAX_REDELIVERIES:
                self._redeliveries.clear()
            known = self._redeliveries[subscription, event_type] = self.make(subscription, event_type)
        return known

    def make(self, subscription: Subscription, event_type: EventType, *, runs: bool = True) -> Route:
        """Return the route of events of a type to the subscription's handler.

        One that ``runs`` nothing only names the handler, for deliveries that are stored; it may be made in
        any thread.
        """
        binding = subscription.binding
        invoke = invocation(subscription) if binding.is_async else invocation_in_thread(subscription)
        is_plain = binding.is_async and not binding.wants_envelope and not self._middleware
        return Route(
            event_type,
            subscription,
            fold(self._middleware, invoke),
            binding.handler if is_plain else None,
            self._metrics.counters(subscription.id, event_type.name),
            subscription.retry or self._retry,
            self._slots_of(subscription) if runs else None,
            self._thread_slots() if runs and not binding.is_async else None,
            self._gate.way(event_type.name, subscription.id) if runs else None,
            self._circuits.of_subscription(subscription) if subscription.circuit else None,
        )

    def reset(self) -> None:
        """Forget the event loop that was; called when the bus starts."""
        self._slots.clear()
        self._redeliveries.clear()
        self._threads = None

    def forget(self, subscription: Subscription) -> None:
        """Let go of what was kept for a subscription that is gone."""
        self._slots.pop(subscription, None)
        for known in [it for it in self._redeliveries if it[0] is subscription]:
            del self._redeliveries[known]

    def _thread_slots(self) -> anyio.Semaphore:
        if self._threads is None:
            self._threads = anyio.Semaphore(MAX_THREADS)
        return self._threads

    def _slots_of(self, subscription: Subscription) -> anyio.Semaphore | None:
        if subscription.max_concurrency is None:
            return None
        slots = self._slots.get(subscription)
        if slots is None:
            slots = self._slots[subscription] = anyio.Semaphore(subscription.max_concurrency)
        return slots


def fold(middleware: Sequence[Middleware], innermost: Invoke) -> Invoke:
    """Wrap ``innermost`` in the middleware, first item outermost; without any, return it as it is."""
    wrapped: Callable[[Delivery], Awaitable[None]] = innermost
    for layer in reversed(middleware):
        wrapped = partial(_through, layer, wrapped)
    return wrapped  # type: ignore[return-value]  # every layer is called by a coroutine function


async def _through(
    layer: Middleware, call_next: Callable[[Delivery], Awaitable[None]], delivery: Delivery
) -> None:
    await layer(delivery, call_next)


def invocation(subscription: Subscription) -> Invoke:
    """Return the function that calls an async handler with a delivery, and gives a coroutine of the run."""
    handler = subscription.handler
    if subscription.binding.wants_envelope:
        return lambda delivery: handler(delivery.payload, delivery.envelope)
    return lambda delivery: handler(delivery.payload)


def invocation_in_thread(subscription: Subscription) -> Invoke:
    """Return the same for a plain function, which runs in a worker thread."""
    call = subscription.binding.call

    async def in_thread(delivery: Delivery) -> None:
        from eventbus.threads import run_in_thread  # loaded by the few who need it

        await finish(await run_in_thread(delivery, call))

    return in_thread
