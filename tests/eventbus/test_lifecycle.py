"""Starting and stopping: nothing is lost, and nothing is left behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import fastapi
import httpx
import pytest
import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from eventbus import BusClosed, EventBus
from eventbus_dlq import DeadLetterQuery, DeadLetterQueue, MemoryStore, StoreUnavailable
from eventbus_dlq.store import DeadLetterStore


class CountingStore(MemoryStore):
    """A store that notes when it is opened and closed."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    async def open(self) -> None:
        self.calls.append("open")
        await super().open()

    async def close(self) -> None:
        self.calls.append("close")
        await super().close()


class LockedStore(MemoryStore):
    """A store that cannot be opened."""

    async def open(self) -> None:
        raise StoreUnavailable("the file is locked")


async def test_stop_waits_for_running_handlers_within_the_grace(dlq: DeadLetterQueue) -> None:
    bus = EventBus(dlq=dlq)
    began, go, done = anyio.Event(), anyio.Event(), []

    @bus.on("job", id="handler")
    async def handler(event: Any) -> None:
        began.set()
        await go.wait()
        done.append(event)

    async with anyio.create_task_group() as group:
        await bus.start()
        group.start_soon(bus.publish, "job", 1)
        await began.wait()

        async def let_it_go() -> None:
            await anyio.wait_all_tasks_blocked()
            assert not done
            with pytest.raises(BusClosed, match="stopping"):
                await bus.publish("job", 2)
            with pytest.raises(BusClosed, match="stopping"):
                await bus.enqueue("job", 2)
            go.set()

        group.start_soon(let_it_go)
        await bus.stop()
        assert done == [1]


@pytest.mark.parametrize("count", [1, 10])
@pytest.mark.parametrize("way", ["publish", "enqueue"])
async def test_what_runs_longer_than_the_grace_is_cut_short_and_stored(
    dlq: DeadLetterQueue, store: MemoryStore, way: str, count: int
) -> None:
    bus = EventBus(dlq=dlq, shutdown_grace=0)
    began, receipts = 0, []
    all_began = anyio.Event()

    async def handler(event: Any) -> None:
        nonlocal began
        began += 1
        if began == count:
            all_began.set()
        await anyio.sleep_forever()

    for number in range(count):
        bus.subscribe("job", handler, id=f"h-{number}")
    bus.subscribe("job", handler, id="later", stage=1)

    async def take() -> None:
        receipts.append(await getattr(bus, way)("job", 1))

    async with anyio.create_task_group() as group:
        await bus.start()
        group.start_soon(take)
        await all_began.wait()
        await bus.stop()
    (receipt,) = receipts
    assert {result.state for result in receipt.deliveries.values()} == {"dead_lettered"}
    assert all(isinstance(it.error, InterruptedError) for it in receipt.deliveries.values())
    for result in receipt.deliveries.values():
        letter = await store.get(str(result.dead_letter_id))
        assert (letter.state, letter.reason, letter.attempts) == ("pending", "interrupted", 0)
    assert began == count


async def test_enqueued_events_that_have_not_begun_are_stored_too(
    dlq: DeadLetterQueue, store: MemoryStore
) -> None:
    bus = EventBus(dlq=dlq, shutdown_grace=0, enqueue_concurrency=2)
    began: list[int] = []

    @bus.on("job", id="handler")
    async def handler(event: int) -> None:
        began.append(event)
        await anyio.sleep_forever()

    async with bus:
        receipts = [await bus.enqueue("job", number) for number in range(50)]
        await anyio.wait_all_tasks_blocked()
    assert began == [0, 1]
    assert all(receipt.deliveries["handler"].state == "dead_lettered" for receipt in receipts)
    letters = [await store.get(str(it.deliveries["handler"].dead_letter_id)) for it in receipts]
    assert sorted(letter.payload for letter in letters) == list(range(50))
    assert {(letter.state, letter.reason) for letter in letters} == {("pending", "interrupted")}


async def test_enqueued_events_are_delivered_within_the_grace(dlq: DeadLetterQueue) -> None:
    bus = EventBus(dlq=dlq)
    seen: list[int] = []

    @bus.on("job", id="handler")
    async def handler(event: int) -> None:
        await anyio.lowlevel.checkpoint()
        seen.append(event)

    async with bus:
        for number in range(300):
            await bus.enqueue("job", number)
    assert sorted(seen) == list(range(300))


async def test_a_running_handler_may_publish_while_the_bus_stops(dlq: DeadLetterQueue) -> None:
    bus = EventBus(dlq=dlq)
    began, go, seen = anyio.Event(), anyio.Event(), []

    @bus.on("parent", id="parent")
    async def parent(event: Any) -> None:
        began.set()
        await go.wait()
        await bus.publish("child", 1)
        await bus.enqueue("child", 2)

    @bus.on("child", id="child")
    async def child(event: Any) -> None:
        seen.append(event)

    async with anyio.create_task_group() as group:
        await bus.start()
        group.start_soon(bus.publish, "parent", 1)
        await began.wait()

        async def let_it_go() -> None:
            await anyio.wait_all_tasks_blocked()
            go.set()

        group.start_soon(let_it_go)
        await bus.stop()
    assert seen == [1, 2]
    assert bus.metrics.snapshot()["parent"].failed == 0


