"""``publish``: what it takes, what it gives back, and what becomes of a failure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import structlog.testing
from pydantic import BaseModel

from eventbus import (
    BusClosed,
    CaptureFailed,
    Envelope,
    EventBus,
    InvalidEvent,
    PayloadTooLarge,
    RetryPolicy,
    current_envelope,
)
from eventbus.testing import FakeClock
from eventbus_dlq import DeadLetter, DeadLetterQueue, MemoryStore, StoreUnavailable


class OrderPlaced(BaseModel):
    order_id: int
    total: Decimal = Decimal("9.90")


class RushOrderPlaced(OrderPlaced):
    courier: str = "bike"


@dataclass
class Shipped:
    parcel: str


class BrokenStore(MemoryStore):
    """A store that takes no letter."""

    async def add(self, letters: Sequence[DeadLetter]) -> Sequence[str]:
        raise StoreUnavailable("the disk is gone", retryable=False)


def fail(message: str = "card declined") -> Any:
    async def handler(event: object) -> None:
        raise RuntimeError(message)

    return handler


async def test_the_receipt_tells_what_every_handler_did(dlq: DeadLetterQueue) -> None:
    bus = EventBus(dlq=dlq)
    seen: list[tuple[Any, Envelope]] = []

    async def keep(event: OrderPlaced, envelope: Envelope) -> None:
        seen.append((event, envelope))

    bus.subscribe(OrderPlaced, keep, id="keep")
    bus.subscribe(OrderPlaced, fail(), id="billing.charge")
    order = OrderPlaced(order_id=1)
    async with bus:
        receipt = await bus.publish(order)
    (event, envelope) = seen[0]
    assert event is order
    assert receipt.envelope is envelope
    assert receipt.event_id == receipt.correlation_id == envelope.id
    assert UUID(receipt.event_id).version == 7
    assert list(receipt.deliveries) == ["keep", "billing.charge"]
    assert receipt.deliveries["keep"].state == "succeeded"
    assert receipt.deliveries["keep"].attempts == 1
    assert receipt.deliveries["keep"].duration > 0
    assert receipt.failed == ("billing.charge",)
    assert not receipt.ok
    assert repr(receipt).endswith("keep: succeeded, billing.charge: dead_lettered>")


async def test_a_failure_is_stored_before_publish_returns_and_never_reaches_the_publisher(
    dlq: DeadLetterQueue, store: MemoryStore
) -> None:
    bus = EventBus(dlq=dlq)
    bus.subscribe(OrderPlaced, fail(), id="billing.charge", tags=("billing",), priority=2)
    async with bus:
        receipt = await bus.publish(
            OrderPlaced(order_id=7),
            tenant="acme",
            correlation_id="req-1",
            causation_id="cause-1",
            source="shop",
            user_id="u-1",
            tags=("vip", "billing"),
            headers={"traceparent": "00-1"},
        )
    result = receipt.deliveries["billing.charge"]
    assert result.state == "dead_lettered"
    assert repr(result.error) == "RuntimeError('card declined')"
    assert result.dead_letter_id is not None
    letter = await store.get(result.dead_letter_id)
    assert (letter.event_id, letter.event_name, letter.event_version) == (receipt.event_id, "OrderPlaced", 1)
    assert letter.payload == {"order_id": 7, "total": "9.90"}
    assert (letter.tenant, letter.correlation_id, letter.causation_id) == ("acme", "req-1", "cause-1")
    assert (letter.source, letter.user_id, letter.headers) == ("shop", "u-1", {"traceparent": "00-1"})
    assert (letter.tags, letter.priority) == (("billing", "vip"), 2)
    assert (letter.state, letter.attempts, letter.retries) == ("pending", 1, 0)
    assert (letter.error.type, letter.error.message, letter.error.kind) == (
        "RuntimeError",
        "card declined",
        "unknown",
    )
    assert "in fail.<locals>.handler" in letter.error.traceback
    (attempt,) = letter.history
    assert attempt.number == 1
    assert attempt.started_at <= attempt.ended_at
    assert attempt.error == letter.error


async def test_every_attempt_is_kept_with_its_own_error(dlq: DeadLetterQueue, store: MemoryStore) -> None:
    bus = EventBus(dlq=dlq, retry=RetryPolicy(attempts=3, delay=0, jitter=False))
    count = 0

    async def charge(event: OrderPlaced) -> None:
        nonlocal count
        count += 1
        raise RuntimeError(f"try {count}")

    bus.subscribe(OrderPlaced, charge, id="billing.charge")
    async with bus:
        receipt = await bus.publish(OrderPlaced(order_id=1))
    result = receipt.deliveries["billing.charge"]
    assert result.attempts == 3
    letter = await store.get(str(result.dead_letter_id))
    assert letter.attempts == 3
    assert [(it.number, it.error.message) for it in letter.history if it.error] == [
        (1, "try 1"),
        (2, "try 2"),
        (3, "try 3"),
    ]


async def test_raise_for_failures_groups_the_handlers_own_exceptions() -> None:
    bus = EventBus()
    bus.subscribe(OrderPlaced, fail("one"), id="a")
    bus.subscribe(OrderPlaced, fail("two"), id="b")

    async def fine(event: OrderPlaced) -> None: ...

    bus.subscribe(OrderPlaced, fine, id="c")
    async with bus:
        receipt = await bus.publish(OrderPlaced(order_id=1))
        fine_receipt = await bus.publish(Shipped("p"))
    with pytest.raises(ExceptionGroup, match="2 of 3 handlers of 'OrderPlaced' failed") as caught:
        receipt.raise_for_failures()
    assert [str(error) for error in caught.value.exceptions] == ["one", "two"]
    fine_receipt.raise_for_failures()
    assert fine_receipt.ok


async def test_without_a_queue_a_failure_is_in_the_receipt_and_in_the_log() -> None:
    bus = EventBus()
    bus.subscribe(OrderPlaced, fail(), id="billing.charge")
    async with bus:
        with structlog.testing.capture_logs() as logs:
            receipt = await bus.publish(OrderPlaced(order_id=1), tenant="acme")
    assert receipt.deliveries["billing.charge"].state == "failed"
    assert receipt.deliveries["billing.charge"].dead_letter_id is None
    (line,) = [line for line in logs if line["event"] == "delivery.failed"]
    assert line["log_level"] == "error"
    assert (line["handler_id"], line["event_name"], line["tenant"]) == (
        "billing.charge",
        "OrderPlaced",
        "acme",
    )
    assert line["error_type"] == "RuntimeError"


async def test_a_failure_that_cannot_be_stored_raises_both_errors_and_the_receipt() -> None:
    bus = EventBus(dlq=DeadLetterQueue(BrokenStore(), capture_timeout=0))
    bus.subscribe(OrderPlaced, fail(), id="billing.charge")

    async def fine(event: OrderPlaced) -> None: ...

    bus.subscribe(OrderPlaced, fine, id="fine")
    async with bus:
        with pytest.raises(
            CaptureFailed, match=r"1 failed deliveries .*billing\.charge.*the disk is gone"
        ) as caught:
            await bus.publish(OrderPlaced(order_id=1))
    failed = caught.value
    assert [str(error) for error in failed.errors] == ["card declined"]
    assert [str(error) for error in failed.store_errors] == ["the disk is gone"]
    assert failed.receipt is not None
    assert failed.receipt.deliveries["fine"].state == "succeeded"
    assert failed.receipt.deliveries["billing.charge"].state == "failed"


async def test_an_event_nobody_handles_is_counted_and_logged_once_for_its_name() -> None:
    bus = EventBus()
    async with bus:
        with structlog.testing.capture_logs() as logs:
            receipts = [await bus.publish("nobody.cares", {"n": n}) for n in range(3)]
            await bus.publish("nobody.else", None)
    assert all(receipt.ok and not receipt.deliveries for receipt in receipts)
    assert bus.metrics.unhandled == 4
    assert bus.metrics.published == 4
    assert [line["event_name"] for line in logs if line["event"] == "event.unhandled"] == [
        "nobody.cares",
        "nobody.else",
    ]


async def test_a_name_with_data_becomes_the_class_that_is_registered_under_it() -> None:
    bus = EventBus()
    seen: list[Any] = []

    @bus.on(OrderPlaced)
    async def keep(event: OrderPlaced) -> None:
        seen.append(event)

    async with bus:
        await bus.publish("OrderPlaced", {"order_id": "3"})
        with pytest.raises(InvalidEvent, match="'OrderPlaced' does not fit its class"):
            await bus.publish("OrderPlaced", {"order_id": "three"})
    assert seen == [OrderPlaced(order_id=3)]


async def test_a_name_without_a_class_carries_its_data_as_it_is() -> None:
    bus = EventBus()
    seen: list[Any] = []

    @bus.on("order.placed")
    async def keep(event: Any) -> None:
        seen.append(event)

    data = {"order_id": 1, "lines": [{"sku": "a", "amount": 1.5}], "paid": True, "note": None}
    async with bus:
        await bus.publish("order.placed", data)
    assert seen[0] is data


async def test_a_subscription_to_a_class_receives_its_subclasses_under_their_own_name() -> None:
    bus = EventBus()
    seen: list[tuple[type, str]] = []

    @bus.on(OrderPlaced)
    async def keep(event: OrderPlaced, envelope: Envelope) -> None:
        seen.append((type(event), envelope.name))

    async with bus:
        await bus.publish(RushOrderPlaced(order_id=1))
        await bus.publish(OrderPlaced(order_id=2))
    assert seen == [(RushOrderPlaced, "RushOrderPlaced"), (OrderPlaced, "OrderPlaced")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((OrderPlaced(order_id=1), {"order_id": 2}), "two payloads"),
        ((OrderPlaced,), "got the class"),
        ((object(),), "object is not an event"),
        ((42,), "int is not an event"),
        (("",), "event name"),
        (("order.*", {}), r"without '\*'"),
        (("order..placed", {}), "segments joined by dots"),
        (("order.placed", {"at": datetime(2026, 1, 1, tzinfo=UTC)}), r"payload\.at .* is a datetime"),
        (("order.placed", {1: "one"}), "the key 1"),
        (("order.placed", object()), "cannot be stored"),
    ],
)
async def test_what_is_no_event_is_refused_and_nothing_is_delivered(
    arguments: tuple[Any, ...], message: str
) -> None:
    bus = EventBus()
    seen: list[Any] = []

    @bus.on("**")
    async def keep(event: Any) -> None:
        seen.append(event)

    async with bus:
        with pytest.raises(InvalidEvent, match=message):
            await bus.publish(*arguments)
        with pytest.raises(InvalidEvent, match=message):
            await bus.enqueue(*arguments)
        await bus.wait_idle()
    assert seen == []
    assert bus.metrics.published == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tenant": ""}, "tenant='' must be a text that is not empty"),
        ({"tenant": 7}, "tenant=7"),
        ({"tenant": 10**5_000}, "tenant=<int> must be a text"),  # Python refuses to write it
        ({"id": b"x" * 5_000}, r"id=b'x{78}\.\.\. must be a text"),
        ({"correlation_id": "a\x00b"}, "NUL"),
        ({"user_id": "\ud800"}, "lone surrogate"),
        ({"source": "x" * 513}, "513 characters long, at most 512"),
        ({"id": ""}, "id=''"),
        ({"causation_id": b"x"}, "causation_id"),
        ({"priority": 0}, "priority=0 must be an int from 1"),
        ({"priority": 11}, "priority=11"),
        ({"priority": 10**5_000}, "priority=<int> must be an int from 1"),
        ({"tags": [f"t{n}" for n in range(33)]}, "33 tags"),
        ({"tags": ("",)}, "a tag"),
        ({"tags": (10**5_000,)}, "a tag=<int>"),
        ({"headers": {"a": 1}}, "header 'a' must be a text"),
        ({"headers": {"a": "\ud800"}}, "header 'a'"),
        ({"headers": {"": "x"}}, "a header's name"),
        ({"headers": {"a": "x" * 20_000}}, "at most 16384"),
    ],
)
async def test_metadata_that_no_store_can_hold_is_refused_by_name(
    options: dict[str, Any], message: str
) -> None:
    bus = EventBus()
    async with bus:
        with pytest.raises(InvalidEvent, match=message):
            await bus.publish("order.placed", {}, **options)


@pytest.mark.parametrize("option", ["durable", "colour"])
async def test_an_option_that_is_not_there_is_refused_and_not_ignored(option: str) -> None:
    bus = EventBus()
    async with bus:
        with pytest.raises(TypeError, match=option):
            await bus.publish("order.placed", {}, **{option: "x"})  # type: ignore[arg-type]  # the mistake
        with pytest.raises(TypeError, match=option):
            await bus.enqueue("order.placed", {}, **{option: "x"})  # type: ignore[misc]  # the mistake


async def test_a_payload_over_the_queues_limit_is_refused(
    store: MemoryStore,
) -> None:
    bus = EventBus(dlq=DeadLetterQueue(store, max_payload=1_000))
    seen: list[Any] = []

    @bus.on("**", id="keep")
    async def keep(event: Any) -> None:
        seen.append(event)

    async with bus:
        with pytest.raises(PayloadTooLarge, match="at most 1,000 are kept"):
            await bus.publish("big", {"text": "x" * 1_000})
        with pytest.raises(PayloadTooLarge):
            await bus.publish(Shipped("x" * 1_000))
        await bus.publish("small", {"text": "x" * 900})
        await bus.publish(Shipped("x" * 900))
    assert len(seen) == 2


async def test_publishing_twice_under_one_id_keeps_one_letter_per_handler(
    dlq: DeadLetterQueue, store: MemoryStore
) -> None:
    bus = EventBus(dlq=dlq)
    bus.subscribe(OrderPlaced, fail(), id="billing.charge")
    async with bus:
        first = await bus.publish(OrderPlaced(order_id=1), id="order-1")
        second = await bus.publish(OrderPlaced(order_id=1), id="order-1")
        (item,) = (await bus.dead_letters()).items
    assert first.event_id == second.event_id == "order-1"
    assert first.deliveries["billing.charge"].dead_letter_id == item.id
    assert second.deliveries["billing.charge"].dead_letter_id == item.id
    assert item.attempts == 2


async def test_the_envelope_says_when_by_the_clock_of_the_queue(
    store: MemoryStore, fake_clock: FakeClock
) -> None:
    bus = EventBus(dlq=DeadLetterQueue(store, clock=fake_clock))
    fake_clock.advance(90.5)
    async with bus:
        receipt = await bus.publish("order.placed", {})
    assert receipt.envelope.occurred_at == datetime(2026, 1, 1, 0, 1, 30, 500_000, tzinfo=UTC)


async def test_outside_of_a_handler_there_is_no_current_envelope_before_and_after() -> None:
    bus = EventBus()
    inside: list[Envelope | None] = []

    @bus.on("a")
    async def look(event: Any) -> None:
        inside.append(current_envelope())

    assert current_envelope() is None
    async with bus:
        receipt = await bus.publish("a", 1)
        assert current_envelope() is None
    assert inside == [receipt.envelope]


async def test_publishing_before_start_and_after_stop_is_refused_with_the_way_out() -> None:
    bus = EventBus(name="shop")
    with pytest.raises(BusClosed, match="bus 'shop' is not running: start it with 'async with bus:'"):
        await bus.publish("a", 1)
    async with bus:
        pass
    with pytest.raises(BusClosed, match="not running"):
        await bus.publish("a", 1)
    with pytest.raises(BusClosed, match="not running"):
        await bus.enqueue("a", 1)
    assert bus.metrics.published == 0


async def test_a_payload_that_a_handler_changes_is_stored_as_it_was_published(
    dlq: DeadLetterQueue, store: MemoryStore
) -> None:
    bus = EventBus(dlq=dlq)

    @bus.on("order.placed", id="vandal")
    async def vandal(event: dict[str, Any]) -> None:
        event["order_id"] = object()
        raise RuntimeError("and it fails")

    async with bus:
        receipt = await bus.publish("order.placed", {"order_id": 1})
    letter = await store.get(str(receipt.deliveries["vandal"].dead_letter_id))
    assert letter.payload == {"order_id": 1}
