"""Timeouts: of handlers that wait, of handlers in threads, and of handlers that will not end."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from eventbus import EventBus, HandlerTimeout, Receipt, RetryPolicy, TelemetryEvent
from eventbus.plan import MAX_THREADS
from eventbus.threads import run_in_thread
from eventbus_dlq import DeadLetterQueue, MemoryStore
from eventbus_dlq.store import DeadLetterStore

SHORT = 0.02
TIME_TO_BEGIN = 0.25
"""Long enough for a thread to have begun, on a busy machine too."""


@pytest.mark.parametrize("count", [1, 10])
async def test_a_handler_that_takes_too_long_is_cancelled_and_kept_as_a_timeout(
    dlq: DeadLetterQueue, store: MemoryStore, count: int
) -> None:
    seen: list[TelemetryEvent] = []
    bus = EventBus(dlq=dlq, observers=[seen.append])
    cancelled = 0

    async def slow(event: Any) -> None:
        nonlocal cancelled
        try:
            await anyio.sleep_forever()
        finally:
            cancelled += 1

    for number in range(count):
        bus.subscribe("job", slow, id=f"slow-{number}", timeout=SHORT)
    async with bus:
        receipt = await bus.publish("job", 1)
        await anyio.lowlevel.checkpoint()  # no cancellation is left over
    assert cancelled == count
    for handler_id, result in receipt.deliveries.items():
        assert isinstance(result.error, HandlerTimeout)
        assert isinstance(result.error, TimeoutError)
        assert str(result.error) == f"handler {handler_id!r} exceeded its timeout of 0.02 s"
        letter = await store.get(str(result.dead_letter_id))
        assert (letter.error.kind, letter.state, letter.reason) == ("timeout", "pending", None)
        assert letter.attempts == 1
        assert bus.metrics.snapshot()[handler_id].timed_out == 1
    assert [it.fields["timeout"] for it in seen if it.name == "delivery.timed_out"] == [SHORT] * count


async def test_each_attempt_has_the_whole_timeout_and_a_timeout_is_retried() -> None:
    bus = EventBus()
    runs = 0

    @bus.on("job", id="slow", timeout=SHORT, retry=RetryPolicy(attempts=3, delay=0))
    async def slow(event: Any) -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            await anyio.sleep_forever()

    async with bus:
        receipt = await bus.publish("job", 1)
    assert receipt.deliveries["slow"].state == "succeeded"
    assert receipt.deliveries["slow"].attempts == 3
    assert bus.metrics.snapshot()["slow"].timed_out == 2


async def test_an_error_raised_while_it_is_cancelled_is_behind_the_timeout(
    dlq: DeadLetterQueue, store: MemoryStore
) -> None:
    bus = EventBus(dlq=dlq)

    @bus.on("job", id="slow", timeout=SHORT)
    async def slow(event: Any) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise LookupError("the cleaning up failed")

    async with bus:
        receipt = await bus.publish("job", 1)
    letter = await store.get(str(receipt.deliveries["slow"].dead_letter_id))
    assert letter.error.kind == "timeout"
    assert "the cleaning up failed" in [cause.message for cause in letter.error.causes]


async def test_a_handler_that_swallows_its_cancellation_has_timed_out_nonetheless(
    dlq: DeadLetterQueue,
) -> None:
    bus = EventBus(dlq=dlq)
    ended: list[bool] = []

    @bus.on("job", id="stubborn", timeout=SHORT)
    async def stubborn(event: Any) -> None:
        try:
            await anyio.sleep_forever()
        except BaseException:
            ended.append(True)

    async with bus:
        receipt = await bus.publish("job", 1)
        await anyio.lowlevel.checkpoint()
    assert ended == [True]
    assert isinstance(receipt.deliveries["stubborn"].error, HandlerTimeout)


async def test_a_handler_in_time_is_not_disturbed_by_its_timer() -> None:
    bus = EventBus()

    @bus.on("job", id="quick", timeout=TIME_TO_BEGIN)
    async def quick(event: Any) -> None:
        await anyio.lowlevel.checkpoint()

    async with bus:
        assert (await bus.publish("job", 1)).ok
        await anyio.sleep(TIME_TO_BEGIN * 1.2)  # the timer would have struck here


async def test_a_timeout_of_one_leaves_the_others_alone(dlq: DeadLetterQueue) -> None:
    bus = EventBus(dlq=dlq)
    timed_out = anyio.Event()

    @bus.on("job", id="slow", timeout=SHORT)
    async def slow(event: Any) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            timed_out.set()

    @bus.on("job", id="patient")
    async def patient(event: Any) -> None:
        await timed_out.wait()
        await anyio.lowlevel.checkpoint()

    async with bus:
        receipt = await bus.publish("job", 1)
    assert receipt.failed == ("slow",)


async def test_publish_does_not_wait_for_a_thread_that_takes_too_long(dlq: DeadLetterQueue) -> None:
    bus = EventBus(dlq=dlq)
    go, ended = threading.Event(), threading.Event()

    @bus.on("job", id="slow", timeout=TIME_TO_BEGIN)
    def slow(event: Any) -> None:
        go.wait(30)
        ended.set()

    async with bus:
        receipt = await bus.publish("job", 1)
        assert not ended.is_set()
        assert isinstance(receipt.deliveries["slow"].error, HandlerTimeout)
        go.set()
        with anyio.fail_after(10):
            await bus.wait_idle()
        assert ended.is_set()


async def test_a_thread_that_timed_out_is_not_run_again_beside_itself(
    dlq: DeadLetterQueue, store: MemoryStore
) -> None:
    bus = EventBus(dlq=dlq)
    go, runs = threading.Event(), 0

    @bus.on("job", id="slow", timeout=TIME_TO_BEGIN, retry=RetryPolicy(attempts=3, delay=0))
    def slow(event: Any) -> None:
        nonlocal runs
        runs += 1
        go.wait(30)

    async with bus:
        try:
            result = (await bus.publish("job", 1)).deliveries["slow"]
        finally:
            go.set()
        with anyio.fail_after(10):
            await bus.wait_idle()
        letter = await store.get(str(result.dead_letter_id))
    assert runs == 1
    assert (result.attempts, bus.metrics.snapshot()["slow"].retried) == (1, 0)
    assert (letter.state, letter.attempts, letter.error.kind) == ("pending", 1, "timeout")


async def test_threads_that_never_return_do_not_exhaust_the_pool(dlq: DeadLetterQueue) -> None:
    bus = EventBus(dlq=dlq)
    go = threading.Event()

    @bus.on("stuck", id="stuck", timeout=0.2)
    def stuck(event: Any) -> None:
        go.wait(30)

    @bus.on("job", id="healthy")
    def healthy(event: Any) -> None: ...

    async with bus:
        async with anyio.create_task_group() as group:
            for number in range(MAX_THREADS):
                group.start_soon(bus.publish, "stuck", number)
        try:
            with anyio.fail_after(10):
                assert (await bus.publish("job", 1)).ok
        finally:
            go.set()


async def test_what_is_cancelled_while_it_waits_for_a_thread_is_not_run_later_and_not_leased(
    dlq: DeadLetterQueue, store: MemoryStore
) -> None:
    bus = EventBus(dlq=dlq)
    go = threading.Event()
    runs: list[Any] = []

    @bus.on("busy", id="busy")
    def busy(event: Any) -> None:
        go.wait(30)

    @bus.on("job", id="late")
    def late(event: Any) -> None:
        runs.append(event)

    async with bus:
        async with anyio.create_task_group() as group:
            for number in range(MAX_THREADS):
                group.start_soon(bus.publish, "busy", number)
            await anyio.wait_all_tasks_blocked()
            async with anyio.create_task_group() as inner:
                inner.start_soon(bus.publish, "job", 1)
                await anyio.wait_all_tasks_blocked()
                inner.cancel_scope.cancel()
            go.set()
        with anyio.fail_after(10):
            await bus.wait_idle()
        (item,) = (await bus.dead_letters()).items
    assert (item.handler_id, item.state, item.reason) == ("late", "pending", "interrupted")
    assert runs == []


async def test_threads_that_publish_for_other_threads_never_wait_for_each_other() -> None:
    bus = EventBus()
    everybody = threading.Barrier(MAX_THREADS)
    seen: list[int] = []

    @bus.on("parent", id="parent")
    def parent(event: int) -> None:
        everybody.wait(20)  # all threads of the pool are taken now
        anyio.from_thread.run(bus.publish, "child", event)

    @bus.on("child", id="child")
    def child(event: int) -> None:
        seen.append(event)

    async with bus:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                for number in range(MAX_THREADS):
                    group.start_soon(bus.publish, "parent", number)
    assert sorted(seen) == list(range(MAX_THREADS))


async def test_a_slot_is_kept_until_the_abandoned_thread_has_returned(dlq: DeadLetterQueue) -> None:
    """``max_concurrency`` counts what really runs: a thread that nobody waits for still does."""
    bus = EventBus(dlq=dlq)
    go, running, most, lock = threading.Event(), 0, 0, threading.Lock()

    @bus.on("job", id="limited", timeout=TIME_TO_BEGIN, max_concurrency=1)
    def limited(event: Any) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        if event == "slow":
            go.wait(30)
        with lock:
            running -= 1

    async with bus:
        await bus.publish("job", "slow")
        async with anyio.create_task_group() as group:
            group.start_soon(bus.publish, "job", "quick")
            await anyio.wait_all_tasks_blocked()
            go.set()
        with anyio.fail_after(10):
            await bus.wait_idle()
    assert most == 1
    assert bus.metrics.snapshot()["limited"].delivered == 1


async def test_a_thread_handler_is_cancelled_with_its_publisher_and_its_letter_waits_for_it(
    any_store: DeadLetterStore,
) -> None:
    captured = anyio.Event()

    def watch(event: TelemetryEvent) -> None:
        if event.name == "dead_letter.captured":
            captured.set()

    bus = EventBus(dlq=DeadLetterQueue(any_store), observers=[watch])
    began, go = anyio.Event(), threading.Event()

    @bus.on("job", id="slow")
    def slow(event: Any) -> None:
        anyio.from_thread.run_sync(began.set)
        go.wait(30)

    async with bus:
        async with anyio.create_task_group() as group:
            group.start_soon(bus.publish, "job", 1)
            await began.wait()
            group.cancel_scope.cancel()
        try:
            with anyio.fail_after(10):
                await captured.wait()
            (item,) = (await bus.dead_letters()).items
            assert item.state == "running"
        finally:
            go.set()
        with anyio.fail_after(10):
            await bus.wait_idle()
        letter = await any_store.get(item.id)
    assert (letter.state, letter.reason, letter.attempts) == ("pending", "interrupted", 0)


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan")])
def test_a_timeout_that_makes_no_sense_is_refused(timeout: float) -> None:
    bus = EventBus()

    async def handler(event: Any) -> None: ...

    with pytest.raises(ValueError, match="timeout="):
        bus.subscribe("job", handler, timeout=timeout)


async def test_waiting_for_one_of_the_threads_is_not_the_handlers_time(dlq: DeadLetterQueue) -> None:
    bus = EventBus(dlq=dlq)
    busy = threading.Barrier(MAX_THREADS + 1)
    go = threading.Event()

    @bus.on("busy", id="busy")
    def hold(event: Any) -> None:
        busy.wait(30)
        go.wait(30)

    ran: list[int] = []

    @bus.on("late", id="late", timeout=0.02)
    def late(event: int) -> None:
        ran.append(event)

    async with bus, anyio.create_task_group() as group:
        for number in range(MAX_THREADS):
            group.start_soon(bus.publish, "busy", number)
        await anyio.to_thread.run_sync(busy.wait, 30)
        receipts: list[Receipt] = []

        async def publish_late() -> None:
            receipts.append(await bus.publish("late", 1))

        group.start_soon(publish_late)
        await anyio.sleep(0.1)  # five times as long as the handler may take
        assert ran == []
        go.set()
    assert ran == [1]
    assert receipts[0].ok


def test_a_thread_that_returns_when_its_event_loop_turns_no_more_ends_too() -> None:
    """Else the interpreter would wait for it for ever, at its own end."""
    go, threads = threading.Event(), []

    def slow(payload: Any, envelope: Any) -> None:
        threads.append(threading.current_thread())
        go.wait(30)

    async def give_up() -> None:
        with anyio.move_on_after(TIME_TO_BEGIN):
            await run_in_thread(SimpleNamespace(payload=1, envelope=None), slow)  # type: ignore[arg-type]

    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(give_up())
        go.set()
        (thread,) = threads
        thread.join(10)
        assert not thread.is_alive()
    finally:
        loop.close()
