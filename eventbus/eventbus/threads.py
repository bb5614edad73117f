"""Plain functions as handlers: each run takes a worker thread, and none can be stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread

if TYPE_CHECKING:
    from eventbus.delivery import Delivery
    from eventbus.envelope import Envelope

MAX_THREADS = 40
"""How many handlers run in threads at a time, per bus. Abandoned threads do not count."""


class Threads:
    """Runs plain handlers in worker threads of the bus's own share."""

    def __init__(self) -> None:
        self._limiter: anyio.CapacityLimiter | None = None

    def reset(self) -> None:
        """Forget the event loop that was; called when the bus starts."""
        self._limiter = None

    async def run(self, delivery: Delivery, call: Callable[[Any, Envelope], Any]) -> Any:
        """Run ``call(payload, envelope)`` in a thread and return its result.

        When the wait is cancelled the thread goes on: ``delivery.thread_done`` is then an event that
        is set once it has returned.
        """
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(MAX_THREADS)
        watch = _Watch(anyio.lowlevel.current_token())

        def work() -> Any:
            try:
                return call(delivery.payload, delivery.envelope)
            finally:
                watch.returned()

        try:
            return await anyio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._limiter)
        except anyio.get_cancelled_exc_class():
            delivery.thread_done = watch.abandon()
            raise


class _Watch:
    """Tells the event loop that an abandoned thread has returned."""

    def __init__(self, token: anyio.lowlevel.EventLoopToken) -> None:
        self._token = token
        self._lock = threading.Lock()
        self._begun = False
        self._returned = False
        self._event: anyio.Event | None = None

    def abandon(self) -> anyio.Event | None:
        """Stop waiting; return what will be set when the thread returns, None if it has."""
        with self._lock:
            if self._returned:
                return None
            self._event = anyio.Event()
            return self._event

    def returned(self) -> None:
        """Called in the thread, last."""
        with self._lock:
            self._returned = True
            event = self._event
        if event is not None:
            try:
                anyio.from_thread.run_sync(event.set, token=self._token)
            except RuntimeError:  # the event loop is gone, and with it whoever waited
                return