async def test_a_bus_starts_again_with_its_handlers_its_limits_and_its_threads(store: MemoryStore) -> None:
    bus = EventBus(dlq=DeadLetterQueue(store))
    seen: list[Any] = []

    @bus.on("job", id="limited", max_concurrency=1)
    async def limited(event: Any) -> None:
        seen.append(event)

    @bus.on("job", id="threaded")
    def threaded(event: Any) -> None:
        seen.append(event)

    for number in range(3):
        async with bus:
            (await bus.publish("job", number)).raise_for_failures()
    assert sorted(seen) == [0, 0, 1, 1, 2, 2]


def test_a_bus_starts_again_on_another_event_loop() -> None:
    bus = EventBus(dlq=DeadLetterQueue(MemoryStore()))
    seen: list[Any] = []

    @bus.on("job", id="limited", max_concurrency=1)
    def limited(event: Any) -> None:
        seen.append(event)

    async def once(number: int) -> None:
        async with bus:
            (await bus.publish("job", number)).raise_for_failures()

    anyio.run(once, 1, backend="asyncio")
    anyio.run(once, 2, backend="trio")
    anyio.run(once, 3, backend="asyncio")
    assert seen == [1, 2, 3]


async def test_starting_twice_is_refused_and_stopping_twice_is_harmless() -> None:
    bus = EventBus(name="shop")
    async with bus:
        with pytest.raises(RuntimeError, match="bus 'shop' is already running"):
            await bus.start()
        assert (await bus.publish("a", 1)).ok
    await bus.stop()
    await EventBus().stop()


async def test_the_store_is_opened_before_and_closed_after_each_run() -> None:
    store = CountingStore()
    bus = EventBus(dlq=DeadLetterQueue(store))
    async with bus:
        assert store.calls == ["open"]
    async with bus:
        pass
    assert store.calls == ["open", "close", "open", "close"]


async def test_a_store_that_cannot_be_opened_keeps_the_bus_closed() -> None:
    bus = EventBus(dlq=DeadLetterQueue(LockedStore()))
    with pytest.raises(StoreUnavailable, match="the file is locked"):
        await bus.start()
    with pytest.raises(BusClosed):
        await bus.publish("a", 1)
    with pytest.raises(StoreUnavailable):  # and not: it is running already
        await bus.start()


async def test_one_queue_serves_one_running_bus(dlq: DeadLetterQueue) -> None:
    first, second = EventBus(dlq=dlq), EventBus(dlq=dlq)
    async with first:
        with pytest.raises(RuntimeError, match="in use by a running bus"):
            await second.start()
        assert (await first.publish("a", 1)).ok
    async with second:
        assert (await second.publish("a", 1)).ok


async def test_the_error_of_the_block_goes_on_its_way_after_the_bus_has_stopped() -> None:
    bus = EventBus()
    with pytest.raises(LookupError, match="mine"):
        async with bus:
            raise LookupError("mine")
    with pytest.raises(BusClosed):
        await bus.publish("a", 1)


async def test_a_cancelled_stop_still_closes_the_store_and_stores_what_ran() -> None:
    store = CountingStore()
    bus = EventBus(dlq=DeadLetterQueue(store))
    began = anyio.Event()

    @bus.on("job", id="handler")
    async def handler(event: Any) -> None:
        began.set()
        await anyio.sleep_forever()

    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            await bus.start()
            group.start_soon(bus.publish, "job", 1)
            await began.wait()

            async def cancel_soon() -> None:
                await anyio.wait_all_tasks_blocked()
                scope.cancel()

            group.start_soon(cancel_soon)
            await bus.stop()
    assert store.calls == ["open", "close"]
    with pytest.raises(BusClosed):
        await bus.publish("job", 2)


@pytest.mark.parametrize("moment", ["before the stop", "within the grace"])
async def test_a_cancelled_stop_stores_every_enqueued_event_that_has_not_begun(
    any_store: DeadLetterStore, moment: str
) -> None:
    bus = EventBus(dlq=DeadLetterQueue(any_store), enqueue_concurrency=1)
    began: list[int] = []

    @bus.on("job", id="handler")
    async def handler(event: int) -> None:
        began.append(event)
        await anyio.sleep_forever()

    with anyio.CancelScope() as scope:

        async def cancel_soon() -> None:
            await anyio.wait_all_tasks_blocked()
            scope.cancel()

        async with anyio.create_task_group() as group, bus:
            for number in range(10):
                await bus.enqueue("job", number)
            group.start_soon(cancel_soon)
            if moment == "before the stop":
                await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert len(began) < 10
    await any_store.open()
    letters = [await any_store.get(item.id) for item in (await any_store.find(DeadLetterQuery())).items]
    await any_store.close()
    assert sorted(letter.payload for letter in letters) == list(range(10))
    looks = {(letter.state, letter.reason, letter.attempts, letter.history) for letter in letters}
    assert looks == {("pending", "interrupted", 0, ())}


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_no_task_is_left_behind(
    dlq: DeadLetterQueue, anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventbus.core._AFTER_GRACE", 0.05)
    bus = EventBus(dlq=dlq, shutdown_grace=0)
    before = asyncio.all_tasks()

    async def handler(event: Any) -> None:
        await anyio.sleep_forever()

    for number in range(10):
        bus.subscribe("job", handler, id=f"h-{number}")
    async with bus:
        for number in range(20):
            await bus.enqueue("job", number)
        bus.spawn(anyio.sleep_forever)
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) > len(before)
    assert asyncio.all_tasks() == before


