"""``eventbus.testing.Recorder``: what a bus was given, and what became of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import BaseModel

from eventbus import CaptureFailed, EventBus, InvalidEvent
from eventbus.testing import Recorder
from eventbus_dlq import DeadLetter, DeadLetterQueue, MemoryStore, StoreUnavailable


class OrderPlaced(BaseModel):
    order_id: int


class RushOrderPlaced(OrderPlaced):
    pass


def shop(dlq: DeadLetterQueue | None = None) -> EventBus:
    bus = EventBus(dlq=dlq, name="shop")

    @bus.on(OrderPlaced, id="billing.charge")
    async def charge(event: OrderPlaced) -> None:
        if event.order_id > 10:
            raise RuntimeError("declined")
        await bus.publish("order.charged", {"order_id": event.order_id})

    @bus.on("order.*", id="audit")
    async def audit(event: Any) -> None: ...

    return bus


async def test_events_are_recorded_in_the_order_of_publishing_nested_ones_included() -> None:
    bus = shop()
    async with bus:
        with Recorder(bus) as recorder:
            await bus.publish(OrderPlaced(order_id=1), tenant="acme")
            await bus.publish("nobody.cares", 1)
            await bus.enqueue(RushOrderPlaced(order_id=99))
            await bus.wait_idle()
        await bus.publish("after", 1)
    assert [it.name for it in recorder.published] == [
        "OrderPlaced",
        "order.charged",
        "nobody.cares",
        "RushOrderPlaced",
    ]
    assert [it.payload.order_id for it in recorder.of(OrderPlaced)] == [1, 99]
    assert [it.tenant for it in recorder.of("order.charged")] == ["acme"]
    assert [(it.handler_id, it.result.state) for it in recorder.deliveries] == [
        ("billing.charge", "succeeded"),
        ("audit", "succeeded"),
        ("billing.charge", "failed"),
    ]
    assert [it.envelope.name for it in recorder.failed] == ["RushOrderPlaced"]
    assert len(recorder.receipts) == 4
    recorder.clear()
    assert recorder.published == ()


async def test_it_leaves_the_bus_as_it_was() -> None:
    bus = shop()
    with Recorder(bus) as outer:
        with Recorder(bus) as inner:
            with pytest.raises(RuntimeError, match="records already"):
                inner.start()
            async with bus:
                await bus.publish("a", 1)
        async with bus:
            await bus.publish("b", 1)
        inner.stop()
    assert [it.name for it in outer.published] == ["a", "b"]
    assert [it.name for it in inner.published] == ["a"]
    assert "publish" not in vars(bus)
    assert "enqueue" not in vars(bus)


async def test_what_was_refused_or_cancelled_is_not_recorded() -> None:
    bus = EventBus()

    @bus.on("job", id="waits")
    async def waits(event: Any) -> None:
        await anyio.sleep_forever()

    async with bus:
        with Recorder(bus) as recorder:
            with pytest.raises(InvalidEvent):
                await bus.publish(object())
            with anyio.move_on_after(0.01):
                await bus.publish("job", 1)
    assert recorder.published == ()


async def test_an_event_whose_failure_could_not_be_stored_is_recorded() -> None:
    class Broken(MemoryStore):
        async def add(self, letters: Sequence[DeadLetter]) -> Sequence[str]:
            raise StoreUnavailable("gone", retryable=False)

    bus = shop(DeadLetterQueue(Broken()))
    async with bus:
        with Recorder(bus) as recorder, pytest.raises(CaptureFailed):
            await bus.publish(OrderPlaced(order_id=11))
    recorder.assert_failed("billing.charge", RuntimeError)


async def test_assertions_return_what_they_found(event_recorder: Callable[[EventBus], Recorder]) -> None:
    bus = shop()
    recorder = event_recorder(bus)
    async with bus:
        await bus.publish(OrderPlaced(order_id=1))
        await bus.publish(RushOrderPlaced(order_id=2))
    first, second = recorder.assert_published(OrderPlaced, times=2)
    assert (first.payload.order_id, second.payload.order_id) == (1, 2)
    (rush,) = recorder.assert_published(RushOrderPlaced)
    assert rush is second
    recorder.assert_not_published("order.shipped")
    assert len(recorder.assert_succeeded("billing.charge")) == 2


async def test_assertions_say_what_there_was_instead() -> None:
    bus = shop()
    async with bus:
        with Recorder(bus) as recorder:
            with pytest.raises(
                AssertionError, match=r"'a' was to be published at least once, and was never; .*nothing"
            ):
                recorder.assert_published("a")
            await bus.publish(OrderPlaced(order_id=1))
            await bus.publish(OrderPlaced(order_id=11))
    with pytest.raises(
        AssertionError,
        match=r"OrderPlaced was to be published once, and was 2 times; "
        r"published: OrderPlaced \(2 times\), order\.charged \(once\)",
    ):
        recorder.assert_published(OrderPlaced, times=1)
    with pytest.raises(AssertionError, match=r"'order\.charged' was to be published never, and was once"):
        recorder.assert_not_published("order.charged")
    with pytest.raises(
        AssertionError,
        match=r"'OrderPlaced' to 'billing\.charge' is 'failed' with .*'declined'\), and was to succeed",
    ) as caught:
        recorder.assert_succeeded("billing.charge")
    assert isinstance(caught.value.__cause__, RuntimeError)
    with pytest.raises(AssertionError, match=r"and was to fail with KeyError"):
        recorder.assert_failed("billing.charge", KeyError)
    with pytest.raises(AssertionError, match=r"no delivery to 'audit' failed; .* is 'succeeded'"):
        recorder.assert_failed("audit")
    with pytest.raises(AssertionError, match=r"'x' had no .*billing\.charge \(2 times\), audit \(once\)"):
        recorder.assert_failed("x")


PROJECT = """
from eventbus import EventBus

async def test_a_project_of_its_own(fake_clock, event_recorder, anyio_backend):
    bus = EventBus(clock=fake_clock)
    recorder = event_recorder(bus)
    async with bus:
        receipt = await bus.publish("order.placed", 1)
    recorder.assert_published("order.placed", times=1)
    assert receipt.envelope.occurred_at == fake_clock.now

def test_that_wants_nothing():
    pass
"""


def test_a_project_uses_the_fixtures_without_a_line_of_set_up(tmp_path: Path) -> None:
    (tmp_path / "test_project.py").write_text(PROJECT)
    command = [sys.executable, "-m", "pytest", "-q", "-o", "anyio_mode=auto", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "3 passed" in done.stdout, done.stdout + done.stderr
