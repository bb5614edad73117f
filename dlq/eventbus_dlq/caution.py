"""Beginning carefully: few deliveries at a time of a handler that has not answered in this process yet."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from eventbus.errors import BusClosed

if TYPE_CHECKING:
    from collections.abc import Callable

    from eventbus.ports import Redeliverer

PATIENCE = 0.5
"""Seconds of real time after which runs that have neither ended nor failed keep the others waiting no more.

What is refused at once, such as a connection, fails within that time. What takes its time, or waits for other
deliveries, is only late by it."""


class Caution:
    """Finds out with a few deliveries whether a handler can be run at all.

    So a process that starts amid an outage does not run into it with as many as it can run at a time.

    Args:
        changed: called when there may be more to claim.
    """

    def __init__(self, *, bus: Redeliverer, changed: Callable[[], None]) -> None:
        self._bus = bus
        self._changed = changed
        self._full_since: dict[str, float] = {}
        self._watched: set[str] = set()
        self._slow: set[str] = set()

    def room(self, handler_id: str, running: int, *, at_most: int) -> int | None:
        """Return how many more of a handler's may be claimed for ``at_most`` to run; None for any number."""
        room = at_most - running
        if room > 0:
            self._full_since.pop(handler_id, None)
            self._slow.discard(handler_id)
            return room
        if handler_id in self._slow:
            return None
        self.filled(handler_id)
        return 0

    def filled(self, handler_id: str) -> None:
        """Take note that as many of a handler's have been claimed as there was room for."""
        self._full_since.setdefault(handler_id, anyio.current_time())
        if handler_id not in self._watched:
            with suppress(BusClosed):  # then nothing more is claimed
                self._bus.serve(lambda: self._watch(handler_id))
                self._watched.add(handler_id)

    async def _watch(self, handler_id: str) -> None:
        """Let the others begin when those that run have neither ended nor failed for long enough."""
        try:
            while (since := self._full_since.get(handler_id)) is not None:
                left = since + PATIENCE - anyio.current_time()
                if left <= 0:
                    self._slow.add(handler_id)
                    self._changed()
                    return
                await anyio.sleep(left)
        finally:
            self._watched.discard(handler_id)
