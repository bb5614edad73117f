"""What the benchmarks of durable publishing share: a bus with one durable handler, and 64 publishers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from benchmarks.failing import ORDER, Order
from benchmarks.harness import Handler, MakeHandler, Side
from benchmarks.subjects import no_op
from eventbus import EventBus
from eventbus_adapters.sql import SqlStore
from eventbus_dlq import DeadLetterQueue

PUBLISHERS = 64

_LOOK_EVERY = 0.005  # seconds


@asynccontextmanager
async def durable_bus(url: str, handler: Handler) -> AsyncIterator[EventBus]:
    """Open a bus whose one handler is durable, as it comes."""
    bus = EventBus(dlq=DeadLetterQueue(SqlStore(url)))
    bus.subscribe(Order, handler, id="shipping.ship", durable=True)
    async with bus:
        yield bus


@asynccontextmanager
async def publishing_and_processing(url: str, make_handler: MakeHandler = no_op) -> AsyncIterator[Side]:
    """Open our side: 64 publishers, each waiting for its own event, until the last one is settled."""
    async with durable_bus(url, make_handler()) as bus:

        async def publish() -> None:
            await bus.publish(ORDER)

        async def run(operations: int) -> None:
            await by_publishers(publish, operations)
            await bus.wait_idle()

        yield Side(run)


async def by_publishers(publish: Callable[[], Awaitable[None]], operations: int) -> None:
    """Carry out operations with 64 callers at a time, each waiting for its own."""

    async def publisher() -> None:
        for _ in range(operations // PUBLISHERS):
            await publish()

    async with asyncio.TaskGroup() as group:
        for _ in range(PUBLISHERS):
            group.create_task(publisher())


async def until_none_is_left(any_left: Callable[[], Awaitable[bool]]) -> None:
    """Ask a rival's own table again and again until it is empty: nobody tells of that."""
    while True:
        if not await any_left():
            return
        await asyncio.sleep(_LOOK_EVERY)
