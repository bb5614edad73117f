"""Fan-out of one event: stage by stage, all handlers of a stage at a time or one after another."""

from __future__ import annotations

from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from eventbus.clock import SystemClock
from eventbus.delivery import Delivery
from eventbus.direct import direct_publish
from eventbus.envelope import Envelope
from eventbus.ids import sequence
from eventbus.receipt import Receipt

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Awaitable, Sequence

    from eventbus.deliverer import Deliverer
    from eventbus.envelope import Metadata
    from eventbus.metrics import Metrics
    from eventbus.plan import Plan, Publish, Route
    from eventbus.ports import Clock
    from eventbus.runtime import Runtime
    from eventbus.telemetry import Telemetry

Concurrency = Literal["concurrent", "serial"]


class Dispatcher:
    """Runs all deliveries of an event.

    Attributes:
        halted: set when the bus has run out of patience: what has not begun is stored, not run.
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
        self._metrics = metrics
        self._history = history
        self._serial = concurrency == "serial"
        self.halted = False

    def compile(self, plan: Plan) -> Publish:
        """Return how events of ``plan`` are published; see :class:`Plan`.

        A cancellation of what is awaited stores what has not settled, stages that have not begun
        included, and goes on its way.
        """
        if self._is_direct(plan):
            return direct_publish(plan, recover=self._recover, resume=self._resume)
        return partial(self._publish, plan)

    def _is_direct(self, plan: Plan) -> bool:
        return (
            len(plan.routes) == 1
            and self._deliverer.is_direct(plan.routes[0])
            and self._history is None
            and isinstance(self._clock, SystemClock)
            and not self.halted
        )

    def _recover(self, delivery: Delivery, error: BaseException, begun: int) -> Awaitable[None]:
        return self._finish((delivery,), self._deliverer.recover(delivery, error, begun))

    def _resume(self, delivery: Delivery, context: Context, yielded: Any, begun: int) -> Awaitable[None]:
        return self._finish((delivery,), self._deliverer.resume(delivery, context, yielded, begun))

    def _publish(
        self, plan: Plan, payload: Any, metadata: Metadata, parent: Delivery | None
    ) -> tuple[Receipt, Awaitable[None] | None]:
        encoded = plan.check(payload)
        envelope = self._envelope(plan, payload, metadata)
        deliveries, pending = self.deliver(plan, envelope, encoded, parent)
        receipt = Receipt.of(envelope, deliveries)
        if self._history is not None:
            self._history.append(receipt)
        return receipt, pending

    def accept(self, plan: Plan, payload: Any, metadata: Metadata) -> tuple[Receipt, bytes | None]:
        """Take an event that will be delivered later; return its receipt and its encoded payload."""
        encoded = plan.check(payload)
        receipt = Receipt.accepted(self._envelope(plan, payload, metadata), plan)
        if self._history is not None:
            self._history.append(receipt)
        return receipt, encoded

    def _envelope(self, plan: Plan, payload: Any, metadata: Metadata) -> Envelope:
        """Make the envelope of an event that is accepted, and tell of it."""
        envelope = Envelope(plan.event_type, payload, self._clock.time_ns(), sequence.next(), metadata)
        handlers = len(plan.routes)
        if self._telemetry or not handlers:
            fields = {
                "event": envelope.name,
                "event_id": envelope.id,
                "correlation_id": envelope.correlation_id,
                "tenant": envelope.tenant,
            }
            self._telemetry.emit("event.published", **fields, handlers=handlers)
            if not handlers:
                self._metrics.unhandled += 1
                self._telemetry.emit("event.unhandled", **fields)
        return envelope

    def deliver(
        self, plan: Plan, envelope: Envelope, encoded: bytes | None, parent: Delivery | None
    ) -> tuple[Sequence[Delivery], Awaitable[None] | None]:
        """Begin to deliver an event to every handler of its plan.

        Returns the deliveries, and what to await until all have settled: None when they have.
        """
        if len(plan.routes) == 1 and not self.halted:
            delivery = _delivery(plan.routes[0], envelope, encoded, parent)
            pending = self._deliverer.start(delivery, copy_context())
            return (delivery,), None if pending is None else self._finish((delivery,), pending)
        stages = [
            [_delivery(route, envelope, encoded, parent) for route in stage] for stage in plan.stages
        ]
        deliveries = tuple(delivery for stage in stages for delivery in stage)
        return deliveries, self._finish(deliveries, self._run(stages)) if deliveries else None

    async def _finish(self, deliveries: Sequence[Delivery], pending: Awaitable[None]) -> None:
        try:
            await pending
        finally:
            unsettled = [delivery for delivery in deliveries if delivery.state is None]
            if unsettled:
                await self._deliverer.interrupt(unsettled)

    async def _run(self, stages: Sequence[Sequence[Delivery]]) -> None:
        for stage in stages:
            if self._serial or len(stage) == 1:
                await self._run_in_turn(stage)
            elif not self.halted:
                await self._runtime.gather(self._deliverer.start, stage)

    async def _run_in_turn(self, stage: Sequence[Delivery]) -> None:
        start = self._deliverer.start
        for delivery in stage:
            if self.halted:
                return
            pending = start(delivery, copy_context())
            if pending is not None:
                await pending


def _delivery(route: Route, envelope: Envelope, encoded: bytes | None, parent: Delivery | None) -> Delivery:
    delivery = Delivery(route, envelope)
    if encoded is not None:
        delivery.encoded = encoded
    if parent is not None:
        delivery.parent = parent
    return delivery
