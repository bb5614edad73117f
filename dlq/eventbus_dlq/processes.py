"""The row of this process in the store, and what follows from the rows of all."""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from typing import TYPE_CHECKING

from eventbus.log import Log
from eventbus_dlq.capture import moment
from eventbus_dlq.letter import DeadLetterState
from eventbus_dlq.store import Process

if TYPE_CHECKING:
    from eventbus.ports import Clock, Redeliverer
    from eventbus_dlq.store import DeadLetterStore
    from eventbus_dlq.telling import Moved

_log = Log()

ANNOUNCE_EVERY = 10.0
"""Seconds between two beats of a process's row, at most; a rescuer beats it more often for short leases."""

GONE_AFTER = 3 * ANNOUNCE_EVERY
"""Seconds after its last beat from which on nobody waits for a process."""

LOOK_EVERY = 60.0
"""Seconds between two looks for deliveries that nobody handles."""

UNHANDLED_AFTER = 3_600.0
"""Seconds for which nobody must have announced a handler, before its deliveries are unhandled."""

_LONG_SILENCE = UNHANDLED_AFTER / 2
_LARGEST_DRIFT = 5.0


class Announcer:
    """Keeps this process's row beating, and exhausts the deliveries that no process handles.

    Args:
        process_id: unique for this start of the bus.
        moved: told of each delivery that is unhandled.
    """

    def __init__(
        self, *, store: DeadLetterStore, bus: Redeliverer, clock: Clock, process_id: str, moved: Moved
    ) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock
        self._id = process_id
        self._moved = moved
        self._host = socket.gethostname()
        self._started_at = moment(clock.time_ns())
        self._watching_since = clock.monotonic()
        self._announced_at = self._watching_since
        self._offset = self._wall_ahead()

    async def announce(self) -> None:
        """Say that this process is alive, and which handlers it has.

        Raises:
            StoreUnavailable: the store cannot be reached.
        """
        process = Process(
            id=self._id,
            name=self._bus.name,
            host=self._host,
            pid=os.getpid(),
            started_at=self._started_at,
            beat_at=moment(self._clock.time_ns()),
            handlers=tuple(sorted(self._bus.handlers)),
        )
        await self._store.announce(process)
        announced_at = self._clock.monotonic()
        if announced_at - self._announced_at > _LONG_SILENCE:  # nor could the others announce, it may be
            self._watching_since = announced_at
        self._announced_at = announced_at

    async def withdraw(self) -> None:
        """Remove the row of this process.

        Raises:
            StoreUnavailable: the store cannot be reached.
        """
        await self._store.withdraw(self._id)

    async def exhaust_unhandled(self) -> None:
        """Exhaust deliveries whose handler nobody has announced for an hour.

        Not before this process has itself been there, and has reached the store, for that long, by a clock
        that does not jump: after an outage of all processes or of the store, or a jump of the wall clock, the
        others get the same hour.

        Raises:
            StoreUnavailable: the store cannot be reached.
        """
        if abs(self._wall_ahead() - self._offset) > _LARGEST_DRIFT:
            self._offset = self._wall_ahead()
            self._watching_since = self._clock.monotonic()
        if self._clock.monotonic() - self._watching_since < UNHANDLED_AFTER:
            return
        now = moment(self._clock.time_ns())
        since = now - timedelta(seconds=UNHANDLED_AFTER)
        for dead_letter_id in await self._store.exhaust_unhandled(since=since, now=now):
            _log.error("dead_letter.unhandled", dead_letter=dead_letter_id)
            self._moved(DeadLetterState.EXHAUSTED, None)

    def _wall_ahead(self) -> float:
        """Return by how many seconds the wall clock is ahead of the one that does not jump."""
        return self._clock.time_ns() / 1e9 - self._clock.monotonic()
