"""What stands in for a bus, a wall clock and a thief in the tests of the queue's parts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import anyio
from anyio.lowlevel import current_token

from eventbus import TelemetryEvent
from eventbus.telemetry import Telemetry
from eventbus_dlq import Claim, DeadLetterStore


class FakeBus:
    """As much of a bus as the parts of a queue ask for, on the event loop that runs here."""

    name = "shop"

    def __init__(self, handlers: Mapping[str, int | None] | None = None) -> None:
        self.seen: list[TelemetryEvent] = []
        self.telemetry = Telemetry([self.seen.append])
        self.handlers: Mapping[str, int | None] = handlers or {"billing.charge": None}
        self.ordered_handlers: tuple[str, ...] = tuple(self.handlers)
        native: Any = current_token().native_token
        on_asyncio = isinstance(native, asyncio.AbstractEventLoop)
        self._call_soon = native.call_soon_threadsafe if on_asyncio else native.run_sync_soon

    def call_from_thread(self, call: Callable[[], None]) -> None:
        self._call_soon(call)

    def names(self) -> list[str]:
        return [it.name for it in self.seen]


class WallClock:
    """The machine's clocks, with a wall clock that a test makes jump."""

    def __init__(self) -> None:
        self.jump = 0.0

    def time_ns(self) -> int:
        return time.time_ns() + int(self.jump * 1e9)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


async def steal(store: DeadLetterStore, letter_id: str) -> None:
    """Take a running letter over, as if its owner had died."""
    letter = await store.get(letter_id)
    assert letter.lease_until is not None
    now = letter.lease_until + timedelta(hours=1)
    running = [it for it in await store.leased(now=now) if it.dead_letter_id == letter_id]
    assert await store.rescue(running, max_crashes=9, now=now)
    (claim,) = await store.claim([letter_id], owner="thief", lease=60, now=now)
    assert isinstance(claim, Claim)
