"""What the tables of a database look like, and how that differs from the ones of this code."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine

from eventbus_adapters.sql.tables import metadata

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Connection

_OURS = "eventbus_"
_CHECK = re.compile(r"^\s*(CHECK .*?),?\s*$", re.MULTILINE)
_SPACE = re.compile(r"\s+")
_PLACE = re.compile(r" ON (?:\S+\.)?(\w+) USING ")

_COLUMNS = """
SELECT a.attname || ' ' || pg_catalog.format_type(a.atttypid, a.atttypmod)
    || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END
    || coalesce(' DEFAULT ' || pg_catalog.pg_get_expr(d.adbin, d.adrelid), '')
FROM pg_catalog.pg_attribute a
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = to_regclass('{table}') AND a.attnum > 0 AND NOT a.attisdropped
"""
_CONSTRAINTS = """
SELECT pg_catalog.pg_get_constraintdef(oid) FROM pg_catalog.pg_constraint
WHERE conrelid = to_regclass('{table}') AND contype <> 'n'
"""  # a NOT NULL stands with its column
_INDEXES = """
SELECT c.relname, pg_catalog.pg_get_indexdef(i.indexrelid), i.indisvalid FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = to_regclass('{table}')
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE conindid = i.indexrelid)
"""


def differences(connection: Connection) -> Sequence[str]:
    """Return how the tables of a database differ from the ones of this code; nothing when they do not.

    Tables, columns, constraints and indexes are compared as the database itself describes them. Indexes
    of somebody else's on our tables are let be.
    """
    found = described(connection)
    wanted = _wanted(connection)
    return [
        *(f"missing: {line}" for line in sorted(wanted - found)),
        *(f"unexpected: {line}" for line in sorted(found - wanted)),
    ]


def described(connection: Connection) -> frozenset[str]:
    """Return a line for each column, constraint and index of our tables, as they are in a database."""
    lines = _of_sqlite if connection.dialect.name == "sqlite" else _of_postgres
    return frozenset(f"{table}: {line}" for table in metadata.tables for line in lines(connection, table))


def _wanted(connection: Connection) -> frozenset[str]:
    if connection.dialect.name == "sqlite":
        with create_engine("sqlite://").begin() as scratch:
            metadata.create_all(scratch, checkfirst=False)
            return described(scratch)
    with connection.begin_nested() as scratch_only:
        connection.exec_driver_sql("SET LOCAL search_path TO pg_temp")  # tables of this connection alone
        metadata.create_all(connection, checkfirst=False)
        lines = described(connection)
        scratch_only.rollback()
    return lines


def _of_sqlite(connection: Connection, table: str) -> Iterator[str]:
    for place, name, kind, required, default, key, _ in _rows(connection, f"PRAGMA table_xinfo({table})"):
        shown = f"column {place + 1} {name} {kind}{' NOT NULL' if required else ''}"
        yield shown + (f" DEFAULT {default}" if default is not None else "") + (f" KEY {key}" if key else "")
    for _, name, unique, origin, *_ in _rows(connection, f"PRAGMA index_list({table})"):
        if origin == "c":
            if name.startswith(_OURS):
                yield f"index {_SPACE.sub(' ', _written(connection, name))}"
        elif unique and origin == "u":
            columns = ", ".join(row[2] for row in _rows(connection, f"PRAGMA index_info({name})"))
            yield f"constraint UNIQUE ({columns})"
    for check in _CHECK.findall(_written(connection, table)):
        yield f"constraint {check}"


def _written(connection: Connection, name: str) -> str:
    sql = "SELECT sql FROM sqlite_master WHERE name = ?"
    return str(connection.exec_driver_sql(sql, (name,)).scalar() or "")


def _of_postgres(connection: Connection, table: str) -> Iterator[str]:
    for (column,) in _rows(connection, _COLUMNS.format(table=table)):
        yield f"column {column}"
    for (constraint,) in _rows(connection, _CONSTRAINTS.format(table=table)):
        yield f"constraint {constraint}"
    for name, definition, valid in _rows(connection, _INDEXES.format(table=table)):
        if name.startswith(_OURS):
            placed = _PLACE.sub(r" ON \1 USING ", definition)
            yield f"index {placed}" + ("" if valid else " INVALID")


def _rows(connection: Connection, sql: str) -> Sequence[Any]:
    return connection.exec_driver_sql(sql).all()
