"""Beginning a handler by hand, and driving it on in a context of its own."""

from __future__ import annotations

import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context
from typing import TYPE_CHECKING, Any

from eventbus.context import current_delivery
from eventbus.errors import HandlerTimeout
from eventbus.log import Log

if TYPE_CHECKING:
    from eventbus.delivery import Delivery

_log = Log()

FINISHED = object()
"""What a handler that never waits gives in place of what it waits for."""


def begin(delivery: Delivery) -> Any:
    """Enter the delivery and run its handler up to its first wait; return what it waits for, or FINISHED.

    ``next`` with a default ends without a StopIteration, which ``send`` would make and we would catch.
    """
    current_delivery.set(delivery)
    delivery.coroutine = coroutine = delivery.route.invoke(delivery)
    return next(coroutine.__await__(), FINISHED)


@types.coroutine
def drive(
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
        await drive(context, coroutine, yielded)


def timeout_of(delivery: Delivery) -> HandlerTimeout:
    """Return the error of a handler that ran out of time."""
    return HandlerTimeout(
        f"handler {delivery.handler_id!r} exceeded its timeout of {delivery.route.timeout:g} s"
    )


async def guarded(work: Callable[[], Awaitable[None]]) -> None:
    """Run background work; what it raises is logged."""
    try:
        await work()
    except Exception:
        _log.exception("background.failed", work=repr(work))
