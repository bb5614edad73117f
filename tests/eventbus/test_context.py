"""What a handler can ask, note and log about the delivery that it runs in."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
import structlog

from eventbus import Envelope, EventBus, add_delivery_context, annotate, current_envelope
from eventbus.annotations import MAX_ANNOTATIONS, MAX_VALUE, bounded_annotations
from eventbus_dlq import DeadLetterQueue


@pytest.mark.parametrize("count", [1, 10])
async def test_log_lines_of_a_delivery_carry_its_names(count: int) -> None:
    lines: list[dict[str, Any]] = []
    log = structlog.wrap_logger(
        structlog.PrintLogger(),
        processors=[add_delivery_context, _keep(lines)],
        wrapper_class=structlog.BoundLogger,
    )
    bus = EventBus()

    async def handler(event: Any) -> None:
        await anyio.lowlevel.checkpoint()
        log.info("charging", tenant="said by the line")

    def threaded(event: Any) -> None:
        log.info("charging")

    for number in range(count):
        bus.subscribe("job", handler, id=f"h-{number}")
        bus.subscribe("job", threaded, id=f"t-{number}")
    async with bus:
        log.info("outside")
        receipt = await bus.publish("job", 1, tenant="acme", correlation_id="req-1")
        receipt.raise_for_failures()
    outside, *inside = lines
    assert outside == {"event": "outside"}
    assert {line["handler_id"] for line in inside} == {f"{kind}-{n}" for kind in "ht" for n in range(count)}
    for line in inside:
        assert line["event"] == "charging"
        assert (line["event_id"], line["event_name"]) == (receipt.event_id, "job")
        assert line["correlation_id"] == "req-1"
        assert line["tenant"] == ("acme" if line["handler_id"].startswith("t") else "said by the line")


def _keep(lines: list[dict[str, Any]]) -> Any:
    def keep(_logger: Any, _method: str, line: dict[str, Any]) -> Any:
        lines.append(dict(line))
        raise structlog.DropEvent

    return keep


async def test_notes_of_a_handler_are_kept_with_its_failure_only(dlq: DeadLetterQueue) -> None:
    bus = EventBus(dlq=dlq)

    @bus.on("job", id="notes")
    async def notes(event: Any, envelope: Envelope) -> None:
        annotate(step="charging", amount=9.5)
        envelope.annotate(step="booking", lines=[1, {"a": None}])
        raise RuntimeError("x")

    @bus.on("job", id="other")
    def other(event: Any) -> None:
        annotate(mine=True)
        raise RuntimeError("x")

    annotate(outside="does nothing")
    async with bus:
        receipt = await bus.publish("job", 1)
        noted = await bus.dead_letter(str(receipt.deliveries["notes"].dead_letter_id))
        others = await bus.dead_letter(str(receipt.deliveries["other"].dead_letter_id))
    assert noted.annotations == {"step": "booking", "amount": 9.5, "lines": [1, {"a": None}]}
    assert others.annotations == {"mine": True}


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_notes_are_bounded_in_number_and_size_and_never_raise() -> None:
    loop: list[Any] = []
    loop.append(loop)
    noted = bounded_annotations(
        None,
        {
            "big": "x" * 10_000,
            "loop": loop,
            "odd": {1: Unprintable()},
            "object": Unprintable(),
            "surrogate": "\ud800",
            "nul\x00": "a",
            "long" * 100: 1,
        },
    )
    assert noted["big"].startswith("'xxx")
    assert len(noted["big"]) <= MAX_VALUE
    assert noted["loop"] == "[[...]]"
    assert noted["object"] == "<its __repr__ raised RuntimeError>"
    assert "\\ud800" in noted["surrogate"]
    assert noted["nul\\x00"] == "a"
    assert max(map(len, noted)) == 128
    many = bounded_annotations(None, {f"n{n}": n for n in range(1000)})
    assert len(many) == MAX_ANNOTATIONS
    assert bounded_annotations(many, {"n0": "new", "late": 1})["n0"] == "new"


async def test_current_envelope_belongs_to_the_innermost_delivery() -> None:
    bus = EventBus()
    seen: list[Any] = []

    def here() -> str:
        envelope = current_envelope()
        return envelope.name if envelope else "none"

    @bus.on("outer", id="outer")
    async def outer(event: Any) -> None:
        seen.append(here())
        await bus.publish("inner", 1)
        seen.append(here())

    @bus.on("inner", id="inner")
    def inner(event: Any) -> None:
        seen.append(here())

    async with bus:
        await bus.publish("outer", 1)
    assert seen == ["outer", "inner", "outer"]
