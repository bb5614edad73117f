"""What a publisher gets back: what became of every delivery of the event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from eventbus.errors import CaptureFailed

if TYPE_CHECKING:
    from eventbus.delivery import Delivery
    from eventbus.envelope import Envelope

DeliveryState = Literal["succeeded", "dead_lettered", "parked", "accepted", "skipped", "failed"]


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """What became of one delivery.

    Attributes:
        state: ``succeeded``; ``dead_lettered`` (failed, and stored); ``accepted`` (stored for a worker to
            run, or enqueued and not settled yet); ``parked`` (stored and held back: its scope is
            paused, its handler's circuit is open, or an earlier delivery of its ordering key has failed; it
            runs when that is over); ``skipped`` (by ``when`` or ``once``); ``failed`` (not delivered and not
            stored: without a dead-letter queue, or because the store failed too).
        error: the exception of the last attempt, or None.
        dead_letter_id: where it is stored, when it is.
        duration: seconds from the first attempt's start to the last one's end.
        attempts: how often the handler ran.
    """

    state: DeliveryState
    error: BaseException | None
    dead_letter_id: str | None
    duration: float
    attempts: int


class Receipt:
    """What became of an event.

    Attributes:
        begun: the deliveries that have begun; ``deliveries`` shows what became of them.
        made: the envelope, once somebody has looked at it.
    """

    begun: Sequence[Delivery] = ()
    made: Envelope | None = None

    @property
    def envelope(self) -> Envelope:
        """The event with its metadata."""
        return self.made or self.begun[0].envelope

    @property
    def event_id(self) -> str:
        """The event's id."""
        return self.envelope.id

    @property
    def correlation_id(self) -> str:
        """The flow that the event belongs to."""
        return self.envelope.correlation_id

    @property
    def deliveries(self) -> Mapping[str, DeliveryResult]:
        """The result of every delivery, by handler id, in the order of the handlers."""
        return {delivery.handler_id: delivery.result for delivery in self.begun}

    @property
    def ok(self) -> bool:
        """False when any delivery failed."""
        return not self.failed

    @property
    def failed(self) -> tuple[str, ...]:
        """The ids of the handlers that failed."""
        return tuple(
            delivery.handler_id for delivery in self.begun if delivery.state in ("dead_lettered", "failed")
        )

    def raise_for_lost(self) -> None:
        """Raise CaptureFailed if a failure of these deliveries could not be stored.

        Raises:
            CaptureFailed: with the handlers' errors, the store's, and this receipt.
        """
        lost = [delivery for delivery in self.begun if delivery.capture_error is not None]
        if not lost:
            return
        cause = lost[0].capture_error
        raise CaptureFailed(
            f"{len(lost)} {_what(lost)} of {self.envelope.name!r} {self.event_id} could not be stored "
            f"({', '.join(delivery.handler_id for delivery in lost)}): {cause}",
            errors=[delivery.error for delivery in lost if delivery.error is not None],
            store_errors=[delivery.capture_error for delivery in lost if delivery.capture_error is not None],
            receipt=self,
        ) from cause

    def raise_for_failures(self) -> None:
        """Raise an ExceptionGroup of the handlers' own exceptions, if any delivery failed.

        Raises:
            ExceptionGroup: or BaseExceptionGroup, when one of them is no Exception.
        """
        errors = [
            delivery.error
            for delivery in self.begun
            if delivery.error is not None and delivery.state in ("dead_lettered", "failed")
        ]
        if errors:
            raise BaseExceptionGroup(
                f"{len(errors)} of {len(self.begun)} handlers of {self.envelope.name!r} failed", errors
            )

    def __repr__(self) -> str:
        states = ", ".join(f"{name}: {result.state}" for name, result in self.deliveries.items())
        return f"<Receipt of {self.envelope.name} {self.event_id}: {states or 'unhandled'}>"


def _what(lost: Sequence[Delivery]) -> str:
    return "failed deliveries" if all(delivery.failure for delivery in lost) else "deliveries"
