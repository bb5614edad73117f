"""Durable deliveries that are claimed as they are accepted, where the process has room for them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import anyio
import pytest
from tests.dlq.test_worker import Steps, durable, idle, letters_of, when_all_wait

from eventbus import CaptureFailed, Envelope, RetryPolicy
from eventbus.acceptance import Acceptance
from eventbus_dlq import DeadLetter, StoreUnavailable, moves
from eventbus_dlq.accepting import accepted_letter


class Arrivals(Steps):
    """A store that notes in which states deliveries come."""

    def __init__(self) -> None:
        super().__init__()
        self.came: list[str] = []

    async def accept(self, deliveries: Any) -> Any:
        self.came += [str(it.state) for it in deliveries]
        return await super().accept(deliveries)


async def looked(store: Steps) -> None:
    """Wait until the worker has looked for what was there before."""
    await store.until(lambda: store.claims != [])
    await anyio.wait_all_tasks_blocked()


async def test_what_there_is_room_for_comes_claimed_and_is_run_without_another_claim() -> None:
    store = Arrivals()
    seen: list[Any] = []

    async def handler(event: Any) -> None:
        seen.append(event)

    bus = durable(store, handler)
    async with bus:
        await looked(store)
        for number in range(5):
            receipt = await bus.publish("job", number)
            assert receipt.deliveries["handler"].state == "accepted"
        await idle(bus)
        assert await letters_of(store) == []
    assert seen == [0, 1, 2, 3, 4]
    assert store.came == ["running"] * 5
    assert sum(store.claims) == 0


async def test_there_is_room_for_as_many_as_may_run_at_a_time() -> None:
    store = Arrivals()
    go = anyio.Event()
    running: list[int] = []

    async def handler(event: int) -> None:
        running.append(event)
        await go.wait()

    bus = durable(store, handler, concurrency=2)
    async with bus:
        await looked(store)
        for number in range(5):
            await bus.publish("job", number)
            await anyio.wait_all_tasks_blocked()
        assert running == [0, 1]
        assert store.came == ["running", "running", "accepted", "accepted", "accepted"]
        go.set()
        await idle(bus)
    assert running == [0, 1, 2, 3, 4]


async def test_a_handler_has_room_for_as_many_as_it_may_run_at_a_time() -> None:
    store = Arrivals()
    go = anyio.Event()

    async def handler(event: int) -> None:
        await go.wait()

    bus = durable(store, handler, max_concurrency=1)
    async with bus:
        await looked(store)
        for number in range(3):
            await bus.publish("job", number)
        assert store.came == ["running", "accepted", "accepted"]
        go.set()
        await idle(bus)


async def test_what_has_to_keep_an_order_is_left_to_the_store() -> None:
    store = Arrivals()

    async def handler(event: Any) -> None: ...

    bus = durable(store, handler)
    async with bus:
        await looked(store)
        await bus.publish("job", 1, ordering_key="order-1")
        await idle(bus)
    assert store.came == ["accepted"]


async def test_it_does_not_overtake_what_the_same_process_has_accepted_before() -> None:
    store = Arrivals()
    seen: list[Any] = []

    async def handler(event: Any) -> None:
        seen.append(event)

    store.hold["claim_due"] = anyio.Event()
    bus = durable(store, handler)
    async with bus:
        await store.until(lambda: "claim_due" in store.told)  # the first look, which has found nothing
        await bus.publish("job", 1)
        first = store.hold.pop("claim_due")
        store.hold["claim_due"] = anyio.Event()
        first.set()
        await store.until(lambda: len(store.told) == 2)  # the second one, which has found the first event
        await bus.publish("job", 2)
        await anyio.wait_all_tasks_blocked()
        assert (store.came, seen) == (["accepted", "running"], [])
        store.hold.pop("claim_due").set()
        await idle(bus)
    assert seen == [1, 2]


async def test_what_there_was_no_room_for_waits_in_the_store_and_the_next_ones_behind_it() -> None:
    store = Arrivals()
    seen: list[Any] = []

    async def handler(event: Any) -> None:
        seen.append(event)
        await anyio.sleep(0)

    bus = durable(store, handler, concurrency=3)
    async with bus:
        await looked(store)
        async with anyio.create_task_group() as group:
            for number in range(40):
                group.start_soon(bus.publish, "job", number)
        await idle(bus)
    assert sorted(seen) == list(range(40))
    assert set(store.came) == {"running", "accepted"}


async def test_one_that_is_known_already_is_not_run_again() -> None:
    store = Arrivals()
    seen: list[Any] = []
    go = anyio.Event()

    async def handler(event: Any) -> None:
        seen.append(event)
        await go.wait()

    bus = durable(store, handler)
    async with bus:
        await looked(store)
        first = await bus.publish("job", 1)
        again = await bus.publish("job", 1, id=first.event_id)
        assert again.deliveries["handler"].dead_letter_id == first.deliveries["handler"].dead_letter_id
        await anyio.wait_all_tasks_blocked()
        go.set()
        await idle(bus)
    assert (store.came, seen) == (["running", "running"], [1])


async def test_one_that_is_accepted_while_the_bus_stops_is_given_back_uncharged() -> None:
    store = Arrivals()
    seen: list[Any] = []

    async def handler(event: Any) -> None:
        seen.append(event)

    bus = durable(store, handler, bus={"shutdown_grace": 5})
    async with anyio.create_task_group() as group:
        await bus.start()
        await looked(store)
        hold = store.hold["accept"] = anyio.Event()
        group.start_soon(bus.publish, "job", 1)
        await store.until(lambda: "accept" in store.told)
        group.start_soon(when_all_wait, hold.set)
        await bus.stop()
    (letter,) = await letters_of(store)
    assert (letter.state, letter.attempts, letter.lease_owner) == ("accepted", 0, None)
    assert seen == []


async def test_one_whose_publisher_was_cancelled_is_run_once() -> None:
    store = Arrivals()
    seen: list[Any] = []

    async def handler(event: Any) -> None:
        seen.append(event)

    bus = durable(store, handler)
    async with bus:
        await looked(store)
        hold = store.hold["accept"] = anyio.Event()
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(bus.publish, "job", 1)
                await store.until(lambda: "accept" in store.told)
                del store.hold["accept"]
                scope.cancel()
        hold.set()
        await store.until(lambda: seen != [])
        await idle(bus)
    assert (store.came, seen) == (["running", "accepted"], [1])


class Forgetful(Arrivals):
    """A store that keeps what it says it could not."""

    answers_lost = 0

    async def accept(self, deliveries: Any) -> Any:
        kept = await super().accept(deliveries)
        if self.answers_lost:
            self.answers_lost -= 1
            raise StoreUnavailable("the connection is lost", retryable=True)
        return kept


async def test_one_whose_answer_was_lost_is_asked_for_again_and_run_once() -> None:
    store = Forgetful()
    seen: list[Any] = []

    async def handler(event: Any) -> None:
        seen.append(event)

    bus = durable(store, handler)
    async with bus:
        await looked(store)
        store.answers_lost = 1
        await bus.publish("job", 1)
        await idle(bus)
    assert (store.came, seen) == (["running", "accepted"], [1])


async def test_one_that_nobody_knows_to_be_accepted_is_given_back_and_run_at_once() -> None:
    store = Forgetful()
    seen: list[Any] = []

    async def handler(event: Any) -> None:
        seen.append(event)

    bus = durable(store, handler, capture_timeout=0)
    async with bus:
        await looked(store)
        store.answers_lost = 1
        with pytest.raises(CaptureFailed, match="the connection is lost"):
            await bus.publish("job", 1)
        await store.until(lambda: store.settled != [])
    assert await letters_of(store) == []
    assert seen == [1]


async def test_spooled_it_belongs_to_nobody(tmp_path: Path) -> None:
    spooled: list[DeadLetter] = []

    class Away(Arrivals):
        away = False

        async def accept(self, deliveries: Any) -> Any:
            if self.away:
                raise StoreUnavailable("the server is gone", retryable=True)
            return await super().accept(deliveries)

        async def import_spool(self, spool_id: str, writes: Any, **options: Any) -> bool:
            spooled.extend(it.letter for it in writes)
            return await super().import_spool(spool_id, writes, **options)

    store = Away()
    seen: list[Any] = []

    async def handler(event: Any) -> None:
        seen.append(event)

    bus = durable(store, handler, capture_timeout=0, spool=tmp_path / "spool")
    async with bus:
        await looked(store)
        store.away = True
        receipt = await bus.publish("job", 1)
        assert receipt.deliveries["handler"].state == "accepted"
        await store.until(lambda: seen != [])
        await idle(bus)
    (letter,) = spooled
    assert (letter.state, letter.attempts, letter.lease_owner) == ("accepted", 0, None)
    assert seen == [1]


def test_what_comes_claimed_is_what_a_claim_would_have_made_of_it() -> None:
    envelope = Envelope.of("job", 1, tenant="acme", headers={"traceparent": "00-1-2-00"})
    delivery = Acceptance(envelope, b"1", "handler", 3, ("a",), None)
    now = datetime(2026, 1, 2, tzinfo=UTC)
    promises = Mock(make=lambda *_, now: ("me", now + timedelta(seconds=60)))
    came = accepted_letter(delivery, redelivery=RetryPolicy(), now=now, promises=promises)
    accepted = replace(accepted_letter(delivery, redelivery=RetryPolicy(), now=now), id=came.id)
    assert came == moves.claimed(accepted, owner="me", lease=60, now=now)
