"""``EventBus(history=N)``: the last events with their results."""

from __future__ import annotations

from typing import Any

from eventbus import EventBus


async def test_the_last_receipts_are_kept_oldest_first_and_follow_their_deliveries() -> None:
    bus = EventBus(history=3)

    @bus.on("job", id="handler")
    async def handler(event: Any) -> None:
        if event == 3:
            raise RuntimeError("x")

    async with bus:
        for number in range(4):
            await bus.publish("job", number)
        await bus.enqueue("job", 4)
        await bus.wait_idle()
    assert [receipt.envelope.payload for receipt in bus.history] == [2, 3, 4]
    assert [receipt.ok for receipt in bus.history] == [True, False, True]
    assert bus.history[2].deliveries["handler"].state == "succeeded"


async def test_it_is_off_unless_asked_for() -> None:
    bus = EventBus()
    async with bus:
        await bus.publish("job", 1)
    assert bus.history == ()
