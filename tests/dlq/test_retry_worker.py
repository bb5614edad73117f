"""Failures that come home by themselves: when they are retried, and what keeps nobody waiting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from email.message import Message
from typing import Any, ClassVar
from urllib.error import HTTPError

import anyio
import pytest
from letters import build_letter_in
from pydantic import BaseModel, SecretStr
from tests.dlq.failing import Failing, until

from eventbus import Classification, EventBus, Kind, RetryPolicy
from eventbus.testing import FakeClock
from eventbus_dlq import Claim, DeadLetterQueue, DeadLetterState, MemoryStore, StoreUnavailable

HOUR = 3_600.0
HOURLY = RetryPolicy(attempts=168, backoff="fixed", delay=HOUR, max_delay=HOUR, jitter=False)


@pytest.mark.parametrize(
    ("schedule", "waits"),
    [
        (RetryPolicy(attempts=3, backoff="fixed", delay=30, jitter=False), [30, 30, 30]),
        (RetryPolicy(attempts=3, backoff="linear", delay=20, jitter=False), [20, 40, 60]),
        (RetryPolicy(attempts=4, delay=5, multiplier=3, jitter=False), [5, 15, 45, 60]),
        (RetryPolicy(attempts=2, delay=0, jitter=False), [0, 0]),
        (RetryPolicy(attempts=0), []),
        (
            RetryPolicy(attempts=5, delay=60, multiplier=5, max_delay=HOUR, jitter=False),
            [60, 300, 1_500, HOUR, HOUR],
        ),
    ],
)
async def test_a_failure_is_retried_as_its_schedule_says_and_then_waits_for_a_person(
    store: MemoryStore, fake_clock: FakeClock, schedule: RetryPolicy, waits: list[float]
) -> None:
    failing = Failing(store, fake_clock, redelivery=schedule, poll=1e6)  # it knows when to look
    async with failing.bus as bus:
        letter = await store.get(await failing.publish())
        for number, wait in enumerate(waits, 1):
            if wait == 0:
                continue  # it runs again at once, and as often as it may
            assert letter.state == "pending"
            fake_clock.advance(wait - 1)
            await anyio.sleep(0)
            assert len(failing.ran) == number  # not before its time
            fake_clock.advance(1)
            letter = await failing.settled(letter.id, runs=number + 1)
        letter = await failing.settled(letter.id, runs=len(waits) + 1)
        await failing.turn(10 * HOUR)
        assert await bus.dead_letter(letter.id) == letter
    assert (letter.state, letter.reason, letter.retries) == ("exhausted", "attempts", len(waits))
    assert len(letter.history) == len(waits) + 1
    assert failing.times == [sum(waits[:number]) for number in range(len(waits) + 1)]


async def test_a_handler_that_recovers_has_its_letter_resolved(
    store: MemoryStore, fake_clock: FakeClock
) -> None:
    failing = Failing(store, fake_clock, observed=True)
    failing.failures["handler"] = 3
    async with failing.bus:
        letter = await store.get(await failing.publish())
        for runs in (2, 3, 4):
            await failing.until_due(letter)
            letter = await failing.settled(letter.id, runs=runs)
    assert (letter.state, letter.retries, len(letter.history)) == ("resolved", 3, 3)
    names = [it.name for it in failing.told if it.name.startswith("dead_letter.")]
    replayed = ["dead_letter.replayed"] * 3
    assert names == ["dead_letter.captured", *replayed, "dead_letter.resolved"]


@pytest.mark.parametrize("lives", [1, 7])
async def test_a_week_of_retries_goes_by_with_restarts_or_without(
    store: MemoryStore, fake_clock: FakeClock, lives: int
) -> None:
    """168 hourly retries, in milliseconds; a process that ends hands its schedule to the next one."""
    runs, letter_id = 1, ""
    times: list[float] = []
    for life in range(lives):
        failing = Failing(store, fake_clock, redelivery=HOURLY)
        async with failing.bus:
            letter_id = letter_id or await failing.publish()
            letter = await store.get(letter_id)
            for _ in range(168 // lives):
                runs += 1
                await failing.until_due(letter)
                letter = await failing.settled(letter_id, runs=runs)
        times += failing.times
        assert letter.state == ("exhausted" if life == lives - 1 else "pending")
    assert letter.retries == 168
    assert [round(at / HOUR) for at in times] == list(range(169))


async def test_a_failure_of_a_durable_delivery_is_retried_too(
    store: MemoryStore, fake_clock: FakeClock
) -> None:
    failing = Failing(store, fake_clock, handlers={"handler": {"durable": True}})
    failing.failures["handler"] = 1
    async with failing.bus as bus:
        receipt = await bus.publish("job", 1)
        letter = await failing.settled(str(receipt.deliveries["handler"].dead_letter_id), runs=1)
        assert letter.state == "pending"
        await failing.until_due(letter)
        letter = await failing.settled(letter.id, runs=2)
    assert (letter.state, letter.retries) == ("resolved", 1)


async def test_what_was_interrupted_runs_again_in_the_next_process(
    store: MemoryStore, fake_clock: FakeClock
) -> None:
    first = EventBus(dlq=DeadLetterQueue(store, clock=fake_clock), shutdown_grace=0)
    began = anyio.Event()

    async def slow(event: Any) -> None:
        began.set()
        await anyio.sleep_forever()

    first.subscribe("job", slow, id="handler")
    async with first:
        await first.enqueue("job", 1)
        await began.wait()
    second = Failing(store, fake_clock)
    second.failures["handler"] = 0
    (letter,) = await second.letters()
    assert (letter.state, letter.reason) == ("pending", "interrupted")
    async with second.bus:
        fake_clock.advance(2)
        letter = await second.settled(letter.id, runs=1)
    assert letter.state == "resolved"


async def test_a_retry_that_the_stop_of_the_bus_cuts_short_is_not_charged(
    store: MemoryStore, fake_clock: FakeClock
) -> None:
    began = anyio.Event()
    bus = EventBus(dlq=DeadLetterQueue(store, clock=fake_clock), shutdown_grace=0)
    hang = False

    async def handler(event: Any) -> None:
        if hang:
            began.set()
            await anyio.sleep_forever()
        raise RuntimeError("declined")

    bus.subscribe("job", handler, id="handler")
    async with bus:
        await bus.publish("job", 1)
        (item,) = (await bus.dead_letters()).items
        before = await store.get(item.id)
        hang = True
        fake_clock.advance(100)
        await began.wait()
    after = await store.get(item.id)
    assert (after.state, after.attempts, after.retries) == ("pending", 1, 0)
    assert after.retry_at == before.retry_at


# -- when


@pytest.mark.parametrize(("hint", "waited"), [(600.0, 600.0), (5.0, 60.0), (None, 60.0)])
async def test_a_hint_of_the_failing_side_makes_the_wait_longer_and_never_shorter(
    store: MemoryStore, fake_clock: FakeClock, hint: float | None, waited: float
) -> None:
    def busy(error: BaseException) -> Classification:
        return Classification(Kind.RATE_LIMIT, retry_after=hint)

    schedule = RetryPolicy(attempts=3, delay=60, jitter=False)
    failing = Failing(store, fake_clock, handlers={"handler": {"classify": [busy]}}, redelivery=schedule)
    async with failing.bus:
        letter = await store.get(await failing.publish())
        assert letter.retry_at == fake_clock.now + timedelta(seconds=waited)
        await failing.until_due(letter)
        again = await failing.settled(letter.id, runs=2)
    assert again.retry_at is not None
    assert (again.retry_at - fake_clock.now).total_seconds() >= waited


async def test_an_exception_that_carries_a_hint_needs_no_rule(
    store: MemoryStore, fake_clock: FakeClock
) -> None:
    headers = Message()
    headers["Retry-After"] = "600"
    failing = Failing(store, fake_clock)
    failing.error = HTTPError("https://bank.example/charges", 429, "Too Many Requests", headers, None)
    async with failing.bus:
        letter = await store.get(await failing.publish())
    assert letter.retry_at == fake_clock.now + timedelta(minutes=10)


async def test_a_snoozed_letter_runs_at_its_moment(store: MemoryStore, fake_clock: FakeClock) -> None:
    failing = Failing(store, fake_clock)
    failing.error = TypeError("a bug")
    async with failing.bus as bus:
        letter_id = await failing.publish()
        assert (await bus.dead_letter(letter_id)).state == "exhausted"
        failing.failures["handler"] = 0
        await bus.snooze(letter_id, until=fake_clock.now + timedelta(hours=9), by="ann")
        await failing.turn(8.9 * HOUR)
        assert len(failing.ran) == 1
        fake_clock.advance(0.1 * HOUR)
        letter = await failing.settled(letter_id, runs=2)
    assert (letter.state, letter.acted_by) == ("resolved", "ann")
    assert failing.times == [0, 9 * HOUR]


async def test_what_another_process_has_put_off_is_found_by_polling(
    store: MemoryStore, fake_clock: FakeClock
) -> None:
    here = Failing(store, fake_clock, poll=1.0)
    there = Failing(store, fake_clock, worker=False)
    async with there.bus:
        letter = await store.get(await there.publish())
    async with here.bus:
        await anyio.wait_all_tasks_blocked()
        await here.until_due(letter)
        fake_clock.advance(1)
        await here.settled(letter.id, runs=2)
    assert len(here.ran) == 1


class Away(MemoryStore):
    """A store that cannot be asked for work while it is away."""

    away = False

    async def claim_due(self, wanted: Any, **options: Any) -> Sequence[Claim]:
        if self.away:
            raise StoreUnavailable("gone")
        return await super().claim_due(wanted, **options)


async def test_a_store_that_is_away_when_something_is_due_delays_it_and_no_more(
    fake_clock: FakeClock,
) -> None:
    store = Away()
    failing = Failing(store, fake_clock)
    failing.failures["handler"] = 1
    async with failing.bus:
        letter = await store.get(await failing.publish())
        store.away = True
        await failing.until_due(letter)
        await anyio.wait_all_tasks_blocked()
        assert len(failing.ran) == 1
        store.away = False
        fake_clock.advance(1)
        assert (await failing.settled(letter.id, runs=2)).state == "resolved"


# -- keeping nobody waiting


async def test_what_is_not_to_be_retried_here_keeps_nothing_that_is_due_waiting(
    store: MemoryStore, fake_clock: FakeClock
) -> None:
    """Thousands that are exhausted, poisoned, not due, or somebody else's, all more urgent than the one."""
    crowd: list[Any] = []
    base = build_letter_in(DeadLetterState.PENDING, retry_at=fake_clock.now, priority=1)
    for number in range(500):
        states: dict[str, dict[str, Any]] = {
            "exhausted": {"state": DeadLetterState.EXHAUSTED, "reason": "attempts", "retry_at": None},
            "poison": {"state": DeadLetterState.EXHAUSTED, "reason": "poison", "retry_at": None},
            "later": {"retry_at": fake_clock.now + timedelta(days=9)},
            "others": {"handler_id": "elsewhere"},
        }
        for name, state in states.items():
            changes = {"handler_id": "handler", "event_name": "job", **state}
            crowd.append(replace(base, id=f"{name}-{number}", event_id=f"{name}-{number}", **changes))
    await store.add(crowd)
    failing = Failing(store, fake_clock, concurrency=10)
    failing.failures["handler"] = 1
    async with failing.bus:
        letter = await store.get(await failing.publish(priority=10))
        await failing.until_due(letter)
        assert (await failing.settled(letter.id, runs=2)).state == "resolved"
    assert len(failing.ran) == 2


