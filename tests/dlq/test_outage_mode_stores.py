"""An outage from its beginning to its end, on every store."""

from __future__ import annotations

from typing import Any

import anyio

from eventbus import CircuitPolicy, EventBus, RetryPolicy
from eventbus_dlq import DeadLetterQuery, DeadLetterQueue
from eventbus_dlq.store import DeadLetterStore

POLICY = CircuitPolicy(threshold=3, delay=0.02, max_delay=0.1, full=8)


async def test_an_outage_exhausts_nothing_and_keeps_the_order(any_store: DeadLetterStore) -> None:
    down = True
    attempts = 0
    done: list[Any] = []
    redelivery = RetryPolicy(attempts=2, delay=0.05)
    bus = EventBus(dlq=DeadLetterQueue(any_store, poll=0.05, redelivery=redelivery))

    @bus.on("job", id="handler", durable=True, ordering_key=lambda event: event["key"], circuit=POLICY)
    async def handler(event: dict[str, Any]) -> None:
        nonlocal attempts
        attempts += 1
        if down:
            raise ConnectionError("no route to host")
        done.append((event["key"], event["n"]))

    async with bus:
        for number in range(10):
            for key in ("a", "b", None):
                await bus.publish("job", {"key": key, "n": number})
        with anyio.fail_after(60):
            while attempts < 12:  # far more than two retries of each that is in front
                await anyio.sleep(0.01)
        stats = await bus.stats()
        assert (stats.total, stats.by_state.get("exhausted", 0)) == (30, 0)
        assert bus.circuits()["handler"].state in ("open", "probing")
        page = await bus.dead_letters(DeadLetterQuery(state={"pending"}), limit=100)
        assert sum(letter.retries for letter in page.items) <= 3
        down = False
        with anyio.fail_after(60):
            while len(done) < 30:
                await anyio.sleep(0.01)
    for key in ("a", "b"):
        assert [number for of, number in done if of == key] == list(range(10))
    assert sorted(number for of, number in done if of is None) == list(range(10))
