"""From the columns of a row to a letter, or to a summary; whatever stands in the row.

A row that cannot be understood (an unknown state, broken JSON, a time beyond the calendar) becomes
an ``exhausted/undecodable`` letter with what is readable of it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, get_args

from pydantic_core import from_json

from eventbus.classify import Category, Kind, Route
from eventbus.failure import CauseRecord, ErrorRecord, Relation
from eventbus.retry import RetryPolicy
from eventbus_adapters.sql.encoding import EPOCH, LAST
from eventbus_dlq.letter import Attempt, DeadLetter, DeadLetterState, DeadLetterSummary, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

T = TypeVar("T")

_NO_WIDE_ERROR = b"null"
_DEFAULT_POLICY = RetryPolicy()
UNREADABLE = (ValueError, TypeError, KeyError, OverflowError)
"""What reading a column raises when it is broken."""


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
        except UNREADABLE:
            raise BrokenRowError(f"{name}={str(value)[:80]!r} cannot be understood") from None

    return read


def _lenient(row: Mapping[str, Any]) -> _Read:
    def read(name: str, form: Callable[[Any], T], default: T, /) -> T:
        try:
            return form(row[name])
        except UNREADABLE:
            return default

    return read


def _summary(read: _Read) -> DeadLetterSummary:
    kind, category, route = _sort_of(read)
    return DeadLetterSummary(
        id=read("id", _text, ""),
        event_id=read("event_id", _text, ""),
        event_name=read("event_name", _text, ""),
        handler_id=read("handler_id", _text, ""),
        tenant=read("tenant", _text_or_none, None),
        user_id=read("user_id", _text_or_none, None),
        correlation_id=read("correlation_id", _text, ""),
        ordering_key=read("ordering_key", _text_or_none, None),
        priority=read("priority", _int, 5),
        tags=read("tags", texts_of, ()),
        state=read("state", DeadLetterState, DeadLetterState.EXHAUSTED),
        reason=read("reason", _reason, None),
        attempts=read("attempts", _int, 0),
        retries=read("retries", _int, 0),
        crashes=read("crashes", _int, 0),
        retry_at=read("retry_us", _moment_or_none, None),
        created_at=read("created_us", moment_of, EPOCH),
        updated_at=read("updated_us", moment_of, EPOCH),
        last_attempt_at=read("last_attempt_us", _moment_or_none, None),
        fingerprint=read("fingerprint", _text, ""),
        error_type=read("error_type", _text, ""),
        error_message=read("error_message", _text, ""),
        kind=kind,
        category=category,
        route=route,
        acted_by=read("acted_by", _text_or_none, None),
        note=read("note", _text_or_none, None),
        token=read("token", _int, 0),
    )


def _sort_of(read: _Read) -> tuple[str, str, str]:
    """Return kind, category and route; all three are empty while a letter has not failed."""
    if read("kind", _text, "") == "":
        return read("kind", _nothing, ""), read("category", _nothing, ""), read("route", _nothing, "")
    return (
        read("kind", Kind, Kind.UNKNOWN).value,
        read("category", Category, Category.UNKNOWN).value,
        read("route", Route, Route.REVIEW).value,
    )


def _letter(read: _Read) -> DeadLetter:
    error = _error(read)
    return DeadLetter(
        id=read("id", _text, ""),
        event_id=read("event_id", _text, ""),
        event_name=read("event_name", _text, ""),
        event_version=read("event_version", _int, 1),
        payload_json=read("payload", _bytes, b""),
        occurred_at=read("occurred_us", moment_of, EPOCH),
        handler_id=read("handler_id", _text, ""),
        tenant=read("tenant", _text_or_none, None),
        user_id=read("user_id", _text_or_none, None),
        correlation_id=read("correlation_id", _text, ""),
        causation_id=read("causation_id", _text_or_none, None),
        source=read("source", _text_or_none, None),
        ordering_key=read("ordering_key", _text_or_none, None),
        priority=read("priority", _int, 5),
        headers=read("headers", headers_of, {}),
        tags=read("tags", texts_of, ()),
        annotations=read("annotations", mapping_of, {}),
        redelivery=read("redelivery", policy_of, _DEFAULT_POLICY),
        state=read("state", DeadLetterState, DeadLetterState.EXHAUSTED),
        reason=read("reason", _reason, None),
        attempts=read("attempts", _int, 0),
        retries=read("retries", _int, 0),
        crashes=read("crashes", _int, 0),
        retry_at=read("retry_us", _moment_or_none, None),
        created_at=read("created_us", moment_of, EPOCH),
        updated_at=read("updated_us", moment_of, EPOCH),
        last_attempt_at=read("last_attempt_us", _moment_or_none, None),
        fingerprint=read("fingerprint", _text, ""),
        error=error,
        history=read("history", lambda value: history_of(value, error), ()),
        acted_by=read("acted_by", _text_or_none, None),
        note=read("note", _text_or_none, None),
        token=read("token", _int, 0),
        lease_owner=read("lease_owner", _text_or_none, None),
        lease_until=read("lease_us", _moment_or_none, None),
        waits=read("waits", _flag, False),
    )


def _error(read: _Read) -> ErrorRecord | None:
    if read("error", lambda value: _bytes(value) == _NO_WIDE_ERROR, False) and read("kind", _text, "") == "":
        return None
    nothing: Mapping[str, Any] = {"message": None, "traceback": "", "causes": []}
    wide = read("error", mapping_of, nothing)
    shown = read("error_message", _text, "")
    return ErrorRecord(
        type=read("error_type", _text, ""),
        message=read("error", lambda _: shown if wide["message"] is None else _text(wide["message"]), shown),
        traceback=read("error", lambda _: _text(wide["traceback"]), ""),
        code=read("error_code", _text_or_none, None),
        kind=read("kind", Kind, Kind.UNKNOWN),
        category=read("category", Category, Category.UNKNOWN),
        route=read("route", Route, Route.REVIEW),
        causes=read("error", lambda _: causes_of(wide["causes"]), ()),
    )


def history_of(value: Any, last: ErrorRecord | None) -> tuple[Attempt, ...]:
    """Return a history, of a letter whose own error is ``last``; raises one of ``UNREADABLE``."""
    return tuple(_attempt(item, last) for item in list_of(value))


def _attempt(item: Any, last: ErrorRecord | None) -> Attempt:
    return Attempt(
        number=_int(item["number"]),
        started_at=moment_of(item["started_us"]),
        ended_at=moment_of(item["ended_us"]),
        error=_attempt_error(item["error"], last),
    )


def _attempt_error(value: Any, last: ErrorRecord | None) -> ErrorRecord | None:
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
        causes=causes_of(value["causes"]),
    )


def causes_of(value: Any) -> tuple[CauseRecord, ...]:
    """Return the causes of an error; raises one of ``UNREADABLE``."""
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


def _flag(value: Any) -> bool:
    return bool(_int(value))


def _nothing(value: Any) -> str:
    if value != "":
        raise ValueError(value)
    return ""


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
    return EPOCH + timedelta(0, 0, _int(value))


def _moment_or_none(value: Any) -> datetime | None:
    return None if value is None else moment_of(value)


def _reason(value: Any) -> Reason | None:
    return None if value is None else Reason(value)


def list_of(value: Any) -> Sequence[Any]:
    """Return a JSON list; raises one of ``UNREADABLE``."""
    decoded = from_json(value)
    if not isinstance(decoded, list):
        raise TypeError(value)
    return cast("Sequence[Any]", decoded)


def texts_of(value: Any) -> tuple[str, ...]:
    """Return a JSON list of texts; raises one of ``UNREADABLE``."""
    return () if value == "[]" else tuple(_text(item) for item in list_of(value))


def mapping_of(value: Any) -> Mapping[str, Any]:
    """Return a JSON object; raises one of ``UNREADABLE``."""
    if value == b"{}":
        return {}
    decoded = from_json(value)
    if not isinstance(decoded, dict):
        raise TypeError(value)
    return cast("dict[str, Any]", decoded)


def headers_of(value: Any) -> Mapping[str, str]:
    """Return a JSON object of texts; raises one of ``UNREADABLE``."""
    return {name: _text(text) for name, text in mapping_of(value).items()}


@lru_cache(maxsize=256)
def policy_of(value: Any) -> RetryPolicy:
    """Return a schedule; raises one of ``UNREADABLE``."""
    return RetryPolicy(**mapping_of(value))
