"""Deliveries that are claimed as they are accepted, because the process that accepts them can run them.

It spares the store a claim: most of what a durable delivery costs beyond being written and deleted.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from eventbus_dlq.letter import DeadLetterState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from eventbus.ports import Clock
    from eventbus_dlq.letter import DeadLetter
    from eventbus_dlq.store import Kept
    from eventbus_dlq.unsettled import Unsettled
    from eventbus_dlq.worker import DurableWorker

_ACCEPTED, _RUNNING = DeadLetterState.ACCEPTED, DeadLetterState.RUNNING


class Promises:
    """Sets room in a worker aside for deliveries on their way into the store, and hands them over.

    Args:
        worker: runs them.
        unsettled: told of what is to be waited for.
        owner: whose claims they are.
        lease: seconds for which a delivery is claimed.
    """

    def __init__(
        self, worker: DurableWorker, unsettled: Unsettled, *, clock: Clock, owner: str, lease: float
    ) -> None:
        self._worker = worker
        self._unsettled = unsettled
        self._clock = clock
        self._owner = owner
        self._lease = timedelta(seconds=lease)
        self._lease_ns = int(lease * 1e9)

    def make(
        self, dead_letter_id: str, handler_id: str, ordering_key: str | None, *, now: datetime
    ) -> tuple[str, datetime] | None:
        """Set room aside for a delivery; return whose claim it is from its acceptance on, and until when.

        There is no room, and it returns None, for what has to keep an order: whether it may run is for the
        store to say.
        """
        if ordering_key is not None or not self._worker.promise(dead_letter_id, handler_id):
            return None
        return self._owner, now + self._lease

    def keep(self, letters: Sequence[DeadLetter], kept: Sequence[Kept], *, made_ns: int) -> None:
        """Have the worker run, or look for, what is durable now, and was promised at ``made_ns``.

        What has run out while the store was slow is left to a rescue.
        """
        look = False
        lasts = self._clock.time_ns() - made_ns < self._lease_ns
        for letter, (dead_letter_id, state) in zip(letters, kept, strict=True):
            if state is _ACCEPTED:
                look = True
                self._unsettled.expect(dead_letter_id)
            if letter.state is not _RUNNING:
                continue
            if state is _RUNNING and dead_letter_id == letter.id and lasts:
                self._unsettled.expect(dead_letter_id)
                self._worker.keep_promise(letter)
            else:
                self._worker.break_promise(letter)
        if look:
            self._worker.look()

    def drop(self, letters: Sequence[DeadLetter]) -> None:
        """Give back the room of what was not accepted, or nobody knows to be."""
        for letter in letters:
            if letter.state is _RUNNING:
                self._worker.break_promise(letter)

    def give_back(self, letters: Sequence[DeadLetter]) -> None:
        """Release what is in the hands of the store's writer, and will not be run here any more."""
        for letter in letters:
            if letter.state is _RUNNING:
                self._worker.give_back_promised(letter)
