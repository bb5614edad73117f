"""A failure that nobody holds any more is gone at once: no frame of the bus keeps it alive."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from eventbus import EventBus
from eventbus_dlq import DeadLetterQueue, MemoryStore


class DeclinedError(Exception):
    """Remembers the last one that was made, without keeping it."""

    last: weakref.ref[DeclinedError]

    def __init__(self) -> None:
        super().__init__("declined")
        DeclinedError.last = weakref.ref(self)


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


async def charge(_event: object) -> None:
    raise DeclinedError


async def test_a_failure_is_freed_without_the_garbage_collector() -> None:
    bus = EventBus(dlq=DeadLetterQueue(MemoryStore()))
    bus.subscribe("order", charge, id="charge")
    async with bus:
        receipt = await bus.publish("order")
        assert receipt.deliveries["charge"].error is DeclinedError.last()
        del receipt
        assert DeclinedError.last() is None


async def test_the_traceback_of_a_failure_begins_in_the_handler() -> None:
    bus = EventBus(dlq=DeadLetterQueue(MemoryStore()))
    bus.subscribe("order", charge, id="charge")
    async with bus:
        receipt = await bus.publish("order")
    error = receipt.deliveries["charge"].error
    assert error is not None
    assert error.__traceback__ is not None
    assert error.__traceback__.tb_frame.f_code is charge.__code__
