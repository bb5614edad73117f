"""The real clock. ``eventbus.testing.FakeClock`` is the other implementation of ``ports.Clock``."""

from __future__ import annotations

import time

import anyio


class SystemClock:
    """Reads the machine's clocks and really sleeps."""

    def time_ns(self) -> int:
        """Return the wall clock in nanoseconds since the epoch."""
        return time.time_ns()

    def monotonic(self) -> float:
        """Return seconds of a clock that never goes backwards."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds`` have passed."""
        await anyio.sleep(seconds)