async def test_the_most_urgent_come_first(store: MemoryStore, fake_clock: FakeClock) -> None:
    handlers = {"handler": {"max_concurrency": 1}}
    failing = Failing(store, fake_clock, handlers=handlers, concurrency=1)
    order: list[int] = []

    async def note(event: Any) -> None:
        order.append(event)
        if len(order) <= 10:
            raise RuntimeError("declined")

    failing.bus.unsubscribe(failing.bus.subscriptions[0])
    failing.bus.subscribe("job", note, id="handler", max_concurrency=1)
    async with failing.bus as bus:
        for priority in (5, 10, 1, 7, 3, 8, 2, 6, 9, 4):
            await bus.publish("job", priority, priority=priority)
        order[:] = [0] * 10
        fake_clock.advance(HOUR)
        await until(lambda: len(order) == 20)
    assert order[10:] == list(range(1, 11))


async def test_no_more_retries_of_a_handler_run_at_a_time_than_it_allows(
    store: MemoryStore, fake_clock: FakeClock
) -> None:
    bus = EventBus(dlq=DeadLetterQueue(store, clock=fake_clock))
    running = most = 0
    fails = True

    async def handler(event: Any) -> None:
        nonlocal running, most
        if fails:
            raise RuntimeError("declined")
        running += 1
        most = max(most, running)
        await anyio.sleep(0)
        running -= 1

    bus.subscribe("job", handler, id="handler", max_concurrency=2)
    async with bus:
        for number in range(20):
            await bus.publish("job", number)
        fails = False
        fake_clock.advance(HOUR)
        with anyio.fail_after(10):
            while (await bus.stats()).by_state.get("resolved") != 20:
                await anyio.sleep(0)
    assert most == 2


