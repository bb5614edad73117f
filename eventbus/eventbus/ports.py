"""What the bus needs of others. ``eventbus_dlq`` and ``eventbus.testing`` implement these protocols."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from eventbus.delivery import Delivery
    from eventbus.failure import Failure
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


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDelivery:
    """One stored delivery, as the dead-letter queue hands it back to the bus."""

    dead_letter_id: str
    event_id: str
    event_name: str
    event_version: int
    payload: bytes
    occurred_at: datetime
    handler_id: str
    attempt: int
    first_failed_at: datetime
    correlation_id: str | None = None
    causation_id: str | None = None
    source: str | None = None
    tenant: str | None = None
    user_id: str | None = None
    ordering_key: str | None = None
    priority: int = 5
    tags: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The handler returned."""

    duration: float


@dataclass(frozen=True, slots=True)
class FailedAgain:
    """The handler failed once more, and why; ``exception`` is for the caller who asked for the replay."""

    failure: Failure
    exception: BaseException
    duration: float


@dataclass(frozen=True, slots=True)
class Unhandled:
    """No handler of that id is subscribed here; nothing ran."""

    message: str


@dataclass(frozen=True, slots=True)
class Undecodable:
    """The stored payload does not fit today's event class; nothing ran."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The bus stopped before the handler had finished; the delivery is to be released uncharged."""


RedeliveryOutcome: TypeAlias = Succeeded | FailedAgain | Unhandled | Undecodable | Interrupted
"""How a redelivery ended: a closed union, matched exhaustively."""


class Redeliverer(Protocol):
    """The bus, as the dead-letter queue sees it."""

    @property
    def telemetry(self) -> Telemetry:
        """Where named events go."""
        ...

    async def redeliver(self, stored: StoredDelivery) -> RedeliveryOutcome:
        """Run one stored delivery through the same wrapped path as the first time, once.

        Never raises for a failing handler. A cancellation of the caller cancels the handler and
        goes on its way.
        """
        ...

    def spawn(self, work: Callable[[], Awaitable[None]], /) -> None:
        """Run ``work`` in the bus's own tasks; stopping the bus waits for it within its grace."""
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

    async def stop(self) -> None:
        """Flush and close the store. Called once, after the last delivery has settled."""
        ...

    async def capture(self, failures: Sequence[Failure]) -> Sequence[str]:
        """Commit failures; return the ids of their dead letters, in order.

        The rows are handed to the store's writer before the first suspension, so that cancelling
        the caller ends the wait and not the write.

        Raises:
            StoreUnavailable: the store could not commit them within the capture timeout.
        """
        ...
