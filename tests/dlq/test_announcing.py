"""What becomes exhausted is announced: at least once, with a key, whoever has moved it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import anyio
import pytest
import structlog
from tests.dlq.failing import Failing, until

from eventbus import EventBus, RetryPolicy, TelemetryEvent
from eventbus.testing import FakeClock
from eventbus_dlq import Announcement, DeadLetterQueue, MemoryStore, StoreUnavailable


class Telling(MemoryStore):
    """A store whose announcements can be refused, and kept waiting, and that counts who asks for them."""

    def __init__(self) -> None:
        super().__init__()
        self.refuses: set[str] = set()
        self.hangs = False
        self.asked = 0
        self.refused = 0
        self.confirmed: list[str] = []
        self.confirmations: list[int] = []

    async def claim_announcements(self, **options: Any) -> Sequence[Announcement]:
        self.asked += 1
        if self.hangs:
            await anyio.sleep_forever()
        if "claim" in self.refuses:
            raise StoreUnavailable("gone")
        return await super().claim_announcements(**options)

    async def confirm_announcements(self, keys: Collection[str]) -> None:
        if "confirm" in self.refuses:
            self.refused += 1
            await anyio.sleep(0)
            raise StoreUnavailable("gone")
        self.confirmed += keys
        self.confirmations.append(len(keys))
        await super().confirm_announcements(keys)


@pytest.fixture
def telling() -> Telling:
    return Telling()


def exhausted(told: Sequence[TelemetryEvent]) -> list[Any]:
    return [it.fields for it in told if it.name == "dead_letter.exhausted"]


class Slow:
    """An observer that takes so many seconds for each letter that has become exhausted."""

    def __init__(self, clock: FakeClock, seconds: float) -> None:
        self.told: list[TelemetryEvent] = []
        self._clock = clock
        self._seconds = seconds

    def __call__(self, event: TelemetryEvent) -> None:
        if event.name == "dead_letter.exhausted":
            self._clock.advance(self._seconds)
            self.told.append(event)


async def exhaust(store: MemoryStore, clock: FakeClock, letters: int) -> None:
    """Leave so many letters that are exhausted, and not told of."""
    silent = never_retried(store, clock)
    async with silent.bus:
        for number in range(letters):
            await silent.publish(number)


def never_retried(store: MemoryStore, clock: FakeClock, **options: Any) -> Failing:
    return Failing(store, clock, redelivery=RetryPolicy(attempts=0), **options)


async def test_an_observer_is_told_once_and_with_all_that_names_it(
    telling: Telling, fake_clock: FakeClock
) -> None:
    failing = never_retried(telling, fake_clock, observed=True)
    async with failing.bus as bus:
        letter_id = await failing.publish(tenant="acme")
        await until(lambda: bool(telling.confirmed))
        letter = await bus.dead_letter(letter_id)
        for _ in range(3):
            await failing.turn(60)
    (fields,) = exhausted(failing.told)
    assert fields == {
        "dead_letter": letter_id,
        "event": "job",
        "event_id": letter.event_id,
        "handler": "handler",
        "tenant": "acme",
        "reason": "attempts",
        "key": telling.confirmed[0],
    }
    assert len(telling.confirmed) == 1


async def test_each_time_that_it_becomes_exhausted_has_a_key_of_its_own(
    telling: Telling, fake_clock: FakeClock
) -> None:
    failing = never_retried(telling, fake_clock, observed=True)
    async with failing.bus as bus:
        letter_id = await failing.publish()
        await bus.requeue(letter_id)
        await failing.settled(letter_id, runs=2)
        await bus.replay(letter_id)
        await until(lambda: len(telling.confirmed) == 3)
    assert [it["dead_letter"] for it in exhausted(failing.told)] == [letter_id] * 3
    assert len(set(telling.confirmed)) == 3


async def test_a_crowd_is_told_of_to_the_last(telling: Telling, fake_clock: FakeClock) -> None:
    failing = never_retried(telling, fake_clock, observed=True)
    async with failing.bus:
        ids = [await failing.publish(number) for number in range(250)]
    assert sorted(it["dead_letter"] for it in exhausted(failing.told)) == sorted(ids)


async def test_what_another_process_has_exhausted_is_told_within_a_second(
    telling: Telling, fake_clock: FakeClock
) -> None:
    here = never_retried(telling, fake_clock, observed=True, handlers={"mine": {}})
    there = never_retried(telling, fake_clock)
    async with here.bus:
        await anyio.wait_all_tasks_blocked()
        async with there.bus:
            letter_id = await there.publish()
        assert telling.asked == 1  # there is nobody to be told there
        await here.turn(1)
        assert [it["dead_letter"] for it in exhausted(here.told)] == [letter_id]


async def test_what_a_crash_has_left_unconfirmed_is_told_again_when_its_lease_is_over(
    telling: Telling, fake_clock: FakeClock
) -> None:
    first = never_retried(telling, fake_clock, observed=True, lease=30.0)
    telling.refuses = {"confirm"}
    async with first.bus:
        await first.publish()
        await until(lambda: bool(exhausted(first.told)))
    second = never_retried(telling, fake_clock, observed=True, lease=30.0)
    telling.refuses.clear()
    async with second.bus:
        await second.turn(29)
        assert exhausted(second.told) == []
        await second.turn(2)
        assert exhausted(second.told) == exhausted(first.told)[:1]
    assert len(telling.confirmed) == 1


async def test_what_was_told_and_could_not_be_confirmed_is_confirmed_later_and_not_told_again(
    telling: Telling, fake_clock: FakeClock
) -> None:
    failing = never_retried(telling, fake_clock, observed=True)
    telling.refuses = {"confirm"}
    async with failing.bus:
        await failing.publish()
        await until(lambda: bool(exhausted(failing.told)))
        await failing.turn(5)
        telling.refuses.clear()
        await failing.turn(5)
        assert len(telling.confirmed) == 1
        await failing.turn(60)
    assert len(exhausted(failing.told)) == 1


async def test_a_store_that_does_not_take_the_confirmation_is_asked_once_a_second_only(
    telling: Telling, fake_clock: FakeClock
) -> None:
    failing = never_retried(telling, fake_clock, observed=True)
    telling.refuses = {"confirm"}
    with anyio.fail_after(10):
        async with failing.bus:
            await failing.publish(1)
            await until(lambda: bool(telling.refused))
            await failing.publish(2)  # wakes it
            for _ in range(100):
                await anyio.sleep(0)
            before = telling.refused
            await failing.turn(1)
            await failing.turn(1)
            assert telling.refused == before + 2
            telling.refuses.clear()
    assert len(exhausted(failing.told)) == len(telling.confirmed) == 2


async def test_observers_that_take_long_confirm_before_others_would_tell_of_the_same(
    telling: Telling, fake_clock: FakeClock
) -> None:
    await exhaust(telling, fake_clock, letters=20)
    slow = Slow(fake_clock, seconds=4.0)
    async with EventBus(dlq=DeadLetterQueue(telling, clock=fake_clock, lease=30.0), observers=[slow]):
        await until(lambda: len(telling.confirmed) == 20)
    assert len(slow.told) == 20
    assert max(telling.confirmations) == 3


async def test_others_run_while_a_crowd_is_told_of(telling: Telling, fake_clock: FakeClock) -> None:
    await exhaust(telling, fake_clock, letters=20)
    slow = Slow(fake_clock, seconds=0.0)
    async with EventBus(dlq=DeadLetterQueue(telling, clock=fake_clock), observers=[slow]):
        await until(lambda: bool(slow.told))
        assert len(slow.told) < 20
    assert len(slow.told) == len(telling.confirmed) == 20


async def test_a_store_that_is_away_delays_it_and_no_more(telling: Telling, fake_clock: FakeClock) -> None:
    failing = never_retried(telling, fake_clock, observed=True)
    telling.refuses = {"claim"}
    async with failing.bus:
        letter_id = await failing.publish()
        await failing.turn(5)
        assert exhausted(failing.told) == []
        telling.refuses.clear()
        await failing.turn(1)
        assert [it["dead_letter"] for it in exhausted(failing.told)] == [letter_id]


async def test_an_observer_that_raises_keeps_nobody_from_being_told(
    telling: Telling, fake_clock: FakeClock
) -> None:
    told: list[TelemetryEvent] = []

    def broken(event: TelemetryEvent) -> None:
        raise RuntimeError("the observer's own fault")

    queue = DeadLetterQueue(telling, clock=fake_clock, redelivery=RetryPolicy(attempts=0))
    bus = EventBus(dlq=queue, observers=[broken, told.append])

    async def handler(event: Any) -> None:
        raise RuntimeError("declined")

    bus.subscribe("job", handler, id="handler")
    with structlog.testing.capture_logs():
        async with bus:
            for number in range(3):
                await bus.publish("job", number)
            await until(lambda: len(telling.confirmed) == 3)
    assert len(exhausted(told)) == 3


async def test_nobody_who_listens_leaves_it_to_others(telling: Telling, fake_clock: FakeClock) -> None:
    silent = never_retried(telling, fake_clock)
    async with silent.bus:
        await silent.publish()
        await silent.turn(60)
    assert telling.asked == 0
    listening = never_retried(telling, fake_clock, observed=True)
    async with listening.bus:
        await until(lambda: bool(telling.confirmed))
    assert len(exhausted(listening.told)) == 1


async def test_what_is_exhausted_as_the_bus_stops_is_told_before_it_has_stopped(
    telling: Telling, fake_clock: FakeClock
) -> None:
    failing = never_retried(telling, fake_clock, observed=True)
    async with failing.bus as bus:
        for number in range(5):
            await bus.enqueue("job", number)
    assert len(exhausted(failing.told)) == len(telling.confirmed) == 5


async def test_a_store_that_does_not_answer_holds_up_the_stop_for_a_moment_only(
    telling: Telling, fake_clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventbus_dlq.announcing._PATIENCE", 0.01)
    failing = never_retried(telling, fake_clock, observed=True)
    telling.hangs = True
    with anyio.fail_after(5):
        async with failing.bus:
            await failing.publish()
    assert exhausted(failing.told) == []
