"""Asking SQLite's driver itself, on the connections of the store's own.

What SQLAlchemy does around a statement whose text is made costs as much as reading ten rows, and nobody
wants it there. In a session of the application's own, its events and its errors are wanted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import sqlite3

    from sqlalchemy import Connection

OWN = "eventbus_own"
"""The execution option of connections that are the store's own."""


def driver_of(connection: Connection) -> sqlite3.Connection | None:
    """Return the driver's connection to SQLite if it is the store's own, else None."""
    if OWN not in connection.get_execution_options():
        return None
    return cast("sqlite3.Connection", connection.connection.dbapi_connection)
