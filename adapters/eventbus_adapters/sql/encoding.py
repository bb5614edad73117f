"""From a letter to the columns of its row."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic_core import to_json

from eventbus.classify import Category, Kind, Route
from eventbus_adapters.sql.tables import letters
from eventbus_dlq.letter import DeadLetterState, Reason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eventbus.failure import CauseRecord, ErrorRecord
    from eventbus.retry import RetryPolicy
    from eventbus_dlq.letter import Attempt, DeadLetter

Value: TypeAlias = "str | int | bytes | None"
"""What a column holds."""

ROW = tuple(column.name for column in letters.columns if column.name != "seq")
"""The columns that :func:`row_of` fills, in its order."""

STANDING = ROW[ROW.index("state") : ROW.index("queued_us") + 1]
"""The columns that :func:`standing_of` fills, in its order."""

FAILING = (
    *STANDING,
    *(name for name in ROW[ROW.index("fingerprint") :] if name not in {"tags", "headers", "payload"}),
)
"""The columns that :func:`failing_of` fills, in its order: those that a further failure changes."""

SUMMARY_MESSAGE = 500
"""How many characters of an error's message listings show."""

LAST = "last"
"""Stands in a history for an error that equals the letter's own, so that it is not stored twice."""

_LAST_JSON = f'"{LAST}"'
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_US = 86_400_000_000
_SECOND_US = 1_000_000


def microseconds(moment: datetime) -> int:
    """Return an aware moment as microseconds since the epoch."""
    since = moment - EPOCH
    return since.days * _DAY_US + since.seconds * _SECOND_US + since.microseconds


def lease_us(lease: float) -> int:
    """Return how long a lease of ``lease`` seconds is, in microseconds."""
    return round(lease * _SECOND_US)


def row_of(letter: DeadLetter, *, queued_at: datetime | None = None) -> tuple[Value, ...]:
    """Return the columns ``ROW`` of a letter; ``queued_at`` as in :func:`standing_of`, else its creation.

    Raises:
        ValueError: a header or annotation has no JSON form.
    """
    error = letter.error
    return (
        letter.id,
        letter.event_id,
        letter.handler_id,
        letter.event_name,
        letter.event_version,
        letter.tenant,
        letter.user_id,
        letter.correlation_id,
        letter.causation_id,
        letter.source,
        letter.ordering_key,
        letter.priority,
        microseconds(letter.occurred_at),
        microseconds(letter.created_at),
        *standing_of(letter, queued_at or letter.created_at),
        letter.fingerprint,
        *(_NO_FAILURE if error is None else _failure(error)),
        policy_text(letter.redelivery),
        to_json(letter.tags).decode() if letter.tags else "[]",
        to_json(dict(letter.headers)) if letter.headers else b"{}",
        to_json(dict(letter.annotations), fallback=repr) if letter.annotations else b"{}",
        letter.payload_json,
        _NO_WIDE_ERROR if error is None else _wide_error(error),
        history_json(letter.history, error) if letter.history else b"[]",
    )


def standing_of(letter: DeadLetter, queued_at: datetime) -> tuple[Value, ...]:
    """Return the columns ``STANDING`` of a letter that was not claimed: what every verb may change.

    One that arrives running without having failed was claimed as it was accepted. ``queued_at`` is since
    when it can be claimed, if it is accepted and does not wait.
    """
    state = letter.state
    accepted = state is DeadLetterState.ACCEPTED
    return (
        _TEXT[state],
        None if letter.reason is None else _TEXT[letter.reason],
        _ACCEPTED if letter.error is None and state is DeadLetterState.RUNNING else None,
        letter.attempts,
        letter.retries,
        letter.crashes,
        None if letter.retry_at is None else microseconds(letter.retry_at),
        microseconds(letter.updated_at),
        None if letter.last_attempt_at is None else microseconds(letter.last_attempt_at),
        letter.token,
        letter.lease_owner,
        None if letter.lease_until is None else microseconds(letter.lease_until),
        letter.acted_by,
        letter.note,
        int(letter.error is None and (accepted or state is DeadLetterState.RUNNING)),
        int(letter.waits),
        microseconds(queued_at) if accepted and not letter.waits else None,
    )


