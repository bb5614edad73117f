"""Starting and stopping a bus, and what others have it do while it runs."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

import anyio

from eventbus.classify import load_tables
from eventbus.context import current_delivery
from eventbus.errors import BusClosed

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping
    from types import TracebackType

    from eventbus.circuits import Circuits
    from eventbus.controls import Scope
    from eventbus.core import Core
    from eventbus.event_types import EventTypes
    from eventbus.gate import Gate
    from eventbus.intake import Plans
    from eventbus.metrics import Metrics
    from eventbus.plan import RouteMaker
    from eventbus.ports import Clock
    from eventbus.receipt import Receipt
    from eventbus.registry import Registry
    from eventbus.settings import Concurrency, QueueSettings
    from eventbus.stored import RedeliveryOutcome, StoredDelivery
    from eventbus.subscription import Subscription
    from eventbus.telemetry import Telemetry
    from eventbus_dlq import DeadLetterQueue


class Lifecycle:
    """What runs between a bus's start and its stop; the bus itself says what it is made of.

    Attributes:
        name: names the bus in log lines.
        metrics: its counters.
        telemetry: what tells its observers.
        breakers: the circuits of its handlers.
        gate: the scopes that operators have closed, as far as is known here.
    """

    name: str
    metrics: Metrics
    telemetry: Telemetry
    breakers: Circuits
    gate: Gate
    _dlq: DeadLetterQueue | None
    _clock: Clock
    _concurrency: Concurrency
    _queue_settings: QueueSettings
    _grace: float
    _history: deque[Receipt] | None
    _types: EventTypes
    _registry: Registry
    _routes: RouteMaker
    _plans: Plans
    _core: Core | None = None
    _open: bool = False

    @property
    def running(self) -> bool:
        """Whether the bus was started and has not been stopped."""
        return self._open

    async def start(self) -> None:
        """Open the dead-letter store and accept events.

        On trio, stop in the same task and the same cancel scope: ``async with bus:`` does.

        Raises:
            RuntimeError: the bus is running already.
            StoreUnavailable: the store cannot be opened; the bus stays closed.
        """
        if self._core is not None:
            raise RuntimeError(f"bus {self.name!r} is already running; stop it before starting it again")
        # what runs is loaded when it runs, so that importing is cheap
        from eventbus.core import Core
        from eventbus.runtime import open_runtime

        load_tables()
        self.breakers.reset()
        self._routes.reset()
        core = self._core = Core(
            runtime=await open_runtime(),
            telemetry=self.telemetry,
            metrics=self.metrics,
            clock=self._clock,
            dlq=self._dlq,
            concurrency=self._concurrency,
            history=self._history,
            queue=self._queue_settings,
            gate=self.gate,
        )
        try:
            if self._dlq is not None:
                await self._dlq.start(self)
        except BaseException:
            self._core = None
            await core.runtime.close()
            raise
        self._plans.use(core.dispatcher.compile)
        self._open = True

    async def stop(self) -> None:
        """Take no more events, let handlers finish within the grace, store the rest, close the store.

        Handlers that run may still publish. Stopping twice is harmless.
        """
        core = self._core
        if core is None:
            return
        self._open = False
        self._plans.close()
        if self._dlq is not None:
            self._dlq.halt()
        try:
            try:
                await core.finish(self._grace, self._plans.forget)
            finally:
                if self._dlq is not None:
                    with anyio.CancelScope(shield=True):
                        await self._dlq.come_to_rest()
        finally:
            self._core = None
            core.queue.close()
            try:
                await core.runtime.close()
            finally:  # whoever stops the bus may have been cancelled: the store is flushed all the same
                if self._dlq is not None:
                    with anyio.CancelScope(shield=True):
                        await self._dlq.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    @asynccontextmanager
    async def lifespan(self, _app: object = None) -> AsyncGenerator[None]:
        """Run the bus for as long as an ASGI application: ``Starlette(lifespan=bus.lifespan)``."""
        async with self:
            yield

    def _require_core(self) -> Core:
        """Return the core while the bus runs, and while it stops for what running handlers publish.

        Raises:
            BusClosed: the bus is not running.
        """
        core = self._started()
        if self._open or current_delivery.get() is not None:
            return core
        raise BusClosed(f"bus {self.name!r} is stopping")

    def _started(self) -> Core:
        """Return the core from the start of the bus until it has stopped.

        Raises:
            BusClosed: the bus is not running.
        """
        if self._core is None:
            raise BusClosed(f"bus {self.name!r} is not running: start it with 'async with bus:'")
        return self._core

    # -- what the dead-letter queue and the routes need of the bus

    async def redeliver(self, stored: StoredDelivery) -> RedeliveryOutcome:
        """Run one stored delivery again; see ``ports.Redeliverer``.

        Raises:
            BusClosed: the bus is not running.
        """
        return await self._require_core().redeliver(
            stored, types=self._types, registry=self._registry, routes=self._routes
        )

    def spawn(self, work: Callable[[], Awaitable[None]], /) -> None:
        """Run ``work`` in the bus's own tasks; stopping the bus waits for it within its grace.

        Raises:
            BusClosed: the bus is not running.
        """
        self._started().spawn(work)

    def serve(self, work: Callable[[], Awaitable[None]], /) -> None:
        """Run ``work`` in the bus's own tasks until the bus has stopped; see ``ports.Redeliverer``.

        Raises:
            BusClosed: the bus is not running.
        """
        self._started().serve(work)

    def call_from_thread(self, call: Callable[[], None], /) -> None:
        """Have ``call`` called in the bus's event loop soon, from any thread; see ``ports.Redeliverer``."""
        core = self._core
        if core is not None:
            core.runtime.call_from_thread(call)

    def subscription_of(self, handler_id: str) -> Subscription | None:
        """Return the subscription of that id or alias, or None; see ``ports.Redeliverer``."""
        return self._registry.find(handler_id)

    def knows_event(self, name: str) -> bool:
        """Tell whether a class here has that name, or a handler listens to it; see ``ports.Redeliverer``."""
        if self._types.find(name) is not None:
            return True
        return bool(self._registry.match(self._types.named(name)))

    def runs(self, scope: Scope) -> bool:
        """Tell whether a delivery of a scope runs here; see ``ports.Redeliverer``."""
        return self._core is not None and self._core.runs(scope)

    @property
    def ordered_handlers(self) -> Collection[str]:
        """The ids of the handlers whose transient deliveries keep an order; see ``ports.Redeliverer``."""
        return [
            subscription.id
            for subscription in self._registry
            if not subscription.durable and (self._plans.has_ordered or subscription.ordering_key is not None)
        ]

    @property
    def handlers(self) -> Mapping[str, int | None]:
        """How many deliveries of each handler run at a time, by id and alias; None for any number."""
        return {
            name: subscription.max_concurrency
            for subscription in self._registry
            for name in (subscription.id, *subscription.aliases)
        }
