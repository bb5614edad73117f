"""The verbs of operators about retries: schedules, the switch, running what is due, requeueing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import anyio
import pytest
from tests.dlq.failing import Failing, until

from eventbus import BusClosed, EventBus, NoDeadLetterQueue, RetryPolicy, UnknownEvent
from eventbus.errors import UnknownHandler
from eventbus.testing import FakeClock
from eventbus_dlq import (
    Claim,
    DeadLetterNotFound,
    DeadLetterQuery,
    DeadLetterQueue,
    InvalidTransition,
    MemoryStore,
    Processed,
    StoreUnavailable,
)

HOUR = 3_600.0
SLOW = RetryPolicy(attempts=9, backoff="fixed", delay=HOUR, max_delay=HOUR, jitter=False)
FAST = RetryPolicy(attempts=9, backoff="fixed", delay=5, jitter=False)


def wait_of(failing: Failing, letter: Any) -> float:
    return float((letter.retry_at - failing.clock.now).total_seconds())


# -- schedules


@pytest.mark.parametrize("target", [{"handler": "handler"}, {"event": "job"}, {}])
async def test_a_schedule_that_is_set_applies_to_the_next_wait_of_what_is_stored(
    store: MemoryStore, fake_clock: FakeClock, target: dict[str, str]
) -> None:
    failing = Failing(store, fake_clock, redelivery=SLOW)
    async with failing.bus as bus:
        letter = await store.get(await failing.publish())
        assert (wait_of(failing, letter), letter.redelivery) == (HOUR, SLOW)
        set_now = await bus.configure(**target, redelivery=FAST, by="ann")  # type: ignore[arg-type]  # a table
        assert (await store.get(letter.id)).retry_at == letter.retry_at  # a wait that has begun stays
        await failing.until_due(letter)
        letter = await failing.settled(letter.id, runs=2)
        assert (wait_of(failing, letter), letter.redelivery) == (5, FAST)
        new = await store.get(await failing.publish(2))
        assert (wait_of(failing, new), new.redelivery) == (5, FAST)
        await bus.configure(**target, forget_redelivery=True)  # type: ignore[arg-type]  # a table
        await failing.until_due(letter)
        assert (await failing.settled(letter.id, runs=3)).redelivery == SLOW
        assert (await bus.configuration()).schedules == ()
    (schedule,) = set_now.schedules
    assert (schedule.redelivery, schedule.by, schedule.since) == (FAST, "ann", schedule.since)


async def test_a_shorter_schedule_exhausts_what_has_had_its_share(
    store: MemoryStore, fake_clock: FakeClock
) -> None:
    failing = Failing(store, fake_clock, redelivery=FAST)
    async with failing.bus as bus:
        letter = await store.get(await failing.publish())
        await bus.configure(redelivery=RetryPolicy(attempts=1))
        await failing.until_due(letter)
        letter = await failing.settled(letter.id, runs=2)
    assert (letter.state, letter.reason) == ("exhausted", "attempts")


async def test_another_process_follows_within_a_second(store: MemoryStore, fake_clock: FakeClock) -> None:
    here, there = (Failing(store, fake_clock, redelivery=SLOW) for _ in range(2))
    async with here.bus, there.bus:
        await anyio.wait_all_tasks_blocked()
        await here.bus.configure(handler="handler", redelivery=FAST)
        await here.turn(0.5)
        letter = await store.get(await there.publish())
    assert letter.redelivery == FAST


async def test_the_next_process_starts_with_what_was_set(store: MemoryStore, fake_clock: FakeClock) -> None:
    async with Failing(store, fake_clock).bus as bus:
        await bus.configure(redelivery=FAST, automatic_retries=False)
    failing = Failing(store, fake_clock)
    async with failing.bus:
        letter = await store.get(await failing.publish())
        assert letter.redelivery == FAST
        await failing.turn(60)
    assert len(failing.ran) == 1


async def test_the_subscriptions_own_schedule_goes_before_that_of_its_event(
    store: MemoryStore, fake_clock: FakeClock
) -> None:
    handlers: dict[str, dict[str, Any]] = {"own": {"redelivery": SLOW}, "none": {}}
    failing = Failing(store, fake_clock, handlers=handlers)
    async with failing.bus as bus:
        await bus.configure(event="job", redelivery=FAST)
        await failing.publish()
        schedules = {it.handler_id: it.redelivery for it in await failing.letters()}
        assert schedules == {"own": SLOW, "none": FAST}


async def test_a_schedule_of_a_renamed_handler_is_that_of_its_id_now(
    store: MemoryStore, fake_clock: FakeClock
) -> None:
    failing = Failing(store, fake_clock, handlers={"handler": {"aliases": ("former",)}})
    async with failing.bus as bus:
        configuration = await bus.configure(handler="former", redelivery=FAST)
    assert [it.handler for it in configuration.schedules] == ["handler"]


@pytest.mark.parametrize("change", [{"redelivery": SLOW}, {"forget_redelivery": True}])
async def test_a_schedule_from_before_its_handler_was_renamed_can_be_replaced_and_forgotten(
    store: MemoryStore, fake_clock: FakeClock, change: dict[str, Any]
) -> None:
    async with Failing(store, fake_clock, handlers={"former": {}}).bus as bus:
        await bus.configure(handler="former", redelivery=FAST)
    async with Failing(store, fake_clock, handlers={"handler": {"aliases": ("former",)}}).bus as bus:
        configuration = await bus.configure(handler="former", **change)
        assert configuration == await bus.configuration()
    kept = {it.handler: it.redelivery for it in configuration.schedules}
    assert kept == ({"handler": SLOW} if "redelivery" in change else {})


@pytest.mark.parametrize("target", [{"handler": "handler"}, {"event": "job"}])
async def test_a_schedule_of_what_nobody_knows_any_more_can_be_forgotten(
    store: MemoryStore, fake_clock: FakeClock, target: dict[str, Any]
) -> None:
    async with Failing(store, fake_clock).bus as bus:
        await bus.configure(**target, redelivery=FAST)
    async with EventBus(dlq=DeadLetterQueue(store, clock=fake_clock)) as bus:
        with pytest.raises(LookupError):
            await bus.configure(**target, redelivery=SLOW)
        assert (await bus.configure(**target, forget_redelivery=True)).schedules == ()
        with pytest.raises(LookupError):
            await bus.configure(**target, forget_redelivery=True)


# -- the switch


async def test_the_switch_stops_retries_in_every_process_and_nothing_else(
    store: MemoryStore, fake_clock: FakeClock
) -> None:
    handlers: dict[str, dict[str, Any]] = {"handler": {}, "durable": {"durable": True}}
    here, there = (Failing(store, fake_clock, handlers=handlers, redelivery=FAST) for _ in range(2))
    async with here.bus as bus, there.bus:
        await anyio.wait_all_tasks_blocked()
        assert (await bus.configure(automatic_retries=False, by="ann")).automatic_retries is False
        await here.turn(0.5)
        letter_id = await here.publish()
        await until(lambda: len(here.ran) + len(there.ran) == 2)  # what is accepted runs all the same
        await here.turn(HOUR)
        assert len(here.ran) + len(there.ran) == 2
        await bus.configure(automatic_retries=True)
        await there.turn(1)
        await there.settled(letter_id, runs=2)


# -- bad input


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({}, ValueError, "nothing to set"),
    ({"handler": "handler"}, ValueError, "say its schedule"),
    ({"handler": "handler", "automatic_retries": False}, ValueError, "say its schedule"),
    ({"handler": "handler", "event": "job", "redelivery": FAST}, ValueError, "set each"),
    ({"redelivery": FAST, "forget_redelivery": True}, ValueError, "contradict"),
    ({"redelivery": {"attempts": 3}}, ValueError, "retry= is for the attempts within the process"),
    ({"redelivery": 5}, ValueError, "must be a RetryPolicy"),
    ({"forget_redelivery": 1}, ValueError, "forget_redelivery=1"),
    ({"automatic_retries": "off"}, ValueError, "automatic_retries='off'"),
    ({"automatic_retries": 0}, ValueError, "automatic_retries=0"),
    ({"handler": "", "redelivery": FAST}, ValueError, "handler"),
    ({"handler": 7, "redelivery": FAST}, ValueError, "handler"),
    ({"event": "a.*", "redelivery": FAST}, ValueError, "event"),
    ({"redelivery": FAST, "by": " "}, ValueError, "by"),
    ({"redelivery": FAST, "by": "x" * 600}, ValueError, "by"),
    ({"handler": "typo", "redelivery": FAST}, UnknownHandler, "typo"),
    ({"event": "typo", "redelivery": FAST}, UnknownEvent, "typo"),
    ({"retry": FAST}, TypeError, "retry"),
]


@pytest.mark.parametrize(("asked", "error", "words"), BAD)
async def test_what_makes_no_sense_is_refused_and_nothing_is_done(
    store: MemoryStore, fake_clock: FakeClock, asked: dict[str, Any], error: type[Exception], words: str
) -> None:
    failing = Failing(store, fake_clock, observed=True)
    async with failing.bus as bus:
        with pytest.raises(error, match=words):
            await bus.configure(**asked)
        assert (await bus.configuration()).version == 0
    assert "configuration.changed" not in [it.name for it in failing.told]


@pytest.mark.parametrize("option", ["retry", "redelivery"])
def test_a_policy_of_a_subscription_that_is_none_is_refused_by_name(option: Any) -> None:
    bus = EventBus(dlq=DeadLetterQueue(MemoryStore()))

    async def handler(event: Any) -> None: ...

    wrong: Any = {option: 3}
    with pytest.raises(ValueError, match=f"^{option}=3 must be a RetryPolicy"):
        bus.subscribe("job", handler, id="handler", **wrong)
    assert bus.subscriptions == ()


async def test_without_a_queue_there_is_nothing_to_configure() -> None:
    async with EventBus() as bus:
        for call in (
            bus.configure(automatic_retries=False),
            bus.configuration(),
            bus.process_due(),
            bus.requeue("one"),
            bus.requeue_all(DeadLetterQuery(handler="handler")),
        ):
            with pytest.raises(NoDeadLetterQueue):
                await call


async def test_a_bus_that_does_not_run_is_not_configured(store: MemoryStore, fake_clock: FakeClock) -> None:
    failing = Failing(store, fake_clock)
    with pytest.raises(BusClosed):
        await failing.bus.configure(automatic_retries=False)
    with pytest.raises(BusClosed):
        await failing.bus.process_due()


async def test_observers_are_told_of_what_was_set(store: MemoryStore, fake_clock: FakeClock) -> None:
    failing = Failing(store, fake_clock, observed=True)
    async with failing.bus as bus:
        await bus.configure(handler="handler", redelivery=FAST, automatic_retries=False, by="ann")
    (fields,) = [it.fields for it in failing.told if it.name == "configuration.changed"]
    assert fields == {
        "handler": "handler",
        "event": None,
        "redelivery": FAST,
        "automatic_retries": False,
        "by": "ann",
    }


# -- running by hand what is due


@pytest.mark.parametrize("worker", [False, True])
async def test_what_is_due_is_run_by_hand_whatever_the_switch_says(
    store: MemoryStore, fake_clock: FakeClock, worker: bool
) -> None:
    handlers: dict[str, dict[str, Any]] = {name: {} for name in ("heals", "fails", "gives_up")}
    handlers["gives_up"]["redelivery"] = RetryPolicy(attempts=1)
    handlers["later"] = {"redelivery": SLOW}
    failing = Failing(store, fake_clock, handlers=handlers, worker=worker, redelivery=FAST)
    failing.failures["heals"] = 1
    async with failing.bus as bus:
        await bus.configure(automatic_retries=False)
        await failing.publish()
        fake_clock.advance(120)
        assert await bus.process_due() == Processed(claimed=3, resolved=1, pending=1, exhausted=1)
        assert await bus.process_due() == Processed()
    assert len(failing.ran) == 7
    states = {it.handler_id: str(it.state) for it in await failing.letters()}
    assert states == {"heals": "resolved", "fails": "pending", "gives_up": "exhausted", "later": "pending"}


async def test_durable_deliveries_that_nobody_has_run_are_due(
    store: MemoryStore, fake_clock: FakeClock
) -> None:
    handlers = {"handler": {"durable": True}}
    failing = Failing(store, fake_clock, handlers=handlers, worker=False)
    failing.failures["handler"] = 0
    async with failing.bus as bus:
        await bus.publish("job", 1)
        assert await bus.process_due() == Processed(claimed=1, resolved=1)
        assert (await bus.stats()).total == 0  # it has never failed


async def test_no_more_than_asked_for_are_run_and_each_once(
    store: MemoryStore, fake_clock: FakeClock
) -> None:
    at_once = RetryPolicy(attempts=9, delay=0)
    failing = Failing(store, fake_clock, worker=False, redelivery=at_once)
    async with failing.bus as bus:
        for number in range(5):
            await failing.publish(number)
        assert await bus.process_due(limit=3) == Processed(claimed=3, pending=3)
    assert sorted(it.attempts for it in await failing.letters()) == [1, 1, 2, 2, 2]


@pytest.mark.parametrize("limit", [0, -1, 1_001, True, "3", 2.0])
async def test_a_limit_that_makes_no_sense_is_refused(
    store: MemoryStore, fake_clock: FakeClock, limit: Any
) -> None:
    failing = Failing(store, fake_clock, worker=False)
    async with failing.bus as bus:
        with pytest.raises(ValueError, match=r"^limit="):
            await bus.process_due(limit=limit)


async def test_no_more_of_a_handler_run_at_a_time_than_it_allows_by_hand_either(
    store: MemoryStore, fake_clock: FakeClock
) -> None:
    bus = EventBus(dlq=DeadLetterQueue(store, clock=fake_clock, worker=False))
    running = most = 0

    async def handler(event: Any) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.sleep(0)
        running -= 1

    bus.subscribe("job", handler, id="handler", durable=True, max_concurrency=2)
    async with bus:
        for number in range(10):
            await bus.publish("job", number)
        assert (await bus.process_due()).resolved == 10
    assert most == 2


async def test_whoever_is_cancelled_gives_back_what_had_not_ended(
    store: MemoryStore, fake_clock: FakeClock
) -> None:
    bus = EventBus(dlq=DeadLetterQueue(store, clock=fake_clock, worker=False, concurrency=2))
    began: list[Any] = []

    async def handler(event: Any) -> None:
        began.append(event)
        await anyio.sleep_forever()

    bus.subscribe("job", handler, id="handler", durable=True)
    async with bus:
        for number in range(5):
            await bus.publish("job", number)
        async with anyio.create_task_group() as group:
            group.start_soon(bus.process_due)
            await until(lambda: len(began) == 2)
            group.cancel_scope.cancel()
        stats = await bus.stats()
        assert stats.by_state["accepted"] == stats.total == 5
        page = await bus.dead_letters(limit=10)
        assert {it.attempts for it in page.items} == {0}


async def test_a_claim_whose_answer_nobody_waits_for_is_given_back(fake_clock: FakeClock) -> None:
    class Slow(MemoryStore):
        async def claim_due(self, wanted: Any, **options: Any) -> Sequence[Claim]:
            claims = await super().claim_due(wanted, **options)
            claimed.set()
            await anyio.sleep_forever()
            return claims

    store, claimed = Slow(), anyio.Event()
    failing = Failing(store, fake_clock, handlers={"handler": {"durable": True}}, worker=False)
    async with failing.bus as bus:
        await bus.publish("job", 1)
        async with anyio.create_task_group() as group:
            group.start_soon(bus.process_due)
            await claimed.wait()
            group.cancel_scope.cancel()
        (letter,) = await failing.letters()
    assert (letter.state, letter.attempts) == ("accepted", 0)


async def test_a_bus_that_stops_meanwhile_gives_back_what_had_not_ended(
    store: MemoryStore, fake_clock: FakeClock
) -> None:
    queue = DeadLetterQueue(store, clock=fake_clock, worker=False, concurrency=2)
    bus = EventBus(dlq=queue, shutdown_grace=0)
    began: list[Any] = []
    processed: list[Processed] = []

    async def handler(event: Any) -> None:
        began.append(event)
        await anyio.sleep_forever()

    async def process() -> None:
        processed.append(await bus.process_due())

    bus.subscribe("job", handler, id="handler", durable=True)
    async with anyio.create_task_group() as group, bus:
        for number in range(5):
            await bus.publish("job", number)
        group.start_soon(process)
        await until(lambda: len(began) == 2)
    assert processed == [Processed(claimed=5, released=5)]


async def test_what_has_no_handler_any_more_is_given_back(fake_clock: FakeClock) -> None:
    class Slow(MemoryStore):
        async def claim_due(self, wanted: Any, **options: Any) -> Sequence[Claim]:
            claims = await super().claim_due(wanted, **options)
            bus.unsubscribe(bus.subscriptions[0])
            return claims

    failing = Failing(Slow(), fake_clock, handlers={"handler": {"durable": True}}, worker=False)
    bus = failing.bus
    async with bus:
        await bus.publish("job", 1)
        assert await bus.process_due() == Processed(claimed=1, released=1)
        (letter,) = await failing.letters()
    assert (letter.state, letter.attempts) == ("accepted", 0)


async def test_a_store_that_goes_away_meanwhile_is_named(fake_clock: FakeClock) -> None:
    class Gone(MemoryStore):
        async def settle(self, settlements: Any, **options: Any) -> Any:
            raise StoreUnavailable("gone")

    handlers = {"handler": {"durable": True}}
    failing = Failing(Gone(), fake_clock, handlers=handlers, worker=False, capture_timeout=0)
    async with failing.bus as bus:
        await bus.publish("job", 1)
        with pytest.raises(StoreUnavailable, match="gone"):
            await bus.process_due()


# -- requeueing


async def test_a_requeued_letter_runs_now_with_its_whole_schedule_before_it(
    store: MemoryStore, fake_clock: FakeClock
) -> None:
    failing = Failing(store, fake_clock, redelivery=RetryPolicy(attempts=2, delay=60, jitter=False))
    async with failing.bus as bus:
        letter = await store.get(await failing.publish())
        for runs in (2, 3):
            await failing.until_due(letter)
            letter = await failing.settled(letter.id, runs=runs)
        assert letter.state == "exhausted"
        requeued = await bus.requeue(letter.id, by="ann", note="fixed the bank")
        assert (requeued.state, requeued.retries, requeued.retry_at) == ("pending", 0, fake_clock.now)
        letter = await failing.settled(letter.id, runs=4)
        assert (letter.state, letter.retries) == ("pending", 1)
        assert (letter.acted_by, letter.note) == ("ann", "fixed the bank")
        with pytest.raises(DeadLetterNotFound):
            await bus.requeue("nobody")
        await bus.resolve(letter.id)
        with pytest.raises(InvalidTransition):
            await bus.requeue(letter.id)


async def test_every_letter_of_a_query_is_requeued_and_accounted_for(
    store: MemoryStore, fake_clock: FakeClock
) -> None:
    failing = Failing(store, fake_clock, redelivery=RetryPolicy(attempts=0), worker=False)
    async with failing.bus as bus:
        ids = [await failing.publish(number) for number in range(25)]
        await bus.resolve(ids[0])
        operation = await bus.requeue_all(DeadLetterQuery(handler="handler"), by="ann")
        assert (operation.total, operation.done, operation.skipped, operation.failed) == (25, 24, 1, 0)
        assert operation.state == "completed"
        assert (await bus.stats()).by_state == {"resolved": 1, "pending": 24}
        assert {it.acted_by for it in await failing.letters() if it.state == "pending"} == {"ann"}
        failing.failures["handler"] = 0
        assert (await bus.process_due()).resolved == 24


async def test_an_empty_query_requeues_nothing(store: MemoryStore, fake_clock: FakeClock) -> None:
    failing = Failing(store, fake_clock, redelivery=RetryPolicy(attempts=0), worker=False)
    async with failing.bus as bus:
        await failing.publish()
        with pytest.raises(ValueError, match="everything"):
            await bus.requeue_all(DeadLetterQuery())
        assert (await bus.stats()).by_state == {"exhausted": 1}
        assert (await bus.requeue_all(DeadLetterQuery.everything())).done == 1


async def test_what_is_requeued_wakes_the_worker_at_once(store: MemoryStore, fake_clock: FakeClock) -> None:
    failing = Failing(store, fake_clock, redelivery=RetryPolicy(attempts=0), poll=3_600)
    async with failing.bus as bus:
        letter_id = await failing.publish()
        failing.failures["handler"] = 0
        await bus.requeue(letter_id)
        letter = await failing.settled(letter_id, runs=2)
    assert letter.state == "resolved"
    assert failing.times == [0, 0]
    assert letter.last_attempt_at == fake_clock.now
    assert fake_clock.now - letter.created_at == timedelta(0)
