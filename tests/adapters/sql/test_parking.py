"""What controls have parked is never stuck, whatever else happens to it, to its row, and to the store."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from controlled import ACME, bring_back, close, parked_delivery
from letters import NOW, after, build_delivery, build_letter, build_letter_in
from steps import claim_due

from eventbus.controls import Scope
from eventbus_adapters.sql import SqlStore
from eventbus_adapters.sql.closures import KnownControls
from eventbus_adapters.sql.configuring import close_scope
from eventbus_adapters.sql.counts import Deltas
from eventbus_adapters.sql.engine import Database
from eventbus_dlq.letter import DeadLetterState, Reason, Verb
from eventbus_dlq.store import Spooled

HANDLER = "billing.charge"


def rows(by_hand: sqlite3.Connection, table: str) -> int:
    (number,) = by_hand.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(number)


def closes(known: KnownControls, connection: object, tenant: str) -> bool:
    return known.current(connection).closing(tenant, "e", "h", NOW) is not None  # type: ignore[arg-type]


def test_what_a_transaction_has_read_that_was_rolled_back_is_not_believed(tmp_path: Path) -> None:
    database = Database(tmp_path / "letters.db", synchronous="NORMAL", busy_timeout=1)
    database.create()
    known = KnownControls()
    with database.connect("write") as connection:
        for tenant, commits in (("acme", False), ("globex", True)):
            with connection.begin() as transaction:
                made = close_scope(
                    connection,
                    Deltas(),
                    scope=Scope(tenant),
                    state="paused",
                    reason="a bug",
                    by="ann",
                    until=None,
                    now=NOW,
                )
                assert made.version == 1
                assert closes(known, connection, tenant)
                if not commits:
                    transaction.rollback()
            with connection.begin():
                assert closes(known, connection, tenant) is commits
        with connection.begin():
            assert not closes(known, connection, "acme")


async def test_a_store_that_opens_later_goes_on_with_what_is_to_go_back(
    store: SqlStore, path: Path, by_hand: sqlite3.Connection
) -> None:
    deliveries = [build_delivery(tenant="acme", created_at=after(number)) for number in range(1_205)]
    await close(store)
    await store.accept(deliveries)
    while (await store.stats(now=NOW)).by_state != {"parked": 1_205}:
        await claim_due(store, {HANDLER: 100}, now=after(9_999))
    await store.open_scopes([ACME], now=NOW)
    assert (await store.stats(now=NOW)).by_state == {"parked": 205, "accepted": 1_000}
    await store.close()  # its process is gone
    other = SqlStore(f"sqlite:///{path}")
    await other.open()
    assert await other.unpark(limit=200, now=NOW)
    assert not await other.unpark(limit=200, now=NOW)
    claims = await claim_due(other, {HANDLER: 2_000}, limit=2_000, now=after(9_999))
    await other.close()
    assert [it.letter.id for it in claims] == [it.id for it in deliveries]
    assert (rows(by_hand, "eventbus_parked"), rows(by_hand, "eventbus_controls")) == (0, 0)


async def test_what_has_left_in_another_way_is_not_brought_back(
    store: SqlStore, by_hand: sqlite3.Connection
) -> None:
    await close(store)
    resolved, failed, deleted = [await parked_delivery(store, tenant="acme") for _ in range(3)]
    await store.change(resolved.id, Verb.RESOLVE, now=NOW)
    again = build_letter_in(
        DeadLetterState.EXHAUSTED, event_id=failed.event_id, handler_id=failed.handler_id, tenant="acme"
    )
    await store.add([again])
    await store.delete(deleted.id)
    reusing = build_delivery(tenant="globex")
    await store.accept([reusing])  # the number of the row that is gone is given out again
    await store.open_scopes(None, now=NOW)
    await bring_back(store)
    assert [(await store.get(it.id)).state for it in (resolved, failed, reusing)] == [
        DeadLetterState.RESOLVED,
        DeadLetterState.EXHAUSTED,
        DeadLetterState.ACCEPTED,
    ]
    assert rows(by_hand, "eventbus_parked") == 0


async def test_a_number_that_is_given_out_again_is_parked_by_its_own_control(store: SqlStore) -> None:
    await close(store)
    gone = await parked_delivery(store, tenant="acme")
    await store.delete(gone.id)
    await close(store, Scope("globex"))
    other = await parked_delivery(store, tenant="globex")
    await store.open_scopes([ACME], now=NOW)
    await bring_back(store)
    assert (await store.get(other.id)).state is DeadLetterState.PARKED
    await store.open_scopes([Scope("globex")], now=NOW)
    assert (await store.get(other.id)).state is DeadLetterState.ACCEPTED


async def test_a_row_that_cannot_be_understood_is_parked_and_comes_back_like_others(
    store: SqlStore, by_hand: sqlite3.Connection
) -> None:
    broken = build_delivery(tenant="acme")
    await store.accept([broken])
    by_hand.execute("UPDATE eventbus_dead_letters SET headers = x'5b', attempts = 'many'")
    await close(store)
    assert await claim_due(store, {HANDLER: 9}) == []
    assert by_hand.execute("SELECT state, state_before FROM eventbus_dead_letters").fetchone() == (
        "parked",
        "accepted",
    )
    await store.open_scopes(None, now=NOW)
    assert await claim_due(store, {HANDLER: 9}) == []
    kept = await store.get(broken.id)
    assert (kept.state, kept.reason) == (DeadLetterState.EXHAUSTED, Reason.UNDECODABLE)
    (told,) = await store.claim_announcements(limit=9, owner="w", lease=30, now=NOW)
    assert (told.dead_letter_id, told.reason) == (broken.id, Reason.UNDECODABLE)


async def test_a_scope_that_is_closed_again_keeps_what_has_not_come_back_yet(
    store: SqlStore, by_hand: sqlite3.Connection
) -> None:
    await close(store)
    await store.accept([build_delivery(tenant="acme") for _ in range(1_010)])
    await claim_due(store, {HANDLER: 1}, limit=1)
    await store.open_scopes([ACME], now=NOW)
    await close(store, reason="again")
    assert await bring_back(store) == 1
    assert (await store.stats(now=NOW)).by_state == {"parked": 10, "accepted": 1_000}
    await claim_due(store, {HANDLER: 1}, limit=1)
    assert (await store.stats(now=NOW)).by_state == {"parked": 1_010}
    await store.open_scopes(None, now=NOW)
    assert await bring_back(store) == 1
    assert (await store.stats(now=NOW)).by_state == {"accepted": 1_010}
    assert (rows(by_hand, "eventbus_parked"), rows(by_hand, "eventbus_controls")) == (0, 0)


async def test_what_another_control_closes_is_held_by_that_one_from_then_on(
    store: SqlStore, by_hand: sqlite3.Connection
) -> None:
    await close(store, now=NOW)
    await close(store, Scope(handler=HANDLER), now=after(1))
    parked = await parked_delivery(store, tenant="acme")
    await store.open_scopes([ACME], now=after(2))
    assert rows(by_hand, "eventbus_controls") == 1
    assert not await store.unpark(limit=9, now=after(2))
    assert (await store.get(parked.id)).state is DeadLetterState.PARKED
    await store.open_scopes([Scope(handler=HANDLER)], now=after(3))
    assert (await store.get(parked.id)).state is DeadLetterState.ACCEPTED


@pytest.mark.parametrize("still_closed", [True, False])
async def test_a_spool_brings_what_was_parked_while_the_store_was_away(
    store: SqlStore, still_closed: bool
) -> None:
    if still_closed:
        await close(store)
    delivery = replace(build_delivery(tenant="acme"), state=DeadLetterState.PARKED, reason=Reason.PAUSED)
    assert await store.import_spool(
        "s", [Spooled("accept", delivery), Spooled("add", build_letter())], start=0, end=9, now=NOW
    )
    state = DeadLetterState.PARKED if still_closed else DeadLetterState.ACCEPTED
    assert (await store.get(delivery.id)).state is state
    await store.open_scopes(None, now=NOW)
    assert (await store.get(delivery.id)).state is DeadLetterState.ACCEPTED
