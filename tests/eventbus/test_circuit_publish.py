"""``circuit=`` on the publish path: while a handler's circuit is open, what is published is stored."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from pydantic import BaseModel, SecretStr
from structlog.testing import capture_logs

from eventbus import CircuitPolicy, EventBus, NoDeadLetterQueue, RetryPolicy, TelemetryEvent
from eventbus.testing import FakeClock
from eventbus_dlq import DeadLetterQuery, DeadLetterQueue, MemoryStore

POLICY = CircuitPolicy(threshold=3, delay=10.0, max_delay=60.0, full=4)


class Partner:
    """What a handler talks to: it answers, or it does not."""

    def __init__(self) -> None:
        self.error: BaseException | None = ConnectionError("down")
        self.seen: list[Any] = []
        self.done: list[Any] = []
        self.gate: anyio.Event | None = None

    async def __call__(self, event: Any) -> None:
        self.seen.append(event)
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.done.append(event)


def bus_on(
    store: MemoryStore,
    clock: FakeClock,
    partner: Any,
    *,
    worker: bool = False,
    bus: Any = None,
    **options: Any,
) -> EventBus:
    dlq = DeadLetterQueue(store, worker=worker, clock=clock, lease=1e6)
    made = EventBus(dlq=dlq, **(bus or {}))
    made.subscribe("job", partner, id="handler", **{"circuit": POLICY, **options})
    return made


async def state_of(bus: EventBus, event: Any, **options: Any) -> str:
    receipt = await bus.publish("job", event, **options)
    return receipt.deliveries["handler"].state


async def break_it(bus: EventBus) -> None:
    for number in range(3):
        assert await state_of(bus, f"broken {number}") == "dead_lettered"
    assert bus.circuits()["handler"].state == "open"


async def until(there: Any) -> None:
    with anyio.fail_after(10):
        while not there():
            await checkpoint()


async def letters_of(store: MemoryStore, **query: Any) -> list[Any]:
    page = await store.find(DeadLetterQuery(**query), order="oldest")
    return [await store.get(it.id) for it in page.items]


async def test_what_is_published_while_it_is_open_is_stored_and_not_run(store: MemoryStore) -> None:
    clock, partner = FakeClock(), Partner()
    bus = bus_on(store, clock, partner)
    async with bus:
        await break_it(bus)
        receipt = await bus.publish("job", "later", tenant="acme")
        result = receipt.deliveries["handler"]
        assert (result.state, result.error, result.attempts, receipt.ok) == ("parked", None, 0, True)
        assert result.dead_letter_id is not None
        letter = await bus.dead_letter(result.dead_letter_id)
        assert (letter.state, letter.reason, letter.payload, letter.tenant) == (
            "accepted",
            None,
            "later",
            "acme",
        )
        assert "later" not in partner.seen
        numbers = bus.metrics.snapshot()["handler"]
        assert (numbers.parked, numbers.accepted, numbers.failed, numbers.in_flight) == (1, 0, 3, 0)


async def test_what_was_stored_is_run_by_a_worker_when_it_closes(store: MemoryStore) -> None:
    clock, partner = FakeClock(), Partner()
    bus = bus_on(store, clock, partner, worker=True)
    async with bus:
        await break_it(bus)
        for number in range(12):
            assert await state_of(bus, number) == "parked"
        partner.error = None
        clock.advance(10)
        await until(lambda: len(partner.done) == 12)
        assert bus.circuits()["handler"].state == "closed"
        assert await state_of(bus, "now") == "succeeded"
    assert await letters_of(store, state={"accepted"}) == []


async def test_one_publish_at_a_time_is_the_probe(store: MemoryStore) -> None:
    clock, partner = FakeClock(), Partner()
    bus = bus_on(store, clock, partner)
    async with bus:
        await break_it(bus)
        clock.advance(9.9)
        assert await state_of(bus, "too early") == "parked"
        clock.advance(0.1)
        partner.gate, partner.error = anyio.Event(), None
        states: dict[str, str] = {}

        async def publish(name: str) -> None:
            states[name] = await state_of(bus, name)

        async with anyio.create_task_group() as group:
            group.start_soon(publish, "first")
            await until(lambda: "first" in partner.seen)
            assert bus.circuits()["handler"].state == "probing"
            await publish("beside it")
            assert states == {"beside it": "parked"}
            partner.gate.set()
        assert (states["first"], bus.circuits()["handler"].state) == ("succeeded", "reopening")
        for number in range(2):
            assert await state_of(bus, number) == "succeeded"
        assert bus.circuits()["handler"].state == "closed"


async def test_a_probe_that_fails_is_stored_as_ever_and_the_next_one_is_later(store: MemoryStore) -> None:
    clock, partner = FakeClock(), Partner()
    bus = bus_on(store, clock, partner, retry=RetryPolicy(attempts=1))
    async with bus:
        await break_it(bus)
        for wait in (10, 20, 40, 60, 60):
            clock.advance(wait - 0.5)
            assert await state_of(bus, "between") == "parked"
            clock.advance(0.5)
            assert await state_of(bus, "probe") == "dead_lettered"
        status = bus.circuits()["handler"]
        assert (status.state, status.failures, status.error_type) == ("open", 8, "ConnectionError")
        assert status.opened_at is not None
        assert status.next_probe_at is not None
        assert (status.next_probe_at - clock.now).total_seconds() == pytest.approx(60)
        assert (clock.now - status.opened_at).total_seconds() == pytest.approx(190)


async def test_permanent_and_unknown_errors_do_not_open_it(store: MemoryStore) -> None:
    clock, partner = FakeClock(), Partner()
    bus = bus_on(store, clock, partner)
    async with bus:
        for error in (ValueError("no"), KeyError("a"), RuntimeError("what?")):
            partner.error = error
            for number in range(10):
                assert await state_of(bus, number) == "dead_lettered"
        assert bus.circuits()["handler"].state == "closed"


async def test_it_stays_open_for_a_handler_and_not_for_its_neighbours(store: MemoryStore) -> None:
    clock, partner, neighbour = FakeClock(), Partner(), Partner()
    neighbour.error = None
    bus = bus_on(store, clock, partner)
    bus.subscribe("job", neighbour, id="neighbour", circuit=POLICY)
    async with bus:
        await break_it(bus)
        receipt = await bus.publish("job", 1)
        assert {name: it.state for name, it in receipt.deliveries.items()} == {
            "handler": "parked",
            "neighbour": "succeeded",
        }


async def test_attempts_within_the_process_end_when_it_opens(store: MemoryStore) -> None:
    clock, partner = FakeClock(), Partner()
    retry = RetryPolicy(attempts=4, backoff="fixed", delay=5.0, jitter=False)
    bus = bus_on(store, clock, partner, retry=retry)

    async def pass_by(seconds: int) -> None:
        for _ in range(seconds):
            for _ in range(40):
                await checkpoint()
            clock.advance(1)

    async with bus:
        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(bus.publish, "job", number)  # at 0, 5, 10 and 15 seconds
            await pass_by(8)
            group.start_soon(bus.publish, "job", "later")  # at 8, 13 and 18, and not at 23
            await pass_by(20)
        assert [partner.seen.count(it) for it in (0, 1, 2, "later")] == [4, 4, 4, 3]
        assert await state_of(bus, "probe") == "dead_lettered"
        assert partner.seen.count("probe") == 1


async def test_those_that_wait_for_a_place_when_it_opens_are_stored(store: MemoryStore) -> None:
    clock, partner = FakeClock(), Partner()
    bus = bus_on(store, clock, partner, max_concurrency=1)
    states: list[str] = []

    async def publish(number: int) -> None:
        states.append(await state_of(bus, number))

    async with bus:
        async with anyio.create_task_group() as group:
            partner.gate = anyio.Event()
            for number in range(20):
                group.start_soon(publish, number)
            await anyio.wait_all_tasks_blocked()
            partner.gate.set()
        assert (states.count("dead_lettered"), states.count("parked"), len(partner.seen)) == (3, 17, 3)
        assert bus.metrics.snapshot()["handler"].in_flight == 0


async def test_an_order_is_kept_while_it_opens_and_closes(store: MemoryStore) -> None:
    clock, partner = FakeClock(), Partner()
    bus = bus_on(store, clock, partner, worker=True, ordering_key=lambda event: event[0])
    async with bus:
        for number in range(3):
            await bus.publish("job", [f"broken {number}", 0])
        assert bus.circuits()["handler"].state == "open"
        for number in range(6):
            assert await state_of(bus, ["a", number]) == "parked"
        partner.error = None
        clock.advance(10)
        for number in range(6, 12):
            assert await state_of(bus, ["a", number]) in ("parked", "accepted", "succeeded")
            await checkpoint()
        await until(lambda: len([it for it in partner.done if it[0] == "a"]) == 12)
        assert [number for key, number in partner.done if key == "a"] == list(range(12))


async def test_what_its_condition_does_not_want_is_neither_stored_nor_a_probe(store: MemoryStore) -> None:
    clock, partner = FakeClock(), Partner()
    bus = bus_on(store, clock, partner, when=lambda envelope: envelope.tenant != "nobody")
    async with bus:
        await break_it(bus)
        assert await state_of(bus, 1, tenant="nobody") == "skipped"
        clock.advance(10)
        assert await state_of(bus, 1, tenant="nobody") == "skipped"
        assert bus.circuits()["handler"].state == "open"
        partner.error = None
        assert await state_of(bus, 2) == "succeeded"


async def test_a_probe_whose_publisher_is_cancelled_makes_room_for_another(store: MemoryStore) -> None:
    clock, partner = FakeClock(), Partner()
    bus = bus_on(store, clock, partner)
    async with bus:
        await break_it(bus)
        clock.advance(10)
        partner.gate = anyio.Event()
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(bus.publish, "job", "cancelled")
                await until(lambda: "cancelled" in partner.seen)
                scope.cancel()
        assert bus.circuits()["handler"].state == "open"
        partner.gate, partner.error = None, None
        assert await state_of(bus, "next") == "succeeded"
    (letter,) = await letters_of(store, text="cut short")
    assert (letter.state, letter.reason, letter.payload) == ("pending", "interrupted", "cancelled")


async def test_enqueued_events_obey_it_too(store: MemoryStore) -> None:
    clock, partner = FakeClock(), Partner()
    bus = bus_on(store, clock, partner)
    async with bus:
        await break_it(bus)
        receipt = await bus.enqueue("job", "queued")
        await bus.wait_idle()
        assert receipt.deliveries["handler"].state == "parked"


async def test_a_plain_function_has_a_circuit_as_well(store: MemoryStore) -> None:
    seen: list[Any] = []

    def handler(event: Any) -> None:
        seen.append(event)
        raise TimeoutError

    bus = bus_on(store, FakeClock(), handler)
    async with bus:
        await break_it(bus)
        assert await state_of(bus, "later") == "parked"
    assert len(seen) == 3


async def test_opening_and_closing_are_told_and_logged_without_what_the_error_says(
    store: MemoryStore,
) -> None:
    clock, partner = FakeClock(), Partner()
    partner.error = ConnectionError("password=hunter2")
    told: list[TelemetryEvent] = []
    bus = bus_on(store, clock, partner, bus={"observers": [told.append]})
    with capture_logs() as lines:
        async with bus:
            await break_it(bus)
            clock.advance(10)
            partner.error = None
            for number in range(3):
                await bus.publish("job", number)
    changes = [dict(it.fields) for it in told if it.name == "circuit.changed"]
    assert [(it["state"], it["failures"]) for it in changes] == [
        ("open", 3),
        ("probing", 3),
        ("reopening", 0),
        ("closed", 0),
    ]
    assert all(it["handler"] == "handler" for it in changes)
    by_name = {line["event"]: line for line in lines if line["event"].startswith("circuit.")}
    assert list(by_name) == ["circuit.opened", "circuit.closed"]
    opened, closed = by_name.values()
    assert (opened["handler_id"], opened["failures"], opened["error_type"]) == (
        "handler",
        3,
        "ConnectionError",
    )
    assert (closed["handler_id"], closed["seconds"]) == ("handler", 10.0)
    assert "hunter2" not in str(changes) + str(by_name)


async def test_a_circuit_asks_for_a_place_to_keep_deliveries() -> None:
    async def handler(event: Any) -> None: ...

    with pytest.raises(NoDeadLetterQueue, match=r"handler 'a' has a circuit.*leave circuit out"):
        EventBus().subscribe("job", handler, id="a", circuit=CircuitPolicy())
    EventBus().subscribe("job", handler, id="a", circuit=False)


async def test_what_cannot_be_kept_can_have_no_circuit(dlq: DeadLetterQueue) -> None:
    class Login(BaseModel):
        password: SecretStr

    async def handler(event: Login) -> None: ...

    with pytest.raises(ValueError, match=r"handler 'a' has a circuit, and .*Login has secret fields"):
        EventBus(dlq=dlq).subscribe(Login, handler, id="a", circuit=CircuitPolicy())


async def test_what_is_no_policy_is_refused_and_nothing_is_subscribed(dlq: DeadLetterQueue) -> None:
    async def handler(event: Any) -> None: ...

    bus = EventBus(dlq=dlq)
    with pytest.raises(ValueError, match="circuit='on' of handler 'a' must be a CircuitPolicy"):
        bus.subscribe("job", handler, id="a", circuit="on")  # type: ignore[arg-type]
    assert bus.subscriptions == ()


async def test_a_handler_that_is_gone_leaves_no_circuit_behind(store: MemoryStore) -> None:
    clock, partner = FakeClock(), Partner()
    bus = bus_on(store, clock, partner)
    async with bus:
        await break_it(bus)
        bus.breakers.steady.add("handler")
        bus.unsubscribe(bus.subscriptions[0])
        assert bus.circuits() == {}
        assert not bus.breakers.steady
        bus.subscribe("job", partner, id="handler", circuit=POLICY)
        partner.error = None
        assert await state_of(bus, 1) == "succeeded"
