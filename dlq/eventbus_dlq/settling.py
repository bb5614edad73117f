"""How a claimed run ended, as the store is to record it: the same for a worker and for a replay."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from eventbus.classify import Classification, Kind
from eventbus.snapshots import fingerprint, snapshot
from eventbus.stored import (
    FailedAgain,
    Held,
    Interrupted,
    Redacted,
    StoredDelivery,
    Succeeded,
    Undecodable,
    Unhandled,
)
from eventbus_dlq import policy
from eventbus_dlq.capture import attempt_of, moment, verdict_on
from eventbus_dlq.letter import DeadLetterState
from eventbus_dlq.making import copier, drafting, maker
from eventbus_dlq.store import Settlement

if TYPE_CHECKING:
    from datetime import datetime

    from eventbus.failure import Failure
    from eventbus.ports import Clock
    from eventbus.stored import RedeliveryOutcome
    from eventbus_dlq.letter import DeadLetter
    from eventbus_dlq.schedules import Schedules
    from eventbus_dlq.store import Claim

make_settlement = maker(Settlement)
"""Makes a settlement, like the class itself, and faster."""

_RESOLVED = DeadLetterState.RESOLVED
_changed = copier(Settlement)
_begin_stored, _finish_stored = drafting(StoredDelivery)


def stored_delivery(letter: DeadLetter, *, once: bool = False) -> StoredDelivery:
    """Return what the bus needs to run a claimed letter; ``once`` asks for a single attempt."""
    stored = _begin_stored()
    stored.dead_letter_id = letter.id
    stored.event_id = letter.event_id
    stored.event_name = letter.event_name
    stored.event_version = letter.event_version
    stored.payload = letter.payload_json
    stored.occurred_at = letter.occurred_at
    stored.handler_id = letter.handler_id
    stored.attempt = letter.attempts
    stored.first_failed_at = None if letter.error is None else first_failed_at(letter)
    stored.correlation_id = letter.correlation_id
    stored.causation_id = letter.causation_id
    stored.source = letter.source
    stored.tenant = letter.tenant
    stored.user_id = letter.user_id
    stored.ordering_key = letter.ordering_key
    stored.priority = letter.priority
    stored.tags = letter.tags
    stored.headers = letter.headers
    stored.once = once
    return _finish_stored(stored)


def first_failed_at(letter: DeadLetter) -> datetime | None:
    """Return when a letter failed first; None for one that never has."""
    if letter.error is None:
        return None
    return letter.history[0].ended_at if letter.history else letter.created_at


def settlement_of(
    claim: Claim,
    outcome: RedeliveryOutcome,
    *,
    clock: Clock,
    schedules: Schedules,
    keep_succeeded: bool,
    by: str | None = None,
    note: str | None = None,
) -> Settlement | None:
    """Return how a run is to be recorded; None when nothing is, and the letter to be released.

    Every way a run can end has its line here.
    """
    letter = claim.letter
    if isinstance(outcome, Succeeded):
        return make_settlement(
            lease=claim.lease,
            state=_RESOLVED,
            reruns=outcome.runs - 1,
            forget=letter.error is None and not keep_succeeded,
            acted_by=by,
            note=note,
        )
    settlement = make_settlement(lease=claim.lease, state=DeadLetterState.RESOLVED, acted_by=by, note=note)
    match outcome:
        case FailedAgain():
            return _failed(letter, settlement, outcome.failure, schedules, moment(clock.time_ns()))
        case Unhandled():
            return _not_run(settlement, policy.UNHANDLED)
        case Redacted():
            return _not_run(settlement, policy.REDACTED)
        case Undecodable():
            return _changed(
                _not_run(settlement, policy.UNDECODABLE),
                error=snapshot(outcome.error, Classification(Kind.VALIDATION)),
                fingerprint=fingerprint(letter.handler_id, outcome.error),
            )
        case Interrupted() | Held():
            return None
    assert_never(outcome)


def settled_later(
    settlement: Settlement, letter: DeadLetter, failure: Failure, schedules: Schedules, now: datetime
) -> Settlement:
    """Return ``settlement`` of a failure as it is decided now that its handler's thread has returned."""
    redelivery = schedules.of(letter.handler_id, letter.event_name)
    verdict = verdict_on(failure, redelivery=redelivery, retries=letter.retries, now=now)
    return _changed(
        settlement,
        state=verdict.state,
        reason=verdict.reason,
        retry_at=verdict.retry_at,
        redelivery=None if redelivery == letter.redelivery else redelivery,
    )


def attempts_after(letter: DeadLetter, settlement: Settlement) -> int:
    """Return the runs of a claimed letter's handler once it is settled."""
    return letter.attempts - settlement.uncharged + settlement.reruns


def duration_of(outcome: RedeliveryOutcome | None) -> float:
    """Return the seconds that the handler took; 0 when it did not run, or is not known."""
    return outcome.duration if isinstance(outcome, (Succeeded, FailedAgain)) else 0.0


def _failed(
    letter: DeadLetter, settlement: Settlement, failure: Failure, schedules: Schedules, now: datetime
) -> Settlement:
    # the claim has charged one run: the first of these bears its number
    attempts = tuple(
        attempt_of(record)._replace(number=number)
        for number, record in enumerate(failure.attempts, letter.attempts)
    )
    return _changed(
        settled_later(settlement, letter, failure, schedules, now),
        error=failure.error,
        attempts=attempts,
        reruns=len(attempts) - 1,
        fingerprint=failure.fingerprint,
        annotations=failure.annotations or None,
    )


def _not_run(settlement: Settlement, verdict: policy.Verdict) -> Settlement:
    """Return the settlement of a claim whose handler could not be run: nothing is charged."""
    return _changed(settlement, state=verdict.state, reason=verdict.reason, uncharged=True)
