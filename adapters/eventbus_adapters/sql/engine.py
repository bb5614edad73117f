"""One SQLite file: how it is opened, and how a thread holds its connection to it."""

from __future__ import annotations

import math
import os
import random
import sqlite3
import time
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, get_args
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from eventbus_adapters.sql.driver import OWN
from eventbus_adapters.sql.failures import unavailable
from eventbus_adapters.sql.schema import prepare
from eventbus_dlq.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

Synchronous: TypeAlias = Literal["FULL", "NORMAL"]
Mode: TypeAlias = Literal["write", "read"]

_MAX_BUSY_SECONDS = 2_000_000.0  # SQLite counts milliseconds in 31 bits
_LOCK_POLL = (0.0001, 0.0007)  # seconds, from and to
_PRIMARY = 0xFF  # an extended result code keeps the primary one in its lowest byte
_CACHE_KIB = {"write": 65_536, "read": 8_192}
_NOT_UTF_8 = "Could not decode to UTF-8"  # sqlite3 has no code for it
_BEGIN = {"write": "BEGIN IMMEDIATE", "read": "BEGIN"}


class Database:
    """An SQLite file and the options it is opened with.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path, *, synchronous: Synchronous, busy_timeout: float) -> None:
        if synchronous not in get_args(Synchronous):
            raise ValueError(f"synchronous={synchronous!r} must be 'FULL' or 'NORMAL'")
        if not (math.isfinite(busy_timeout) and 0 <= busy_timeout <= _MAX_BUSY_SECONDS):
            raise ValueError(
                f"busy_timeout={busy_timeout!r} must be seconds from 0 to {_MAX_BUSY_SECONDS:.0f}"
            )
        self.path = path
        self._synchronous = synchronous
        self._busy_timeout = busy_timeout
        self._engines: dict[Mode, Engine] = {"write": self._engine("write"), "read": self._engine("read")}

    def __str__(self) -> str:
        return str(self.path)

    def create(self) -> None:
        """Create what is missing of file and tables, and check the rest.

        Raises:
            StoreUnavailable: the file cannot be written, or its tables are not the ones of this code.
        """
        self.create_file()
        try:
            with self._engines["write"].begin() as connection:
                prepare(connection, self)
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise unavailable(self, error) from error

    def create_file(self) -> None:
        """Create the file if it is missing, and have it use a write-ahead log; the tables are left alone.

        Raises:
            StoreUnavailable: the file cannot be written.
        """
        try:
            self._create_file()
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise unavailable(self, error) from error

    def unavailable(self, error: BaseException) -> StoreUnavailable:
        """Return what a caller is told of an error."""
        return unavailable(self, error)

    def _create_file(self) -> None:
        if self.path.is_dir():
            raise StoreUnavailable(f"{self.path} is a directory; name a file in it", retryable=False)
        if not self.path.parent.is_dir():
            raise StoreUnavailable(
                f"the directory {self.path.parent} of the dead-letter store does not exist; create it",
                retryable=False,
            )
        connection = self._dbapi_connection("rwc")
        try:
            connection.execute("PRAGMA schema_version").fetchone()  # the file is a database, or empty
            self._enter_wal(connection)
        finally:
            connection.close()

    def connect(self, mode: Mode) -> Connection:
        """Open a connection for the calling thread; the file must exist."""
        return self._engines[mode].connect()

    def identity(self) -> tuple[int, int] | None:
        """Return what tells the file from another one that takes its place, or None when it is gone."""
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _dbapi_connection(self, access: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{quote(str(self.path))}?mode={access}",
            uri=True,
            timeout=self._busy_timeout,
            isolation_level=None,  # transactions are begun by the engine, see _begin
        )
        replace_what_is_not_utf_8(connection)
        return connection

    def _engine(self, mode: Mode) -> Engine:
        engine = create_engine(
            "sqlite://",
            creator=partial(self._connected, mode),
            poolclass=NullPool,
            execution_options={OWN: True},
        )
        engine.dialect.statement_compiler = _HintedCompiler

        def begin(connection: Connection) -> None:
            opened = cast("sqlite3.Connection", connection.connection.dbapi_connection)
            self._patiently(lambda: opened.execute(_BEGIN[mode]))

        event.listen(engine, "begin", begin)
        return engine

    def _connected(self, mode: Mode) -> sqlite3.Connection:
        connection = self._dbapi_connection("rw")
        connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB[mode]}")
        if mode == "write":
            connection.execute(f"PRAGMA synchronous={self._synchronous}")
            connection.execute("PRAGMA wal_autocheckpoint=10000")
            # It waits for its turn when it begins, and in no other way: see _patiently.
            connection.execute("PRAGMA busy_timeout=0")
            connection.text_factory = str  # the fastest; see Held.repeats
        connection.create_function("eventbus_contains", -1, _contains, deterministic=True)
        return connection

    def _enter_wal(self, connection: sqlite3.Connection) -> None:
        """Switch to write-ahead logging: readers and the writer then do not wait for each other."""
        mode = self._patiently(lambda: connection.execute("PRAGMA journal_mode=WAL").fetchone()[0])
        if mode != "wal":
            raise StoreUnavailable(
                f"the dead-letter store {self} cannot use a write-ahead log here (it stays {mode!r}); "
                "put it on a local disk",
                retryable=False,
            )

    def _patiently(self, ask: Callable[[], Any]) -> Any:
        """Ask again while the file is locked.

        SQLite does not wait by itself when the log's mode changes. For a transaction it would, but it asks
        the more rarely the longer it has waited, up to a tenth of a second: among many processes those
        that wait longest lose to those that have just come, until one of them gives up.
        """
        deadline = time.monotonic() + self._busy_timeout
        while True:
            try:
                return ask()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & _PRIMARY != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                    raise
                time.sleep(random.uniform(*_LOCK_POLL))  # noqa: S311  # so that those who wait take turns


def replace_what_is_not_utf_8(connection: Any) -> None:
    """Have such text read with replacement characters, instead of breaking what reads it."""
    connection.text_factory = partial(str, encoding="utf-8", errors="replace")


class Held:
    """The connection of one thread: opened when it is needed, and given up when it broke."""

    def __init__(self, database: Database, mode: Mode) -> None:
        self._database = database
        self._mode: Mode = mode
        self._connection: Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._replaces = False

    @contextmanager
    def transaction(self) -> Generator[Connection]:
        """Run a block in one transaction of the thread's connection: committed, or rolled back.

        Raises:
            StoreUnavailable: no transaction could begin; the block did not run.
        """
        connection = self._begun()
        try:
            yield connection
            connection.commit()
        except (SQLAlchemyError, sqlite3.Error):
            self.close()
            raise
        except BaseException:
            connection.rollback()
            raise

    def repeats(self, error: Exception, tries: int) -> bool:
        """Say yes when a text is not UTF-8, for the first time: from then on such texts are read too."""
        cause = error.orig if isinstance(error, DBAPIError) else error
        if self._replaces or not (isinstance(cause, sqlite3.OperationalError) and _NOT_UTF_8 in str(cause)):
            return False
        self._replaces = True
        return True

    def unavailable(self, error: BaseException) -> StoreUnavailable:
        """Return what a caller is told of an error."""
        return unavailable(self._database, error)

    def close(self) -> None:
        """Close the connection; the next transaction opens another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(SQLAlchemyError, sqlite3.Error):  # it is given up, in whatever state it is
                connection.close()

    def _begun(self) -> Connection:
        try:
            connection = self._ready()
            connection.begin()
        except (SQLAlchemyError, sqlite3.Error) as error:
            self.close()
            raise unavailable(self._database, error) from error
        return connection

    def _ready(self) -> Connection:
        found = self._database.identity()
        if found is None:
            self.close()
            raise StoreUnavailable(
                f"the dead-letter store {self._database} is gone; put the file back, or reopen the store",
                retryable=False,
            )
        if found != self._identity:  # another file took its place: what is written to the old one is lost
            self.close()
        if self._connection is None:
            self._connection = self._database.connect(self._mode)
            self._identity = found
            if self._replaces:
                replace_what_is_not_utf_8(self._connection.connection.dbapi_connection)
        return self._connection


class _HintedCompiler(SQLiteCompiler):
    """Renders ``with_hint(table, "INDEXED BY name", "sqlite")``, which the dialect itself drops."""

    def get_from_hint_text(self, table: Any, text: str | None) -> str | None:
        return text


def _contains(text: str, *values: object) -> bool:
    """Tell whether a lower-case text is part of one of ``values``, in upper or lower case."""
    return any(isinstance(value, str) and text in value.lower() for value in values)
