"""Storing the failures of deliveries: the step that must not lose anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventbus.classify import classify
from eventbus.errors import EventBusError, InvalidEvent
from eventbus.failure import ErrorRecord, Failure, FailureReason
from eventbus.log import Log
from eventbus.snapshots import fingerprint, snapshot, type_name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from eventbus.delivery import Delivery
    from eventbus.ports import DeadLetters
    from eventbus.telemetry import Telemetry

_log = Log()


class Capturing:
    """Hands failed and interrupted deliveries to the dead-letter queue; without one, to the log.

    Attributes:
        storing: those of whom the store has not said yet that it has them.
    """

    def __init__(self, dlq: DeadLetters | None, telemetry: Telemetry) -> None:
        self._dlq = dlq
        self._telemetry = telemetry
        self.storing: set[Delivery] = set()

    def failed(self, delivery: Delivery, error: BaseException, record: ErrorRecord) -> Awaitable[None] | None:
        """Settle a delivery whose handler has failed for good in this process.

        Returns what to await until it has settled, None when it has.
        """
        if self._dlq is None:
            delivery.state = "failed"
            _log.error("delivery.failed", exc_info=error, **names(delivery))
            return None
        return self._store((delivery,), (_failure(delivery, "failed", error, record),))

    async def interrupted(self, deliveries: Sequence[Delivery]) -> None:
        """Settle deliveries that were cut short, begun or not: stored as pending, nothing charged.

        Nothing is awaited before their rows have reached the store's writer.
        """
        for delivery in deliveries:
            if delivery.error is None:
                delivery.error = InterruptedError(
                    "the delivery was cut short before its handler had finished"
                )
            self._telemetry.emit("delivery.interrupted", **fields(delivery))
        if self._dlq is None:
            for delivery in deliveries:
                delivery.state = "failed"
                _log.error("delivery.interrupted", **names(delivery))
            return
        await self._store(deliveries, [_interrupted(delivery) for delivery in deliveries])

    async def _store(self, deliveries: Sequence[Delivery], failures: Sequence[Failure]) -> None:
        for delivery, failure in zip(deliveries, failures, strict=True):
            delivery.failure = failure
            # from here on the row is the writer's: a cancellation ends only the wait for it
            delivery.state = "failed" if delivery.redelivered else "dead_lettered"
        if self._dlq is None or deliveries[0].redelivered:  # whoever asked for a redelivery settles it
            return
        self.storing.update(deliveries)
        try:
            ids = await self._dlq.capture(failures)
        except Exception as store_error:
            for delivery in deliveries:
                delivery.state = "failed"
                delivery.capture_error = store_error
                tell_lost("capture.failed", store_error, delivery, self._telemetry)
            return
        finally:
            self.storing.difference_update(deliveries)
        for delivery, dead_letter_id in zip(deliveries, ids, strict=True):
            delivery.dead_letter_id = dead_letter_id


def _interrupted(delivery: Delivery) -> Failure:
    error = delivery.error
    assert error is not None
    if delivery.failures:
        record = delivery.failures[-1].error
    else:
        record = snapshot(error, classify(error, delivery.route.subscription.rules))
    return _failure(delivery, "interrupted", error, record)


def _failure(delivery: Delivery, reason: FailureReason, error: BaseException, record: ErrorRecord) -> Failure:
    envelope, subscription = delivery.envelope, delivery.route.subscription
    handler_id = subscription.id
    metadata = envelope.metadata
    return Failure(
        envelope,
        delivery.encoded or _encoded(delivery),
        handler_id,
        reason,
        record,
        delivery.failures,
        metadata.priority or subscription.priority,
        tuple(dict.fromkeys((*subscription.tags, *metadata.tags))),
        fingerprint(handler_id, error),
        delivery.noted or {},
        delivery.retry_after,
        delivery.thread_done,
        delivery.ordering_key,
    )


def _encoded(delivery: Delivery) -> bytes | None:
    try:
        return delivery.envelope.event_type.codec.encode(delivery.payload)
    except InvalidEvent:  # the handler changed the event into what cannot be stored
        _log.exception("capture.payload_changed", **names(delivery))
        return None


def fields(delivery: Delivery) -> dict[str, Any]:
    """Return the fields that every telemetry event of a delivery carries."""
    envelope = delivery.envelope
    return {
        "event": envelope.name,
        "event_id": envelope.id,
        "correlation_id": envelope.correlation_id,
        "tenant": envelope.tenant,
        "handler": delivery.handler_id,
    }


def tell_lost(what: str, store_error: Exception, delivery: Delivery, telemetry: Telemetry) -> None:
    """Tell that the store has not taken a delivery; of an error that explains itself no traceback."""
    unexpected = None if isinstance(store_error, EventBusError) else store_error
    _log.error(what, error=str(store_error), exc_info=unexpected, **names(delivery))
    telemetry.emit("delivery.lost", **fields(delivery), error=str(store_error))


def names(delivery: Delivery) -> dict[str, Any]:
    """Return what names a delivery in a log line, where ``event`` is structlog's word for the line."""
    envelope, error = delivery.envelope, delivery.error
    return {
        "event_id": envelope.id,
        "event_name": envelope.name,
        "handler_id": delivery.handler_id,
        "correlation_id": envelope.correlation_id,
        "tenant": envelope.tenant,
        "error_type": None if error is None else type_name(error),
    }
