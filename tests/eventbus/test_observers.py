"""Observers: every named event, with exactly the fields that the catalogue promises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import structlog.testing

from eventbus import CircuitPolicy, EventBus, RetryPolicy, TelemetryEvent
from eventbus.telemetry import CATALOGUE, Telemetry
from eventbus.testing import FakeClock
from eventbus_dlq import DeadLetter, DeadLetterQueue, MemoryStore, StoreUnavailable
from eventbus_dlq.store import Lease


class SometimesDown(MemoryStore):
    """A store that a test switches off."""

    down = False

    async def add(self, letters: Sequence[DeadLetter]) -> Sequence[str]:
        if self.down:
            raise StoreUnavailable("gone")
        return await super().add(letters)


def add_stored_handlers(
    bus: EventBus, store: MemoryStore, clock: FakeClock, seen: Sequence[TelemetryEvent]
) -> None:
    """Subscribe one handler that keeps an order and fails, and a durable one that loses its first lease."""

    @bus.on("steps", id="steps", ordering_key=lambda event: "k")
    async def steps(event: Any) -> None:
        raise RuntimeError("the first one fails")

    @bus.on("mail", id="mail", durable=True)
    async def mail(event: Any) -> None:
        if "lease.lost" not in [it.name for it in seen]:  # somebody else takes its lease away
            leases = [
                Lease(dead_letter_id=it.dead_letter_id, token=it.token)
                for it in await store.leased(now=clock.now)
            ]
            await store.release(leases, now=clock.now)


async def test_every_event_of_the_catalogue_is_told_with_exactly_its_fields() -> None:
    seen: list[TelemetryEvent] = []
    store, clock = SometimesDown(), FakeClock()
    dlq = DeadLetterQueue(store, clock=clock, capture_timeout=0, lease=0.05)
    bus = EventBus(dlq=dlq, observers=[seen.append], shutdown_grace=0)
    error: BaseException | None = RuntimeError("flaky")
    began = anyio.Event()

    @bus.on("job", id="flaky", retry=RetryPolicy(attempts=2, delay=0))
    async def flaky(event: Any) -> None:
        if error is not None:
            raise error

    @bus.on("job", id="skipped", when=lambda envelope: False)
    async def skipped(event: Any) -> None: ...

    @bus.on("slow", id="slow", timeout=0.01)
    async def slow(event: Any) -> None:
        await anyio.sleep_forever()

    @bus.on("call", id="call", circuit=CircuitPolicy(threshold=1))
    async def call(event: Any) -> None:
        raise ConnectionError

    @bus.on("endless", id="endless")
    async def endless(event: Any) -> None:
        began.set()
        await anyio.sleep_forever()

    add_stored_handlers(bus, store, clock, seen)

    async def until(name: str) -> None:
        while name not in [event.name for event in seen]:
            clock.advance(10)
            await anyio.wait_all_tasks_blocked()

    async with bus:
        await bus.configure(automatic_retries=False, by="ann")  # what happens to the letter is told here
        receipt = await bus.publish("job", 1, tenant="acme", correlation_id="req-1")
        letter_id = str(receipt.deliveries["flaky"].dead_letter_id)
        await bus.publish("slow", 1)
        await bus.publish("call", 1)
        await bus.publish("nobody", 1)
        await bus.replay(letter_id)
        error = LookupError("a bug")
        await bus.replay(letter_id)
        await bus.snooze(letter_id, until=clock.now, by="ann")
        await store.claim([letter_id], owner="dead", lease=1, now=clock.now)
        await until("dead_letter.rescued")
        error = None
        await bus.replay(letter_id)
        await bus.publish("steps", {"number": 1})
        behind = await bus.publish("steps", {"number": 2})
        assert behind.deliveries["steps"].state == "parked"
        assert (await bus.publish("mail", 1)).deliveries["mail"].state == "accepted"
        await until("lease.lost")
        error, store.down = RuntimeError("x"), True
        await bus.enqueue("job", 2)
        await bus.wait_idle()
        store.down = False
        await bus.enqueue("endless", 1)
        await began.wait()
        await bus.pause(tenant="acme", reason="an audit", by="ann")
    assert {event.name for event in seen} == set(CATALOGUE)
    for event in seen:
        assert set(event.fields) == set(CATALOGUE[event.name]), event
    of_the_letter = [it for it in seen if it.fields.get("dead_letter") == letter_id]
    assert all(it.fields["tenant"] == "acme" for it in of_the_letter)
    announced = [it for it in of_the_letter if it.name == "dead_letter.exhausted"]
    assert len(announced) == 1  # at some time after the move
    assert [it.name for it in of_the_letter if it not in announced] == [
        "dead_letter.captured",
        "dead_letter.replayed",
        "dead_letter.replayed",
        "dead_letter.changed",
        "dead_letter.rescued",
        "dead_letter.replayed",
        "dead_letter.resolved",
    ]


async def test_the_order_of_one_deliverys_events() -> None:
    seen: list[str] = []
    bus = EventBus(observers=[lambda event: seen.append(event.name)])

    @bus.on("job", id="flaky", retry=RetryPolicy(attempts=2, delay=0))
    async def flaky(event: Any) -> None:
        raise RuntimeError("x")

    async with bus:
        await bus.publish("job", 1)
    assert seen == ["event.published", "delivery.started", "delivery.retried", "delivery.failed"]


async def test_an_observer_that_raises_is_logged_and_disturbs_nobody() -> None:
    seen: list[str] = []

    def broken(event: TelemetryEvent) -> None:
        raise RuntimeError("the observer's own fault")

    bus = EventBus(observers=[broken, lambda event: seen.append(event.name)])

    @bus.on("job", id="handler")
    async def handler(event: Any) -> None: ...

    with structlog.testing.capture_logs() as logs:
        async with bus:
            assert (await bus.publish("job", 1)).ok
    assert seen == ["event.published", "delivery.started", "delivery.succeeded"]
    failed = [line for line in logs if line["event"] == "observer.failed"]
    assert [line["telemetry_event"] for line in failed] == seen
    assert "broken" in failed[0]["observer"]


def test_nobody_who_listens_costs_nothing() -> None:
    assert not Telemetry()
    Telemetry().emit("event.published")


def test_the_table_in_the_documentation_names_the_catalogue() -> None:
    import eventbus.telemetry

    assert eventbus.telemetry.__doc__ is not None
    documented = [
        line.split("``")[1] for line in eventbus.telemetry.__doc__.splitlines() if line.startswith("``")
    ]
    assert documented == list(CATALOGUE)
