"""Claimed rows of deliveries that have never failed: what their letters need of them, and nothing else.

Most of what durable handlers are given is claimed once and deleted. A third of its columns are about failures
and say nothing then, and what a claim has just written need not be read.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from eventbus_adapters.sql.decoding import (
    EPOCH,
    UNREADABLE,
    BrokenRowError,
    headers_of,
    mapping_of,
    policy_of,
    texts_of,
)
from eventbus_adapters.sql.plain import REASONS, is_plain
from eventbus_dlq.capture import make_letter
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
    if is_plain(tuple(map(type, values)), COLUMNS):
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
    return make_letter(
        id=id_,
        event_id=event_id,
        event_name=event_name,
        event_version=event_version,
        payload_json=payload,
        occurred_at=EPOCH + timedelta(0, 0, occurred_us),
        handler_id=handler_id,
        tenant=tenant,
        user_id=user_id,
        correlation_id=correlation_id,
        causation_id=causation_id,
        source=source,
        ordering_key=ordering_key,
        priority=priority,
        headers={} if headers == b"{}" else headers_of(headers),
        tags=() if tags == "[]" else texts_of(tags),
        annotations={} if annotations == b"{}" else mapping_of(annotations),
        redelivery=policy_of(redelivery),
        state=DeadLetterState.RUNNING,
        reason=REASONS[reason],
        attempts=attempts + 1,
        retries=retries,
        crashes=crashes,
        retry_at=_moment_or_none(retry_us),
        created_at=EPOCH + timedelta(0, 0, created_us),
        updated_at=terms.now,
        last_attempt_at=_moment_or_none(last_attempt_us),
        fingerprint="",
        error=None,
        history=(),
        acted_by=acted_by,
        note=note,
        token=token + 1,
        lease_owner=terms.owner,
        lease_until=terms.lease_until,
    )


def _moment_or_none(value: int | None) -> datetime | None:
    return None if value is None else EPOCH + timedelta(0, 0, value)
