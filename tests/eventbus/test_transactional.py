"""Publishing in a session of the application: every delivery is handed over, and none runs here."""

from __future__ import annotations

from typing import Any

import anyio.to_thread
import pytest
from keeping import KeepingDlq
from pydantic import BaseModel, SecretStr

from eventbus import BusClosed, EventBus, InvalidEvent, NoDeadLetterQueue, TelemetryEvent
from eventbus.testing import Recorder
from eventbus_dlq import StoreUnavailable


class Order(BaseModel):
    number: int


class Login(BaseModel):
    password: SecretStr


def make_bus(dlq: KeepingDlq | None, **settings: Any) -> EventBus:
    return EventBus(dlq=dlq, **settings)  # type: ignore[arg-type]  # a stand-in


async def never(_event: Any) -> None:
    raise AssertionError("a handler ran in the publisher of a transaction")


async def test_every_handler_gets_a_row_in_the_session_and_none_runs() -> None:
    dlq = KeepingDlq()
    seen: list[TelemetryEvent] = []
    bus = make_bus(dlq, history=5, observers=[seen.append])
    bus.on(Order, id="transient", priority=3, ordering_key="number")(never)
    bus.on(Order, id="durable", durable=True)(never)
    bus.on("Order", id="small", when=lambda envelope: envelope.payload.number < 5)(never)
    session = object()
    async with bus:
        receipt = await bus.publish(Order(number=7), session=session, tenant="acme", tags=["vip"])
        assert bus.history == (receipt,)
    assert dlq.sessions == [session]
    assert [(it.handler_id, it.ordering_key) for it in dlq.kept] == [("transient", "7"), ("durable", None)]
    kept = dlq.kept[0].given
    assert (kept.payload, kept.priority, kept.tags, kept.envelope.tenant) == (
        b'{"number":7}',
        3,
        ("vip",),
        "acme",
    )
    assert {name: result.state for name, result in receipt.deliveries.items()} == {
        "transient": "accepted",
        "durable": "accepted",
        "small": "skipped",
    }
    assert receipt.deliveries["durable"].dead_letter_id == "2"
    assert [event.name for event in seen] == ["event.published", "delivery.accepted", "delivery.accepted"]
    assert bus.metrics.published == 1
    assert bus.metrics.snapshot()["small"].skipped == 1


async def test_publish_in_awaits_nothing_and_works_in_any_thread() -> None:
    dlq = KeepingDlq()
    bus = make_bus(dlq)
    bus.on(Order, id="transient")(never)
    async with bus:
        receipt = bus.publish_in("session", Order(number=1), id="one")
        assert receipt.event_id == "one"
        named = bus.publish_in("session", "Order", {"number": "2"}, ordering_key=4)
        threaded = await anyio.to_thread.run_sync(lambda: bus.publish_in("session", Order(number=3)))
    assert [(it.payload, it.ordering_key) for it in dlq.kept] == [
        (Order(number=1), None),
        (Order(number=2), "4"),
        (Order(number=3), None),
    ]
    assert {result.state for it in (receipt, named, threaded) for result in it.deliveries.values()} == {
        "accepted"
    }


async def test_a_plain_handler_publishes_in_its_thread_as_part_of_the_flow() -> None:
    dlq = KeepingDlq()
    bus = make_bus(dlq)
    bus.on(Order, id="row")(never)

    @bus.on("outer", id="outer")
    def outer(_event: object) -> None:
        bus.publish_in("session", Order(number=1))

    async with bus:
        receipt = await bus.publish("outer", tenant="acme")
    assert receipt.ok
    envelope = dlq.kept[0].given.envelope
    assert (envelope.causation_id, envelope.correlation_id, envelope.tenant) == (
        receipt.event_id,
        receipt.correlation_id,
        "acme",
    )


async def test_an_event_that_nobody_wants_touches_no_session() -> None:
    dlq = KeepingDlq()
    bus = make_bus(dlq)
    async with bus:
        receipt = await bus.publish("unknown", session=object())
        bus.publish_in(object(), "unknown")
    assert (dlq.sessions, dict(receipt.deliveries)) == ([], {})
    assert (bus.metrics.unhandled, bus.metrics.published) == (2, 2)


