"""The real clock. ``eventbus.testing.FakeClock`` is the other implementation of ``ports.Clock``."""

from __future__ import annotations

import time

import anyio


class SystemClock:
    """Reads the machine's clocks and really sleeps."""

    # The functions themselves: a publish reads the clock, and a method around it costs as much again.
    time_ns = staticmethod(time.time_ns)
    monotonic = staticmethod(time.monotonic)

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds`` have passed."""
        await anyio.sleep(seconds)
