"""The dead letter: its record, its states, and which moves between them are legal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from eventbus_dlq.errors import InvalidTransition, LeaseHeld

if TYPE_CHECKING:
    from eventbus.failure import ErrorRecord
    from eventbus.retry import RetryPolicy


class DeadLetterState(StrEnum):
    """Where a delivery stands. Every stored delivery is in exactly one of these."""

    ACCEPTED = "accepted"
    """Durable, and waiting for its first run; not a failure yet. Entered by a durable or transactional
    publish, and from ``parked`` when its turn comes; left by a claim, or for ``parked`` when an earlier
    one of its sequence fails. Never pruned."""

    RUNNING = "running"
    """Leased by a worker or a replay. Entered by a claim; left by settling, by a release (back to
    the state before), or by a rescue when its owner has died. Refuses every other verb with
    ``LeaseHeld``. Never pruned."""

    PENDING = "pending"
    """Failed, and due for another run at ``retry_at``. Entered by a capture, by settling with
    budget left, by a snooze; left by a claim or by a person's verb. Never pruned."""

    EXHAUSTED = "exhausted"
    """No automatic run is left; a person decides. Entered by settling without budget, by a capture
    of a permanent failure, by a restore; left by a replay or by a person's verb. Never pruned."""

    PARKED = "parked"
    """Held back: paused, draining, or behind an earlier one of its sequence. Left by a resume or by
    the sequence's release. Never pruned."""

    RESOLVED = "resolved"
    """A later run succeeded, or a person said so. Left only by a restore, or by a new failure of the
    same event and handler. Pruned by age."""

    DISCARDED = "discarded"
    """A person gave it up. Left only by a restore, or by a new failure of the same event and
    handler. Pruned by age."""

    ARCHIVED = "archived"
    """Closed and kept. Left only by a restore, or by a new failure of the same event and handler.
    Pruned by age."""


class Reason(StrEnum):
    """Why a letter is in its state, where the state alone does not say."""

    ATTEMPTS = "attempts"
    """exhausted: the schedule's retries are used up."""
    PERMANENT = "permanent"
    """exhausted: trying again cannot help."""
    POISON = "poison"
    """exhausted: it killed the processes that ran it."""
    UNDECODABLE = "undecodable"
    """exhausted: its payload, or its row, does not fit today's code."""
    UNHANDLED = "unhandled"
    """exhausted: its handler is not subscribed anywhere."""
    REDACTED = "redacted"
    """exhausted: its payload was redacted, so that it cannot be run as it is."""
    INTERRUPTED = "interrupted"
    """pending: it had not finished when its publisher was cancelled or the bus stopped."""
    PAUSED = "paused"
    """parked: an operator paused its scope."""
    DRAINING = "draining"
    """parked: its scope is being drained."""
    SEQUENCE = "sequence"
    """parked: an earlier one of its sequence has not settled."""


OPEN_STATES = frozenset(
    {
        DeadLetterState.ACCEPTED,
        DeadLetterState.RUNNING,
        DeadLetterState.PENDING,
        DeadLetterState.EXHAUSTED,
        DeadLetterState.PARKED,
    }
)
CLOSED_STATES = frozenset({DeadLetterState.RESOLVED, DeadLetterState.DISCARDED, DeadLetterState.ARCHIVED})
CLAIMABLE_STATES = frozenset({DeadLetterState.ACCEPTED, DeadLetterState.PENDING, DeadLetterState.EXHAUSTED})


class Verb(StrEnum):
    """What a person may do to a letter without running it."""

    RESOLVE = "resolve"
    DISCARD = "discard"
    ARCHIVE = "archive"
    RESTORE = "restore"
    SNOOZE = "snooze"
    REQUEUE = "requeue"
    DELETE = "delete"


_OPEN_AT_REST = OPEN_STATES - {DeadLetterState.RUNNING}
_SNOOZABLE = frozenset({DeadLetterState.PENDING, DeadLetterState.EXHAUSTED})

