"""One PostgreSQL database: how it is reached, and how transactions on it begin and end."""

from __future__ import annotations

import asyncio
import math
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, cast, get_args
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine

from eventbus_adapters.sql.engine import Synchronous
from eventbus_adapters.sql.postgres import failures
from eventbus_adapters.sql.postgres.driver import Driver, connect, require_libraries
from eventbus_adapters.sql.statements import CALLERS_CLOCK
from eventbus_adapters.sql.url import secrets_of
from eventbus_dlq.errors import StoreUnavailable

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Generator

    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine import URL
    from sqlalchemy.ext.asyncio import AsyncEngine

    from eventbus_adapters.sql.schema import Identity

READERS = 4
"""How many reads run at a time."""

PATIENT_WRITERS = 2
"""How many jobs at a time wait for a sequence that somebody else has locked."""

# what arrives, what changes, the controls, the heartbeats and the upkeep have one each
_CONNECTIONS = READERS + PATIENT_WRITERS + 5
_MAX_SECONDS = 2_000_000.0  # PostgreSQL counts milliseconds in 31 bits
_MS = 1_000
_REPEATS = 3
_STATEMENTS = 3  # so many times what a statement may take, a whole transaction may
_GRACE = 1.0  # seconds: when a statement takes too long, the server is to say so itself
_SETTINGS = """
SELECT set_config('statement_timeout', $1, false), set_config('lock_timeout', $2, false),
    set_config('idle_in_transaction_session_timeout', $1, false), set_config('jit', 'off', false),
    set_config('enable_seqscan', 'off', false),
    set_config('tcp_keepalives_idle', '10', false), set_config('tcp_keepalives_interval', '5', false),
    set_config('tcp_keepalives_count', '4', false),
    CASE WHEN $3 THEN set_config('synchronous_commit', 'off', false)
         WHEN current_setting('synchronous_commit') = 'off'
         THEN set_config('synchronous_commit', 'on', false) END,
    CASE WHEN CAST(current_setting('server_version_num') AS INT) >= 170000
         THEN set_config('transaction_timeout', $4, false) END
"""
"""What a connection is set to. Plans are kept, and most rows come and go between two looks of ANALYZE: one
that was made for an empty table, and reads it whole, would be run when it is full of rows that are gone."""


class Interrupted(StoreUnavailable):
    """Nothing was committed, and the same transaction may well succeed at once."""


class Unreachable(StoreUnavailable):
    """There is no connection to be had: whoever else waits for one need not wait any longer."""


class PostgresDatabase:
    """A PostgreSQL database and the options it is used with.

    Args:
        url: where it is; asyncpg reads it, with everything that libpq knows as a parameter.
        synchronous: ``NORMAL`` does not wait for the server's disk.
        busy_timeout: seconds to wait for a lock that another transaction holds.
        timeout: seconds to wait for a connection, and for each statement. Three times as long after its
            beginning PostgreSQL 17 ends a transaction: else the locks of a process that stands still between
            parsing a statement and running it, which counts as busy, would last until it dies.

    Attributes:
        callers_clock: True to measure leases by the ``now`` of the callers instead of by the server's
            clock. It is there for tests, which turn that ``now``: in production, the clocks of two
            machines would then decide who owns a letter.
        identity: which database it is, once the store was open.
    """

    def __init__(self, url: URL, *, synchronous: Synchronous, busy_timeout: float, timeout: float) -> None:
        require_libraries()
        if synchronous not in get_args(Synchronous):
            raise ValueError(f"synchronous={synchronous!r} must be 'FULL' or 'NORMAL'")
        if not (math.isfinite(busy_timeout) and 0 <= busy_timeout <= _MAX_SECONDS):
            raise ValueError(f"busy_timeout={busy_timeout!r} must be seconds from 0 to {_MAX_SECONDS:.0f}")
        if not (math.isfinite(timeout) and 0 < timeout <= _MAX_SECONDS):
            raise ValueError(f"timeout={timeout!r} must be seconds up to {_MAX_SECONDS:.0f}, and more than 0")
        self._dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._secrets = secrets_of(url)
        self._shown = url.set(drivername="postgresql", password=None, query={}).render_as_string()
        self._synchronous = synchronous
        self._busy_timeout = busy_timeout
        self._timeout = timeout
        self._opened: WeakKeyDictionary[AbstractEventLoop, WeakSet[Driver]] = WeakKeyDictionary()
        self.callers_clock = False
        self.identity: Identity | None = None

    def __str__(self) -> str:
        return self._shown

    async def connect(self) -> Driver:
        """Open a connection of asyncpg's, with the settings of the store."""
        connection = await connect(self._dsn, timeout=self._timeout, command_timeout=self._timeout + _GRACE)
        self._opened.setdefault(asyncio.get_running_loop(), WeakSet()).add(connection)
        try:
            await connection.execute(
                _SETTINGS,
                str(max(1, round(self._timeout * _MS))),
                str(round(self._busy_timeout * _MS)),
                self._synchronous == "NORMAL",
                str(max(1, round(min(self._timeout * _STATEMENTS, _MAX_SECONDS) * _MS))),
            )
        except BaseException:
            connection.terminate()
            raise
        return connection

    def engine(self) -> AsyncEngine:
        """Return an engine for the running event loop; its connections are made as they are needed."""
        return create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self.connect,
            pool_size=_CONNECTIONS,
            max_overflow=0,
            pool_use_lifo=True,
            pool_timeout=self._timeout,
            hide_parameters=True,
            execution_options={CALLERS_CLOCK: self.callers_clock},
        )

    async def cut(self) -> None:
        """Let go of every connection of this event loop without waiting for the server."""
        for connection in list(self._opened.pop(asyncio.get_running_loop(), ())):
            if not connection.is_closed():
                connection.terminate()
        await asyncio.sleep(0)  # the loop closes what was terminated

    def unavailable(self, error: BaseException) -> StoreUnavailable:
        """Return what a caller is told of an error; the password is in no text."""
        return failures.unavailable(self._shown, self._secrets, error)


