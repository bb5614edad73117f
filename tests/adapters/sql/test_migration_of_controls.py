"""From a database that knows no controls to one that does, and back with letters that are parked."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from controlled import bring_back, close
from letters import NOW, after, build_delivery, build_letter_in
from sqlalchemy import Connection, text
from steps import claim_due
from tests.adapters.sql import released
from tests.adapters.sql.places import Place, place_of, rows_of

from eventbus.controls import Scope
from eventbus.retry import RetryPolicy
from eventbus_adapters.sql import SqlStore, migrations, schema, shape
from eventbus_dlq.control_store import Configuration
from eventbus_dlq.letter import DeadLetterState
from eventbus_dlq.query import DeadLetterQuery
from eventbus_dlq.recount import recount

HANDLER = "billing.charge"
VERSION_2 = (
    "eventbus_dead_letters",
    "eventbus_dead_letter_count_deltas",
    "eventbus_processes",
    "eventbus_handlers",
    "eventbus_spools",
)


@pytest.fixture
def old(place: Place) -> Place:
    """Give a database as the release with version 2 has left it."""
    released.install(place, 2)
    return place


async def opened(place: Place) -> SqlStore:
    store = SqlStore(place.url)
    await store.open()
    return store


def upgrade(place: Place) -> None:
    steps = place.run(lambda connection: migrations.upgrade(connection, place.url))
    assert list(steps) == [3]


def downgrade(place: Place) -> None:
    steps = place.run(lambda connection: migrations.downgrade(connection, place.url, 2))
    assert list(steps) == [2]


def totals(place: Place) -> dict[str, int]:
    """Return how many letters the counters of version 2 say there are in each state."""
    counted = """SELECT state, sum(letters) FROM (
        SELECT state, letters FROM eventbus_dead_letter_counts
        UNION ALL SELECT state, letters FROM eventbus_dead_letter_count_deltas
    ) AS counters GROUP BY state HAVING sum(letters) <> 0"""

    def read(connection: Connection) -> dict[str, int]:
        return {state: int(letters) for state, letters in connection.execute(text(counted))}

    return place.run(read)


def states(rows: list[dict[str, Any]]) -> dict[str, int]:
    return {state: sum(row["state"] == state for row in rows) for state in {row["state"] for row in rows}}


def test_the_second_revision_makes_what_the_release_had(tmp_path: Path) -> None:
    with place_of("sqlite", tmp_path) as place, closing(sqlite3.connect(tmp_path / "released.db")) as made:
        made.executescript(released.dump(2))
        place.run(lambda connection: migrations.upgrade(connection, place.url, target=2))
        as_released = Place("sqlite", f"sqlite:///{tmp_path}/released.db")
        assert place.run(shape.described) == as_released.run(shape.described)


async def test_nothing_is_lost_on_the_way_up(old: Place) -> None:
    before = {table: rows_of(old, table) for table in VERSION_2}
    upgrade(old)
    assert not old.run(shape.differences)
    assert {table: rows_of(old, table) for table in VERSION_2} == before
    found = states(before["eventbus_dead_letters"])
    assert set(found) == set(map(str, DeadLetterState))
    store = await opened(old)
    stats = await store.stats(now=NOW)
    items = (await store.find(DeadLetterQuery.everything())).items
    letters = [await store.get(it.id) for it in items]
    configuration = await store.configuration()
    await store.close()
    assert stats.by_state == found
    assert stats.by_handler == recount(letters, NOW).by_handler
    assert configuration == Configuration()


async def test_what_was_there_can_be_paused_and_let_go_again(old: Place) -> None:
    upgrade(old)
    store = await opened(old)
    before = (await store.stats(now=NOW)).by_state
    await close(store, Scope(handler=HANDLER))
    assert list(await claim_due(store, now=after(9_999))) == []
    parked = (await store.stats(now=NOW)).by_state
    assert parked["parked"] > before["parked"]
    assert "accepted" not in parked or parked["accepted"] == 1  # somebody else's
    await store.open_scopes(None, now=NOW)
    await bring_back(store)
    claims = await claim_due(store, {HANDLER: 9, "mail.send": 9}, now=after(9_999))
    await store.close()
    assert len(claims) == before["accepted"] - 1 + before["pending"]  # one waits in its sequence


async def test_what_is_parked_runs_again_after_the_way_down(old: Place) -> None:
    upgrade(old)
    store = await opened(old)
    await close(store, now=NOW)
    late = build_delivery("customer-9", tenant="acme")
    waiting = build_delivery("customer-9", tenant="acme")
    await store.accept([late, waiting])
    await store.add([build_letter_in(DeadLetterState.EXHAUSTED)])
    await store.configure(now=NOW, redelivery=RetryPolicy(), automatic_retries=False)
    await claim_due(store, {HANDLER: 9, "mail.send": 9}, now=after(9_999))
    await store.close()
    parked = [row for row in rows_of(old) if row["reason"] == "paused"]
    assert {row["state_before"] for row in parked} == {"accepted", "pending"}
    downgrade(old)
    rows = rows_of(old)
    back = {row["id"]: row for row in rows if row["id"] in {it["id"] for it in parked}}
    assert [back[it["id"]]["state"] for it in parked] == [it["state_before"] for it in parked]
    for row in back.values():
        assert (row["reason"], row["state_before"]) == (None, None)
        assert row["live"] == (row["state"] == "accepted")
        assert row["queued_us"] == (row["created_us"] if row["state"] == "accepted" else None)
    assert totals(old) == states(rows)
    assert not [name for name in ("controls", "parked", "announcements") if _has(old, f"eventbus_{name}")]
    upgrade(old)
    assert not old.run(shape.differences)
    store = await opened(old)
    assert (await store.stats(now=NOW)).by_state == states(rows)
    assert (await store.get(late.id)).state is DeadLetterState.ACCEPTED
    await store.close()


def _has(place: Place, table: str) -> bool:
    with_name = "SELECT count(*) FROM sqlite_master WHERE name = :name"
    if place.kind == "postgres":
        with_name = "SELECT count(*) FROM pg_class WHERE oid = to_regclass(:name)"
    return place.run(lambda it: bool(it.execute(text(with_name), {"name": table}).scalar_one()))


def test_the_database_keeps_its_id(old: Place) -> None:
    before = rows_of(old, "eventbus_meta")
    upgrade(old)
    assert old.run(lambda connection: schema.found_version(connection, old.url)) == 3
    downgrade(old)
    assert rows_of(old, "eventbus_meta") == before
