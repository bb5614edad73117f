"""Which databases a store opens: new ones, its own, and no others; on both databases."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.adapters.sql.places import Place, place_of

from eventbus_adapters.sql import schema, shape
from eventbus_adapters.sql.offline import in_transaction
from eventbus_adapters.sql.tables import SCHEMA_VERSION
from eventbus_dlq.errors import StoreUnavailable


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with place_of(request.param, tmp_path) as found:
        yield found


def prepare(place: Place) -> schema.Identity:
    return in_transaction(place.url, schema.prepare, create=True)


def by_hand(place: Place, *statements: str) -> None:
    place.run(lambda connection: [connection.execute(text(it)) for it in statements])


def test_an_empty_database_gets_the_tables_once(place: Place) -> None:
    assert prepare(place) == prepare(place)
    assert not place.run(shape.differences)


def test_many_at_a_time_create_the_tables_once(place: Place) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: prepare(place), range(8)))
    assert len(set(made)) == 1
    assert not place.run(shape.differences)


def test_tables_of_a_newer_eventbus_are_refused(place: Place) -> None:
    prepare(place)
    by_hand(place, "UPDATE eventbus_meta SET value = '99' WHERE key = 'schema_version'")
    with pytest.raises(
        StoreUnavailable, match=f"version 99, .* knows {SCHEMA_VERSION} at most; update eventbus"
    ):
        prepare(place)


@pytest.mark.parametrize("said", ["'0'", "'two'", "'-1'", "''", "'²'"])
def test_a_version_that_is_none_is_refused(place: Place, said: str) -> None:
    prepare(place)
    by_hand(place, f"UPDATE eventbus_meta SET value = {said} WHERE key = 'schema_version'")
    with pytest.raises(StoreUnavailable, match="which is no version"):
        prepare(place)


@pytest.mark.parametrize("key", ["schema_version", "database_id"])
def test_a_fact_that_is_missing_is_named(place: Place, key: str) -> None:
    prepare(place)
    by_hand(place, f"DELETE FROM eventbus_meta WHERE key = '{key}'")
    with pytest.raises(StoreUnavailable, match=key) as refusal:
        prepare(place)
    assert not refusal.value.retryable


def test_a_table_of_somebody_else_with_our_name_is_refused(place: Place) -> None:
    by_hand(place, "CREATE TABLE eventbus_meta (id INTEGER)")
    with pytest.raises(StoreUnavailable, match="eventbus_meta of somebody else"):
        prepare(place)


def test_tables_without_their_version_are_refused(place: Place) -> None:
    prepare(place)
    by_hand(place, "DROP TABLE eventbus_meta")
    with pytest.raises(StoreUnavailable, match=r"eventbus_dead_letters.* and no eventbus_meta"):
        prepare(place)


def test_tables_of_the_applications_own_are_let_be(place: Place) -> None:
    by_hand(
        place,
        "CREATE TABLE orders (id INTEGER)",
        "INSERT INTO orders VALUES (1)",
    )
    prepare(place)
    by_hand(place, "CREATE INDEX ours ON eventbus_dead_letters (note)")
    assert not place.run(shape.differences)
    assert place.run(lambda it: it.execute(text("SELECT count(*) FROM orders")).scalar()) == 1


@pytest.mark.parametrize(
    ("statement", "line"),
    [
        ("DROP INDEX eventbus_letters_due", "missing: .* index CREATE INDEX eventbus_letters_due "),
        ("ALTER TABLE eventbus_spools ADD COLUMN own TEXT", "unexpected: eventbus_spools: column .*own"),
        (
            "ALTER TABLE eventbus_spools DROP COLUMN imported_us",
            "missing: eventbus_spools: column .*imported_us",
        ),
        ("DROP TABLE eventbus_processes", "missing: eventbus_processes: column .*beat_us"),
        ("ALTER TABLE eventbus_spools ADD COLUMN own TEXT DEFAULT 'x'", "unexpected: .*own .*DEFAULT 'x'"),
    ],
)
def test_what_was_changed_by_hand_is_told(place: Place, statement: str, line: str) -> None:
    prepare(place)
    by_hand(place, statement)
    assert any(re.match(line, told) for told in place.run(shape.differences))


def test_an_index_with_another_condition_is_told(place: Place) -> None:
    prepare(place)
    by_hand(
        place,
        "DROP INDEX eventbus_letters_state",
        "CREATE INDEX eventbus_letters_state ON eventbus_dead_letters (state, created_us)",
    )
    missing, unexpected = place.run(shape.differences)
    assert missing.startswith("missing: eventbus_dead_letters: index CREATE INDEX eventbus_letters_state")
    assert "live = 0" in missing
    assert "live = 0" not in unexpected


def test_a_constraint_that_is_gone_is_told(place: Place) -> None:
    if place.kind == "sqlite":
        prepare(place)
        by_hand(
            place,
            "DROP TABLE eventbus_handlers",
            "CREATE TABLE eventbus_handlers (handler_id TEXT NOT NULL, announced_us BIGINT NOT NULL)",
        )
    else:
        prepare(place)
        by_hand(place, "ALTER TABLE eventbus_handlers DROP CONSTRAINT eventbus_handlers_pkey")
    assert any("KEY" in line for line in place.run(shape.differences))


def test_a_comparison_leaves_nothing_behind(place: Place) -> None:
    prepare(place)
    before = place.run(shape.described)
    place.run(shape.differences)
    assert place.run(shape.described) == before
    assert prepare(place)
