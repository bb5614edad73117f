"""Taking in deliveries that have not run yet: durable, transactional, or held back by their sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventbus.acceptance import Accepted
from eventbus.errors import BusClosed
from eventbus.ids import new_id
from eventbus.log import Log
from eventbus_dlq.capture import begin_letter, finish_letter, moment
from eventbus_dlq.errors import InvalidSession
from eventbus_dlq.letter import DeadLetter, DeadLetterState, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from eventbus.acceptance import Acceptance
    from eventbus.ports import Clock, Redeliverer
    from eventbus.retry import RetryPolicy
    from eventbus_dlq.committing import Committer
    from eventbus_dlq.promises import Promises
    from eventbus_dlq.schedules import Schedules
    from eventbus_dlq.sequences import BlockedSequences
    from eventbus_dlq.store import DeadLetterStore, Kept

_log = Log()
_ACCEPTED, _RUNNING = DeadLetterState.ACCEPTED, DeadLetterState.RUNNING
_PARKED = DeadLetterState.PARKED


class Acceptor:
    """Makes letters of deliveries that are to run later, and sees them into the store.

    Args:
        promises: run here what is claimed as it is accepted; None where nothing is run.
        written: called with where those are kept that become durable when their session commits.
    """

    def __init__(
        self,
        *,
        store: DeadLetterStore,
        committer: Committer,
        blocked: BlockedSequences,
        bus: Redeliverer,
        clock: Clock,
        schedules: Schedules,
        promises: Promises | None,
        written: Callable[[Sequence[Kept]], None],
    ) -> None:
        self._store = store
        self._committer = committer
        self._blocked = blocked
        self._bus = bus
        self._clock = clock
        self._schedules = schedules
        self._promises = promises
        self._written = written

    async def accept(self, deliveries: Sequence[Acceptance]) -> Sequence[Accepted]:
        """Commit deliveries that have not run; see ``ports.DeadLetters``.

        Raises:
            StoreUnavailable: neither the store nor a spool has taken them.
        """
        promises = self._promises
        made_ns = self._clock.time_ns()
        letters = self._letters(deliveries, made_ns, promises)
        with self._blocked.storing(letters):
            try:
                kept = await self._committer.accept(letters)
            except Exception:  # the publisher is told
                self._drop(letters)
                raise
            except BaseException:  # a cancellation ends the wait and not the write, and what hangs on it
                self._see_through(letters, made_ns)
                raise
        if promises is not None:
            promises.keep(letters, kept, made_ns=made_ns)
        return _where(kept)

    async def accept_in(self, session: Any, deliveries: Sequence[Acceptance]) -> Sequence[Accepted]:
        """Write deliveries in the transaction of an ``AsyncSession``; see ``ports.DeadLetters``.

        Raises:
            InvalidSession: the session, or the store, cannot take them in; nothing was written.
        """
        letters = self._letters(deliveries, self._clock.time_ns())
        with self._blocked.storing(letters):
            kept = await self._session_store("accept_in")(session, letters)
        self._written(kept)
        return _where(kept)

    def accept_in_sync(self, session: Any, deliveries: Sequence[Acceptance]) -> Sequence[Accepted]:
        """Do the same with a synchronous ``Session``, in any thread."""
        letters = self._letters(deliveries, self._clock.time_ns())
        with self._blocked.storing(letters):
            kept = self._session_store("accept_in_sync")(session, letters)
        self._bus.call_from_thread(lambda: self._written(kept))
        return _where(kept)

    def _letters(
        self, deliveries: Sequence[Acceptance], made_ns: int, promises: Promises | None = None
    ) -> Sequence[DeadLetter]:
        now = moment(made_ns)
        schedule_of = self._schedules.of
        return [
            accepted_letter(
                delivery,
                redelivery=schedule_of(delivery.handler_id, delivery.envelope.name),
                now=now,
                promises=promises,
            )
            for delivery in deliveries
        ]

    def _session_store(self, method: str) -> Callable[..., Any]:
        """Return a method of ``SessionStore``, which not every store is."""
        take_in: Callable[..., Any] | None = getattr(self._store, method, None)
        if take_in is None:
            raise InvalidSession(
                f"{type(self._store).__name__} cannot take deliveries in within a session of yours; publish "
                "without session=, or give the bus an SqlStore on the session's database"
            )
        return take_in

    def _drop(self, letters: Sequence[DeadLetter]) -> None:
        if self._promises is not None:
            self._promises.drop(letters)

    def _see_through(self, letters: Sequence[DeadLetter], made_ns: int) -> None:
        """Make sure, in a task of the bus, of deliveries whose publisher waits for them no more."""

        async def accept() -> None:
            try:
                with self._blocked.storing(letters):
                    kept = await self._committer.accept(letters, again=True)
            except BaseException:
                self._drop(letters)
                raise
            if self._promises is not None:
                self._promises.keep(letters, kept, made_ns=made_ns)

        try:
            self._bus.spawn(accept)
        except BusClosed:
            if self._promises is not None:
                self._promises.give_back(letters)
            _log.warning("accept.unwatched", dead_letters=[letter.id for letter in letters])


def accepted_letter(
    delivery: Acceptance, *, redelivery: RetryPolicy, now: datetime, promises: Promises | None = None
) -> DeadLetter:
    """Return the letter of a delivery that has not run yet.

    It is claimed, if ``promises`` make one of it, and parked, if an operator has closed its scope.
    """
    envelope, payload, handler_id, priority, tags, ordering_key, held = delivery
    metadata = envelope.metadata
    dead_letter_id = new_id()
    promise = None
    if promises is not None and held is None:
        promise = promises.make(dead_letter_id, handler_id, ordering_key, now=now)
    owner, lease_until = promise or (None, None)
    claims = int(promise is not None)  # what moves.claimed would add
    letter = begin_letter()
    letter.id = dead_letter_id
    letter.event_id = envelope.id
    letter.event_name = envelope.name
    letter.event_version = envelope.version
    letter.payload_json = payload
    letter.occurred_at = envelope.occurred_at
    letter.handler_id = handler_id
    letter.tenant = metadata.tenant
    letter.user_id = metadata.user_id
    letter.correlation_id = envelope.correlation_id
    letter.causation_id = metadata.causation_id
    letter.source = metadata.source
    letter.ordering_key = ordering_key
    letter.priority = priority
    letter.headers = metadata.headers
    letter.tags = tags
    letter.annotations = {}
    letter.redelivery = redelivery
    letter.state = _PARKED if held is not None else _ACCEPTED if promise is None else _RUNNING
    letter.reason = None if held is None else Reason(held)
    letter.attempts = claims
    letter.retries = 0
    letter.crashes = 0
    letter.retry_at = None
    letter.created_at = now
    letter.updated_at = now
    letter.last_attempt_at = None
    letter.fingerprint = ""
    letter.token = claims
    letter.lease_owner = owner
    letter.lease_until = lease_until
    letter.error = None
    letter.history = ()
    return finish_letter(letter)


def _where(kept: Sequence[Kept]) -> Sequence[Accepted]:
    return [Accepted(dead_letter_id, state is _PARKED) for dead_letter_id, state in kept]
