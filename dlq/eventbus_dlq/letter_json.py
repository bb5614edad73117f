"""A letter as JSON: exact, readable without this code, and checked when it comes back.

An object with a member for each field of ``DeadLetter``. The payload is ``payload`` (its text) when it is
UTF-8, else ``payload_base64``. Times are ISO 8601 with their offset. Members that are not known are ignored.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar, cast, get_args

from eventbus.classify import Category, Kind, Route
from eventbus.failure import CauseRecord, ErrorRecord, Relation
from eventbus.retry import RetryPolicy
from eventbus_dlq.letter import Attempt, DeadLetter, DeadLetterState, Reason

E = TypeVar("E", bound=StrEnum)
T = TypeVar("T")


def letter_to_json(letter: DeadLetter) -> bytes:
    """Return ``letter`` as one line of ASCII; what stands in its annotations as ``json`` writes it.

    Raises:
        ValueError: an annotation has no JSON form.
    """
    members = {name: form.write(getattr(letter, name)) for name, form in _FORMS.items()}
    members |= _payload_members(letter.payload_json)
    try:
        return json.dumps(members, separators=(",", ":")).encode()
    except (TypeError, RecursionError) as error:
        raise ValueError(f"dead letter {letter.id} has no JSON form: {error}") from error


def letter_from_json(data: bytes | str) -> DeadLetter:
    """Return the letter that :func:`letter_to_json` wrote.

    Raises:
        ValueError: it is no such letter; the message names the member that is missing or wrong.
    """
    try:
        members = json.loads(data)
    except RecursionError as error:
        raise ValueError("the letter is nested too deeply") from error
    return letter_from_members(members)


def letter_from_members(members: object) -> DeadLetter:
    """Return the letter of a JSON object that was decoded already. Raises like :func:`letter_from_json`."""
    given = _mapping(members, "the letter")
    values = {name: _member(given, name, form.read) for name, form in _FORMS.items()}
    return DeadLetter(payload_json=_payload_of(given), **values)


class _Form(NamedTuple):
    """How a field is written, and how it is read; the latter raises ``ValueError``."""

    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


def _member(given: Mapping[str, Any], name: str, read: Callable[[Any], T]) -> T:
    if name not in given:
        raise ValueError(f"the letter has no {name!r}")
    try:
        return read(given[name])
    except ValueError as error:
        raise ValueError(f"the letter's {name!r}: {error}") from error


def _same(value: T) -> T:
    return value


def _payload_members(payload: bytes) -> Mapping[str, str]:
    try:
        return {"payload": payload.decode()}
    except UnicodeDecodeError:
        return {"payload_base64": b64encode(payload).decode()}


def _payload_of(given: Mapping[str, Any]) -> bytes:
    if "payload_base64" in given:
        return _member(given, "payload_base64", lambda value: b64decode(_text(value), validate=True))
    return _member(given, "payload", lambda value: _text(value).encode())


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text")
    return value


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{value!r} is not a whole number")
    return value


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")
    return value


def _mapping(value: object, what: str = "it") -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is not an object: {value!r}")
    return cast("dict[str, Any]", value)


def _items(value: object) -> Sequence[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{value!r} is not a list")
    return cast("Sequence[Any]", value)


def _texts(value: object) -> tuple[str, ...]:
    return tuple(_text(item) for item in _items(value))


def _text_mapping(value: object) -> Mapping[str, str]:
    return {name: _text(text) for name, text in _mapping(value).items()}


def _moment(value: object) -> datetime:
    moment = datetime.fromisoformat(_text(value))
    if moment.tzinfo is None:
        raise ValueError(f"{value!r} has no offset from UTC")
    return moment


def _or_none(form: _Form) -> _Form:
    def write(value: Any) -> Any:
        return None if value is None else form.write(value)

    def read(value: Any) -> Any:
        return None if value is None else form.read(value)

    return _Form(write, read)


def _one_of(words: type[E]) -> Callable[[object], E]:
    return lambda value: words(_text(value))


_CAUSE_TEXTS = ("type", "message", "traceback")


def _cause(value: object) -> CauseRecord:
    given = _mapping(value)
    return CauseRecord(
        _member(given, "relation", _relation), *[_member(given, name, _text) for name in _CAUSE_TEXTS]
    )


def _relation(value: object) -> Relation:
    if value not in get_args(Relation):
        raise ValueError(f"{value!r} is none of {', '.join(get_args(Relation))}")
    return cast("Relation", value)


def _error(value: object) -> ErrorRecord:
    given = _mapping(value)
    return ErrorRecord(
        type=_member(given, "type", _text),
        message=_member(given, "message", _text),
        traceback=_member(given, "traceback", _text),
        code=_member(given, "code", _TEXT_OR_NONE.read),
        kind=_member(given, "kind", _one_of(Kind)),
        category=_member(given, "category", _one_of(Category)),
        route=_member(given, "route", _one_of(Route)),
        causes=_member(given, "causes", lambda causes: tuple(_cause(cause) for cause in _items(causes))),
    )


def _write_error(error: ErrorRecord) -> Mapping[str, Any]:
    return error._asdict() | {"causes": [cause._asdict() for cause in error.causes]}


def _write_attempt(attempt: Attempt) -> Mapping[str, Any]:
    return {
        "number": attempt.number,
        "started_at": attempt.started_at.isoformat(),
        "ended_at": attempt.ended_at.isoformat(),
        "error": _ERROR_OR_NONE.write(attempt.error),
    }


def _attempt(value: object) -> Attempt:
    given = _mapping(value)
    return Attempt(
        number=_member(given, "number", _whole),
        started_at=_member(given, "started_at", _moment),
        ended_at=_member(given, "ended_at", _moment),
        error=_member(given, "error", _ERROR_OR_NONE.read),
    )


def _write_history(history: tuple[Attempt, ...]) -> list[Mapping[str, Any]]:
    return [_write_attempt(attempt) for attempt in history]


def _history(value: object) -> tuple[Attempt, ...]:
    return tuple(_attempt(item) for item in _items(value))


def _policy(value: object) -> RetryPolicy:
    given = _mapping(value)
    known = {field.name: _member(given, field.name, _same) for field in fields(RetryPolicy)}
    try:
        return RetryPolicy(**known)
    except TypeError as error:
        raise ValueError(str(error)) from error


_TEXT = _Form(_same, _text)
_WHOLE = _Form(_same, _whole)
_MOMENT = _Form(datetime.isoformat, _moment)
_TEXT_OR_NONE = _or_none(_TEXT)
_MOMENT_OR_NONE = _or_none(_MOMENT)
_ERROR_OR_NONE = _or_none(_Form(_write_error, _error))

_FORMS: Mapping[str, _Form] = {
    "id": _TEXT,
    "event_id": _TEXT,
    "event_name": _TEXT,
    "event_version": _WHOLE,
    "occurred_at": _MOMENT,
    "handler_id": _TEXT,
    "tenant": _TEXT_OR_NONE,
    "user_id": _TEXT_OR_NONE,
    "correlation_id": _TEXT,
    "causation_id": _TEXT_OR_NONE,
    "source": _TEXT_OR_NONE,
    "ordering_key": _TEXT_OR_NONE,
    "priority": _WHOLE,
    "headers": _Form(dict, _text_mapping),
    "tags": _Form(list, _texts),
    "annotations": _Form(dict, _mapping),
    "redelivery": _Form(asdict, _policy),
    "state": _Form(str, _one_of(DeadLetterState)),
    "reason": _or_none(_Form(str, _one_of(Reason))),
    "attempts": _WHOLE,
    "retries": _WHOLE,
    "crashes": _WHOLE,
    "retry_at": _MOMENT_OR_NONE,
    "created_at": _MOMENT,
    "updated_at": _MOMENT,
    "last_attempt_at": _MOMENT_OR_NONE,
    "fingerprint": _TEXT,
    "error": _ERROR_OR_NONE,
    "history": _Form(_write_history, _history),
    "acted_by": _TEXT_OR_NONE,
    "note": _TEXT_OR_NONE,
    "token": _WHOLE,
    "lease_owner": _TEXT_OR_NONE,
    "lease_until": _MOMENT_OR_NONE,
    "waits": _Form(_same, _truth),
}
"""Every field but the payload, which has two."""
