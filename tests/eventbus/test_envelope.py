"""The envelope: immutable, and everything about an event in one place."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from eventbus import Envelope, EventBus, InvalidEvent


class OrderPlaced(BaseModel):
    order_id: int


def test_one_for_a_test_is_made_of_an_object_or_a_name() -> None:
    order = OrderPlaced(order_id=1)
    envelope = Envelope.of(order, tenant="acme")
    assert (envelope.name, envelope.version, envelope.tenant) == ("OrderPlaced", 1, "acme")
    assert envelope.payload is order
    assert UUID(envelope.id).version == 7
    assert envelope.correlation_id == envelope.id
    assert (envelope.causation_id, envelope.replay, envelope.priority) == (None, None, None)
    named = Envelope.of("order.placed", {"a": 1})
    assert (named.name, named.payload) == ("order.placed", {"a": 1})
    assert repr(named) == f"<Envelope order.placed {named.id}>"
    with pytest.raises(InvalidEvent):
        Envelope.of(42)


@pytest.mark.parametrize("name", ["id", "payload", "tenant", "headers", "colour"])
def test_it_cannot_be_changed(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(Envelope.of("a", 1), name, "x")


async def test_its_headers_cannot_be_changed_either_and_are_the_publishers_no_more() -> None:
    bus, headers = EventBus(), {"a": "1"}
    async with bus:
        receipt = await bus.publish("a", 1, headers=headers, tags=["x", "y"])
    headers["a"] = "2"
    assert receipt.envelope.headers == {"a": "1"}
    assert receipt.envelope.tags == ("x", "y")
    with pytest.raises(TypeError):
        receipt.envelope.headers["b"] = "3"  # type: ignore[index]  # the mistake


async def test_its_time_is_aware_and_to_the_microsecond() -> None:
    bus = EventBus()
    before = datetime.now(UTC)
    async with bus:
        envelope = (await bus.publish("a", 1)).envelope
    assert envelope.occurred_at.tzinfo is UTC
    assert before.replace(microsecond=0) <= envelope.occurred_at <= datetime.now(UTC)
    assert envelope.occurred_ns // 1000 == int(envelope.occurred_at.timestamp() * 1_000_000 + 0.5)


async def test_all_handlers_of_an_event_share_one() -> None:
    bus = EventBus()
    seen: list[Any] = []

    def handler() -> Any:
        async def keep(event: Any, envelope: Envelope) -> None:
            seen.append(envelope)

        return keep

    for number in range(3):
        bus.subscribe("a", handler(), id=f"h-{number}")
    async with bus:
        receipt = await bus.publish("a", 1)
    assert all(it is receipt.envelope for it in seen)
    assert len(seen) == 3
