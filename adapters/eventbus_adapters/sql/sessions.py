"""Deliveries in a transaction of the application's own: with its session, its connection and its commit."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy.exc import InvalidRequestError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session

from eventbus_adapters.sql.adding import accept
from eventbus_adapters.sql.counts import Deltas
from eventbus_adapters.sql.inserting import lines_of
from eventbus_adapters.sql.locking import lock
from eventbus_adapters.sql.postgres.failures import state_of
from eventbus_dlq.errors import InvalidSession

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection

    from eventbus_adapters.sql.after_commit import AfterCommit
    from eventbus_adapters.sql.encoding import Value
    from eventbus_adapters.sql.homes import Home
    from eventbus_dlq.letter import DeadLetter
    from eventbus_dlq.store import Kept

_AUTOCOMMIT = "AUTOCOMMIT"
_ABORTED = "25P02"  # PostgreSQL's word for a transaction in which a statement has failed
_FAILED = "the session's transaction has failed; roll it back first"


class Guest:
    """Deliveries on their way into a session's transaction.

    Args:
        deliveries: what is to be kept.
        rows: the row that each of them would be.
        home: the store's database, on which the session has to be.
        after_commit: told of the transaction.
    """

    def __init__(
        self,
        deliveries: Sequence[DeadLetter],
        rows: list[tuple[Value, ...]],
        *,
        home: Home,
        after_commit: AfterCommit,
    ) -> None:
        self._deliveries = deliveries
        self._rows = rows
        self._home = home
        self._after_commit = after_commit

    async def enter_async(self, session: object) -> Sequence[Kept]:
        """Write the deliveries in the transaction of an ``AsyncSession``; return where each is kept.

        Raises:
            InvalidSession: it cannot take them in; nothing was written.
            StoreUnavailable: the database failed.
        """
        return await _asynchronous(session).run_sync(self._enter)

    def enter(self, session: object) -> Sequence[Kept]:
        """Do the same with a ``Session``."""
        return self._enter(_synchronous(session))

    def _enter(self, session: Session) -> Sequence[Kept]:
        with self._told():
            connection = _connection_of(session)
            self._check(session, connection)
            with _all_or_nothing(connection):
                deltas = Deltas()
                lock(connection, lines_of(self._rows), ())
                kept = accept(connection, deltas, self._deliveries, self._rows)
                deltas.write(connection)
        self._after_commit.note(session, connection)
        return kept

    def _check(self, session: Session, connection: Connection) -> None:
        dialect = connection.dialect.name
        if dialect != self._home.dialect:
            raise InvalidSession(
                f"the session is on a {dialect!r} database, and the store is on a {self._home.dialect!r} "
                "one; give both the same database, or publish without session="
            )
        _refuse_autocommit(connection)
        if not self._after_commit.has_work(session):  # which has begun a transaction
            _refuse_savepoint_that_commits(connection)
        ordered = any(it.ordering_key is not None for it in self._deliveries)
        self._home.check(connection, ordered=ordered)

    @contextmanager
    def _told(self) -> Generator[None]:
        try:
            yield
        except InvalidRequestError as error:  # closed, without a database, used by two tasks at once
            raise InvalidSession(f"the session cannot take deliveries in: {error}") from error
        except (SQLAlchemyError, OSError) as error:
            if state_of(error) == _ABORTED:
                raise InvalidSession(_FAILED) from error
            raise self._home.unavailable(error) from error


def _asynchronous(session: Any) -> AsyncSession:
    if isinstance(session, async_scoped_session):
        session = cast("async_scoped_session[AsyncSession]", session)()
    if isinstance(session, Session | scoped_session):
        raise InvalidSession(
            "publish(session=) takes an AsyncSession, and this is a synchronous one; "
            "use publish_in(session, event)"
        )
    if not isinstance(session, AsyncSession):
        raise InvalidSession(f"publish(session=) takes an AsyncSession of SQLAlchemy, not {session!r}")
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise InvalidSession(
            "SQLAlchemy's AsyncSession runs on asyncio alone; use publish_in with a Session"
        ) from None
    return session


def _synchronous(session: Any) -> Session:
    if isinstance(session, scoped_session):
        session = cast("scoped_session[Session]", session)()
    if isinstance(session, AsyncSession | async_scoped_session):
        raise InvalidSession(
            "publish_in takes a synchronous Session, and this is an AsyncSession; "
            "use await publish(event, session=session)"
        )
    if not isinstance(session, Session):
        raise InvalidSession(f"publish_in takes a Session of SQLAlchemy, not {session!r}")
    return session


def _connection_of(session: Session) -> Connection:
    if not session.is_active:
        raise InvalidSession(_FAILED)
    return session.connection()


def _refuse_autocommit(connection: Connection) -> None:
    """Let a connection pass whose writes wait for a commit, or raise ``InvalidSession``."""
    pooled: Any = connection.connection
    commits = connection.get_execution_options().get("isolation_level") == _AUTOCOMMIT
    if connection.dialect.name == "sqlite":
        driver = pooled.driver_connection
        alone = driver.isolation_level is None or getattr(driver, "autocommit", None) is True
        commits = commits or (alone and not driver.in_transaction)  # else it was begun by hand
    else:
        commits = commits or connection.dialect.detect_autocommit_setting(pooled.dbapi_connection)
    if commits:
        raise InvalidSession(
            "the session is in AUTOCOMMIT, so a rollback would not take the deliveries back; give it an "
            "engine with another isolation_level, or publish without session="
        )


def _refuse_savepoint_that_commits(connection: Connection) -> None:
    """Refuse a savepoint around which sqlite3 has begun no transaction, as far as one can know.

    Left to itself it begins one before the first write, and not before a savepoint, whose release is the
    commit then. Nothing tells whether there was a write.
    """
    if connection.dialect.name != "sqlite" or not connection.in_nested_transaction():
        return
    driver: Any = connection.connection.driver_connection
    if driver.isolation_level is not None and getattr(driver, "autocommit", None) is not False:
        raise InvalidSession(
            "the session is in a savepoint, and sqlite3 may have begun no transaction around it: its release "
            "would commit the deliveries, whatever becomes of the session; publish outside of the savepoint, "
            "or have the engine begin transactions by itself, as SQLAlchemy's documentation of the SQLite "
            "dialect says under 'Enabling Non-Legacy SQLite Transactional Modes'"
        )


def _all_or_nothing(connection: Connection) -> AbstractContextManager[Any]:
    """Take back what a failing block has written. PostgreSQL does so by itself: the transaction fails."""
    return connection.begin_nested() if connection.dialect.name == "sqlite" else nullcontext()
