"""The dead-letter queue: what a bus is given to keep its failures, with every verb for them."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from eventbus.clock import SystemClock
from eventbus.errors import BusClosed
from eventbus.payloads import MAX_PAYLOAD
from eventbus.retry import RetryPolicy
from eventbus_dlq.capture import moment
from eventbus_dlq.control_verbs import ControlVerbs
from eventbus_dlq.letter import Verb
from eventbus_dlq.operations import Operation, check_meant, members_of, replay_members
from eventbus_dlq.query import DeadLetterQuery, Page
from eventbus_dlq.retrying import RetryVerbs
from eventbus_dlq.running import RunningQueue
from eventbus_dlq.scoping import checked_moment
from eventbus_dlq.settings import QueueSettings
from eventbus_dlq.spool import Spool
from eventbus_dlq.telling import tell

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime
    from os import PathLike

    from eventbus.acceptance import Acceptance, Accepted
    from eventbus.failure import Failure
    from eventbus.ports import Clock, Redeliverer
    from eventbus_dlq.letter import DeadLetter
    from eventbus_dlq.replay import ReplayOutcome
    from eventbus_dlq.stats import Stats
    from eventbus_dlq.store import DeadLetterStore, Order

DEFAULT_REDELIVERY = RetryPolicy(attempts=5, delay=60.0, multiplier=5.0, max_delay=3600.0)
"""The schedule of a stored letter: five retries after 1, 5, 25, 60 and 60 minutes, and jitter."""


class DeadLetterQueue(ControlVerbs, RetryVerbs):
    """Keeps the deliveries and failures of a bus, runs what is durable, and brings failures home.

    Args:
        store: where letters are kept, such as ``SqlStore("sqlite+aiosqlite:///failures.db")``.
        worker: whether this process runs durable deliveries and retries failures; without it, others on the
            same store do.
        lease: seconds for which a run owns its letter; it is renewed every third of that. All processes
            that share a store have the same.
        max_crashes: a delivery that has killed so many processes is ``exhausted/poison``.
        redelivery: the schedule of stored letters, where no more specific one applies; see :meth:`configure`.
        poll: seconds between two looks for work of which nobody has told.
        max_payload: the largest encoded payload that is accepted, in bytes.
        spool: a folder on this machine's disk, where writes are kept while the store is unavailable, and
            imported from afterwards; None to refuse them.
        capture_timeout: seconds for which a write is tried again while the store is unavailable.
        stall_limit: seconds after which an event loop that does not move loses its leases.
        keep_succeeded: whether durable deliveries that succeed are kept as resolved, instead of deleted.
        concurrency: how many durable deliveries this process runs at a time.
        clock: where the time comes from; the machine's unless given.

    Raises:
        ValueError: for a setting that makes no sense.
    """

    def __init__(
        self,
        store: DeadLetterStore,
        *,
        worker: bool = True,
        lease: float = 30.0,
        max_crashes: int = 3,
        redelivery: RetryPolicy = DEFAULT_REDELIVERY,
        poll: float = 1.0,
        max_payload: int = MAX_PAYLOAD,
        spool: str | PathLike[str] | None = None,
        capture_timeout: float = 5.0,
        stall_limit: float = 300.0,
        keep_succeeded: bool = False,
        concurrency: int = 100,
        clock: Clock | None = None,
    ) -> None:
        self._settings = QueueSettings(
            worker=worker,
            lease=lease,
            max_crashes=max_crashes,
            redelivery=redelivery,
            poll=poll,
            max_payload=max_payload,
            capture_timeout=capture_timeout,
            stall_limit=stall_limit,
            keep_succeeded=keep_succeeded,
            concurrency=concurrency,
        )
        self._store = store
        self._clock: Clock = clock or SystemClock()
        self._spool = None if spool is None else Spool(spool)
        self._bus: Redeliverer | None = None
        self._running: RunningQueue | None = None

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
        return self._settings.max_payload

    async def start(self, bus: Redeliverer) -> None:
        """Open the store and begin to work; called by the bus when it starts.

        Raises:
            StoreUnavailable: the store cannot be opened.
            SpoolUnavailable: the spool's folder cannot be used.
            RuntimeError: another bus uses this queue.
        """
        if self._bus is not None:
            raise RuntimeError("this DeadLetterQueue is in use by a running bus; give each bus its own")
        self._bus = bus
        async with AsyncExitStack() as undo:
            undo.callback(self._let_go)
            await self._store.open()
            undo.push_async_callback(self._store.close)
            if self._spool is not None:
                await self._spool.open()
                undo.push_async_callback(self._spool.close)
            self._running = RunningQueue(
                store=self._store, bus=bus, clock=self._clock, spool=self._spool, settings=self._settings
            )
            await self._running.start()
            undo.pop_all()

    def halt(self) -> None:
        """Begin to run nothing any more; called by the bus when it begins to stop."""
        if self._running is not None:
            self._running.halt()

    async def come_to_rest(self) -> None:
        """Wait for the store's answers to what has ended; called by the bus before it cancels the rest."""
        if self._running is not None:
            await self._running.come_to_rest()

    async def stop(self) -> None:
        """Flush and close the store; called by the bus when it has stopped."""
        running = self._running
        async with AsyncExitStack() as closing:
            closing.push_async_callback(self._store.close)
            if self._spool is not None:
                closing.push_async_callback(self._spool.close)
            if running is not None:
                closing.push_async_callback(running.stop)
            closing.callback(self._let_go)

    def _let_go(self) -> None:
        self._bus = self._running = None

    async def wait_idle(self) -> None:
        """Return when what this process has accepted has settled. See ``ports.DeadLetters``."""
        if self._running is not None:
            await self._running.wait_idle()

    async def capture(self, failures: Sequence[Failure]) -> Sequence[str]:
        """Commit failures as dead letters; return their ids. See ``ports.DeadLetters``.

        Raises:
            StoreUnavailable: neither the store nor a spool has taken them.
            BusClosed: the bus is not running.
        """
        return await self._require_running().captor.capture(failures)

    async def accept(self, deliveries: Sequence[Acceptance]) -> Sequence[Accepted]:
        """Commit deliveries that have not run, for workers to run. See ``ports.DeadLetters``.

        Raises:
            StoreUnavailable: neither the store nor a spool has taken them.
            BusClosed: the bus is not running.
        """
        return await self._require_running().acceptor.accept(deliveries)

    async def accept_in(self, session: Any, deliveries: Sequence[Acceptance]) -> Sequence[Accepted]:
        """Write deliveries in the transaction of an ``AsyncSession``. See ``ports.DeadLetters``.

        Raises:
            InvalidSession: the session, or the store, cannot take them in; nothing was written.
            BusClosed: the bus is not running.
        """
        return await self._require_running().acceptor.accept_in(session, deliveries)

    def accept_in_sync(self, session: Any, deliveries: Sequence[Acceptance]) -> Sequence[Accepted]:
        """Do the same with a synchronous ``Session``, in any thread."""
        return self._require_running().acceptor.accept_in_sync(session, deliveries)

    def is_blocked(self, handler_id: str, ordering_key: str) -> bool:
        """Tell whether the store holds open deliveries of a handler and key. See ``ports.DeadLetters``."""
        running = self._running
        return running is not None and running.blocked.is_blocked(handler_id, ordering_key)

    # -- looking

    @property
    def store_error(self) -> Exception | None:
        """Why the store cannot be used, as far as is known here; None while it can. For a health check.

        It lasts until the store takes a write again: not more than a few seconds after it can.
        """
        return None if self._running is None else self._running.outage.error

    @property
    def is_spooling(self) -> bool:
        """Whether accepted writes are in the spool, and not in the store yet."""
        return self._spool is not None and self._spool.is_waiting

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
        return await self._require_running().replayer.replay(dead_letter_id, by=by, note=note)

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
        replayer = self._require_running().replayer
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
            ValueError: ``until`` has no time zone, or is beyond the calendar in UTC.
        """
        at = checked_moment("until", until)
        return await self._change(dead_letter_id, Verb.SNOOZE, by=by, note=note, until=at)

    async def delete(self, dead_letter_id: str) -> None:
        """Remove a letter for good.

        Raises:
            DeadLetterNotFound: no letter has that id.
            LeaseHeld: it is running.
        """
        await self._store.delete(dead_letter_id)
        self._wake()

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
        self._wake()
        if self._running is not None:
            self._running.moved(letter.state, letter.retry_at)
        if self._bus is not None and self._bus.telemetry:
            tell(self._bus.telemetry, "dead_letter.changed", letter, verb=verb, state=letter.state, by=by)
        return letter

    def _wake(self) -> None:
        """Have the worker look for what a letter that has left its sequence has set free."""
        if self._running is not None:
            self._running.wake()

    def _now(self) -> datetime:
        return moment(self._clock.time_ns())

    def _require_running(self) -> RunningQueue:
        if self._running is None:
            raise BusClosed("the dead-letter queue is closed: its bus is not running")
        return self._running
