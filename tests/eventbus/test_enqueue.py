"""``enqueue``: accepted means delivered or stored; a full queue waits, or says so."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from contextvars import ContextVar
from typing import Any

import anyio
import pytest

from eventbus import BusClosed, BusFull, EventBus, InvalidEvent, current_envelope
from eventbus_dlq import DeadLetterQueue, MemoryStore

user: ContextVar[str] = ContextVar("user", default="nobody")


class Held:
    """A handler that waits until it is let go."""

    def __init__(self) -> None:
        self.began: list[Any] = []
        self.done: list[Any] = []
        self.go = anyio.Event()

    async def __call__(self, event: Any) -> None:
        self.began.append(event)
        await self.go.wait()
        self.done.append(event)


async def test_the_receipt_is_accepted_first_and_follows_the_deliveries(dlq: DeadLetterQueue) -> None:
    bus, held = EventBus(dlq=dlq), Held()
    bus.subscribe("job", held, id="held")

    @bus.on("job", id="fails")
    async def fails(event: Any) -> None:
        raise RuntimeError("later")

    async with bus:
        receipt = await bus.enqueue("job", 1, tenant="acme")
        assert {it.state for it in receipt.deliveries.values()} == {"accepted"}
        assert receipt.ok
        assert receipt.envelope.tenant == "acme"
        held.go.set()
        await bus.wait_idle()
        assert receipt.deliveries["held"].state == "succeeded"
        assert receipt.failed == ("fails",)
        assert (await bus.stats()).total == 1


async def test_a_full_queue_waits_until_there_is_room() -> None:
    bus, held = EventBus(queue_size=2, enqueue_concurrency=1), Held()
    bus.subscribe("job", held, id="held")
    accepted: list[int] = []

    async def enqueue(number: int) -> None:
        await bus.enqueue("job", number)
        accepted.append(number)

    async with bus:
        await enqueue(0)
        await anyio.wait_all_tasks_blocked()  # the worker has taken it
        await enqueue(1)
        await enqueue(2)
        async with anyio.create_task_group() as group:
            group.start_soon(enqueue, 3)
            await anyio.wait_all_tasks_blocked()
            assert accepted == [0, 1, 2]
            held.go.set()
        await bus.wait_idle()
    assert held.done == [0, 1, 2, 3]


async def test_a_full_queue_can_refuse_instead_and_nothing_accepted_is_lost() -> None:
    bus, held = EventBus(queue_size=3, overflow="raise", enqueue_concurrency=1), Held()
    bus.subscribe("job", held, id="held")
    async with bus:
        for number in range(3):
            await bus.enqueue("job", number)
        with pytest.raises(BusFull, match="3 events are enqueued and not yet delivered"):
            await bus.enqueue("job", 3)
        held.go.set()
        await bus.wait_idle()
        await bus.enqueue("job", 4)
    assert held.done == [0, 1, 2, 4]
    assert bus.metrics.published == 4


async def test_a_cancelled_waiter_takes_nobodys_turn() -> None:
    bus, held = EventBus(queue_size=1, enqueue_concurrency=1), Held()
    bus.subscribe("job", held, id="held")
    async with bus:
        await bus.enqueue("job", "running")
        await anyio.wait_all_tasks_blocked()
        await bus.enqueue("job", "queued")
        async with anyio.create_task_group() as group:
            scopes = [anyio.CancelScope() for _ in range(6)]

            async def wait(number: int) -> None:
                with scopes[number]:
                    await bus.enqueue("job", number)

            for number in range(6):
                group.start_soon(wait, number)
                await anyio.wait_all_tasks_blocked()
            scopes[0].cancel()
            scopes[3].cancel()
            held.go.set()
            scopes[1].cancel()
        with anyio.fail_after(5):
            await bus.wait_idle()
    assert held.done[:2] == ["running", "queued"]
    assert {2, 4, 5} <= set(held.done)
    assert not {0, 3} & set(held.done)


@pytest.mark.parametrize("grace", [0.0, 30.0])
async def test_everybody_who_waits_for_room_is_told_when_the_bus_stops(
    dlq: DeadLetterQueue, grace: float
) -> None:
    bus, held = EventBus(dlq=dlq, queue_size=1, enqueue_concurrency=1, shutdown_grace=grace), Held()
    bus.subscribe("job", held, id="held")
    refused: list[int] = []

    async def enqueue(number: int) -> None:
        with pytest.raises(BusClosed, match=r"stopping|not running"):
            await bus.enqueue("job", number)
        refused.append(number)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group, bus:
            await bus.enqueue("job", "running")
            await anyio.wait_all_tasks_blocked()
            await bus.enqueue("job", "queued")
            for number in range(5):
                group.start_soon(enqueue, number)
            await anyio.wait_all_tasks_blocked()
            if grace:
                held.go.set()
    assert sorted(refused) == list(range(5))
    assert held.done == (["running", "queued"] if grace else [])


async def test_a_waiter_whose_event_is_refused_passes_its_turn_on() -> None:
    bus, held = EventBus(queue_size=1, enqueue_concurrency=1), Held()
    bus.subscribe("job", held, id="held")

    async def enqueue_what_cannot_be_stored() -> None:
        with pytest.raises(InvalidEvent):
            await bus.enqueue("job", object())

    async with bus:
        await bus.enqueue("job", "running")
        await anyio.wait_all_tasks_blocked()
        await bus.enqueue("job", "queued")
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(enqueue_what_cannot_be_stored)
                await anyio.wait_all_tasks_blocked()
                group.start_soon(bus.enqueue, "job", "next")
                await anyio.wait_all_tasks_blocked()
                held.go.set()
            await bus.wait_idle()
    assert held.done == ["running", "queued", "next"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize("waits_first", [True, False])
async def test_a_handler_that_cancels_its_own_task_does_not_strand_the_queue(
    dlq: DeadLetterQueue, store: MemoryStore, anyio_backend: str, waits_first: bool
) -> None:
    bus = EventBus(dlq=dlq, enqueue_concurrency=1)
    done: list[int] = []

    @bus.on("job", id="suicidal")
    async def suicidal(event: int) -> None:
        if event == 0:
            if waits_first:
                await asyncio.sleep(0)
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        await asyncio.sleep(0)
        done.append(event)

    async with bus:
        receipts = [await bus.enqueue("job", number) for number in range(5)]
        with anyio.fail_after(10):
            await bus.wait_idle()
        states = [receipt.deliveries["suicidal"].state for receipt in receipts]
        (item,) = (await bus.dead_letters()).items
        assert (await store.get(item.id)).payload == 0
    assert done == [1, 2, 3, 4]
    assert states == ["dead_lettered", *["succeeded"] * 4]


async def test_at_most_so_many_events_are_delivered_at_a_time() -> None:
    bus, held = EventBus(enqueue_concurrency=4), Held()
    bus.subscribe("job", held, id="held")
    async with bus:
        for number in range(10):
            await bus.enqueue("job", number)
        await anyio.wait_all_tasks_blocked()
        assert held.began == [0, 1, 2, 3]
        held.go.set()
    assert sorted(held.done) == list(range(10))


@pytest.mark.parametrize("count", [1, 10])
async def test_a_handler_sees_the_context_of_whoever_enqueued_the_event(count: int) -> None:
    bus = EventBus()
    seen: list[tuple[Any, str]] = []

    async def look(event: Any) -> None:
        seen.append((event, user.get()))
        user.set("spoiled")
        await anyio.lowlevel.checkpoint()
        assert user.get() == "spoiled"

    for number in range(count):
        bus.subscribe("job", look, id=f"look-{number}")
    async with bus:
        for name in ("ann", "bob", "eve"):
            user.set(name)
            await bus.enqueue("job", name)
        await bus.wait_idle()
    assert user.get() == "eve"
    assert len(seen) == 3 * count
    assert all(event == name for event, name in seen)


async def test_an_event_enqueued_by_a_handler_names_its_parent_and_may_outlive_it() -> None:
    bus = EventBus()
    parents: list[str | None] = []

    @bus.on("parent", id="parent")
    async def parent(event: Any) -> None:
        await bus.enqueue("child", 1)

    @bus.on("child", id="child")
    async def child(event: Any) -> None:
        envelope = current_envelope()
        assert envelope is not None
        parents.append(envelope.causation_id)

    async with bus:
        receipt = await bus.publish("parent", 1)
        await bus.wait_idle()
    assert parents == [receipt.event_id]


async def test_handlers_that_enqueue_more_than_the_queue_holds_come_to_an_end() -> None:
    bus = EventBus(queue_size=10, enqueue_concurrency=3)
    seen: list[int] = []

    @bus.on("job", id="fan")
    async def fan(event: int) -> None:
        seen.append(event)
        await anyio.lowlevel.checkpoint()

    async with bus:
        with anyio.fail_after(20):
            for number in range(500):
                await bus.enqueue("job", number)
            await bus.wait_idle()
    assert seen == list(range(500))


async def test_handlers_that_enqueue_into_a_full_queue_do_not_wait_for_themselves() -> None:
    bus = EventBus(queue_size=4, enqueue_concurrency=2)
    seen: list[int] = []

    @bus.on("job", id="fan-out")
    async def fan_out(event: int) -> None:
        seen.append(event)
        await anyio.lowlevel.checkpoint()
        if event < 3:
            for _ in range(4):
                await bus.enqueue("job", event + 1)

    async with bus:
        with anyio.fail_after(20):
            await bus.enqueue("job", 0)
            await bus.wait_idle()
    assert len(seen) == 1 + 4 + 16 + 64


async def test_an_event_that_nobody_handles_is_accepted_and_settles() -> None:
    bus = EventBus()
    async with bus:
        receipt = await bus.enqueue("nobody", 1)
        await bus.wait_idle()
    assert receipt.deliveries == {}
    assert bus.metrics.unhandled == 1


async def test_wait_idle_in_a_handler_would_wait_for_itself_and_says_so() -> None:
    bus = EventBus()

    @bus.on("job", id="waits")
    async def waits(event: Any) -> None:
        await bus.wait_idle()

    async with bus:
        receipt = await bus.publish("job", 1)
        await bus.wait_idle()
    assert "waits for the handler itself" in str(receipt.deliveries["waits"].error)
    await bus.wait_idle()  # nothing is under way on a bus that does not run


async def test_wait_idle_waits_for_what_handlers_enqueue_too() -> None:
    bus = EventBus()
    seen: list[int] = []

    @bus.on("countdown", id="countdown")
    async def countdown(event: int) -> None:
        seen.append(event)
        await anyio.lowlevel.checkpoint()
        if event:
            await bus.enqueue("countdown", event - 1)

    async with bus:
        await bus.enqueue("countdown", 5)
        await bus.wait_idle()
        assert seen == [5, 4, 3, 2, 1, 0]


async def test_a_worker_lets_other_tasks_run() -> None:
    bus = EventBus(enqueue_concurrency=1)
    seen: list[int] = []

    @bus.on("job", id="quick")
    async def quick(event: int) -> None:
        seen.append(event)

    async with bus:
        for number in range(1000):
            await bus.enqueue("job", number)
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        assert len(seen) < 1000
        await bus.wait_idle()
    assert len(seen) == 1000


@pytest.mark.repetitive
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_memory_does_not_grow_with_the_number_of_events(anyio_backend: str) -> None:
    bus = EventBus()

    @bus.on("job", id="quick")
    async def quick(event: int) -> None: ...

    async def run(events: int) -> None:
        for number in range(events):
            await bus.enqueue("job", number)
            await bus.publish("job", number)
        await bus.wait_idle()

    async with bus:
        tracemalloc.start()
        try:
            await run(5_000)
            gc.collect()
            before, _ = tracemalloc.get_traced_memory()
            await run(5_000)
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert after - before < 100_000


async def test_an_event_that_is_being_delivered_for_long_does_not_delay_the_next_one() -> None:
    bus = EventBus()
    began: list[int] = []
    go = anyio.Event()

    @bus.on("event", id="slow")
    async def slow(number: int) -> None:
        began.append(number)
        await go.wait()

    async with bus:
        for number in (1, 2):
            await bus.enqueue("event", number)
            await anyio.wait_all_tasks_blocked()
        assert began == [1, 2]
        go.set()
