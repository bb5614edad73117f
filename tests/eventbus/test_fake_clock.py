"""``eventbus.testing.FakeClock``: stands still until a test turns it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import anyio
import pytest

from eventbus import Clock
from eventbus.testing import FakeClock


async def test_it_starts_where_it_is_told_and_moves_only_when_it_is_turned() -> None:
    clock = FakeClock(datetime(2030, 5, 1, 12, tzinfo=UTC))
    assert clock.now == datetime(2030, 5, 1, 12, tzinfo=UTC)
    assert clock.monotonic() == 0.0
    await anyio.sleep(0.01)
    assert clock.monotonic() == 0.0
    clock.advance(90.25)
    assert clock.now == datetime(2030, 5, 1, 12, 1, 30, 250_000, tzinfo=UTC)
    assert clock.monotonic() == 90.25
    assert clock.time_ns() == int(clock.now.timestamp() * 1_000_000) * 1_000
    assert repr(clock) == "<FakeClock 2030-05-01T12:01:30.250000+00:00, 0 asleep>"


def test_a_start_without_a_time_zone_and_a_turn_back_are_refused() -> None:
    with pytest.raises(ValueError, match="has no time zone"):
        FakeClock(datetime(2030, 1, 1))
    for seconds in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="0 or more"):
            FakeClock().advance(seconds)


def test_it_is_a_clock_to_the_type_checker(fake_clock: FakeClock) -> None:
    clock: Clock = fake_clock
    assert clock.monotonic() == 0.0


async def test_sleepers_wake_in_the_order_of_their_moments_and_not_before() -> None:
    clock, woken = FakeClock(), []

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((seconds, clock.monotonic()))

    async with anyio.create_task_group() as group:
        for seconds in (5, 1, 4, 2, 3, 99):
            group.start_soon(sleep, seconds)
        await clock.wait_for_sleepers(6)
        assert clock.sleepers == (1, 2, 3, 4, 5, 99)
        clock.advance(0.999)
        await anyio.wait_all_tasks_blocked()
        assert woken == []
        clock.advance(4.001)
        await anyio.wait_all_tasks_blocked()
        assert woken == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
        assert clock.sleepers == (94,)
        clock.advance(94)


async def test_turning_it_while_some_are_waking_keeps_the_order() -> None:
    clock, woken = FakeClock(), []

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(seconds)

    async with anyio.create_task_group() as group:
        for seconds in (3, 2, 1):
            group.start_soon(sleep, seconds)
        await clock.wait_for_sleepers(3)
        for _ in range(3):
            clock.advance(1)
    assert woken == [1, 2, 3]


async def test_a_cancelled_sleeper_is_forgotten_and_delays_nobody() -> None:
    clock, woken = FakeClock(), []

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(seconds)

    async with anyio.create_task_group() as group:
        with anyio.move_on_after(0.01):
            await clock.sleep(1)
        assert clock.sleepers == ()
        async with anyio.create_task_group() as doomed:
            doomed.start_soon(sleep, 1)
            group.start_soon(sleep, 2)
            await clock.wait_for_sleepers(2)
            clock.advance(5)  # both are due, and one is cancelled before it has run
            doomed.cancel_scope.cancel()
    assert woken in ([2], [1, 2])


async def test_sleeping_for_no_time_lets_others_run_once() -> None:
    clock, seen = FakeClock(), []

    async def other() -> None:
        seen.append("other")

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        for seconds in (0, -1):
            await clock.sleep(seconds)
        await anyio.lowlevel.checkpoint()
        assert seen == ["other"]
    assert clock.sleepers == ()


async def test_waiting_for_sleepers_ends_when_there_are_enough_and_can_be_cancelled() -> None:
    clock = FakeClock()
    with anyio.move_on_after(0.01) as scope:
        await clock.wait_for_sleepers()
    assert scope.cancelled_caught
    async with anyio.create_task_group() as group:
        group.start_soon(clock.sleep, 1)
        await clock.wait_for_sleepers(1)
        await clock.wait_for_sleepers(1)
        clock.advance(timedelta(seconds=1).total_seconds())
