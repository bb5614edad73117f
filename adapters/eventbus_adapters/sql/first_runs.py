"""Claimed rows of deliveries that have never failed: what their letters need of them, and nothing else.

Most of what durable handlers are given is claimed once and deleted. A third of its columns are about failures
and say nothing then, and what a claim has just written need not be read.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from eventbus_adapters.sql.decoding import (
    UNREADABLE,
    BrokenRowError,
    headers_of,
    mapping_of,
    policy_of,
    texts_of,
)
from eventbus_adapters.sql.encoding import EPOCH
from eventbus_adapters.sql.plain import REASONS, check_of
from eventbus_dlq.capture import begin_letter, finish_letter
from eventbus_dlq.letter import DeadLetter, DeadLetterState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

COLUMNS = (
    "seq",
    "live",
    "event_name",
    "handler_id",
    "tenant",
    "attempts",
    "created_us",
    "id",
    "event_id",
    "event_version",
    "user_id",
    "correlation_id",
    "causation_id",
    "source",
    "ordering_key",
    "priority",
    "occurred_us",
    "reason",
    "retries",
    "crashes",
    "retry_us",
    "last_attempt_us",
    "token",
    "acted_by",
    "note",
    "redelivery",
    "tags",
    "headers",
    "annotations",
    "payload",
)
"""What is read of such a row."""

_is_plain = check_of(COLUMNS)


class Terms(NamedTuple):
    """What a claim has written into all its rows."""

    owner: str
    lease_until: datetime
    now: datetime


def letter_of_first_run(values: Sequence[Any], terms: Terms) -> DeadLetter:
    """Return the letter of a claimed row, of which ``COLUMNS`` were read before it was claimed.

    Raises:
        BrokenRowError: it cannot be understood.
    """
    if _is_plain(tuple(map(type, values))):
        try:
            return _letter(values, terms)
        except UNREADABLE as error:
            raise BrokenRowError(f"row {values[0]} cannot be understood: {error}") from None
    raise BrokenRowError(f"row {values[0]} holds values of other types than its columns")


def _letter(values: Sequence[Any], terms: Terms) -> DeadLetter:
    (
        _,
        _,
        event_name,
        handler_id,
        tenant,
        attempts,
        created_us,
        id_,
        event_id,
        event_version,
        user_id,
        correlation_id,
        causation_id,
        source,
        ordering_key,
        priority,
        occurred_us,
        reason,
        retries,
        crashes,
        retry_us,
        last_attempt_us,
        token,
        acted_by,
        note,
        redelivery,
        tags,
        headers,
        annotations,
        payload,
    ) = values
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
    letter.state = DeadLetterState.RUNNING
    letter.reason = REASONS[reason]
    letter.attempts = attempts + 1
    letter.retries = retries
    letter.crashes = crashes
    letter.retry_at = _moment_or_none(retry_us)
    letter.created_at = EPOCH + timedelta(0, 0, created_us)
    letter.updated_at = terms.now
    letter.last_attempt_at = _moment_or_none(last_attempt_us)
    letter.fingerprint = ""
    letter.error = None
    letter.history = ()
    letter.acted_by = acted_by
    letter.note = note
    letter.token = token + 1
    letter.lease_owner = terms.owner
    letter.lease_until = terms.lease_until
    return finish_letter(letter)


def _moment_or_none(value: int | None) -> datetime | None:
    return None if value is None else EPOCH + timedelta(0, 0, value)
