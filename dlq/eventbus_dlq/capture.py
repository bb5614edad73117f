"""From a failure of the bus to a new dead letter."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from eventbus.ids import new_id
from eventbus.payloads import MASK
from eventbus_dlq import policy
from eventbus_dlq.letter import Attempt, DeadLetter, DeadLetterState, bounded_history
from eventbus_dlq.making import drafting

if TYPE_CHECKING:
    from eventbus.failure import AttemptRecord, Failure
    from eventbus.retry import RetryPolicy

begin_letter, finish_letter = drafting(DeadLetter)
"""Make a letter field by field, which is much faster than the class itself."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(time_ns: int) -> datetime:
    """Return nanoseconds since the epoch as an aware datetime, to the microsecond."""
    return _EPOCH + timedelta(0, 0, time_ns // 1000)


def attempt_of(record: AttemptRecord) -> Attempt:
    """Return a failed run as a letter keeps it."""
    number, started_ns, ended_ns, error = record
    return Attempt(number, moment(started_ns), moment(ended_ns), error)


def verdict_on(failure: Failure, *, redelivery: RetryPolicy, retries: int, now: datetime) -> policy.Verdict:
    """Decide where a failure goes, whether it is new or has been run again."""
    if failure.payload is None:
        return policy.UNDECODABLE
    if failure.envelope.event_type.codec.has_secrets and MASK in failure.payload:
        return policy.REDACTED
    if failure.reason == "interrupted":
        return policy.interrupted(now)
    return policy.decide(
        policy=redelivery,
        category=failure.error.category,
        retries=retries,
        key=f"{failure.envelope.id}:{failure.handler_id}",
        now=now,
        retry_after=failure.retry_after,
    )


def new_letter(failure: Failure, *, redelivery: RetryPolicy, now: datetime) -> DeadLetter:
    """Return the dead letter of a failure that was not stored before."""
    envelope = failure.envelope
    verdict = verdict_on(failure, redelivery=redelivery, retries=0, now=now)
    history = tuple([attempt_of(attempt) for attempt in failure.attempts])
    metadata = envelope.metadata
    letter = begin_letter()
    letter.id = new_id()
    letter.event_id = envelope.id
    letter.event_name = envelope.name
    letter.event_version = envelope.version
    letter.payload_json = b"null" if failure.payload is None else failure.payload
    letter.occurred_at = envelope.occurred_at
    letter.handler_id = failure.handler_id
    letter.tenant = metadata.tenant
    letter.user_id = metadata.user_id
    letter.correlation_id = envelope.correlation_id
    letter.causation_id = metadata.causation_id
    letter.source = metadata.source
    letter.ordering_key = failure.ordering_key
    letter.priority = failure.priority
    letter.headers = metadata.headers
    letter.tags = failure.tags
    letter.annotations = failure.annotations
    letter.redelivery = redelivery
    letter.state = verdict.state
    letter.reason = verdict.reason
    letter.attempts = len(history)
    letter.retries = 0
    letter.crashes = 0
    letter.retry_at = verdict.retry_at
    letter.created_at = now
    letter.updated_at = now
    letter.last_attempt_at = history[-1].ended_at if history else None
    letter.fingerprint = failure.fingerprint
    letter.error = failure.error
    letter.history = bounded_history(history)
    return finish_letter(letter)


def held(letter: DeadLetter, *, owner: str, lease_until: datetime) -> DeadLetter:
    """Return a new letter as it is stored while its handler's thread still runs: leased to us."""
    return replace(
        letter,
        state=DeadLetterState.RUNNING,
        reason=None,
        retry_at=None,
        token=1,
        lease_owner=owner,
        lease_until=lease_until,
    )
