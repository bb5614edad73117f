"""The whole public API as a user writes it: type-checked by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, assert_type

from pydantic import BaseModel
from starlette.applications import Starlette

from eventbus import (
    CallNext,
    CaptureFailed,
    Category,
    CircuitPolicy,
    CircuitState,
    CircuitStatus,
    Classification,
    ClassifyRule,
    Clock,
    Control,
    ControlState,
    Delivery,
    DeliveryResult,
    DrainInterrupted,
    Envelope,
    EventBus,
    HandlerMetrics,
    Kind,
    Latency,
    Middleware,
    Observer,
    Paused,
    Receipt,
    ReplayInfo,
    RetryPolicy,
    Route,
    Scope,
    Subscription,
    SystemClock,
    TelemetryEvent,
    UnknownEvent,
    UnknownHandler,
    add_delivery_context,
    annotate,
    classify,
    current_envelope,
)
from eventbus.testing import FakeClock, RecordedDelivery, Recorder
from eventbus_dlq import (
    DEFAULT_REDELIVERY,
    Attempt,
    CauseRecord,
    Configuration,
    DeadLetter,
    DeadLetterQuery,
    DeadLetterQueue,
    DeadLetterState,
    DeadLetterStore,
    DeadLetterSummary,
    ErrorRecord,
    MemoryStore,
    Operation,
    Page,
    Processed,
    Reason,
    Recovery,
    ReplayOutcome,
    Schedule,
    Stats,
)


class OrderPlaced(BaseModel):
    order_id: int
    total: Decimal


@dataclass
class Shipped:
    parcel: str


class Late(Exception):
    """An application's own error."""


def rule(error: BaseException) -> Classification | Kind | None:
    return Kind.UNAVAILABLE if isinstance(error, Late) else None


async def log_it(delivery: Delivery, call_next: CallNext) -> None:
    print(delivery.handler_id, delivery.payload, delivery.attempt, delivery.envelope.id)  # noqa: T201
    await call_next(delivery)


def observe(event: TelemetryEvent) -> None:
    assert_type(event.name, str)
    assert_type(event.fields, Mapping[str, Any])


store: DeadLetterStore = MemoryStore()
clock: Clock = SystemClock()
middleware: Sequence[Middleware] = [log_it]
observers: Sequence[Observer] = [observe]
rules: Sequence[ClassifyRule] = [rule]

dlq = DeadLetterQueue(
    store,
    lease=30.0,
    redelivery=DEFAULT_REDELIVERY,
    max_payload=1_000_000,
    capture_timeout=5.0,
    clock=clock,
)
bus = EventBus(
    dlq=dlq,
    name="shop",
    middleware=middleware,
    observers=observers,
    retry=RetryPolicy(attempts=3, backoff="linear", delay=1, multiplier=2, max_delay=60, jitter=False),
    classify=rules,
    concurrency="serial",
    queue_size=10,
    overflow="raise",
    enqueue_concurrency=5,
    shutdown_grace=10.0,
    history=100,
    clock=FakeClock(datetime(2026, 1, 1, tzinfo=UTC)),
)


@bus.on(
    OrderPlaced,
    "order.*",
    id="billing.charge",
    aliases=("charge",),
    retry=RetryPolicy(attempts=2),
    timeout=5,
    max_concurrency=3,
    when=lambda envelope: envelope.tenant == "acme",
    once=False,
    stage=0,
    priority=1,
    tags=["billing"],
    classify=rules,
    redelivery=RetryPolicy(attempts=5, delay=60),
    circuit=CircuitPolicy(
        threshold=5, delay=1, multiplier=2, max_delay=60, growth=2, full=32, max_outage=86_400
    ),
)
async def charge(event: OrderPlaced, envelope: Envelope) -> None:
    assert_type(envelope.replay, ReplayInfo | None)
    envelope.annotate(step="charging")
    annotate(step="booking")
    if (current := current_envelope()) is not None:
        assert_type(current, Envelope)


@bus.on(Shipped)
def notify(event: Shipped) -> None:
    pass


assert_type(charge, Callable[[OrderPlaced, Envelope], Awaitable[None]])  # type: ignore[assert-type]  # a coroutine
app = Starlette(lifespan=bus.lifespan)


async def publishing() -> None:
    async with bus as running:
        assert_type(running, EventBus)
        receipt = await bus.publish(
            OrderPlaced(order_id=1, total=Decimal("9.90")),
            tenant="acme",
            correlation_id="req-7",
            causation_id=None,
            source="shop",
            user_id="u-1",
            priority=2,
            tags=("a",),
            headers={"traceparent": "00"},
            id="order-1",
        )
        assert_type(receipt, Receipt)
        assert_type(receipt.ok, bool)
        assert_type(receipt.failed, tuple[str, ...])
        assert_type(receipt.deliveries, Mapping[str, DeliveryResult])
        assert_type(receipt.deliveries["x"].error, BaseException | None)
        assert_type(receipt.deliveries["x"].dead_letter_id, str | None)
        receipt.raise_for_failures()
        assert_type(await bus.publish("order.placed", {"order_id": 1}, session=object()), Receipt)
        assert_type(bus.publish_in(object(), "order.placed", {"order_id": 1}, ordering_key=1), Receipt)
        assert_type(await bus.enqueue("order.placed", {"order_id": 1}, tenant="acme"), Receipt)
        await bus.wait_idle()
        subscription = bus.subscribe("order.*", notify, id="other", timeout=None, circuit=False)
        assert_type(subscription, Subscription)
        bus.unsubscribe(subscription)
        bus.upcast("order.placed", 1, lambda data: {**data, "total": "0"})
        assert_type(bus.history, tuple[Receipt, ...])
        assert_type(bus.circuits(), Mapping[str, CircuitStatus])
        assert_type(bus.circuits()["x"].state, CircuitState)
        assert_type(bus.circuits()["x"].next_probe_at, datetime | None)
        try:
            await bus.publish("order.placed", {})
        except CaptureFailed as failed:
            assert_type(failed.errors, tuple[BaseException, ...])
            assert_type(failed.receipt, Receipt | None)