async def test_what_the_session_refuses_goes_to_the_publisher_and_changes_nothing() -> None:
    dlq = KeepingDlq()
    bus = make_bus(dlq)
    bus.on(Order, id="first", once=True)(never)
    dlq.refuses = StoreUnavailable("the transaction is aborted")
    async with bus:
        with pytest.raises(StoreUnavailable):
            await bus.publish(Order(number=1), session="session")
        with pytest.raises(StoreUnavailable):
            bus.publish_in("session", Order(number=1))
        assert bus.metrics.published == 0
        dlq.refuses = None
        receipt = await bus.publish(Order(number=1), session="session")
        again = await bus.publish(Order(number=2), session="session")
    assert receipt.deliveries["first"].state == "accepted", "once was not used up by what came to nothing"
    assert again.deliveries["first"].state == "skipped"


async def test_what_cannot_be_run_from_the_store_is_refused_before_anything_is_written() -> None:
    dlq = KeepingDlq()
    bus = make_bus(dlq)

    def broken(_envelope: object) -> bool:
        raise ZeroDivisionError

    bus.on(Login, id="login", once=True)(never)
    bus.on(Order, id="fine", once=True)(never)
    bus.on(Order, id="odd", when=broken)(never)
    async with bus:
        with pytest.raises(InvalidEvent, match="'Login' has secrets"):
            bus.publish_in("session", Login(password=SecretStr("hunter2")))
        with pytest.raises(InvalidEvent, match=r"when= of handler 'odd' raised ZeroDivisionError"):
            bus.publish_in("session", Order(number=1))
        with pytest.raises(InvalidEvent, match="publish an instance"):
            bus.publish_in("session", Order)
        with pytest.raises(InvalidEvent, match="two payloads"):
            bus.publish_in("session", Order(number=1), {"number": 1})
    assert (dlq.kept, dlq.sessions) == ([], [])
    assert not any(subscription.spent for subscription in bus.subscriptions)


async def test_a_session_without_a_dead_letter_queue_is_refused() -> None:
    bus = make_bus(None)
    ran: list[Order] = []

    async def handler(event: Order) -> None:
        ran.append(event)

    bus.on(Order, id="run")(handler)
    async with bus:
        with pytest.raises(NoDeadLetterQueue):
            await bus.publish(Order(number=1), session="session")
        with pytest.raises(NoDeadLetterQueue):
            bus.publish_in("session", Order(number=1))
        assert ran == []
        await bus.publish(Order(number=1), session=None)
    assert ran == [Order(number=1)]


async def test_a_session_belongs_to_publish_only() -> None:
    bus = make_bus(KeepingDlq())
    async with bus:
        with pytest.raises(TypeError, match="session= belongs to publish"):
            await bus.enqueue("event", session="session")  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="session= belongs to publish"):
            await bus.capture("event", ValueError(), handler="x", session="s")  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="unknown option sesion"):
            await bus.publish("event", sesion="session")  # type: ignore[call-arg]
    with pytest.raises(BusClosed, match="not running: start it"):
        await bus.publish("event", session="session")
    with pytest.raises(BusClosed, match="not running: start it"):
        bus.publish_in("session", "event")


async def test_the_recorder_sees_what_is_published_in_a_session() -> None:
    dlq = KeepingDlq()
    bus = make_bus(dlq)
    bus.on(Order, id="mail")(never)
    async with bus:
        with Recorder(bus) as recorder:
            bus.publish_in("session", Order(number=1))
            await bus.publish(Order(number=2), session="session")
        assert [envelope.payload.number for envelope in recorder.published] == [1, 2]
        assert len(recorder.assert_accepted("mail")) == 2
        bus.publish_in("session", Order(number=3))
        assert len(recorder.published) == 2


async def test_the_recorder_tells_what_was_enqueued_from_what_is_stored() -> None:
    bus = make_bus(None)
    go = anyio.Event()

    async def waits(_event: object) -> None:
        await go.wait()

    bus.on("slow", id="slow")(waits)
    with Recorder(bus) as recorder:
        async with bus:
            await bus.enqueue("slow")
            with pytest.raises(
                AssertionError, match="'slow' is 'accepted', and was to be stored for a worker"
            ):
                recorder.assert_accepted("slow")
            assert recorder.accepted == ()
            go.set()
