"""Deliveries that are stored before they run: durable ones, transactional ones, and those held back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbus.acceptance import Acceptance
from eventbus.capturing import fields, tell_lost
from eventbus.controls import ControlState
from eventbus.errors import CaptureFailed, InvalidEvent, NoDeadLetterQueue
from eventbus.guarding import note_open_circuit
from eventbus.payloads import MASK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventbus.acceptance import Accepted
    from eventbus.deliverer import Deliverer
    from eventbus.delivery import Delivery
    from eventbus.event_types import EventType, EventTypes
    from eventbus.ports import DeadLetters
    from eventbus.subscription import Subscription
    from eventbus.telemetry import Telemetry


def check_durable(subscription: Subscription, types: EventTypes, *, has_dlq: bool) -> None:
    """Refuse a durable subscription that could not keep its promise.

    Raises:
        NoDeadLetterQueue: there is nowhere to keep its deliveries.
        ValueError: an event of its has secrets, which are stored as asterisks.
    """
    if not has_dlq:
        raise NoDeadLetterQueue(
            f"handler {subscription.id!r} is durable=True, and its bus has no dead-letter queue to keep its "
            "deliveries; make it with EventBus(dlq=DeadLetterQueue(...)), or leave durable out"
        )
    for event in subscription.events:
        if isinstance(event, type) and types.of_class(event).codec.has_secrets:
            raise ValueError(
                f"handler {subscription.id!r} is durable=True, and {event.__qualname__} has secret fields, "
                "which are stored as asterisks: the handler would run with those; keep the secret "
                "elsewhere and publish a reference to it, or leave durable out"
            )


def is_masked(event_type: EventType, payload: bytes) -> bool:
    """Tell whether an encoded payload has asterisks where the event has secrets."""
    return event_type.codec.has_secrets and MASK in payload


def payload_to_keep(delivery: Delivery) -> bytes:
    """Return the encoded payload of a delivery that is about to be stored, to be run from the store.

    Raises:
        InvalidEvent: it has secrets, which are stored as asterisks, or cannot be encoded.
    """
    event_type = delivery.route.event_type
    encoded = delivery.encoded
    if encoded is None:
        encoded = delivery.encoded = event_type.codec.encode(delivery.payload)
    if is_masked(event_type, encoded):
        raise InvalidEvent(
            f"event {event_type.name!r} has secrets, which are stored as asterisks: handler "
            f"{delivery.handler_id!r} would run with those; keep the secret elsewhere and publish a "
            "reference to it"
        )
    return encoded


def acceptance_of(delivery: Delivery) -> Acceptance:
    """Return a delivery as the dead-letter queue takes it in.

    Raises:
        InvalidEvent: its payload cannot be kept; see :func:`payload_to_keep`.
    """
    envelope, subscription = delivery.envelope, delivery.route.subscription
    metadata = envelope.metadata
    return Acceptance(
        envelope,
        payload_to_keep(delivery),
        subscription.id,
        metadata.priority or subscription.priority,
        _tags(subscription.tags, metadata.tags),
        delivery.ordering_key,
    )


def _tags(own: tuple[str, ...], published: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*own, *published))) if own or published else ()


def admits(delivery: Delivery) -> bool:
    """Ask ``when`` and ``once`` of a delivery, the first time only.

    Raises:
        Exception: what ``when`` raises.
    """
    if not delivery.admitted:
        if delivery.route.conditional and not delivery.route.admits(delivery.envelope):
            return False
        delivery.admitted = True
    return True


def take_back_once(deliveries: Sequence[Delivery]) -> None:
    """Let ``once`` handlers have another event: these were not delivered after all."""
    for delivery in deliveries:
        if delivery.admitted:
            delivery.route.subscription.spent = False


def note_kept(deliveries: Sequence[Delivery], kept: Sequence[Accepted], telemetry: Telemetry) -> None:
    """Note where deliveries are kept, count them, and tell of them."""
    for delivery, (dead_letter_id, is_parked) in zip(deliveries, kept, strict=True):
        parked = is_parked or delivery.held_back
        delivery.dead_letter_id = dead_letter_id
        delivery.state = "parked" if parked else "accepted"
        counters = delivery.route.counters
        if parked:
            counters.parked += 1
        else:
            counters.accepted += 1
        if telemetry:
            name = "delivery.parked" if parked else "delivery.accepted"
            telemetry.emit(name, **fields(delivery), dead_letter=dead_letter_id)


class Acceptor:
    """Hands deliveries to the dead-letter queue, for workers to run."""

    def __init__(self, *, dlq: DeadLetters, deliverer: Deliverer, telemetry: Telemetry) -> None:
        self._dlq = dlq
        self._deliverer = deliverer
        self._telemetry = telemetry
        self._gate = deliverer.gate
        self.is_blocked = dlq.is_blocked

    def _acceptance(self, delivery: Delivery) -> Acceptance:
        acceptance = acceptance_of(delivery)
        control = self._deliverer.closed_by(delivery) if self._gate else None
        if control is None:
            return acceptance
        return acceptance._replace(held="paused" if control.state is ControlState.PAUSED else "draining")

    async def commit(self, deliveries: Sequence[Delivery]) -> None:
        """Commit the durable deliveries of an event, those that ``when`` and ``once`` let pass.

        A condition that raises is the handler's failure, and is stored as one.

        Raises:
            CaptureFailed: the store could not take them; nothing was delivered.
        """
        admitted, broken = self._sorted(deliveries)
        acceptances = [self._acceptance(delivery) for delivery in admitted]
        for delivery in admitted:
            delivery.state = "accepted"  # from here on the rows are the writer's
        if admitted:
            try:
                kept = await self._dlq.accept(acceptances)
            except Exception as store_error:
                take_back_once(admitted)
                self._lose(admitted, store_error)
                raise _not_delivered(admitted, store_error) from store_error
            note_kept(admitted, kept, self._telemetry)
        for delivery, error in broken:
            await self._refuse(delivery, error)

    def _sorted(
        self, deliveries: Sequence[Delivery]
    ) -> tuple[list[Delivery], list[tuple[Delivery, Exception]]]:
        admitted: list[Delivery] = []
        broken: list[tuple[Delivery, Exception]] = []
        for delivery in deliveries:
            try:
                if admits(delivery):
                    admitted.append(delivery)
                else:
                    self._deliverer.skip(delivery)
            except Exception as error:  # a condition is the handler's code, and fails like it
                broken.append((delivery, error))
        return admitted, broken

    async def hold(self, deliveries: Sequence[Delivery], *, mine: Delivery | None) -> None:
        """Store deliveries of one handler and key, or a single one, that may not run now, in order.

        ``mine`` is the caller's own: a cancellation of the caller leaves it to the writer. What the store
        says of the others is not known then; storing them once more is harmless.
        """
        group: list[Delivery] = []
        for delivery in deliveries:
            error = self._obstacle(delivery)
            if delivery.state is not None:
                continue
            if error is None:
                group.append(delivery)
                continue
            await self._accept(group, mine)
            group = []
            if isinstance(error, InvalidEvent):
                await self._deliverer.interrupt([delivery])  # kept, and a person decides
            else:
                await self._refuse(delivery, error)
        await self._accept(group, mine)

    def _obstacle(self, delivery: Delivery) -> Exception | None:
        """Return why a delivery cannot be stored as it is; one that is not wanted is skipped."""
        try:
            if not admits(delivery):
                self._deliverer.skip(delivery)
            else:
                payload_to_keep(delivery)
        except Exception as error:  # a condition is the handler's code, and fails like it
            return error
        return None

    async def _accept(self, deliveries: Sequence[Delivery], mine: Delivery | None) -> None:
        if not deliveries:
            return
        acceptances = [self._acceptance(delivery) for delivery in deliveries]
        if mine is not None and mine in deliveries:
            mine.state = "accepted"  # from here on the row is the writer's
        try:
            kept = await self._dlq.accept(acceptances)
        except Exception as store_error:
            self._lose(deliveries, store_error)
            return
        for delivery in deliveries:
            note_open_circuit(delivery)
        note_kept(deliveries, kept, self._telemetry)

    def _lose(self, deliveries: Sequence[Delivery], store_error: Exception) -> None:
        for delivery in deliveries:
            delivery.state = "failed"
            delivery.capture_error = store_error
            tell_lost("accept.failed", store_error, delivery, self._telemetry)

    async def _refuse(self, delivery: Delivery, error: Exception) -> None:
        pending = self._deliverer.refuse(delivery, error)
        if pending is not None:
            await pending


def _not_delivered(deliveries: Sequence[Delivery], store_error: Exception) -> CaptureFailed:
    envelope = deliveries[0].envelope
    ids = ", ".join(delivery.handler_id for delivery in deliveries)
    return CaptureFailed(
        f"event {envelope.name!r} {envelope.id} was delivered to nobody: its durable deliveries ({ids}) "
        f"could not be stored: {store_error}",
        errors=(),
        store_errors=[store_error],
    )
