"""What becomes of a failure: pure decisions, the same for a capture and for a replay."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from eventbus.classify import Category
from eventbus.retry import MAX_WAIT
from eventbus_dlq.letter import DeadLetterState, Reason

if TYPE_CHECKING:
    from eventbus.retry import RetryPolicy

_MOMENT = timedelta(seconds=1)


class Verdict(NamedTuple):
    """Where a letter goes after a failure.

    Attributes:
        state: pending or exhausted.
        reason: why, where the state alone does not say.
        retry_at: when it is due, for pending.
    """

    state: DeadLetterState
    reason: Reason | None = None
    retry_at: datetime | None = None


def decide(
    *,
    policy: RetryPolicy,
    category: Category,
    retries: int,
    key: str,
    now: datetime,
    retry_after: float | None = None,
) -> Verdict:
    """Decide about a failed delivery.

    Args:
        policy: the schedule of redeliveries.
        category: a permanent failure is not tried again.
        retries: runs since it was stored.
        key: the delivery's idempotency key, which seeds the jitter.
        now: the moment of the decision.
        retry_after: seconds that the failing side asked us to wait, which may be more than a calendar has;
            the later moment wins.
    """
    if category is Category.PERMANENT:
        return Verdict(DeadLetterState.EXHAUSTED, Reason.PERMANENT)
    if retries >= policy.attempts:
        return Verdict(DeadLetterState.EXHAUSTED, Reason.ATTEMPTS)
    wait = max(policy.wait_before(retries + 1, seed=key), retry_after or 0.0)
    return Verdict(DeadLetterState.PENDING, None, now + timedelta(seconds=min(wait, MAX_WAIT)))


def interrupted(now: datetime) -> Verdict:
    """Decide about a delivery that was cut short: due in a moment, and nothing is held against it.

    Not at once: publishers whose deadlines pass because everything is slow would have it all run twice.
    """
    return Verdict(DeadLetterState.PENDING, Reason.INTERRUPTED, now + _MOMENT)


UNDECODABLE = Verdict(DeadLetterState.EXHAUSTED, Reason.UNDECODABLE)
REDACTED = Verdict(DeadLetterState.EXHAUSTED, Reason.REDACTED)
UNHANDLED = Verdict(DeadLetterState.EXHAUSTED, Reason.UNHANDLED)
