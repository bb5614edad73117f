"""A plan: the routes of one event type, worked out once and kept until somebody subscribes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio

from eventbus.handlers import finish

if TYPE_CHECKING:
    from eventbus.delivery import Delivery
    from eventbus.envelope import Envelope
    from eventbus.event_types import EventType
    from eventbus.metrics import Counters, Metrics
    from eventbus.ports import Middleware
    from eventbus.retry import RetryPolicy
    from eventbus.subscription import Subscription
    from eventbus.threads import Threads

Invoke: TypeAlias = "Callable[[Delivery], Coroutine[Any, Any, None]]"
CompileStart: TypeAlias = "Callable[[Plan], StartEvent]"
Started: TypeAlias = "tuple[Sequence[Delivery], Awaitable[None] | None]"
StartEvent: TypeAlias = "Callable[[Envelope, bytes | None, Delivery | None], Started]"


class Route:
    """The way of one event type to one handler.

    Attributes:
        subscription: the handler and its options.
        handler_id: the subscription's id.
        invoke: calls the handler through the middleware.
        counters: where its deliveries are counted.
        policy: the in-process attempts that apply.
        timeout: seconds one attempt may take, or None.
        slots: how many deliveries may run at a time, or None for any number.
        conditional: whether ``when`` or ``once`` must be asked first.
    """

    __slots__ = (
        "conditional",
        "counters",
        "handler_id",
        "invoke",
        "policy",
        "slots",
        "subscription",
        "timeout",
    )

    def __init__(
        self,
        subscription: Subscription,
        invoke: Invoke,
        counters: Counters,
        policy: RetryPolicy,
        slots: anyio.Semaphore | None,
    ) -> None:
        self.subscription = subscription
        self.handler_id = subscription.id
        self.invoke = invoke
        self.counters = counters
        self.policy = policy
        self.timeout = subscription.timeout
        self.slots = slots
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
        start: begins an event: takes its envelope, the encoded payload if there is one, and the
            delivery whose handler published it; returns the deliveries, and what to await until all
            have settled, None when they have.
    """

    __slots__ = ("check", "event_type", "routes", "stages", "start")

    def __init__(self, event_type: EventType, routes: Sequence[Route], compile_start: CompileStart) -> None:
        self.event_type = event_type
        self.check = event_type.codec.check
        self.stages = tuple(
            tuple(stage) for _, stage in groupby(routes, key=lambda route: route.subscription.stage)
        )
        self.routes = tuple(routes)
        self.start = compile_start(self)

    @property
    def handler_ids(self) -> tuple[str, ...]:
        """The ids of all handlers, in order."""
        return tuple(route.handler_id for route in self.routes)


class RouteMaker:
    """Makes the routes of one bus; what handlers of one subscription share is made once."""

    def __init__(
        self, *, middleware: Sequence[Middleware], metrics: Metrics, retry: RetryPolicy, threads: Threads
    ) -> None:
        self._middleware = tuple(middleware)
        self._metrics = metrics
        self._retry = retry
        self._threads = threads
        self._slots: dict[Subscription, anyio.Semaphore] = {}

    def make(self, subscription: Subscription, event_name: str) -> Route:
        """Return the route of events of that name to the subscription's handler."""
        return Route(
            subscription,
            fold(self._middleware, invocation(subscription, self._threads)),
            self._metrics.counters(subscription.id, event_name),
            subscription.retry or self._retry,
            self._slots_of(subscription),
        )

    def reset(self) -> None:
        """Forget the event loop that was; called when the bus starts."""
        self._slots.clear()

    def forget(self, subscription: Subscription) -> None:
        """Let go of what was kept for a subscription that is gone."""
        self._slots.pop(subscription, None)

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


def invocation(subscription: Subscription, threads: Threads) -> Invoke:
    """Return the function that calls the handler with a delivery, and gives a coroutine of the run."""
    binding = subscription.binding
    if not binding.is_async:

        async def in_thread(delivery: Delivery) -> None:
            await finish(await threads.run(delivery, binding.call))

        return in_thread
    handler = binding.handler
    if binding.wants_envelope:
        return lambda delivery: handler(delivery.payload, delivery.envelope)
    return lambda delivery: handler(delivery.payload)
