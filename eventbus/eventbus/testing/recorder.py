"""Recording what a bus was given, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import wraps
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from eventbus.errors import CaptureFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from eventbus.bus import EventBus
    from eventbus.envelope import Envelope
    from eventbus.receipt import DeliveryResult, Receipt

Wanted: TypeAlias = "type[Any] | str"
"""Which events are meant: a class with its subclasses, or a name."""

_TAKES_EVENTS = ("publish", "enqueue", "publish_in")


@dataclass(frozen=True, slots=True)
class RecordedDelivery:
    """One delivery of a recorded event.

    Attributes:
        envelope: the event.
        handler_id: whose delivery it is.
        result: what became of it.
    """

    envelope: Envelope
    handler_id: str
    result: DeliveryResult


class Recorder:
    """Records the events that a bus takes while the recorder is on, and what became of them.

        with Recorder(bus) as recorder:
            await checkout(cart)
        (placed,) = recorder.assert_published(OrderPlaced)
        recorder.assert_succeeded("billing.charge")

    It wraps ``publish``, ``enqueue`` and ``publish_in`` of any bus, running or not, and changes nothing:
    nested events are recorded too, and events that nobody handles. Events are in the order of being
    published. A publish that was refused or cancelled gave no receipt and is not recorded. Code
    which took hold of ``bus.publish`` itself before is not seen.
    """

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus
        self._slots: list[Receipt | None] = []
        self._before: dict[str, Any] = {}
        self._on = False

    def start(self) -> None:
        """Begin to record; the context manager does it.

        Raises:
            RuntimeError: it records already.
        """
        if self._on:
            raise RuntimeError(f"this recorder of bus {self._bus.name!r} records already")
        self._on = True
        for name in _TAKES_EVENTS:
            self._before[name] = vars(self._bus).get(name)
            take = getattr(self._bus, name)
            wrap = self._recording if iscoroutinefunction(take) else self._recording_in
            setattr(self._bus, name, wrap(take))

    def stop(self) -> None:
        """Record no more, and keep what was recorded. Recorders of one bus stop in turn, last first."""
        if not self._on:
            return
        self._on = False
        for name, before in self._before.items():
            if before is None:
                delattr(self._bus, name)
            else:
                setattr(self._bus, name, before)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _recording(self, take: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(take)
        async def recorded(*event: Any, **options: Any) -> Receipt:
            position = len(self._slots)
            self._slots.append(None)
            try:
                receipt: Receipt = await take(*event, **options)
            except CaptureFailed as error:
                self._slots[position] = error.receipt
                raise
            self._slots[position] = receipt
            return receipt

        return recorded

    def _recording_in(self, take: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(take)
        def recorded(session: Any, *event: Any, **options: Any) -> Receipt:
            position = len(self._slots)
            self._slots.append(None)
            receipt: Receipt = take(session, *event, **options)
            self._slots[position] = receipt
            return receipt

        return recorded

    def clear(self) -> None:
        """Forget what was recorded up to now."""
        self._slots = []

    # -- what was recorded

    @property
    def receipts(self) -> tuple[Receipt, ...]:
        """The receipts of all events; those of enqueued ones follow their deliveries."""
        return tuple(receipt for receipt in self._slots if receipt is not None)

    @property
    def published(self) -> tuple[Envelope, ...]:
        """The envelopes of all events."""
        return tuple(receipt.envelope for receipt in self.receipts)

    @property
    def deliveries(self) -> tuple[RecordedDelivery, ...]:
        """The deliveries of all events."""
        return tuple(
            RecordedDelivery(receipt.envelope, handler_id, result)
            for receipt in self.receipts
            for handler_id, result in receipt.deliveries.items()
        )

    @property
    def failed(self) -> tuple[RecordedDelivery, ...]:
        """The deliveries that failed, stored or not."""
        return tuple(it for it in self.deliveries if it.result.state in ("dead_lettered", "failed"))

    @property
    def accepted(self) -> tuple[RecordedDelivery, ...]:
        """The deliveries that were stored for a worker to run: accepted ones, and parked ones."""
        return tuple(it for it in self.deliveries if _is_accepted(it))

    def of(self, event: Wanted) -> tuple[Envelope, ...]:
        """Return the envelopes of one kind of event: of a class and its subclasses, or of a name."""
        if isinstance(event, str):
            return tuple(envelope for envelope in self.published if envelope.name == event)
        return tuple(envelope for envelope in self.published if isinstance(envelope.payload, event))

    # -- what a test expects

    def assert_published(self, event: Wanted, *, times: int | None = None) -> tuple[Envelope, ...]:
        """Return the envelopes of one kind of event, of which there must be some, or ``times``.

        Raises:
            AssertionError: it was not published, or not so often; the message says what was.
        """
        found = self.of(event)
        wanted = "at least once" if times is None else _often(times)
        if not found if times is None else len(found) != times:
            raise AssertionError(
                f"{_called(event)} was to be published {wanted}, and was {_often(len(found))}; "
                f"published: {_counted([envelope.name for envelope in self.published])}"
            )
        return found

    def assert_not_published(self, event: Wanted) -> None:
        """Make sure that an event was not published.

        Raises:
            AssertionError: it was.
        """
        self.assert_published(event, times=0)

    def assert_succeeded(self, handler_id: str) -> tuple[RecordedDelivery, ...]:
        """Return the deliveries of a handler, of which there must be some, and all succeeded.

        Raises:
            AssertionError: it had none, or one did not succeed; the message says what became of it.
        """
        found = self._of_handler(handler_id)
        for delivery in found:
            if delivery.result.state != "succeeded":
                raise AssertionError(f"{_described(delivery)}, and was to succeed") from delivery.result.error
        return found

    def assert_failed(
        self, handler_id: str, error: type[BaseException] = BaseException
    ) -> tuple[RecordedDelivery, ...]:
        """Return the failed deliveries of a handler, of which there must be some, all with ``error``.

        Raises:
            AssertionError: none failed, or one did with another error.
        """
        found = [it for it in self._of_handler(handler_id) if it in self.failed]
        if not found:
            raise AssertionError(
                f"no delivery to {handler_id!r} failed; there were: "
                + "; ".join(_described(delivery) for delivery in self._of_handler(handler_id))
            )
        for delivery in found:
            if not isinstance(delivery.result.error, error):
                raise AssertionError(
                    f"{_described(delivery)}, and was to fail with {error.__qualname__}"
                ) from delivery.result.error
        return tuple(found)

    def assert_accepted(self, handler_id: str) -> tuple[RecordedDelivery, ...]:
        """Return the deliveries of a handler, of which there must be some, and all stored for a worker.

        Those are ``accepted``, or ``parked`` behind one of their ordering key that failed.

        Raises:
            AssertionError: it had none, or one was not stored; the message says what became of it.
        """
        found = self._of_handler(handler_id)
        for delivery in found:
            if not _is_accepted(delivery):
                raise AssertionError(
                    f"{_described(delivery)}, and was to be stored for a worker"
                ) from delivery.result.error
        return found

    def _of_handler(self, handler_id: str) -> tuple[RecordedDelivery, ...]:
        found = tuple(delivery for delivery in self.deliveries if delivery.handler_id == handler_id)
        if not found:
            ids = _counted([delivery.handler_id for delivery in self.deliveries])
            raise AssertionError(f"handler {handler_id!r} had no delivery; deliveries went to: {ids}")
        return found


def _is_accepted(delivery: RecordedDelivery) -> bool:
    """Tell what is stored from what is only enqueued, and has no letter."""
    result = delivery.result
    return result.state in ("accepted", "parked") and result.dead_letter_id is not None


def _called(event: Wanted) -> str:
    return repr(event) if isinstance(event, str) else event.__qualname__


def _often(times: int) -> str:
    return {0: "never", 1: "once"}.get(times, f"{times} times")


def _counted(names: Sequence[str]) -> str:
    counts = {name: names.count(name) for name in names}
    return ", ".join(f"{name} ({_often(count)})" for name, count in counts.items()) or "nothing"


def _described(delivery: RecordedDelivery) -> str:
    error = "" if delivery.result.error is None else f" with {delivery.result.error!r}"
    return (
        f"the delivery of {delivery.envelope.name!r} to {delivery.handler_id!r} is "
        f"{delivery.result.state!r}{error}"
    )
