"""The floor of the capture benchmarks: plain ``sqlite3`` that writes the rows which the store wrote.

File, tables and indexes are made by ``SqlStore`` itself, and the rows are copies of one that it wrote,
with fresh ids and times; the counter row is added to in the same transaction, once for each commit.
The connection has the store's settings: WAL, ``synchronous=FULL``, its checkpoint and its cache. What
is missing is everything else: no exception is raised or recorded, no row is built while the clock runs,
there is no merge with a letter that is known already, no SQLAlchemy, and no second process to wait for.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeAlias

from eventbus.ids import new_id

Row: TypeAlias = "tuple[Any, ...]"

_LETTERS = "eventbus_dead_letters"
_COUNTS = "eventbus_dead_letter_counts"
_FRESH_IDS = ("id", "event_id", "correlation_id")
_MOST_ROWS = 512  # in one commit, as many as the store's writer takes


class _Write(NamedTuple):
    row: Row
    written: asyncio.Future[None]


class RawDatabase:
    """A file of the store's, written with ``sqlite3`` alone.

    Args:
        path: a file with the store's tables and at least one letter, whose row is copied.
    """

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute("PRAGMA wal_autocheckpoint=10000")
        self._connection.execute("PRAGMA cache_size=-65536")
        columns = [name for name, _ in self._columns(_LETTERS) if name != "seq"]
        template = self._connection.execute(f"SELECT {', '.join(columns)} FROM {_LETTERS}").fetchone()
        self._template: dict[str, Any] = dict(zip(columns, template, strict=True))
        self._insert = _insert(_LETTERS, columns)
        keys = [name for name, is_key in self._columns(_COUNTS) if is_key]
        sums = [name for name, is_key in self._columns(_COUNTS) if not is_key]
        self._add = (
            f"{_insert(_COUNTS, keys + sums)} ON CONFLICT ({', '.join(keys)}) DO UPDATE SET "
            + ", ".join(f"{name} = {name} + excluded.{name}" for name in sums)
        )
        counted = self._connection.execute(f"SELECT {', '.join(keys + sums)} FROM {_COUNTS}").fetchone()
        self._key: Row = counted[: len(keys)]
        self._sums: Row = counted[len(keys) :]
        self._made = 0

    def _columns(self, table: str) -> list[tuple[str, bool]]:
        found = self._connection.execute(f"PRAGMA table_info({table})").fetchall()
        return [(name, bool(key)) for _, name, _, _, _, key in found]

    def fresh_row(self) -> Row:
        """Return a copy of the template under new ids, a microsecond later than the last one."""
        self._made += 1
        values = dict(self._template)
        for name in _FRESH_IDS:
            values[name] = new_id()
        for name, value in self._template.items():
            if name.endswith("_us") and value is not None:
                values[name] = value + self._made
        return tuple(values.values())

    def commit(self, rows: Sequence[Row]) -> None:
        """Write rows and their counter row, and return when the disk has them."""
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        self._connection.executemany(self._insert, rows)
        execute(self._add, (*self._key, *[value * len(rows) for value in self._sums]))
        execute("COMMIT")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class RawWriter:
    """A thread that commits together what has gathered while it committed the last batch."""

    def __init__(self, database: RawDatabase) -> None:
        self._database = database
        self._loop = asyncio.get_running_loop()
        self._gathered: SimpleQueue[_Write | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="raw-writer", daemon=True)
        self._thread.start()

    async def write(self, row: Row) -> None:
        """Return when the row is durable."""
        written: asyncio.Future[None] = self._loop.create_future()
        self._gathered.put(_Write(row, written))
        await written

    def stop(self) -> None:
        """End the thread when it has written everything."""
        self._gathered.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            batch = self._batch()
            writes = [write for write in batch if write is not None]
            if writes:
                self._database.commit([write.row for write in writes])
                self._loop.call_soon_threadsafe(_answer, writes)
            if len(writes) < len(batch):
                return

    def _batch(self) -> list[_Write | None]:
        batch = [self._gathered.get()]
        while len(batch) < _MOST_ROWS:
            try:
                batch.append(self._gathered.get_nowait())
            except Empty:
                break
        return batch


class FreshRows:
    """Rows that are made before the clock runs."""

    def __init__(self, database: RawDatabase) -> None:
        self._database = database
        self._rows: deque[Row] = deque()
        self.take = self._rows.popleft

    def prepare(self, count: int) -> None:
        """Make that many rows."""
        self._rows.extend(self._database.fresh_row() for _ in range(count))


def _answer(writes: Sequence[_Write]) -> None:
    for write in writes:
        write.written.set_result(None)


def _insert(table: str, columns: Sequence[str]) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
