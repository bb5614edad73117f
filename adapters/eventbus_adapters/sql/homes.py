"""Whether a connection of the application's own is on the database of a store."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol
from weakref import WeakKeyDictionary

from sqlalchemy.exc import OperationalError

from eventbus_adapters.sql.schema import DATABASE_ID_KEY, TABLES_FOUND
from eventbus_adapters.sql.tables import count_deltas, letters, meta, metadata
from eventbus_dlq.errors import InvalidSession

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy import Connection, Engine

    from eventbus_adapters.sql.schema import Identity
    from eventbus_dlq.errors import StoreUnavailable

_READ_COMMITTED = "read committed"
# What is read in a transaction that has not written yet may be old by the time that it writes.
_TAKE_TURN = f"UPDATE {meta.name} SET value = value WHERE key IS NULL"  # noqa: S608  # names of ours


class Home(Protocol):
    """The database of a store.

    Attributes:
        dialect: SQLAlchemy's name of its kind.
    """

    dialect: str

    def check(self, connection: Connection, *, ordered: bool) -> None:
        """Let a connection pass that is in a transaction on this database; nothing was written.

        Args:
            connection: the session's.
            ordered: whether there are deliveries with an ordering key.

        Raises:
            InvalidSession: it is on another database, finds no tables or others, or keeps no order.
        """
        ...

    def unavailable(self, error: BaseException, /) -> StoreUnavailable:
        """Return what a caller is told of an error of the database."""
        ...


class SqliteHome:
    """A store's SQLite file.

    Args:
        path: the file.
        unavailable: see ``Home``.
    """

    dialect = "sqlite"

    def __init__(self, path: Path, unavailable: Callable[[BaseException], StoreUnavailable]) -> None:
        self._path = path
        self.unavailable = unavailable

    def check(self, connection: Connection, *, ordered: bool) -> None:
        """Let a connection pass that is on this file, and have it wait for its turn to write."""
        main, hidden = connection.exec_driver_sql(_PLACE).one()
        if not main or not _is_same_file(main, self._path):
            raise InvalidSession(
                f"the session is on {main or 'a database in memory'}, and the store is on {self._path}; give "
                "both the same file, or publish without session="
            )
        if hidden:
            raise InvalidSession(
                f"the session's connection has temporary tables or views of its own that hide {hidden}; drop "
                "or rename them, or publish without session="
            )
        try:
            connection.exec_driver_sql(_TAKE_TURN)
        except OperationalError as error:
            if "no such table" in str(error.orig):
                raise InvalidSession(_no_tables(self._path)) from error
            raise


class PostgresHome:
    """A store's PostgreSQL database.

    Args:
        identity: which one it is.
        database: what messages call it.
        unavailable: see ``Home``.
    """

    dialect = "postgresql"

    def __init__(
        self, identity: Identity, database: object, unavailable: Callable[[BaseException], StoreUnavailable]
    ) -> None:
        self._identity = identity
        self._database = database
        self.unavailable = unavailable
        self._known: WeakKeyDictionary[Engine, set[tuple[int, str]]] = WeakKeyDictionary()

    def check(self, connection: Connection, *, ordered: bool) -> None:
        """Let a connection pass that is on this database, finds the tables and may write them."""
        # An error would end the caller's transaction, so nothing is asked for that may not be there.
        place, tables, found, allowed, isolation = connection.exec_driver_sql(_PROBE).one()
        if not found:
            raise InvalidSession(_no_tables(self._database))
        if ordered and isolation != _READ_COMMITTED:
            raise InvalidSession(
                f"the session's transaction is {isolation.upper()}, and may not see which deliveries of an "
                "ordering key came before; use READ COMMITTED, or publish without an ordering key"
            )
        known = self._known.setdefault(connection.engine, set())
        if (place, tables) in known:
            return
        if not allowed:
            raise InvalidSession(
                "the session's role may not use the tables of eventbus; grant it SELECT, INSERT and UPDATE "
                "on them, and USAGE on their sequences"
            )
        said = connection.exec_driver_sql(_DATABASE_ID).scalar()
        if (said, place) != (self._identity.database_id, self._identity.place):
            raise InvalidSession(
                f"the session is on another database than the store, which is on {self._database}; give both "
                "the same one, or publish without session="
            )
        if tables != self._identity.tables:
            raise InvalidSession(
                "the session finds other tables of eventbus than the store, which is on "
                f"{self._database}: temporary ones, or those of another schema in its search_path; drop or "
                "rename them, set the store's search_path, or publish without session="
            )
        known.add((place, tables))


_PLACE = f"""
SELECT file, (
    SELECT group_concat(name, ', ') FROM sqlite_temp_master
    WHERE name COLLATE NOCASE IN ('{"', '".join(metadata.tables)}')
)
FROM pragma_database_list WHERE name = 'main'
"""  # noqa: S608  # names of ours
_PROBE = f"""
SELECT CAST(d.oid AS BIGINT), {TABLES_FOUND}, to_regclass('{letters.name}') IS NOT NULL,
    has_table_privilege(to_regclass('{meta.name}'), 'SELECT')
    AND has_table_privilege(to_regclass('{count_deltas.name}'), 'INSERT')
    AND has_table_privilege(to_regclass('{letters.name}'), 'SELECT')
    AND has_table_privilege(to_regclass('{letters.name}'), 'INSERT')
    AND has_table_privilege(to_regclass('{letters.name}'), 'UPDATE'),
    current_setting('transaction_isolation')
FROM pg_catalog.pg_database d WHERE d.datname = current_database()
"""  # noqa: S608  # names of ours
_DATABASE_ID = f"SELECT value FROM {meta.name} WHERE key = '{DATABASE_ID_KEY}'"  # noqa: S608  # names of ours


def _is_same_file(one: str, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _no_tables(database: object) -> str:
    return (
        f"the session finds no tables of eventbus, and the store has them in {database}; give both the same "
        "database and search_path, or publish without session="
    )
