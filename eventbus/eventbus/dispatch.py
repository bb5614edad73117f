"""Fan-out of one event: stage by stage, all handlers of a stage at a time or one after another."""

from __future__ import annotations

from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from eventbus.delivery import Delivery
from eventbus.direct import direct_start

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from eventbus.deliverer import Deliverer
    from eventbus.envelope import Envelope
    from eventbus.plan import Plan, Route, StartEvent
    from eventbus.runtime import Runtime

Concurrency = Literal["concurrent", "serial"]


class Dispatcher:
    """Runs all deliveries of an event.

    Attributes:
        halted: set when the bus has run out of patience: what has not begun is stored, not run.
    """

    def __init__(self, *, deliverer: Deliverer, runtime: Runtime, concurrency: Concurrency) -> None:
        self._deliverer = deliverer
        self._runtime = runtime
        self._serial = concurrency == "serial"
        self.halted = False

    def compile(self, plan: Plan) -> StartEvent:
        """Return how events of ``plan`` are begun; see :class:`Plan`.

        A cancellation of what is awaited stores what has not settled, stages that have not begun
        included, and goes on its way.
        """
        if len(plan.routes) == 1 and self._deliverer.is_direct(plan.routes[0]) and not self.halted:
            return direct_start(plan.routes[0], recover=self._recover, resume=self._resume)
        return partial(self._start, plan)

    def _start(
        self, plan: Plan, envelope: Envelope, encoded: bytes | None, parent: Delivery | None
    ) -> tuple[Sequence[Delivery], Awaitable[None] | None]:
        stages = [
            [_delivery(route, envelope, encoded, parent) for route in stage] for stage in plan.stages
        ]
        deliveries = tuple(delivery for stage in stages for delivery in stage)
        return deliveries, self._finish(deliveries, self._run(stages)) if deliveries else None

    def _recover(self, delivery: Delivery, error: BaseException, begun: int) -> Awaitable[None]:
        return self._finish((delivery,), self._deliverer.recover(delivery, error, begun))

    def _resume(self, delivery: Delivery, context: Context, yielded: Any, begun: int) -> Awaitable[None]:
        return self._finish((delivery,), self._deliverer.resume(delivery, context, yielded, begun))

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
    delivery.encoded = encoded
    delivery.parent = parent
    return delivery
