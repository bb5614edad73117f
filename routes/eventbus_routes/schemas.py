"""What is shown of dead letters: the models of the answers, in the names that the Python API uses.

Times are RFC 3339 texts in UTC, durations are seconds.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from eventbus_dlq.letter import DeadLetter
    from eventbus_dlq.query import Page


class Shown(BaseModel):
    """Base of what is shown: read from the attributes of the Python value."""

    model_config = ConfigDict(from_attributes=True, frozen=True)


class ShownSummary(Shown):
    """A dead letter in a listing: see ``eventbus_dlq.DeadLetterSummary``."""

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
    state: str
    reason: str | None
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


class ShownPage(Shown):
    """Part of a listing; ``next_cursor`` is null at its end."""

    items: tuple[ShownSummary, ...]
    next_cursor: str | None

    @classmethod
    def of(cls, page: Page) -> ShownPage:
        """Return what is shown of ``page``."""
        return cls.model_validate(page)


class ShownCause(Shown):
    """One more exception behind an error."""

    relation: str
    type: str
    message: str
    traceback: str


class ShownError(Shown):
    """What is kept of an exception: see ``eventbus.failure.ErrorRecord``."""

    type: str
    message: str
    traceback: str
    code: str | None
    kind: str
    category: str
    route: str
    causes: tuple[ShownCause, ...]


class ShownAttempt(Shown):
    """One run of the handler."""

    number: int
    started_at: datetime
    ended_at: datetime
    error: ShownError | None


class ShownRetryPolicy(Shown):
    """The schedule that applies to a letter."""

    attempts: int
    backoff: str
    delay: float
    multiplier: float
    max_delay: float
    jitter: bool


class ShownLetter(Shown):
    """A dead letter to whoever may read: see ``eventbus_dlq.DeadLetter``."""

    id: str
    event_id: str
    event_name: str
    event_version: int
    occurred_at: datetime
    handler_id: str
    tenant: str | None
    user_id: str | None
    correlation_id: str
    causation_id: str | None
    source: str | None
    ordering_key: str | None
    priority: int
    tags: tuple[str, ...]
    redelivery: ShownRetryPolicy
    state: str
    reason: str | None
    attempts: int
    retries: int
    crashes: int
    retry_at: datetime | None
    created_at: datetime
    updated_at: datetime
    last_attempt_at: datetime | None
    fingerprint: str
    error: ShownError | None
    history: tuple[ShownAttempt, ...]
    acted_by: str | None
    note: str | None
    token: int
    lease_owner: str | None
    lease_until: datetime | None


class RevealedLetter(ShownLetter):
    """A dead letter to whoever may also reveal.

    Attributes:
        headers: free text metadata of the event.
        annotations: what the handler noted while it ran.
        payload: the payload; null when what is stored is not JSON.
    """

    headers: dict[str, str]
    annotations: Any
    payload: Any


def letter_document(letter: DeadLetter, *, reveal: bool) -> dict[str, Any]:
    """Return a letter in its JSON form; payload, headers and annotations only with ``reveal``."""
    document = ShownLetter.model_validate(letter).model_dump(mode="json")
    if reveal:
        # Not through a model: JSON of any shape and depth is to come out as it went in.
        document["headers"] = dict(letter.headers)
        document["annotations"] = _as_json(letter.annotations)
        document["payload"] = _as_json(letter.payload)
    return document


def _as_json(value: Any) -> Any:
    """Return ``value``, or None when it came from a row that is not quite JSON (a NaN, endless depth)."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return None
    return value


class ShownFailure(Shown):
    """Why a run failed, in short; the letter has the whole of it."""

    type: str
    message: str


class ReplayResult(Shown):
    """What came of a replay.

    Attributes:
        dead_letter_id: the letter.
        state: where it stands now; ``running`` when the answer did not wait for the end.
        attempts: every run of the handler so far; null while it runs.
        error: why it failed again; null when it did not, or when the asker may not read.
    """

    dead_letter_id: str
    state: str
    attempts: int | None = None
    error: ShownFailure | None = None


class VerbResult(Shown):
    """What came of a verb for one letter."""

    dead_letter_id: str
    state: str
    acted_by: str
    note: str | None


class OperationResult(Shown):
    """What came of a verb for many letters.

    Attributes:
        verb: what was done.
        state: ``completed``, or ``running`` when the answer did not wait for the end.
        total: how many letters were meant; null, like the others, while it runs.
        done: how many came home.
        failed: how many failed again.
        skipped: how many could not be taken, because somebody else had them or their state changed.
    """

    verb: Literal["replay"]
    state: str
    total: int | None = None
    done: int | None = None
    failed: int | None = None
    skipped: int | None = None