async def test_a_letter_whose_handler_goes_while_it_is_claimed_is_given_back(fake_clock: FakeClock) -> None:
    class Slow(MemoryStore):
        async def claim_due(self, wanted: Any, **options: Any) -> Sequence[Claim]:
            claims = await super().claim_due(wanted, **options)
            if claims:
                bus.unsubscribe(subscription)
            return claims

    store = Slow()
    failing = Failing(store, fake_clock)
    bus = failing.bus
    (subscription,) = bus.subscriptions
    async with bus:
        before = await store.get(await failing.publish())
        await failing.until_due(before)
        await until(lambda: not bus.subscriptions)
        await anyio.wait_all_tasks_blocked()
        after = await store.get(before.id)
    assert (after.state, after.attempts, after.retries) == ("pending", 1, 0)
    assert len(failing.ran) == 1


# -- what cannot be run


class Order(BaseModel):
    event_name: ClassVar = "order"
    number: int


async def test_a_payload_that_fits_no_more_is_exhausted_without_a_charge(
    store: MemoryStore, fake_clock: FakeClock
) -> None:
    class Former(BaseModel):  # as it was before a deploy
        event_name: ClassVar = "order"
        number: str

    first = EventBus(dlq=DeadLetterQueue(store, clock=fake_clock))

    async def fail(event: Any) -> None:
        raise RuntimeError("declined")

    first.subscribe(Former, fail, id="handler")
    async with first:
        receipt = await first.publish(Former(number="seven"))
    letter_id = str(receipt.deliveries["handler"].dead_letter_id)
    second = EventBus(dlq=DeadLetterQueue(store, clock=fake_clock))
    second.subscribe(Order, fail, id="handler")
    async with second:
        fake_clock.advance(HOUR)
        with anyio.fail_after(10):
            while (letter := await store.get(letter_id)).state in ("pending", "running"):
                await anyio.sleep(0)
    assert (letter.state, letter.reason, letter.attempts, letter.retries) == (
        "exhausted",
        "undecodable",
        1,
        0,
    )


class Login(BaseModel):
    user: str
    password: SecretStr


@pytest.mark.parametrize("verb", ["snooze", "requeue", "process_due"])
async def test_a_letter_that_has_lost_its_secrets_is_never_run_with_asterisks(
    store: MemoryStore, fake_clock: FakeClock, verb: str
) -> None:
    bus = EventBus(dlq=DeadLetterQueue(store, clock=fake_clock))
    seen: list[str] = []

    async def handler(event: Login) -> None:
        seen.append(event.password.get_secret_value())
        raise RuntimeError("declined")

    bus.subscribe(Login, handler, id="handler")
    async with bus:
        receipt = await bus.publish(Login(user="ann", password=SecretStr("hunter2")))
        letter_id = str(receipt.deliveries["handler"].dead_letter_id)
        if verb == "requeue":
            await bus.requeue(letter_id)
        else:
            await bus.snooze(letter_id, until=fake_clock.now)
        if verb == "process_due":
            await bus.process_due()
        with anyio.fail_after(10):
            while (letter := await store.get(letter_id)).state in ("pending", "running"):
                await anyio.sleep(0)
    assert (letter.state, letter.reason, letter.attempts) == ("exhausted", "redacted", 1)
    assert seen == ["hunter2"]
