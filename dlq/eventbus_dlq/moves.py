"""What each verb of a store makes of one letter: pure functions from letter to letter.

Whether a move is allowed is decided before: by ``letter.check_verb``, ``letter.check_claim``, the
lease's token and its end. ``store.py`` says when each of these happens.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from eventbus_dlq.letter import STATE_AFTER, DeadLetter, DeadLetterState, Verb, bounded_history

if TYPE_CHECKING:
    from datetime import datetime

    from eventbus_dlq.store import Settlement


def merged(known: DeadLetter, arrived: DeadLetter) -> DeadLetter:
    """Return ``known``, a letter at rest, with a further failure of the same event and handler."""
    runs = arrived.state is DeadLetterState.RUNNING
    later = tuple(attempt._replace(number=known.attempts + attempt.number) for attempt in arrived.history)
    return replace(
        known,
        state=arrived.state,
        reason=arrived.reason,
        retry_at=arrived.retry_at,
        error=arrived.error,
        fingerprint=arrived.fingerprint,
        annotations=arrived.annotations,
        redelivery=arrived.redelivery,
        attempts=known.attempts + arrived.attempts,
        history=bounded_history(known.history + later),
        updated_at=arrived.updated_at,
        last_attempt_at=arrived.last_attempt_at or known.last_attempt_at,
        token=max(known.token + runs, arrived.token),
        lease_owner=arrived.lease_owner if runs else None,
        lease_until=arrived.lease_until if runs else None,
    )


def claimed(letter: DeadLetter, *, owner: str, lease: float, now: datetime) -> DeadLetter:
    """Return ``letter`` as ``owner`` runs it; one that was running already has crashed once more."""
    return replace(
        letter,
        state=DeadLetterState.RUNNING,
        attempts=letter.attempts + 1,
        retries=letter.retries + 1,
        crashes=letter.crashes + (letter.state is DeadLetterState.RUNNING),
        token=letter.token + 1,
        lease_owner=owner,
        lease_until=now + timedelta(seconds=lease),
        updated_at=now,
    )


def settled(letter: DeadLetter, settlement: Settlement, *, now: datetime) -> DeadLetter:
    """Return ``letter`` after its run, as ``settlement`` says."""
    charged = letter if settlement.uncharged else replace(letter, last_attempt_at=now)
    latest = () if settlement.attempt is None else (settlement.attempt,)
    return replace(
        _at_rest(charged, settlement.state, uncharged=settlement.uncharged, now=now),
        reason=settlement.reason,
        retry_at=settlement.retry_at,
        error=letter.error if settlement.error is None else settlement.error,
        history=bounded_history(letter.history + latest),
        fingerprint=letter.fingerprint if settlement.fingerprint is None else settlement.fingerprint,
        annotations=letter.annotations if settlement.annotations is None else settlement.annotations,
        acted_by=letter.acted_by if settlement.acted_by is None else settlement.acted_by,
        note=letter.note if settlement.note is None else settlement.note,
    )


def released(letter: DeadLetter, before: DeadLetterState | None, *, now: datetime) -> DeadLetter:
    """Return ``letter`` in the state ``before`` its claim; None when it arrived running, unclaimed."""
    if before is not None:
        return _at_rest(letter, before, uncharged=True, now=now)
    due = now if letter.retry_at is None else letter.retry_at
    return replace(_at_rest(letter, DeadLetterState.PENDING, uncharged=False, now=now), retry_at=due)


def changed(
    letter: DeadLetter, verb: Verb, *, now: datetime, by: str | None, note: str | None, until: datetime | None
) -> DeadLetter:
    """Return ``letter`` after a person's verb; every one but delete leaves a letter."""
    return replace(
        letter,
        state=STATE_AFTER[verb],
        reason=None,
        retry_at=until if verb is Verb.SNOOZE else None,
        acted_by=by,
        note=note,
        updated_at=now,
    )


def _at_rest(letter: DeadLetter, state: DeadLetterState, *, uncharged: bool, now: datetime) -> DeadLetter:
    return replace(
        letter,
        state=state,
        attempts=letter.attempts - uncharged,
        retries=letter.retries - uncharged,
        lease_owner=None,
        lease_until=None,
        updated_at=now,
    )
