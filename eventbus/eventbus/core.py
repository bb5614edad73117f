"""What a running bus is made of: built when the bus starts, gone when it has stopped."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import structlog

from eventbus.activity import Activity
from eventbus.deliverer import Deliverer
from eventbus.dispatch import Concurrency, Dispatcher
from eventbus.errors import CaptureFailed
from eventbus.queue import Overflow, Queue

if TYPE_CHECKING:
    from collections import deque

    from eventbus.metrics import Metrics
    from eventbus.ports import Clock, DeadLetters
    from eventbus.receipt import Receipt
    from eventbus.runtime import Runtime
    from eventbus.telemetry import Telemetry

_log = structlog.get_logger("eventbus")

_AFTER_GRACE = 10.0
"""Seconds that handlers have to end once they are cut short; longer than a capture takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """How ``enqueue`` behaves.

    Attributes:
        size: how many accepted events may wait.
        overflow: what happens when it is full: ``wait`` or ``raise``.
        workers: how many events are delivered at a time.
    """

    size: int
    overflow: Overflow
    workers: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"queue_size={self.size!r} must be 1 or more")
        if self.workers < 1:
            raise ValueError(f"enqueue_concurrency={self.workers!r} must be 1 or more")
        if self.overflow not in ("wait", "raise"):
            raise ValueError(f"overflow={self.overflow!r} must be 'wait' or 'raise'")


class Core:
    """The moving parts of one run of a bus.

    Attributes:
        activity: what is under way.
        runtime: the event loop's own ways.
        deliverer: runs deliveries.
        dispatcher: runs all deliveries of an event.
        queue: the enqueued events.
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
    ) -> None:
        self.activity = Activity()
        self.runtime = runtime
        self.deliverer = Deliverer(runtime=runtime, telemetry=telemetry, clock=clock, dlq=dlq)
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

    async def settle(self, pending: Awaitable[None]) -> None:
        """Await deliveries that have begun, as work that stopping the bus waits for."""
        self.activity.count += 1
        try:
            await pending
        finally:
            self.activity.end()

    async def finish(self, grace: float, halt: Callable[[], None]) -> None:
        """Let what is under way end within ``grace`` seconds, then cut it short and store it.

        ``halt`` is called in between: from then on nothing is begun any more.
        """
        with anyio.move_on_after(grace):
            await self.activity.wait_idle()
            return
        self.dispatcher.halted = True
        halt()
        late = sorted({delivery.handler_id for delivery in self.runtime.running})
        _log.warning("shutdown.grace_over", grace=grace, handlers=late, enqueued=len(self.queue))
        self.runtime.interrupt()
        with anyio.move_on_after(_AFTER_GRACE):
            await self.activity.wait_idle()
            return
        stuck = sorted({delivery.handler_id for delivery in self.runtime.running})
        _log.error("shutdown.handlers_stuck", handlers=stuck, waited=_AFTER_GRACE)


def check_captured(receipt: Receipt) -> None:
    """Raise CaptureFailed if a failure of this event's deliveries could not be stored.

    Raises:
        CaptureFailed: with the handlers' errors, the store's, and the receipt.
    """
    lost = receipt.lost
    if not lost:
        return
    first, envelope = lost[0], receipt.envelope
    raise CaptureFailed(
        f"{len(lost)} failed deliveries of {envelope.name!r} {envelope.id} could not be stored "
        f"({', '.join(delivery.handler_id for delivery in lost)}): {first.capture_error}",
        errors=[delivery.error for delivery in lost if delivery.error is not None],
        store_errors=[delivery.capture_error for delivery in lost if delivery.capture_error is not None],
        receipt=receipt,
    ) from first.capture_error
