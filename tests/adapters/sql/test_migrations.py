"""From the tables of an earlier release to today's, and back, on both databases."""

from __future__ import annotations

import shlex
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from letters import NOW, after, build_delivery
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url
from tests.adapters.sql import released
from tests.adapters.sql.places import Place, place_of, rows_of
from typer.testing import CliRunner

from eventbus_adapters.cli.app import app
from eventbus_adapters.sql import SqlStore, migrations, schema, shape
from eventbus_adapters.sql.tables import SCHEMA_VERSION, metadata
from eventbus_dlq.errors import InvalidTransition, StoreUnavailable
from eventbus_dlq.letter import DeadLetterState, Verb
from eventbus_dlq.query import DeadLetterQuery
from eventbus_dlq.store import Claim, Kept, SequenceKey, Settlement

CHARGE = "billing.charge"
ANN = "ann"


@pytest.fixture
def old(place: Place) -> Place:
    """Give a database as the release with version 1 has left it, with letters in every state."""
    released.install(place, 1)
    return place


def upgrade(place: Place) -> list[int]:
    return list(place.run(lambda connection: migrations.upgrade(connection, place.url)))


def downgrade(place: Place, target: int = 1) -> list[int]:
    return list(place.run(lambda connection: migrations.downgrade(connection, place.url, target)))


async def opened(place: Place) -> SqlStore:
    store = SqlStore(place.url)
    await store.open()
    return store


def test_the_first_revision_makes_what_the_release_had(tmp_path: Path) -> None:
    with place_of("sqlite", tmp_path) as place, closing(sqlite3.connect(tmp_path / "released.db")) as made:
        made.executescript(released.dump(1))
        place.run(lambda connection: migrations.upgrade(connection, place.url, target=1))
        as_released = Place("sqlite", f"sqlite:///{tmp_path}/released.db")
        assert place.run(shape.described) == as_released.run(shape.described)


def test_an_upgraded_database_has_the_shape_of_a_new_one(old: Place, tmp_path: Path) -> None:
    assert old.run(shape.differences)
    assert upgrade(old) == [2, 3]
    assert not old.run(shape.differences)
    with place_of(old.kind, tmp_path / "new") as new:
        (tmp_path / "new").mkdir()
        new.run(lambda connection: schema.prepare(connection, new.url))
        assert old.run(shape.described) == new.run(shape.described)


def test_an_empty_database_can_be_upgraded_step_by_step(place: Place) -> None:
    assert upgrade(place) == list(range(1, SCHEMA_VERSION + 1))
    assert not place.run(shape.differences)
    assert upgrade(place) == []


def test_a_new_database_needs_no_upgrade(place: Place) -> None:
    place.run(lambda connection: schema.prepare(connection, place.url))
    assert upgrade(place) == []


def run_as_told(message: str, url: str) -> None:
    """Run what a message ends with, as a shell reads it, with nothing else that is known of the store."""
    told, _, command = message.rpartition(" run: ")
    program, *arguments = shlex.split(command)
    environment = {"EVENTBUS_STORE": url if "this store's own URL in" in told else None}
    with ThreadPoolExecutor(1) as thread:  # it runs an event loop of its own
        done = thread.submit(CliRunner().invoke, app, arguments, env=environment).result()
    assert (program, done.exit_code) == ("eventbus", 0), done.output


async def test_a_store_refuses_an_older_database_and_what_it_says_to_run_is_enough(old: Place) -> None:
    with pytest.raises(StoreUnavailable, match="schema version 1") as refusal:
        await opened(old)
    assert not refusal.value.retryable
    run_as_told(str(refusal.value), old.url)
    await (await opened(old)).close()


async def test_what_is_to_be_run_shows_no_password() -> None:
    with place_of("postgres", Path("guarded")) as place:
        released.install(place, 1)
        url = make_url(place.url).set(password="open:sesame").render_as_string(hide_password=False)
        store = SqlStore(url)
        with pytest.raises(StoreUnavailable, match="run: eventbus db upgrade") as refusal:
            await store.open()
        assert "sesame" not in str(refusal.value)
        run_as_told(str(refusal.value), url)


async def test_a_shell_reads_the_name_of_a_file_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / 'it\'s $HOME, or \\ "here"'
    folder.mkdir()
    with place_of("sqlite", folder) as place:
        released.install(place, 1)
        with pytest.raises(StoreUnavailable) as refusal:
            await opened(place)
        run_as_told(str(refusal.value), place.url)
        await (await opened(place)).close()


async def test_letters_of_every_state_survive_the_upgrade(old: Place) -> None:
    before = rows_of(old)
    upgrade(old)
    after_it = rows_of(old)
    assert {row["state"] for row in before} >= {"pending", "running", "exhausted", "resolved", "archived"}
    assert [{name: row[name] for name in before[0]} for row in after_it] == before
    assert {row["live"] for row in after_it} == {0}
    store = await opened(old)
    stats = await store.stats(now=NOW)
    page = await store.find(DeadLetterQuery.everything())
    read = [await store.get(row["id"]) for row in before]
    await store.close()
    assert [str(letter.state) for letter in read] == [row["state"] for row in before]
    assert all(letter.error is not None and letter.history for letter in read)
    assert stats.total == len(page.items) == len(before)
    assert {str(state): number for state, number in stats.by_state.items()} == {
        state: sum(row["state"] == state for row in before) for state in {row["state"] for row in before}
    }


def heads(rows: list[dict[str, Any]], key: str) -> dict[int, int]:
    return {row["seq"]: row["waits"] for row in rows if row["ordering_key"] == key}


