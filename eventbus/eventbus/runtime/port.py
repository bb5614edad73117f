"""What the bus needs of an event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import Context
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from eventbus.delivery import Delivery

Resume: TypeAlias = "Callable[[Delivery, Context | None, Any], Awaitable[None]]"
"""Takes a delivery, the handler's context (None for the current one), and what it waits for."""


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
    def resume(self) -> Resume | None:
        """Takes a handler that was begun by hand, and waits, to its end.

        None where a handler cannot be begun by hand.
        """
        ...

    async def wait(self, delivery: Delivery, waiting: Coroutine[Any, Any, None]) -> None:
        """Await something on behalf of a delivery, so that :meth:`interrupt` ends the wait."""
        ...

    def run_together(self, deliveries: Sequence[Delivery]) -> Awaitable[None] | None:
        """Run deliveries concurrently; return None when all have settled, else what to await.

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

    def call_from_thread(self, call: Callable[[], None]) -> None:
        """Have ``call`` called in the event loop soon, from any thread; not at all when that is closed."""
        ...

    async def close(self) -> None:
        """Cancel the background work and wait for its end."""
        ...
