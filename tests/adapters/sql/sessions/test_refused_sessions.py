"""Sessions that cannot take deliveries in: each is told why, nothing is written, and it can go on."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread
from letters import build_delivery
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, sessionmaker
from tests.adapters.sql.places import place_of
from tests.adapters.sql.sessions.shops import Hand, Opening, Order, Shop, ended

from eventbus_adapters.sql import SqlStore
from eventbus_adapters.sql.tables import metadata
from eventbus_dlq.errors import InvalidSession, StoreUnavailable
from eventbus_dlq.store import Kept


async def refuses(shop: Shop, hand: Hand, why: str, *, ordering_key: str | None = None) -> None:
    with pytest.raises(InvalidSession, match=why):
        await hand.accept(build_delivery(ordering_key))
    assert await shop.total() == 0


async def goes_on(hand: Hand) -> None:
    """See that the session's transaction is still good."""
    await hand.do("execute", text("SELECT 1"))
    await hand.do("commit")


async def test_a_session_on_a_copy_of_the_tables_elsewhere(
    shop: Shop, opening: Opening, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    with place_of(shop.place.kind, tmp_path / "elsewhere") as other:
        store = SqlStore(other.url)
        await store.open()
        await store.close()
        hand = await opening(other)
        await refuses(shop, hand, "is on ")
        await goes_on(hand)
        await hand.do("close")


async def test_a_session_on_a_database_without_the_tables(
    shop: Shop, opening: Opening, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    with place_of(shop.place.kind, tmp_path / "elsewhere") as other:
        hand = await opening(other)
        await refuses(shop, hand, "finds no tables" if other.kind == "postgres" else "the store is on")
        await goes_on(hand)
        await hand.do("close")


@pytest.mark.parametrize(
    "hidden", [["eventbus_dead_letters"], ["eventbus_dead_letter_count_deltas"], list(metadata.tables)]
)
async def test_a_session_with_temporary_tables_that_hide_ours(
    shop: Shop, opening: Opening, hidden: list[str]
) -> None:
    ours, temporary = ("main", "temp") if shop.place.kind == "sqlite" else (shop.place.schema, "pg_temp")
    hand = await opening()
    assert await hand.accept(build_delivery())  # it was known as good once
    await hand.do("rollback")
    for name in hidden:
        await hand.do("execute", text(f"CREATE TEMP TABLE {name} AS SELECT * FROM {ours}.{name}"))
    await refuses(shop, hand, "temporary")
    for name in hidden:
        await hand.do("execute", text(f"DROP TABLE {temporary}.{name}"))
    assert await hand.accept(build_delivery())
    await hand.do("rollback")


async def test_a_session_that_finds_a_copy_in_another_schema(shop: Shop, opening: Opening) -> None:
    if shop.place.kind == "sqlite":
        return  # what is attached hides nothing
    hand, ours = await opening(), shop.place.schema
    await hand.do("execute", text(f"CREATE SCHEMA {ours}_copy"))
    for name in metadata.tables:
        copy = f"{ours}_copy.{name}"
        await hand.do("execute", text(f"CREATE TABLE {copy} (LIKE {ours}.{name} INCLUDING ALL)"))
        await hand.do("execute", text(f"INSERT INTO {copy} SELECT * FROM {ours}.{name}"))
    await hand.do("execute", text(f"SET LOCAL search_path TO {ours}_copy, {ours}"))
    await refuses(shop, hand, "those of another schema in its search_path")
    await hand.do("rollback")


async def test_a_session_whose_database_has_lost_the_tables(tmp_path: Path, opening: Opening) -> None:
    with place_of("sqlite", tmp_path) as place:
        store = SqlStore(place.url)
        await store.open()
        shop = Shop(store, place)
        with closing(sqlite3.connect(place.url.removeprefix("sqlite:///"))) as connection:
            connection.execute("ALTER TABLE eventbus_meta RENAME TO elsewhere")
        hand = await opening(place)
        hand = Hand(shop, hand.session)
        with pytest.raises(InvalidSession, match="finds no tables"):
            await hand.accept(build_delivery())
        await goes_on(hand)
        await store.close()


async def test_a_session_elsewhere_while_the_stores_file_is_gone(tmp_path: Path, opening: Opening) -> None:
    (tmp_path / "elsewhere").mkdir()
    with place_of("sqlite", tmp_path) as place, place_of("sqlite", tmp_path / "elsewhere") as other:
        store = SqlStore(place.url)
        await store.open()
        hand = await opening(other)
        hand = Hand(Shop(store, place), hand.session)
        (tmp_path / "shop.db").unlink()
        with pytest.raises(InvalidSession, match=r"is on .*elsewhere/shop\.db, and the store is on"):
            await hand.accept(build_delivery())
        await store.close()


async def test_a_session_on_another_kind_of_database(shop: Shop, opening: Opening, tmp_path: Path) -> None:
    kind = "sqlite" if shop.place.kind == "postgres" else "postgres"
    with place_of(kind, tmp_path) as other:
        hand = await opening(other)
        await refuses(shop, hand, f"the session is on a '{kind}")
        await goes_on(hand)
        await hand.do("close")


async def test_an_engine_in_autocommit(shop: Shop, opening: Opening) -> None:
    hand = await opening(plain=True, isolation_level="AUTOCOMMIT")
    await refuses(shop, hand, "AUTOCOMMIT")


async def test_a_connection_in_autocommit(shop: Shop, opening: Opening) -> None:
    hand = await opening(plain=True, execution_options={"isolation_level": "AUTOCOMMIT"})
    await refuses(shop, hand, "AUTOCOMMIT")


async def test_a_transaction_in_autocommit(shop: Shop, opening: Opening) -> None:
    hand = await opening(plain=True)
    options = {"isolation_level": "AUTOCOMMIT"}
    if isinstance(hand.session, AsyncSession):
        await hand.session.connection(execution_options=options)
    else:
        await to_thread.run_sync(lambda: hand.session.connection(execution_options=options))
    await refuses(shop, hand, "AUTOCOMMIT")


async def test_a_driver_in_autocommit(tmp_path: Path) -> None:
    with place_of("sqlite", tmp_path) as place:
        store = SqlStore(place.url)
        await store.open()
        engine = place.engine(connect_args={"isolation_level": None})
        with Session(engine) as session, pytest.raises(InvalidSession, match="AUTOCOMMIT"):
            store.accept_in_sync(session, [build_delivery()])
        engine.dispose()
        await store.close()


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
async def test_a_snapshot_cannot_keep_an_order(shop: Shop, opening: Opening, level: str) -> None:
    if shop.place.kind == "sqlite":
        hand = await opening()
        assert await hand.accept(build_delivery("customer-7"))  # its transactions see what is there
        return
    hand = await opening(isolation_level=level)
    await refuses(shop, hand, f"transaction is {level}", ordering_key="customer-7")
    assert await hand.accept(build_delivery())
    await hand.do("commit")


async def test_a_failed_session(shop: Shop, opening: Opening) -> None:
    hand = await opening()
    hand.session.add(Order(id=1))
    await hand.do("commit")
    hand.session.expunge_all()
    hand.session.add(Order(id=1))
    with pytest.raises(IntegrityError):
        await hand.do("flush")
    await refuses(shop, hand, "roll it back first")
    await hand.do("rollback")
    assert await hand.accept(build_delivery())


async def test_a_transaction_in_which_a_statement_has_failed(shop: Shop, opening: Opening) -> None:
    hand = await opening()
    with pytest.raises(DBAPIError):
        await hand.do("execute", text("SELECT nothing FROM nowhere"))
    if shop.place.kind == "postgres":  # there nothing more can be done in it
        await refuses(shop, hand, "roll it back first")
        await hand.do("rollback")
    assert await hand.accept(build_delivery())


async def test_a_savepoint_whose_release_may_commit(shop: Shop, opening: Opening) -> None:
    """SQLAlchemy leaves it to sqlite3 to begin transactions, and that begins none before a savepoint."""
    hand = await opening(plain=True)
    savepoint = await hand.savepoint()
    if shop.place.kind == "sqlite":
        await refuses(shop, hand, "in a savepoint, and sqlite3 may have begun no transaction around it")
    else:
        assert await hand.accept(build_delivery())
    await ended(savepoint, "commit")
    await hand.do("rollback")
    assert await shop.total() == 0


async def test_a_savepoint_in_a_transaction_that_has_deliveries_already(shop: Shop, opening: Opening) -> None:
    hand = await opening(plain=True)
    assert await hand.accept(build_delivery())
    savepoint = await hand.savepoint()
    assert await hand.accept(build_delivery())
    await ended(savepoint, "commit")
    await hand.do("rollback")
    assert await shop.total() == 0


async def test_a_session_that_is_closed_for_good(shop: Shop, opening: Opening) -> None:
    hand = await opening(session={"close_resets_only": False})
    await hand.do("close")
    await refuses(shop, hand, "cannot take deliveries in: This Session has been permanently closed")


async def test_a_session_that_was_not_begun(shop: Shop, opening: Opening) -> None:
    hand = await opening(session={"autobegin": False})
    await refuses(shop, hand, "cannot take deliveries in")


async def test_a_session_without_a_database(shop: Shop) -> None:
    with sessionmaker()() as session, pytest.raises(InvalidSession, match="cannot take deliveries in"):
        shop.store.accept_in_sync(session, [build_delivery()])


async def test_a_session_of_the_other_kind(shop: Shop, opening: Opening) -> None:
    hand = await opening()
    if isinstance(hand.session, AsyncSession):
        with pytest.raises(InvalidSession, match=r"use await publish\(event, session=session\)"):
            shop.store.accept_in_sync(hand.session, [build_delivery()])
    else:
        with pytest.raises(InvalidSession, match=r"use publish_in\(session, event\)"):
            await shop.store.accept_in(hand.session, [build_delivery()])


@pytest.mark.parametrize("no_session", [None, "session", object()])
async def test_what_is_no_session(shop: Shop, no_session: Any) -> None:
    with pytest.raises(InvalidSession, match="takes an AsyncSession of SQLAlchemy, not"):
        await shop.store.accept_in(no_session, [build_delivery()])
    with pytest.raises(InvalidSession, match="takes a Session of SQLAlchemy, not"):
        shop.store.accept_in_sync(no_session, [build_delivery()])


async def test_an_async_session_away_from_asyncio(shop: Shop, way: str) -> None:
    if way == "sync":  # these tests run on trio
        async_session = AsyncSession(shop.place.async_engine())
        with pytest.raises(InvalidSession, match="runs on asyncio alone"):
            await shop.store.accept_in(async_session, [build_delivery()])


async def test_a_file_that_somebody_else_writes(tmp_path: Path, opening: Opening) -> None:
    with place_of("sqlite", tmp_path) as place:
        store = SqlStore(place.url)
        await store.open()
        hand = await opening(place, connect_args={"timeout": 0.05})
        hand = Hand(Shop(store, place), hand.session)
        path = place.url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable, match="locked by another transaction") as refusal:
                await hand.accept(build_delivery())
            other.execute("ROLLBACK")
        assert refusal.value.retryable
        delivery = build_delivery()
        assert [it.id for it in await hand.accept(delivery)] == [delivery.id]
        await hand.do("commit")
        await store.close()


async def test_an_error_within_takes_back_what_was_written(tmp_path: Path, opening: Opening) -> None:
    with place_of("sqlite", tmp_path) as place:
        store = SqlStore(place.url)
        await store.open()
        hand = await opening(place)
        hand = Hand(Shop(store, place), hand.session)
        await hand.do("execute", text("CREATE TABLE notes (id INTEGER)"))
        await hand.do("execute", text("INSERT INTO notes VALUES (1)"))
        await hand.do(
            "execute",
            text(
                "CREATE TRIGGER full BEFORE INSERT ON eventbus_dead_letter_counts "
                "BEGIN SELECT RAISE(ABORT, 'no more'); END"
            ),
        )
        with pytest.raises(StoreUnavailable, match="no more"):
            await hand.accept(build_delivery())
        await hand.do("execute", text("DROP TRIGGER full"))
        kept = build_delivery()
        assert [it.id for it in await hand.accept(kept)] == [kept.id]
        await hand.do("commit")
        assert await hand.shop.kept() == {kept.id}
        await store.close()


async def test_a_role_that_may_not_write_the_tables(shop: Shop) -> None:
    if shop.place.kind == "sqlite":
        return  # it has no roles
    role, schema = f"reader_{shop.place.schema}", shop.place.schema

    def by_hand(*statements: str) -> None:
        shop.place.run(lambda connection: [connection.execute(text(it)) for it in statements])

    await to_thread.run_sync(by_hand, f"CREATE ROLE {role}", f"GRANT USAGE ON SCHEMA {schema} TO {role}")
    engine = shop.place.engine()

    def play() -> None:
        with Session(engine) as session:
            session.execute(text(f"SET ROLE {role}"))
            with pytest.raises(InvalidSession, match="grant it SELECT, INSERT and UPDATE"):
                shop.store.accept_in_sync(session, [build_delivery()])
            assert session.execute(text("SELECT 1")).scalar() == 1

    try:
        await to_thread.run_sync(play)
    finally:
        engine.dispose()
        await to_thread.run_sync(by_hand, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


async def test_a_delivery_whose_id_is_taken(shop: Shop, opening: Opening) -> None:
    hand = await opening()
    first = build_delivery()
    assert await hand.accept(first)
    with pytest.raises(ValueError, match="is taken by"):
        await hand.accept(build_delivery(id=first.id))
    await hand.do("rollback")
    assert await hand.accept(first) == [Kept(first.id, first.state)]
