"""Waking a worker at the moments at which something is known to be due."""

from __future__ import annotations

import heapq
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import anyio

from eventbus_dlq.capture import moment

if TYPE_CHECKING:
    from collections.abc import Callable

    from eventbus.ports import Clock

_MOST = 1_000
_APART = timedelta(milliseconds=10)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = datetime.max.replace(tzinfo=UTC) - _APART


class Alarm:
    """Rings at moments that are known here, so that what is due then need not wait for the next poll.

    It keeps a bounded number of moments, the earliest ones, and takes those that are close together for
    one: what it forgets is found by polling.

    Args:
        ring: called when a moment has come.
    """

    def __init__(self, *, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._moments: list[datetime] = []
        self._known: set[datetime] = set()
        self._latest: datetime | None = None  # of those that are kept, once there are as many as may be
        self._changed = anyio.Event()
        self._sleep: anyio.CancelScope | None = None

    def set(self, at: datetime) -> None:
        """Ring at a moment (aware), or up to 10 ms later; at once when it has passed."""
        if at <= moment(self._clock.time_ns()):
            self._ring()
            return
        if at > _LAST:
            return  # the calendar has no later step
        at = _EPOCH - (_EPOCH - at) // _APART * _APART  # up to the next whole step
        if at in self._known or (self._latest is not None and at >= self._latest):
            return
        heapq.heappush(self._moments, at)
        self._known.add(at)
        self._forget_the_latest()
        if self._moments[0] == at:
            self._changed.set()
            if self._sleep is not None:
                self._sleep.cancel()

    async def serve(self) -> None:
        """Ring until cancelled."""
        while True:
            if not self._moments:
                self._changed = anyio.Event()
                await self._changed.wait()
            left = self._moments[0] - moment(self._clock.time_ns())
            if left > timedelta(0):
                await self._sleep_for(left.total_seconds())
                continue  # the clock may have jumped meanwhile, and there may be an earlier moment
            self._known.discard(heapq.heappop(self._moments))
            self._latest = None  # there is room
            self._ring()

    async def _sleep_for(self, seconds: float) -> None:
        with anyio.CancelScope() as self._sleep:
            await self._clock.sleep(seconds)
        self._sleep = None

    def _forget_the_latest(self) -> None:
        """Keep as many as may be, and know from when on a moment is not kept."""
        if len(self._moments) > _MOST:
            latest = max(self._moments)
            self._moments.remove(latest)
            heapq.heapify(self._moments)
            self._known.discard(latest)
        if len(self._moments) == _MOST:
            self._latest = max(self._moments)
