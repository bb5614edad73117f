"""Jobs on their way from any thread to the coroutines of one event loop."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar

from eventbus_dlq.errors import StoreUnavailable

if TYPE_CHECKING:
    import asyncio

J = TypeVar("J")


class Inbox(Generic[J]):
    """Takes jobs from any thread or loop; what comes after :meth:`close` is refused.

    Args:
        loop: the event loop in which they are taken.
        database: what messages call the store.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, database: object) -> None:
        self._loop = loop
        self._database = database
        self._lock = threading.Lock()
        self._jobs: deque[J] = deque()
        self._takers: deque[asyncio.Future[None]] = deque()
        self._called = False
        self._closed = False

    def put(self, job: J) -> None:
        """Hand over a job.

        Raises:
            StoreUnavailable: the store is being closed.
        """
        with self._lock:
            if self._closed:
                raise StoreUnavailable(f"the dead-letter store {self._database} is closed; open it first")
            self._jobs.append(job)
            calls = self._calls()
        if calls:
            self._call()

    def close(self) -> None:
        """Refuse further jobs; takers get what was put in before, and then None."""
        with self._lock:
            calls = not self._closed and self._calls()
            self._closed = True
        if calls:
            self._call()

    async def take(self) -> J | None:
        """Wait for the next job; None when there will be none any more."""
        while not self._jobs:
            if self._closed:
                return None
            taker = self._loop.create_future()
            self._takers.append(taker)
            await taker
        return self._jobs.popleft()

    def take_waiting(self) -> J | None:
        """Return the next job if one waits already, else None."""
        return self._jobs.popleft() if self._jobs else None

    def take_everything(self) -> list[J]:
        """Return all jobs that wait."""
        waiting: list[J] = []
        while (job := self.take_waiting()) is not None:
            waiting.append(job)
        return waiting

    def _calls(self) -> bool:
        """Take note that the loop is called; one call does for all that comes until it is there."""
        called, self._called = self._called, True
        return not called

    def _call(self) -> None:
        """Call into the loop: without the lock, for which its thread would wait meanwhile."""
        with suppress(RuntimeError):  # closed behind us: it has seen the job
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        with self._lock:
            self._called = False
            waking = len(self._takers) if self._closed else min(len(self._takers), len(self._jobs))
        for _ in range(waking):
            taker = self._takers.popleft()
            if not taker.done():
                taker.set_result(None)
