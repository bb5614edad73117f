"""Cancellation and shutdown of deliveries that wait for their turn."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from keeping import KeepingDlq
from stepping import Step, Stepper, make_bus, settled

from eventbus import EventBus
from eventbus_dlq import DeadLetterQuery, DeadLetterQueue, MemoryStore

asyncio_only = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)


async def test_one_that_is_cancelled_in_line_is_stored_behind_those_ahead_of_it() -> None:
    dlq = KeepingDlq()
    bus = make_bus(dlq)
    stepper = Stepper()
    bus.on(Step, id="step", ordering_key="of")(stepper.__call__)
    receipts: list[Any] = []

    async def publish(number: int) -> None:
        receipts.append(await bus.publish(Step(of="a", number=number)))

    async with bus, anyio.create_task_group() as group:
        group.start_soon(publish, 1)
        await settled()
        group.start_soon(publish, 2)
        await settled()
        async with anyio.create_task_group() as doomed:
            doomed.start_soon(publish, 3)
            await settled()
            group.start_soon(publish, 4)
            await settled()
            doomed.cancel_scope.cancel()
        await settled()
        assert [(how, it.number) for how, it in dlq.story()][:2] == [
            ("accepted", 2),
            ("captured interrupted", 3),
        ]
        stepper.let(1)
    assert stepper.ended == [1]
    assert [it.number for _, it in dlq.story()] == [1 + number for number in (1, 2, 3)]


async def test_one_that_is_cancelled_while_it_runs_holds_back_those_behind_it() -> None:
    dlq = KeepingDlq()
    bus = make_bus(dlq)
    stepper = Stepper()
    bus.on(Step, id="step", ordering_key="of")(stepper.__call__)
    async with bus, anyio.create_task_group() as group, anyio.create_task_group() as doomed:
        doomed.start_soon(bus.publish, Step(of="a", number=1))
        await settled()
        group.start_soon(bus.publish, Step(of="a", number=2))
        await settled()
        doomed.cancel_scope.cancel()
    assert stepper.began == [1]
    assert [(how, it.number) for how, it in dlq.story()] == [("captured interrupted", 1), ("accepted", 2)]


async def test_the_one_who_stores_for_others_may_be_cancelled() -> None:
    dlq = KeepingDlq()
    bus = make_bus(dlq)
    stepper = Stepper()
    stepper.failing[1] = ValueError("no")
    bus.on(Step, id="step", ordering_key="of")(stepper.__call__)
    receipts: dict[int, Any] = {}

    async def publish(number: int) -> None:
        receipts[number] = await bus.publish(Step(of="a", number=number))

    async with bus, anyio.create_task_group() as group:
        group.start_soon(publish, 1)
        await settled()
        async with anyio.create_task_group() as doomed:
            doomed.start_soon(publish, 2)
            await settled()
            for number in (3, 4):
                group.start_soon(publish, number)
                await settled()
            stepper.let(1)
            while len(dlq.kept) < 1:
                await anyio.lowlevel.checkpoint()
            dlq.answer = anyio.Event()
            await settled()
            dlq.answer = None
            doomed.cancel_scope.cancel()
    assert [it.number for _, it in dlq.story()] == [1, 2, 3, 4]
    assert receipts[3].deliveries["step"].dead_letter_id == dlq.kept[2].id
    assert receipts[4].deliveries["step"].state == "parked"


async def test_a_stopping_bus_stores_what_waits_in_line_in_order() -> None:
    dlq = KeepingDlq()
    bus = make_bus(dlq, shutdown_grace=0.0)
    stepper = Stepper()
    bus.on(Step, id="step", ordering_key="of")(stepper.__call__)
    async with anyio.create_task_group() as group, bus:
        for number in (1, 2, 3):
            group.start_soon(bus.publish, Step(of="a", number=number))
            await settled()
        for number in (4, 5):
            await bus.enqueue(Step(of="a", number=number))
        await settled()
    assert stepper.began == [1]
    assert [it.number for _, it in dlq.story()] == [1, 2, 3, 4, 5]
    assert {how for how, _ in dlq.story()} <= {"captured interrupted", "accepted"}


async def test_a_stopping_bus_lets_a_line_run_to_its_end_within_its_grace() -> None:
    dlq = KeepingDlq()
    bus = make_bus(dlq)
    stepper = Stepper()
    stepper.let(1, 2, 3)
    bus.on(Step, id="step", ordering_key="of")(stepper.__call__)
    async with bus:
        for number in (1, 2, 3):
            await bus.enqueue(Step(of="a", number=number))
    assert (stepper.ended, dlq.kept) == ([1, 2, 3], [])


async def test_however_many_are_ahead_of_one_that_is_cancelled_they_are_stored_first() -> None:
    dlq = KeepingDlq()
    bus = make_bus(dlq)
    stepper = Stepper()
    bus.on(Step, id="step", ordering_key="of")(stepper.__call__)
    many = 260
    async with bus, anyio.create_task_group() as group:
        for number in range(many):
            group.start_soon(bus.publish, Step(of="a", number=number))
            await settled()
        async with anyio.create_task_group() as doomed:
            doomed.start_soon(bus.publish, Step(of="a", number=many))
            await settled()
            doomed.cancel_scope.cancel()
        stepper.let(0)
    assert [it.number for _, it in dlq.story()] == list(range(1, many + 1))


async def test_a_stopping_bus_stores_nothing_before_what_has_not_heard_of_it_yet() -> None:
    """Whoever waits hears of the stop in a task of its own, and the queue's workers in theirs."""
    store = MemoryStore()
    bus = EventBus(dlq=DeadLetterQueue(store, worker=False), shutdown_grace=0.01)
    stepper = Stepper()
    bus.on(Step, id="step", ordering_key="of")(stepper.__call__)
    async with anyio.create_task_group() as group, bus:
        for number in range(4):
            group.start_soon(bus.publish, Step(of="a", number=number))
            await settled()
        for number in range(4, 7):
            await bus.enqueue(Step(of="a", number=number))
    page = await store.find(DeadLetterQuery.everything(), order="oldest")
    assert stepper.began == [0]
    assert [(await store.get(it.id)).payload["number"] for it in page.items] == list(range(7))
