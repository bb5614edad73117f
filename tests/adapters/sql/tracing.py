"""What SQLite is told to do, and how it goes about it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from eventbus_adapters.sql import SqlStore
from eventbus_adapters.sql.running import OnSqlite


@contextmanager
def traced(store: SqlStore) -> Iterator[list[str]]:
    """Give every statement that the writer runs, with its parameters in it."""
    seen: list[str] = []
    assert isinstance(store._running, OnSqlite)
    engine = store._database._engines["write"]  # type: ignore[attr-defined]  # it is an SQLite file

    def note(statement: str) -> None:
        if not statement.startswith(("BEGIN", "COMMIT", "PRAGMA")):
            seen.append(statement)

    def trace(connection: sqlite3.Connection, _: Any) -> None:
        connection.set_trace_callback(note)

    store._running.writer._held.close()  # the next one is traced
    event.listen(engine, "connect", trace)
    yield seen
    event.remove(engine, "connect", trace)


def plans_of(by_hand: sqlite3.Connection, statements: list[str]) -> list[str]:
    """Return the steps that SQLite takes for each of the statements that look for rows."""
    return [
        row[3]
        for statement in statements
        if statement.startswith(("SELECT", "WITH", "UPDATE", "DELETE", "INSERT"))
        for row in by_hand.execute(f"EXPLAIN QUERY PLAN {statement}")
    ]
