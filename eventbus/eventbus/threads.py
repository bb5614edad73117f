"""Plain functions as handlers: each run takes a worker thread, and none can be stopped."""

from __future__ import annotations

import math
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import anyio.to_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from eventbus.delivery import Delivery
    from eventbus.envelope import Envelope


async def run_in_thread(delivery: Delivery, call: Callable[[Any, Envelope], Any]) -> Any:
    """Run ``call(payload, envelope)`` in a worker thread and return its result.

    When the wait is cancelled the thread goes on: ``delivery.thread_done`` is then an event that is set
    once it has returned.
    """
    watch = _Watch(anyio.lowlevel.current_token())

    def work() -> tuple[Any]:  # trio refuses a function that returns a bare coroutine
        if not watch.begin():
            return (None,)
        try:
            return (call(delivery.payload, delivery.envelope),)
        finally:
            watch.returned()

    try:
        # the bus counts its threads itself, because trio counts abandoned ones until they return
        (result,) = await anyio.to_thread.run_sync(
            work, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(math.inf)
        )
    except anyio.get_cancelled_exc_class():
        delivery.thread_done = watch.abandon()
        raise
    return result


class _Watch:
    """Tells the event loop that an abandoned thread has returned."""

    def __init__(self, token: anyio.lowlevel.EventLoopToken) -> None:
        loop: Any = token.native_token
        # not anyio.from_thread, which waits: for ever, when the event loop is just ending
        self._call_soon = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon
        self._lock = threading.Lock()
        self._begun = False
        self._abandoned = False
        self._returned = False
        self._event: anyio.Event | None = None

    def begin(self) -> bool:
        """Begin to run, in the thread; False when nobody waits any more, and nothing is to be run."""
        with self._lock:
            self._begun = not self._abandoned
            return self._begun

    def abandon(self) -> anyio.Event | None:
        """Stop waiting; return what will be set when the thread returns, None if nothing runs."""
        with self._lock:
            self._abandoned = True
            if self._returned or not self._begun:
                return None
            self._event = anyio.Event()
            return self._event

    def returned(self) -> None:
        """Tell who waits that the thread is done; the last that is done in it."""
        with self._lock:
            self._returned = True
            event = self._event
        if event is not None:
            with suppress(RuntimeError):  # the event loop is gone, and with it whoever waited
                self._call_soon(event.set)
