"""From the columns of a row to a letter, or to a summary; whatever stands in the row.

A row that cannot be understood (an unknown state, broken JSON, a time beyond the calendar) becomes
an ``exhausted/undecodable`` letter with what is readable of it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, get_args

from pydantic_core import from_json

from eventbus.classify import Category, Kind, Route
from eventbus.failure import CauseRecord, ErrorRecord, Relation
from eventbus.retry import RetryPolicy
from eventbus_adapters.sql.encoding import LAST
from eventbus_dlq.letter import Attempt, DeadLetter, DeadLetterState, DeadLetterSummary, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_ERROR = ErrorRecord("", "", "", None, Kind.UNKNOWN, Category.UNKNOWN, Route.REVIEW)
_DEFAULT_POLICY = RetryPolicy()
_UNREADABLE = (ValueError, TypeError, KeyError, OverflowError)


class BrokenRowError(ValueError):
    """A column holds what it should not; the message names the column and the value."""


class _Read(Protocol):
    """How a column is read: strictly, or with a default for what cannot be."""

    def __call__(self, name: str, form: Callable[[Any], T], default: T, /) -> T: ...


def letter_of(row: Mapping[str, Any]) -> DeadLetter:
    """Return the letter of a whole row; ``exhausted/undecodable`` when it cannot be understood."""
    try:
        return checked_letter_of(row)
    except BrokenRowError:
        return _undecodable(_letter(_lenient(row)))


def checked_letter_of(row: Mapping[str, Any]) -> DeadLetter:
    """Return the letter of a whole row.

    Raises:
        BrokenRowError: it cannot be understood.
    """
    return _letter(_strict(row))


def summary_of(row: Mapping[str, Any]) -> DeadLetterSummary:
    """Return the summary of a row; ``exhausted/undecodable`` when it cannot be understood."""
    try:
        return _summary(_strict(row))
    except BrokenRowError:
        return _undecodable(_summary(_lenient(row)))


_Record = TypeVar("_Record", DeadLetter, DeadLetterSummary)


def _undecodable(record: _Record) -> _Record:
    return replace(record, state=DeadLetterState.EXHAUSTED, reason=Reason.UNDECODABLE)


def _strict(row: Mapping[str, Any]) -> _Read:
    def read(name: str, form: Callable[[Any], T], _default: T, /) -> T:
        value = row[name]
        try:
            return form(value)
        except _UNREADABLE:
            raise BrokenRowError(f"{name}={str(value)[:80]!r} cannot be understood") from None

    return read


def _lenient(row: Mapping[str, Any]) -> _Read:
    def read(name: str, form: Callable[[Any], T], default: T, /) -> T:
        try:
            return form(row[name])
        except _UNREADABLE:
            return default

    return read


def _summary(read: _Read) -> DeadLetterSummary:
    return DeadLetterSummary(
        id=read("id", _text, ""),
        event_id=read("event_id", _text, ""),
        event_name=read("event_name", _text, ""),
        handler_id=read("handler_id", _text, ""),
        tenant=read("tenant", _text_or_none, None),
        user_id=read("user_id", _text_or_none, None),
        correlation_id=read("correlation_id", _text, ""),
        priority=read("priority", _int, 5),
        tags=read("tags", _texts, ()),
        state=read("state", DeadLetterState, DeadLetterState.EXHAUSTED),
        reason=read("reason", _reason, None),
        attempts=read("attempts", _int, 0),
        retries=read("retries", _int, 0),
        crashes=read("crashes", _int, 0),
        retry_at=read("retry_us", _moment_or_none, None),
        created_at=read("created_us", moment_of, _EPOCH),
        updated_at=read("updated_us", moment_of, _EPOCH),
        last_attempt_at=read("last_attempt_us", _moment_or_none, None),
        fingerprint=read("fingerprint", _text, ""),
        error_type=read("error_type", _text, ""),
        error_message=read("error_message", _text, ""),
        kind=read("kind", Kind, Kind.UNKNOWN).value,
        category=read("category", Category, Category.UNKNOWN).value,
        route=read("route", Route, Route.REVIEW).value,
        acted_by=read("acted_by", _text_or_none, None),
        note=read("note", _text_or_none, None),
        token=read("token", _int, 0),
    )


def _letter(read: _Read) -> DeadLetter:
    error = _error(read)
    return DeadLetter(
        id=read("id", _text, ""),
        event_id=read("event_id", _text, ""),
        event_name=read("event_name", _text, ""),
        event_version=read("event_version", _int, 1),
        payload_json=read("payload", _bytes, b""),
        occurred_at=read("occurred_us", moment_of, _EPOCH),
        handler_id=read("handler_id", _text, ""),
        tenant=read("tenant", _text_or_none, None),
        user_id=read("user_id", _text_or_none, None),
        correlation_id=read("correlation_id", _text, ""),
        causation_id=read("causation_id", _text_or_none, None),
        source=read("source", _text_or_none, None),
        ordering_key=read("ordering_key", _text_or_none, None),
        priority=read("priority", _int, 5),
        headers=read("headers", _headers, {}),
        tags=read("tags", _texts, ()),
        annotations=read("annotations", _mapping, {}),
        redelivery=read("redelivery", _policy, _DEFAULT_POLICY),
        state=read("state", DeadLetterState, DeadLetterState.EXHAUSTED),
        reason=read("reason", _reason, None),
        attempts=read("attempts", _int, 0),
        retries=read("retries", _int, 0),
        crashes=read("crashes", _int, 0),
        retry_at=read("retry_us", _moment_or_none, None),
        created_at=read("created_us", moment_of, _EPOCH),
        updated_at=read("updated_us", moment_of, _EPOCH),
        last_attempt_at=read("last_attempt_us", _moment_or_none, None),
        fingerprint=read("fingerprint", _text, ""),
        error=error,
        history=read("history", lambda value: _history(value, error), ()),
        acted_by=read("acted_by", _text_or_none, None),
        note=read("note", _text_or_none, None),
        token=read("token", _int, 0),
        lease_owner=read("lease_owner", _text_or_none, None),
        lease_until=read("lease_us", _moment_or_none, None),
    )


def _error(read: _Read) -> ErrorRecord:
    nothing: Mapping[str, Any] = {"message": None, "traceback": "", "causes": []}
    wide = read("error", _mapping, nothing)
    shown = read("error_message", _text, "")
    return ErrorRecord(
        type=read("error_type", _text, ""),
        message=read("error", lambda _: shown if wide["message"] is None else _text(wide["message"]), shown),
        traceback=read("error", lambda _: _text(wide["traceback"]), ""),
        code=read("error_code", _text_or_none, None),
        kind=read("kind", Kind, Kind.UNKNOWN),
        category=read("category", Category, Category.UNKNOWN),
        route=read("route", Route, Route.REVIEW),
        causes=read("error", lambda _: _causes(wide["causes"]), ()),
    )


def _history(value: Any, last: ErrorRecord) -> tuple[Attempt, ...]:
    return tuple(_attempt(item, last) for item in _list(value))


def _attempt(item: Any, last: ErrorRecord) -> Attempt:
    return Attempt(
        number=_int(item["number"]),
        started_at=moment_of(item["started_us"]),
        ended_at=moment_of(item["ended_us"]),
        error=_attempt_error(item["error"], last),
    )


def _attempt_error(value: Any, last: ErrorRecord) -> ErrorRecord | None:
    if value is None:
        return None
    if value == LAST:
        return last
    return ErrorRecord(
        type=_text(value["type"]),
        message=_text(value["message"]),
        traceback=_text(value["traceback"]),
        code=_text_or_none(value["code"]),
        kind=Kind(value["kind"]),
        category=Category(value["category"]),
        route=Route(value["route"]),
        causes=_causes(value["causes"]),
    )


def _causes(value: Any) -> tuple[CauseRecord, ...]:
    return tuple(
        CauseRecord(
            relation=_relation(it["relation"]),
            type=_text(it["type"]),
            message=_text(it["message"]),
            traceback=_text(it["traceback"]),
        )
        for it in value
    )


def _relation(value: Any) -> Relation:
    if value not in get_args(Relation):
        raise ValueError(value)
    return cast("Relation", value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _text_or_none(value: Any) -> str | None:
    return None if value is None else _text(value)


def _int(value: Any) -> int:
    if not isinstance(value, int):
        raise TypeError(value)
    return value


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError(value)
    return value


def moment_of(value: Any) -> datetime:
    """Return microseconds since the epoch as an aware moment.

    Raises:
        TypeError: it is no whole number.
        OverflowError: the calendar does not reach that far.
    """
    return _EPOCH + timedelta(microseconds=_int(value))


def _moment_or_none(value: Any) -> datetime | None:
    return None if value is None else moment_of(value)


def _reason(value: Any) -> Reason | None:
    return None if value is None else Reason(value)


def _list(value: Any) -> Sequence[Any]:
    decoded = from_json(value)
    if not isinstance(decoded, list):
        raise TypeError(value)
    return cast("Sequence[Any]", decoded)


def _texts(value: Any) -> tuple[str, ...]:
    return () if value == "[]" else tuple(_text(item) for item in _list(value))


def _mapping(value: Any) -> Mapping[str, Any]:
    decoded = from_json(value)
    if not isinstance(decoded, dict):
        raise TypeError(value)
    return cast("dict[str, Any]", decoded)


def _headers(value: Any) -> Mapping[str, str]:
    return {name: _text(text) for name, text in _mapping(value).items()}


@lru_cache(maxsize=256)
def _policy(value: Any) -> RetryPolicy:
    return RetryPolicy(**_mapping(value))
