"""What is under way in the bus, and waiting until nothing is."""

from __future__ import annotations

import anyio


class Activity:
    """Counts pieces of accepted work that have not settled."""

    __slots__ = ("_waiters", "count")

    def __init__(self) -> None:
        self.count = 0
        self._waiters: list[anyio.Event] = []

    def end(self) -> None:
        """Count one piece less; tell who waits when it was the last."""
        self.count -= 1
        if self._waiters and not self.count:
            for waiter in self._waiters:
                waiter.set()
            self._waiters.clear()

    async def wait_idle(self) -> None:
        """Return when nothing is under way."""
        while self.count:
            waiter = anyio.Event()
            self._waiters.append(waiter)
            await waiter.wait()
