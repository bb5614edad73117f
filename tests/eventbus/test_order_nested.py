"""What a handler publishes to a key that is busy: nobody waits for itself."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
from keeping import KeepingDlq
from stepping import Step, Stepper, make_bus, settled

from eventbus import OrderDeadlock

asyncio_only = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)


async def test_a_publish_to_the_handler_and_key_that_runs_is_stored_behind_it() -> None:
    dlq = KeepingDlq()
    bus = make_bus(dlq)
    order: list[str] = []
    inner: list[Any] = []

    @bus.on(Step, id="step", ordering_key="of")
    async def step(event: Step) -> None:
        order.append(f"began {event.number}")
        if event.number == 1:
            inner.append(await bus.publish(Step(of="a", number=2)))
            inner.append(await bus.publish(Step(of="b", number=3)))
        order.append(f"ended {event.number}")

    async with bus:
        await bus.publish(Step(of="a", number=1))
    assert order == ["began 1", "began 3", "ended 3", "ended 1"]
    assert [receipt.deliveries["step"].state for receipt in inner] == ["accepted", "succeeded"]
    assert [(how, it.number) for how, it in dlq.story()] == [("accepted", 2)]


async def test_what_waited_before_a_nested_publish_is_stored_before_it() -> None:
    dlq = KeepingDlq()
    bus = make_bus(dlq)
    go, began = anyio.Event(), []

    @bus.on(Step, id="step", ordering_key="of")
    async def step(event: Step) -> None:
        began.append(event.number)
        if event.number == 1:
            await go.wait()
            await bus.publish(Step(of="a", number=9))

    async with bus, anyio.create_task_group() as group:
        for number in (1, 2, 3):
            group.start_soon(bus.publish, Step(of="a", number=number))
            await settled()
        go.set()
    assert began == [1]
    assert [(how, it.number) for how, it in dlq.story()] == [
        ("accepted", 2),
        ("accepted", 3),
        ("accepted", 9),
    ]


async def test_without_a_dead_letter_queue_a_nested_publish_to_itself_fails_instead_of_waiting_for_ever() -> (
    None
):
    bus = make_bus()
    inner: list[Any] = []

    @bus.on(Step, id="step", ordering_key="of")
    async def step(event: Step) -> None:
        if event.number == 1:
            inner.append(await bus.publish(Step(of="a", number=2)))

    async with bus:
        receipt = await bus.publish(Step(of="a", number=1))
        again = await bus.publish(Step(of="a", number=3))
    result = inner[0].deliveries["step"]
    assert result.state == "failed"
    assert isinstance(result.error, OrderDeadlock)
    assert "'Step' to 'step' with ordering key 'a' would wait for the handler" in str(result.error)
    assert receipt.ok
    assert again.ok


async def test_an_event_that_a_handler_enqueues_to_itself_waits_for_its_end() -> None:
    bus = make_bus()
    order: list[str] = []

    @bus.on(Step, id="step", ordering_key="of")
    async def step(event: Step) -> None:
        order.append(f"began {event.number}")
        if event.number == 1:
            await bus.enqueue(Step(of="a", number=2))
            await settled()
        order.append(f"ended {event.number}")

    async with bus:
        await bus.publish(Step(of="a", number=1))
        await bus.wait_idle()
    assert order == ["began 1", "ended 1", "began 2", "ended 2"]


async def test_two_handlers_that_publish_to_each_others_key_do_not_wait_for_ever() -> None:
    dlq = KeepingDlq()
    bus = make_bus(dlq)
    both = {"left": anyio.Event(), "right": anyio.Event()}
    ran: list[str] = []

    async def run(me: str, other: str, event: Mapping[str, str]) -> None:
        ran.append(f"{me} {event['by']}")
        if event["by"] == "user":
            both[me].set()
            await both[other].wait()
            await bus.publish(f"to.{other}", {"key": "k", "by": me})

    async def left(event: Mapping[str, str]) -> None:
        await run("left", "right", event)

    async def right(event: Mapping[str, str]) -> None:
        await run("right", "left", event)

    bus.on("to.left", id="left", ordering_key="key")(left)
    bus.on("to.right", id="right", ordering_key="key")(right)
    with anyio.fail_after(5):
        async with bus, anyio.create_task_group() as group:
            group.start_soon(bus.publish, "to.left", {"key": "k", "by": "user"})
            group.start_soon(bus.publish, "to.right", {"key": "k", "by": "user"})
    assert sorted(ran[:2]) == ["left user", "right user"]
    stored = [payload["by"] for _, payload in dlq.story()]
    run_nested = [it.split()[1] for it in ran[2:]]
    assert sorted(stored + run_nested) == ["left", "right"]
    assert stored


async def test_a_nested_publish_waits_for_a_key_that_somebody_else_runs() -> None:
    bus = make_bus()
    stepper = Stepper()
    bus.on("work", id="step", ordering_key="of")(_as_step(stepper))

    @bus.on("start", id="start", ordering_key="of")
    async def start(event: Mapping[str, Any]) -> None:
        await bus.publish("work", {"of": "a", "number": 2})

    async with bus, anyio.create_task_group() as group:
        group.start_soon(bus.publish, "work", {"of": "a", "number": 1})
        await settled()
        group.start_soon(bus.publish, "start", {"of": "a"})
        await settled()
        assert stepper.began == [1]
        stepper.let(1, 2)
    assert stepper.ended == [1, 2]


def _as_step(stepper: Stepper) -> Any:
    async def handler(event: Mapping[str, Any]) -> None:
        await stepper(Step(**event))

    return handler


async def test_an_earlier_stage_that_publishes_to_a_later_one_does_not_wait_for_ever() -> None:
    dlq = KeepingDlq()
    bus = make_bus(dlq)
    ran: list[int] = []

    @bus.on("go", id="early")
    async def early(event: Mapping[str, Any]) -> None:
        if event["number"] == 1:
            await bus.publish("go", {"of": "a", "number": 2})

    @bus.on("go", id="late", stage=1, ordering_key="of")
    async def late(event: Mapping[str, Any]) -> None:
        ran.append(event["number"])

    with anyio.fail_after(5):
        async with bus:
            receipt = await bus.publish("go", {"of": "a", "number": 1})
    assert ran == []
    assert receipt.deliveries["late"].state == "accepted", "it was stored before the nested one"
    assert [payload["number"] for _, payload in dlq.story()] == [1, 2]


async def test_a_busy_queue_and_a_nested_publish_do_not_wait_for_each_other() -> None:
    dlq = KeepingDlq()
    bus = make_bus(dlq, enqueue_concurrency=1)
    ran: list[int] = []
    bus.on("work", id="work", ordering_key="of")(_noting(ran))

    @bus.on("start", id="start")
    async def start(_event: object) -> None:
        await bus.enqueue("work", {"of": "a", "number": 1})
        await bus.publish("work", {"of": "a", "number": 2})

    with anyio.fail_after(5):
        async with bus:
            await bus.enqueue("start")
            await bus.wait_idle()
    assert ran + [payload["number"] for _, payload in dlq.story()] == [1, 2]


async def test_a_free_worker_takes_what_a_nested_publish_waits_for() -> None:
    bus = make_bus(enqueue_concurrency=2)
    ran: list[int] = []
    bus.on("work", id="work", ordering_key="of")(_noting(ran))

    @bus.on("start", id="start")
    async def start(_event: object) -> None:
        await bus.enqueue("work", {"of": "a", "number": 1})
        await bus.publish("work", {"of": "a", "number": 2})

    with anyio.fail_after(5):
        async with bus:
            await bus.enqueue("start")
            await bus.wait_idle()
    assert ran == [1, 2]


def _noting(ran: list[int]) -> Any:
    async def handler(event: Mapping[str, Any]) -> None:
        ran.append(event["number"])

    return handler


async def test_a_place_of_the_handler_and_a_key_do_not_wait_for_each_other() -> None:
    dlq = KeepingDlq()
    bus = make_bus(dlq)
    go = anyio.Event()
    ran: list[int] = []

    @bus.on("work", id="work", ordering_key="of", max_concurrency=1)
    async def work(event: Mapping[str, Any]) -> None:
        ran.append(event["number"])
        if event["number"] == 1:
            await go.wait()
            await bus.publish("work", {"of": "b", "number": 3})

    with anyio.fail_after(5):
        async with bus, anyio.create_task_group() as group:
            group.start_soon(bus.publish, "work", {"of": "a", "number": 1})
            await settled()
            group.start_soon(bus.publish, "work", {"of": "b", "number": 2})  # has its key, and no place yet
            await settled()
            go.set()
    assert ran == [1, 2]
    assert [payload["number"] for _, payload in dlq.story()] == [3]


@pytest.mark.parametrize("first", ["ordered", "limited"])
async def test_a_key_and_a_place_that_wait_for_each_other_do_not_wait_for_ever(first: str) -> None:
    """Each of two handlers publishes to the other: one keeps an order, the other runs once at a time."""
    dlq = KeepingDlq()
    bus = make_bus(dlq)
    goes = {"ordered": anyio.Event(), "limited": anyio.Event()}
    ran: list[str] = []

    async def run(me: str, other: str, event: Mapping[str, str]) -> None:
        ran.append(f"{me} {event['by']}")
        if event["by"] == "user":
            await goes[me].wait()
            await bus.publish(other, {"key": "k", "by": me})

    async def ordered(event: Mapping[str, str]) -> None:
        await run("ordered", "limited", event)

    async def limited(event: Mapping[str, str]) -> None:
        await run("limited", "ordered", event)

    bus.on("ordered", id="ordered", ordering_key="key")(ordered)
    bus.on("limited", id="limited", max_concurrency=1)(limited)
    with anyio.fail_after(5):
        async with bus, anyio.create_task_group() as group:
            group.start_soon(bus.publish, "ordered", {"key": "k", "by": "user"})
            group.start_soon(bus.publish, "limited", {"key": "k", "by": "user"})
            await settled()
            goes[first].set()
            await settled()
            for go in goes.values():
                go.set()
    stored = [payload["by"] for _, payload in dlq.story()]
    nested = [it.split()[1] for it in ran if not it.endswith("user")]
    assert sorted(stored + nested) == ["limited", "ordered"]


@pytest.mark.parametrize("options", [{"ordering_key": "key"}, {"max_concurrency": 1}], ids=["key", "place"])
async def test_plain_functions_that_have_all_threads_do_not_wait_for_one_who_has_none(
    monkeypatch: pytest.MonkeyPatch, options: Any
) -> None:
    """What is ahead of their events needs a thread itself, and they keep theirs while they wait."""
    monkeypatch.setattr("eventbus.plan.MAX_THREADS", 2)
    dlq = KeepingDlq()
    bus = make_bus(dlq)
    both = threading.Barrier(3)
    ran: list[int] = []

    def outer(event: Mapping[str, Any]) -> None:
        both.wait(5)
        both.wait(5)
        anyio.from_thread.run(bus.publish, "inner", event)

    def inner(event: Mapping[str, Any]) -> None:
        ran.append(event["number"])

    bus.on("outer", id="outer")(outer)
    bus.on("inner", id="inner", **options)(inner)
    with anyio.fail_after(10):
        async with bus, anyio.create_task_group() as group:
            for number in (1, 2):
                group.start_soon(bus.publish, "outer", {"key": "k", "number": number})
            await anyio.to_thread.run_sync(both.wait, 5)  # both have their threads
            group.start_soon(bus.publish, "inner", {"key": "k", "number": 3})
            await settled()
            await anyio.to_thread.run_sync(both.wait, 5)
    assert sorted(ran + [payload["number"] for _, payload in dlq.story()]) == [1, 2, 3]
