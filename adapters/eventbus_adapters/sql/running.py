"""What the store hands its work to, whichever database it is on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from anyio import to_thread

from eventbus_adapters.sql.bridge import waiter
from eventbus_adapters.sql.engine import Database, Synchronous
from eventbus_adapters.sql.homes import Home, SqliteHome
from eventbus_adapters.sql.readers import THREADS, Readers
from eventbus_adapters.sql.url import target_of
from eventbus_adapters.sql.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Self

    from eventbus_adapters.sql.batches import WriteJob
    from eventbus_adapters.sql.work import Read


class Running(Protocol):
    """What runs between an open and a close of a store."""

    @property
    def home(self) -> Home:
        """Tells whether a connection of the application's own is on the same database."""
        ...

    def write(self, job: WriteJob) -> None:
        """Hand over a write; jobs of one caller are carried out in the order of the calls.

        Raises:
            StoreUnavailable: the store is being closed.
        """
        ...

    def read(self, job: Read) -> None:
        """Hand over a read; it may overtake writes that were not answered yet.

        Raises:
            StoreUnavailable: the store is being closed.
        """
        ...

    def on_work(self, wake: Callable[[], None] | None) -> None:
        """Call ``wake`` when another process may have made something claimable, if that can be known."""
        ...

    def tell(self) -> None:
        """Tell other processes, soon, that something became claimable, if they can be told."""
        ...

    async def stop(self) -> None:
        """Finish what was handed over, then end every thread."""
        ...


class OnSqlite:
    """The threads of a store on an SQLite file."""

    def __init__(self, database: Database) -> None:
        self.home = SqliteHome(database.path, database.unavailable)
        self.writer = Writer(database)
        self.readers = Readers(database)
        self.write = self.writer.put
        self.read = self.readers.put

    @classmethod
    async def start(cls, database: Database) -> Self:
        """Create what is missing of file and tables, and start.

        Raises:
            StoreUnavailable: the file cannot be written, or its tables are not the ones of this code.
        """
        await to_thread.run_sync(database.create)
        return cls(database)

    def on_work(self, wake: Callable[[], None] | None) -> None:
        """Do nothing: a file tells nobody that it has changed."""

    def tell(self) -> None:
        """Do nothing, for the same reason."""

    async def stop(self) -> None:
        """Finish what was handed over, then end every thread."""
        written, read = waiter(), [waiter() for _ in range(THREADS)]
        self.readers.stop(read)
        try:
            for waiting in read:
                await waiting.wait()
        finally:  # the writer's connection is the last, else the write-ahead log would stay behind
            self.writer.stop(written)
        await written.wait()


@dataclass(frozen=True, slots=True)
class Backend:
    """The database of a store.

    Attributes:
        database: what messages call it.
        judges_leases: whether its own clock tells which leases have run out.
        start: makes it ready and returns what runs then.
    """

    database: object
    judges_leases: bool
    start: Callable[[], Awaitable[Running]]


def backend_of(url: str, *, synchronous: Synchronous, busy_timeout: float, timeout: float) -> Backend:
    """Return what serves ``url``.

    Raises:
        ValueError: the URL names no such database, or an option has no such value.
        ModuleNotFoundError: what PostgreSQL needs is not installed.
    """
    target = target_of(url)
    if isinstance(target, Path):
        file = Database(target, synchronous=synchronous, busy_timeout=busy_timeout)
        return Backend(file, judges_leases=False, start=partial(OnSqlite.start, file))
    from eventbus_adapters.sql.postgres.database import PostgresDatabase  # with asyncpg and greenlet
    from eventbus_adapters.sql.postgres.running import OnPostgres

    server = PostgresDatabase(target, synchronous=synchronous, busy_timeout=busy_timeout, timeout=timeout)
    return Backend(server, judges_leases=True, start=partial(OnPostgres.start, server))