async def controlling() -> None:
    until = datetime.now(UTC)
    control = await bus.pause("acme", event="order.placed", handler="x", reason="why", by="ann", until=until)
    assert_type(control, Control)
    assert_type(control.scope, Scope)
    assert_type(control.state, ControlState)
    assert_type(control.until, datetime | None)
    assert_type(await bus.drain(tenant="acme", reason="why", by="ann", wait=False), Control)
    assert_type(await bus.resume(tenant="acme", by="ann"), Control | None)
    assert_type(await bus.resume_all(reason="done"), tuple[Control, ...])
    assert_type(await bus.controls(), tuple[Control, ...])
    try:
        await bus.replay("id")
    except Paused as paused:
        assert_type(paused.control, Control | None)
    except (UnknownEvent, UnknownHandler, DrainInterrupted):
        pass


async def retrying() -> None:
    policy = RetryPolicy(attempts=5, delay=60, multiplier=5, max_delay=3_600)
    configuration = await bus.configure(handler="billing.charge", redelivery=policy, by="ann")
    assert_type(configuration, Configuration)
    assert_type(configuration.schedules, tuple[Schedule, ...])
    assert_type(configuration.schedules[0].redelivery, RetryPolicy)
    assert_type(configuration.automatic_retries, bool)
    assert_type(await bus.configure(event="order.placed", forget_redelivery=True), Configuration)
    assert_type(await bus.configure(automatic_retries=False), Configuration)
    assert_type(await bus.configuration(), Configuration)
    processed = await bus.process_due(limit=100)
    assert_type(processed, Processed)
    assert_type(processed.claimed, int)
    assert_type(processed.resolved + processed.pending + processed.exhausted + processed.released, int)
    assert_type(await bus.requeue("id", by="ann", note="fixed the bank"), DeadLetter)
    assert_type(await bus.requeue_all(DeadLetterQuery(handler="billing.charge"), by="ann"), Operation)


async def dead_letters() -> None:
    query = DeadLetterQuery(state={"pending"}, handler="billing.charge", since=datetime.now(UTC), priority=1)
    page = await bus.dead_letters(query, limit=50, cursor=None, order="oldest")
    assert_type(page, Page)
    assert_type(page.items, tuple[DeadLetterSummary, ...])
    assert_type(page.next_cursor, str | None)
    letter = await bus.dead_letter(page.items[0].id)
    assert_type(letter, DeadLetter)
    assert_type(letter.state, DeadLetterState)
    assert_type(letter.reason, Reason | None)
    assert_type(letter.error, ErrorRecord | None)
    if letter.error is not None:
        assert_type(letter.error.causes, tuple[CauseRecord, ...])
    assert_type(letter.history, tuple[Attempt, ...])
    outcome = await bus.replay(letter.id, by="ann", note="mended")
    assert_type(outcome, ReplayOutcome)
    assert_type(outcome.state, DeadLetterState)
    operation = await bus.replay_all(DeadLetterQuery.everything(), by="ann", note=None)
    assert_type(operation, Operation)
    assert_type(operation.done, int)
    stats = await bus.stats()
    assert_type(stats, Stats)
    assert_type(stats.recovery, Recovery)
    for changed in (
        await bus.resolve(letter.id, by="ann"),
        await bus.discard(letter.id),
        await bus.archive(letter.id, note="old"),
        await bus.restore(letter.id),
        await bus.snooze(letter.id, until=datetime.now(UTC)),
    ):
        assert_type(changed, DeadLetter)
    await bus.delete(letter.id)
    assert_type(await bus.capture("job", Late(), handler="h", data=1, annotations={"a": 1}, tenant="t"), str)
    assert_type(bus.dlq, DeadLetterQueue)
    assert_type(await bus.dlq.stats(tenants={"acme"}), Stats)


def looking() -> None:
    numbers = bus.metrics.snapshot()["billing.charge"]
    assert_type(numbers, HandlerMetrics)
    assert_type(numbers.latency, Latency)
    assert_type(numbers.latency.quantile(0.99), float)
    assert_type(numbers.by_event, Mapping[str, HandlerMetrics])
    answer = classify(Late(), rules=rules)
    assert_type(answer.kind, Kind)
    assert_type(answer.category, Category)
    assert_type(answer.route, Route)
    assert_type(answer.retry_after, float | None)
    envelope = Envelope.of(Shipped("p"), tenant="acme")
    assert_type(Envelope.from_cloudevent(envelope.to_cloudevent()), Envelope)
    add_delivery_context(None, "info", {"event": "x"})


async def testing() -> None:
    fake = FakeClock()
    fake.advance(1.5)
    await fake.wait_for_sleepers(2)
    with Recorder(bus) as recorder:
        await bus.publish("a", 1)
    assert_type(recorder.published, tuple[Envelope, ...])
    assert_type(recorder.failed, tuple[RecordedDelivery, ...])
    assert_type(recorder.assert_published(OrderPlaced, times=1), tuple[Envelope, ...])
    recorder.assert_not_published("order.placed")
    recorder.assert_succeeded("billing.charge")
    recorder.assert_failed("billing.charge", Late)
