"""Moments at which something is known to be due."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import anyio
import pytest

from eventbus.testing import FakeClock
from eventbus_dlq.alarm import Alarm


class Rung:
    """An alarm, and when it rang: seconds since the clock was made."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.at: list[float] = []
        self.alarm = Alarm(clock=clock, ring=lambda: self.at.append(clock.monotonic()))

    def set(self, *seconds: float) -> None:
        for it in seconds:
            self.alarm.set(self.clock.now + timedelta(seconds=it))

    async def turn(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await anyio.wait_all_tasks_blocked()

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[None]:
        async with anyio.create_task_group() as group:
            group.start_soon(self.alarm.serve)
            await anyio.wait_all_tasks_blocked()
            yield
            group.cancel_scope.cancel()


@pytest.fixture
def rung(fake_clock: FakeClock) -> Rung:
    return Rung(fake_clock)


async def test_it_rings_when_a_moment_has_come_and_not_before(rung: Rung) -> None:
    async with rung.serving():
        rung.set(60)
        await rung.turn(59.99)
        assert rung.at == []
        await rung.turn(0.01)
        assert rung.at == [60]
        await rung.turn(3600)
    assert rung.at == [60]


async def test_an_earlier_moment_comes_first_although_it_was_set_later(rung: Rung) -> None:
    async with rung.serving():
        rung.set(60)
        await anyio.wait_all_tasks_blocked()
        rung.set(5)
        await rung.turn(5)
        assert rung.at == [5]
        await rung.turn(55)
    assert rung.at == [5, 60]


async def test_what_has_passed_rings_at_once(rung: Rung) -> None:
    rung.set(-5, 0)
    assert rung.at == [0, 0]


async def test_moments_that_are_close_together_are_one(rung: Rung) -> None:
    async with rung.serving():
        rung.set(*(10 + number / 10_000 for number in range(1, 100)))
        await rung.turn(10.01)
    assert rung.at == [10.01]


async def test_it_keeps_a_bounded_number_of_moments_and_the_earliest_of_them(rung: Rung) -> None:
    async with rung.serving():
        rung.set(*range(5_000, 0, -1))
        rung.set(*range(5_001, 6_000))
        assert rung.clock.sleepers == ()  # it has not been woken yet, whatever was set
        for _ in range(1_000):
            rung.clock.advance(1)
            with anyio.fail_after(10):
                while len(rung.at) < rung.clock.monotonic():
                    await anyio.sleep(0)
        await rung.turn(4_000)
        assert rung.at == list(range(1, 1_001))
        rung.set(7)
        await rung.turn(7)
    assert rung.at[-1] == 5_007


async def test_a_bus_that_stops_ends_it(rung: Rung) -> None:
    async with rung.serving():
        rung.set(60)
        await anyio.wait_all_tasks_blocked()
        assert rung.clock.sleepers == (60,)
    assert rung.clock.sleepers == ()


async def test_the_end_of_the_calendar_is_left_to_polling(fake_clock: FakeClock) -> None:
    rung = Rung(fake_clock)
    async with rung.serving():
        rung.alarm.set(datetime.max.replace(tzinfo=UTC))
        rung.set(1)
        await rung.turn(1)
    assert len(rung.at) == 1
