"""The short way from a row to a letter, for deliveries that have never failed: most of what is claimed.

It reads only what is beyond doubt and gives up on everything else; ``decoding`` reads every row.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import Integer, LargeBinary

from eventbus_adapters.sql.decoding import (
    UNREADABLE,
    checked_letter_of,
    headers_of,
    mapping_of,
    moment_of,
    policy_of,
    texts_of,
)
from eventbus_adapters.sql.tables import letters
from eventbus_dlq.letter import DeadLetter, DeadLetterState, Reason

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

COLUMNS = tuple(column.name for column in letters.columns)
"""The columns of a whole row, in their order."""

_ERROR, _HISTORY = COLUMNS.index("error"), COLUMNS.index("history")
_STATES = {str(state): state for state in DeadLetterState}
_REASONS: dict[str | None, Reason | None] = {None: None, **{str(reason): reason for reason in Reason}}
_moment = lru_cache(maxsize=1_024)(moment_of)


def _types_of(column: Any) -> frozenset[type]:
    kind = bytes if isinstance(column.type, LargeBinary) else int if isinstance(column.type, Integer) else str
    return frozenset({kind, type(None)} if column.nullable else {kind})


_TYPES = tuple(_types_of(column) for column in letters.columns)


@lru_cache(maxsize=64)
def _is_plain(types: tuple[type, ...]) -> bool:
    return all(found in wanted for found, wanted in zip(types, _TYPES, strict=True))


def letter_of_values(values: Sequence[Any]) -> DeadLetter:
    """Return the letter of a whole row.

    Raises:
        BrokenRowError: it cannot be understood.
    """
    if values[_ERROR] == b"null" and values[_HISTORY] == b"[]" and _is_plain(tuple(map(type, values))):
        try:
            return _fresh(values)
        except UNREADABLE:
            pass  # what is wrong with it is said below
    return checked_letter_of(dict(zip(COLUMNS, values, strict=True)))


def _fresh(values: Sequence[Any]) -> DeadLetter:
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
        _,
        _,
        _,
        _,
        _,
        _,
        redelivery,
        tags,
        headers,
        annotations,
        payload,
        _,
        _,
    ) = values
    return DeadLetter(
        id=id_,
        event_id=event_id,
        event_name=event_name,
        event_version=event_version,
        payload_json=payload,
        occurred_at=_moment(occurred_us),
        handler_id=handler_id,
        tenant=tenant,
        user_id=user_id,
        correlation_id=correlation_id,
        causation_id=causation_id,
        source=source,
        ordering_key=ordering_key,
        priority=priority,
        headers=headers_of(headers),
        tags=texts_of(tags),
        annotations=mapping_of(annotations),
        redelivery=policy_of(redelivery),
        state=_STATES[state],
        reason=_REASONS[reason],
        attempts=attempts,
        retries=retries,
        crashes=crashes,
        retry_at=_moment_or_none(retry_us),
        created_at=moment_of(created_us),
        updated_at=_moment(updated_us),
        last_attempt_at=_moment_or_none(last_attempt_us),
        fingerprint=fingerprint,
        acted_by=acted_by,
        note=note,
        token=token,
        lease_owner=lease_owner,
        lease_until=_moment_or_none(lease_us),
        waits=waits == 1,
        error=None,
        history=(),
    )


def _moment_or_none(value: int | None) -> datetime | None:
    return None if value is None else _moment(value)
