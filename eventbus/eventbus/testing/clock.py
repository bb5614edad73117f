"""A clock that stands still until a test turns it."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from datetime import UTC, datetime, timedelta

import anyio
import anyio.lowlevel

_NANOSECONDS = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_START = datetime(2026, 1, 1, tzinfo=UTC)


class FakeClock:
    """A clock for tests, on asyncio and on trio; see ``eventbus.Clock``.

        clock = FakeClock()
        bus = EventBus(dlq=DeadLetterQueue(MemoryStore(), clock=clock))
        ...
        await clock.wait_for_sleepers()   # the handler has failed, and waits for its retry
        clock.advance(0.2)                # now it runs again

    Use it in the thread of the event loop. It has no say over the timeouts of handlers, which the
    event loop itself keeps.

    Args:
        start: the moment at which it stands (aware); the beginning of 2026 unless given.

    Raises:
        ValueError: ``start`` has no time zone.
    """

    def __init__(self, start: datetime = _START) -> None:
        if start.tzinfo is None:
            raise ValueError(f"start={start!r} has no time zone; give an aware datetime")
        self._start_ns = ((start - _EPOCH) // timedelta(microseconds=1)) * 1_000
        self._passed_ns = 0
        self._numbers = itertools.count()
        self._sleepers: list[tuple[int, int, anyio.Event]] = []
        self._due: deque[anyio.Event] = deque()
        self._watchers: list[tuple[int, anyio.Event]] = []

    def time_ns(self) -> int:
        """Return the wall clock in nanoseconds since the epoch."""
        return self._start_ns + self._passed_ns

    def monotonic(self) -> float:
        """Return the seconds by which it was turned since it was made."""
        return self._passed_ns / _NANOSECONDS

    @property
    def now(self) -> datetime:
        """The moment at which it stands (aware UTC)."""
        return _EPOCH + timedelta(microseconds=self.time_ns() // 1_000)

    @property
    def sleepers(self) -> tuple[float, ...]:
        """How many seconds each sleeper has to go, the next one to wake first."""
        return tuple((until - self._passed_ns) / _NANOSECONDS for until, _, _ in sorted(self._sleepers))

    async def sleep(self, seconds: float) -> None:
        """Return when the clock was turned by ``seconds``; with 0 or less, let others run once."""
        if not seconds > 0:
            await anyio.lowlevel.checkpoint()
            return
        woken = anyio.Event()
        sleeper = (self._passed_ns + _nanoseconds(seconds), next(self._numbers), woken)
        heapq.heappush(self._sleepers, sleeper)
        self._tell_watchers()
        try:
            await woken.wait()
        finally:
            if sleeper in self._sleepers:  # cancelled before its time
                self._sleepers.remove(sleeper)
                heapq.heapify(self._sleepers)
            else:
                self._due.remove(woken)
                self._wake_next()

    def advance(self, seconds: float) -> None:
        """Turn the clock on by ``seconds`` and wake the sleepers whose time has come.

        They wake one after another, in the order of their moments, once the caller waits for
        something. All of them find the clock at its new moment.

        Raises:
            ValueError: ``seconds`` is negative or not a finite number: a clock goes forwards.
        """
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError(f"advance({seconds!r}) must be a finite number of seconds, 0 or more")
        self._passed_ns += _nanoseconds(seconds)
        waiting = bool(self._due)
        while self._sleepers and self._sleepers[0][0] <= self._passed_ns:
            self._due.append(heapq.heappop(self._sleepers)[2])
        if not waiting:
            self._wake_next()

    async def wait_for_sleepers(self, count: int = 1) -> None:
        """Return when at least ``count`` tasks sleep, without polling."""
        if len(self._sleepers) >= count:
            await anyio.lowlevel.checkpoint()
            return
        enough = anyio.Event()
        watcher = (count, enough)
        self._watchers.append(watcher)
        try:
            await enough.wait()
        finally:
            self._watchers.remove(watcher)

    def _tell_watchers(self) -> None:
        for count, enough in self._watchers:
            if len(self._sleepers) >= count:
                enough.set()

    def _wake_next(self) -> None:
        """Wake one: it wakes the one behind it, for event loops run what is ready in any order."""
        if self._due:
            self._due[0].set()

    def __repr__(self) -> str:
        return f"<FakeClock {self.now.isoformat()}, {len(self._sleepers)} asleep>"


def _nanoseconds(seconds: float) -> int:
    return round(seconds * _NANOSECONDS)
