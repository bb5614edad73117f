"""What most benchmarks publish, and to whom: the same event and the same handler on both sides."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel

from benchmarks.harness import Handler, MakeHandler, Side
from eventbus import EventBus
from eventbus.settings import Concurrency
from eventbus_dlq import DeadLetterQueue, MemoryStore


class Placed(BaseModel):
    """An event of scalars: nothing in it has to be encoded before a failure."""

    order_id: int
    customer: str


class Changed(BaseModel):
    """An event with an open field, which is encoded when it is published."""

    order_id: int
    changes: dict[str, Any]


PLACED = Placed(order_id=1, customer="ann")
CHANGED = Changed(order_id=1, changes={"city": "Oslo", "lines": [1, 2, 3], "express": True})


def no_op() -> Handler:
    """Return a new handler that does nothing."""

    async def ignore(event: object) -> None:
        pass

    return ignore


def armed_bus(concurrency: Concurrency = "concurrent") -> EventBus:
    """Return a bus that would capture a failure: everything a publish pays for is switched on."""
    return EventBus(dlq=DeadLetterQueue(MemoryStore()), concurrency=concurrency)


def ten_handlers(make_handler: MakeHandler, concurrency: Concurrency) -> tuple[EventBus, list[Handler]]:
    """Return a bus with ten handlers of one event, and the ten."""
    handlers = [make_handler() for _ in range(10)]
    bus = armed_bus(concurrency)
    for number, handler in enumerate(handlers):
        bus.subscribe(Placed, handler, id=f"handler-{number}")
    return bus, handlers


def publishing(bus: EventBus, event: object) -> Side:
    """Return the side that publishes one event over and over."""

    async def run(operations: int) -> None:
        publish = bus.publish
        for _ in range(operations):
            await publish(event)

    return Side(run)


def calling(operation: Callable[[object], Awaitable[object]], event: object) -> Side:
    """Return the side that awaits ``operation(event)`` over and over."""

    async def run(operations: int) -> None:
        for _ in range(operations):
            await operation(event)

    return Side(run)
