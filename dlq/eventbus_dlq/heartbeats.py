"""Threads that beat the heart of leases, and cannot be held up by a store that hangs."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eventbus_dlq.store import Lease

_MAX_THREADS = 3


class Unanswered(Exception):
    """The store has not answered a heartbeat in time."""


class Heart:
    """Calls ``beat`` in threads of its own; a call that hangs is left to itself, and the next one goes on.

    Args:
        beat: extends leases, and returns those that are lost. It may block.
    """

    def __init__(self, beat: Callable[[Sequence[Lease]], Sequence[Lease]]) -> None:
        self._beat = beat
        self._threads: list[_Thread] = []
        self._answer: queue.SimpleQueue[Sequence[Lease] | Exception | None] = queue.SimpleQueue()

    def beat(self, leases: Sequence[Lease], *, patience: float) -> Sequence[Lease]:
        """Extend ``leases`` and return those that are lost.

        Raises:
            Unanswered: there was no answer within ``patience`` seconds, or :meth:`stop` was called.
            Exception: whatever ``beat`` raised.
        """
        answer = self._answer = queue.SimpleQueue()
        self._idle_thread().calls.put((leases, answer))
        try:
            outcome = answer.get(timeout=patience)
        except queue.Empty:
            outcome = None
        if outcome is None:
            raise Unanswered(f"no answer within {patience:g} s")
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def stop(self) -> None:
        """End the threads that are idle, and the wait for one that is not; it ends with its call."""
        for thread in self._threads:
            thread.calls.put(None)
        self._answer.put(None)

    def _idle_thread(self) -> _Thread:
        for thread in self._threads:
            if not thread.busy:
                return thread
        if len(self._threads) == _MAX_THREADS:
            raise Unanswered(f"{_MAX_THREADS} calls before have not returned yet")
        thread = _Thread(self._beat)
        self._threads.append(thread)
        return thread


class _Thread(threading.Thread):
    """Carries out calls, one after another."""

    def __init__(self, beat: Callable[[Sequence[Lease]], Sequence[Lease]]) -> None:
        super().__init__(name="eventbus-heartbeat", daemon=True)
        self._beat = beat
        self.busy = False
        self.calls: queue.SimpleQueue[
            tuple[Sequence[Lease], queue.SimpleQueue[Sequence[Lease] | Exception | None]] | None
        ] = queue.SimpleQueue()
        self.start()

    def run(self) -> None:
        while (call := self.calls.get()) is not None:
            leases, answer = call
            self.busy = True
            try:
                outcome: Sequence[Lease] | Exception = self._beat(leases)
            except Exception as error:
                outcome = error
            self.busy = False
            answer.put(outcome)
