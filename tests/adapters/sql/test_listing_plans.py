"""How SQLite answers: along an index, without sorting, and never through the whole table."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from letters import NOW, after, build_delivery, build_letter
from sqlalchemy import event

from eventbus_adapters.sql import SqlStore, finding
from eventbus_adapters.sql.conditions import MAX_SEEKS
from eventbus_dlq.query import DeadLetterQuery
from eventbus_dlq.store import Order

QUERIES = {
    "eventbus_letters_created": DeadLetterQuery(since=after(-60), until=after(60)),
    "eventbus_letters_live": DeadLetterQuery(state=["accepted", "running"], tenant="acme"),
    "eventbus_letters_state": DeadLetterQuery(state=["pending", "exhausted"], kind="timeout"),
    "eventbus_letters_event": DeadLetterQuery(event="OrderPlaced", state="pending"),
    "eventbus_letters_handler": DeadLetterQuery(handler="billing.charge", event="OrderPlaced", tag="eu"),
    "eventbus_letters_tenant": DeadLetterQuery(tenant={"acme", "globex"}, text="read"),
    "eventbus_letters_fingerprint": DeadLetterQuery(fingerprint="b41d0f6c9a7e2853", tenant="acme"),
    "eventbus_letters_correlation": DeadLetterQuery(correlation_id="c-1", priority={1, 5}),
}


@pytest.fixture
def statements(store: SqlStore) -> Iterator[list[tuple[str, Any]]]:
    """Every statement that the readers run, with its parameters."""
    seen: list[tuple[str, Any]] = []
    engine = store._database._engines["read"]

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        seen.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine, "before_cursor_execute", note)


def plan_of(by_hand: sqlite3.Connection, statement: str, parameters: Any) -> list[str]:
    by_hand.create_function("eventbus_contains", -1, lambda *_: 1)
    return [row[3] for row in by_hand.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]


def steps_through_letters(by_hand: sqlite3.Connection, statements: list[tuple[str, Any]]) -> list[str]:
    plans = [
        step
        for statement, parameters in statements
        if statement.startswith("SELECT")
        for step in plan_of(by_hand, statement, parameters)
    ]
    assert not [step for step in plans if "TEMP B-TREE" in step and "ORDER BY" in step]
    return [step for step in plans if "eventbus_dead_letters" in step]


@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize("index", QUERIES)
async def test_a_listing_follows_its_index_from_the_cursor_on(
    store: SqlStore,
    by_hand: sqlite3.Connection,
    statements: list[tuple[str, Any]],
    index: str,
    order: Order,
) -> None:
    await store.add([build_letter(correlation_id="c-1") for _ in range(3)])
    await store.accept([build_delivery(correlation_id="c-1") for _ in range(3)])
    page = await store.find(QUERIES[index], limit=1, order=order)
    assert page.next_cursor is not None
    statements.clear()
    await store.find(QUERIES[index], limit=1, cursor=page.next_cursor, order=order)
    steps = steps_through_letters(by_hand, statements)
    assert steps
    found = {step.split("INDEX ")[1].split(" ")[0] for step in steps if step.startswith("SEARCH ")}
    assert index in found
    assert (
        found - {index, "eventbus_letters_live", "eventbus_letters_state", "eventbus_letters_tenant"} == set()
    )
    assert len(steps) == len([step for step in steps if step.startswith("SEARCH ")])
    for statement, _ in statements:
        assert "payload" not in statement


async def test_a_listing_of_everything_follows_the_time_of_creation(
    store: SqlStore, by_hand: sqlite3.Connection, statements: list[tuple[str, Any]]
) -> None:
    await store.add([build_letter()])
    await store.find(DeadLetterQuery.everything())
    found = [step.split(" (")[0] for step in steps_through_letters(by_hand, statements)]
    assert found[0] == "SEARCH eventbus_dead_letters USING INDEX eventbus_letters_created"
    assert found[1:] == ["SEARCH eventbus_dead_letters USING INDEX eventbus_letters_live"]


@pytest.mark.parametrize("tenants", [None, {"acme", "globex"}])
async def test_statistics_read_no_letter(
    store: SqlStore, by_hand: sqlite3.Connection, statements: list[tuple[str, Any]], tenants: Any
) -> None:
    await store.add([build_letter(), build_letter(tenant=None)])
    await store.accept([build_delivery(), build_delivery(tenant=None)])
    await store.stats(now=NOW, tenants=tenants)
    steps = steps_through_letters(by_hand, statements)
    assert steps
    for (
        step
    ) in steps:  # at both ends of a state one letter is looked at, and of a tenant's live ones those found
        looks = ("SEARCH eventbus_dead_letters USING INDEX eventbus_letters_state (state=?)",)
        if tenants is not None:
            looks = ("SEARCH eventbus_dead_letters USING INDEX eventbus_letters_live",)
        assert step.startswith(("SEARCH eventbus_dead_letters USING COVERING INDEX", *looks))


async def test_an_empty_set_does_not_touch_the_database(
    store: SqlStore, statements: list[tuple[str, Any]]
) -> None:
    for query in (
        DeadLetterQuery(tenant=()),
        DeadLetterQuery(tag=[]),
        DeadLetterQuery(priority=[]),
        DeadLetterQuery(state="pending", handler="\ud800"),
        DeadLetterQuery(text="\ud800"),
        DeadLetterQuery(priority=2**80),
    ):
        page = await store.find(query)
        assert (page.items, page.next_cursor) == ((), None)
    assert not [it for it in statements if it[0] != "BEGIN"]


@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize("states", [None, ("pending", "exhausted", "resolved")])
async def test_a_rare_letter_is_found_page_by_page_within_the_bound(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch, order: Order, states: Any
) -> None:
    monkeypatch.setattr(finding, "EXAMINED", 10)
    monkeypatch.setattr(finding, "_MIN_EXAMINED", 3)
    rare = [build_letter(user_id="rare", created_at=after(at)) for at in (3, 55, 56, 99)]
    await store.add(rare)
    await store.add([build_letter(created_at=after(at)) for at in range(100)])
    query = DeadLetterQuery(user_id="rare", state=states)
    found: list[str] = []
    cursor, pages = None, 0
    while pages == 0 or cursor is not None:
        page = await store.find(query, limit=2, cursor=cursor, order=order)
        found += [it.id for it in page.items]
        cursor, pages = page.next_cursor, pages + 1
        assert pages < 60
    wanted = [it.id for it in rare]
    assert found == (wanted if order == "oldest" else wanted[::-1])
    assert pages > 5


async def test_several_values_are_merged_into_one_order(store: SqlStore) -> None:
    handlers = [f"handler-{number}" for number in range(7)]
    letters = [build_letter(handler_id=handlers[at % 7], created_at=after(at // 2)) for at in range(60)]
    await store.add(letters)
    for values in (handlers[:3], handlers, [*handlers, *(f"other-{n}" for n in range(MAX_SEEKS))]):
        wanted = [it.id for it in letters if it.handler_id in values]
        found: list[str] = []
        cursor = None
        while True:
            page = await store.find(DeadLetterQuery(handler=values), limit=4, cursor=cursor, order="oldest")
            found += [it.id for it in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert found == wanted


async def test_a_thousand_values_of_a_condition_are_possible(store: SqlStore) -> None:
    letters = [build_letter(user_id=f"u-{number}", tags=(f"t-{number}",)) for number in range(3)]
    await store.add(letters)
    many = {f"u-{number}" for number in range(1, 40_000)}
    page = await store.find(DeadLetterQuery(user_id=many, tag={f"t-{number}" for number in range(2, 2_000)}))
    assert [it.id for it in page.items] == [letters[2].id]
    stats = await store.stats(
        now=NOW + timedelta(hours=1), tenants={f"t-{n}" for n in range(40_000)} | {"acme"}
    )
    assert (stats.total, stats.last_24h, stats.due) == (3, 3, 3)
    assert stats.oldest_open == NOW


async def test_a_tag_is_compared_whole_and_not_as_json(store: SqlStore) -> None:
    await store.add([build_letter(tags=("a", "b")), build_letter(tags=(",", '"'))])
    assert len((await store.find(DeadLetterQuery(tag=","))).items) == 1
    assert len((await store.find(DeadLetterQuery(tag='"'))).items) == 1
