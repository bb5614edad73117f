"""Empty databases for tests, one on SQLite and one on PostgreSQL, with engines of the application's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool
from tests.postgres_server import schemas

from eventbus_adapters.sql.offline import in_transaction

T = TypeVar("T")
_numbers = count(1)


@dataclass(frozen=True)
class Place:
    """A database that is empty at first.

    Attributes:
        kind: sqlite or postgres.
        url: as a store takes it.
        schema: the schema in PostgreSQL's database.
    """

    kind: str
    url: str
    schema: str = ""

    def engine(self, **options: Any) -> Engine:
        """Return a synchronous engine, as an application would make it."""
        if self.kind == "sqlite":
            return create_engine(self.url, poolclass=NullPool, **options)
        settings = {"options": f"-csearch_path={self.schema}"}
        return create_engine(self._driven_by("psycopg"), poolclass=NullPool, connect_args=settings, **options)

    def async_engine(self, **options: Any) -> AsyncEngine:
        """Return an asynchronous engine, as an application would make it."""
        if self.kind == "sqlite":
            return create_async_engine(self._driven_by("aiosqlite"), poolclass=NullPool, **options)
        settings = {"server_settings": {"search_path": self.schema}}
        return create_async_engine(
            self._driven_by("asyncpg"), poolclass=NullPool, connect_args=settings, **options
        )

    def _driven_by(self, driver: str) -> URL:
        url = make_url(self.url).difference_update_query(["search_path"])
        return url.set(drivername=f"{url.get_backend_name()}+{driver}")

    def run(self, work: Callable[[Connection], T]) -> T:
        """Do something in a transaction that is committed; also where an event loop runs."""
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(in_transaction, self.url, lambda it, _: work(it), create=True).result()


def rows_of(place: Place, table: str = "eventbus_dead_letters") -> list[dict[str, Any]]:
    """Return the rows of a table, in the order of its first column."""
    return place.run(
        lambda connection: [
            dict(row._mapping) for row in connection.execute(text(f"SELECT * FROM {table} ORDER BY 1"))
        ]
    )


def begin_for_savepoints(engine: Engine) -> None:
    """Have sqlite3 begin transactions when SQLAlchemy does, as its documentation says."""

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")


def shared_place(kind: str, folder: Path) -> Place:
    """Return a database for this test, which may have the tables already; they are empty."""
    if kind == "sqlite":
        return Place(kind, f"sqlite:///{folder / 'shop.db'}")
    url = schemas().url(folder)
    return Place(kind, url, url.rpartition("search_path=")[2])


@contextmanager
def place_of(kind: str, folder: Path) -> Iterator[Place]:
    """Give a database without any tables, and take it away again."""
    if kind == "sqlite":
        yield shared_place(kind, folder)
        return
    server = schemas()
    schema = f"eventbus_place_{os.getpid()}_{next(_numbers)}"
    spare = folder / "none"
    server.execute(f"CREATE SCHEMA {schema}", folder=spare)
    url = server.url(spare).rpartition("search_path=")[0] + f"search_path={schema}"
    try:
        yield Place(kind, url, schema)
    finally:
        server.execute(f"DROP SCHEMA {schema} CASCADE", folder=spare)
