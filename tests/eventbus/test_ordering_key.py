"""The ordering key of a delivery: what may be one, and how it is read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any

import pytest
from keeping import KeepingDlq
from stepping import Flat, Open, Step, make_bus, nothing

from eventbus import InvalidEvent

asyncio_only = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)


@pytest.mark.parametrize(
    ("asked", "event", "key"),
    [
        ("of", Step(of="a"), "a"),
        ("number", Step(of="a", number=7), "7"),
        ("of", Flat(None), None),
        (lambda event: event.of * 2, Step(of="a"), "aa"),
        (lambda event: None, Step(of="a"), None),
        ("of", Flat(IntEnum("Level", {"HIGH": 3}).HIGH), "3"),  # type: ignore[attr-defined]
        ("of", Flat(StrEnum("Town", {"ROME": "rome"}).ROME), "rome"),  # type: ignore[attr-defined]
        ("extra", Open(extra="x"), "x"),  # type: ignore[call-arg]
    ],
)
async def test_a_key_is_read_from_the_event(asked: Any, event: Any, key: str | None) -> None:
    dlq = KeepingDlq()
    bus = make_bus(dlq)
    bus.on(type(event), id="step", ordering_key=asked, durable=True)(nothing)
    async with bus:
        await bus.publish(event)
    assert [it.ordering_key for it in dlq.kept] == [key]
    assert all(type(it.ordering_key) is str for it in dlq.kept if key is not None)


async def test_a_key_is_read_from_the_payload_of_a_named_event() -> None:
    dlq = KeepingDlq()
    bus = make_bus(dlq)
    bus.on("step", id="step", ordering_key="of", durable=True)(nothing)
    async with bus:
        await bus.publish("step", {"of": 5})
        with pytest.raises(InvalidEvent, match=r"'of' of handler 'step' for event 'step' cannot be read"):
            await bus.publish("step", {"number": 5})
        with pytest.raises(InvalidEvent, match="cannot be read"):
            await bus.publish("step", ["of"])
    assert [it.ordering_key for it in dlq.kept] == ["5"]


async def test_the_publishers_key_goes_before_the_handlers_and_holds_for_every_handler() -> None:
    dlq = KeepingDlq()
    bus = make_bus(dlq)
    bus.on(Step, id="own", ordering_key="of", durable=True)(nothing)
    bus.on(Step, id="none", durable=True)(nothing)
    async with bus:
        await bus.publish(Step(of="a"), ordering_key=12)
        await bus.publish(Step(of="a"), ordering_key=None)
    assert [(it.handler_id, it.ordering_key) for it in dlq.kept] == [
        ("own", "12"),
        ("none", "12"),
        ("own", "a"),
        ("none", None),
    ]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (True, "is a bool"),
        (1.5, "is a float"),
        ("", "must be a text that is not empty"),
        ("x" * 513, "513 characters long, at most 512"),
        (10**512, "513 characters long, at most 512"),
        pytest.param(-(10**5_000), "is an int of more than 600 digits, at most 512", id="unwritable"),
        ("\x00", "NUL"),
        ("\ud800", "lone surrogate"),
    ],
)
async def test_a_key_that_cannot_be_one_is_refused_and_nothing_is_delivered(value: Any, says: str) -> None:
    bus = make_bus()
    ran: list[Flat] = []

    async def other(event: Flat) -> None:
        ran.append(event)

    bus.on(Flat, id="other")(other)
    bus.on(Flat, id="step", ordering_key=lambda event: value)(nothing)
    async with bus:
        with pytest.raises(InvalidEvent, match=says) as caught:
            await bus.publish(Flat(1))
        assert "'step'" in str(caught.value)
        assert "'Flat'" in str(caught.value)
        with pytest.raises(InvalidEvent, match=says):
            await bus.enqueue(Flat(1))
        with pytest.raises(InvalidEvent, match="ordering_key"):
            await bus.publish(Flat(1), ordering_key=value)
    assert ran == []


@pytest.mark.parametrize("value", [1.5, "x" * 513, None])
async def test_a_key_that_one_handler_cannot_read_keeps_the_event_from_all_of_them(value: Any) -> None:
    def key(event: Flat) -> Any:
        if value is None:
            raise LookupError("no key")
        return value

    dlq = KeepingDlq()
    bus = make_bus(dlq)
    bus.on(Flat, id="first", durable=True)(nothing)
    bus.on(Flat, id="step", ordering_key=key, durable=True)(nothing)
    async with bus:
        for publish in (
            lambda: bus.publish(Flat(1)),
            lambda: bus.enqueue(Flat(1)),
            lambda: bus.publish(Flat(1), session="session"),
        ):
            with pytest.raises(InvalidEvent, match=r"ordering key .* of handler 'step' for event 'Flat'"):
                await publish()
        with pytest.raises(InvalidEvent, match="ordering key"):
            bus.publish_in("session", Flat(1))
    assert dlq.kept == []


async def test_a_key_function_that_raises_is_an_invalid_event_that_names_it() -> None:
    def tenant_of(event: Step) -> str:
        raise KeyError("tenant")

    bus = make_bus()
    bus.on(Step, id="step", ordering_key=tenant_of)(nothing)
    async with bus:
        with pytest.raises(InvalidEvent, match=r"tenant_of' of handler 'step' for event 'Step'.*KeyError"):
            await bus.publish(Step(of="a"))


async def test_a_property_that_raises_cannot_be_read_as_a_key() -> None:
    @dataclass
    class Odd:
        event_name = "odd"

        @property
        def of(self) -> str:
            raise ZeroDivisionError

    bus = make_bus()
    bus.on(Odd, id="step", ordering_key="of")(nothing)
    async with bus:
        with pytest.raises(InvalidEvent, match="cannot be read"):
            await bus.publish(Odd())


def test_a_field_that_the_class_lacks_is_refused_at_once() -> None:
    bus = make_bus()
    with pytest.raises(ValueError, match=r"'off' of handler 'step': Step has no such field; it has: of, num"):
        bus.on(Step, id="step", ordering_key="off")(nothing)
    with pytest.raises(ValueError, match="Flat has no such field"):
        bus.on(Flat, id="step", ordering_key="off")(nothing)
    with pytest.raises(ValueError, match="names no field"):
        bus.on(Step, id="step", ordering_key="")(nothing)
    bus.on(Open, "step", id="step", ordering_key="anything")(nothing)


def test_what_is_neither_a_field_nor_a_plain_function_is_refused_at_once() -> None:
    async def key(event: Step) -> str:
        return event.of

    with pytest.raises(TypeError, match="is an async function"):
        make_bus().on(Step, id="step", ordering_key=key)(nothing)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"ordering_key=7 .* must be the name of a field"):
        make_bus().on(Step, id="step", ordering_key=7)(nothing)  # type: ignore[arg-type]
