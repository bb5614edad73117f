"""A worker whose tasks are cancelled from outside, as a second Ctrl-C does on asyncio."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from eventbus import EventBus
from eventbus_dlq import DeadLetterQuery, DeadLetterQueue, DeadLetterState, MemoryStore


def test_a_bus_whose_tasks_were_all_cancelled_releases_its_work_and_stops_at_once() -> None:
    store = MemoryStore()
    bus = EventBus(dlq=DeadLetterQueue(store), shutdown_grace=0.1)

    async def main() -> float:
        running = asyncio.Event()

        async def handler(event: Any) -> None:
            running.set()
            await asyncio.Event().wait()

        bus.subscribe("job", handler, id="handler", durable=True)
        await bus.start()
        await bus.publish("job", 1)
        await running.wait()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        began = time.monotonic()
        await bus.stop()
        return time.monotonic() - began

    assert asyncio.run(main()) < 4.0  # and not the seconds for which a store may be silent

    async def left() -> Any:
        (letter,) = (await store.find(DeadLetterQuery.everything())).items
        return letter.state, letter.attempts

    assert asyncio.run(left()) == (DeadLetterState.ACCEPTED, 0)
