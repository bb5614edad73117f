"""The short way from a whole row to a letter, for rows as the store writes them: all but very few.

It reads only what is beyond doubt and gives up on everything else; ``decoding`` reads every row.
"""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json
from sqlalchemy import Integer, LargeBinary

from eventbus.classify import Category, Kind, Route
from eventbus.failure import ErrorRecord
from eventbus_adapters.sql.decoding import (
    UNREADABLE,
    causes_of,
    checked_letter_of,
    headers_of,
    history_of,
    list_of,
    mapping_of,
    moment_of,
    policy_of,
    texts_of,
)
from eventbus_adapters.sql.encoding import EPOCH, LAST
from eventbus_adapters.sql.tables import letters
from eventbus_dlq.capture import begin_letter, finish_letter
from eventbus_dlq.letter import Attempt, DeadLetter, DeadLetterState, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eventbus.failure import CauseRecord

COLUMNS = tuple(column.name for column in letters.columns)
"""The columns of a whole row, in their order."""

_STATES = {str(state): state for state in DeadLetterState}
REASONS: dict[str | None, Reason | None] = {None: None, **{str(reason): reason for reason in Reason}}
_KINDS = {str(kind): kind for kind in Kind}
_CATEGORIES = {str(category): category for category in Category}
_ROUTES = {str(route): route for route in Route}
_shared_moment = lru_cache(maxsize=64)(moment_of)
"""Reads a moment that the letters of a whole batch have in common."""


def _types_of(column: Any) -> frozenset[type]:
    kind = bytes if isinstance(column.type, LargeBinary) else int if isinstance(column.type, Integer) else str
    return frozenset({kind, type(None)} if column.nullable else {kind})


def check_of(columns: Sequence[str]) -> Callable[[tuple[type, ...]], bool]:
    """Return what tells whether values of some types are what the store writes into ``columns``."""
    wanted = [_types_of(letters.columns[name]) for name in columns]

    @lru_cache(maxsize=64)
    def is_plain(types: tuple[type, ...]) -> bool:
        return all(found in allowed for found, allowed in zip(types, wanted, strict=True))

    return is_plain


_is_plain = check_of(COLUMNS)


def letter_of_values(values: Sequence[Any]) -> DeadLetter:
    """Return the letter of a whole row.

    Raises:
        BrokenRowError: it cannot be understood.
    """
    if _is_plain(tuple(map(type, values))):
        try:
            return _plain(values)
        except UNREADABLE:
            pass  # what is wrong with it is said below
    return checked_letter_of(dict(zip(COLUMNS, values, strict=True)))


def _plain(values: Sequence[Any]) -> DeadLetter:
    (
        _,
        id_,
        event_id,
        handler_id,
        event_name,
        event_version,
        tenant,
        user_id,
        correlation_id,
        causation_id,
        source,
        ordering_key,
        priority,
        occurred_us,
        created_us,
        state,
        reason,
        _,
        attempts,
        retries,
        crashes,
        retry_us,
        updated_us,
        last_attempt_us,
        token,
        lease_owner,
        lease_us,
        acted_by,
        note,
        _,
        waits,
        _,
        fingerprint,
        error_type,
        error_message,
        error_code,
        kind,
        category,
        route,
        redelivery,
        tags,
        headers,
        annotations,
        payload,
        wide_error,
        history,
    ) = values
    error: ErrorRecord | None = None
    if kind or wide_error != b"null":
        error = _error(error_type, error_message, error_code, kind, category, route, wide_error)
    letter = begin_letter()
    letter.id = id_
    letter.event_id = event_id
    letter.event_name = event_name
    letter.event_version = event_version
    letter.payload_json = payload
    letter.occurred_at = EPOCH + timedelta(0, 0, occurred_us)
    letter.handler_id = handler_id
    letter.tenant = tenant
    letter.user_id = user_id
    letter.correlation_id = correlation_id
    letter.causation_id = causation_id
    letter.source = source
    letter.ordering_key = ordering_key
    letter.priority = priority
    letter.headers = {} if headers == b"{}" else headers_of(headers)
    letter.tags = () if tags == "[]" else texts_of(tags)
    letter.annotations = {} if annotations == b"{}" else mapping_of(annotations)
    letter.redelivery = policy_of(redelivery)
    letter.state = _STATES[state]
    letter.reason = REASONS[reason]
    letter.attempts = attempts
    letter.retries = retries
    letter.crashes = crashes
    letter.retry_at = None if retry_us is None else EPOCH + timedelta(0, 0, retry_us)
    letter.created_at = EPOCH + timedelta(0, 0, created_us)
    letter.updated_at = _shared_moment(updated_us)
    letter.last_attempt_at = None if last_attempt_us is None else EPOCH + timedelta(0, 0, last_attempt_us)
    letter.fingerprint = fingerprint
    letter.acted_by = acted_by
    letter.note = note
    letter.token = token
    letter.lease_owner = lease_owner
    letter.lease_until = None if lease_us is None else _shared_moment(lease_us)
    letter.waits = waits == 1
    letter.error = error
    letter.history = () if history == b"[]" else _history(history, error)
    return finish_letter(letter)


def _history(value: bytes, last: ErrorRecord | None) -> tuple[Attempt, ...]:
    attempts: list[Attempt] = []
    for item in list_of(value):
        number, started_us, ended_us = item["number"], item["started_us"], item["ended_us"]
        if item["error"] != LAST or not type(number) is type(started_us) is type(ended_us) is int:
            return history_of(value, last)
        started, ended = timedelta(0, 0, started_us), timedelta(0, 0, ended_us)
        attempts.append(Attempt(number, EPOCH + started, EPOCH + ended, last))
    return tuple(attempts)


def error_of_values(values: Sequence[Any]) -> ErrorRecord | None:
    """Return the error in the columns from ``error_type`` to ``route`` and the wide one; None if broken."""
    try:
        return _error(*values)
    except UNREADABLE:
        return None


@lru_cache(maxsize=64)
def _error(
    error_type: str,
    shown: str,
    code: str | None,
    kind: str,
    category: str,
    route: str,
    wide_error: bytes,
) -> ErrorRecord:
    message, traceback, causes = _wide(wide_error)
    return ErrorRecord(
        error_type,
        shown if message is None else message,
        traceback,
        code,
        _KINDS[kind],
        _CATEGORIES[category],
        _ROUTES[route],
        causes,
    )


@lru_cache(maxsize=64)
def _wide(value: bytes) -> tuple[str | None, str, tuple[CauseRecord, ...]]:
    """Return message, traceback and causes; cached, because failures come in floods of the same."""
    wide = from_json(value)
    message, traceback = wide["message"], wide["traceback"]
    if not isinstance(traceback, str) or not isinstance(message, str | None):
        raise TypeError(value)
    return message, traceback, causes_of(wide["causes"])
