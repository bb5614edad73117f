"""Replay: only the handler that failed runs again, under a lease, and the same letter is settled."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any, ClassVar

import anyio
import pytest
from letters import build_letter
from pydantic import BaseModel
from tests.dlq.fakes import steal

from eventbus import BusClosed, Envelope, EventBus, ReplayInfo, RetryPolicy, current_envelope
from eventbus.errors import InvalidEvent, UndecodableEvent, UnknownEvent
from eventbus.testing import FakeClock
from eventbus_dlq import (
    DeadLetter,
    DeadLetterNotFound,
    DeadLetterQueue,
    DeadLetterState,
    HandlerMissing,
    InvalidTransition,
    LeaseHeld,
    LeaseLost,
    MemoryStore,
    StoreUnavailable,
)
from eventbus_dlq.store import DeadLetterStore, Settlement


class OrderPlaced(BaseModel):
    order_id: int


class Shop:
    """A bus with one handler that fails until it is mended, and a healthy one beside it."""

    def __init__(self, dlq: DeadLetterQueue, **options: Any) -> None:
        self.bus = EventBus(dlq=dlq)
        self.broken: BaseException | None = RuntimeError("card declined")
        self.charged: list[Any] = []
        self.envelopes: list[Envelope] = []
        self.audited = 0
        self.bus.subscribe(OrderPlaced, self.charge, id="billing.charge", **options)
        self.bus.subscribe(OrderPlaced, self.audit, id="audit")

    async def charge(self, event: OrderPlaced, envelope: Envelope) -> None:
        self.envelopes.append(envelope)
        if self.broken is not None:
            raise self.broken
        self.charged.append(event)

    async def audit(self, event: OrderPlaced) -> None:
        self.audited += 1

    async def fail_once(self, **options: Any) -> str:
        receipt = await self.bus.publish(OrderPlaced(order_id=1), **options)
        dead_letter_id = receipt.deliveries["billing.charge"].dead_letter_id
        assert dead_letter_id is not None
        return dead_letter_id


async def test_only_the_handler_that_failed_runs_again_with_the_event_as_it_was(
    dlq: DeadLetterQueue, store: MemoryStore
) -> None:
    shop = Shop(dlq)
    async with shop.bus:
        letter_id = await shop.fail_once(tenant="acme", user_id="u-1", headers={"h": "v"}, tags=("vip",))
        shop.broken = None
        outcome = await shop.bus.replay(letter_id, by="ann", note="the bank is back")
    assert (outcome.state, outcome.error, outcome.attempts) == ("resolved", None, 2)
    assert outcome.dead_letter_id == letter_id
    assert shop.charged == [OrderPlaced(order_id=1)]
    assert shop.audited == 1
    first, again = shop.envelopes
    assert again.id == first.id
    assert again.occurred_at == first.occurred_at
    assert (again.correlation_id, again.tenant, again.user_id) == (first.correlation_id, "acme", "u-1")
    assert (again.headers, again.tags) == ({"h": "v"}, ("vip",))
    letter = await store.get(letter_id)
    assert (letter.state, letter.attempts, letter.retries) == ("resolved", 2, 1)
    assert (letter.acted_by, letter.note) == ("ann", "the bank is back")
    assert letter.lease_owner is None
    assert len(letter.history) == 1


async def test_the_envelope_tells_about_the_replay(dlq: DeadLetterQueue, store: MemoryStore) -> None:
    shop = Shop(dlq)
    async with shop.bus:
        letter_id = await shop.fail_once()
        await shop.bus.replay(letter_id)
        await shop.bus.replay(letter_id)
    letter = await store.get(letter_id)
    first_failed_at = letter.history[0].ended_at
    assert [envelope.replay for envelope in shop.envelopes] == [
        None,
        ReplayInfo(letter_id, 2, first_failed_at),
        ReplayInfo(letter_id, 3, first_failed_at),
    ]


async def test_a_letter_that_fails_again_is_the_same_letter_with_one_more_attempt(
    dlq: DeadLetterQueue, store: MemoryStore
) -> None:
    shop = Shop(dlq)
    async with shop.bus:
        letter_id = await shop.fail_once()
        shop.broken = LookupError("no such card")
        outcome = await shop.bus.replay(letter_id)
        assert (await shop.bus.stats()).total == 1
    assert outcome.state == "exhausted"  # a LookupError is a bug: permanent
    assert outcome.error is shop.broken
    letter = await store.get(letter_id)
    assert (letter.reason, letter.error.message, letter.error.type) == (
        "permanent",
        "no such card",
        "LookupError",
    )
    assert [(it.number, it.error.message) for it in letter.history if it.error] == [
        (1, "card declined"),
        (2, "no such card"),
    ]


async def test_a_replay_runs_once_whatever_the_handlers_retry_policy_says(dlq: DeadLetterQueue) -> None:
    shop = Shop(dlq, retry=RetryPolicy(attempts=3, delay=0))
    async with shop.bus:
        letter_id = await shop.fail_once()
        assert len(shop.envelopes) == 3
        outcome = await shop.bus.replay(letter_id)
    assert len(shop.envelopes) == 4
    assert outcome.attempts == 4


async def test_the_schedule_follows_the_redelivery_policy_to_its_end(
    store: MemoryStore, fake_clock: FakeClock
) -> None:
    policy = RetryPolicy(attempts=2, delay=60, multiplier=5, jitter=False, max_delay=3600)
    shop = Shop(DeadLetterQueue(store, redelivery=policy, clock=fake_clock))
    async with shop.bus:
        letter_id = await shop.fail_once()
        letter = await store.get(letter_id)
        assert (letter.state, letter.retry_at) == ("pending", fake_clock.now + timedelta(seconds=60))
        fake_clock.advance(60)
        assert (await shop.bus.replay(letter_id)).state == "pending"
        letter = await store.get(letter_id)
        assert letter.retry_at == fake_clock.now + timedelta(seconds=300)
        assert (await shop.bus.replay(letter_id)).state == "exhausted"
    letter = await store.get(letter_id)
    assert (letter.reason, letter.retry_at, letter.retries) == ("attempts", None, 2)


async def test_resolved_unknown_and_closed_ones_are_refused(dlq: DeadLetterQueue) -> None:
    shop = Shop(dlq)
    async with shop.bus:
        letter_id = await shop.fail_once()
        shop.broken = None
        await shop.bus.replay(letter_id)
        with pytest.raises(InvalidTransition, match=f"{letter_id} is resolved"):
            await shop.bus.replay(letter_id)
        with pytest.raises(DeadLetterNotFound, match="no dead letter 'nope'"):
            await shop.bus.replay("nope")
        shop.broken = RuntimeError("x")
        other = await shop.fail_once()
        await shop.bus.discard(other)
        with pytest.raises(InvalidTransition, match="restore it first"):
            await shop.bus.replay(other)
        await shop.bus.restore(other)
        shop.broken = None
        assert (await shop.bus.replay(other)).state == "resolved"
    assert len(shop.charged) == 2


async def test_while_one_replay_runs_every_other_verb_is_told_so(dlq: DeadLetterQueue) -> None:
    bus = EventBus(dlq=dlq)
    began, go, runs = anyio.Event(), anyio.Event(), 0

    @bus.on("job", id="handler")
    async def handler(event: Any) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise RuntimeError("first")
        began.set()
        await go.wait()

    async with bus:
        receipt = await bus.publish("job", 1)
        letter_id = str(receipt.deliveries["handler"].dead_letter_id)
        async with anyio.create_task_group() as group:
            group.start_soon(bus.replay, letter_id)
            await began.wait()
            for verb in (bus.replay, bus.resolve, bus.discard, bus.archive, bus.delete):
                with pytest.raises(LeaseHeld, match=letter_id):
                    await verb(letter_id)
            go.set()
        assert (await bus.dead_letter(letter_id)).state == "resolved"
    assert runs == 2


async def test_of_twenty_replays_at_the_same_time_one_wins(dlq: DeadLetterQueue) -> None:
    shop = Shop(dlq)
    refusals: list[Exception] = []

    async def replay(letter_id: str) -> None:
        try:
            await shop.bus.replay(letter_id)
        except (LeaseHeld, InvalidTransition) as refusal:
            refusals.append(refusal)

    async with shop.bus:
        letter_id = await shop.fail_once()
        shop.broken = None
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(replay, letter_id)
    assert len(shop.charged) == 1
    assert len(refusals) == 19


async def test_a_letter_without_its_handler_stays_and_heals_when_it_is_subscribed(
    dlq: DeadLetterQueue, store: MemoryStore
) -> None:
    shop = Shop(dlq)
    async with shop.bus:
        letter_id = await shop.fail_once()
        (subscription, _) = shop.bus.subscriptions
        shop.bus.unsubscribe(subscription)
        outcome = await shop.bus.replay(letter_id)
        assert outcome.state == "exhausted"
        assert isinstance(outcome.error, HandlerMissing)
        assert "no handler 'billing.charge' is subscribed here" in str(outcome.error)
        letter = await store.get(letter_id)
        assert (letter.reason, letter.attempts, letter.retries) == ("unhandled", 1, 0)
        assert letter.error.message == "card declined"  # why it failed is not forgotten

        shop.broken = None
        shop.bus.subscribe(OrderPlaced, shop.charge, id="billing.charge")
        assert (await shop.bus.replay(letter_id)).state == "resolved"
    assert shop.charged == [OrderPlaced(order_id=1)]


async def test_a_renamed_handler_takes_its_old_letters_by_its_alias(store: MemoryStore) -> None:
    shop = Shop(DeadLetterQueue(store))
    async with shop.bus:
        letter_id = await shop.fail_once()
    after_deploy = EventBus(dlq=DeadLetterQueue(store))
    seen: list[Any] = []

    @after_deploy.on(OrderPlaced, id="payments.charge", aliases=("billing.charge",))
    async def charge(event: OrderPlaced) -> None:
        seen.append(event)

    async with after_deploy:
        assert (await after_deploy.replay(letter_id)).state == "resolved"
    assert seen == [OrderPlaced(order_id=1)]


async def test_a_payload_that_fits_no_longer_stays_and_heals_after_a_deploy(store: MemoryStore) -> None:
    class Version1(BaseModel):
        event_name: ClassVar[str] = "order.placed"
        order: str

    class Version2(BaseModel):
        event_name: ClassVar[str] = "order.placed"
        order: int

    async def fail(event: Any) -> None:
        raise RuntimeError("fails")

    seen: list[Any] = []

    async def keep(event: Any) -> None:
        seen.append(event)

    first, second, third = (EventBus(dlq=DeadLetterQueue(store)) for _ in range(3))
    first.subscribe(Version1, fail, id="handler")
    second.subscribe(Version2, keep, id="handler")
    third.subscribe(Version1, keep, id="handler")
    async with first:
        receipt = await first.publish(Version1(order="secret-77"))
    letter_id = str(receipt.deliveries["handler"].dead_letter_id)
    async with second:
        outcome = await second.replay(letter_id)
        letter = await second.dead_letter(letter_id)
    assert outcome.state == "exhausted"
    assert isinstance(outcome.error, UndecodableEvent)
    assert (letter.reason, letter.attempts, letter.payload) == ("undecodable", 1, {"order": "secret-77"})
    assert "order: " in letter.error.message
    assert "secret-77" not in letter.error.message
    assert seen == []
    async with third:
        assert (await third.replay(letter_id)).state == "resolved"
    assert seen == [Version1(order="secret-77")]


async def test_old_payloads_are_brought_up_step_by_step_before_they_are_decoded(store: MemoryStore) -> None:
    class Old(BaseModel):
        event_name: ClassVar[str] = "order.placed"
        name: str

    class New(BaseModel):
        event_name: ClassVar[str] = "order.placed"
        event_version: ClassVar[int] = 3
        first: str
        last: str

    async def fail(event: Any) -> None:
        raise RuntimeError("fails")

    seen: list[Any] = []

    async def keep(event: Any) -> None:
        seen.append(event)

    before, after = EventBus(dlq=DeadLetterQueue(store)), EventBus(dlq=DeadLetterQueue(store))
    before.subscribe(Old, fail, id="handler")
    after.subscribe(New, keep, id="handler")
    after.upcast("order.placed", 1, lambda data: {"both": data["name"].split()})
    after.upcast("order.placed", 2, lambda data: {"first": data["both"][0], "last": data["both"][1]})
    async with before:
        receipt = await before.publish(Old(name="Ada Lovelace"))
    async with after:
        assert (await after.replay(str(receipt.deliveries["handler"].dead_letter_id))).state == "resolved"
    assert seen == [New(first="Ada", last="Lovelace")]


async def test_an_upcast_that_raises_leaves_the_letter_undecodable(store: MemoryStore) -> None:
    class Old(BaseModel):
        event_name: ClassVar[str] = "order.placed"
        n: int

    class New(BaseModel):
        event_name: ClassVar[str] = "order.placed"
        event_version: ClassVar[int] = 2
        n: int

    async def handler(event: Any) -> None:
        raise RuntimeError("fails")

    def broken(data: dict[str, Any]) -> dict[str, Any]:
        raise KeyError("gone")

    before, after = EventBus(dlq=DeadLetterQueue(store)), EventBus(dlq=DeadLetterQueue(store))
    before.subscribe(Old, handler, id="handler")
    after.subscribe(New, handler, id="handler")
    with pytest.raises(UnknownEvent, match="no class of that name"):
        after.upcast("order.shipped", 1, broken)
    with pytest.raises(InvalidEvent, match="only older versions"):
        after.upcast("order.placed", 2, broken)
    after.upcast("order.placed", 1, broken)
    with pytest.raises(InvalidEvent, match="already registered"):
        after.upcast("order.placed", 1, broken)
    async with before:
        receipt = await before.publish(Old(n=1))
    letter_id = str(receipt.deliveries["handler"].dead_letter_id)
    async with after:
        outcome = await after.replay(letter_id)
    assert "the upcast of 'order.placed' from version 1 raised KeyError" in str(outcome.error)
    assert (await store.get(letter_id)).reason == "undecodable"


async def test_a_payload_newer_than_the_class_is_not_guessed_at(store: MemoryStore) -> None:
    shop = Shop(DeadLetterQueue(store))
    letter = build_letter(event_name="OrderPlaced", event_version=9, payload_json=b'{"order_id":1}')
    await store.add([letter])
    async with shop.bus:
        outcome = await shop.bus.replay(letter.id)
    assert "version 9, newer than the class's 1" in str(outcome.error)


async def test_stored_bytes_that_are_not_json_are_undecodable_and_stay(store: MemoryStore) -> None:
    shop = Shop(DeadLetterQueue(store))
    letter = build_letter(event_name="OrderPlaced", payload_json=b'{"order_id":')
    await store.add([letter])
    async with shop.bus:
        outcome = await shop.bus.replay(letter.id)
    assert "is not JSON" in str(outcome.error)
    kept = await store.get(letter.id)
    assert (kept.state, kept.reason, kept.payload_json) == ("exhausted", "undecodable", b'{"order_id":')


async def test_a_cancelled_replay_gives_the_letter_back_uncharged(
    dlq: DeadLetterQueue, store: MemoryStore
) -> None:
    bus = EventBus(dlq=dlq)
    began, runs = anyio.Event(), 0

    @bus.on("job", id="handler")
    async def handler(event: Any) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise LookupError("a bug")
        began.set()
        await anyio.sleep_forever()

    async with bus:
        receipt = await bus.publish("job", 1)
        before = await store.get(str(receipt.deliveries["handler"].dead_letter_id))
        async with anyio.create_task_group() as group:
            group.start_soon(bus.replay, before.id)
            await began.wait()
            group.cancel_scope.cancel()
        after = await store.get(before.id)
    assert before.state == "exhausted"
    assert (after.state, after.reason, after.attempts, after.retries, after.crashes) == (
        "exhausted",
        "permanent",
        1,
        0,
        0,
    )
    assert after.token == before.token + 1
    assert (after.lease_owner, after.lease_until) == (None, None)
    assert after.history == before.history


class CancellingStore:
    """A store that cancels whoever asks for a verb: before the verb, or when its answer is there."""

    def __init__(self, store: DeadLetterStore) -> None:
        self._store = store
        self.verb = ""
        self.when = ""
        self.scope = anyio.CancelScope()

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._store, name)
        return call if name != self.verb else partial(self._cancel_around, call)

    async def _cancel_around(self, call: Any, *arguments: Any, **options: Any) -> Any:
        self.verb = ""
        if self.when == "before":
            self.scope.cancel()
        answer = await call(*arguments, **options)
        self.scope.cancel()
        return answer


async def kept_in(store: DeadLetterStore, letter_id: str) -> DeadLetter:
    """Return a letter as the store of a stopped bus has it: all writes have been done."""
    await store.open()
    try:
        return await store.get(letter_id)
    finally:
        await store.close()


@pytest.mark.parametrize("handler_waits", [True, False])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("verb", ["claim", "settle"])
async def test_a_replay_cancelled_while_the_store_works_is_settled_or_given_back(
    any_store: DeadLetterStore, verb: str, when: str, handler_waits: bool
) -> None:
    store: Any = CancellingStore(any_store)
    bus = EventBus(dlq=DeadLetterQueue(store))
    runs, succeeded = 0, 0

    @bus.on("job", id="handler")
    async def handler(event: Any) -> None:
        nonlocal runs, succeeded
        runs += 1
        if runs == 1:
            raise RuntimeError("first")
        if handler_waits:
            await anyio.lowlevel.checkpoint()
        succeeded += 1

    async with bus:
        receipt = await bus.publish("job", 1)
        letter_id = str(receipt.deliveries["handler"].dead_letter_id)
        with store.scope:
            store.verb, store.when = verb, when
            await bus.replay(letter_id)
        assert store.scope.cancel_called
    letter = await kept_in(any_store, letter_id)
    assert letter.state == ("resolved" if succeeded else "pending")
    assert (letter.attempts, letter.retries, letter.crashes) == (1 + succeeded, succeeded, 0)
    assert succeeded == 1 or verb == "claim"


@pytest.mark.parametrize("fails", [False, True])
async def test_a_run_that_ended_when_its_replay_was_cancelled_is_settled(
    any_store: DeadLetterStore, fails: bool
) -> None:
    bus = EventBus(dlq=DeadLetterQueue(any_store))
    scope, runs = anyio.CancelScope(), 0

    @bus.on("job", id="handler")
    async def handler(event: Any) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise RuntimeError("first")
        with anyio.CancelScope(shield=True):
            await anyio.lowlevel.checkpoint()
            scope.cancel()
        if fails:
            raise LookupError("second")

    async with bus:
        receipt = await bus.publish("job", 1)
        letter_id = str(receipt.deliveries["handler"].dead_letter_id)
        with scope:
            await bus.replay(letter_id)
    letter = await kept_in(any_store, letter_id)
    assert runs == 2
    assert (letter.state, letter.error.message) == (
        ("exhausted", "second") if fails else ("resolved", "first")
    )
    assert (letter.attempts, letter.retries) == (2, 1)


async def test_a_replay_cancelled_after_any_number_of_turns_never_stays_running(
    any_store: DeadLetterStore,
) -> None:
    bus = EventBus(dlq=DeadLetterQueue(any_store))
    broken, succeeded, letter_ids = True, set[int](), list[str]()

    @bus.on("job", id="handler")
    async def handler(event: int) -> None:
        if broken:
            raise RuntimeError("first")
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        succeeded.add(event)

    async def cancel_after(turns: int, scope: anyio.CancelScope) -> None:
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        scope.cancel()

    async with bus:
        for turns in range(60):
            broken = True
            receipt = await bus.publish("job", turns)
            letter_ids.append(str(receipt.deliveries["handler"].dead_letter_id))
            broken = False
            async with anyio.create_task_group() as group:
                group.start_soon(cancel_after, turns, group.cancel_scope)
                await bus.replay(letter_ids[-1])
    await any_store.open()
    states = [(await any_store.get(letter_id)).state for letter_id in letter_ids]
    await any_store.close()
    assert states == ["resolved" if number in succeeded else "pending" for number in range(60)]


async def test_a_replay_while_the_bus_stops_is_refused_as_closed_and_charges_nothing(
    any_store: DeadLetterStore,
) -> None:
    bus = EventBus(dlq=DeadLetterQueue(any_store))
    began, go = anyio.Event(), anyio.Event()

    @bus.on("job", id="handler")
    async def handler(event: Any) -> None:
        raise RuntimeError("first")

    @bus.on("slow", id="slow")
    async def slow(event: Any) -> None:
        began.set()
        await go.wait()

    async def replay_while_it_stops(letter_id: str) -> None:
        await anyio.wait_all_tasks_blocked()
        try:
            with pytest.raises(BusClosed, match="stopping"):
                await bus.replay(letter_id)
        finally:
            go.set()

    async with anyio.create_task_group() as group:
        await bus.start()
        receipt = await bus.publish("job", 1)
        letter_id = str(receipt.deliveries["handler"].dead_letter_id)
        group.start_soon(bus.publish, "slow", 1)
        await began.wait()
        group.start_soon(replay_while_it_stops, letter_id)
        await bus.stop()
    letter = await kept_in(any_store, letter_id)
    assert (letter.state, letter.attempts, letter.retries) == ("pending", 1, 0)


async def test_stopping_the_bus_gives_running_replays_back_uncharged(store: MemoryStore) -> None:
    bus = EventBus(dlq=DeadLetterQueue(store), shutdown_grace=0)
    began, runs = anyio.Event(), 0
    errors: list[Exception] = []

    @bus.on("job", id="handler")
    async def handler(event: Any) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise RuntimeError("first")
        began.set()
        await anyio.sleep_forever()

    async def replay(letter_id: str) -> None:
        try:
            await bus.replay(letter_id)
        except BusClosed as error:
            errors.append(error)

    async with anyio.create_task_group() as group:
        await bus.start()
        receipt = await bus.publish("job", 1)
        letter_id = str(receipt.deliveries["handler"].dead_letter_id)
        group.start_soon(replay, letter_id)
        await began.wait()
        await bus.stop()
    letter = await store.get(letter_id)
    assert (letter.state, letter.attempts, letter.retries) == ("pending", 1, 0)
    assert "nothing was charged" in str(errors[0])


async def test_a_replay_on_a_closed_bus_is_refused(dlq: DeadLetterQueue) -> None:
    bus = EventBus(dlq=dlq)
    with pytest.raises(BusClosed):
        await bus.replay("any")
    async with bus:
        pass
    with pytest.raises(BusClosed):
        await bus.replay("any")


async def test_a_lost_lease_cancels_the_handler_and_records_nothing(store: MemoryStore) -> None:
    bus = EventBus(dlq=DeadLetterQueue(store, lease=0.03))
    runs, ended = 0, []

    @bus.on("job", id="handler")
    async def handler(event: Any) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise RuntimeError("first")
        envelope = current_envelope()
        assert envelope is not None
        assert envelope.replay is not None
        await steal(store, envelope.replay.dead_letter_id)
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(runs)

    async with bus:
        receipt = await bus.publish("job", 1)
        letter_id = str(receipt.deliveries["handler"].dead_letter_id)
        with anyio.fail_after(10):
            with pytest.raises(LeaseLost, match="nothing was recorded"):
                await bus.replay(letter_id)
        letter = await store.get(letter_id)
    assert ended == [2]
    assert (letter.state, letter.lease_owner) == ("running", "thief")
    assert len(letter.history) == 1


async def test_a_lease_lost_just_before_settling_records_nothing(store: MemoryStore) -> None:
    bus = EventBus(dlq=DeadLetterQueue(store))
    runs = 0

    @bus.on("job", id="handler")
    async def handler(event: Any) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise RuntimeError("first")
        await steal(store, letter_id)

    async with bus:
        receipt = await bus.publish("job", 1)
        letter_id = str(receipt.deliveries["handler"].dead_letter_id)
        with pytest.raises(LeaseLost):
            await bus.replay(letter_id)
    assert (await store.get(letter_id)).lease_owner == "thief"


async def test_a_store_that_fails_at_settling_says_so_and_the_lease_runs_out(store: MemoryStore) -> None:
    class Flaky(MemoryStore):
        down = False

        async def settle(self, settlements: Any, *, now: Any) -> Any:
            if self.down:
                raise StoreUnavailable("gone")
            return await super().settle(settlements, now=now)

    flaky = Flaky()
    shop = Shop(DeadLetterQueue(flaky, capture_timeout=0.06))
    async with shop.bus:
        letter_id = await shop.fail_once()
        shop.broken, flaky.down = None, True
        with pytest.raises(StoreUnavailable):
            await shop.bus.replay(letter_id)
    assert (await flaky.get(letter_id)).state == "running"


class AwayForAWhile(MemoryStore):
    """A store that is away for some verbs, so many times; it notes which leases were kept then."""

    def __init__(self, **away: int) -> None:
        super().__init__()
        self.away = away
        self.kept: list[bool] = []
        self.answers_nothing = False
        self.bus: EventBus | None = None

    async def settle(self, settlements: Any, *, now: Any) -> Any:
        assert self.bus is not None
        assert self.bus.dlq._running is not None
        self.kept.append(self.bus.dlq._running._keeper.holds(settlements[0].lease))
        if self.answers_nothing:
            await super().settle(settlements, now=now)
        self._check("settle")
        return await super().settle(settlements, now=now)

    async def release(self, leases: Any, *, now: Any) -> Any:
        self._check("release")
        return await super().release(leases, now=now)

    def _check(self, verb: str) -> None:
        if self.away.get(verb, 0):
            self.away[verb] -= 1
            raise StoreUnavailable("gone for a moment")


@pytest.mark.parametrize("it", ["does nothing", "answers nothing"])
async def test_a_store_that_is_away_for_a_moment_at_settling_loses_no_result(it: str) -> None:
    store = AwayForAWhile(settle=2)
    store.answers_nothing = it == "answers nothing"
    shop = Shop(DeadLetterQueue(store))
    store.bus = shop.bus
    async with shop.bus:
        letter_id = await shop.fail_once()
        shop.broken = None
        outcome = await shop.bus.replay(letter_id)
        assert outcome.state == "resolved"
    assert (await store.get(letter_id)).state == "resolved"
    assert store.kept == [False, True, True]  # the lease does not run out meanwhile


async def test_a_replay_that_is_cancelled_while_the_store_is_away_is_cancelled_all_the_same() -> None:
    store = AwayForAWhile(release=1)
    bus = EventBus(dlq=DeadLetterQueue(store))
    runs = 0

    @bus.on("job", id="handler")
    async def handler(event: Any) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise RuntimeError("fails")
        scope.cancel()
        await anyio.sleep_forever()

    async with bus:
        receipt = await bus.publish("job", 1)
        letter_id = str(receipt.deliveries["handler"].dead_letter_id)
        with anyio.CancelScope() as scope:
            await bus.replay(letter_id)
        assert scope.cancelled_caught
    assert (await store.get(letter_id)).state == "running"  # until a rescue


async def test_a_letter_whose_owner_died_can_be_run_again_when_it_is_rescued(
    store: MemoryStore, fake_clock: FakeClock
) -> None:
    shop = Shop(DeadLetterQueue(store, clock=fake_clock))
    async with shop.bus:
        letter_id = await shop.fail_once()
        (claim,) = await store.claim([letter_id], owner="dead process", lease=30, now=fake_clock.now)
        fake_clock.advance(31)
        with pytest.raises(LeaseHeld, match=letter_id):
            await shop.bus.replay(letter_id)
        await store.rescue(await store.leased(now=fake_clock.now), max_crashes=3, now=fake_clock.now)
        shop.broken = None
        assert (await shop.bus.replay(letter_id)).state == "resolved"
        assert not isinstance(claim, Exception)
        late = Settlement(lease=claim.lease, state=DeadLetterState.EXHAUSTED)
        assert await store.settle([late], now=fake_clock.now) == [claim.lease]
    letter = await store.get(letter_id)
    assert (letter.state, letter.crashes, letter.attempts) == ("resolved", 1, 3)


async def test_what_a_replay_publishes_belongs_to_the_first_flow(dlq: DeadLetterQueue) -> None:
    bus = EventBus(dlq=dlq)
    children: list[Envelope] = []
    mended = False

    @bus.on("parent", id="parent")
    async def parent(event: Any) -> None:
        if not mended:
            raise RuntimeError("first")
        await bus.publish("child", 1)

    @bus.on("child", id="child")
    async def child(event: Any, envelope: Envelope) -> None:
        children.append(envelope)

    async with bus:
        receipt = await bus.publish("parent", 1, correlation_id="req-1", tenant="acme")
        mended = True
        await bus.replay(str(receipt.deliveries["parent"].dead_letter_id))
    (envelope,) = children
    assert (envelope.causation_id, envelope.correlation_id) == (receipt.event_id, "req-1")
    assert (envelope.tenant, envelope.replay) == ("acme", None)


async def test_a_failed_replay_counts_in_the_metrics_like_any_delivery(dlq: DeadLetterQueue) -> None:
    shop = Shop(dlq)
    async with shop.bus:
        letter_id = await shop.fail_once()
        await shop.bus.replay(letter_id)
        shop.broken = None
        await shop.bus.replay(letter_id)
    numbers = shop.bus.metrics.snapshot()["billing.charge"]
    assert (numbers.published, numbers.failed, numbers.delivered, numbers.in_flight) == (3, 2, 1, 0)


async def test_the_one_event_of_a_once_handler_can_be_replayed(dlq: DeadLetterQueue) -> None:
    shop = Shop(dlq, once=True)
    async with shop.bus:
        letter_id = await shop.fail_once()
        shop.broken = None
        assert (await shop.bus.replay(letter_id)).state == "resolved"
        later = await shop.bus.publish(OrderPlaced(order_id=2))
    assert shop.charged == [OrderPlaced(order_id=1)]
    assert later.deliveries["billing.charge"].state == "skipped"


async def test_who_replays_a_letter_wants_it_to_run_whatever_its_condition_says(dlq: DeadLetterQueue) -> None:
    def broken_condition(envelope: Envelope) -> bool:
        raise LookupError("no connection to the list of tenants")

    shop = Shop(dlq, when=broken_condition)
    shop.broken = None
    async with shop.bus:
        letter_id = await shop.fail_once()
        assert shop.charged == []
        assert (await shop.bus.replay(letter_id)).state == "resolved"
    assert shop.charged == [OrderPlaced(order_id=1)]


async def test_a_replay_that_fails_elsewhere_moves_the_letter_to_another_group(dlq: DeadLetterQueue) -> None:
    bus = EventBus(dlq=dlq)
    bank_is_up = False

    @bus.on("job", id="handler")
    async def handler(event: Any, envelope: Envelope) -> None:
        envelope.annotate(bank_is_up=bank_is_up)
        if not bank_is_up:
            raise ConnectionError("the bank is down")
        raise OSError("the disk is full")

    async with bus:
        receipt = await bus.publish("job", 1)
        letter_id = str(receipt.deliveries["handler"].dead_letter_id)
        before = await bus.dead_letter(letter_id)
        bank_is_up = True
        await bus.replay(letter_id)
        after = await bus.dead_letter(letter_id)
    assert before.fingerprint != after.fingerprint
    assert (before.annotations, after.annotations) == ({"bank_is_up": False}, {"bank_is_up": True})
