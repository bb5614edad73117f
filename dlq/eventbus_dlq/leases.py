"""Keeping the leases of this process alive, and noticing when one is lost."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from eventbus.log import Log
from eventbus_dlq.capture import moment
from eventbus_dlq.errors import StoreUnavailable
from eventbus_dlq.heartbeats import Heart, Unanswered

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from eventbus.ports import Clock, Redeliverer
    from eventbus_dlq.store import DeadLetterStore, Lease

_log = Log()

_LONGEST_PAUSE = 1.0
_PATIENCE_AT_STOP = 1.0


class LeaseKeeper:
    """Beats the heart of all leases of a process every third of their length, from a thread of its own.

    A busy event loop therefore keeps its work; one that has not moved for ``stall_limit`` seconds gets
    no more heartbeats, until it moves again. A store that cannot be reached for a moment, or hangs,
    loses nothing: the next beat tries again. Whether a lease is lost is for the store to say.

    Args:
        lease: how long leases are, in seconds.
        stall_limit: seconds after which an event loop that does not move loses its leases.
    """

    def __init__(
        self, store: DeadLetterStore, *, clock: Clock, lease: float, stall_limit: float = 300.0
    ) -> None:
        self._store = store
        self._clock = clock
        self._lease = lease
        self._stall_limit = stall_limit
        self._pause = min(_LONGEST_PAUSE, lease / 3, stall_limit / 3)
        self._watched: dict[Lease, Callable[[], None]] = {}
        self._bus: Redeliverer | None = None
        self._thread: threading.Thread | None = None
        self._heart = Heart(self._extend)
        self._work = threading.Event()
        self._stopped = threading.Event()
        self._moved_at = 0.0
        self._stalled = False
        self._unanswered = False

    # -- in the event loop

    def start(self, bus: Redeliverer) -> None:
        """Keep leases from now on; the thread begins with the first of them."""
        self._bus = bus
        self._heart = Heart(self._extend)
        self._work = threading.Event()
        self._stopped = threading.Event()

    async def stop(self) -> None:
        """End the threads. Leases that are still watched are left to run out."""
        self._stopped.set()
        self._work.set()
        self._heart.stop()
        thread, self._thread, self._bus = self._thread, None, None
        self._watched.clear()
        if thread is not None:
            await anyio.to_thread.run_sync(thread.join, _PATIENCE_AT_STOP)

    def watch(self, lease: Lease, lost: Callable[[], None]) -> None:
        """Keep ``lease`` alive until it is forgotten; call ``lost`` in the event loop when it is lost."""
        self._watched[lease] = lost
        if not self._work.is_set():
            self._moved_at = time.monotonic()
            self._work.set()
            if self._thread is None and self._bus is not None:
                self._thread = threading.Thread(
                    target=self._keep, args=(self._stopped,), name="eventbus-leases", daemon=True
                )
                self._thread.start()

    def forget(self, lease: Lease) -> None:
        """Keep ``lease`` no longer; harmless for one that is lost."""
        self._watched.pop(lease, None)

    def holds(self, lease: Lease) -> bool:
        """Tell whether ``lease`` is being kept alive here."""
        return lease in self._watched

    @contextmanager
    def keeping(self, leases: Sequence[Lease]) -> Generator[None]:
        """Keep ``leases`` alive inside the block, which is cancelled when all of them are lost."""
        left = set(leases)
        with anyio.CancelScope() as block:

            def lost(lease: Lease) -> None:
                self.tell_lost(lease)
                left.discard(lease)
                if not left:
                    block.cancel()

            for lease in leases:
                self.watch(lease, partial(lost, lease))
            try:
                yield
            finally:
                for lease in leases:
                    self.forget(lease)

    def tell_lost(self, lease: Lease) -> None:
        """Tell of a lease that is lost, whatever had been done under it."""
        _log.error("lease.lost", dead_letter=lease.dead_letter_id, token=lease.token)
        if self._bus is not None:
            self._bus.telemetry.emit("lease.lost", dead_letter=lease.dead_letter_id, token=lease.token)

    def _moves(self) -> None:
        self._moved_at = time.monotonic()

    def _lose(self, leases: Sequence[Lease]) -> None:
        for lease in leases:
            lost = self._watched.pop(lease, None)
            if lost is not None:  # else its run has ended meanwhile
                lost()

    # -- in the thread

    def _keep(self, stopped: threading.Event) -> None:
        due = 0.0
        while not stopped.is_set():
            if not self._watched:
                self._work.clear()
                if not self._watched:  # else one has come before the clearing
                    self._work.wait()
                due = time.monotonic() + self._lease / 3
            self._call(self._moves)
            left = due - time.monotonic()
            if stopped.wait(min(self._pause, left) if left > 0 else self._pause):  # overdue: it has stalled
                return
            if time.monotonic() >= due and not self._has_stalled():
                due = time.monotonic() + self._beat(list(self._watched))  # copied in one step

    def _has_stalled(self) -> bool:
        """Tell whether the event loop has not moved for longer than the limit."""
        still = time.monotonic() - self._moved_at
        stalled = still > self._stall_limit
        if stalled and not self._stalled:
            _log.error("loop.stalled", seconds=round(still, 1), letters=len(self._watched))
        self._stalled = stalled
        return stalled

    def _beat(self, leases: Sequence[Lease]) -> float:
        """Extend leases; return the seconds until the next beat."""
        if not leases:
            return self._lease / 3
        try:
            lost = self._heart.beat(leases, patience=self._lease / 3)
        except (StoreUnavailable, Unanswered) as error:
            if not (self._unanswered or self._stopped.is_set()):  # once for each outage, however long it is
                _log.warning("heartbeat.failed", error=str(error), letters=len(leases))
            self._unanswered = True
            return min(_LONGEST_PAUSE, self._lease / 10)
        except Exception:
            _log.exception("heartbeat.failed", letters=len(leases))
            return min(_LONGEST_PAUSE, self._lease / 10)
        self._unanswered = False
        if lost:
            self._call(partial(self._lose, lost))
        return self._lease / 3

    def _extend(self, leases: Sequence[Lease]) -> Sequence[Lease]:
        return self._store.heartbeat(leases, lease=self._lease, now=moment(self._clock.time_ns()))

    def _call(self, call: Callable[[], None]) -> None:
        bus = self._bus
        if bus is not None:
            bus.call_from_thread(call)