ALLOWED_FROM: Mapping[Verb, frozenset[DeadLetterState]] = {
    Verb.RESOLVE: _OPEN_AT_REST,
    Verb.DISCARD: _OPEN_AT_REST,
    Verb.ARCHIVE: _OPEN_AT_REST,
    Verb.RESTORE: CLOSED_STATES,
    Verb.SNOOZE: _SNOOZABLE,
    Verb.REQUEUE: _SNOOZABLE,
    Verb.DELETE: _OPEN_AT_REST | CLOSED_STATES,
}
"""From which states each verb may be used. ``running`` is in none: it refuses with ``LeaseHeld``."""

STATE_AFTER: Mapping[Verb, DeadLetterState] = {
    Verb.RESOLVE: DeadLetterState.RESOLVED,
    Verb.DISCARD: DeadLetterState.DISCARDED,
    Verb.ARCHIVE: DeadLetterState.ARCHIVED,
    Verb.RESTORE: DeadLetterState.EXHAUSTED,
    Verb.SNOOZE: DeadLetterState.PENDING,
    Verb.REQUEUE: DeadLetterState.PENDING,
}
"""The state that each verb leads to; a deleted letter has none."""


def check_verb(verb: Verb, dead_letter_id: str, state: DeadLetterState) -> None:
    """Let ``verb`` pass, or say why not.

    Raises:
        LeaseHeld: the letter is running.
        InvalidTransition: its state does not allow the verb.
    """
    if state is DeadLetterState.RUNNING:
        raise LeaseHeld(f"dead letter {dead_letter_id} is running; {verb} it when the run has settled")
    if state not in ALLOWED_FROM[verb]:
        allowed = ", ".join(sorted(ALLOWED_FROM[verb]))
        raise InvalidTransition(
            f"dead letter {dead_letter_id} is {state}; {verb} is possible from: {allowed}"
        )


_AFTER_THE_HEAD = "replay, resolve or discard the first one of its ordering key, and it runs by itself"


def check_claim(dead_letter_id: str, state: DeadLetterState, *, waits: bool = False) -> None:
    """Let a claim of a letter pass, or say why not.

    Raises:
        LeaseHeld: it is running.
        InvalidTransition: its state does not allow a run, or an earlier one of its sequence comes first.
    """
    if state is DeadLetterState.RUNNING:
        raise LeaseHeld(f"dead letter {dead_letter_id} is running; try again when the run has settled")
    if state not in CLAIMABLE_STATES:
        hint = "restore it first" if state in CLOSED_STATES else _AFTER_THE_HEAD
        raise InvalidTransition(f"dead letter {dead_letter_id} is {state} and cannot be run; {hint}")
    if waits:
        raise InvalidTransition(
            f"dead letter {dead_letter_id} waits for an earlier one of its sequence; "
            "replay, resolve or discard that one first"
        )


class Attempt(NamedTuple):
    """One run of the handler.

    Attributes:
        number: counts from 1 over all runs of the delivery.
        started_at: when it began (aware UTC).
        ended_at: when it ended (aware UTC).
        error: why it failed; None for a run that succeeded.
    """

    number: int
    started_at: datetime
    ended_at: datetime
    error: ErrorRecord | None


_UNREAD: Any = object()

