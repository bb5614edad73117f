"""Fan-out of one event: stage by stage, all handlers of a stage concurrently or one after another."""

from __future__ import annotations

from contextvars import copy_context
from functools import partial
from itertools import islice
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, TypeAlias

from eventbus.announcing import announce
from eventbus.clock import SystemClock
from eventbus.delivery import Delivery
from eventbus.direct import direct_deliver, direct_publish, direct_ways
from eventbus.enqueued import Enqueued
from eventbus.envelope import Envelope
from eventbus.ids import sequence
from eventbus.receipt import Receipt

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from eventbus.deliverer import Deliverer
    from eventbus.envelope import Metadata
    from eventbus.kept_dispatch import KeptDispatcher
    from eventbus.metrics import Metrics
    from eventbus.plan import Deliver, Plan, Publish
    from eventbus.ports import Clock
    from eventbus.runtime import Runtime
    from eventbus.settings import Concurrency
    from eventbus.telemetry import Telemetry

RunSome: TypeAlias = "Callable[[Sequence[Delivery]], Awaitable[None] | None]"


class Dispatcher:
    """Runs all deliveries of an event.

    Attributes:
        halted: set when the bus has run out of patience: what has not begun is stored, not run.
        kept: takes the events with handlers that are durable or keep an order.
    """

    def __init__(
        self,
        *,
        deliverer: Deliverer,
        runtime: Runtime,
        clock: Clock,
        telemetry: Telemetry,
        metrics: Metrics,
        history: deque[Receipt] | None,
        concurrency: Concurrency,
    ) -> None:
        self._deliverer = deliverer
        self._runtime = runtime
        self._clock = clock
        self._telemetry = telemetry
        self._observed = bool(telemetry)
        self._metrics = metrics
        self._history = history
        self._can_look_later = history is None and isinstance(clock, SystemClock)
        self._serial = concurrency == "serial"
        self.halted = False
        self.kept: KeptDispatcher

    def compile(self, plan: Plan) -> tuple[Publish, Deliver]:
        """Return how events of ``plan`` are published, and delivered when enqueued; see :class:`Plan`.

        A cancellation of what is awaited stores what has not settled, stages that have not begun
        included, and goes on its way.
        """
        if not plan.is_plain:
            return self.kept.compile(plan)
        deliverer = self._deliverer
        direct = bool(plan.routes) and not self.halted
        for route in plan.routes:
            if deliverer.is_direct(route):
                route.run, route.run_in_task = direct_ways(
                    route,
                    gate=deliverer.gate,
                    is_closed=deliverer.is_closed,
                    hold=deliverer.hold,
                    recover=deliverer.recover,
                    resume=deliverer.resume,
                )
            else:
                direct = False
                route.run, route.run_in_task = deliverer.start, deliverer.run_in_task
        if direct and len(plan.routes) == 1 and self._can_look_later:
            return direct_publish(plan, self._finish), direct_deliver(plan, self._finish)
        return partial(self._publish, plan), self.deliver_enqueued

    def _publish(
        self, plan: Plan, payload: Any, metadata: Metadata, parent: Delivery | None
    ) -> tuple[Receipt, Awaitable[None] | None]:
        encoded = plan.check(payload)
        receipt = self.receipt(plan, payload, metadata)
        receipt.begun, pending = self.deliver(plan, receipt.envelope, encoded, parent)
        return receipt, pending

    def receipt(self, plan: Plan, payload: Any, metadata: Metadata) -> Receipt:
        """Return the receipt of an event that is accepted, without its deliveries."""
        receipt = Receipt()
        receipt.made = self._envelope(plan, payload, metadata)
        if self._history is not None:
            self._history.append(receipt)
        return receipt

    def accept(self, plan: Plan, payload: Any, metadata: Metadata) -> Enqueued:
        """Take an event that will be delivered later."""
        return self.enqueued(plan, payload, metadata, plan.check(payload))

    def enqueued(self, plan: Plan, payload: Any, metadata: Metadata, encoded: bytes | None) -> Enqueued:
        """Return the receipt of an event that will be delivered later, and whose payload was checked."""
        item = Enqueued()
        item.plan = plan
        item.payload = payload
        item.encoded = encoded
        item.metadata = metadata
        item.published = perf_counter_ns()
        item.context = copy_context()
        if not self._can_look_later or self._observed or not plan.routes:
            item.made = self._envelope(plan, payload, metadata)
            if self._history is not None:
                self._history.append(item)
        return item

    async def deliver_enqueued(self, item: Enqueued) -> None:
        """Deliver an event whose turn has come; store it when the bus has run out of patience."""
        if not item.plan.is_plain:
            await self.kept.deliver(item)
            return
        deliveries, pending = self.deliver(item.plan, item.envelope, item.encoded, None, queued=True)
        item.begun = deliveries
        if pending is not None:
            await pending

    def _envelope(self, plan: Plan, payload: Any, metadata: Metadata) -> Envelope:
        """Make the envelope of an event that is accepted, and tell of it."""
        envelope = Envelope(plan.event_type, payload, self._clock.time_ns(), sequence.next(), metadata)
        if self._observed or not plan.routes:
            announce(envelope, len(plan.routes), self._telemetry, self._metrics)
        return envelope

    def deliver(
        self,
        plan: Plan,
        envelope: Envelope,
        encoded: bytes | None,
        parent: Delivery | None,
        *,
        queued: bool = False,
    ) -> tuple[Sequence[Delivery], Awaitable[None] | None]:
        """Begin to deliver an event to every handler of its plan.

        Returns the deliveries, and what to await until all have settled: None when they have.
        """
        payload, metadata = envelope.payload, envelope.metadata
        deliveries: list[Delivery] = []
        for route in plan.routes:
            delivery = Delivery()
            delivery.route = route
            delivery.envelope = envelope
            delivery.metadata = metadata
            delivery.payload = payload
            if encoded is not None:
                delivery.encoded = encoded
            if parent is not None:
                delivery.parent = parent
            elif queued:
                delivery.from_queue = True
            deliveries.append(delivery)
        pending = self._begin(plan, deliveries) if deliveries else None
        return deliveries, None if pending is None else self._finish(deliveries, pending)

    def _begin(self, plan: Plan, deliveries: Sequence[Delivery]) -> Awaitable[None] | None:
        """Run what can be run without waiting; return what is left to await, or None."""
        if len(plan.stages) == 1:
            return self.begin((deliveries,))
        waiting = iter(deliveries)
        return self.begin([list(islice(waiting, len(stage))) for stage in plan.stages])

    def begin(self, stages: Sequence[Sequence[Delivery]]) -> Awaitable[None] | None:
        """Run deliveries stage by stage; return what is left to await when some wait, or None."""
        run = self._run_in_turn if self._serial else self._runtime.run_together
        if len(stages) == 1 and not self.halted:
            return run(stages[0])
        return self._run_stages(stages, run)

    async def _run_stages(self, stages: Sequence[Sequence[Delivery]], run: RunSome) -> None:
        for stage in stages:
            if self.halted:
                return
            pending = run(stage)
            if pending is not None:
                await pending

    def _run_in_turn(self, deliveries: Sequence[Delivery]) -> Awaitable[None] | None:
        waiting = iter(deliveries)
        begun = perf_counter_ns()
        for delivery in waiting:
            pending = delivery.route.run(delivery, copy_context(), begun)
            if pending is not None:
                return self._go_on_in_turn(pending, waiting)
            begun += delivery.duration_ns  # it has just ended: no need to read the clock again
        return None

    async def _go_on_in_turn(self, pending: Awaitable[None], waiting: Iterator[Delivery]) -> None:
        await pending
        for delivery in waiting:
            if self.halted:
                return
            further = delivery.route.run(delivery, copy_context(), perf_counter_ns())
            if further is not None:
                await further

    async def _finish(self, deliveries: Sequence[Delivery], pending: Awaitable[None]) -> None:
        try:
            await pending
        finally:
            unsettled = [delivery for delivery in deliveries if delivery.state is None]
            if unsettled:
                await self._deliverer.interrupt(unsettled)
