"""Deliveries on asyncio, driven natively."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from contextvars import Context, copy_context
from time import monotonic, perf_counter_ns
from typing import TYPE_CHECKING, Any

from eventbus.groups import holds, is_a
from eventbus.log import Log
from eventbus.runtime.driving import FINISHED, begin, drive, guarded, timeout_of
from eventbus.runtime.port import Stopped

if TYPE_CHECKING:
    from eventbus.delivery import Delivery

_log = Log()

_PATIENCE = 15.0
"""Seconds that the tasks of the background have to end once they are cancelled for good: more than a release
or a capture takes."""


class AsyncioRuntime:
    """Runs deliveries on asyncio, with native tasks where there must be tasks."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[Delivery, asyncio.Task[Any]] = {}
        self._background: set[asyncio.Task[None]] = set()

    def attempt(self, delivery: Delivery, context: Context | None) -> Awaitable[None] | None:
        """See :class:`Runtime`."""
        yielded = begin(delivery) if context is None else context.run(begin, delivery)
        return None if yielded is FINISHED else self.resume(delivery, context, yielded)

    def resume(self, delivery: Delivery, context: Context | None, yielded: Any) -> Awaitable[None]:
        """See :class:`Runtime`."""
        return self._resume(delivery, context, delivery.coroutine, yielded, delivery.route.timeout)

    async def wait(self, delivery: Delivery, waiting: Coroutine[Any, Any, None]) -> None:
        """See :class:`Runtime`."""
        yielded = next(waiting.__await__(), FINISHED)
        if yielded is not FINISHED:
            await self._resume(delivery, None, waiting, yielded, None)

    async def _resume(
        self,
        delivery: Delivery,
        context: Context | None,
        coroutine: Coroutine[Any, Any, None],
        yielded: Any,
        timeout: float | None,
    ) -> None:
        """Take a waiting coroutine to its end; the timer is armed only now that it waits."""
        task = asyncio.current_task()
        assert task is not None
        cancelling = 0 if delivery.in_own_task else task.cancelling()
        self._waiting[delivery] = task
        delivery.stopped_by = None
        timer = (
            None if timeout is None else self._loop.call_later(timeout, self._stop, delivery, task, "timeout")
        )
        try:
            await drive(context, coroutine, yielded)
        except BaseException as error:
            self._explain(delivery, task, cancelling, error)
            raise
        else:
            self._explain(delivery, task, cancelling, None)
        finally:
            del self._waiting[delivery]
            if timer is not None:
                timer.cancel()

    def _stop(self, delivery: Delivery, task: asyncio.Task[Any], by: str) -> None:
        if delivery.stopped_by is None:
            delivery.stopped_by = by
            task.cancel()

    def _explain(
        self, delivery: Delivery, task: asyncio.Task[Any], cancelling: int, error: BaseException | None
    ) -> None:
        """Raise what a cancellation of our own means; leave everything else as it is."""
        is_cancelled = error is not None and is_a(error, asyncio.CancelledError)
        if delivery.stopped_by is not None:
            if task.uncancel() > cancelling:  # cancelled from outside as well, which goes first
                if error is None:
                    raise asyncio.CancelledError
                return
            reason: BaseException = Stopped() if delivery.stopped_by == "stop" else timeout_of(delivery)
            raise reason from (None if is_cancelled else error)
        cancelled_alone = delivery.in_own_task and not delivery.abandoned
        if is_cancelled and cancelled_alone and task.cancelling() > cancelling:
            task.uncancel()  # somebody cancelled the handler's task, but not its publisher
            raise Stopped from None

    def run_together(self, deliveries: Sequence[Delivery]) -> Awaitable[None] | None:
        """See :class:`Runtime`.

        Handlers that never wait are run here and now, one after another, as the event loop would. The
        first that waits goes on in this task, and every one after it gets a task of its own.
        """
        waiting = iter(deliveries)
        begun = perf_counter_ns()
        for delivery in waiting:
            pending = delivery.route.run(delivery, copy_context(), begun)
            if pending is not None:
                others = list(waiting)
                return self._gather(pending, others) if others else pending
            begun += delivery.duration_ns  # it has just ended: no need to read the clock again
        return None

    async def _gather(self, pending: Awaitable[None], others: Sequence[Delivery]) -> None:
        tasks: list[asyncio.Task[None]] = []
        for delivery in others:
            delivery.in_own_task = True
            tasks.append(self._loop.create_task(delivery.route.run_in_task(delivery)))
        try:
            await pending
            for task in tasks:
                await task
        except BaseException:
            for delivery in others:
                delivery.abandoned = True
            await _cancel(tasks)
            raise

    def is_cancellation(self, error: BaseException) -> bool:
        """See :class:`Runtime`. CancelledError when nobody cancelled is a failure like any other."""
        if not holds(error, asyncio.CancelledError):
            return False
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0

    def interrupt(self) -> None:
        """See :class:`Runtime`."""
        for delivery, task in list(self._waiting.items()):
            self._stop(delivery, task, "stop")

    @property
    def running(self) -> Sequence[Delivery]:
        """See :class:`Runtime`."""
        return list(self._waiting)

    def spawn(self, work: Callable[[], Awaitable[None]]) -> None:
        """See :class:`Runtime`."""
        task = self._loop.create_task(guarded(work), context=Context())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def call_from_thread(self, call: Callable[[], None]) -> None:
        """See :class:`Runtime`."""
        with suppress(RuntimeError):  # the loop is closed, and nobody is there any more to be told
            self._loop.call_soon_threadsafe(call)

    async def close(self) -> None:
        """See :class:`Runtime`."""
        await _cancel(list(self._background), patience=_PATIENCE)


async def _cancel(tasks: Sequence[asyncio.Task[None]], *, patience: float = math.inf) -> None:
    """Cancel tasks and wait until all have ended, however often we are cancelled meanwhile.

    One that has not ended within ``patience`` seconds, because it takes no notice of its cancellation, is
    left to itself.
    """
    cancelled: asyncio.CancelledError | None = None
    waiting: set[asyncio.Task[None]] = {task for task in tasks if not task.done()}
    for task in waiting:
        task.cancel()
    ends = monotonic() + patience
    while waiting and (left := ends - monotonic()) > 0:
        try:
            _, waiting = await asyncio.wait(waiting, timeout=None if left == math.inf else left)
        except asyncio.CancelledError as again:
            cancelled = again
            waiting = {task for task in waiting if not task.done()}
            for task in waiting:
                task.cancel()
    if waiting:
        _log.error("shutdown.tasks_left", tasks=len(waiting), waited=patience)
    for task in tasks:
        if task.done() and not task.cancelled():
            task.exception()  # seen: what a delivery raises here is our own cancellation
    if cancelled is not None:
        raise cancelled
