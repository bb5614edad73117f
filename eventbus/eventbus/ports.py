"""What the bus needs of others. ``eventbus_dlq`` and ``eventbus.testing`` implement these protocols."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from eventbus.acceptance import Acceptance, Accepted
    from eventbus.circuits import Circuits
    from eventbus.controls import Scope
    from eventbus.delivery import Delivery
    from eventbus.failure import Failure
    from eventbus.gate import Gate
    from eventbus.stored import RedeliveryOutcome, StoredDelivery
    from eventbus.subscription import Subscription
    from eventbus.telemetry import Telemetry

CallNext: TypeAlias = "Callable[[Delivery], Awaitable[None]]"
"""What a middleware calls to go on with a delivery."""

Middleware: TypeAlias = "Callable[[Delivery, CallNext], Awaitable[None]]"
"""Wraps every attempt of every delivery: ``async (delivery, call_next) -> None``."""


class Clock(Protocol):
    """Where the time comes from; a test puts its own in."""

    def time_ns(self) -> int:
        """Return the wall clock in nanoseconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Return seconds of a clock that never goes backwards."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds`` have passed; cancelled like any other wait."""
        ...


class Redeliverer(Protocol):
    """The bus, as the dead-letter queue sees it."""

    @property
    def name(self) -> str:
        """What the bus is called."""
        ...

    @property
    def telemetry(self) -> Telemetry:
        """Where named events go."""
        ...

    @property
    def breakers(self) -> Circuits:
        """The circuits of the handlers: asked before a stored delivery runs, and told how it ended."""
        ...

    @property
    def handlers(self) -> Mapping[str, int | None]:
        """The ids of the handlers that are subscribed, aliases included, as of now.

        With each, how many of its deliveries run at a time; None for any number.
        """
        ...

    def subscription_of(self, handler_id: str) -> Subscription | None:
        """Return the subscription of that id or alias, or None."""
        ...

    @property
    def gate(self) -> Gate:
        """What keeps deliveries of closed scopes from being begun; the queue says which are closed."""
        ...

    def knows_event(self, name: str) -> bool:
        """Tell whether a class here has that name, or a handler listens to it."""
        ...

    def runs(self, scope: Scope) -> bool:
        """Tell whether a delivery of a scope has begun here and has not settled yet."""
        ...

    async def redeliver(self, stored: StoredDelivery) -> RedeliveryOutcome:
        """Run one stored delivery through the same wrapped path as the first time.

        One that has failed before runs once; a first run has the handler's in-process attempts. Within
        this process it takes its turn among the deliveries of its handler and ordering key. Never
        raises for a failing handler. A cancellation of the caller cancels the handler and goes on its way.
        """
        ...

    def call_from_thread(self, call: Callable[[], None], /) -> None:
        """Have ``call`` called in the bus's event loop soon; from any thread, without waiting.

        Does nothing when the loop is closed.
        """
        ...

    def spawn(self, work: Callable[[], Awaitable[None]], /) -> None:
        """Run ``work`` in the bus's own tasks; stopping the bus waits for it within its grace."""
        ...

    def serve(self, work: Callable[[], Awaitable[None]], /) -> None:
        """Run ``work``, which goes on for as long as the bus does, in the bus's own tasks.

        Nobody waits for its end. It is cancelled when all else has ended, before ``DeadLetters.stop``.
        """
        ...

    @property
    def ordered_handlers(self) -> Collection[str]:
        """The ids of the handlers whose transient deliveries ask :meth:`DeadLetters.is_blocked`.

        Empty while nothing here is published with an ordering key, and no handler asks for one.
        """
        ...


class DeadLetters(Protocol):
    """The dead-letter queue, as the bus sees it."""

    @property
    def clock(self) -> Clock:
        """The clock of the queue, which the bus shares."""
        ...

    @property
    def max_payload(self) -> int:
        """The largest encoded payload that can be kept, in bytes."""
        ...

    async def start(self, bus: Redeliverer) -> None:
        """Open the store. Called once, before the bus accepts anything.

        Raises:
            StoreUnavailable: the store cannot be opened; the bus does not start.
        """
        ...

    def halt(self) -> None:
        """Begin to run nothing any more. Called once, when the bus begins to stop."""
        ...

    async def come_to_rest(self) -> None:
        """Wait, for a bounded time, for the store's answers to what has ended.

        Called once, when everything has ended that the bus waits for, and before it cancels the rest.
        """
        ...

    async def stop(self) -> None:
        """Flush and close the store. Called once, after the last delivery has settled."""
        ...

    async def wait_idle(self) -> None:
        """Return when no delivery that this process has accepted waits for a worker, or is run by one.

        Those that failed are not waited for, nor those that are held back: behind them, by an operator, or
        by their handler's circuit.
        """
        ...

    async def capture(self, failures: Sequence[Failure]) -> Sequence[str]:
        """Commit failures; return the ids of their dead letters, in order.

        The rows are handed to the store's writer before the first suspension, so that cancelling
        the caller ends the wait and not the write.

        Raises:
            StoreUnavailable: the store could not commit them within the capture timeout.
        """
        ...

    async def accept(self, deliveries: Sequence[Acceptance]) -> Sequence[Accepted]:
        """Commit deliveries that have not run, for workers to run; say where each is kept, in order.

        The rows are handed to the store's writer before the first suspension, as in :meth:`capture`.

        Raises:
            StoreUnavailable: the store could not commit them within the capture timeout.
        """
        ...

    async def accept_in(self, session: Any, deliveries: Sequence[Acceptance]) -> Sequence[Accepted]:
        """Write deliveries in the transaction of an ``AsyncSession`` of SQLAlchemy.

        Workers are told after its outermost commit. Such deliveries are never spooled.

        Raises:
            InvalidSession: the session cannot take them in; nothing was written.
        """
        ...

    def accept_in_sync(self, session: Any, deliveries: Sequence[Acceptance]) -> Sequence[Accepted]:
        """Do the same with a synchronous ``Session``; needs no event loop."""
        ...

    def is_blocked(self, handler_id: str, ordering_key: str) -> bool:
        """Tell whether the store holds open deliveries of a handler and key, as far as is known here.

        What other processes store is known within a second.
        """
        ...
