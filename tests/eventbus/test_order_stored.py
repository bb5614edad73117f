"""Behind a failure, or behind what is stored already: deliveries are stored in order without running."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from keeping import KeepingDlq
from pydantic import SecretStr
from stepping import Private, Step, Stepper, make_bus, nothing, settled

from eventbus import CaptureFailed, EventBus
from eventbus_dlq import DeadLetterQueue, StoreUnavailable

asyncio_only = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)


async def test_what_waits_behind_a_failure_is_stored_in_order_without_running() -> None:
    dlq = KeepingDlq()
    bus = make_bus(dlq)
    stepper = Stepper()
    stepper.failing[1] = ValueError("no")
    bus.on(Step, id="step", ordering_key="of")(stepper.__call__)
    receipts: dict[int, Any] = {}

    async def publish(number: int, of: str = "a") -> None:
        receipts[number] = await bus.publish(Step(of=of, number=number))

    async with bus, anyio.create_task_group() as group:
        for number in (1, 2, 3):
            group.start_soon(publish, number)
            await settled()
        group.start_soon(publish, 9, "b")
        await settled()
        stepper.let(1, 9)
        await settled()
        await publish(4)
    assert stepper.began == [1, 9]
    assert [(how, step.number) for how, step in dlq.story()] == [
        ("captured failed", 1),
        ("accepted", 2),
        ("accepted", 3),
        ("accepted", 4),
    ]
    assert [it.ordering_key for it in dlq.kept] == ["a"] * 4
    states = {number: receipt.deliveries["step"].state for number, receipt in receipts.items()}
    assert states == {1: "dead_lettered", 2: "parked", 3: "parked", 4: "parked", 9: "succeeded"}
    assert receipts[2].ok


async def test_a_key_that_the_store_has_is_not_run_past_it() -> None:
    dlq = KeepingDlq()
    dlq.blocked.add(("step", "a"))
    bus = make_bus(dlq)
    stepper = Stepper()
    stepper.let(1, 2, 3)
    bus.on(Step, id="step", ordering_key="of")(stepper.__call__)
    async with bus:
        receipt = await bus.publish(Step(of="a", number=1))
        assert receipt.deliveries["step"].state == "accepted"
        enqueued = await bus.enqueue(Step(of="a", number=2))
        await bus.publish(Step(of="b", number=3))
        await bus.wait_idle()
        assert enqueued.deliveries["step"].dead_letter_id == "2"
    assert stepper.began == [3]


async def test_hundreds_that_wait_behind_a_failure_are_stored_in_order() -> None:
    dlq = KeepingDlq()
    bus = make_bus(dlq)
    stepper = Stepper()
    stepper.failing[0] = ValueError("no")
    bus.on(Step, id="step", ordering_key="of")(stepper.__call__)
    async with bus:
        for number in range(600):
            await bus.enqueue(Step(of="a", number=number))
        await settled()
        stepper.let(0)
        await bus.wait_idle()
    assert [step.number for _, step in dlq.story()] == list(range(600))


async def test_conditions_are_asked_of_what_is_stored_without_running() -> None:
    dlq = KeepingDlq()
    dlq.blocked.add(("step", "a"))
    bus = make_bus(dlq)

    def wanted(envelope: Any) -> bool:
        if envelope.payload.number == 3:
            raise ZeroDivisionError
        return bool(envelope.payload.number != 2)

    bus.on(Step, id="step", ordering_key="of", when=wanted)(nothing)
    states = []
    async with bus:
        for number in (1, 2, 3):
            receipt = await bus.publish(Step(of="a", number=number))
            states.append(receipt.deliveries["step"].state)
    assert states == ["accepted", "skipped", "dead_lettered"]


async def test_secrets_are_never_stored_to_be_run_with_asterisks() -> None:
    dlq = KeepingDlq()
    dlq.blocked.add(("step", "a"))
    bus = make_bus(dlq)
    bus.on(Step, id="step", ordering_key="of")(nothing)
    async with bus:
        await bus.publish(Step(of="a", number=1))
        receipt = await bus.publish(Private(of="a", number=2, password=SecretStr("hunter2")))
    assert [(how, step.number) for how, step in dlq.story()] == [("accepted", 1), ("captured interrupted", 2)]
    assert receipt.deliveries["step"].state == "dead_lettered"


async def test_what_cannot_be_stored_behind_a_failure_fails_the_publish_and_does_not_run() -> None:
    dlq = KeepingDlq()
    dlq.blocked.add(("step", "a"))
    dlq.refuses = StoreUnavailable("the disk is full")
    bus = make_bus(dlq)
    stepper = Stepper()
    bus.on(Step, id="step", ordering_key="of")(stepper.__call__)
    async with bus:
        with pytest.raises(CaptureFailed, match=r"1 deliveries of 'Step' .* could not be stored \(step\)"):
            await bus.publish(Step(of="a", number=1))
    assert stepper.began == []


# -- with the real queue


async def test_followers_of_a_failure_run_in_order_when_it_is_done_with(dlq: DeadLetterQueue) -> None:
    bus = EventBus(dlq=dlq)
    order: list[int] = []
    broken, done = True, anyio.Event()

    @bus.on(Step, id="step", ordering_key="of")
    async def step(event: Step) -> None:
        if event.number == 1 and broken:
            raise ValueError("no")
        order.append(event.number)
        if event.number == 3:
            done.set()

    async with bus:
        head = (await bus.publish(Step(of="a", number=1))).deliveries["step"]
        followers = [await bus.publish(Step(of="a", number=number)) for number in (2, 3)]
        assert [it.deliveries["step"].state for it in followers] == ["parked", "parked"]
        assert head.dead_letter_id is not None
        assert order == []
        broken = False
        await bus.replay(head.dead_letter_id)
        with anyio.fail_after(5):
            await done.wait()
    assert order == [1, 2, 3]


async def test_a_nested_publish_is_run_by_a_worker_when_the_running_one_is_done(dlq: DeadLetterQueue) -> None:
    bus = EventBus(dlq=dlq)
    order: list[str] = []
    go = anyio.Event()

    @bus.on(Step, id="step", ordering_key="of")
    async def step(event: Step) -> None:
        order.append(f"began {event.number}")
        if event.number == 1:
            await bus.publish(Step(of="a", number=2))
            await go.wait()
        order.append(f"ended {event.number}")

    async with bus, anyio.create_task_group() as group:
        group.start_soon(bus.publish, Step(of="a", number=1))
        await settled()
        assert order == ["began 1"]
        go.set()
        await settled()
        await bus.wait_idle()
    assert order == ["began 1", "ended 1", "began 2", "ended 2"]
