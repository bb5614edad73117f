"""Retries, schedules, the switch and announcements end to end, on every store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import anyio
import pytest

from eventbus import EventBus, RetryPolicy, TelemetryEvent
from eventbus_dlq import DeadLetterQuery, DeadLetterQueue, Processed
from eventbus_dlq.store import DeadLetterStore

SOON = RetryPolicy(attempts=3, backoff="fixed", delay=0.05, jitter=False)
WEST, EAST = (timezone(timedelta(hours=hours)) for hours in (-5, 5))
LATER = RetryPolicy(attempts=3, backoff="fixed", delay=60, jitter=False)


class Shop:
    """A bus with a handler that fails so many times for each event, and what its observers were told."""

    def __init__(self, store: DeadLetterStore, failures: int, **queue: Any) -> None:
        self.told: list[TelemetryEvent] = []
        self.ran: list[int] = []
        queue = {"poll": 0.05, "redelivery": SOON, **queue}
        self.bus = EventBus(dlq=DeadLetterQueue(store, **queue), observers=[self.told.append])
        self.failures = failures
        self.bus.subscribe("job", self.handle, id="handler")

    async def handle(self, event: int) -> None:
        self.ran.append(event)
        if self.ran.count(event) <= self.failures:
            raise RuntimeError(f"job {event}")

    async def until(self, **by_state: int) -> None:
        """Return when there are so many letters in each state."""
        with anyio.fail_after(30):
            while (await self.bus.stats()).by_state != by_state:
                await anyio.sleep(0.01)


async def test_what_heals_comes_home_and_the_rest_is_announced(any_store: DeadLetterStore) -> None:
    shop = Shop(any_store, failures=2)
    async with shop.bus as bus:
        for number in range(30):
            await bus.publish("job", number)
        await shop.until(resolved=30)
        page = await bus.dead_letters(limit=100)
        assert {(it.attempts, it.retries) for it in page.items} == {(3, 2)}
        shop.failures = 9
        for number in range(30, 35):
            await bus.publish("job", number)
        await shop.until(resolved=30, exhausted=5)
        exhausted = await bus.dead_letters(DeadLetterQuery(state={"exhausted"}))
        assert {(it.reason, it.attempts) for it in exhausted.items} == {("attempts", 4)}
    announced = [it.fields for it in shop.told if it.name == "dead_letter.exhausted"]
    assert sorted(it["dead_letter"] for it in announced) == sorted(it.id for it in exhausted.items)
    assert len({it["key"] for it in announced}) == 5
    assert sorted(shop.ran) == sorted([*list(range(30)) * 3, *list(range(30, 35)) * 4])


async def test_what_one_has_set_the_next_goes_by_and_a_person_has_it_run(any_store: DeadLetterStore) -> None:
    async with Shop(any_store, failures=1).bus as bus:
        await bus.configure(handler="handler", redelivery=LATER, automatic_retries=False, by="ann")
    shop = Shop(any_store, failures=1)
    async with shop.bus as bus:
        receipt = await bus.publish("job", 1)
        letter = await bus.dead_letter(str(receipt.deliveries["handler"].dead_letter_id))
        assert letter.redelivery == LATER
        assert await bus.process_due() == Processed()  # it is not due
        requeued = await bus.requeue(letter.id, by="ann", note="it is ready now")
        assert (requeued.state, requeued.acted_by, requeued.note) == ("pending", "ann", "it is ready now")
        assert await bus.process_due() == Processed(claimed=1, resolved=1)
        await bus.publish("job", 2)
        configuration = await bus.configure(handler="handler", forget_redelivery=True, automatic_retries=True)
        assert (configuration.schedules, configuration.automatic_retries) == ((), True)
        assert (await bus.requeue_all(DeadLetterQuery(state={"pending"}))).done == 1
        await shop.until(resolved=2)
    assert shop.ran == [1, 1, 2, 2]


async def test_a_letter_can_be_put_off_to_any_moment_of_the_calendar_and_no_other(
    any_store: DeadLetterStore,
) -> None:
    shop = Shop(any_store, failures=9, redelivery=LATER)
    async with shop.bus as bus:
        receipt = await bus.publish("job", 1)
        letter_id = str(receipt.deliveries["handler"].dead_letter_id)
        for nonsense in (datetime.max.replace(tzinfo=WEST), datetime.min.replace(tzinfo=EAST)):
            with pytest.raises(ValueError, match="beyond the calendar"):
                await bus.snooze(letter_id, until=nonsense)
        for last in (datetime.max.replace(tzinfo=UTC), datetime.max.replace(tzinfo=EAST)):
            snoozed = await bus.snooze(letter_id, until=last)
            assert await bus.dead_letter(letter_id) == snoozed
            assert (snoozed.state, snoozed.retry_at) == ("pending", last)
        requeued = await bus.requeue(letter_id)
        assert requeued.state == "pending"
