"""Committing failures, to the end even when the caller is cancelled."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from eventbus.errors import BusClosed
from eventbus.ids import new_id
from eventbus.log import Log
from eventbus_dlq.capture import held, moment, new_letter, verdict_on
from eventbus_dlq.letter import DeadLetterState
from eventbus_dlq.store import Lease, Settlement
from eventbus_dlq.telling import tell_captured

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventbus.failure import Failure
    from eventbus.ports import Clock, Redeliverer
    from eventbus_dlq.committing import Committer
    from eventbus_dlq.leases import LeaseKeeper
    from eventbus_dlq.letter import DeadLetter
    from eventbus_dlq.recording import Recorder
    from eventbus_dlq.schedules import Schedules
    from eventbus_dlq.sequences import BlockedSequences
    from eventbus_dlq.store import DeadLetterStore
    from eventbus_dlq.telling import Moved

_log = Log()


class Captor:
    """Makes letters of failures and sees them into the store.

    Args:
        moved: told where each letter is.
    """

    def __init__(
        self,
        *,
        store: DeadLetterStore,
        committer: Committer,
        blocked: BlockedSequences,
        keeper: LeaseKeeper,
        recorder: Recorder,
        bus: Redeliverer,
        clock: Clock,
        schedules: Schedules,
        owner: str,
        lease: float,
        moved: Moved,
    ) -> None:
        self._store = store
        self._committer = committer
        self._blocked = blocked
        self._keeper = keeper
        self._recorder = recorder
        self._bus = bus
        self._clock = clock
        self._schedules = schedules
        self._owner = owner
        self._lease = lease
        self._moved = moved

    async def capture(self, failures: Sequence[Failure]) -> Sequence[str]:
        """Commit failures as dead letters; return their ids. See ``ports.DeadLetters``.

        Raises:
            StoreUnavailable: neither the store nor a spool has taken them.
        """
        now = moment(self._clock.time_ns())
        letters = [self._letter(failure, now) for failure in failures]
        with self._blocked.storing(letters):
            try:
                ids = await self._committer.add(letters)
            except Exception:  # the publisher is told
                raise
            except BaseException:  # a cancellation ends the wait and not the write, and what hangs on it
                self._see_through(letters, failures)
                raise
        self._captured(letters, ids, failures)
        return ids

    def _see_through(self, letters: Sequence[DeadLetter], failures: Sequence[Failure]) -> None:
        """Make sure, in a task of the bus, of a capture that nobody waits for any more."""

        async def capture() -> None:
            with self._blocked.storing(letters):
                ids = await self._committer.add(letters)  # what is there stays as it is
            self._captured(letters, ids, failures)

        try:
            self._bus.spawn(capture)
        except BusClosed:
            _log.warning("capture.unwatched", dead_letters=[letter.id for letter in letters])

    def _captured(
        self, letters: Sequence[DeadLetter], ids: Sequence[str], failures: Sequence[Failure]
    ) -> None:
        for letter, dead_letter_id, failure in zip(letters, ids, failures, strict=True):
            if self._bus.telemetry:
                tell_captured(
                    self._bus.telemetry,
                    letter,
                    state=letter.state,
                    error=failure.error,
                    kept_as=dead_letter_id,
                )
            self._moved(letter.state, letter.retry_at)
            if failure.thread_done is not None:
                self._hold(letter, dead_letter_id, failure)

    def _letter(self, failure: Failure, now: datetime) -> DeadLetter:
        redelivery = self._schedules.of(failure.handler_id, failure.envelope.name)
        letter = new_letter(failure, redelivery=redelivery, now=now)
        if failure.thread_done is None:
            return letter
        owner = f"{self._owner}:{new_id()}"  # tells this letter from a known one that it was added to
        return held(letter, owner=owner, lease_until=now + timedelta(seconds=self._lease))

    def _hold(self, letter: DeadLetter, dead_letter_id: str, failure: Failure) -> None:
        """Keep the lease of a letter whose handler's thread still runs, and settle it afterwards."""
        thread_done = failure.thread_done
        assert thread_done is not None
        returned = False

        def left_behind() -> None:
            """Name the thread that outlives the bus; the letter is free again when its lease has run out."""
            _log.warning("shutdown.thread_left", handler_id=failure.handler_id, dead_letter=dead_letter_id)

        async def settle_after_thread() -> None:
            nonlocal returned
            lease = await self._lease_of(letter, dead_letter_id)
            if lease is None:
                return
            try:
                with self._keeper.keeping([lease]):
                    await thread_done.wait()
                    returned = True
            except BaseException:
                left_behind()
                raise
            if returned:  # else the lease is lost
                await self._settle(lease, letter, failure)

        try:
            self._bus.spawn(settle_after_thread)
        except BusClosed:
            left_behind()

    async def _lease_of(self, letter: DeadLetter, dead_letter_id: str) -> Lease | None:
        """Return the lease under which a letter arrived; None when it found a known one at work."""
        if dead_letter_id == letter.id:
            return Lease(dead_letter_id=dead_letter_id, token=letter.token)
        known = await self._store.get(dead_letter_id)
        if known.state is not DeadLetterState.RUNNING or known.lease_owner != letter.lease_owner:
            return None
        return Lease(dead_letter_id=dead_letter_id, token=known.token)

    async def _settle(self, lease: Lease, letter: DeadLetter, failure: Failure) -> None:
        now = moment(self._clock.time_ns())
        redelivery = self._schedules.of(letter.handler_id, letter.event_name)
        verdict = verdict_on(failure, redelivery=redelivery, retries=0, now=now)
        settlement = Settlement(
            lease=lease,
            state=verdict.state,
            reason=verdict.reason,
            retry_at=verdict.retry_at,
            redelivery=redelivery,
        )
        if await self._recorder.settle(settlement):
            self._moved(settlement.state, settlement.retry_at)
