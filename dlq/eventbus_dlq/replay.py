"""Replay: claim a letter, run it through the bus, settle it with the claim's token."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from eventbus.errors import BusClosed, EventBusError, Paused
from eventbus.ids import new_id
from eventbus.log import Log
from eventbus.stored import FailedAgain, Held, Redacted, Undecodable, Unhandled
from eventbus_dlq.capture import moment
from eventbus_dlq.errors import InvalidTransition, LeaseLost, PayloadRedacted
from eventbus_dlq.letter import DeadLetterState, Reason
from eventbus_dlq.settling import attempts_after, duration_of, settled_later, settlement_of, stored_delivery
from eventbus_dlq.store import Lease
from eventbus_dlq.telling import tell_settled

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from eventbus.failure import Failure
    from eventbus.ports import Clock, Redeliverer
    from eventbus.stored import RedeliveryOutcome
    from eventbus_dlq.leases import LeaseKeeper
    from eventbus_dlq.letter import DeadLetter
    from eventbus_dlq.probing import Probing
    from eventbus_dlq.recording import Recorder
    from eventbus_dlq.run import Run
    from eventbus_dlq.schedules import Schedules
    from eventbus_dlq.store import Claim, DeadLetterStore, Settlement
    from eventbus_dlq.telling import Moved

_log = Log()

_PATIENCE = 5.0  # seconds that a claim may take to be given back when its replay was cancelled


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


class Replayer:
    """Runs stored letters again, one at a time, each under a claim of its own.

    Args:
        schedules: say when what fails again is due.
        probing: told how each run has ended.
        released: called when another letter of the same sequence may have become claimable.
        moved: told where each letter is that has run.
    """

    def __init__(
        self,
        *,
        store: DeadLetterStore,
        bus: Redeliverer,
        keeper: LeaseKeeper,
        recorder: Recorder,
        clock: Clock,
        owner: str,
        lease: float,
        schedules: Schedules,
        probing: Probing,
        keep_succeeded: bool,
        released: Callable[[], None],
        moved: Moved,
    ) -> None:
        self._store = store
        self._bus = bus
        self._keeper = keeper
        self._recorder = recorder
        self._clock = clock
        self._owner = owner
        self._lease = lease
        self._schedules = schedules
        self._probing = probing
        self._keep_succeeded = keep_succeeded
        self._released = released
        self._moved = moved

    async def replay(
        self, dead_letter_id: str, *, by: str | None, note: str | None, token: int | None = None
    ) -> ReplayOutcome:
        """Run a letter once and settle it.

        ``token`` makes it conditional: a letter that was claimed by anybody since is not run.

        Raises:
            DeadLetterNotFound: no letter has that id.
            LeaseHeld: it is running already.
            InvalidTransition: its state allows no run, or its token is another by now.
            Paused: an operator has closed its scope.
            LeaseLost: the lease ran out meanwhile; nothing was recorded.
            PayloadRedacted: its payload was stored without the secrets it had.
            BusClosed: the bus stopped before the handler had finished; nothing was charged.
        """
        claim = await self._claim(dead_letter_id)
        if token is not None and claim.lease.token != token + 1:
            await self._recorder.release(claim.lease)
            raise InvalidTransition(f"dead letter {dead_letter_id} has changed since it was looked at")
        if claim.letter.reason is Reason.REDACTED:
            await self._recorder.release(claim.lease)
            raise _redacted(dead_letter_id)
        return await self.run(self._probing.attend(claim), by=by, note=note)

    async def run(self, run: Run, *, by: str | None = None, note: str | None = None) -> ReplayOutcome:
        """Run a letter that was claimed for this, and that its circuit has let begin, and settle it.

        Raises:
            HandlerMissing: nobody has asked for this one by name, and its handler is not subscribed any more.
            LeaseLost: the lease ran out meanwhile; nothing was recorded.
            Paused: an operator has closed its scope before the handler began; nothing was charged.
            PayloadRedacted: its payload was stored without the secrets it had; nothing ran.
            BusClosed: the bus stopped before the handler had finished; nothing was charged.
        """
        outcome = await self._run(run, by=by, note=note)
        if outcome is None:
            raise _lease_lost(run.claim)
        return await self._settle(run, outcome, by=by, note=note)

    async def _claim(self, dead_letter_id: str) -> Claim:
        owner = f"{self._owner}:{new_id()}"  # tells this claim from any other
        try:
            answer = await self._claim_once(dead_letter_id, owner)
        except BaseException:  # a cancellation ends the wait and not the claim
            with _to_the_end(dead_letter_id):
                await self._take_back(dead_letter_id, owner)
            raise
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _claim_once(self, dead_letter_id: str, owner: str) -> Claim | Exception:
        now = moment(self._clock.time_ns())
        (answer,) = await self._store.claim([dead_letter_id], owner=owner, lease=self._lease, now=now)
        return answer

    async def _take_back(self, dead_letter_id: str, owner: str) -> None:
        """Release a claim whose answer nobody waited for, if it was granted."""
        answer = await self._claim_once(dead_letter_id, owner)  # writes are done in order: after the first
        if not isinstance(answer, Exception):
            await self._recorder.release(answer.lease)
            return
        letter = await self._store.get(dead_letter_id)
        if letter.state is DeadLetterState.RUNNING and letter.lease_owner == owner:
            await self._recorder.release(Lease(dead_letter_id=letter.id, token=letter.token))

    async def _run(self, run: Run, *, by: str | None, note: str | None) -> RedeliveryOutcome | None:
        """Run the handler while the lease is kept; None when the lease was lost meanwhile.

        A run that had ended when the caller was cancelled is settled all the same.
        """
        outcome: RedeliveryOutcome | None = None
        claim = run.claim
        try:
            with self._keeper.keeping([claim.lease]):
                outcome = await self._bus.redeliver(stored_delivery(claim.letter, once=run.runs_once))
                self._probing.ended(run, outcome)
        except BaseException:
            if outcome is None:
                await self._recorder.release(claim.lease)
            else:
                with _to_the_end(claim.letter.id):
                    await self._settle(run, outcome, by=by, note=note)
            raise
        finally:
            self._probing.gave_up(run)
        return outcome

    async def _settle(
        self, run: Run, outcome: RedeliveryOutcome, *, by: str | None, note: str | None
    ) -> ReplayOutcome:
        """Record how the run ended; every way a run can end has its line here."""
        claim = run.claim
        letter = claim.letter
        if isinstance(outcome, Unhandled) and not run.by_hand:  # others may have it
            await self._recorder.release(claim.lease)
            raise HandlerMissing(outcome.message)
        settlement = settlement_of(
            claim,
            outcome,
            clock=self._clock,
            schedules=self._schedules,
            keep_succeeded=self._keep_succeeded,
            by=by,
            note=note,
        )
        if settlement is None:
            await self._recorder.release(claim.lease)
            if isinstance(outcome, Held):
                raise self._paused(letter)
            raise BusClosed(
                f"the bus stopped before the replay of dead letter {letter.id} had finished; "
                "it is back in its state, and nothing was charged"
            )
        if isinstance(outcome, FailedAgain) and outcome.failure.thread_done is not None:
            failure = outcome.failure
            self._bus.spawn(lambda: self._settle_after_thread(run, settlement, failure))
            return ReplayOutcome(DeadLetterState.RUNNING, outcome.exception, letter.attempts, letter.id)
        judged = settlement
        if isinstance(outcome, FailedAgain):
            judged = self._probing.judged(run, settlement, outcome.failure)
        if not await self._recorder.settle(judged):
            raise _lease_lost(claim)
        self._report(claim, judged, outcome)
        if isinstance(outcome, Redacted):
            raise _redacted(letter.id)
        return ReplayOutcome(judged.state, _error_of(outcome), attempts_after(letter, judged), letter.id)

    def _paused(self, letter: DeadLetter) -> Paused:
        control = self._bus.gate.closed_by(letter.tenant, letter.event_name, letter.handler_id)
        return Paused(f"dead letter {letter.id} was not run, and nothing was charged", control)

    async def _settle_after_thread(self, run: Run, settlement: Settlement, failure: Failure) -> None:
        """Hold the lease until the handler's abandoned thread has returned, and settle then."""
        assert failure.thread_done is not None
        claim = run.claim
        returned = False
        with self._keeper.keeping([claim.lease]):
            await failure.thread_done.wait()
            returned = True
        if not returned:  # the lease is lost
            return
        now = moment(self._clock.time_ns())
        later = settled_later(settlement, claim.letter, failure, self._schedules, now)
        later = self._probing.judged(run, later, failure)
        if await self._recorder.settle(later):
            self._report(claim, later, None)

    def _report(self, claim: Claim, settlement: Settlement, outcome: RedeliveryOutcome | None) -> None:
        now = moment(self._clock.time_ns())
        duration = duration_of(outcome)
        tell_settled(self._bus.telemetry, claim.letter, settlement, duration=duration, now=now)
        self._moved(settlement.state, settlement.retry_at)
        if claim.letter.ordering_key is not None:
            self._released()  # the next one of its sequence


@contextmanager
def _to_the_end(dead_letter_id: str) -> Generator[None]:
    """Do what a replay owes its letter although it was cancelled; what goes wrong is left to a rescue."""
    with anyio.move_on_after(_PATIENCE, shield=True):
        try:
            yield
        except EventBusError as error:
            _log.warning("replay.left_to_a_rescue", dead_letter=dead_letter_id, error=str(error))


def _lease_lost(claim: Claim) -> LeaseLost:
    return LeaseLost(f"the lease of dead letter {claim.letter.id} was taken over; nothing was recorded")


def _redacted(dead_letter_id: str) -> PayloadRedacted:
    return PayloadRedacted(
        f"the payload of dead letter {dead_letter_id} was stored without its secrets: its handler "
        "would run with asterisks in their place; handle it by other means and resolve it"
    )


def _error_of(outcome: RedeliveryOutcome) -> BaseException | None:
    """Return what is shown to whoever asked for the replay."""
    match outcome:
        case FailedAgain():
            return outcome.exception
        case Undecodable():
            return outcome.error
        case Unhandled():
            return HandlerMissing(outcome.message)
        case _:
            return None
