"""The check of the counters: a drift in any part of their key, and in any of their sums, is noticed."""

from __future__ import annotations

import pytest
from addresses import plain
from databases import Database
from letters import build_delivery, build_letter
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.pool import NullPool
from tallies import KEY, SUMS, tallies

from eventbus_adapters.sql import SqlStore
from eventbus_adapters.sql.adding import accept
from eventbus_adapters.sql.counts import Deltas
from eventbus_adapters.sql.encoding import row_of
from eventbus_adapters.sql.folding import fold

FOLDED, APPENDED = "eventbus_dead_letter_counts", "eventbus_dead_letter_count_deltas"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def counted(database: Database) -> Engine:
    """Return an engine on letters of some sorts; what is counted of others waits for being folded."""
    store = SqlStore(database.url)
    await store.open()
    await store.add([build_letter(), build_letter(tenant=None, handler_id="audit", attempts=3)])
    await store.close()
    engine = create_engine(plain(database.url), poolclass=NullPool)
    with engine.begin() as connection:
        while connection.dialect.name == "postgresql" and fold(connection):
            pass
        deliveries = [build_delivery(), build_delivery(tenant="globex", attempts=1)]
        deltas = Deltas()
        accept(connection, deltas, deliveries, [row_of(it) for it in deliveries])
        deltas.append(connection)
    return engine


async def test_a_drift_of_any_counter_is_noticed(counted: Engine) -> None:
    unnoticed = [
        (table, column)
        for table in (FOLDED, APPENDED)
        for column in (*KEY, *SUMS)
        if not is_noticed(
            counted, f"UPDATE {table} SET {column} = {column} {'|| 1' if column in KEY else '+ 1'}"
        )
    ]
    assert not unnoticed


async def test_counters_of_nothing_and_letters_that_are_not_counted_are_noticed(counted: Engine) -> None:
    for table in (FOLDED, APPENDED):
        assert is_noticed(counted, f"DELETE FROM {table}")
    assert is_noticed(counted, "DELETE FROM eventbus_dead_letters WHERE tenant IS NULL")


async def test_a_sort_that_all_letters_have_left_is_no_drift(counted: Engine) -> None:
    with counted.begin() as connection:
        for sign in ("", "-"):
            values = ", ".join(["'=gone'", *KEY[1:], *(f"{sign}{column}" for column in SUMS)])
            columns = ", ".join((*KEY, *SUMS))
            connection.execute(text(f"INSERT INTO {APPENDED} ({columns}) SELECT {values} FROM {FOLDED}"))
            assert adds_up(connection) == (sign == "-")


def is_noticed(engine: Engine, statement: str) -> bool:
    """Tell whether the check fails after a statement, which is then rolled back."""
    with engine.connect() as connection:
        changed = connection.execute(text(statement)).rowcount
        assert changed > 0
        return not adds_up(connection)


def adds_up(connection: Connection) -> bool:
    try:
        tallies(connection).check()
    except AssertionError:
        return False
    return True
