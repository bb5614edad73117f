"""A bus whose handlers fail as often as a test says, on a clock that the test turns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import anyio

from eventbus import Envelope, EventBus, TelemetryEvent
from eventbus.testing import FakeClock
from eventbus_dlq import DeadLetter, DeadLetterQuery, DeadLetterQueue, DeadLetterState, DeadLetterStore


class Failing:
    """A bus, and how often each of its handlers fails before it succeeds.

    Attributes:
        bus: the bus, with as many handlers as were added.
        failures: how often each handler goes on to fail; a handler that is not in it fails always.
        error: what they fail with: of a category that is retried, and opens no circuit.
        ran: when each handler has run, in seconds since the clock was made, in order.
        told: the telemetry.
    """

    def __init__(
        self,
        store: DeadLetterStore,
        clock: FakeClock,
        *,
        handlers: dict[str, dict[str, Any]] | None = None,
        observed: bool = False,
        **queue: Any,
    ) -> None:
        self.store = store
        self.clock = clock
        self.error: Exception = RuntimeError("declined")
        self.failures: Counter[str] = Counter()
        self.ran: list[tuple[str, float]] = []
        self.told: list[TelemetryEvent] = []
        observers = [self.told.append] if observed else []
        self.bus = EventBus(dlq=DeadLetterQueue(store, clock=clock, **queue), observers=observers)
        for name, options in (handlers or {"handler": {}}).items():
            self.bus.subscribe("job", self._handler(name), id=name, **options)

    def _handler(self, name: str) -> Any:
        async def handler(event: Any, envelope: Envelope) -> None:
            self.ran.append((name, self.clock.monotonic()))
            if name not in self.failures:
                raise self.error
            if self.failures[name] > 0:
                self.failures[name] -= 1
                raise self.error

        return handler

    @property
    def times(self) -> list[float]:
        """When anything has run, in seconds since the clock was made."""
        return [at for _, at in self.ran]

    async def publish(self, payload: Any = 1, **options: Any) -> str:
        """Publish an event, and return the id of its first dead letter."""
        receipt = await self.bus.publish("job", payload, **options)
        return next(it.dead_letter_id for it in receipt.deliveries.values() if it.dead_letter_id is not None)

    async def letters(self) -> list[DeadLetter]:
        """Return every letter, oldest first."""
        page = await self.store.find(DeadLetterQuery(), order="oldest", limit=1_000)
        return [await self.store.get(it.id) for it in page.items]

    async def settled(self, dead_letter_id: str, *, runs: int) -> DeadLetter:
        """Return a letter when it has run so often, and is at rest."""
        with anyio.fail_after(10):
            while True:
                letter = await self.store.get(dead_letter_id)
                if letter.attempts == runs and letter.state is not DeadLetterState.RUNNING:
                    return letter
                await anyio.sleep(0)

    async def until_due(self, letter: DeadLetter) -> None:
        """Turn the clock to the moment at which a letter is due."""
        assert letter.retry_at is not None
        self.clock.advance((letter.retry_at - self.clock.now).total_seconds() + 0.01)

    async def turn(self, seconds: float) -> None:
        """Turn the clock, and let everything happen that follows."""
        self.clock.advance(seconds)
        await anyio.wait_all_tasks_blocked()


async def until(there: Callable[[], bool]) -> None:
    """Return when something has come about."""
    with anyio.fail_after(10):
        while not there():
            await anyio.sleep(0)
