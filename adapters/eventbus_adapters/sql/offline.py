"""One transaction on a store's database, by its URL, without a store: for what is done to the tables."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from eventbus_adapters.sql.engine import Database
from eventbus_adapters.sql.url import target_of
from eventbus_dlq.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from eventbus_adapters.sql.postgres.database import PostgresDatabase

T = TypeVar("T")

_BUSY_TIMEOUT = 30.0  # seconds to wait for others who write
_CONNECT_TIMEOUT = 10.0
_DAY = 86_400.0  # seconds that a statement may take: a big table is rebuilt in one


def in_transaction(url: str, work: Callable[[Connection, object], T], *, create: bool = False) -> T:
    """Return what ``work`` returns, called with a connection in a transaction and a name of the database.

    The transaction is committed then, and rolled back when ``work`` raises. On SQLite it writes from its
    beginning. Not to be called within an event loop.

    Args:
        url: as ``SqlStore`` takes it.
        work: what is to be done.
        create: whether an SQLite file that is not there is created.

    Raises:
        ValueError: the URL names no such database.
        ModuleNotFoundError: what PostgreSQL needs is not installed.
        StoreUnavailable: the database cannot be reached, or fails.
    """
    target = target_of(url)
    if isinstance(target, Path):
        return _on_sqlite(
            Database(target, synchronous="FULL", busy_timeout=_BUSY_TIMEOUT), work, create=create
        )
    from eventbus_adapters.sql.postgres.database import PostgresDatabase  # with asyncpg and greenlet

    server = PostgresDatabase(target, synchronous="FULL", busy_timeout=_BUSY_TIMEOUT, timeout=_DAY)
    return asyncio.run(_on_postgres(server, work))


def _on_sqlite(database: Database, work: Callable[[Connection, object], T], *, create: bool) -> T:
    if create:
        database.create_file()
    elif not database.path.exists():
        raise StoreUnavailable(f"there is no file {database}; name one that is there", retryable=False)
    try:
        with database.connect("write") as connection, connection.begin():
            return work(connection, database)
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise database.unavailable(error) from error


async def _on_postgres(server: PostgresDatabase, work: Callable[[Connection, object], T]) -> T:
    engine = server.engine()
    try:
        try:
            connection = await asyncio.wait_for(engine.connect(), _CONNECT_TIMEOUT)
        except Exception as error:  # the driver's, the network's and SQLAlchemy's
            raise server.unavailable(error) from error
        try:
            async with connection.begin():
                return await connection.run_sync(lambda inner: work(inner, server))
        except (SQLAlchemyError, OSError) as error:
            raise server.unavailable(error) from error
        finally:
            await connection.close()
    finally:
        await engine.dispose()
