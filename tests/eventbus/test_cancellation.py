"""Cancellation: it ends waits and never loses a delivery."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import pytest

from eventbus import EventBus, RetryPolicy
from eventbus.testing import FakeClock
from eventbus_dlq import (
    DeadLetter,
    DeadLetterQuery,
    DeadLetterQueue,
    DeadLetterState,
    MemoryStore,
    StoreUnavailable,
)


@pytest.fixture
def dlq(store: MemoryStore) -> DeadLetterQueue:
    """Return a queue that leaves what is pending as it is, for the test to look at."""
    return DeadLetterQueue(store, capture_timeout=0.0, worker=False)


asyncio_only = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)


class HeldStore(MemoryStore):
    """A store that has taken the rows, and answers only when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.took = anyio.Event()
        self.answer = anyio.Event()

    async def add(self, letters: Sequence[DeadLetter]) -> Sequence[str]:
        ids = await super().add(letters)
        self.took.set()
        await self.answer.wait()
        return ids


class BusyStore(MemoryStore):
    """A store that is busy once: it answers that only when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = anyio.Event()
        self.answer = anyio.Event()

    async def add(self, letters: Sequence[DeadLetter]) -> Sequence[str]:
        if not self.asked.is_set():
            self.asked.set()
            await self.answer.wait()
            raise StoreUnavailable("database is locked", retryable=True)
        return await super().add(letters)


class Waiting:
    """Handlers that wait until they are cut short, and tell when all of them have begun."""

    def __init__(self, bus: EventBus, count: int, **options: Any) -> None:
        self.all_began = anyio.Event()
        self.cancelled = 0
        self._missing = count
        for number in range(count):
            bus.subscribe("job", self._handler(), id=f"wait-{number}", **options)

    def _handler(self) -> Callable[[Any], Awaitable[None]]:
        async def wait(event: Any) -> None:
            self._missing -= 1
            if not self._missing:
                self.all_began.set()
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class():
                self.cancelled += 1
                raise

        return wait


async def letters_of(store: MemoryStore, bus: EventBus) -> dict[str, DeadLetter]:
    items = (await bus.dead_letters(limit=1000)).items
    return {item.handler_id: await store.get(item.id) for item in items}


def is_interrupted(letter: DeadLetter) -> bool:
    return (letter.state, letter.reason, letter.attempts, letter.retries, letter.history) == (
        DeadLetterState.PENDING,
        "interrupted",
        0,
        0,
        (),
    )


@pytest.mark.parametrize("count", [1, 10])
@pytest.mark.parametrize("concurrency", ["concurrent", "serial"])
async def test_a_cancelled_publisher_cancels_its_handlers_and_stores_them_uncharged(
    dlq: DeadLetterQueue, store: MemoryStore, count: int, concurrency: Any
) -> None:
    bus = EventBus(dlq=dlq, concurrency=concurrency)
    waiting = Waiting(bus, count)
    if concurrency == "serial":
        waiting.all_began = anyio.Event()
        waiting._missing = 1
    async with bus:
        async with anyio.create_task_group() as group:
            group.start_soon(bus.publish, "job", {"n": 1})
            await waiting.all_began.wait()
            group.cancel_scope.cancel()
        letters = await letters_of(store, bus)
        assert len(letters) == count
        assert all(is_interrupted(letter) for letter in letters.values())
        assert all(letter.retry_at is not None for letter in letters.values())
        assert waiting.cancelled == (1 if concurrency == "serial" else count)
        numbers = bus.metrics.snapshot()
        assert sum(number.in_flight for number in numbers.values()) == 0


async def test_what_had_settled_before_the_cancellation_stays_settled(
    dlq: DeadLetterQueue, store: MemoryStore
) -> None:
    bus = EventBus(dlq=dlq)
    waiting = Waiting(bus, 1)

    @bus.on("job", id="done")
    async def done(event: Any) -> None: ...

    @bus.on("job", id="failed")
    async def failed(event: Any) -> None:
        raise RuntimeError("before")

    @bus.on("job", id="later", stage=1)
    async def later(event: Any) -> None:
        raise AssertionError("a later stage must not begin")

    async with bus:
        async with anyio.create_task_group() as group:
            group.start_soon(bus.publish, "job", 1)
            await waiting.all_began.wait()
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        letters = await letters_of(store, bus)
    assert set(letters) == {"wait-0", "failed", "later"}
    assert is_interrupted(letters["wait-0"])
    assert is_interrupted(letters["later"])
    assert (letters["failed"].error.message, letters["failed"].attempts) == ("before", 1)


async def test_what_was_cut_off_comes_home_by_replay(dlq: DeadLetterQueue, store: MemoryStore) -> None:
    bus = EventBus(dlq=dlq)
    began, mended, seen = anyio.Event(), False, []

    @bus.on("job", id="handler")
    async def handler(event: Any) -> None:
        began.set()
        if not mended:
            await anyio.sleep_forever()
        seen.append(event)

    async with bus:
        async with anyio.create_task_group() as group:
            group.start_soon(bus.publish, "job", {"n": 1})
            await began.wait()
            group.cancel_scope.cancel()
        mended = True
        (letter,) = (await letters_of(store, bus)).values()
        outcome = await bus.replay(letter.id)
    assert (outcome.state, outcome.attempts) == ("resolved", 1)
    assert seen == [{"n": 1}]


@pytest.mark.parametrize("count", [1, 10])
async def test_a_cancellation_while_the_capture_waits_ends_the_wait_and_keeps_the_row(count: int) -> None:
    store = HeldStore()
    bus = EventBus(dlq=DeadLetterQueue(store, worker=False))

    async def fail(event: Any) -> None:
        raise RuntimeError("stored already")

    for number in range(count):
        bus.subscribe("job", fail, id=f"fail-{number}")
    async with bus:
        async with anyio.create_task_group() as group:
            group.start_soon(bus.publish, "job", 1)
            await store.took.wait()
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        store.answer.set()
        letters = await letters_of(store, bus)
    assert len(letters) == count
    assert all((it.error.message, it.attempts) == ("stored already", 1) for it in letters.values())


@pytest.mark.parametrize("count", [1, 10])
@pytest.mark.parametrize("moment", ["while the store is asked", "before it is asked again"])
async def test_a_cancellation_while_the_store_is_busy_ends_the_wait_and_not_the_capture(
    moment: str, count: int
) -> None:
    store = BusyStore()
    bus = EventBus(dlq=DeadLetterQueue(store, capture_timeout=60, worker=False))

    async def fail(event: Any) -> None:
        raise RuntimeError("stored in the end")

    for number in range(count):
        bus.subscribe("job", fail, id=f"fail-{number}")
    async with bus:
        async with anyio.create_task_group() as group:
            group.start_soon(bus.publish, "job", 1)
            await store.asked.wait()
            if moment == "before it is asked again":
                store.answer.set()
            await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        store.answer.set()
        with anyio.fail_after(10):
            await bus.wait_idle()
        letters = await letters_of(store, bus)
    assert len(letters) == count
    assert all((it.error.message, it.attempts) == ("stored in the end", 1) for it in letters.values())


async def test_a_capture_that_is_cancelled_while_the_bus_stops_is_seen_through_as_well() -> None:
    store = BusyStore()
    bus = EventBus(dlq=DeadLetterQueue(store, capture_timeout=60, worker=False))
    publishing = anyio.CancelScope()

    @bus.on("job", id="fail")
    async def fail(event: Any) -> None:
        raise RuntimeError("stored in the end")

    async def publish() -> None:
        with publishing:
            await bus.publish("job", 1)

    async def cancel_while_it_stops() -> None:
        await anyio.wait_all_tasks_blocked()
        assert not bus.running
        publishing.cancel()

    async with anyio.create_task_group() as group:
        await bus.start()
        group.start_soon(publish)
        await store.asked.wait()
        group.start_soon(cancel_while_it_stops)
        await bus.stop()
    (item,) = (await store.find(DeadLetterQuery())).items
    assert (item.handler_id, item.attempts) == ("fail", 1)


async def test_a_cancellation_while_a_retry_waits_keeps_its_attempts(
    store: MemoryStore,
) -> None:
    clock = FakeClock()
    queue = DeadLetterQueue(store, clock=clock, worker=False)
    bus = EventBus(dlq=queue, retry=RetryPolicy(attempts=3, delay=10))

    @bus.on("job", id="handler")
    async def handler(event: Any) -> None:
        raise RuntimeError("first")

    async with bus:
        async with anyio.create_task_group() as group:
            group.start_soon(bus.publish, "job", 1)
            await clock.wait_for_sleepers()
            group.cancel_scope.cancel()
        (letter,) = (await letters_of(store, bus)).values()
    assert (letter.state, letter.reason, letter.attempts) == ("pending", "interrupted", 1)
    assert letter.error.message == "first"
    assert len(letter.history) == 1


@asyncio_only
@pytest.mark.parametrize("count", [1, 10])
async def test_two_cancellations_in_a_row_lose_nothing(
    dlq: DeadLetterQueue, store: MemoryStore, anyio_backend: str, count: int
) -> None:
    bus = EventBus(dlq=dlq)
    began, left = 0, asyncio.Event()

    async def slow_to_leave(event: Any) -> None:
        nonlocal began
        began += 1
        if began == count:
            left.set()
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)  # cleaning up takes its time

    for number in range(count):
        bus.subscribe("job", slow_to_leave, id=f"h-{number}")
    async with bus:
        publisher = asyncio.create_task(bus.publish("job", 1))
        await left.wait()
        publisher.cancel()
        await asyncio.sleep(0)
        publisher.cancel()
        with pytest.raises(asyncio.CancelledError):
            await publisher
        letters = await letters_of(store, bus)
    assert len(letters) == count
    assert all(is_interrupted(letter) for letter in letters.values())


@asyncio_only
@pytest.mark.parametrize("count", [1, 10])
async def test_cancelled_error_when_nobody_cancelled_is_a_failure(
    dlq: DeadLetterQueue, store: MemoryStore, anyio_backend: str, count: int
) -> None:
    bus = EventBus(dlq=dlq)

    async def raise_it(event: Any) -> None:
        raise asyncio.CancelledError("somebody else's")

    async def raise_it_later(event: Any) -> None:
        await asyncio.sleep(0)
        cancelled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        cancelled.cancel()
        await cancelled

    for number in range(count):
        bus.subscribe("job", raise_it, id=f"at-once-{number}")
    bus.subscribe("job", raise_it_later, id="later", stage=1)
    async with bus:
        receipt = await bus.publish("job", 1)
        letters = await letters_of(store, bus)
    assert {result.state for result in receipt.deliveries.values()} == {"dead_lettered"}
    assert len(letters) == count + 1
    assert all(it.attempts == 1 and it.reason is None for it in letters.values())
    with pytest.raises(BaseExceptionGroup):
        receipt.raise_for_failures()


@asyncio_only
@pytest.mark.parametrize("waits_first", [True, False])
async def test_a_handler_that_cancels_its_own_task_in_a_group_of_ten_stops_nobody_else(
    dlq: DeadLetterQueue, store: MemoryStore, anyio_backend: str, waits_first: bool
) -> None:
    bus = EventBus(dlq=dlq)
    done: list[int] = []

    def handler(number: int) -> Any:
        async def run(event: Any) -> None:
            await asyncio.sleep(0)
            done.append(number)

        return run

    @bus.on("job", id="first")
    async def first(event: Any) -> None:
        await asyncio.sleep(0)

    @bus.on("job", id="suicidal")
    async def suicidal(event: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        if waits_first:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)

    for number in range(8):
        bus.subscribe("job", handler(number), id=f"h-{number}")
    async with bus:
        receipt = await bus.publish("job", 1)
        letters = await letters_of(store, bus)
    assert sorted(done) == list(range(8))
    assert receipt.failed == ("suicidal",)
    assert set(letters) == {"suicidal"}


@pytest.mark.parametrize("count", [1, 10])
async def test_a_deadline_around_publish_stores_what_it_cuts_off_and_the_task_goes_on(
    dlq: DeadLetterQueue, store: MemoryStore, count: int
) -> None:
    bus = EventBus(dlq=dlq)
    waiting = Waiting(bus, count)
    async with bus:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:

                async def cancel_when_all_run() -> None:
                    await waiting.all_began.wait()
                    scope.cancel()

                group.start_soon(cancel_when_all_run)
                await bus.publish("job", 1)
        assert scope.cancelled_caught
        await anyio.lowlevel.checkpoint()  # no cancellation is left over
        letters = await letters_of(store, bus)
    assert len(letters) == count
    assert all(is_interrupted(letter) for letter in letters.values())


@asyncio_only
@pytest.mark.parametrize("count", [1, 10])
async def test_asyncio_timeout_around_publish_becomes_timeout_error(
    dlq: DeadLetterQueue, store: MemoryStore, anyio_backend: str, count: int
) -> None:
    bus = EventBus(dlq=dlq)
    Waiting(bus, count)
    async with bus:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await bus.publish("job", 1)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        letters = await letters_of(store, bus)
    assert len(letters) == count
    assert all(is_interrupted(letter) for letter in letters.values())


@pytest.mark.parametrize("count", [1, 10])
async def test_scopes_and_task_groups_inside_a_handler_are_its_own(dlq: DeadLetterQueue, count: int) -> None:
    bus = EventBus(dlq=dlq)
    passed = 0

    async def handler(event: Any) -> None:
        nonlocal passed
        with anyio.move_on_after(0) as scope:
            await anyio.sleep_forever()
        assert scope.cancelled_caught
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        with pytest.raises(TimeoutError):
            with anyio.fail_after(0):
                await anyio.sleep_forever()
        await anyio.lowlevel.checkpoint()
        passed += 1

    for number in range(count):
        bus.subscribe("job", handler, id=f"h-{number}", timeout=60)
    async with bus:
        receipt = await bus.publish("job", 1)
    receipt.raise_for_failures()
    assert passed == count


@pytest.mark.parametrize("count", [1, 10])
async def test_a_task_group_that_fails_inside_a_handler_is_its_failure(
    dlq: DeadLetterQueue, store: MemoryStore, count: int
) -> None:
    bus = EventBus(dlq=dlq)

    async def child() -> None:
        raise RuntimeError("the child fell")

    async def handler(event: Any) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(child)
            await anyio.sleep_forever()

    for number in range(count):
        bus.subscribe("job", handler, id=f"h-{number}")
    async with bus:
        receipt = await bus.publish("job", 1)
        letters = await letters_of(store, bus)
    assert len(receipt.failed) == count
    for letter in letters.values():
        assert letter.error.type == "ExceptionGroup"
        assert [(it.relation, it.message) for it in letter.error.causes] == [("member", "the child fell")]


@asyncio_only
async def test_asyncio_timeout_and_task_group_inside_a_handler_are_its_own(
    dlq: DeadLetterQueue, anyio_backend: str
) -> None:
    bus = EventBus(dlq=dlq)
    passed: list[int] = []

    @bus.on("job", id="native", timeout=60)
    async def handler(event: Any) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.sleep(3600)
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))
        passed.append(1)

    async with bus:
        (await bus.publish("job", 1)).raise_for_failures()
    assert passed == [1]


@pytest.mark.parametrize("count", [1, 10])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_an_interrupt_of_the_process_is_stored_and_goes_on_its_way(
    dlq: DeadLetterQueue, store: MemoryStore, error: type[BaseException], count: int
) -> None:
    bus = EventBus(dlq=dlq, concurrency="serial")

    async def interrupt(event: Any) -> None:
        raise error("now")

    for number in range(count):
        bus.subscribe("job", interrupt, id=f"h-{number}")
    async with bus:
        with pytest.raises(error):
            await bus.publish("job", 1)
        letters = await letters_of(store, bus)
    assert len(letters) == count
    assert all((it.state, it.reason, it.attempts) == ("pending", "interrupted", 0) for it in letters.values())
