"""Middleware: wraps every attempt, first item outermost, capture always outside of it."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from eventbus import CallNext, Delivery, EventBus, RetryPolicy
from eventbus.plan import fold
from eventbus_dlq import DeadLetterQueue


def note(name: str, seen: list[str]) -> Any:
    async def middleware(delivery: Delivery, call_next: CallNext) -> None:
        seen.append(f"{name} in")
        try:
            await call_next(delivery)
        finally:
            seen.append(f"{name} out")

    return middleware


@pytest.mark.parametrize("threaded", [False, True])
@pytest.mark.parametrize("waits", [False, True])
async def test_the_first_item_is_the_outermost(threaded: bool, waits: bool) -> None:
    seen: list[str] = []
    bus = EventBus(middleware=[note("a", seen), note("b", seen)])

    async def handler(event: Any) -> None:
        if waits:
            await anyio.lowlevel.checkpoint()
        seen.append("handler")

    def plain(event: Any) -> None:
        seen.append("handler")

    bus.subscribe("job", plain if threaded else handler, id="handler")
    async with bus:
        assert (await bus.publish("job", 1)).ok
    assert seen == ["a in", "b in", "handler", "b out", "a out"]


async def test_it_sees_the_delivery_and_wraps_every_attempt_and_every_replay(dlq: DeadLetterQueue) -> None:
    seen: list[tuple[str, Any, int, bool]] = []

    async def look(delivery: Delivery, call_next: CallNext) -> None:
        envelope = delivery.envelope
        seen.append((delivery.handler_id, delivery.payload, delivery.attempt, envelope.replay is not None))
        await call_next(delivery)

    bus = EventBus(dlq=dlq, middleware=[look], retry=RetryPolicy(attempts=2, delay=0))

    @bus.on("job", id="handler")
    async def handler(event: Any) -> None:
        raise RuntimeError("x")

    async with bus:
        receipt = await bus.publish("job", 7)
        await bus.replay(str(receipt.deliveries["handler"].dead_letter_id))
    assert seen == [("handler", 7, 1, False), ("handler", 7, 2, False), ("handler", 7, 3, True)]


async def test_what_it_raises_is_the_deliverys_failure_and_is_stored(dlq: DeadLetterQueue) -> None:
    async def guard(delivery: Delivery, call_next: CallNext) -> None:
        raise PermissionError("not on sundays")

    bus = EventBus(dlq=dlq, middleware=[guard])
    runs: list[Any] = []

    @bus.on("job", id="handler")
    async def handler(event: Any) -> None:
        runs.append(event)

    async with bus:
        receipt = await bus.publish("job", 1)
        letter = await bus.dead_letter(str(receipt.deliveries["handler"].dead_letter_id))
    assert (letter.error.type, letter.error.kind) == ("PermissionError", "permission")
    assert runs == []


async def test_it_may_swallow_a_failure_or_not_call_the_handler_at_all() -> None:
    async def swallow(delivery: Delivery, call_next: CallNext) -> None:
        if delivery.payload == "skip":
            return
        try:
            await call_next(delivery)
        except RuntimeError:
            return

    bus = EventBus(middleware=[swallow])

    @bus.on("job", id="handler")
    async def handler(event: Any) -> None:
        raise RuntimeError("swallowed")

    async with bus:
        assert (await bus.publish("job", 1)).ok
        assert (await bus.publish("job", "skip")).ok


async def test_a_callable_object_is_middleware_too() -> None:
    class Counting:
        count = 0

        async def __call__(self, delivery: Delivery, call_next: CallNext) -> None:
            self.count += 1
            await call_next(delivery)

    counting = Counting()
    bus = EventBus(middleware=[counting])

    @bus.on("job", id="handler")
    async def handler(event: Any) -> None: ...

    async with bus:
        await bus.publish("job", 1)
    assert counting.count == 1


def test_without_middleware_there_is_nothing_in_between() -> None:
    async def innermost(delivery: Delivery) -> None: ...

    assert fold((), innermost) is innermost
