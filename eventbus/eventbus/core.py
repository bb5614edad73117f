"""What a running bus is made of: built when the bus starts, gone when it has stopped."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import anyio

from eventbus.activity import Activity
from eventbus.deliverer import Deliverer
from eventbus.dispatch import Dispatcher
from eventbus.durable import Acceptor
from eventbus.kept_dispatch import KeptDispatcher
from eventbus.log import Log
from eventbus.queue import Queue
from eventbus.redelivery import redeliver
from eventbus.turns import Turns

if TYPE_CHECKING:
    from collections import deque

    from eventbus.controls import Scope
    from eventbus.enqueued import Enqueued
    from eventbus.envelope import Metadata
    from eventbus.event_types import EventTypes
    from eventbus.gate import Gate
    from eventbus.metrics import Metrics
    from eventbus.plan import Plan, RouteMaker
    from eventbus.ports import Clock, DeadLetters
    from eventbus.receipt import Receipt
    from eventbus.registry import Registry
    from eventbus.runtime import Runtime
    from eventbus.settings import Concurrency, QueueSettings
    from eventbus.stored import RedeliveryOutcome, StoredDelivery
    from eventbus.telemetry import Telemetry

_log = Log()

_AFTER_GRACE = 10.0
"""Seconds that handlers have to end once they are cut short; longer than a capture takes."""


class Core:
    """The moving parts of one run of a bus.

    Attributes:
        activity: events and redeliveries that are under way.
        background: other work that was spawned.
        runtime: the event loop's own ways.
        deliverer: runs deliveries.
        dispatcher: runs all deliveries of an event.
        queue: the enqueued events.
        turns: lets deliveries with an ordering key run in order.
    """

    def __init__(
        self,
        *,
        runtime: Runtime,
        telemetry: Telemetry,
        metrics: Metrics,
        clock: Clock,
        dlq: DeadLetters | None,
        concurrency: Concurrency,
        history: deque[Receipt] | None,
        queue: QueueSettings,
        gate: Gate,
    ) -> None:
        self.activity = Activity()
        self.background = Activity()
        self.runtime = runtime
        self.deliverer = Deliverer(runtime=runtime, telemetry=telemetry, clock=clock, dlq=dlq, gate=gate)
        self.dispatcher = Dispatcher(
            deliverer=self.deliverer,
            runtime=runtime,
            clock=clock,
            telemetry=telemetry,
            metrics=metrics,
            history=history,
            concurrency=concurrency,
        )
        self.queue = Queue(
            runtime=runtime,
            on_settled=self.activity.end,
            size=queue.size,
            workers=queue.workers,
            overflow=queue.overflow,
        )
        acceptor = None
        if dlq is not None:
            acceptor = Acceptor(dlq=dlq, deliverer=self.deliverer, telemetry=telemetry)
            self.deliverer.acceptor = acceptor
        self.turns = Turns(
            runtime=runtime,
            deliverer=self.deliverer,
            acceptor=acceptor,
            queue_is_busy=lambda: self.queue.is_busy,
        )
        self.dispatcher.kept = KeptDispatcher(
            dispatcher=self.dispatcher,
            turns=self.turns,
            acceptor=acceptor,
            queue=self.queue,
            serial=concurrency == "serial",
        )

    async def redeliver(
        self, stored: StoredDelivery, *, types: EventTypes, registry: Registry, routes: RouteMaker
    ) -> RedeliveryOutcome:
        """Run one stored delivery again, as work that stopping the bus waits for."""
        self.activity.count += 1
        try:
            return await redeliver(stored, types=types, registry=registry, routes=routes, turns=self.turns)
        finally:
            self.activity.end()

    async def enqueue_kept(
        self, plan: Plan, event: Any, metadata: Metadata, check_open: Callable[[], object]
    ) -> Enqueued:
        """Accept an event, some of whose handlers are durable or keep an order, for later.

        Its room in the queue is kept while its durable deliveries are committed; an event that goes to
        durable handlers only needs none. ``check_open`` raises when the bus has stopped meanwhile.
        """
        queue, kept = self.queue, self.dispatcher.kept
        needs_room = not all(route.subscription.durable for route in plan.routes)
        if needs_room and not queue.has_room():
            try:
                await queue.room()
                check_open()
            except BaseException:
                queue.pass_on()
                raise
        self.activity.count += 1
        queue.reserve(needs_room)
        is_queued = False
        try:
            item, is_queued = await kept.enqueue(plan, event, metadata)
            if is_queued:
                kept.put(item)
        finally:
            queue.release(needs_room)
            if not is_queued:
                self.activity.end()
        return item

    def runs(self, scope: Scope) -> bool:
        """Tell whether a delivery of a scope runs, or has failed and is on its way into the store."""
        underway = (*self.runtime.running, *self.deliverer.storing)
        return any(
            scope.covers(it.tenant, it.envelope.name, it.handler_id) for it in underway if it.has_begun
        )

    async def settle(self, pending: Awaitable[None]) -> None:
        """Await deliveries that have begun, as work that stopping the bus waits for."""
        self.activity.count += 1
        try:
            await pending
        finally:
            self.activity.end()

    def spawn(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run ``work`` in the background, as work that stopping the bus waits for within its grace."""
        self.background.count += 1

        async def counted() -> None:
            try:
                await work()
            finally:
                self.background.end()

        self.runtime.spawn(counted)

    def serve(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run ``work`` in the background until the runtime closes; nobody waits for its end."""
        self.runtime.spawn(work)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        return not (self.activity.count or self.background.count)

    async def wait_idle(self) -> None:
        """Return when nothing is under way, in the background neither."""
        while self.activity.count or self.background.count:
            await self.activity.wait_idle()
            await self.background.wait_idle()

    async def finish(self, grace: float, halt: Callable[[], None]) -> None:
        """Let what is under way end within ``grace`` seconds, then cut it short and store it.

        ``halt`` is called in between: from then on nothing is begun any more.
        """
        try:
            with anyio.move_on_after(grace):
                await self.wait_idle()
                return
        except BaseException:  # whoever stops the bus was cancelled: what was accepted is stored all the same
            with anyio.CancelScope(shield=True):
                await self._cut_short(0.0, halt)
            raise
        await self._cut_short(grace, halt)

    async def _cut_short(self, grace: float, halt: Callable[[], None]) -> None:
        """Begin nothing any more, end what runs, and store it together with what waits."""
        self.dispatcher.halted = True
        self.queue.deliver_by(self.dispatcher.deliver_enqueued)
        self.dispatcher.kept.fetch_all()
        halt()
        late = sorted({delivery.handler_id for delivery in self.runtime.running})
        _log.warning("shutdown.grace_over", grace=grace, handlers=late, enqueued=len(self.queue))
        self.runtime.interrupt()
        with anyio.move_on_after(_AFTER_GRACE):
            await self.activity.wait_idle()
            return
        stuck = sorted({delivery.handler_id for delivery in self.runtime.running})
        _log.error("shutdown.handlers_stuck", handlers=stuck, waited=_AFTER_GRACE)
