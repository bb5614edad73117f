"""What each verb of a store makes of one letter: pure functions from letter to letter.

Whether a move is allowed is decided before: by ``letter.check_verb``, ``letter.check_claim`` and the
lease's token. ``store.py`` says when each of these happens, and what it means for a sequence.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from eventbus.classify import CATEGORY_OF, ROUTE_OF, Kind
from eventbus.failure import ErrorRecord
from eventbus.snapshots import fingerprint, type_name
from eventbus_dlq.errors import Poison
from eventbus_dlq.letter import STATE_AFTER, DeadLetter, DeadLetterState, Reason, Verb, bounded_history
from eventbus_dlq.making import copier

if TYPE_CHECKING:
    from datetime import datetime

    from eventbus_dlq.store import Settlement

replace = copier(DeadLetter)
"""Copies a letter with changes, like ``dataclasses.replace``, and faster."""


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
    """Return ``letter``, which is at rest, as ``owner`` runs it."""
    return replace(
        letter,
        state=DeadLetterState.RUNNING,
        attempts=letter.attempts + 1,
        retries=letter.retries + (letter.state is not DeadLetterState.ACCEPTED),
        token=letter.token + 1,
        lease_owner=owner,
        lease_until=now + timedelta(seconds=lease),
        updated_at=now,
    )


def settled(
    letter: DeadLetter, settlement: Settlement, before: DeadLetterState | None, *, now: datetime
) -> DeadLetter:
    """Return ``letter`` after its run, as ``settlement`` says; ``before`` is the state it was claimed in."""
    ran = letter if settlement.uncharged else replace(letter, last_attempt_at=now)
    give_back = before if settlement.uncharged or settlement.excused else None
    return replace(
        _at_rest(ran, settlement.state, now=now, give_back=give_back),
        attempts=letter.attempts - (settlement.uncharged and before is not None) + settlement.reruns,
        reason=settlement.reason,
        retry_at=settlement.retry_at,
        error=letter.error if settlement.error is None else settlement.error,
        history=bounded_history(letter.history + settlement.attempts),
        fingerprint=letter.fingerprint if settlement.fingerprint is None else settlement.fingerprint,
        annotations=letter.annotations if settlement.annotations is None else settlement.annotations,
        redelivery=letter.redelivery if settlement.redelivery is None else settlement.redelivery,
        acted_by=letter.acted_by if settlement.acted_by is None else settlement.acted_by,
        note=letter.note if settlement.note is None else settlement.note,
    )


def is_forgotten(letter: DeadLetter, settlement: Settlement) -> bool:
    """Tell whether nothing is kept of ``letter`` when it is settled like this."""
    return settlement.forget and settlement.state is DeadLetterState.RESOLVED and letter.error is None


def released(letter: DeadLetter, before: DeadLetterState | None, *, now: datetime) -> DeadLetter:
    """Return ``letter`` in the state ``before`` its claim; None when it arrived running, unclaimed."""
    if before is not None:
        return replace(_at_rest(letter, before, now=now, give_back=before), attempts=letter.attempts - 1)
    return _due_again(letter, now=now)


def rescued(
    letter: DeadLetter, before: DeadLetterState | None, *, max_crashes: int, now: datetime
) -> DeadLetter:
    """Return ``letter``, whose owner has died, for another run; or poison, when it has killed too many."""
    crashed = replace(letter, crashes=letter.crashes + 1)
    if crashed.crashes >= max_crashes:
        exhausted = _at_rest(crashed, DeadLetterState.EXHAUSTED, now=now)
        poison = replace(exhausted, reason=Reason.POISON, retry_at=None)
        return poison if letter.error is not None else _with_poison(poison, owner=letter.lease_owner)
    if before is None or before is DeadLetterState.PENDING:
        return _due_again(crashed, now=now)
    return _at_rest(crashed, before, now=now)


def unhandled(letter: DeadLetter, *, now: datetime) -> DeadLetter:
    """Return ``letter``, which no process has a handler for."""
    return replace(
        _at_rest(letter, DeadLetterState.EXHAUSTED, now=now), reason=Reason.UNHANDLED, retry_at=None
    )


def as_head(letter: DeadLetter) -> DeadLetter:
    """Return ``letter`` when its turn in its sequence has come."""
    if letter.state is DeadLetterState.PARKED and letter.reason is Reason.SEQUENCE:
        return replace(letter, waits=False, state=DeadLetterState.ACCEPTED, reason=None)
    return replace(letter, waits=False)


def as_follower(letter: DeadLetter) -> DeadLetter:
    """Return ``letter``, which is at rest, when an earlier one of its sequence has come back."""
    return replace(letter, waits=True)


def held_back(letter: DeadLetter) -> DeadLetter:
    """Return ``letter``, which is accepted and waits, in a sequence that is blocked."""
    return replace(letter, state=DeadLetterState.PARKED, reason=Reason.SEQUENCE)


def parked(letter: DeadLetter, reason: Reason, *, now: datetime) -> DeadLetter:
    """Return ``letter``, which could be claimed, as a control holds it back."""
    return replace(letter, state=DeadLetterState.PARKED, reason=reason, updated_at=now)


def unparked(letter: DeadLetter, before: DeadLetterState | None, *, now: datetime) -> DeadLetter:
    """Return ``letter``, which a control has held back, in the state ``before``.

    One that came parked, as none but an import may bring it, goes on as what it looks like.
    """
    if before is None:
        before = DeadLetterState.ACCEPTED if letter.error is None else DeadLetterState.PENDING
    retry_at = letter.retry_at
    if before is DeadLetterState.PENDING and retry_at is None:
        retry_at = now
    return replace(letter, state=before, reason=None, retry_at=retry_at, updated_at=now)


def changed(
    letter: DeadLetter, verb: Verb, *, now: datetime, by: str | None, note: str | None, until: datetime | None
) -> DeadLetter:
    """Return ``letter`` after a person's verb; every one but delete leaves a letter."""
    due = {Verb.SNOOZE: until, Verb.REQUEUE: now}
    return replace(
        letter,
        state=STATE_AFTER[verb],
        reason=None,
        retries=0 if verb is Verb.REQUEUE else letter.retries,
        retry_at=due.get(verb),
        acted_by=by,
        note=note,
        updated_at=now,
    )


def _at_rest(
    letter: DeadLetter, state: DeadLetterState, *, now: datetime, give_back: DeadLetterState | None = None
) -> DeadLetter:
    """Return ``letter`` without its lease; ``give_back`` is the state before a claim that is not charged."""
    charged_retry = give_back is not None and give_back is not DeadLetterState.ACCEPTED
    return replace(
        letter,
        state=state,
        retries=letter.retries - charged_retry,
        lease_owner=None,
        lease_until=None,
        updated_at=now,
    )


def _due_again(letter: DeadLetter, *, now: datetime) -> DeadLetter:
    due = now if letter.retry_at is None else letter.retry_at
    return replace(_at_rest(letter, DeadLetterState.PENDING, now=now), retry_at=due)


def _with_poison(letter: DeadLetter, *, owner: str | None) -> DeadLetter:
    times = "process" if letter.crashes == 1 else f"{letter.crashes} processes in a row"
    error = Poison(f"the {times} that ran it died, or froze for longer than the lease; the last was {owner}")
    kind = Kind.UNKNOWN
    record = ErrorRecord(type_name(error), str(error), "", None, kind, CATEGORY_OF[kind], ROUTE_OF[kind])
    return replace(letter, error=record, fingerprint=fingerprint(letter.handler_id, error))
