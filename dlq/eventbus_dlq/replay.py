"""Replay: claim a letter, run it through the bus, settle it with the claim's token."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, assert_never

import anyio

from eventbus.classify import Classification, Kind
from eventbus.errors import BusClosed
from eventbus.ids import new_id
from eventbus.snapshots import snapshot
from eventbus.stored import FailedAgain, Interrupted, StoredDelivery, Succeeded, Undecodable, Unhandled
from eventbus_dlq import policy
from eventbus_dlq.capture import attempt_of, moment, verdict_on
from eventbus_dlq.errors import InvalidTransition, LeaseLost, PayloadRedacted
from eventbus_dlq.letter import DeadLetterState, Reason
from eventbus_dlq.store import Lease, Settlement
from eventbus_dlq.telling import tell

if TYPE_CHECKING:
    from eventbus.failure import Failure
    from eventbus.ports import Clock, Redeliverer
    from eventbus.stored import RedeliveryOutcome
    from eventbus_dlq.leases import LeaseKeeper
    from eventbus_dlq.letter import DeadLetter
    from eventbus_dlq.store import Claim, DeadLetterStore

_RELEASE_PATIENCE = 5.0  # seconds that a release may take when its replay was cancelled


@dataclass(frozen=True, slots=True)
class ReplayOutcome:
    """How a replay ended.

    Attributes:
        state: where the letter is now: resolved, pending or exhausted; running when the handler
            timed out in a thread that has not returned yet, and settles when it does.
        error: why the handler failed again, or could not be run; None when it succeeded.
        attempts: every run of the handler up to now.
        dead_letter_id: the letter.
    """

    state: DeadLetterState
    error: BaseException | None
    attempts: int
    dead_letter_id: str


class HandlerMissing(LookupError):
    """A replay asked for a handler that is not subscribed here."""


def stored_delivery(letter: DeadLetter) -> StoredDelivery:
    """Return what the bus needs to run a claimed letter."""
    return StoredDelivery(
        dead_letter_id=letter.id,
        event_id=letter.event_id,
        event_name=letter.event_name,
        event_version=letter.event_version,
        payload=letter.payload_json,
        occurred_at=letter.occurred_at,
        handler_id=letter.handler_id,
        attempt=letter.attempts,
        first_failed_at=letter.history[0].ended_at if letter.history else letter.created_at,
        correlation_id=letter.correlation_id,
        causation_id=letter.causation_id,
        source=letter.source,
        tenant=letter.tenant,
        user_id=letter.user_id,
        ordering_key=letter.ordering_key,
        priority=letter.priority,
        tags=letter.tags,
        headers=letter.headers,
    )


def _not_run(settlement: Settlement, verdict: policy.Verdict) -> Settlement:
    """Return the settlement of a claim whose handler could not be run: nothing is charged."""
    return replace(settlement, state=verdict.state, reason=verdict.reason, uncharged=True)


class Replayer:
    """Runs stored letters again, one at a time, each under a claim of its own."""

    def __init__(
        self,
        *,
        store: DeadLetterStore,
        bus: Redeliverer,
        keeper: LeaseKeeper,
        clock: Clock,
        owner: str,
        lease: float,
    ) -> None:
        self._store = store
        self._bus = bus
        self._keeper = keeper
        self._clock = clock
        self._owner = owner
        self._lease = lease

    async def replay(
        self, dead_letter_id: str, *, by: str | None, note: str | None, token: int | None = None
    ) -> ReplayOutcome:
        """Run a letter once and settle it.

        ``token`` makes it conditional: a letter that was claimed by anybody since is not run.

        Raises:
            DeadLetterNotFound: no letter has that id.
            LeaseHeld: it is running already.
            InvalidTransition: its state allows no run, or its token is another by now.
            LeaseLost: the lease ran out meanwhile; nothing was recorded.
            PayloadRedacted: its payload was stored without the secrets it had.
            BusClosed: the bus stopped before the handler had finished; nothing was charged.
        """
        claim = await self._claim(dead_letter_id)
        if token is not None and claim.lease.token != token + 1:
            await self._release(claim.lease)
            raise InvalidTransition(f"dead letter {dead_letter_id} has changed since it was looked at")
        if claim.letter.reason is Reason.REDACTED:
            await self._release(claim.lease)
            raise PayloadRedacted(
                f"the payload of dead letter {dead_letter_id} was stored without its secrets: its handler "
                "would run with asterisks in their place; handle it by other means and resolve it"
            )
        outcome = await self._run(claim, by=by, note=note)
        if outcome is None:
            raise LeaseLost(f"the lease of dead letter {dead_letter_id} was taken over; nothing was recorded")
        return await self._settle(claim, outcome, by=by, note=note)

    async def _claim(self, dead_letter_id: str) -> Claim:
        owner = f"{self._owner}:{new_id()}"  # tells this claim from any other
        try:
            answer = await self._claim_once(dead_letter_id, owner)
        except BaseException:  # a cancellation ends the wait and not the claim
            with anyio.move_on_after(_RELEASE_PATIENCE, shield=True):
                await self._take_back(dead_letter_id, owner)
            raise
        if isinstance(answer, Exception):
            raise answer
        if answer.rescued:
            letter = answer.letter
            self._emit("dead_letter.rescued", letter, crashes=letter.crashes)
        return answer

    async def _claim_once(self, dead_letter_id: str, owner: str) -> Claim | Exception:
        now = moment(self._clock.time_ns())
        (answer,) = await self._store.claim([dead_letter_id], owner=owner, lease=self._lease, now=now)
        return answer

    async def _take_back(self, dead_letter_id: str, owner: str) -> None:
        """Release a claim whose answer nobody waited for, if it was granted."""
        answer = await self._claim_once(dead_letter_id, owner)  # writes are done in order: after the first
        if not isinstance(answer, Exception):
            await self._release(answer.lease)
            return
        letter = await self._store.get(dead_letter_id)
        if letter.state is DeadLetterState.RUNNING and letter.lease_owner == owner:
            await self._release(Lease(dead_letter_id=letter.id, token=letter.token))

    async def _run(self, claim: Claim, *, by: str | None, note: str | None) -> RedeliveryOutcome | None:
        """Run the handler while the lease is kept; None when the lease was lost meanwhile.

        A run that had ended when the caller was cancelled is settled all the same.
        """
        outcome: RedeliveryOutcome | None = None
        try:
            async with self._keeper.keeping([claim.lease]):
                outcome = await self._bus.redeliver(stored_delivery(claim.letter))
        except BaseException:
            if outcome is None:
                await self._release(claim.lease)
            else:
                with anyio.move_on_after(_RELEASE_PATIENCE, shield=True):
                    await self._settle(claim, outcome, by=by, note=note)
            raise
        return outcome

    async def _release(self, lease: Lease) -> None:
        """Give a claim back uncharged, even when the caller has been cancelled."""
        with anyio.move_on_after(_RELEASE_PATIENCE, shield=True):
            await self._store.release([lease], now=moment(self._clock.time_ns()))

    async def _settle(
        self, claim: Claim, outcome: RedeliveryOutcome, *, by: str | None, note: str | None
    ) -> ReplayOutcome:
        """Record how the run ended; every way a run can end has its line here."""
        now = moment(self._clock.time_ns())
        settlement = Settlement(lease=claim.lease, state=DeadLetterState.RESOLVED, acted_by=by, note=note)
        match outcome:
            case Succeeded(duration):
                error: BaseException | None = None
            case FailedAgain(failure, exception, duration):
                error = exception
                settlement = self._failed_settlement(claim, settlement, failure)
                if failure.thread_done is not None:
                    self._bus.spawn(lambda: self._settle_after_thread(claim, settlement, failure))
                    return ReplayOutcome(
                        DeadLetterState.RUNNING, error, claim.letter.attempts, claim.letter.id
                    )
            case Unhandled(message):
                error, duration = HandlerMissing(message), 0.0
                settlement = _not_run(settlement, policy.UNHANDLED)
            case Undecodable(error):
                duration = 0.0
                record = snapshot(error, Classification(Kind.VALIDATION))
                settlement = replace(_not_run(settlement, policy.UNDECODABLE), error=record)
            case Interrupted():
                await self._release(claim.lease)
                raise BusClosed(
                    f"the bus stopped before the replay of dead letter {claim.letter.id} had finished; "
                    "it is back in its state, and nothing was charged"
                )
            case _:
                assert_never(outcome)
        if await self._store.settle([settlement], now=now):
            raise LeaseLost(
                f"the lease of dead letter {claim.letter.id} was taken over; nothing was recorded"
            )
        self._report(claim, settlement, duration)
        attempts = claim.letter.attempts - settlement.uncharged
        return ReplayOutcome(settlement.state, error, attempts, claim.letter.id)

    def _failed_settlement(self, claim: Claim, settlement: Settlement, failure: Failure) -> Settlement:
        letter = claim.letter
        verdict = verdict_on(
            failure,
            redelivery=letter.redelivery,
            retries=letter.retries,
            now=moment(self._clock.time_ns()),
        )
        return replace(
            settlement,
            state=verdict.state,
            reason=verdict.reason,
            retry_at=verdict.retry_at,
            error=failure.error,
            attempt=attempt_of(failure.attempts[-1]),
            fingerprint=failure.fingerprint,
            annotations=failure.annotations or None,
        )

    async def _settle_after_thread(self, claim: Claim, settlement: Settlement, failure: Failure) -> None:
        """Hold the lease until the handler's abandoned thread has returned, and settle then."""
        assert failure.thread_done is not None
        async with self._keeper.keeping([claim.lease]):
            await failure.thread_done.wait()
        now = moment(self._clock.time_ns())
        if not await self._store.settle([settlement], now=now):
            self._report(claim, settlement, 0.0)

    def _report(self, claim: Claim, settlement: Settlement, duration: float) -> None:
        letter, state = claim.letter, settlement.state
        self._emit("dead_letter.replayed", letter, state=state, duration=duration)
        if state is DeadLetterState.RESOLVED:
            age = (moment(self._clock.time_ns()) - letter.created_at).total_seconds()
            self._emit("dead_letter.resolved", letter, age=age)
        elif state is DeadLetterState.EXHAUSTED:
            self._emit("dead_letter.exhausted", letter, reason=settlement.reason)

    def _emit(self, name: str, letter: DeadLetter, /, **fields: Any) -> None:
        tell(self._bus.telemetry, name, letter, **fields)
