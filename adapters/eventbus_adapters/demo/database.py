"""The application's own SQLite file: one connection, and one commit for all who ask at the same time."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
from anyio import to_thread

if TYPE_CHECKING:
    from pathlib import Path

Work = Callable[[sqlite3.Connection], object]
"""What is to be written: takes the connection, within a transaction that is not its own to end."""


class _Batch:
    """What is committed together: the work of each caller, and the error of each whose work failed."""

    __slots__ = ("errors", "settled", "works")

    def __init__(self) -> None:
        self.works: list[Work] = []
        self.errors: dict[int, BaseException] = {}
        self.settled = anyio.Event()


class Database:
    """Writes for many handlers at a time; made by :meth:`open`.

    Every caller waits until its own work is committed. While one commit runs in a thread, the work of
    the other callers gathers, and the next commit takes all of it: hundreds of handlers cost little
    more than one.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._gathering = _Batch()
        self._turn = anyio.Lock()

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path, schema: str) -> AsyncGenerator[Database, None]:
        """Make the file with the tables of ``schema``, and close it at the end.

        Raises:
            sqlite3.Error: the file cannot be made, or has tables already.
        """
        connection = await to_thread.run_sync(_connect, path, schema)
        try:
            yield cls(connection)
        finally:
            connection.close()

    async def write(self, work: Work) -> None:
        """Run ``work`` and return when it is committed.

        The work of a caller that is cancelled meanwhile may be done all the same.

        Raises:
            sqlite3.Error: its constraint or its statement failed, or the commit did; nothing of it is kept.
        """
        batch = self._gathering
        place = len(batch.works)
        batch.works.append(work)
        if place == 0:
            await self._commit(batch)
        else:
            await batch.settled.wait()
        if place in batch.errors:
            raise batch.errors[place]

    async def _commit(self, batch: _Batch) -> None:
        """Commit a batch when its turn has come: what the first of its callers does for all of them."""
        with anyio.CancelScope(shield=True):  # the others have not been cancelled
            async with self._turn:
                self._gathering = _Batch()
                try:
                    await to_thread.run_sync(self._run, batch)
                finally:
                    batch.settled.set()

    async def read(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Return the rows of a query, of what is committed."""

        def fetch() -> list[tuple[Any, ...]]:
            return self._connection.execute(statement, parameters).fetchall()

        async with self._turn:
            return await to_thread.run_sync(fetch)

    def _run(self, batch: _Batch) -> None:
        """Do a batch in one transaction. The lock keeps other threads off the connection."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for place, work in enumerate(batch.works):
                self._apply(batch, place, work)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:  # nothing is kept: not of those either that had no error of their own
            for place in range(len(batch.works)):
                batch.errors.setdefault(place, error)
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _apply(self, batch: _Batch, place: int, work: Work) -> None:
        """Do the work of one caller, or nothing of it: its neighbours are not to suffer."""
        self._connection.execute("SAVEPOINT one")
        try:
            work(self._connection)
        except Exception as error:
            batch.errors[place] = error
            self._connection.execute("ROLLBACK TO one")
        self._connection.execute("RELEASE one")


def _connect(path: Path, schema: str) -> sqlite3.Connection:
    # Any worker thread may use the connection: the lock lets in one at a time.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(schema)
    except sqlite3.Error:
        connection.close()
        raise
    return connection
