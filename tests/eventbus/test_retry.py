"""Retries within the process: the policy as tables, and its waits by a clock that a test turns."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus import Category, Classification, EventBus, Kind, RetryPolicy, TelemetryEvent
from eventbus.retry import should_retry
from eventbus.testing import FakeClock
from eventbus_dlq import DeadLetterQueue, MemoryStore


@pytest.mark.parametrize(
    ("policy", "waits"),
    [
        (RetryPolicy(backoff="fixed", delay=2, jitter=False), [2, 2, 2, 2]),
        (RetryPolicy(backoff="linear", delay=2, jitter=False), [2, 4, 6, 8]),
        (RetryPolicy(backoff="exponential", delay=2, jitter=False), [2, 4, 8, 16]),
        (RetryPolicy(backoff="exponential", delay=1, multiplier=5, jitter=False), [1, 5, 25, 60]),
        (RetryPolicy(backoff="linear", delay=25, max_delay=60, jitter=False), [25, 50, 60, 60]),
        (RetryPolicy(delay=0), [0, 0, 0, 0]),
    ],
)
def test_the_waits_of_each_backoff(policy: RetryPolicy, waits: list[float]) -> None:
    assert [policy.wait_before(retry) for retry in (1, 2, 3, 4)] == waits


@given(
    backoff=st.sampled_from(["fixed", "linear", "exponential"]),
    delay=st.floats(0, 100),
    multiplier=st.floats(1, 100),
    max_delay=st.floats(0, 1000),
    retry=st.integers(1, 10_000),
    seed=st.text(),
)
def test_jitter_only_lengthens_at_most_by_half_and_never_past_the_cap(
    backoff: Any, delay: float, multiplier: float, max_delay: float, retry: int, seed: str
) -> None:
    settings: dict[str, Any] = {
        "backoff": backoff,
        "delay": delay,
        "multiplier": multiplier,
        "max_delay": max_delay,
    }
    plain = RetryPolicy(jitter=False, **settings).wait_before(retry, seed=seed)
    policy = RetryPolicy(jitter=True, **settings)
    wait = policy.wait_before(retry, seed=seed)
    assert wait == policy.wait_before(retry, seed=seed)
    assert plain <= wait <= min(plain * 1.5, max_delay) or wait == plain == max_delay


@pytest.mark.parametrize(
    ("attempts", "made", "category", "again"),
    [
        (3, 1, Category.TRANSIENT, True),
        (3, 2, Category.UNKNOWN, True),
        (3, 3, Category.TRANSIENT, False),
        (3, 1, Category.PERMANENT, False),
        (1, 1, Category.TRANSIENT, False),
        (0, 1, Category.TRANSIENT, False),
    ],
)
def test_the_budget_and_the_category_decide(
    attempts: int, made: int, category: Category, again: bool
) -> None:
    assert should_retry(RetryPolicy(attempts=attempts), attempts_made=made, category=category) is again


@pytest.mark.parametrize(
    "options",
    [
        {"attempts": -1},
        {"attempts": 1_000_001},
        {"attempts": 3.0},
        {"attempts": True},
        {"attempts": "3"},
        {"backoff": "random"},
        {"delay": -1},
        {"delay": float("inf")},
        {"max_delay": float("nan")},
        {"max_delay": 3.2e8},
        {"delay": 1e300},
        {"delay": "1"},
        {"delay": True},
        {"multiplier": 0.5},
        {"multiplier": float("nan")},
        {"multiplier": 1e9},
        {"multiplier": None},
        {"jitter": 1},
    ],
)
def test_numbers_that_make_no_sense_are_refused_by_name(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"^{name}="):
        RetryPolicy(**options)


class Flaky:
    """A handler that fails a number of times, with one error."""

    def __init__(self, failures: int, error: BaseException | None = None) -> None:
        self.runs = 0
        self._failures = failures
        self._error = error or RuntimeError("flaky")

    async def __call__(self, event: Any) -> None:
        self.runs += 1
        if self.runs <= self._failures:
            raise self._error


async def test_attempts_are_made_when_their_time_has_come_and_not_before() -> None:
    clock, flaky = FakeClock(), Flaky(2)
    seen: list[TelemetryEvent] = []
    policy = RetryPolicy(attempts=3, delay=10, multiplier=3, jitter=False)
    bus = EventBus(clock=clock, observers=[seen.append])
    bus.subscribe("job", flaky, id="flaky", retry=policy)
    async with bus, anyio.create_task_group() as group:
        group.start_soon(bus.publish, "job", 1)
        await clock.wait_for_sleepers()
        assert clock.sleepers == (10,)
        clock.advance(9.999)
        await anyio.wait_all_tasks_blocked()
        assert flaky.runs == 1
        clock.advance(0.001)
        await clock.wait_for_sleepers()
        assert flaky.runs == 2
        assert clock.sleepers == (30,)
        clock.advance(30)
    assert flaky.runs == 3
    numbers = bus.metrics.snapshot()["flaky"]
    assert (numbers.delivered, numbers.failed, numbers.retried, numbers.published) == (1, 0, 2, 1)
    retried = [it.fields for it in seen if it.name == "delivery.retried"]
    assert [(it["attempt"], it["wait"], it["error_type"], it["kind"]) for it in retried] == [
        (1, 10, "RuntimeError", "unknown"),
        (2, 30, "RuntimeError", "unknown"),
    ]


async def test_healthy_siblings_run_at_once_and_only_once() -> None:
    clock, flaky, healthy = FakeClock(), Flaky(1), Flaky(0)
    bus = EventBus(clock=clock, retry=RetryPolicy(attempts=2, delay=60))
    bus.subscribe("job", flaky, id="flaky")
    bus.subscribe("job", healthy, id="healthy")
    async with bus, anyio.create_task_group() as group:
        group.start_soon(bus.publish, "job", 1)
        await clock.wait_for_sleepers()
        assert healthy.runs == 1
        clock.advance(90)
    assert (flaky.runs, healthy.runs) == (2, 1)


async def test_a_permanent_failure_is_not_tried_again(dlq: DeadLetterQueue) -> None:
    flaky = Flaky(9, ValueError("bad input"))
    bus = EventBus(dlq=dlq, retry=RetryPolicy(attempts=5, delay=0))
    bus.subscribe("job", flaky, id="flaky")
    async with bus:
        receipt = await bus.publish("job", 1)
    assert (flaky.runs, receipt.deliveries["flaky"].attempts) == (1, 1)


async def test_the_handlers_own_rule_decides_about_its_retries(dlq: DeadLetterQueue) -> None:
    flaky = Flaky(2, ValueError("try again"))
    bus = EventBus(dlq=dlq, retry=RetryPolicy(attempts=5, delay=0))
    bus.subscribe("job", flaky, id="flaky", classify=[lambda error: Classification(Kind.UNAVAILABLE)])
    async with bus:
        receipt = await bus.publish("job", 1)
    assert receipt.ok
    assert flaky.runs == 3


async def test_a_hint_moves_the_schedule(store: MemoryStore, fake_clock: FakeClock) -> None:
    bus = EventBus(dlq=DeadLetterQueue(store, clock=fake_clock))
    rule = [lambda error: Classification(Kind.RATE_LIMIT, retry_after=7200.0)]
    bus.subscribe("job", Flaky(1), id="limited", classify=rule)
    async with bus:
        receipt = await bus.publish("job", 1)
    letter = await store.get(str(receipt.deliveries["limited"].dead_letter_id))
    assert letter.retry_at is not None
    assert (letter.retry_at - fake_clock.now).total_seconds() == 7200


async def test_the_most_specific_policy_wins() -> None:
    own, shared = Flaky(9), Flaky(9)
    bus = EventBus(retry=RetryPolicy(attempts=2, delay=0))
    bus.subscribe("job", own, id="own", retry=RetryPolicy(attempts=4, delay=0))
    bus.subscribe("job", shared, id="shared")
    async with bus:
        await bus.publish("job", 1)
    assert (own.runs, shared.runs) == (4, 2)


async def test_every_attempt_starts_with_the_publishers_context_and_its_own_number() -> None:
    numbers: list[int] = []

    async def note(delivery: Any, call_next: Any) -> None:
        numbers.append(delivery.attempt)
        await call_next(delivery)

    bus = EventBus(middleware=[note], retry=RetryPolicy(attempts=3, delay=0))
    bus.subscribe("job", Flaky(2), id="flaky")
    async with bus:
        assert (await bus.publish("job", 1)).ok
    assert numbers == [1, 2, 3]
