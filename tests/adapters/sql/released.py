"""Databases as earlier releases have left them, each with letters in every state that it knew."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text
from tests.adapters.sql.places import Place

from eventbus_adapters.sql import migrations

_META = "eventbus_meta"


def dump(version: int) -> str:
    """Return what the release that had a version of the tables wrote on SQLite, as SQL."""
    return (Path(__file__).parent / f"version_{version}.sql").read_text()


def rows(version: int, table: str) -> list[dict[str, Any]]:
    """Return what it wrote into a table."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(dump(version))
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]


def tables(version: int) -> list[str]:
    """Return the tables that a version has."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(dump(version))
        found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        return [name for (name,) in found]


def install(place: Place, version: int) -> None:
    """Put all of it into an empty database."""
    if place.kind == "sqlite":
        with closing(sqlite3.connect(place.url.removeprefix("sqlite:///"))) as connection:
            connection.executescript(dump(version))
        return
    place.run(lambda connection: migrations.upgrade(connection, place.url, target=version))

    def fill(connection: Connection) -> None:
        for table in tables(version):
            found = rows(version, table)
            if table == _META or not found:
                continue
            values = ", ".join(f":{name}" for name in found[0])
            connection.execute(text(f"INSERT INTO {table} ({', '.join(found[0])}) VALUES ({values})"), found)
            if "seq" in found[0]:
                connection.execute(text(f"SELECT setval('{table}_seq_seq', max(seq)) FROM {table}"))

    place.run(fill)