class Transactions:
    """Transactions on a pool's connections. It is called within ``greenlet_spawn``, as all of SQLAlchemy."""

    def __init__(self, database: PostgresDatabase, engine: Engine) -> None:
        self._database = database
        self._engine = engine
        self.unavailable = database.unavailable

    def repeats(self, error: Exception, tries: int) -> bool:
        """Tell whether a transaction that ended with ``error`` should be tried once more at once."""
        return isinstance(error, Interrupted) and tries < _REPEATS

    @contextmanager
    def transaction(self) -> Generator[Connection]:
        """Run a block in one transaction: committed, or rolled back.

        Raises:
            Interrupted: the connection broke before the commit, or another transaction was in the way.
            StoreUnavailable: the database is at fault, and not what the block asked for.
        """
        connection = self._connected()
        try:
            try:
                yield connection
            except BaseException as error:
                told = self._ended(connection, error)
                if told is error:
                    raise
                raise told from error
            self._commit(connection)
        finally:
            with suppress(SQLAlchemyError, OSError):  # it is given up, in whatever state it is
                connection.close()

    def _connected(self) -> Connection:
        try:
            connection = self._engine.connect()
            while _driver_of(connection).is_closed():  # it broke while it lay in the pool
                connection.invalidate()
                connection.close()
                connection = self._engine.connect()
        except Exception as error:  # whatever the network, asyncpg and the server can raise
            told = self.unavailable(error)
            raise Unreachable(str(told), retryable=told.retryable) from error
        return connection

    def _ended(self, connection: Connection, error: BaseException) -> BaseException:
        """Return what a transaction raises that was ended by ``error``."""
        meaning = failures.meaning_of(error)
        broken = not isinstance(error, Exception) or meaning.at_fault
        if not broken:
            try:
                connection.rollback()
            except (SQLAlchemyError, OSError) as worse:
                return self._ended(connection, worse)
            return error
        _give_up(connection)
        if not isinstance(error, Exception) or isinstance(error, StoreUnavailable):
            return error
        told = self.unavailable(error)
        if failures.is_conflict(error) or failures.is_lost(error):
            return Interrupted(str(told), retryable=told.retryable)
        return told

    def _commit(self, connection: Connection) -> None:
        try:
            connection.commit()
        except (SQLAlchemyError, OSError) as error:
            told = self.unavailable(error)
            if failures.is_conflict(error):
                raise Interrupted(str(told)) from error
            raise StoreUnavailable(
                f"{told}. Whether the last transaction was committed is not known; repeating it is safe",
                retryable=told.retryable,
            ) from error


def _driver_of(connection: Connection) -> Driver:
    return cast("Driver", connection.connection.driver_connection)


def _give_up(connection: Connection) -> None:
    """Leave nothing of a connection that may be broken: asking it to roll back could wait for ever."""
    with suppress(SQLAlchemyError, OSError):
        _driver_of(connection).terminate()
        connection.invalidate()
