"""Durable deliveries end to end, on every store."""

from __future__ import annotations

from typing import Any

import anyio

from eventbus import EventBus
from eventbus_dlq import DeadLetterQueue
from eventbus_dlq.store import DeadLetterStore


async def test_each_is_run_once_in_the_order_of_its_key_and_leaves_no_row(any_store: DeadLetterStore) -> None:
    seen: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    bus = EventBus(dlq=DeadLetterQueue(any_store, poll=0.05))

    @bus.on("job", id="handler", durable=True, ordering_key=lambda event: event["key"])
    async def handler(event: dict[str, Any]) -> None:
        if event["n"] % 3 == 0:
            await anyio.sleep(0.001)
        seen[event["key"]].append(event["n"])

    async def publish(key: str) -> None:
        for number in range(15):
            await bus.publish("job", {"key": key, "n": number})

    async with bus:
        async with anyio.create_task_group() as group:
            for key in seen:
                group.start_soon(publish, key)
        with anyio.fail_after(60):
            await bus.wait_idle()
        assert (await bus.stats()).total == 0
    assert seen == {key: list(range(15)) for key in seen}


async def test_what_fails_is_kept_and_what_was_cut_short_is_run_by_the_next_process(
    any_store: DeadLetterStore,
) -> None:
    began = anyio.Event()
    seen: list[Any] = []

    def shop(*, forever: bool) -> EventBus:
        bus = EventBus(dlq=DeadLetterQueue(any_store, poll=0.05), shutdown_grace=0)

        @bus.on("job", id="handler", durable=True)
        async def handler(event: str) -> None:
            if event == "fails":
                raise RuntimeError("card declined")
            if forever:
                began.set()
                await anyio.sleep_forever()
            seen.append(event)

        return bus

    async with shop(forever=True) as first:
        failed = await first.publish("job", "fails")
        await first.publish("job", "waits")
        with anyio.fail_after(30):
            await began.wait()
    async with shop(forever=False) as second:
        with anyio.fail_after(30):
            while not seen:
                await anyio.sleep(0.01)
        letter = await second.dead_letter(str(failed.deliveries["handler"].dead_letter_id))
        with anyio.fail_after(30):
            while (await second.stats()).total > 1:
                await anyio.sleep(0.01)
    assert seen == ["waits"]
    assert letter.error is not None
    assert (letter.state, letter.attempts, letter.crashes) == ("pending", 1, 0)
    assert letter.error.message == "card declined"


async def test_two_buses_on_one_store_never_run_the_same(any_store: DeadLetterStore) -> None:
    seen: list[int] = []

    def shop() -> EventBus:
        bus = EventBus(dlq=DeadLetterQueue(any_store, poll=0.02, concurrency=7))

        @bus.on("job", id="handler", durable=True)
        async def handler(event: int) -> None:
            await anyio.sleep(0)
            seen.append(event)

        return bus

    first, second = shop(), shop()
    async with first, second:
        for number in range(100):
            await (first, second)[number % 2].publish("job", number)
        with anyio.fail_after(60):
            await second.wait_idle()
            await first.wait_idle()
        assert (await first.stats()).total == 0
    assert sorted(seen) == list(range(100))
