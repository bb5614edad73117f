"""How SQLite finds what controls close and have parked: seeks along indexes, however much there is."""

from __future__ import annotations

import sqlite3

import pytest
from controlled import bring_back, close
from letters import NOW, after, build_delivery, build_letter
from tests.adapters.sql.tracing import plans_of

from eventbus.controls import Scope
from eventbus_adapters.sql import SqlStore
from eventbus_dlq.letter import DeadLetterState

BOTH = {DeadLetterState.ACCEPTED, DeadLetterState.PENDING}
HANDLER = "billing.charge"


async def claim_due(store: SqlStore, limit: int = 100) -> list[str]:
    claims = await store.claim_due(
        {HANDLER: limit}, states=BOTH, limit=limit, owner="w", lease=30, now=after(90)
    )
    return [it.letter.tenant or "" for it in claims]


def steps_through_letters(steps: list[str]) -> list[str]:
    return [step for step in steps if "eventbus_dead_letters" in step or "eventbus_parked" in step]


async def test_without_controls_a_claim_reads_no_more_than_before(
    store: SqlStore, statements: list[str]
) -> None:
    await store.accept([build_delivery()])
    await store.add([build_letter()])
    statements.clear()
    assert len(await claim_due(store)) == 2
    (seeks,) = [it for it in statements if "eventbus_letters_due" in it]
    assert not [it for it in statements if "eventbus_controls" in it]
    assert "tenant" not in seeks


async def test_controls_are_read_once_and_again_when_they_have_changed(
    store: SqlStore, statements: list[str]
) -> None:
    await store.accept([build_delivery(tenant="acme") for _ in range(3)])
    for tenant in ("globex", "initech"):
        await close(store, Scope(tenant))
        statements.clear()
        for _ in range(2):
            assert await claim_due(store, limit=1) == ["acme"] or tenant == "initech"
        assert len([it for it in statements if "eventbus_controls" in it]) == 1


async def test_what_is_closed_is_found_and_parked_by_seeks(
    store: SqlStore, by_hand: sqlite3.Connection, statements: list[str]
) -> None:
    await store.accept([build_delivery(tenant=it) for it in ("acme", "globex", "acme")])
    await store.add([build_letter(tenant="acme"), build_letter(tenant="globex")])
    await close(store, Scope("acme"))
    statements.clear()
    assert await claim_due(store) == ["globex", "globex"]
    steps = plans_of(by_hand, statements)
    assert not [step for step in steps if "TEMP B-TREE" in step]
    assert not [step for step in steps_through_letters(steps) if step.startswith("SCAN")]
    assert [step for step in steps if "eventbus_letters_ready (handler_id=?)" in step]


async def test_what_an_opened_scope_has_parked_is_found_along_the_index(
    store: SqlStore, by_hand: sqlite3.Connection, statements: list[str]
) -> None:
    tenants = ("acme", "globex", "initech")
    await store.accept([build_delivery(tenant=it) for it in tenants * 2])
    for tenant in tenants:
        await close(store, Scope(tenant))
    assert await claim_due(store) == []
    statements.clear()
    await store.open_scopes([Scope("globex")], now=NOW)
    steps = plans_of(by_hand, statements)
    assert [step for step in steps if "USING COVERING INDEX eventbus_parked_control (control=?)" in step]
    assert not [step for step in steps_through_letters(steps) if step.startswith("SCAN")]
    assert not [step for step in steps if "TEMP B-TREE" in step]
    assert await claim_due(store) == ["globex"] * 2


async def test_nothing_to_let_go_back_is_no_write_at_all(store: SqlStore, statements: list[str]) -> None:
    await store.accept([build_delivery()])
    await close(store)
    await claim_due(store)
    statements.clear()
    assert not await store.unpark(limit=1_000, now=NOW)
    assert await store.acknowledge("p-1", [], live_since=NOW, now=NOW) == []
    assert await store.claim_announcements(limit=9, owner="w", lease=30, now=NOW) == []
    assert not statements


@pytest.mark.parametrize("limit", [1, 7])
async def test_more_than_a_call_parks_is_parked_by_the_next_and_its_caller_is_woken(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr("eventbus_adapters.sql.due.MOST_PARKED", 150)
    monkeypatch.setattr("eventbus_adapters.sql.due._WIDEST", 40)
    woken: list[int] = []
    store.on_work(lambda: woken.append(1))
    await store.accept([build_delivery(tenant="acme") for _ in range(400)])
    await store.accept([build_delivery(tenant="globex", created_at=after(1))])
    await close(store, Scope("acme"))
    calls = 0
    while not (claimed := await claim_due(store, limit=limit)):
        calls += 1
        assert len(woken) == calls
    assert claimed == ["globex"]
    assert (await store.stats(now=NOW)).by_state == {"parked": 400, "running": 1}
    assert calls == 2
    await store.open_scopes(None, now=NOW)
    await bring_back(store)
    assert (await store.stats(now=NOW)).by_state == {"accepted": 400, "running": 1}


async def test_one_of_many_controls_is_opened_or_drained_without_a_look_at_the_others(
    store: SqlStore, statements: list[str]
) -> None:
    for number in range(3):
        await close(store, Scope(f"tenant-{number}"), "draining" if number else "paused", until=after(60))
    statements.clear()
    assert [it.scope for it in await store.open_scopes([Scope("tenant-1")], now=NOW)] == [Scope("tenant-1")]
    assert len(await store.acknowledge("p", [], live_since=NOW, now=NOW)) == 1
    await store.unpark(limit=10, now=after(90))
    assert not [it for it in statements if "FROM eventbus_controls WHERE NOT (state = 'reopened')" in it]
    left = await store.configuration()
    assert left is not None
    assert left.controls == ()
