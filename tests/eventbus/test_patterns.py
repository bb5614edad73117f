"""Patterns of event names, compared with a matcher so simple that it must be right."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus import EventBus
from eventbus.patterns import PatternTree

segment = st.sampled_from(["a", "b", "order"])
names = st.lists(segment, min_size=1, max_size=6).map(".".join)
patterns = st.lists(st.one_of(segment, st.just("*"), st.just("**")), min_size=1, max_size=6).map(".".join)


def naive(pattern: str, name: str) -> bool:
    """Match by a regular expression over segments that each end in a dot."""
    parts = {"*": r"[^.]+\.", "**": r"(?:[^.]+\.)*"}
    expression = "".join(parts.get(part, re.escape(part) + r"\.") for part in pattern.split("."))
    return re.fullmatch(expression, name + ".") is not None


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("order.*", ["order.placed"], ["order", "order.placed.late", "orders.placed"]),
        ("*.placed", ["order.placed"], ["placed", "a.b.placed"]),
        ("order.**", ["order", "order.placed", "order.placed.late"], ["orders", "an.order"]),
        ("**", ["order", "order.placed.late"], []),
        ("**.late", ["late", "order.late", "order.placed.late"], ["late.order"]),
        ("a.**.z", ["a.z", "a.b.z", "a.b.c.z"], ["a", "z", "a.b"]),
        ("*", ["order"], ["order.placed"]),
        ("**.*", ["order", "order.placed"], []),
    ],
)
def test_one_star_is_a_segment_and_two_are_any_number(
    pattern: str, matching: list[str], others: list[str]
) -> None:
    tree: PatternTree[str] = PatternTree()
    tree.add(pattern, "value")
    assert [name for name in matching if tree.match(name)] == matching
    assert [name for name in others if tree.match(name)] == []


@given(st.lists(patterns, max_size=12), names)
def test_the_tree_finds_what_the_naive_matcher_finds(added: list[str], name: str) -> None:
    tree: PatternTree[int] = PatternTree()
    for number, pattern in enumerate(added):
        tree.add(pattern, number)
    expected = [number for number, pattern in enumerate(added) if naive(pattern, name)]
    assert sorted(tree.match(name)) == expected


@given(st.lists(patterns, min_size=1, max_size=12), names, st.data())
def test_what_is_removed_is_not_found_and_nothing_else_is_lost(
    added: list[str], name: str, data: st.DataObject
) -> None:
    tree: PatternTree[int] = PatternTree()
    for number, pattern in enumerate(added):
        tree.add(pattern, number)
    gone = data.draw(st.sets(st.sampled_from(range(len(added)))))
    for number in gone:
        tree.remove(added[number], number)
    expected = [number for number, pattern in enumerate(added) if number not in gone and naive(pattern, name)]
    assert sorted(tree.match(name)) == expected


def test_many_deep_wildcards_do_not_blow_up() -> None:
    tree: PatternTree[str] = PatternTree()
    tree.add(".".join(["**"] * 30), "deep")
    assert tree.match(".".join("a" * 60)) == ["deep"]


async def test_a_named_event_without_a_class_reaches_patterns_in_the_order_of_subscribing() -> None:
    bus, seen = EventBus(concurrency="serial"), []

    def note(text: str) -> Any:
        async def run(event: Any) -> None:
            seen.append(text)

        return run

    for pattern in ("order.**", "*.placed", "order.placed", "**"):
        bus.subscribe(pattern, note(pattern), id=pattern)
    async with bus:
        await bus.publish("order.placed", 1)
    assert seen == ["order.**", "*.placed", "order.placed", "**"]


@pytest.mark.repetitive
async def test_endless_names_do_not_grow_the_bus() -> None:
    bus = EventBus()
    count = 0

    @bus.on("session.*", id="count")
    async def counting(event: Any) -> None:
        nonlocal count
        count += 1

    async with bus:
        for number in range(12_000):
            await bus.publish(f"session.{number}", None)
    assert count == 12_000
    numbers = bus.metrics.snapshot()["count"]
    assert numbers.delivered == 12_000
    assert len(numbers.by_event) == 1_001
    assert numbers.by_event["(other)"].delivered == 11_000