MAX_HISTORY = 50
"""How many attempts a letter keeps: the first one and the latest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterSummary:
    """What a listing shows of a letter: everything but payload, headers, annotations and tracebacks.

    Attributes:
        id: UUIDv7 of the letter.
        event_id: the event's id; with ``handler_id`` it is the idempotency key.
        event_name: the event's name.
        handler_id: whose delivery failed.
        tenant: whose event it was, or None.
        user_id: on whose behalf it was published, or None.
        correlation_id: the whole flow.
        ordering_key: what it keeps the order of, or None.
        priority: 1 (high) to 10 (low).
        tags: the subscription's tags and the event's.
        state: where it stands.
        reason: why, where the state alone does not say.
        attempts: every run of the handler, in-process ones included.
        retries: runs since it was stored.
        crashes: how many processes died while running it.
        retry_at: when it is due (aware UTC), or None.
        created_at: when it was stored (aware UTC).
        updated_at: when it changed last (aware UTC).
        last_attempt_at: when its last run ended (aware UTC), or None when it never ran.
        fingerprint: groups failures of one origin; empty while it has not failed.
        error_type: qualified name of the last error's class; empty while it has not failed, like
            the four that follow.
        error_message: its text, at most 500 characters.
        kind: what went wrong.
        category: whether trying again can help.
        route: what to do about it.
        acted_by: who acted last, or None.
        note: their note, or None.
        token: the current fencing token; it rises with every claim.
    """

    id: str
    event_id: str
    event_name: str
    handler_id: str
    tenant: str | None
    user_id: str | None
    correlation_id: str
    ordering_key: str | None
    priority: int
    tags: tuple[str, ...]
    state: DeadLetterState
    reason: Reason | None
    attempts: int
    retries: int
    crashes: int
    retry_at: datetime | None
    created_at: datetime
    updated_at: datetime
    last_attempt_at: datetime | None
    fingerprint: str
    error_type: str
    error_message: str
    kind: str
    category: str
    route: str
    acted_by: str | None
    note: str | None
    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A stored delivery, with all that is needed to understand its failures and to run it again.

    Attributes:
        id: UUIDv7 of the letter.
        event_id: the event's id; with ``handler_id`` it is the idempotency key.
        event_name: the event's name.
        event_version: the version of its class when it was stored.
        payload_json: the encoded payload, exactly as stored.
        occurred_at: when the event was published (aware UTC).
        handler_id: whose delivery failed.
        tenant: whose event it was, or None.
        user_id: on whose behalf it was published, or None.
        correlation_id: the whole flow.
        causation_id: the event whose handler published this one, or None.
        source: who published it, or None.
        ordering_key: the key within which order is kept, or None.
        priority: 1 (high) to 10 (low).
        headers: free text metadata.
        tags: the subscription's tags and the event's.
        annotations: what the handler noted while it ran.
        redelivery: the schedule that applies to it.
        state: where it stands.
        reason: why, where the state alone does not say.
        attempts: every run of the handler, in-process ones included.
        retries: runs since it was stored: what the schedule counts.
        crashes: how many processes died while running it.
        retry_at: when it is due (aware UTC), or None.
        created_at: when it was stored (aware UTC).
        updated_at: when it changed last (aware UTC).
        last_attempt_at: when its last run ended (aware UTC), or None when it never ran.
        fingerprint: groups failures of one origin; empty while it has not failed.
        error: the last error; None while it has not failed.
        history: every failed run, oldest first; the first and the latest ``MAX_HISTORY - 1``.
        acted_by: who acted last, or None.
        note: their note, or None.
        token: the current fencing token; it rises with every claim and never goes down.
        lease_owner: who runs it, while it is running.
        lease_until: when that lease ends (aware UTC), while it is running.
        waits: whether an earlier one of its sequence (same handler and ordering key) comes first.
    """

    id: str
    event_id: str
    event_name: str
    event_version: int
    payload_json: bytes
    occurred_at: datetime
    handler_id: str
    tenant: str | None
    user_id: str | None
    correlation_id: str
    causation_id: str | None
    source: str | None
    ordering_key: str | None
    priority: int
    headers: Mapping[str, str]
    tags: tuple[str, ...]
    annotations: Mapping[str, Any]
    redelivery: RetryPolicy
    state: DeadLetterState
    reason: Reason | None
    attempts: int
    retries: int
    crashes: int
    retry_at: datetime | None
    created_at: datetime
    updated_at: datetime
    last_attempt_at: datetime | None
    fingerprint: str
    error: ErrorRecord | None
    history: tuple[Attempt, ...]
    acted_by: str | None = None
    note: str | None = None
    token: int = 0
    lease_owner: str | None = None
    lease_until: datetime | None = None
    waits: bool = False
    _payload: Any = field(default=_UNREAD, init=False, repr=False, compare=False)

    @property
    def payload(self) -> Any:
        """The payload as JSON values; None when the stored bytes are not JSON (see ``reason``)."""
        if self._payload is _UNREAD:
            object.__setattr__(self, "_payload", _json_of(self.payload_json))
        return self._payload

    @property
    def idempotency_key(self) -> str:
        """``event_id:handler_id``: the same over all retries and replays of this delivery."""
        return f"{self.event_id}:{self.handler_id}"


def _json_of(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def bounded_history(history: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
    """Return ``history`` with the first attempt and the latest ones, at most ``MAX_HISTORY``."""
    if len(history) <= MAX_HISTORY:
        return history
    return (history[0], *history[-(MAX_HISTORY - 1) :])
