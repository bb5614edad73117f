"""From a letter to the columns of its row."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic_core import to_json

from eventbus_adapters.sql.tables import letters

if TYPE_CHECKING:
    from eventbus.failure import CauseRecord, ErrorRecord
    from eventbus.retry import RetryPolicy
    from eventbus_dlq.letter import Attempt, DeadLetter, DeadLetterState

Value: TypeAlias = "str | int | bytes | None"
"""What a column holds."""

ROW = tuple(column.name for column in letters.columns if column.name != "seq")
"""The columns that :func:`row_of` fills, in its order."""

STANDING = ROW[ROW.index("state") : ROW.index("note") + 1]
"""The columns that :func:`standing_of` fills, in its order."""

SUMMARY_MESSAGE = 500
"""How many characters of an error's message listings show."""

LAST = "last"
"""Stands in a history for an error that equals the letter's own, so that it is not stored twice."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_US = 86_400_000_000
_SECOND_US = 1_000_000


def microseconds(moment: datetime) -> int:
    """Return an aware moment as microseconds since the epoch."""
    since: timedelta = moment - _EPOCH
    return since.days * _DAY_US + since.seconds * _SECOND_US + since.microseconds


def row_of(letter: DeadLetter, before: DeadLetterState | None = None) -> tuple[Value, ...]:
    """Return the columns ``ROW`` of a letter; ``before`` is the state that a release restores.

    Raises:
        ValueError: a header or annotation has no JSON form.
    """
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
        *standing_of(letter, before),
        letter.fingerprint,
        *_plain_error(letter.error),
        _policy_text(letter.redelivery),
        to_json(letter.tags).decode() if letter.tags else "[]",
        to_json(dict(letter.headers)) if letter.headers else b"{}",
        to_json(dict(letter.annotations), fallback=repr) if letter.annotations else b"{}",
        letter.payload_json,
        _wide_error(letter.error),
        _history(letter.history, letter.error),
    )


def standing_of(letter: DeadLetter, before: DeadLetterState | None) -> tuple[Value, ...]:
    """Return the columns ``STANDING`` of a letter: what every verb may change."""
    return (
        str(letter.state),
        None if letter.reason is None else str(letter.reason),
        None if before is None else str(before),
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
    )


def _plain_error(error: ErrorRecord) -> tuple[Value, ...]:
    return (
        error.type,
        error.message[:SUMMARY_MESSAGE],
        error.code,
        str(error.kind),
        str(error.category),
        str(error.route),
    )


@lru_cache(maxsize=256)
def _policy_text(policy: RetryPolicy) -> str:
    return to_json(policy).decode()


def _wide_error(error: ErrorRecord) -> bytes:
    return to_json(
        {
            "message": error.message if len(error.message) > SUMMARY_MESSAGE else None,
            "traceback": error.traceback,
            "causes": _causes(error.causes),
        }
    )


def _history(history: tuple[Attempt, ...], last: ErrorRecord) -> bytes:
    return to_json([_attempt(attempt, last) for attempt in history]) if history else b"[]"


def _attempt(attempt: Attempt, last: ErrorRecord) -> dict[str, Any]:
    error = attempt.error
    return {
        "number": attempt.number,
        "started_us": microseconds(attempt.started_at),
        "ended_us": microseconds(attempt.ended_at),
        "error": None if error is None else LAST if error is last or error == last else _whole_error(error),
    }


def _whole_error(error: ErrorRecord) -> dict[str, Any]:
    return {
        "type": error.type,
        "message": error.message,
        "traceback": error.traceback,
        "code": error.code,
        "kind": error.kind,
        "category": error.category,
        "route": error.route,
        "causes": _causes(error.causes),
    }


def _causes(causes: tuple[CauseRecord, ...]) -> list[dict[str, str]]:
    return [
        {"relation": it.relation, "type": it.type, "message": it.message, "traceback": it.traceback}
        for it in causes
    ]
