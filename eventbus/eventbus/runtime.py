"""How handlers are run, cut short and awaited: the one module that knows the event loop.

Trio goes through anyio. Asyncio is driven natively, because an anyio task group per event costs
more than everything else about it: a handler that never waits needs no task and no timer, and a
single one that waits goes on in its publisher's task.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import structlog

from eventbus.context import current_delivery
from eventbus.errors import HandlerTimeout

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from eventbus.delivery import Delivery

_log = structlog.get_logger("eventbus")


class Stopped(BaseException):
    """Raised where a delivery was cut short by the bus itself, which is shutting down."""


class Runtime(Protocol):
    """Runs deliveries on one event loop."""

    def attempt(self, delivery: Delivery, context: Context | None) -> Awaitable[None] | None:
        """Call the handler once; return None when it has returned already, else what to await.

        ``context`` is the handler's own; None when the current one is. Raises what the handler
        raises; HandlerTimeout when it ran out of time; Stopped when :meth:`interrupt` cut it short.
        """
        ...

    @property
    def eager(self) -> bool:
        """Whether a handler may be begun by hand, and handed to :meth:`resume` only when it waits."""
        ...

    def resume(self, delivery: Delivery, context: Context | None, yielded: Any) -> Awaitable[None]:
        """Return what takes a handler that was begun by hand, and waits for ``yielded``, to its end."""
        ...

    async def wait(self, delivery: Delivery, waiting: Coroutine[Any, Any, None]) -> None:
        """Await something on behalf of a delivery, so that :meth:`interrupt` ends the wait."""
        ...

    def run_together(self, deliveries: Sequence[Delivery]) -> Awaitable[None] | None:
        """Run deliveries at a time; return None when all have settled, else what to await.

        A cancellation of that cancels all of them, waits for them, and goes on its way.
        """
        ...

    def is_cancellation(self, error: BaseException) -> bool:
        """Tell whether ``error`` means that the running task was cancelled from outside."""
        ...

    def interrupt(self) -> None:
        """Cut short every delivery that is waiting: each ends with Stopped."""
        ...

    @property
    def running(self) -> Sequence[Delivery]:
        """The deliveries that are waiting for something right now."""
        ...

    def spawn(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run ``work`` in the background. What it raises is logged."""
        ...

    async def close(self) -> None:
        """Cancel the background work and wait for its end."""
        ...


async def open_runtime() -> Runtime:
    """Return the runtime of the event loop that runs here."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        runtime = AnyioRuntime(anyio.create_task_group())
        await runtime.open()
        return runtime
    return AsyncioRuntime(loop)


FINISHED = object()
"""What a handler that never waits gives in place of what it waits for."""


def _begin(delivery: Delivery) -> Any:
    """Enter the delivery and run its handler up to its first wait; return what it waits for, or FINISHED.

    ``next`` with a default ends without a StopIteration, which ``send`` would make and we would catch.
    """
    current_delivery.set(delivery)
    delivery.coroutine = coroutine = delivery.route.invoke(delivery)
    return next(coroutine.__await__(), FINISHED)


@types.coroutine
def _drive(
    context: Context | None, coroutine: Coroutine[Any, Any, None], yielded: Any
) -> Generator[Any, Any, None]:
    """Take a coroutine that waits on to its end, in its own context and in the current task."""
    run: Callable[..., Any] = _call if context is None else context.run
    try:
        while True:
            try:
                value = yield yielded
            except BaseException as error:
                yielded = run(coroutine.throw, error)
            else:
                yielded = run(coroutine.send, value)
    except StopIteration:
        return


def _call(function: Callable[..., Any], argument: Any) -> Any:
    return function(argument)


async def within(context: Context, coroutine: Coroutine[Any, Any, None]) -> None:
    """Await ``coroutine`` in the current task, but in a context of its own."""
    yielded = context.run(next, coroutine.__await__(), FINISHED)
    if yielded is not FINISHED:
        await _drive(context, coroutine, yielded)


def _timeout_of(delivery: Delivery) -> HandlerTimeout:
    return HandlerTimeout(f"handler {delivery.handler_id!r} exceeded its timeout of {delivery.route.timeout:g} s")


async def _guarded(work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except Exception:
        _log.exception("background.failed", work=repr(work))


class AsyncioRuntime:
    """Runs deliveries on asyncio, with native tasks where there must be tasks."""

    eager = True

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[Delivery, asyncio.Task[Any]] = {}
        self._background: set[asyncio.Task[None]] = set()

    def attempt(self, delivery: Delivery, context: Context | None) -> Awaitable[None] | None:
        """See :class:`Runtime`."""
        yielded = _begin(delivery) if context is None else context.run(_begin, delivery)
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
        cancelling = task.cancelling()
        self._waiting[delivery] = task
        delivery.stopped_by = None
        timer = (
            None if timeout is None else self._loop.call_later(timeout, self._stop, delivery, task, "timeout")
        )
        try:
            await _drive(context, coroutine, yielded)
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
        if delivery.stopped_by is not None:
            if task.uncancel() > cancelling:  # cancelled from outside as well, which goes first
                if error is None:
                    raise asyncio.CancelledError
                return
            reason: BaseException = Stopped() if delivery.stopped_by == "stop" else _timeout_of(delivery)
            raise reason from (None if isinstance(error, asyncio.CancelledError) else error)
        if (
            isinstance(error, asyncio.CancelledError)
            and delivery.in_own_task
            and not delivery.abandoned
            and task.cancelling() > cancelling
        ):
            task.uncancel()  # somebody cancelled the handler's task, but not its publisher
            raise Stopped from None

    def run_together(self, deliveries: Sequence[Delivery]) -> Awaitable[None] | None:
        """See :class:`Runtime`.

        Handlers that never wait are run here and now, one after another, as the event loop would. The
        first that waits goes on in this task, and every one after it gets a task of its own.
        """
        waiting = iter(deliveries)
        for delivery in waiting:
            pending = delivery.route.run(delivery, copy_context())
            if pending is not None:
                others = list(waiting)
                return self._gather(pending, others) if others else pending
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
        if not _holds(error, asyncio.CancelledError):
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
        task = self._loop.create_task(_guarded(work), context=Context())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def close(self) -> None:
        """See :class:`Runtime`."""
        await _cancel(list(self._background))


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until all have ended, however often we are cancelled meanwhile."""
    cancelled: asyncio.CancelledError | None = None
    waiting = {task for task in tasks if not task.done()}
    for task in waiting:
        task.cancel()
    while waiting:
        try:
            _, waiting = await asyncio.wait(waiting)
        except asyncio.CancelledError as again:
            cancelled = again
            waiting = {task for task in waiting if not task.done()}
            for task in waiting:
                task.cancel()
    for task in tasks:
        if not task.cancelled():
            task.exception()  # seen: what a delivery raises here is our own cancellation
    if cancelled is not None:
        raise cancelled


