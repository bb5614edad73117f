"""Deliveries through anyio: the way for trio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from contextvars import Context, copy_context
from time import perf_counter_ns
from typing import TYPE_CHECKING

import anyio
from anyio.lowlevel import current_token

from eventbus.groups import holds, members
from eventbus.runtime.driving import FINISHED, begin, drive, guarded, timeout_of
from eventbus.runtime.port import Stopped

if TYPE_CHECKING:
    from typing import Any

    from anyio.abc import TaskGroup

    from eventbus.delivery import Delivery


class AnyioRuntime:
    """Runs deliveries through anyio: the way for trio."""

    resume = None  # a handler's cancel scope must be there before the handler is

    def __init__(self, background: TaskGroup) -> None:
        self._background = background
        self._cancelled = anyio.get_cancelled_exc_class()
        self._waiting: dict[Delivery, anyio.CancelScope] = {}

    async def open(self) -> None:
        """Enter the task group of the background work; :meth:`close` leaves it, in the same task."""
        await self._background.__aenter__()
        self._loop: Any = current_token().native_token

    def attempt(self, delivery: Delivery, context: Context | None) -> Awaitable[None] | None:
        """See :class:`Runtime`."""
        return self._attempt(delivery, context)

    async def _attempt(self, delivery: Delivery, context: Context | None) -> None:
        async def handler() -> None:
            yielded = begin(delivery) if context is None else context.run(begin, delivery)
            if yielded is not FINISHED:
                await drive(context, delivery.coroutine, yielded)

        await self._scoped(delivery, handler(), delivery.route.timeout)

    async def wait(self, delivery: Delivery, waiting: Coroutine[Any, Any, None]) -> None:
        """See :class:`Runtime`."""
        await self._scoped(delivery, waiting, None)

    async def _scoped(
        self, delivery: Delivery, waiting: Coroutine[Any, Any, None], timeout: float | None
    ) -> None:
        """Await in a cancel scope, which must be entered before the handler opens its own."""
        error: BaseException | None = None
        with anyio.move_on_after(timeout) as scope:
            self._waiting[delivery] = scope
            delivery.stopped_by = None
            try:
                await waiting
            except self._cancelled:
                raise
            except BaseException as raised:
                error = raised
            finally:
                del self._waiting[delivery]
        if scope.cancel_called:
            reason: BaseException = Stopped() if delivery.stopped_by == "stop" else timeout_of(delivery)
            raise reason from error
        if error is not None:
            raise error

    def run_together(self, deliveries: Sequence[Delivery]) -> Awaitable[None] | None:
        """See :class:`Runtime`. One alone runs in the publisher's task, several in their own."""
        if len(deliveries) == 1:
            return deliveries[0].route.run(deliveries[0], copy_context(), perf_counter_ns())
        return self._gather(deliveries)

    async def _gather(self, deliveries: Sequence[Delivery]) -> None:
        try:
            async with anyio.create_task_group() as group:
                for delivery in deliveries:
                    group.start_soon(delivery.route.run_in_task, delivery)
        except (
            BaseExceptionGroup
        ) as errors:  # only what goes its way comes here: KeyboardInterrupt, SystemExit
            raise _first_leaf(errors) from None

    def is_cancellation(self, error: BaseException) -> bool:
        """See :class:`Runtime`."""
        return holds(error, self._cancelled)

    def interrupt(self) -> None:
        """See :class:`Runtime`."""
        for delivery, scope in list(self._waiting.items()):
            delivery.stopped_by = "stop"
            scope.cancel()

    @property
    def running(self) -> Sequence[Delivery]:
        """See :class:`Runtime`."""
        return list(self._waiting)

    def spawn(self, work: Callable[[], Awaitable[None]]) -> None:
        """See :class:`Runtime`."""
        Context().run(self._background.start_soon, guarded, work)

    def call_from_thread(self, call: Callable[[], None]) -> None:
        """See :class:`Runtime`."""
        with suppress(RuntimeError):  # the loop has ended, and nobody is there any more to be told
            self._loop.run_sync_soon(call)

    async def close(self) -> None:
        """See :class:`Runtime`."""
        self._background.cancel_scope.cancel()
        await self._background.__aexit__(None, None, None)


def _first_leaf(error: BaseException) -> BaseException:
    inner = members(error)
    return _first_leaf(inner[0]) if inner else error