async def test_the_open_letters_of_a_key_become_a_sequence(old: Place) -> None:
    upgrade(old)
    rows = rows_of(old)
    charged = [row for row in rows if row["handler_id"] == CHARGE]
    assert heads(charged, "customer-7") == {8: 1, 9: 0, 10: 1}  # the second one was running
    assert heads(rows, "customer-8") == {12: 0, 13: 1}
    assert heads([row for row in rows if row["handler_id"] != CHARGE], "customer-7") == {11: 0}
    store = await opened(old)
    assert await store.blocked([CHARGE]) == {
        SequenceKey(CHARGE, "customer-7"),
        SequenceKey(CHARGE, "customer-8"),
    }
    by_seq = {row["seq"]: row["id"] for row in rows}
    (refused,) = await store.claim([by_seq[13]], owner="worker-2", lease=30, now=NOW)
    assert isinstance(refused, InvalidTransition)
    await store.change(by_seq[12], Verb.RESOLVE, now=NOW)
    (claim,) = await store.claim([by_seq[13]], owner="worker-2", lease=30, now=NOW)
    assert isinstance(claim, Claim)
    await store.close()


async def test_what_was_running_is_rescued_after_the_upgrade(old: Place) -> None:
    upgrade(old)
    store = await opened(old)
    leased = await store.leased(now=after(10_000))
    rescued = await store.rescue(leased, max_crashes=3, now=after(10_000))
    await store.close()
    assert {letter.state for letter in rescued} == {DeadLetterState.PENDING}
    assert len(rescued) == 3


async def test_deliveries_are_accepted_after_the_upgrade(old: Place) -> None:
    upgrade(old)
    store = await opened(old)
    fresh, behind = build_delivery(), build_delivery("customer-8")
    kept = await store.accept([fresh, behind])
    (claim,) = await store.claim_due(
        {CHARGE: 9}, states={DeadLetterState.ACCEPTED}, limit=9, owner="w", lease=30, now=NOW
    )
    done = Settlement(lease=claim.lease, state=DeadLetterState.RESOLVED, forget=True)
    assert not await store.settle([done], now=NOW)
    await store.close()
    assert kept == [
        Kept(fresh.id, DeadLetterState.ACCEPTED),
        Kept(behind.id, DeadLetterState.PARKED),
    ]
    assert claim.letter.id == fresh.id


def test_each_database_gets_an_id_of_its_own(old: Place, tmp_path: Path) -> None:
    upgrade(old)
    found = old.run(lambda connection: schema.identity(connection, old.url))
    with place_of(old.kind, tmp_path) as other:
        again = old.run(lambda connection: schema.prepare(connection, old.url))
        if other.kind == "postgres":
            other.run(lambda connection: schema.prepare(connection, other.url))
            assert other.run(lambda connection: schema.identity(connection, other.url)) != found
    assert again == found
    assert len(found.database_id) == 36


def test_the_way_down_and_up_again_keeps_every_letter(old: Place) -> None:
    described, before = old.run(shape.described), rows_of(old)
    upgrade(old)
    assert downgrade(old) == [2, 1]
    assert old.run(shape.described) == described
    assert rows_of(old) == before
    assert rows_of(old, "eventbus_meta") == [{"key": "schema_version", "value": "1"}]
    assert upgrade(old) == [2, 3]


def test_counters_that_were_not_added_up_yet_are_added_on_the_way_down(old: Place) -> None:
    upgrade(old)
    known = released.rows(1, "eventbus_dead_letter_counts")
    added = [{**known[0], "letters": 2}, {**known[0], "tenant": "=new", "letters": 1}]

    def append(connection: Connection) -> None:
        deltas = metadata.tables["eventbus_dead_letter_count_deltas"]
        connection.execute(deltas.insert(), added)

    old.run(append)
    downgrade(old)
    counts = {
        tuple(row[name] for name in list(row)[:7]): row["letters"]
        for row in rows_of(old, "eventbus_dead_letter_counts")
    }
    sort = tuple(known[0][name] for name in list(known[0])[:7])
    assert counts[sort] == known[0]["letters"] + 2
    assert counts[("=new", *sort[1:])] == 1


@pytest.mark.parametrize("parked", [False, True])
async def test_deliveries_that_have_not_failed_stop_the_way_down(old: Place, parked: bool) -> None:
    upgrade(old)
    store = await opened(old)
    await store.accept([build_delivery("customer-8" if parked else None)])
    await store.close()
    before = old.run(shape.described), rows_of(old)
    with pytest.raises(StoreUnavailable, match=r"1 deliveries .* without having failed"):
        downgrade(old)
    assert (old.run(shape.described), rows_of(old)) == before


@pytest.mark.parametrize("target", [0, SCHEMA_VERSION, 7])
def test_there_is_no_way_down_to_what_is_not_older(old: Place, target: int) -> None:
    upgrade(old)
    with pytest.raises(ValueError, match=r"no way down to .* \(older versions: 1, 2\)"):
        downgrade(old, target)


def test_an_empty_database_has_nothing_below_it(place: Place) -> None:
    with pytest.raises(ValueError, match="older versions: none"):
        downgrade(place)


def test_every_step_down_says_what_it_gives_up() -> None:
    told = migrations.losses(SCHEMA_VERSION, 1)
    assert len(told) == SCHEMA_VERSION - 1
    assert all("No dead letter is lost" in it for it in told)


def test_an_upgrade_that_fails_leaves_the_database_as_it_was(old: Place) -> None:
    """The name of a new table is taken, which shows only after the letters were rebuilt."""
    old.run(lambda connection: connection.execute(text("CREATE TABLE eventbus_spools (own INTEGER)")))
    before = old.run(shape.described), rows_of(old)
    with pytest.raises(StoreUnavailable, match="eventbus_spools"):
        upgrade(old)
    assert (old.run(shape.described), rows_of(old)) == before
    assert old.run(lambda connection: schema.found_version(connection, old.url)) == 1