def _holds(error: BaseException, kind: type[BaseException]) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(kind) is not None
    return isinstance(error, kind)


class AnyioRuntime:
    """Runs deliveries through anyio: the way for trio."""

    eager = False  # a handler's cancel scope must be there before the handler is

    def __init__(self, background: TaskGroup) -> None:
        self._background = background
        self._cancelled = anyio.get_cancelled_exc_class()
        self._waiting: dict[Delivery, anyio.CancelScope] = {}

    async def open(self) -> None:
        """Enter the task group of the background work; :meth:`close` leaves it, in the same task."""
        await self._background.__aenter__()

    def attempt(self, delivery: Delivery, context: Context | None) -> Awaitable[None] | None:
        """See :class:`Runtime`."""
        return self._attempt(delivery, context)

    def resume(self, delivery: Delivery, context: Context | None, yielded: Any) -> Awaitable[None]:
        """See :class:`Runtime`; nobody calls it, as nothing is begun by hand here."""
        raise NotImplementedError

    async def _attempt(self, delivery: Delivery, context: Context | None) -> None:
        async def handler() -> None:
            yielded = _begin(delivery) if context is None else context.run(_begin, delivery)
            if yielded is not FINISHED:
                await _drive(context, delivery.coroutine, yielded)

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
            reason: BaseException = Stopped() if delivery.stopped_by == "stop" else _timeout_of(delivery)
            raise reason from error
        if error is not None:
            raise error

    def run_together(self, deliveries: Sequence[Delivery]) -> Awaitable[None] | None:
        """See :class:`Runtime`. One alone runs in the publisher's task, several in their own."""
        if len(deliveries) == 1:
            return deliveries[0].route.run(deliveries[0], copy_context())
        return self._gather(deliveries)

    async def _gather(self, deliveries: Sequence[Delivery]) -> None:
        try:
            async with anyio.create_task_group() as group:
                for delivery in deliveries:
                    group.start_soon(delivery.route.run_in_task, delivery)
        except BaseExceptionGroup as errors:  # only what goes its way comes here: KeyboardInterrupt, SystemExit
            raise _first_leaf(errors) from None

    def is_cancellation(self, error: BaseException) -> bool:
        """See :class:`Runtime`."""
        return _holds(error, self._cancelled)

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
        Context().run(self._background.start_soon, _guarded, work)

    async def close(self) -> None:
        """See :class:`Runtime`."""
        self._background.cancel_scope.cancel()
        await self._background.__aexit__(None, None, None)


def _first_leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
