"""Creating the tables, and telling whether a database has the ones of this code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import inspect, select

from eventbus_adapters.sql.tables import SCHEMA_VERSION, meta, metadata
from eventbus_dlq.errors import StoreUnavailable

if TYPE_CHECKING:
    from sqlalchemy import Connection

_VERSION_KEY = "schema_version"


def prepare(connection: Connection, database: object) -> None:
    """Create the tables in a database that has none; it is all one transaction of the caller.

    Raises:
        StoreUnavailable: the tables are of another version of eventbus.
    """
    found = _found_version(connection)
    if found is None:
        metadata.create_all(connection, checkfirst=False)
        connection.execute(meta.insert().values(key=_VERSION_KEY, value=str(SCHEMA_VERSION)))
    elif found != str(SCHEMA_VERSION):
        raise StoreUnavailable(
            f"the tables in the dead-letter store {database} have schema version {found}, and this eventbus "
            f"needs {SCHEMA_VERSION}; use the eventbus that made them, or another file",
            retryable=False,
        )


def _found_version(connection: Connection) -> str | None:
    if not inspect(connection).has_table(meta.name):
        return None
    return connection.execute(select(meta.c.value).where(meta.c.key == _VERSION_KEY)).scalar() or "unknown"
