"""The dead-letter queue: what a bus is given to keep its failures, with every verb for them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from eventbus.clock import SystemClock
from eventbus.errors import BusClosed
from eventbus.ids import new_id
from eventbus.payloads import MAX_PAYLOAD
from eventbus.retry import RetryPolicy
from eventbus_dlq.captor import Captor
from eventbus_dlq.capture import moment
from eventbus_dlq.leases import LeaseKeeper
from eventbus_dlq.letter import Verb
from eventbus_dlq.operations import Operation, check_meant, members_of, replay_members
from eventbus_dlq.query import DeadLetterQuery, Page
from eventbus_dlq.replay import Replayer, ReplayOutcome
from eventbus_dlq.telling import tell

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from eventbus.failure import Failure
    from eventbus.ports import Clock, Redeliverer
    from eventbus_dlq.letter import DeadLetter
    from eventbus_dlq.stats import Stats
    from eventbus_dlq.store import DeadLetterStore, Order

DEFAULT_REDELIVERY = RetryPolicy(attempts=5, delay=60.0, multiplier=5.0, max_delay=3600.0)
"""The schedule of a stored letter: five retries after 1, 5, 25, 60 and 60 minutes, and jitter."""


class DeadLetterQueue:
    """Keeps the failures of a bus and brings them home.

    Args:
        store: where letters are kept, such as ``SqlStore("sqlite+aiosqlite:///failures.db")``.
        lease: seconds for which a run owns its letter; it is renewed every third of that.
        redelivery: the schedule of stored letters.
        max_payload: the largest encoded payload that is accepted, in bytes.
        capture_timeout: seconds for which a capture is tried again while the store is unavailable.
        clock: where the time comes from; the machine's unless given.

    Raises:
        ValueError: for a setting that makes no sense.
    """

    def __init__(
        self,
        store: DeadLetterStore,
        *,
        lease: float = 30.0,
        redelivery: RetryPolicy = DEFAULT_REDELIVERY,
        max_payload: int = MAX_PAYLOAD,
        capture_timeout: float = 5.0,
        clock: Clock | None = None,
    ) -> None:
        if not (math.isfinite(lease) and lease > 0):
            raise ValueError(f"lease={lease!r} must be a number of seconds above 0")
        if not (math.isfinite(capture_timeout) and capture_timeout >= 0):
            raise ValueError(f"capture_timeout={capture_timeout!r} must be a number of seconds, 0 or more")
        if max_payload < 1:
            raise ValueError(f"max_payload={max_payload!r} must be a number of bytes, 1 or more")
        self._store = store
        self._lease = lease
        self._max_payload = max_payload
        self._clock: Clock = clock or SystemClock()
        self._owner = new_id()
        self._keeper = LeaseKeeper(store, clock=self._clock, lease=lease)
        self._captor = Captor(
            store=store,
            keeper=self._keeper,
            clock=self._clock,
            redelivery=redelivery,
            owner=self._owner,
            lease=lease,
            capture_timeout=capture_timeout,
        )
        self._bus: Redeliverer | None = None
        self._replayer: Replayer | None = None

    # -- what the bus asks for

    @property
    def store(self) -> DeadLetterStore:
        """The store that the letters are kept in."""
        return self._store

    @property
    def clock(self) -> Clock:
        """Where the time comes from."""
        return self._clock

    @property
    def max_payload(self) -> int:
        """The largest encoded payload that is accepted, in bytes."""
        return self._max_payload

    async def start(self, bus: Redeliverer) -> None:
        """Open the store; called by the bus when it starts.

        Raises:
            StoreUnavailable: the store cannot be opened.
            RuntimeError: another bus uses this queue.
        """
        if self._bus is not None:
            raise RuntimeError("this DeadLetterQueue is in use by a running bus; give each bus its own")
        await self._store.open()
        self._bus = self._captor.bus = bus
        self._replayer = Replayer(
            store=self._store,
            bus=bus,
            keeper=self._keeper,
            clock=self._clock,
            owner=self._owner,
            lease=self._lease,
        )

    async def stop(self) -> None:
        """Flush and close the store; called by the bus when it has stopped."""
        self._bus = self._replayer = self._captor.bus = None
        await self._store.close()

    async def capture(self, failures: Sequence[Failure]) -> Sequence[str]:
        """Commit failures as dead letters; return their ids. See ``ports.DeadLetters``.

        Raises:
            StoreUnavailable: the store could not commit them within the capture timeout.
        """
        return await self._captor.capture(failures)

    # -- looking

    async def dead_letters(
        self,
        query: DeadLetterQuery | None = None,
        *,
        limit: int = 50,
        cursor: str | None = None,
        order: Order = "newest",
    ) -> Page:
        """Return a page of summaries: no payload, no traceback.

        Args:
            query: which letters; all of them without one.
            limit: at most so many, 1 to 1,000.
            cursor: ``next_cursor`` of the page before.
            order: newest or oldest first.

        Raises:
            InvalidCursor: the cursor is not from a listing of this order.
            ValueError: the limit is out of range.
            StoreUnavailable: the store cannot be read.
        """
        return await self._store.find(query or DeadLetterQuery(), limit=limit, cursor=cursor, order=order)

    async def dead_letter(self, dead_letter_id: str) -> DeadLetter:
        """Return one letter, whole.

        Raises:
            DeadLetterNotFound: no letter has that id.
            StoreUnavailable: the store cannot be read.
        """
        return await self._store.get(dead_letter_id)

    async def stats(self, *, tenants: Collection[str] | None = None) -> Stats:
        """Return the letters in numbers, all of them or those of ``tenants``.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        return await self._store.stats(now=self._now(), tenants=tenants)

    # -- running again

    async def replay(
        self, dead_letter_id: str, *, by: str | None = None, note: str | None = None
    ) -> ReplayOutcome:
        """Run a letter again, only with the handler that failed, and settle it.

        It takes the same wrapped path as the first time: middleware, timeout, metrics, correlation.
        When the handler fails again the same letter is updated.

        Args:
            dead_letter_id: the letter.
            by: who asks for it; recorded.
            note: why; recorded.

        Raises:
            DeadLetterNotFound: no letter has that id.
            LeaseHeld: it is running already.
            InvalidTransition: its state allows no run; a resolved one is refused.
            LeaseLost: the lease was taken over meanwhile; nothing was recorded.
            PayloadRedacted: its payload was stored without the secrets it had.
            BusClosed: the bus is not running.
            StoreUnavailable: the store cannot be reached.
        """
        return await self._require_replayer().replay(dead_letter_id, by=by, note=note)

    async def replay_all(
        self, query: DeadLetterQuery, *, by: str | None = None, note: str | None = None
    ) -> Operation:
        """Run every letter of a query again, oldest first, and return the account when all have ended.

        Membership is fixed when it begins: letters that fail meanwhile are not in it, and those that
        somebody else ran meanwhile are skipped.

        Raises:
            ValueError: the query is empty; say ``DeadLetterQuery.everything()`` to mean every letter.
            BusClosed: the bus is not running.
            StoreUnavailable: the store cannot be reached.
        """
        check_meant(query)
        replayer = self._require_replayer()
        return await replay_members(replayer, await members_of(self._store, query), by=by, note=note)

    # -- deciding by hand

    async def resolve(
        self, dead_letter_id: str, *, by: str | None = None, note: str | None = None
    ) -> DeadLetter:
        """Say that a letter is done, by other means than a replay.

        Raises:
            DeadLetterNotFound: no letter has that id.
            LeaseHeld: it is running.
            InvalidTransition: it is closed already.
        """
        return await self._change(dead_letter_id, Verb.RESOLVE, by=by, note=note)

    async def discard(
        self, dead_letter_id: str, *, by: str | None = None, note: str | None = None
    ) -> DeadLetter:
        """Give a letter up. Raises like :meth:`resolve`."""
        return await self._change(dead_letter_id, Verb.DISCARD, by=by, note=note)

    async def archive(
        self, dead_letter_id: str, *, by: str | None = None, note: str | None = None
    ) -> DeadLetter:
        """Close a letter and keep it. Raises like :meth:`resolve`."""
        return await self._change(dead_letter_id, Verb.ARCHIVE, by=by, note=note)

    async def restore(
        self, dead_letter_id: str, *, by: str | None = None, note: str | None = None
    ) -> DeadLetter:
        """Open a closed letter again, as exhausted. Raises like :meth:`resolve`, for what is open."""
        return await self._change(dead_letter_id, Verb.RESTORE, by=by, note=note)

    async def snooze(
        self, dead_letter_id: str, *, until: datetime, by: str | None = None, note: str | None = None
    ) -> DeadLetter:
        """Put a pending or exhausted letter off until a moment (aware); it is pending then.

        Raises:
            DeadLetterNotFound: no letter has that id.
            LeaseHeld: it is running.
            InvalidTransition: it is neither pending nor exhausted.
            ValueError: ``until`` has no time zone.
        """
        if until.tzinfo is None:
            raise ValueError(f"until={until!r} has no time zone; give an aware datetime")
        return await self._change(dead_letter_id, Verb.SNOOZE, by=by, note=note, until=until)

    async def delete(self, dead_letter_id: str) -> None:
        """Remove a letter for good.

        Raises:
            DeadLetterNotFound: no letter has that id.
            LeaseHeld: it is running.
        """
        await self._store.delete(dead_letter_id)

    async def _change(
        self,
        dead_letter_id: str,
        verb: Verb,
        *,
        by: str | None,
        note: str | None,
        until: datetime | None = None,
    ) -> DeadLetter:
        letter = await self._store.change(
            dead_letter_id, verb, now=self._now(), by=by, note=note, until=until
        )
        if self._bus is not None and self._bus.telemetry:
            tell(self._bus.telemetry, "dead_letter.changed", letter, verb=verb, state=letter.state, by=by)
        return letter

    def _now(self) -> datetime:
        return moment(self._clock.time_ns())

    def _require_bus(self) -> Redeliverer:
        if self._bus is None:
            raise BusClosed("the dead-letter queue is closed: its bus is not running")
        return self._bus

    def _require_replayer(self) -> Replayer:
        self._require_bus()
        assert self._replayer is not None
        return self._replayer
