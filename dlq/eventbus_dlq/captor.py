"""Committing failures: again while the store is unavailable, and to the end when the caller is cancelled."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import anyio
import structlog

from eventbus.errors import BusClosed
from eventbus_dlq.capture import held, moment, new_letter, verdict_on
from eventbus_dlq.errors import StoreUnavailable
from eventbus_dlq.letter import DeadLetterState
from eventbus_dlq.store import Lease, Settlement
from eventbus_dlq.telling import tell

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from eventbus.failure import Failure
    from eventbus.ports import Clock, Redeliverer
    from eventbus.retry import RetryPolicy
    from eventbus.telemetry import Telemetry
    from eventbus_dlq.leases import LeaseKeeper
    from eventbus_dlq.letter import DeadLetter
    from eventbus_dlq.store import DeadLetterStore

_log = structlog.get_logger("eventbus")
_FIRST_WAIT = 0.05
_LONGEST_WAIT = 1.0


class Captor:
    """Makes letters of failures and sees them into the store.

    Attributes:
        bus: whose failures they are, while it runs.
    """

    def __init__(
        self,
        *,
        store: DeadLetterStore,
        keeper: LeaseKeeper,
        clock: Clock,
        redelivery: RetryPolicy,
        owner: str,
        lease: float,
        capture_timeout: float,
    ) -> None:
        self._store = store
        self._keeper = keeper
        self._clock = clock
        self._redelivery = redelivery
        self._owner = owner
        self._lease = lease
        self._capture_timeout = capture_timeout
        self.bus: Redeliverer | None = None

    async def capture(self, failures: Sequence[Failure]) -> Sequence[str]:
        """Commit failures as dead letters; return their ids. See ``ports.DeadLetters``.

        Raises:
            StoreUnavailable: the store could not commit them within the capture timeout.
        """
        now = moment(self._clock.time_ns())
        letters = [self._letter(failure, now) for failure in failures]
        try:
            ids = await self._add(letters)
        except StoreUnavailable:
            raise
        except BaseException:  # a cancellation ends the wait and not the write, and what hangs on it
            self._see_through(letters, failures)
            raise
        self._captured(letters, ids, failures)
        return ids

    async def _add(self, letters: Sequence[DeadLetter]) -> Sequence[str]:
        try:
            return await self._store.add(letters)
        except StoreUnavailable as error:
            return await self._add_later(letters, error)

    def _see_through(self, letters: Sequence[DeadLetter], failures: Sequence[Failure]) -> None:
        """Make sure, in a task of the bus, of a capture that nobody waits for any more."""

        async def capture() -> None:
            self._captured(letters, await self._add(letters), failures)  # what is there stays as it is

        try:
            self._spawn(capture)
        except BusClosed:
            _log.warning("capture.unwatched", dead_letters=[letter.id for letter in letters])

    def _captured(
        self, letters: Sequence[DeadLetter], ids: Sequence[str], failures: Sequence[Failure]
    ) -> None:
        for letter, dead_letter_id, failure in zip(letters, ids, failures, strict=True):
            if self.bus is not None and self.bus.telemetry:
                _tell_captured(self.bus.telemetry, letter, dead_letter_id)
            if failure.thread_done is not None:
                self._hold(dead_letter_id, failure)

    def _letter(self, failure: Failure, now: datetime) -> DeadLetter:
        letter = new_letter(failure, redelivery=self._redelivery, now=now)
        if failure.thread_done is None:
            return letter
        return held(letter, owner=self._owner, lease_until=now + timedelta(seconds=self._lease))

    async def _add_later(self, letters: Sequence[DeadLetter], unavailable: StoreUnavailable) -> Sequence[str]:
        """Hand letters to the store again and again while it is unavailable for the moment."""
        deadline = anyio.current_time() + self._capture_timeout
        wait = _FIRST_WAIT
        while unavailable.retryable and anyio.current_time() + wait <= deadline:
            ids = [letter.id for letter in letters]
            _log.warning("capture.waits", error=str(unavailable), dead_letters=ids)
            await anyio.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT)
            try:
                return await self._store.add(letters)
            except StoreUnavailable as error:
                unavailable = error
        raise unavailable

    def _hold(self, dead_letter_id: str, failure: Failure) -> None:
        """Keep the lease of a letter whose handler's thread still runs, and settle it afterwards."""
        lease = Lease(dead_letter_id=dead_letter_id, token=1)

        def left_behind() -> None:
            """Name the thread that outlives the bus; the letter is free again when its lease has run out."""
            _log.warning("shutdown.thread_left", handler_id=failure.handler_id, dead_letter=dead_letter_id)

        async def settle_after_thread() -> None:
            assert failure.thread_done is not None
            try:
                async with self._keeper.keeping([lease]):
                    await failure.thread_done.wait()
            except anyio.get_cancelled_exc_class():
                left_behind()
                raise
            now = moment(self._clock.time_ns())
            verdict = verdict_on(failure, redelivery=self._redelivery, retries=0, now=now)
            settlement = Settlement(
                lease=lease, state=verdict.state, reason=verdict.reason, retry_at=verdict.retry_at
            )
            await self._store.settle([settlement], now=now)

        try:
            self._spawn(settle_after_thread)
        except BusClosed:
            left_behind()

    def _spawn(self, work: Callable[[], Awaitable[None]]) -> None:
        if self.bus is None:
            raise BusClosed("the dead-letter queue is closed: its bus is not running")
        self.bus.spawn(work)


def _tell_captured(telemetry: Telemetry, letter: DeadLetter, kept_as: str) -> None:
    tell(
        telemetry,
        "dead_letter.captured",
        letter,
        kept_as=kept_as,
        event_id=letter.event_id,
        state=letter.state,
        kind=letter.error.kind,
    )
    if letter.state is DeadLetterState.EXHAUSTED:
        tell(telemetry, "dead_letter.exhausted", letter, kept_as=kept_as, reason=letter.reason)
