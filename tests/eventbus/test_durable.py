"""Durable deliveries: committed before anything runs, and before publish returns."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest
from keeping import KeepingDlq
from pydantic import BaseModel, SecretStr

from eventbus import (
    BusClosed,
    BusFull,
    CaptureFailed,
    EventBus,
    InvalidEvent,
    NoDeadLetterQueue,
    RetryPolicy,
    TelemetryEvent,
)
from eventbus.testing import Recorder
from eventbus_dlq import DeadLetterQueue, MemoryStore, StoreUnavailable

asyncio_only = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)


class Order(BaseModel):
    number: int


class Login(BaseModel):
    user: str
    password: SecretStr | None = None


class Harmless(BaseModel):
    pass


class Sneaky(Harmless):
    password: SecretStr | None = None


def make_bus(dlq: KeepingDlq | None, **settings: Any) -> EventBus:
    return EventBus(dlq=dlq, **settings)  # type: ignore[arg-type]  # a stand-in


async def nothing(_event: Any) -> None:
    pass


async def test_publish_stores_durable_deliveries_before_any_other_handler_runs() -> None:
    dlq = KeepingDlq()
    bus = make_bus(dlq)
    story: list[object] = []

    async def transient(event: Order) -> None:
        story.append([it.handler_id for it in dlq.kept])

    async def durable(event: Order) -> None:
        story.append("the durable one ran in the publisher")

    bus.subscribe(Order, transient, id="transient")
    bus.subscribe(Order, durable, id="mail", durable=True, stage=3, priority=2, tags=["slow"])
    bus.subscribe(Order, durable, id="bill", durable=True)
    async with bus:
        receipt = await bus.publish(Order(number=1), tags=["vip"], tenant="acme")
    assert story == [["bill", "mail"]]
    assert {name: result.state for name, result in receipt.deliveries.items()} == {
        "transient": "succeeded",
        "bill": "accepted",
        "mail": "accepted",
    }
    mail = receipt.deliveries["mail"]
    assert (mail.dead_letter_id, mail.attempts, mail.error, mail.duration) == ("2", 0, None, 0.0)
    assert receipt.ok
    bill, kept = dlq.kept[0].given, dlq.kept[1].given
    assert (kept.payload, kept.priority, kept.tags, kept.envelope.tenant) == (
        b'{"number":1}',
        2,
        ("slow", "vip"),
        "acme",
    )
    assert bill.payload is kept.payload, "the payload is encoded once"
    assert bus.metrics.published == 1
    numbers = bus.metrics.snapshot()["mail"]
    assert (numbers.accepted, numbers.parked, numbers.published, numbers.in_flight) == (1, 0, 0, 0)


async def test_a_store_that_takes_nothing_leaves_nothing_delivered() -> None:
    dlq = KeepingDlq()
    dlq.refuses = StoreUnavailable("the disk is full")
    seen: list[TelemetryEvent] = []
    bus = make_bus(dlq, observers=[seen.append])
    ran: list[Order] = []
    bus.on(Order, id="transient", ordering_key="number")(_appends(ran))
    bus.on(Order, id="mail", durable=True, once=True)(nothing)
    async with bus:
        with pytest.raises(CaptureFailed, match=r"delivered to nobody.*\(mail\).*disk is full") as caught:
            await bus.publish(Order(number=1))
        error = caught.value
        assert error.errors == ()
        assert error.store_errors == (dlq.refuses,)
        assert error.__cause__ is dlq.refuses
        assert error.receipt is not None
        assert list(error.receipt.deliveries) == ["mail"]
        assert error.receipt.deliveries["mail"].state == "failed"
        assert ran == []
        (lost,) = [event for event in seen if event.name == "delivery.lost"]
        assert (lost.fields["handler"], lost.fields["error"]) == ("mail", "the disk is full")
        dlq.refuses = None
        receipt = await bus.publish(Order(number=1))  # nobody is in its way, and once was not used up
    assert [result.state for result in receipt.deliveries.values()] == ["succeeded", "accepted"]


def _appends(ran: list[Any]) -> Any:
    async def handler(event: Any) -> None:
        ran.append(event)

    return handler


async def test_when_and_once_are_asked_when_the_delivery_is_accepted() -> None:
    dlq = KeepingDlq()
    bus = make_bus(dlq)
    bus.on(Order, id="big", durable=True, when=lambda envelope: envelope.payload.number > 10)(nothing)
    bus.on(Order, id="first", durable=True, once=True)(nothing)
    async with bus:
        states = [
            [result.state for result in (await bus.publish(Order(number=number))).deliveries.values()]
            for number in (1, 11)
        ]
    assert states == [["skipped", "accepted"], ["accepted", "skipped"]]
    assert bus.metrics.snapshot()["big"].skipped == 1


async def test_a_condition_that_raises_is_stored_as_the_handlers_failure() -> None:
    dlq = KeepingDlq()
    bus = make_bus(dlq)

    def broken(_envelope: object) -> bool:
        raise ZeroDivisionError("no such rate")

    bus.on(Order, id="broken", durable=True, when=broken)(nothing)
    bus.on(Order, id="fine", durable=True)(nothing)
    async with bus:
        receipt = await bus.publish(Order(number=1))
    assert [result.state for result in receipt.deliveries.values()] == ["dead_lettered", "accepted"]
    assert receipt.failed == ("broken",)
    assert dlq.story() == [("accepted", Order(number=1)), ("captured failed", Order(number=1))]


async def test_observers_are_told_of_what_is_accepted_and_parked() -> None:
    dlq = KeepingDlq()
    seen: list[TelemetryEvent] = []
    bus = make_bus(dlq, observers=[seen.append])

    async def fails(_event: Order) -> None:
        raise LookupError("gone")

    bus.on(Order, id="mail", durable=True)(nothing)
    bus.on(Order, id="ship", ordering_key="number")(fails)
    async with bus:
        await bus.publish(Order(number=1), tenant="acme")
        receipt = await bus.publish(Order(number=1))
    assert receipt.deliveries["ship"].state == "parked"
    told = {event.name: event.fields for event in seen}
    assert told["delivery.accepted"]["dead_letter"] == "3"
    assert told["delivery.parked"] == {
        "event": "Order",
        "event_id": receipt.event_id,
        "correlation_id": receipt.correlation_id,
        "tenant": None,
        "handler": "ship",
        "dead_letter": "4",
    }
    assert bus.metrics.snapshot()["ship"].parked == 1


# -- what is refused


def test_durable_without_a_dead_letter_queue_is_refused_at_once() -> None:
    with pytest.raises(NoDeadLetterQueue, match=r"'mail' is durable=True.*EventBus\(dlq="):
        EventBus().on(Order, id="mail", durable=True)(nothing)


def test_a_durable_handler_of_a_class_with_secrets_is_refused_at_once() -> None:
    bus = EventBus(dlq=DeadLetterQueue(MemoryStore()))
    with pytest.raises(ValueError, match=r"'mail' is durable=True, and Login has secret fields"):
        bus.on(Login, id="mail", durable=True)(nothing)
    bus.on(Login, id="mail")(nothing)  # nothing is left of the first


def test_durable_is_true_or_false() -> None:
    with pytest.raises(ValueError, match=r"durable=1 must be True or False"):
        EventBus().on(Order, id="mail", durable=1)(nothing)  # type: ignore[arg-type]  # that is the test


async def test_secrets_that_come_by_a_subclass_or_a_pattern_are_refused_when_they_are_published() -> None:
    dlq = KeepingDlq()
    bus = make_bus(dlq)
    ran: list[object] = []
    bus.on(Harmless, id="mail", durable=True)(nothing)
    bus.on(Harmless, id="other")(_appends(ran))
    async with bus:
        with pytest.raises(InvalidEvent, match=r"'Sneaky' has secrets.*'mail' would run with"):
            await bus.publish(Sneaky(password=SecretStr("hunter2")))
        assert (dlq.kept, ran) == ([], [])
        receipt = await bus.publish(Sneaky())  # there is nothing to mask
    assert receipt.deliveries["mail"].state == "accepted"


async def test_a_closed_bus_accepts_nothing() -> None:
    dlq = KeepingDlq()
    bus = make_bus(dlq)
    bus.on(Order, id="mail", durable=True)(nothing)
    with pytest.raises(BusClosed):
        await bus.publish(Order(number=1))
    assert dlq.kept == []


# -- cancellation


async def test_a_publisher_that_is_cancelled_while_the_store_answers_loses_nothing() -> None:
    dlq = KeepingDlq()
    dlq.answer = anyio.Event()
    bus = make_bus(dlq)
    ran: list[object] = []
    bus.on(Order, id="mail", durable=True)(nothing)
    bus.on(Order, id="transient")(_appends(ran))
    async with bus, anyio.create_task_group() as group:
        group.start_soon(bus.publish, Order(number=1))
        await dlq.took.wait()
        dlq.answer = None
        group.cancel_scope.cancel()
    assert ran == []
    assert [(it.how, it.handler_id) for it in dlq.kept] == [
        ("accepted", "mail"),
        ("captured interrupted", "transient"),
    ]


# -- enqueue


async def test_enqueue_stores_durable_deliveries_before_it_returns_and_queues_the_rest() -> None:
    dlq = KeepingDlq()
    bus = make_bus(dlq)
    ran: list[object] = []
    bus.on(Order, id="mail", durable=True)(nothing)
    bus.on(Order, id="transient")(_appends(ran))
    async with bus:
        receipt = await bus.enqueue(Order(number=1))
        assert ([it.handler_id for it in dlq.kept], ran) == (["mail"], [])
        assert receipt.deliveries["mail"].dead_letter_id == "1"
        assert receipt.deliveries["transient"].state == "accepted"
        await bus.wait_idle()
        assert receipt.deliveries["transient"].state == "succeeded"
        assert receipt.deliveries["mail"].state == "accepted"
    assert ran == [Order(number=1)]
    assert bus.metrics.published == 1


async def test_enqueue_that_cannot_store_its_durable_deliveries_accepts_nothing() -> None:
    dlq = KeepingDlq()
    dlq.refuses = StoreUnavailable("the disk is full")
    bus = make_bus(dlq)
    ran: list[object] = []
    bus.on(Order, id="mail", durable=True)(nothing)
    bus.on(Order, id="transient")(_appends(ran))
    async with bus:
        with pytest.raises(CaptureFailed, match="delivered to nobody"):
            await bus.enqueue(Order(number=1))
        await bus.wait_idle()
    assert ran == []
    assert bus.metrics.published == 0


async def test_an_event_for_durable_handlers_only_needs_no_room_in_the_queue() -> None:
    dlq = KeepingDlq()
    bus = make_bus(dlq, queue_size=1, overflow="raise", enqueue_concurrency=1)
    go = anyio.Event()

    async def waits(_payload: object) -> None:
        await go.wait()

    bus.on("slow", id="slow")(waits)
    bus.on(Order, id="mail", durable=True)(nothing)
    bus.on("both", id="kept", durable=True)(nothing)
    bus.on("both", id="run")(nothing)
    async with bus:
        await bus.enqueue("slow")
        await anyio.wait_all_tasks_blocked()
        await bus.enqueue("slow")  # the queue is full now
        receipt = await bus.enqueue(Order(number=1))
        assert receipt.deliveries["mail"].state == "accepted"
        with pytest.raises(BusFull):
            await bus.enqueue("both")
        assert [it.handler_id for it in dlq.kept] == ["mail"], "what is refused is not stored either"
        go.set()
        await bus.wait_idle()
        await bus.enqueue("both")
    assert [it.handler_id for it in dlq.kept] == ["mail", "kept"]


async def test_room_in_the_queue_is_kept_while_the_store_answers() -> None:
    dlq = KeepingDlq()
    dlq.answer = anyio.Event()
    bus = make_bus(dlq, queue_size=1, overflow="raise")
    bus.on("both", id="kept", durable=True)(nothing)
    bus.on("both", id="run")(nothing)
    bus.on("plain", id="plain")(nothing)
    async with bus, anyio.create_task_group() as group:
        group.start_soon(bus.enqueue, "both")
        await dlq.took.wait()
        with pytest.raises(BusFull):
            await bus.enqueue("plain")
        dlq.answer.set()
        await anyio.wait_all_tasks_blocked()
        await bus.wait_idle()
        assert (await bus.enqueue("plain")).deliveries["plain"].state == "accepted"


async def test_enqueue_that_waited_for_room_finds_the_bus_closed() -> None:
    dlq = KeepingDlq()
    bus = make_bus(dlq, queue_size=1, enqueue_concurrency=1)
    go = anyio.Event()
    errors: list[Exception] = []

    async def waits(_payload: object) -> None:
        await go.wait()

    async def enqueues() -> None:
        try:
            await bus.enqueue("both")
        except BusClosed as error:
            errors.append(error)

    bus.on("slow", id="slow")(waits)
    bus.on("both", id="kept", durable=True)(nothing)
    bus.on("both", id="run")(nothing)
    async with anyio.create_task_group() as group, bus:
        await bus.enqueue("slow")
        await anyio.wait_all_tasks_blocked()
        await bus.enqueue("slow")
        group.start_soon(enqueues)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(_set_soon, go)
    assert len(errors) == 1
    assert dlq.kept == []


async def _set_soon(event: anyio.Event) -> None:
    await anyio.wait_all_tasks_blocked()
    event.set()


# -- with the real queue


async def test_a_durable_delivery_is_run_by_a_worker_with_its_own_attempts(dlq: DeadLetterQueue) -> None:
    bus = EventBus(dlq=dlq)
    runs: list[object] = []

    @bus.on(Order, id="mail", durable=True, retry=RetryPolicy(attempts=3, delay=0))
    async def mail(order: Order, envelope: Any) -> None:
        runs.append(envelope.replay)
        if len(runs) < 3:
            raise ConnectionError("try again")

    with Recorder(bus) as recorder:
        async with bus:
            await bus.publish(Order(number=1))
            await bus.wait_idle()
            assert (await bus.stats()).total == 0, "a durable first run that succeeds leaves nothing"
    assert runs == [None, None, None]
    (accepted,) = recorder.assert_accepted("mail")
    assert accepted.result.state == "accepted"
    assert recorder.accepted == (accepted,)


@asyncio_only
async def test_two_cancellations_in_a_row_store_everything_once() -> None:
    dlq = KeepingDlq()
    dlq.answer = anyio.Event()
    bus = make_bus(dlq)
    bus.on(Order, id="mail", durable=True)(nothing)
    bus.on(Order, id="transient", ordering_key="number")(nothing)
    async with bus:
        task = asyncio.create_task(bus.publish(Order(number=1)))
        await dlq.took.wait()
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [(it.how, it.handler_id) for it in dlq.kept] == [
        ("accepted", "mail"),
        ("captured interrupted", "transient"),
    ]
