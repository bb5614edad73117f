"""Enqueued events: a bounded queue, and the workers that deliver what is in it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from eventbus.context import in_handler
from eventbus.errors import BusFull
from eventbus.runtime import within

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from eventbus.enqueued import Enqueued
    from eventbus.runtime import Runtime
    from eventbus.settings import Overflow

_BREATH = 64  # events a worker delivers before it lets other tasks run, when none of them waits


class Queue:
    """Accepts events until it is full, and has them delivered by workers that come and go."""

    def __init__(
        self,
        *,
        runtime: Runtime,
        on_settled: Callable[[], None],
        size: int,
        workers: int,
        overflow: Overflow,
    ) -> None:
        self._runtime = runtime
        self._on_settled = on_settled
        self._size = self._room = size
        self._most_workers = workers
        self._overflow = overflow
        self._items: deque[Enqueued] = deque()
        self._workers = 0
        self._starting = 0
        self._closed = False
        self._full: deque[anyio.Event] = deque()
        self._deliver: Callable[[Enqueued], Coroutine[Any, Any, None] | None] | None = None

    def __len__(self) -> int:
        return len(self._items)

    def has_room(self) -> bool:
        """Tell whether the next event neither has to wait nor is refused."""
        return len(self._items) < self._room

    def reserve(self, events: int = 1) -> None:
        """Count so many events more that wait, elsewhere than in here."""
        self._room -= events

    def release(self, events: int = 1) -> None:
        """Count so many less of them; wake who waits for the room."""
        self._room += events
        self.pass_on()

    @property
    def is_busy(self) -> bool:
        """Whether an event that waits may have to wait for another one to be delivered."""
        free = self._most_workers - self._workers + self._starting
        return free < max(1, len(self._items))

    async def room(self) -> None:
        """Return when there is room for one more event; at once for what a handler enqueues.

        Raises:
            BusFull: there is none, and the bus is to refuse rather than wait.
        """
        while len(self._items) >= self._room:
            if self._overflow == "raise":
                raise BusFull(
                    f"{self._size:,} events are enqueued and not yet delivered; wait, raise queue_size=, "
                    "or use overflow='wait'"
                )
            if in_handler():
                return  # the worker that would make room may be the one that runs this handler
            turn = anyio.Event()
            self._full.append(turn)
            try:
                await turn.wait()
            except BaseException:
                if turn.is_set():
                    self.pass_on()
                else:
                    self._full.remove(turn)
                raise

    def put(self, item: Enqueued) -> None:
        """Accept an event; call it without a wait after :meth:`room`."""
        self._items.append(item)
        # those that are at work may be at it for long: each event that waits has a worker that is to begin
        if self._workers < self._most_workers and self._starting < len(self._items):
            self._workers += 1
            self._starting += 1
            self._runtime.spawn(self._work)

    def deliver_by(self, deliver: Callable[[Enqueued], Coroutine[Any, Any, None] | None]) -> None:
        """Have what waits delivered by ``deliver`` from now on, and no more as its plan says."""
        self._deliver = deliver

    def pass_on(self) -> None:
        """Wake the next who waits: whoever :meth:`room` let in does not come."""
        if self._full and len(self._items) < self._room:
            self._full.popleft().set()

    async def _work(self) -> None:
        self._starting -= 1
        items, on_settled = self._items, self._on_settled
        delivered = 0
        try:
            while items:
                item = items.popleft()
                if self._full:
                    self.pass_on()
                try:
                    pending = (self._deliver or item.plan.deliver)(item)
                    if pending is not None:
                        await within(item.context, pending)
                finally:
                    on_settled()
                delivered += 1
                if not delivered % _BREATH:
                    await anyio.lowlevel.checkpoint()
        finally:
            self._workers -= 1
            if items and not self._closed:  # cut short: what waits is left to another worker
                self._workers += 1
                self._starting += 1
                self._runtime.spawn(self._work)

    def close(self) -> None:
        """Have nothing delivered any more."""
        self._closed = True
