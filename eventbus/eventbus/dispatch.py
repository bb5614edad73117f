"""Fan-out of one event: stage by stage, all handlers of a stage at a time or one after another."""

from __future__ import annotations

from contextvars import copy_context
from typing import TYPE_CHECKING, Literal

from eventbus.delivery import Deliverer, Delivery

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventbus.envelope import Envelope
    from eventbus.plan import Plan
    from eventbus.runtime import Runtime

Concurrency = Literal["concurrent", "serial"]


class Dispatcher:
    """Runs all deliveries of an event and returns when every one has settled.

    Attributes:
        halted: set when the bus has run out of patience: what has not begun is stored, not run.
    """

    def __init__(self, *, deliverer: Deliverer, runtime: Runtime, concurrency: Concurrency) -> None:
        self._deliverer = deliverer
        self._runtime = runtime
        self._serial = concurrency == "serial"
        self.halted = False

    async def dispatch(
        self, plan: Plan, envelope: Envelope, encoded: bytes | None, parent: Delivery | None
    ) -> Sequence[Delivery]:
        """Deliver an event to every handler of its plan.

        A cancellation stores what has not settled, stages that have not begun included, and goes on
        its way.
        """
        only = plan.only
        if only is None or self.halted:
            return await self._dispatch_stages(plan, envelope, encoded, parent)
        delivery = Delivery(only, envelope, envelope.payload)
        delivery.encoded = encoded
        delivery.parent = parent
        try:
            pending = self._deliverer.start(delivery, copy_context())
            if pending is not None:
                await pending
        except BaseException:
            await self._store_unsettled((delivery,))
            raise
        return (delivery,)

    async def _dispatch_stages(
        self, plan: Plan, envelope: Envelope, encoded: bytes | None, parent: Delivery | None
    ) -> Sequence[Delivery]:
        deliveries: list[Delivery] = []
        stages: list[list[Delivery]] = []
        for routes in plan.stages:
            stage: list[Delivery] = []
            for route in routes:
                delivery = Delivery(route, envelope, envelope.payload)
                delivery.encoded = encoded
                delivery.parent = parent
                stage.append(delivery)
            deliveries += stage
            stages.append(stage)
        try:
            for stage in stages:
                if self._serial or len(stage) == 1:
                    await self._run_in_turn(stage)
                elif not self.halted:
                    await self._runtime.gather(self._deliverer.start, stage)
        finally:
            await self._store_unsettled(deliveries)
        return deliveries

    async def _run_in_turn(self, stage: Sequence[Delivery]) -> None:
        start = self._deliverer.start
        for delivery in stage:
            if self.halted:
                return
            pending = start(delivery, copy_context())
            if pending is not None:
                await pending

    async def _store_unsettled(self, deliveries: Sequence[Delivery]) -> None:
        unsettled = [delivery for delivery in deliveries if delivery.state is None]
        if unsettled:
            await self._deliverer.interrupt(unsettled)
