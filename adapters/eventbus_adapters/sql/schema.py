"""Creating the tables, and telling whether a database has the ones of this code."""

from __future__ import annotations

import shlex
import uuid
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from sqlalchemy import inspect, select, text

from eventbus_adapters.sql.tables import SCHEMA_VERSION, count_deltas, letters, meta, metadata
from eventbus_dlq.errors import StoreUnavailable

if TYPE_CHECKING:
    from sqlalchemy import Connection

VERSION_KEY = "schema_version"
"""The key in ``eventbus_meta`` under which a database says the version of its tables."""
DATABASE_ID_KEY = "database_id"
"""The key in ``eventbus_meta`` of an id that no other database has."""
NO_TABLES = 0
"""The version of a database that has none of the tables."""

_LOCK = int.from_bytes(b"eventbus")
_COLUMNS = {
    "sqlite": f"SELECT name FROM pragma_table_info('{meta.name}')",  # noqa: S608  # a name of ours
    # to_regclass() would go on saying that there is none after another process has created it
    "postgresql": f"""SELECT CAST(a.attname AS TEXT)
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
        WHERE c.relname = '{meta.name}' AND pg_catalog.pg_table_is_visible(c.oid)
        AND a.attnum > 0 AND NOT a.attisdropped""",  # noqa: S608  # a name of ours
}
TABLES_FOUND = f"""CAST(CAST(ARRAY[
    to_regclass('{meta.name}'), to_regclass('{letters.name}'), to_regclass('{count_deltas.name}')
] AS oid[]) AS TEXT)"""
"""SQL for which tables PostgreSQL finds by our names, of those that sessions use: their oids as a text."""
_WHERE = f"""SELECT CAST(oid AS BIGINT), {TABLES_FOUND}
    FROM pg_catalog.pg_database WHERE datname = current_database()"""  # noqa: S608  # names of ours
_LOCKING = text(f"SELECT pg_advisory_xact_lock({_LOCK})")


class Identity(NamedTuple):
    """Which database a connection is on.

    Attributes:
        database_id: made when the tables were; a copy of the database has the same.
        place: where PostgreSQL keeps it, which tells copies apart; 0 on SQLite, whose files do that.
        tables: the ones that are found by our names; empty on SQLite. A connection whose ``search_path``
            leads elsewhere, or that has temporary ones, finds others.
    """

    database_id: str
    place: int
    tables: str


def prepare(connection: Connection, database: object) -> Identity:
    """Create the tables in a database that has none; it is all one transaction of the caller.

    Any number of processes may do so at a time.

    Args:
        connection: in a transaction; on SQLite in one that writes from its beginning.
        database: what messages call it: a URL, or the path of an SQLite file.

    Raises:
        StoreUnavailable: the tables are of another version of eventbus, or are not eventbus's.
    """
    if not _columns_of_meta(connection):
        lock(connection)  # another process may be creating them, and half of it be seen without waiting
    version = found_version(connection, database)
    if version == NO_TABLES:
        metadata.create_all(connection, checkfirst=False)
        connection.execute(meta.insert().values(key=VERSION_KEY, value=str(SCHEMA_VERSION)))
        connection.execute(meta.insert().values(key=DATABASE_ID_KEY, value=str(uuid.uuid4())))
    elif version < SCHEMA_VERSION:
        raise StoreUnavailable(
            f"the tables in the dead-letter store {database} have schema version {version}, and this "
            f"eventbus needs {SCHEMA_VERSION}; stop what uses them and{_upgrade(connection, database)}",
            retryable=False,
        )
    return identity(connection, database)


def found_version(connection: Connection, database: object) -> int:
    """Return the version of the tables, or ``NO_TABLES``.

    Raises:
        StoreUnavailable: it is a newer one than this code knows, or the tables are not eventbus's.
    """
    columns = _columns_of_meta(connection)
    if not columns:
        there = sorted(set(metadata.tables) & set(inspect(connection).get_table_names()))
        if there:
            _foreign(database, f"has {', '.join(there)} and no {meta.name}")
        return NO_TABLES
    if not columns >= set(meta.columns.keys()):
        _foreign(database, f"has a table {meta.name} of somebody else")
    said = fact(connection, VERSION_KEY)
    if said is None or not (said.isascii() and said.isdecimal()) or int(said) == NO_TABLES:
        _foreign(database, f"says {VERSION_KEY} = {said!r} in {meta.name}, which is no version")
    if int(said) > SCHEMA_VERSION:
        raise StoreUnavailable(
            f"the tables in the dead-letter store {database} have schema version {said}, and this eventbus "
            f"knows {SCHEMA_VERSION} at most; update eventbus, or use another database",
            retryable=False,
        )
    return int(said)


def _columns_of_meta(connection: Connection) -> set[str]:
    """Return the columns of ``eventbus_meta``, none without it. An inspector takes thirty times as long."""
    return set(connection.exec_driver_sql(_COLUMNS[connection.dialect.name]).scalars())


def identity(connection: Connection, database: object) -> Identity:
    """Return which database this is, among those that have the tables of this version.

    Raises:
        StoreUnavailable: it does not say.
    """
    found = fact(connection, DATABASE_ID_KEY)
    if found is None:
        _foreign(database, f"says no {DATABASE_ID_KEY} in {meta.name}")
    if connection.dialect.name == "sqlite":
        return Identity(found, 0, "")
    return Identity(found, *connection.exec_driver_sql(_WHERE).one())


def fact(connection: Connection, key: str) -> str | None:
    """Return what the database says of itself under ``key``, or None."""
    return connection.execute(select(meta.c.value).where(meta.c.key == key)).scalar()


def lock(connection: Connection) -> None:
    """Wait until nobody else creates or changes the tables, until the transaction ends."""
    if connection.dialect.name == "postgresql":  # on SQLite the transaction itself is the lock
        connection.execute(_LOCKING)


def _upgrade(connection: Connection, database: object) -> str:
    """Return what is to be run, as a shell takes it."""
    if connection.dialect.name == "sqlite":
        return f" run: eventbus db upgrade --store {shlex.quote(f'sqlite:///{database}')}"
    # What messages call a server's database is without password, and without what else leads there.
    return ", with this store's own URL in the environment variable EVENTBUS_STORE, run: eventbus db upgrade"


def _foreign(database: object, what: str) -> NoReturn:
    raise StoreUnavailable(
        f"the database {database} {what}: these are not the tables of eventbus, or only some of them; "
        "use another database, or restore a backup",
        retryable=False,
    )
