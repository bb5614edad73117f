"""Which schedule applies to a delivery: the most specific one, as a table."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

import pytest

from eventbus import EventBus, RetryPolicy
from eventbus_dlq import Configuration, DeadLetterQueue, MemoryStore, Schedule
from eventbus_dlq.schedules import Schedules

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
LEVELS = ("handler", "subscription", "event", "all", "queue")
POLICIES = {name: RetryPolicy(attempts=number) for number, name in enumerate(LEVELS, 1)}


def configured(*levels: str) -> Configuration:
    named: dict[str, Any] = {
        "handler": ("billing.charge", None),
        "event": (None, "paid"),
        "all": (None, None),
    }
    schedules = [Schedule(*named[level], POLICIES[level], None, SINCE) for level in levels]
    return Configuration(version=1, schedules=tuple(schedules))


def schedules_with(levels: Collection[str], *, configuration: Configuration | None = None) -> Schedules:
    """Return schedules of a bus with one handler, for which something is given at these levels."""
    bus = EventBus(dlq=DeadLetterQueue(MemoryStore()))
    option: Any = {"redelivery": POLICIES["subscription"]} if "subscription" in levels else {}

    async def charge(event: Any) -> None: ...

    bus.subscribe("paid", charge, id="billing.charge", aliases=("charge",), **option)
    schedules = Schedules(bus, default=POLICIES["queue"])
    schedules.take(configuration or configured(*[it for it in ("handler", "event", "all") if it in levels]))
    return schedules


@pytest.mark.parametrize("first", range(len(LEVELS)))
def test_the_most_specific_one_wins(first: int) -> None:
    schedules = schedules_with(LEVELS[first:])
    assert schedules.of("billing.charge", "paid") == POLICIES[LEVELS[first]]


@pytest.mark.parametrize(
    ("handler", "event", "expected"),
    [
        ("billing.charge", "paid", "handler"),
        ("billing.charge", "refunded", "handler"),
        ("charge", "paid", "handler"),  # its former id
        ("unknown", "paid", "event"),
        ("unknown", "refunded", "all"),
    ],
)
def test_each_is_for_what_it_names(handler: str, event: str, expected: str) -> None:
    assert schedules_with(LEVELS).of(handler, event) == POLICIES[expected]


def test_what_is_for_a_former_id_alone_is_for_the_deliveries_stored_under_it() -> None:
    schedule = Schedule("charge", None, POLICIES["all"], None, SINCE)
    schedules = schedules_with((), configuration=Configuration(version=1, schedules=(schedule,)))
    assert schedules.of("charge", "paid") == POLICIES["all"]
    assert schedules.of("billing.charge", "paid") == POLICIES["queue"]


def test_what_is_forgotten_applies_no_more() -> None:
    schedules = schedules_with(LEVELS)
    schedules.take(configured("event"))
    assert schedules.of("billing.charge", "paid") == POLICIES["subscription"]
    schedules.take(configured())
    assert schedules.of("unknown", "paid") == POLICIES["queue"]


def test_a_schedule_without_any_retry_is_a_schedule() -> None:
    never = RetryPolicy(attempts=0)
    schedules = schedules_with(())
    schedules.take(Configuration(version=1, schedules=(Schedule(None, "paid", never, None, SINCE),)))
    assert schedules.of("billing.charge", "paid") is never
