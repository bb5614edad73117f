"""Deliveries with an ordering key: one at a time and in the order of being published, key by key."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from stepping import Step, Stepper, make_bus, nothing, settled

from eventbus import RetryPolicy

asyncio_only = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)


@pytest.mark.parametrize("concurrency", ["concurrent", "serial"])
async def test_deliveries_of_one_key_run_one_at_a_time_in_order_and_others_beside_them(
    concurrency: Any,
) -> None:
    bus = make_bus(concurrency=concurrency)
    stepper = Stepper()
    bus.on(Step, id="step", ordering_key="of")(stepper.__call__)
    async with bus, anyio.create_task_group() as group:
        for number, of in enumerate("aaba", 1):
            group.start_soon(bus.publish, Step(of=of, number=number))
            await settled()
        assert stepper.began == [1, 3], "another key does not wait"
        stepper.let(1)
        await settled()
        assert stepper.began == [1, 3, 2]
        stepper.let(2, 3, 4)
    assert [number for number in stepper.ended if number != 3] == [1, 2, 4]
    assert stepper.most == 1


async def test_enqueued_and_published_events_of_a_key_keep_their_order() -> None:
    bus = make_bus(enqueue_concurrency=1)
    order: list[int] = []

    async def step(event: Step) -> None:
        await anyio.lowlevel.checkpoint()
        order.append(event.number)

    bus.on(Step, id="step", ordering_key="of")(step)
    async with bus:
        await bus.enqueue(Step(of="a", number=1))
        await bus.enqueue(Step(of="a", number=2))
        await bus.publish(Step(of="a", number=3))
        await bus.enqueue(Step(of="a", number=4))
        await bus.wait_idle()
    assert order == [1, 2, 3, 4]


async def test_a_handler_without_key_is_not_slowed_by_one_that_has_a_key() -> None:
    bus = make_bus()
    stepper, free = Stepper(), Stepper()
    bus.on(Step, id="step", ordering_key="of")(stepper.__call__)
    bus.on(Step, id="free")(free.__call__)
    async with bus, anyio.create_task_group() as group:
        for number in (1, 2):
            group.start_soon(bus.publish, Step(of="a", number=number))
            await settled()
        assert (stepper.began, sorted(free.began)) == ([1], [1, 2])
        stepper.let(1, 2)
        free.let(1, 2)


async def test_a_long_line_of_one_key_takes_no_workers_from_other_keys() -> None:
    bus = make_bus(enqueue_concurrency=2, queue_size=20, overflow="raise")
    stepper = Stepper()
    bus.on(Step, id="step", ordering_key="of")(stepper.__call__)
    async with bus:
        for number in range(1, 10):
            await bus.enqueue(Step(of="a", number=number))
        await bus.enqueue(Step(of="b", number=10))
        await settled()
        assert sorted(stepper.began) == [1, 10]
        stepper.let(*range(1, 11))
        await bus.wait_idle()
    assert [number for number in stepper.ended if number != 10] == list(range(1, 10))


async def test_events_that_wait_in_line_take_room_in_the_queue() -> None:
    from eventbus import BusFull

    bus = make_bus(queue_size=2, overflow="raise")
    stepper = Stepper()
    bus.on(Step, id="step", ordering_key="of")(stepper.__call__)
    async with bus:
        for number in (1, 2, 3):
            await bus.enqueue(Step(of="a", number=number))
            await settled()
        with pytest.raises(BusFull):
            await bus.enqueue(Step(of="a", number=4))
        stepper.let(1, 2, 3)
        await bus.wait_idle()
        await bus.enqueue(Step(of="a", number=5))
        stepper.let(5)
        await bus.wait_idle()
    assert stepper.ended == [1, 2, 3, 5]


async def test_an_enqueued_event_waits_for_a_worker_only_when_all_its_lines_have_come_to_it() -> None:
    bus = make_bus(enqueue_concurrency=1)
    left, right = Stepper(), Stepper()
    bus.on(Step, id="left", ordering_key="of")(left.__call__)
    bus.on(Step, id="right", ordering_key="number")(right.__call__)
    async with bus, anyio.create_task_group() as group:
        group.start_soon(bus.publish, Step(of="a", number=1))
        await settled()
        await bus.enqueue(Step(of="a", number=2))
        await settled()
        assert right.began == [1]
        left.let(1, 2)
        right.let(1, 2)
        await bus.wait_idle()
        assert (left.ended, right.ended) == ([1, 2], [1, 2])


async def test_a_later_stage_keeps_the_order_of_publishing() -> None:
    bus = make_bus()
    first, second = Stepper(), Stepper()
    bus.on(Step, id="first")(first.__call__)
    bus.on(Step, id="second", stage=1, ordering_key="of")(second.__call__)
    second.let(1, 2)
    async with bus, anyio.create_task_group() as group:
        group.start_soon(bus.publish, Step(of="a", number=1))
        await settled()
        group.start_soon(bus.publish, Step(of="a", number=2))
        await settled()
        first.let(2)
        await settled()
        assert second.began == [], "the first event comes first, though its stage comes later"
        first.let(1)
    assert second.ended == [1, 2]


async def test_retries_keep_the_turn() -> None:
    bus = make_bus()
    order: list[int] = []
    go = anyio.Event()

    @bus.on(Step, id="step", ordering_key="of", retry=RetryPolicy(attempts=2, delay=0))
    async def step(event: Step) -> None:
        order.append(event.number)
        await go.wait()
        if order == [1]:
            raise ConnectionError

    async with bus, anyio.create_task_group() as group:
        for number in (1, 2):
            group.start_soon(bus.publish, Step(of="a", number=number))
            await settled()
        go.set()
    assert order == [1, 1, 2]


async def test_without_a_dead_letter_queue_a_failure_lets_the_next_one_run() -> None:
    bus = make_bus()
    stepper = Stepper()
    stepper.failing[1] = ValueError("no")
    bus.on(Step, id="step", ordering_key="of")(stepper.__call__)
    async with bus, anyio.create_task_group() as group:
        group.start_soon(bus.publish, Step(of="a", number=1))
        await settled()
        group.start_soon(bus.publish, Step(of="a", number=2))
        await settled()
        stepper.let(1, 2)
    assert stepper.ended == [2]


async def test_no_line_is_left_when_all_has_settled() -> None:
    bus = make_bus()
    bus.on(Step, id="step", ordering_key="of")(nothing)
    async with bus:
        for number in range(10):
            await bus.publish(Step(of=str(number)))
            await bus.enqueue(Step(of=str(number)))
        await bus.wait_idle()
        core = bus._core
        assert core is not None
        assert len(core.turns.lines) == 0
