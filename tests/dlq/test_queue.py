"""The queue: capturing failures, and every verb a person has for them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from eventbus import CaptureFailed, EventBus, NoDeadLetterQueue, RetryPolicy, TelemetryEvent
from eventbus.testing import FakeClock
from eventbus_dlq import (
    DeadLetter,
    DeadLetterNotFound,
    DeadLetterQuery,
    DeadLetterQueue,
    InvalidCursor,
    InvalidTransition,
    LeaseHeld,
    MemoryStore,
    StoreUnavailable,
)
from eventbus_dlq.store import DeadLetterStore


class UnsteadyStore(MemoryStore):
    """A store that refuses a number of times before it takes a letter."""

    def __init__(self, refusals: int, *, retryable: bool = True) -> None:
        super().__init__()
        self.refusals = refusals
        self.asked = 0
        self._retryable = retryable

    async def add(self, letters: Sequence[DeadLetter]) -> Sequence[str]:
        self.asked += 1
        if self.asked <= self.refusals:
            raise StoreUnavailable("database is locked", retryable=self._retryable)
        return await super().add(letters)


class UncertainStore:
    """A store whose first commit happens and is reported as failed."""

    def __init__(self, store: DeadLetterStore) -> None:
        self._store = store
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def add(self, letters: Sequence[DeadLetter]) -> Sequence[str]:
        ids = await self._store.add(letters)
        self.asked += 1
        if self.asked == 1:
            raise StoreUnavailable("the disk did not answer", retryable=True)
        return ids


def failing(dlq: DeadLetterQueue, error: BaseException | None = None, **options: Any) -> EventBus:
    bus = EventBus(dlq=dlq, **options)

    @bus.on("job", id="handler")
    async def handler(event: Any) -> None:
        raise error or RuntimeError("fails")

    return bus


async def fail(bus: EventBus, **options: Any) -> str:
    receipt = await bus.publish("job", {"n": 1}, **options)
    return str(receipt.deliveries["handler"].dead_letter_id)


async def test_a_capture_is_tried_again_while_the_store_is_unavailable() -> None:
    store = UnsteadyStore(2)
    bus = failing(DeadLetterQueue(store, capture_timeout=5))
    async with bus:
        letter_id = await fail(bus)
    assert store.asked == 3
    assert (await store.get(letter_id)).state == "pending"


async def test_a_commit_that_was_reported_as_failed_is_not_counted_twice(any_store: DeadLetterStore) -> None:
    store: Any = UncertainStore(any_store)
    bus = failing(DeadLetterQueue(store, capture_timeout=60))
    async with bus:
        letter = await bus.dead_letter(await fail(bus))
        assert (await bus.stats()).total == 1
    assert store.asked == 2
    assert (letter.attempts, len(letter.history)) == (1, 1)


async def test_after_the_capture_timeout_publish_raises_with_both_errors_and_the_receipt() -> None:
    store = UnsteadyStore(1_000_000)
    bus = failing(DeadLetterQueue(store, capture_timeout=0.06))
    async with bus:
        with pytest.raises(CaptureFailed, match="database is locked") as caught:
            await bus.publish("job", 1)
    assert store.asked == 2
    assert [repr(it) for it in caught.value.errors] == ["RuntimeError('fails')"]
    (store_error,) = caught.value.store_errors
    assert isinstance(store_error, StoreUnavailable)
    assert caught.value.receipt is not None
    assert caught.value.receipt.deliveries["handler"].state == "failed"


async def test_a_store_that_needs_a_person_is_asked_once() -> None:
    store = UnsteadyStore(1, retryable=False)
    bus = failing(DeadLetterQueue(store, capture_timeout=60))
    async with bus:
        with pytest.raises(CaptureFailed):
            await bus.publish("job", 1)
    assert store.asked == 1


async def test_an_enqueued_event_whose_failure_cannot_be_stored_says_so_in_its_receipt() -> None:
    seen: list[TelemetryEvent] = []
    bus = failing(DeadLetterQueue(UnsteadyStore(9), capture_timeout=0), observers=[seen.append])
    async with bus:
        receipt = await bus.enqueue("job", 1)
        await bus.wait_idle()
    assert receipt.deliveries["handler"].state == "failed"
    assert [it.fields for it in seen if it.name == "store.unavailable"] == [{"error": "database is locked"}]


async def test_the_handlers_verdict_is_in_the_letter(fake_clock: FakeClock, store: MemoryStore) -> None:
    bus = failing(DeadLetterQueue(store, clock=fake_clock), TypeError("a bug"))
    async with bus:
        letter = await bus.dead_letter(await fail(bus))
    assert (letter.state, letter.reason, letter.retry_at) == ("exhausted", "permanent", None)
    assert (letter.error.kind, letter.error.category, letter.error.route) == (
        "bug",
        "permanent",
        "system_error",
    )
    assert letter.created_at == letter.updated_at == fake_clock.now
    assert letter.idempotency_key == f"{letter.event_id}:handler"


async def test_every_verb_of_a_person_moves_the_letter_and_is_recorded(dlq: DeadLetterQueue) -> None:
    seen: list[TelemetryEvent] = []
    bus = failing(dlq, observers=[seen.append])
    until = datetime(2030, 1, 1, tzinfo=UTC)
    async with bus:
        letter_id = await fail(bus)
        for verb, state in (("resolve", "resolved"), ("discard", "discarded"), ("archive", "archived")):
            letter = await getattr(bus, verb)(letter_id, by="ann", note=f"{verb} it")
            assert (letter.state, letter.acted_by, letter.note) == (state, "ann", f"{verb} it")
            with pytest.raises(InvalidTransition, match=state):
                await getattr(bus, verb)(letter_id)
            letter = await bus.restore(letter_id)
            assert (letter.state, letter.acted_by, letter.note) == ("exhausted", None, None)
        with pytest.raises(InvalidTransition, match="exhausted"):
            await bus.restore(letter_id)
        letter = await bus.snooze(letter_id, until=until, by="bob")
        assert (letter.state, letter.retry_at, letter.acted_by) == ("pending", until, "bob")
        with pytest.raises(ValueError, match="has no time zone"):
            await bus.snooze(letter_id, until=datetime(2030, 1, 1))
        await bus.delete(letter_id)
        with pytest.raises(DeadLetterNotFound, match=letter_id):
            await bus.dead_letter(letter_id)
        with pytest.raises(DeadLetterNotFound):
            await bus.delete(letter_id)
    changes = [(it.fields["verb"], it.fields["state"]) for it in seen if it.name == "dead_letter.changed"]
    assert changes[:2] == [("resolve", "resolved"), ("restore", "exhausted")]
    assert changes[-1] == ("snooze", "pending")


async def test_listing_pages_and_numbers_come_through_the_bus(dlq: DeadLetterQueue) -> None:
    bus = failing(dlq)
    async with bus:
        ids = [await fail(bus, tenant=f"t{number % 2}") for number in range(5)]
        first = await bus.dead_letters(limit=3)
        second = await bus.dead_letters(limit=3, cursor=first.next_cursor)
        assert [it.id for it in (*first.items, *second.items)] == ids[::-1]
        oldest = await bus.dead_letters(DeadLetterQuery(tenant="t0"), order="oldest")
        assert [it.id for it in oldest.items] == ids[::2]
        with pytest.raises(InvalidCursor):
            await bus.dead_letters(cursor="rubbish")
        stats = await bus.stats()
        assert (stats.total, stats.by_tenant) == (5, {"t0": 3, "t1": 2})
        assert (await bus.dlq.stats(tenants={"t1"})).total == 2


async def test_without_a_queue_every_verb_says_how_to_get_one() -> None:
    bus = EventBus(name="shop")
    async with bus:
        for call in (
            lambda: bus.replay("x"),
            lambda: bus.replay_all(DeadLetterQuery.everything()),
            lambda: bus.dead_letters(),
            lambda: bus.dead_letter("x"),
            lambda: bus.stats(),
            lambda: bus.resolve("x"),
            lambda: bus.delete("x"),
            lambda: bus.capture("job", RuntimeError(), handler="h"),
        ):
            with pytest.raises(NoDeadLetterQueue, match=r"bus 'shop' has no .*EventBus\(dlq="):
                await call()


@pytest.mark.parametrize(
    "options",
    [
        {"lease": 0},
        {"lease": float("nan")},
        {"lease": "30"},
        {"poll": 0},
        {"stall_limit": float("inf")},
        {"capture_timeout": -1},
        {"capture_timeout": True},
        {"max_payload": 0},
        {"max_crashes": 0},
        {"max_crashes": 2.5},
        {"concurrency": 0},
        {"worker": "yes"},
        {"keep_succeeded": None},
        {"spool": ""},
        {"spool": 5},
        {"spool": b"spool"},
        {"spool": True},
        {"spool": "spool\x00"},
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"{name}="):
        DeadLetterQueue(MemoryStore(), **options)


@pytest.mark.parametrize("count", [1, 3])
async def test_after_a_timeout_the_letter_is_running_until_the_thread_returns_and_settles_then(
    store: MemoryStore, count: int
) -> None:
    bus = EventBus(dlq=DeadLetterQueue(store))
    go = threading.Event()

    def slow(event: Any) -> None:
        go.wait(30)

    for number in range(count):
        bus.subscribe("job", slow, id=f"slow-{number}", timeout=0.25)  # its thread has begun by then
    async with bus:
        receipt = await bus.publish("job", 1)
        ids = [str(result.dead_letter_id) for result in receipt.deliveries.values()]
        for letter_id in ids:
            letter = await bus.dead_letter(letter_id)
            assert (letter.state, letter.error.kind, letter.attempts) == ("running", "timeout", 1)
            with pytest.raises(LeaseHeld):
                await bus.replay(letter_id)
        go.set()
        with anyio.fail_after(10):
            await bus.wait_idle()
        for letter_id in ids:
            letter = await bus.dead_letter(letter_id)
            assert (letter.state, letter.lease_owner, letter.attempts) == ("pending", None, 1)
            assert letter.retry_at is not None


async def test_a_known_letter_that_fails_again_in_a_thread_settles_when_it_returns(
    store: MemoryStore,
) -> None:
    bus = EventBus(dlq=DeadLetterQueue(store))
    go, runs = threading.Event(), 0

    @bus.on("job", id="slow", timeout=0.25)  # its thread has begun by then
    def slow(event: Any) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise RuntimeError("first")
        go.wait(30)

    async with bus:
        first = await bus.publish("job", 1)
        letter_id = str(first.deliveries["slow"].dead_letter_id)
        again = await bus.publish("job", 1, id=first.event_id)
        assert again.deliveries["slow"].dead_letter_id == letter_id
        assert (await bus.dead_letter(letter_id)).state == "running"
        go.set()
        with anyio.fail_after(10):
            await bus.wait_idle()
        letter = await bus.dead_letter(letter_id)
    assert (letter.state, letter.attempts, letter.lease_owner) == ("pending", 2, None)


async def test_a_replay_that_times_out_in_a_thread_settles_when_it_returns(
    store: MemoryStore,
) -> None:
    bus = EventBus(dlq=DeadLetterQueue(store, redelivery=RetryPolicy(attempts=1)))
    go, runs = threading.Event(), 0

    @bus.on("job", id="slow", timeout=0.25)  # its thread has begun by then
    def slow(event: Any) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise RuntimeError("first")
        go.wait(30)

    async with bus:
        receipt = await bus.publish("job", 1)
        letter_id = str(receipt.deliveries["slow"].dead_letter_id)
        outcome = await bus.replay(letter_id)
        assert (outcome.state, outcome.attempts) == ("running", 2)
        assert isinstance(outcome.error, TimeoutError)
        with pytest.raises(LeaseHeld):
            await bus.replay(letter_id)
        go.set()
        with anyio.fail_after(10):
            await bus.wait_idle()
        letter = await bus.dead_letter(letter_id)
    assert (letter.state, letter.reason, letter.attempts, letter.error.kind) == (
        "exhausted",
        "attempts",
        2,
        "timeout",
    )
    assert len(letter.history) == 2


async def test_a_thread_that_outlives_the_bus_keeps_its_lease_until_it_runs_out(
    store: MemoryStore, fake_clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventbus.core._AFTER_GRACE", 0.05)
    bus = EventBus(dlq=DeadLetterQueue(store, clock=fake_clock, lease=30), shutdown_grace=0)
    go = threading.Event()

    @bus.on("job", id="slow", timeout=0.3)
    def slow(event: Any) -> None:
        go.wait(30)

    try:
        async with bus:
            receipt = await bus.publish("job", 1)
    finally:
        go.set()
    letter = await store.get(str(receipt.deliveries["slow"].dead_letter_id))
    assert letter.state == "running"
    assert letter.lease_until == fake_clock.now + timedelta(seconds=30)
