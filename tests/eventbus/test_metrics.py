"""Metrics: what each handler did, split by event, and how long it took."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from eventbus import EventBus, Latency
from eventbus.metrics import BUCKETS, Counters, Metrics
from eventbus_dlq import DeadLetterQueue


async def test_the_numbers_add_up_by_handler_and_by_event(dlq: DeadLetterQueue) -> None:
    bus = EventBus(dlq=dlq)

    @bus.on("a", "b", id="handler")
    async def handler(event: Any) -> None:
        if event == "fail":
            raise RuntimeError("x")

    async with bus:
        for event in ("ok", "ok", "fail"):
            await bus.publish("a", event)
        await bus.publish("b", "ok")
    numbers = bus.metrics.snapshot()["handler"]
    assert (numbers.published, numbers.delivered, numbers.failed, numbers.in_flight) == (4, 3, 1, 0)
    assert numbers.latency.count == 4
    assert numbers.latency.sum > 0
    by_event = {name: (it.delivered, it.failed) for name, it in numbers.by_event.items()}
    assert by_event == {"a": (2, 1), "b": (1, 0)}
    assert bus.metrics.published == 4


async def test_a_running_delivery_is_in_flight() -> None:
    bus, go = EventBus(), anyio.Event()

    @bus.on("job", id="handler")
    async def handler(event: Any) -> None:
        await go.wait()

    async with bus, anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(bus.publish, "job", 1)
        await anyio.wait_all_tasks_blocked()
        numbers = bus.metrics.snapshot()["handler"]
        assert (numbers.in_flight, numbers.published, numbers.delivered) == (3, 3, 0)
        go.set()
    assert bus.metrics.snapshot()["handler"].in_flight == 0


async def test_a_bus_of_its_own_counts_for_itself() -> None:
    first, second = EventBus(), EventBus()
    async with first, second:
        await first.publish("a", 1)
    assert (first.metrics.published, second.metrics.published) == (1, 0)
    assert first.metrics.snapshot() == {}


def observed(*durations_ns: int) -> Latency:
    metrics = Metrics()
    counters = metrics.counters("h", "e")
    for duration in durations_ns:
        counters.observe(duration)
    return metrics.snapshot()["h"].latency


def test_the_histogram_is_cumulative_and_leaves_out_what_is_empty_at_its_ends() -> None:
    latency = observed(1000, 1000, 3000, 100_000)
    assert latency.count == 4
    assert latency.sum == pytest.approx(105e-6)
    assert latency.buckets[0] == (1024e-9, 2)
    assert latency.buckets[-1] == (131_072e-9, 4)
    counts = [count for _, count in latency.buckets]
    assert counts == sorted(counts)


def test_quantiles_are_upper_bounds_within_a_factor_of_two() -> None:
    latency = observed(*[1_000_000] * 99, 50_000_000)
    assert 1e-3 <= latency.quantile(0.5) <= 2e-3
    assert 50e-3 <= latency.quantile(1.0) <= 100e-3
    assert observed().quantile(0.5) == 0.0


def test_the_longest_and_the_shortest_durations_have_a_bucket() -> None:
    counters = Counters()
    counters.observe(0)
    counters.observe(2 ** (BUCKETS - 1) - 1)
    assert counters.latency[0] == 1
    assert counters.latency[BUCKETS - 1] == 1


async def test_a_handler_that_is_unsubscribed_leaves_no_numbers_behind() -> None:
    bus = EventBus()
    async with bus:
        for number in range(3):

            async def handle(event: Any) -> None: ...

            subscription = bus.subscribe("job", handle, id=f"h-{number}")
            await bus.publish("job", number)
            assert set(bus.metrics.snapshot()) == {f"h-{number}"}
            bus.unsubscribe(subscription)
    assert bus.metrics.snapshot() == {}
