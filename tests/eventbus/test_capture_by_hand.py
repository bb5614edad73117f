"""``bus.capture``: dead-lettering a failure that happened outside of a handler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import BaseModel

from eventbus import BusClosed, CaptureFailed, Envelope, EventBus, InvalidEvent, Kind
from eventbus_dlq import DeadLetter, DeadLetterQueue, MemoryStore, StoreUnavailable


class OrderPlaced(BaseModel):
    order_id: int


async def test_it_is_a_letter_like_any_other_and_comes_home_by_replay(dlq: DeadLetterQueue) -> None:
    bus = EventBus(dlq=dlq)
    seen: list[tuple[Any, Envelope]] = []

    @bus.on(OrderPlaced, id="billing.charge", tags=("billing",), priority=3)
    async def charge(event: OrderPlaced, envelope: Envelope) -> None:
        seen.append((event, envelope))

    try:
        raise TimeoutError("the cron job's own")
    except TimeoutError as caught:
        error = caught
    async with bus:
        letter_id = await bus.capture(
            OrderPlaced(order_id=1),
            error,
            handler="billing.charge",
            annotations={"job": "nightly"},
            tenant="acme",
            correlation_id="job-1",
            tags=("nightly",),
        )
        letter = await bus.dead_letter(letter_id)
        assert (letter.handler_id, letter.tenant, letter.correlation_id) == (
            "billing.charge",
            "acme",
            "job-1",
        )
        assert (letter.tags, letter.priority, letter.annotations) == (
            ("billing", "nightly"),
            3,
            {"job": "nightly"},
        )
        assert (letter.error.kind, letter.error.message) == ("timeout", "the cron job's own")
        assert "test_it_is_a_letter_like_any_other" in letter.error.traceback
        assert (letter.attempts, len(letter.history), letter.state) == (1, 1, "pending")
        assert seen == []
        assert (await bus.replay(letter_id)).state == "resolved"
    ((event, envelope),) = seen
    assert event == OrderPlaced(order_id=1)
    assert envelope.correlation_id == "job-1"


async def test_an_alias_and_a_rule_of_the_subscription_apply(dlq: DeadLetterQueue) -> None:
    bus = EventBus(dlq=dlq)

    @bus.on("job", id="new", aliases=("old",), classify=[lambda error: Kind.RATE_LIMIT])
    async def handler(event: Any) -> None: ...

    async with bus:
        letter = await bus.dead_letter(await bus.capture("job", RuntimeError(), handler="old", data={"n": 1}))
    assert (letter.handler_id, letter.error.kind, letter.payload) == ("new", "rate_limit", {"n": 1})


async def test_a_handler_that_is_not_subscribed_here_may_be_named(dlq: DeadLetterQueue) -> None:
    bus = EventBus(dlq=dlq)
    async with bus:
        letter = await bus.dead_letter(await bus.capture("job", RuntimeError(), handler="elsewhere"))
    assert (letter.handler_id, letter.tags, letter.priority) == ("elsewhere", (), 5)


async def test_what_cannot_be_kept_is_refused(dlq: DeadLetterQueue) -> None:
    bus = EventBus(dlq=dlq)
    with pytest.raises(BusClosed):
        await bus.capture("job", RuntimeError(), handler="h")
    async with bus:
        with pytest.raises(InvalidEvent, match="handler=''"):
            await bus.capture("job", RuntimeError(), handler="")
        with pytest.raises(InvalidEvent):
            await bus.capture(object(), RuntimeError(), handler="h")
        with pytest.raises(InvalidEvent, match="tenant"):
            await bus.capture("job", RuntimeError(), handler="h", tenant="")
        assert (await bus.stats()).total == 0


async def test_a_store_that_fails_is_told_with_both_errors() -> None:
    class Broken(MemoryStore):
        async def add(self, letters: Sequence[DeadLetter]) -> Sequence[str]:
            raise StoreUnavailable("gone", retryable=False)

    bus = EventBus(dlq=DeadLetterQueue(Broken()))
    error = RuntimeError("x")
    async with bus:
        with pytest.raises(CaptureFailed, match="'job' for 'h' could not be stored: gone") as caught:
            await bus.capture("job", error, handler="h")
    assert caught.value.errors == (error,)
    assert caught.value.receipt is None


async def test_a_failure_by_hand_belongs_to_the_sequence_of_its_key(dlq: DeadLetterQueue) -> None:
    bus = EventBus(dlq=dlq)

    @bus.on("event", id="keyed", ordering_key="key")
    async def keyed(event: object) -> None:
        raise AssertionError("it has to wait")

    async with bus:
        event: dict[str, str] = {"key": "a"}
        ids = [
            await bus.capture("event", ValueError(), handler="keyed", data=event),
            await bus.capture("event", ValueError(), handler="keyed", data=event, ordering_key=7),
            await bus.capture("event", ValueError(), handler="unknown", data=event),
        ]
        assert [(await bus.dead_letter(it)).ordering_key for it in ids] == ["a", "7", None]
        with pytest.raises(InvalidEvent, match="ordering key 'key' of handler 'keyed'"):
            await bus.capture("event", ValueError(), handler="keyed", data={})
        assert (await bus.publish("event", event)).deliveries["keyed"].state == "parked"