def failing_of(letter: DeadLetter, queued_at: datetime) -> tuple[Value, ...]:
    """Return the columns ``FAILING`` of a letter; ``queued_at`` as in :func:`standing_of`."""
    error = letter.error
    return (
        *standing_of(letter, queued_at),
        letter.fingerprint,
        *(_NO_FAILURE if error is None else _failure(error)),
        policy_text(letter.redelivery),
        to_json(dict(letter.annotations), fallback=repr) if letter.annotations else b"{}",
        _NO_WIDE_ERROR if error is None else _wide_error(error),
        history_json(letter.history, error) if letter.history else b"[]",
    )


@lru_cache(maxsize=64)
def failure_of(error: ErrorRecord) -> tuple[Value, ...]:
    """Return the columns of an error, from ``error_type`` to ``route``, and the wide one."""
    return (*_failure(error), _wide_error(error))


def annotations_json(annotations: Mapping[str, Any] | None) -> bytes | None:
    """Return annotations as they are stored, or None."""
    return None if annotations is None else to_json(dict(annotations), fallback=repr)


def word_of(word: DeadLetterState | Reason | None) -> str | None:
    """Return what is stored for a member of an enumeration."""
    return None if word is None else _TEXT[word]


_TEXT: dict[str, str] = {
    word: str(word) for words in (DeadLetterState, Reason, Kind, Category, Route) for word in words
}
"""What is stored for the members of enumerations: plain texts, because sqlite3 adapts all others."""


_ACCEPTED = _TEXT[DeadLetterState.ACCEPTED]
_NO_FAILURE: tuple[Value, ...] = ("", "", None, "", "", "")
_NO_WIDE_ERROR = b"null"


def _failure(error: ErrorRecord) -> tuple[Value, ...]:
    return (
        error.type,
        error.message[:SUMMARY_MESSAGE],
        error.code,
        _TEXT[error.kind],
        _TEXT[error.category],
        _TEXT[error.route],
    )


@lru_cache(maxsize=256)
def policy_text(policy: RetryPolicy) -> str:
    """Return a schedule as it is stored."""
    return to_json(policy).decode()


def _wide_error(error: ErrorRecord) -> bytes:
    if not error.causes and len(error.message) <= SUMMARY_MESSAGE:
        return _only_traceback(error.traceback)
    return to_json(
        {
            "message": error.message if len(error.message) > SUMMARY_MESSAGE else None,
            "traceback": error.traceback,
            "causes": _causes(error.causes),
        }
    )


@lru_cache(maxsize=64)
def _only_traceback(traceback: str) -> bytes:
    """Encode an error that has nothing else wide; cached, because failures come in floods of the same."""
    return to_json({"message": None, "traceback": traceback, "causes": []})


def history_json(history: Sequence[Attempt], last: ErrorRecord | None) -> bytes:
    """Return a history as it is stored, of a letter whose own error is ``last``."""
    return f"[{','.join([_attempt(attempt, last) for attempt in history])}]".encode()


def _attempt(attempt: Attempt, last: ErrorRecord | None) -> str:
    number, started, ended, error = attempt
    shown = "null" if error is None else _LAST_JSON if error is last or error == last else error_json(error)
    return (
        f'{{"number":{number},"started_us":{microseconds(started)},'
        f'"ended_us":{microseconds(ended)},"error":{shown}}}'
    )


def error_json(error: ErrorRecord) -> str:
    """Return an error as it is stored in a history."""
    return to_json(error._asdict() | {"causes": _causes(error.causes)}).decode()


def _causes(causes: tuple[CauseRecord, ...]) -> list[dict[str, Any]]:
    return [cause._asdict() for cause in causes]