async def test_a_handler_that_takes_no_notice_of_its_cancellation_cannot_keep_the_bus_from_stopping(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch, anyio_backend: str
) -> None:
    if anyio_backend == "trio":
        pytest.skip("trio lets go of no task, and cancels it at every wait")
    monkeypatch.setattr("eventbus.core._AFTER_GRACE", 0.05)
    monkeypatch.setattr("eventbus.runtime.on_asyncio._PATIENCE", 0.05)
    bus = EventBus(dlq=DeadLetterQueue(store), shutdown_grace=0)
    began, end = asyncio.Event(), asyncio.Event()

    @bus.on("job", id="stubborn", durable=True)
    async def stubborn(event: Any) -> None:
        while not end.is_set():
            began.set()
            try:
                await end.wait()
            except asyncio.CancelledError:
                continue

    await bus.start()
    await bus.publish("job", 1)
    await began.wait()
    with structlog.testing.capture_logs() as logs:
        stopping = asyncio.ensure_future(bus.stop())
        await asyncio.wait([stopping], timeout=10)
        stopped = stopping.done()
        end.set()
        await stopping
    assert stopped
    assert "shutdown.tasks_left" in [it["event"] for it in logs]
    (item,) = (await store.find(DeadLetterQuery())).items
    assert item.state == "running"  # nobody beats its heart, so its lease runs out


async def test_no_thread_is_left_behind_but_the_backends_idle_ones(dlq: DeadLetterQueue) -> None:
    bus = EventBus(dlq=dlq)
    used: set[int] = set()

    @bus.on("job", id="threaded")
    def threaded(event: Any) -> None:
        used.add(threading.get_ident())

    before = set(threading.enumerate())
    async with bus:
        await bus.publish("job", 1)
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert all(name.startswith(("AnyIO worker thread", "Trio thread")) for name in left)
    assert used
    assert threading.get_ident() not in used


async def test_background_work_is_waited_for_and_its_error_is_logged() -> None:
    bus = EventBus()
    done: list[int] = []

    async def work() -> None:
        await anyio.lowlevel.checkpoint()
        done.append(1)

    async def broken() -> None:
        raise RuntimeError("nobody hears it but the log")

    async with bus:
        bus.spawn(work)
        bus.spawn(broken)
    assert done == [1]
    with pytest.raises(BusClosed):
        bus.spawn(work)


def _shop(bus: EventBus) -> list[Any]:
    seen: list[Any] = []

    @bus.on("order.placed", id="keep")
    async def keep(event: Any) -> None:
        seen.append(event)

    return seen


@asynccontextmanager
async def running(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Run an application as a server does: its lifespan first, then requests."""
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            yield client


async def test_the_bus_lives_as_long_as_a_starlette_application(dlq: DeadLetterQueue) -> None:
    bus = EventBus(dlq=dlq)
    seen = _shop(bus)

    async def place(request: Request) -> PlainTextResponse:
        receipt = await bus.publish("order.placed", {"n": 1})
        return PlainTextResponse(receipt.event_id)

    app = Starlette(routes=[Route("/", place)], lifespan=bus.lifespan)
    async with running(app) as client:
        assert (await client.get("/")).status_code == 200
    assert seen == [{"n": 1}]
    with pytest.raises(BusClosed):
        await bus.publish("order.placed", {})


async def test_the_bus_lives_as_long_as_a_fastapi_application(dlq: DeadLetterQueue) -> None:
    bus = EventBus(dlq=dlq)
    seen = _shop(bus)
    app = fastapi.FastAPI(lifespan=bus.lifespan)

    @app.get("/")
    async def place() -> str:
        return (await bus.publish("order.placed", {"n": 2})).event_id

    async with running(app) as client:
        assert (await client.get("/")).status_code == 200
    assert seen == [{"n": 2}]
    with pytest.raises(BusClosed):
        await bus.publish("order.placed", {})


@pytest.mark.parametrize(
    "options",
    [
        {"shutdown_grace": -1},
        {"history": -1},
        {"queue_size": 0},
        {"overflow": "drop"},
        {"enqueue_concurrency": 0},
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=name):
        EventBus(**options)
