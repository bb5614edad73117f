"""Dead-lettering a failure by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from eventbus.annotations import bounded_annotations
from eventbus.classify import classify
from eventbus.envelope import check_text
from eventbus.errors import CaptureFailed
from eventbus.failure import AttemptRecord, Failure
from eventbus.ordering import key_for
from eventbus.snapshots import fingerprint, snapshot

if TYPE_CHECKING:
    from eventbus.classify import ClassifyRule
    from eventbus.envelope import Envelope
    from eventbus.ports import DeadLetters
    from eventbus.subscription import Subscription


async def capture_by_hand(
    dlq: DeadLetters,
    envelope: Envelope,
    encoded: bytes | None,
    error: BaseException,
    handler: str,
    subscription: Subscription | None,
    rules: Sequence[ClassifyRule],
    annotations: Mapping[str, Any] | None,
    now_ns: int,
) -> str:
    """Store a failure that happened outside of the bus; return the letter's id.

    Raises:
        InvalidEvent: the handler's id could not be stored, or its ordering key not be read.
        CaptureFailed: the store could not commit it.
    """
    check_text("handler", handler)
    classification = classify(error, subscription.rules if subscription else rules)
    record = snapshot(error, classification)
    failure = Failure(
        envelope=envelope,
        payload=encoded or envelope.event_type.codec.encode(envelope.payload),
        handler_id=subscription.id if subscription else handler,
        reason="failed",
        error=record,
        attempts=(AttemptRecord(1, now_ns, now_ns, record),),
        priority=envelope.priority or (subscription.priority if subscription else 5),
        tags=tuple(dict.fromkeys((*(subscription.tags if subscription else ()), *envelope.tags))),
        fingerprint=fingerprint(handler, error),
        annotations=bounded_annotations(None, annotations or {}),
        retry_after=classification.retry_after,
        ordering_key=_ordering_key(envelope, subscription),
    )
    try:
        (dead_letter_id,) = await dlq.capture([failure])
    except Exception as store_error:
        raise CaptureFailed(
            f"the failure of {envelope.name!r} for {handler!r} could not be stored: {store_error}",
            errors=[error],
            store_errors=[store_error],
        ) from store_error
    return dead_letter_id


def _ordering_key(envelope: Envelope, subscription: Subscription | None) -> str | None:
    if envelope.ordering_key is not None or subscription is None or subscription.ordering_key is None:
        return envelope.ordering_key
    return key_for(subscription, envelope.name, envelope.payload)
