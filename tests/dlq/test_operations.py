"""``replay_all``: membership is fixed first, and every letter is accounted for."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from eventbus import EventBus
from eventbus_dlq import DeadLetterQuery, DeadLetterQueue, DeadLetterState, MemoryStore, Operation


class Jobs:
    """A bus whose handler fails for the numbers in ``bad``."""

    def __init__(self, dlq: DeadLetterQueue) -> None:
        self.bus = EventBus(dlq=dlq)
        self.bad = set(range(1000))
        self.done: list[int] = []
        self.bus.subscribe("job", self.run, id="handler")

    async def run(self, event: int) -> None:
        await anyio.lowlevel.checkpoint()
        if event in self.bad:
            raise RuntimeError(f"bad {event}")
        self.done.append(event)

    async def fail(self, count: int, **options: Any) -> list[str]:
        receipts = [await self.bus.publish("job", number, **options) for number in range(count)]
        return [str(receipt.deliveries["handler"].dead_letter_id) for receipt in receipts]


async def test_every_letter_of_a_query_is_run_and_accounted_for(dlq: DeadLetterQueue) -> None:
    jobs = Jobs(dlq)
    async with jobs.bus:
        ids = await jobs.fail(25, tenant="acme")
        await jobs.fail(3, tenant="other")
        await jobs.bus.resolve(ids[0])
        await jobs.bus.discard(ids[1])
        jobs.bad = {5, 6, 7}
        operation = await jobs.bus.replay_all(DeadLetterQuery(tenant="acme"), by="ann", note="after the fix")
        assert operation == Operation(total=25, done=20, failed=3, skipped=2, state="completed")
        assert sorted(jobs.done) == [2, 3, 4, *range(8, 25)]
        letter = await jobs.bus.dead_letter(ids[2])
        assert (letter.state, letter.acted_by, letter.note) == ("resolved", "ann", "after the fix")
        assert (await jobs.bus.dead_letter(ids[5])).attempts == 2
        assert (await jobs.bus.stats()).by_state == {"resolved": 21, "discarded": 1, "pending": 6}


async def test_an_empty_query_is_refused_and_everything_must_be_said(dlq: DeadLetterQueue) -> None:
    jobs = Jobs(dlq)
    async with jobs.bus:
        await jobs.fail(3)
        jobs.bad = set()
        with pytest.raises(ValueError, match=r"every dead letter.*DeadLetterQuery\.everything\(\)"):
            await jobs.bus.replay_all(DeadLetterQuery())
        assert jobs.done == []
        operation = await jobs.bus.replay_all(DeadLetterQuery.everything())
    assert (operation.total, operation.done) == (3, 3)


async def test_a_query_that_matches_nothing_completes_at_once(dlq: DeadLetterQueue) -> None:
    jobs = Jobs(dlq)
    async with jobs.bus:
        operation = await jobs.bus.replay_all(DeadLetterQuery(tenant="nobody"))
    assert operation == Operation(total=0, state="completed")


async def test_what_fails_meanwhile_is_not_a_member(dlq: DeadLetterQueue) -> None:
    jobs = Jobs(dlq)

    @jobs.bus.on("job", id="chain")
    async def chain(event: int) -> None:
        raise RuntimeError("fails again and again")

    async with jobs.bus:
        await jobs.fail(5)
        jobs.bad = {999}

        @jobs.bus.on("other", id="nested")
        async def nested(event: int) -> None:
            raise RuntimeError("a new letter")

        async def run(event: int) -> None:
            await jobs.bus.publish("other", event)

        first, *_ = jobs.bus.subscriptions
        jobs.bus.unsubscribe(first)
        jobs.bus.subscribe("job", run, id="handler")
        operation = await jobs.bus.replay_all(DeadLetterQuery.everything())
        stats = await jobs.bus.stats()
    assert operation == Operation(total=10, done=5, failed=5, state="completed")
    assert stats.by_handler == {"handler": 5, "chain": 5, "nested": 5}


async def test_what_somebody_else_ran_since_it_began_is_skipped() -> None:
    class Racing(MemoryStore):
        """A store in which somebody runs every second letter between the look and the claim."""

        async def find(self, *args: Any, **options: Any) -> Any:
            page = await super().find(*args, **options)
            for item in page.items[::2]:
                (claim,) = await self.claim([item.id], owner="other", lease=60, now=item.created_at)
                assert not isinstance(claim, Exception)
                await self.release([claim.lease], now=item.created_at)
            return page

    store = Racing()
    jobs = Jobs(DeadLetterQueue(store))
    async with jobs.bus:
        ids = await jobs.fail(6)
        jobs.bad = set()
        operation = await jobs.bus.replay_all(DeadLetterQuery.everything())
        letters = [await store.get(letter_id) for letter_id in ids]
    assert operation == Operation(total=6, done=3, skipped=3, state="completed")
    assert len(jobs.done) == 3
    skipped = [letter for letter in letters if letter.state is DeadLetterState.PENDING]
    assert [(letter.attempts, letter.retries) for letter in skipped] == [(1, 0)] * 3


async def test_running_and_deleted_ones_are_skipped(dlq: DeadLetterQueue) -> None:
    class Deleting(MemoryStore):
        async def find(self, *args: Any, **options: Any) -> Any:
            page = await super().find(*args, **options)
            await self.delete(page.items[0].id)
            return page

    store = Deleting()
    jobs = Jobs(DeadLetterQueue(store))
    async with jobs.bus:
        ids = await jobs.fail(3)
        await store.claim([ids[1]], owner="other", lease=1e9, now=(await store.get(ids[1])).created_at)
        jobs.bad = set()
        operation = await jobs.bus.replay_all(DeadLetterQuery.everything())
    assert operation == Operation(total=3, done=1, skipped=2, state="completed")


async def test_a_cancelled_operation_gives_everything_back(dlq: DeadLetterQueue, store: MemoryStore) -> None:
    bus = EventBus(dlq=dlq)
    mended, began = False, anyio.Event()

    @bus.on("job", id="handler")
    async def handler(event: int) -> None:
        if not mended:
            raise RuntimeError("bad")
        began.set()
        await anyio.sleep_forever()

    async with bus:
        for number in range(30):
            await bus.publish("job", number)
        mended = True
        async with anyio.create_task_group() as group:
            group.start_soon(bus.replay_all, DeadLetterQuery(handler="handler"))
            await began.wait()
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        letters = [await store.get(item.id) for item in (await bus.dead_letters()).items]
    assert {(it.state, it.attempts, it.retries) for it in letters} == {("pending", 1, 0)}


async def test_it_goes_through_more_letters_than_a_page_has(dlq: DeadLetterQueue) -> None:
    jobs = Jobs(dlq)
    async with jobs.bus:
        for number in range(1_100):
            await jobs.bus.capture("job", RuntimeError("x"), handler="handler", data=number)
        jobs.bad = set()
        operation = await jobs.bus.replay_all(DeadLetterQuery(event="job"))
    assert (operation.total, operation.done) == (1_100, 1_100)
    assert sorted(jobs.done) == list(range(1_100))
