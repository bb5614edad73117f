"""Fan-out: who runs when, in which context, and who is disturbed by whom."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import anyio
import pytest

from eventbus import Envelope, EventBus, current_envelope
from eventbus_dlq import DeadLetterQueue

user: ContextVar[str] = ContextVar("user", default="nobody")


async def test_one_that_waits_never_delays_the_others() -> None:
    bus = EventBus()
    rest_is_done = anyio.Event()
    done: list[int] = []

    @bus.on("job", id="slow")
    async def slow(event: Any) -> None:
        await rest_is_done.wait()
        done.append(0)

    def quick(number: int) -> Callable[[Any], Awaitable[None]]:
        async def run(event: Any) -> None:
            await anyio.lowlevel.checkpoint()
            done.append(number)
            if len(done) == 9:
                rest_is_done.set()

        return run

    for number in range(1, 10):
        bus.subscribe("job", quick(number), id=f"quick-{number}")
    async with bus:
        with anyio.fail_after(5):
            receipt = await bus.publish("job", 1)
    assert receipt.ok
    assert done[-1] == 0
    assert sorted(done) == list(range(10))


async def test_handlers_that_wait_for_each_other_all_come_to_an_end() -> None:
    """A publish takes as long as its slowest handler: all of them are under way at once."""
    bus = EventBus()
    arrived = 0
    everybody = anyio.Event()

    async def meet(event: Any) -> None:
        nonlocal arrived
        arrived += 1
        if arrived == 10:
            everybody.set()
        await everybody.wait()

    for number in range(10):
        bus.subscribe("job", meet, id=f"h-{number}")
    async with bus:
        with anyio.fail_after(5):
            assert (await bus.publish("job", 1)).ok


async def test_two_publishers_do_not_wait_for_each_other() -> None:
    bus = EventBus()
    second_is_done = anyio.Event()

    @bus.on("first", id="first")
    async def first(event: Any) -> None:
        await second_is_done.wait()

    @bus.on("second", id="second")
    async def second(event: Any) -> None:
        second_is_done.set()

    async with bus:
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(bus.publish, "first", 1)
                await anyio.wait_all_tasks_blocked()
                await bus.publish("second", 1)


async def test_stages_run_in_order_each_after_the_one_before_has_settled() -> None:
    bus = EventBus()
    seen: list[str] = []

    def note(name: str, *, fails: bool = False) -> Callable[[Any], Awaitable[None]]:
        async def run(event: Any) -> None:
            seen.append(f"{name} begins")
            await anyio.lowlevel.checkpoint()
            seen.append(f"{name} ends")
            if fails:
                raise RuntimeError(name)

        return run

    bus.subscribe("job", note("late"), id="late", stage=7)
    bus.subscribe("job", note("middle", fails=True), id="middle", stage=2)
    bus.subscribe("job", note("early"), id="early")
    bus.subscribe("job", note("early too"), id="early too")
    async with bus:
        receipt = await bus.publish("job", 1)
    assert set(seen[:4]) == {"early begins", "early ends", "early too begins", "early too ends"}
    assert seen[4:] == ["middle begins", "middle ends", "late begins", "late ends"]
    assert list(receipt.deliveries) == ["early", "early too", "middle", "late"]
    assert receipt.failed == ("middle",)


async def test_serial_runs_one_after_another_in_the_order_of_subscribing() -> None:
    bus = EventBus(concurrency="serial")
    seen: list[str] = []

    def note(name: str) -> Callable[[Any], Awaitable[None]]:
        async def run(event: Any) -> None:
            seen.append(f"{name}+")
            await anyio.lowlevel.checkpoint()
            seen.append(f"{name}-")
            if name == "b":
                raise RuntimeError("stops nobody")

        return run

    for name in "cab":
        bus.subscribe("job", note(name), id=name)
    async with bus:
        receipt = await bus.publish("job", 1)
    assert seen == ["c+", "c-", "a+", "a-", "b+", "b-"]
    assert receipt.failed == ("b",)


def test_another_concurrency_is_refused() -> None:
    with pytest.raises(ValueError, match="concurrency='parallel' must be 'concurrent' or 'serial'"):
        EventBus(concurrency="parallel")  # type: ignore[arg-type]  # the mistake


@pytest.mark.parametrize("fails_at", ["once", "later", "in a thread"])
@pytest.mark.parametrize("concurrency", ["concurrent", "serial"])
async def test_a_failing_handler_stops_nobody(dlq: DeadLetterQueue, fails_at: str, concurrency: Any) -> None:
    bus = EventBus(dlq=dlq, concurrency=concurrency)
    done: list[int] = []

    def fine(number: int) -> Callable[[Any], Awaitable[None]]:
        async def run(event: Any) -> None:
            await anyio.lowlevel.checkpoint()
            done.append(number)

        return run

    async def fail(event: Any) -> None:
        if fails_at == "later":
            await anyio.lowlevel.checkpoint()
        raise RuntimeError("stops nobody")

    def fail_in_thread(event: Any) -> None:
        raise RuntimeError("stops nobody")

    bus.subscribe("job", fine(1), id="before")
    bus.subscribe("job", fail_in_thread if fails_at == "in a thread" else fail, id="fails")
    bus.subscribe("job", fine(2), id="after")
    async with bus:
        receipt = await bus.publish("job", 1)
    assert sorted(done) == [1, 2]
    assert receipt.failed == ("fails",)
    assert receipt.deliveries["fails"].dead_letter_id is not None


@pytest.mark.parametrize("count", [1, 10])
@pytest.mark.parametrize("concurrency", ["concurrent", "serial"])
@pytest.mark.parametrize("threaded", [False, True])
async def test_a_handler_sees_its_publishers_context_and_keeps_its_own_changes(
    count: int, concurrency: Any, threaded: bool
) -> None:
    bus = EventBus(concurrency=concurrency)
    seen: list[str] = []

    async def change(event: Any) -> None:
        seen.append(user.get())
        user.set("changed")
        await anyio.lowlevel.checkpoint()
        assert user.get() == "changed"

    def change_in_thread(event: Any) -> None:
        seen.append(user.get())
        user.set("changed")

    for number in range(count):
        bus.subscribe("job", change_in_thread if threaded else change, id=f"h-{number}")
    async with bus:
        for name in ("ann", "bob"):
            user.set(name)
            (await bus.publish("job", 1)).raise_for_failures()
            assert user.get() == name
            assert current_envelope() is None
    assert seen == ["ann"] * count + ["bob"] * count


async def test_a_nested_event_takes_over_its_flow_its_tenant_and_its_trace(dlq: DeadLetterQueue) -> None:
    bus = EventBus(dlq=dlq)
    seen: dict[str, Envelope] = {}

    @bus.on("a", id="a")
    async def on_a(event: Any, envelope: Envelope) -> None:
        seen["a"] = envelope
        await bus.publish("b", 1, headers={"mine": "yes"})
        assert current_envelope() is envelope

    @bus.on("b", id="b")
    async def on_b(event: Any, envelope: Envelope) -> None:
        seen["b"] = envelope
        await bus.enqueue("c", 1, tenant="other", correlation_id="own-flow", causation_id="own-cause")

    @bus.on("c", id="c")
    async def on_c(event: Any, envelope: Envelope) -> None:
        seen["c"] = envelope

    async with bus:
        await bus.publish(
            "a",
            1,
            tenant="acme",
            correlation_id="req-1",
            user_id="u-1",
            headers={"traceparent": "00-1", "tracestate": "x=1", "baggage": "k=v", "secret": "no"},
        )
        await bus.wait_idle()
    assert seen["b"].correlation_id == "req-1"
    assert seen["b"].causation_id == seen["a"].id
    assert seen["b"].tenant == "acme"
    assert seen["b"].user_id is None
    assert dict(seen["b"].headers) == {
        "traceparent": "00-1",
        "tracestate": "x=1",
        "baggage": "k=v",
        "mine": "yes",
    }
    assert (seen["c"].tenant, seen["c"].correlation_id) == ("other", "own-flow")
    assert seen["c"].causation_id == "own-cause"


@pytest.mark.parametrize("count", [1, 10])
async def test_a_flow_is_inherited_by_the_tasks_of_a_handler_and_from_its_thread(count: int) -> None:
    bus = EventBus()
    children: list[Envelope] = []

    async def parent(event: Any) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(bus.publish, "child", 1)

    def parent_in_thread(event: Any) -> None:
        anyio.from_thread.run(bus.publish, "child", 2)

    @bus.on("child", id="child")
    async def child(event: Any, envelope: Envelope) -> None:
        children.append(envelope)

    for number in range(count):
        bus.subscribe("parent", parent, id=f"p-{number}")
        bus.subscribe("parent", parent_in_thread, id=f"t-{number}")
    async with bus:
        receipt = await bus.publish("parent", 1)
    receipt.raise_for_failures()
    assert len(children) == 2 * count
    assert {it.causation_id for it in children} == {receipt.event_id}
    assert {it.correlation_id for it in children} == {receipt.event_id}


async def test_deep_nesting_of_events_comes_to_its_end() -> None:
    bus = EventBus()
    depths: list[int] = []

    @bus.on("deeper", id="deeper")
    async def deeper(event: int) -> None:
        depths.append(event)
        if event < 40:
            await bus.publish("deeper", event + 1)

    async with bus:
        receipt = await bus.publish("deeper", 1)
    receipt.raise_for_failures()
    assert depths == list(range(1, 41))


async def test_at_most_so_many_deliveries_of_a_handler_run_at_a_time() -> None:
    bus = EventBus()
    running = most = 0
    go = anyio.Event()

    @bus.on("job", id="limited", max_concurrency=3)
    async def limited(event: Any) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await go.wait()
        await anyio.lowlevel.checkpoint()
        running -= 1

    async with bus, anyio.create_task_group() as group:
        for number in range(10):
            group.start_soon(bus.publish, "job", number)
        await anyio.wait_all_tasks_blocked()
        assert running == 3
        go.set()
    assert most == 3
    assert bus.metrics.snapshot()["limited"].delivered == 10


async def test_a_nested_delivery_never_waits_for_its_ancestors_slot() -> None:
    bus = EventBus()

    @bus.on("job", id="limited", max_concurrency=1)
    async def limited(event: int) -> None:
        if event:
            await bus.publish("other", event - 1)

    @bus.on("other", id="other")
    async def other(event: int) -> None:
        await bus.publish("job", event)

    async with bus:
        with anyio.fail_after(5):
            (await bus.publish("job", 3)).raise_for_failures()
    assert bus.metrics.snapshot()["limited"].delivered == 4


async def test_a_cancelled_wait_for_a_slot_leaves_the_slot_to_others(dlq: DeadLetterQueue) -> None:
    bus = EventBus(dlq=dlq)
    go = anyio.Event()

    @bus.on("job", id="limited", max_concurrency=1)
    async def limited(event: Any) -> None:
        await go.wait()

    async with bus:
        async with anyio.create_task_group() as group:
            group.start_soon(bus.publish, "job", 1)
            await anyio.wait_all_tasks_blocked()
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as inner:

                    async def cancel_soon() -> None:
                        await anyio.wait_all_tasks_blocked()
                        scope.cancel()

                    inner.start_soon(cancel_soon)
                    await bus.publish("job", 2)
            assert scope.cancelled_caught
            go.set()
        with anyio.fail_after(5):
            assert (await bus.publish("job", 3)).ok
        assert (await bus.stats()).by_state == {"pending": 1}


async def test_when_decides_about_each_delivery_and_its_failure_is_the_handlers(dlq: DeadLetterQueue) -> None:
    bus = EventBus(dlq=dlq)
    seen: list[Any] = []

    def only_acme(envelope: Envelope) -> bool:
        if envelope.tenant is None:
            raise LookupError("whose is it?")
        return envelope.tenant == "acme"

    @bus.on("job", id="picky", when=only_acme)
    async def picky(event: Any) -> None:
        seen.append(event)

    async with bus:
        states = [
            (await bus.publish("job", number, tenant=tenant)).deliveries["picky"].state
            for number, tenant in enumerate(["acme", "other", None])
        ]
        letter = await bus.dead_letter((await bus.dead_letters()).items[0].id)
    assert states == ["succeeded", "skipped", "dead_lettered"]
    assert seen == [0]
    assert letter.error.message == "whose is it?"


async def test_once_takes_the_first_event_that_when_lets_pass() -> None:
    bus = EventBus()
    seen: list[Any] = []

    @bus.on("job", id="once", once=True, when=lambda envelope: envelope.payload > 1)
    async def once(event: Any) -> None:
        seen.append(event)

    async with bus:
        states = [(await bus.publish("job", n)).deliveries["once"].state for n in range(4)]
    assert states == ["skipped", "skipped", "succeeded", "skipped"]
    assert seen == [2]
    assert bus.metrics.snapshot()["once"].skipped == 3
