"""LISTEN and NOTIFY: how processes on one database wake each other as soon as there is work.

A notice is a hint. It is sent after the commit, on a connection that is there for nothing else: within the
transaction it would make all commits of the database queue up. Whoever misses one finds the work by asking
from time to time, so that a lost connection is no error; it is made anew.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from eventbus.log import Log
from eventbus_adapters.sql.postgres.driver import errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from eventbus_adapters.sql.postgres.database import PostgresDatabase
    from eventbus_adapters.sql.postgres.driver import Driver

_log = Log()

CHANNEL = "'eventbus_' || CAST(CAST('eventbus_meta' AS regclass) AS oid)"
"""SQL for the name of the channel: the table's own number tells schemas of one database apart."""

_SPACING = 0.01  # seconds between two notices, at least
_CHECK = 20.0  # seconds after which a silent connection is tried
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds between attempts to connect


class Notices:
    """Tells other processes of work, and hears of theirs. All of it runs in one event loop.

    Args:
        database: where; the connection is made when there is something to tell or somebody to wake.
    """

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database
        self._wake: Callable[[], None] | None = None
        self._wanted = asyncio.Event()
        self._news = asyncio.Event()
        self._listens = False
        self._told_of_loss = False

    def tell(self) -> None:
        """Have the other processes told that something became claimable."""
        self._news.set()
        self._wanted.set()

    def on_work(self, wake: Callable[[], None] | None) -> None:
        """Call ``wake`` when this begins to listen, and whenever another connection tells of work."""
        self._wake = wake
        if wake is not None:
            self._wanted.set()
            if self._listens:
                wake()  # as when a connection is made: what was told before was not heard

    async def run(self) -> None:
        """Keep a connection, for ever."""
        await self._wanted.wait()
        pause = _FIRST_PAUSE
        while True:
            try:
                connection = await self._database.connect()
                try:
                    pause = _FIRST_PAUSE
                    await self._serve(connection)
                finally:
                    self._listens = False
                    connection.terminate()
            except errors() as error:
                self._tell_of_loss(error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _serve(self, connection: Driver) -> None:
        """Listen and tell, until the connection is lost."""
        channel = await connection.fetchval(f"SELECT {CHANNEL}")
        connection.add_termination_listener(lambda _: self._news.set())
        await connection.add_listener(channel, self._heard)
        self._listens = True
        self._told_of_loss = False
        self._call()  # what was told before was not heard
        while not connection.is_closed():
            try:
                async with asyncio.timeout(_CHECK):
                    await self._news.wait()
            except TimeoutError:
                await connection.execute("SELECT 1")
                continue
            await connection.execute("SELECT pg_notify($1, '')", channel)
            self._news.clear()
            await asyncio.sleep(_SPACING)

    def _tell_of_loss(self, error: BaseException) -> None:
        """Log that work is found by asking alone: once, until somebody listens again."""
        if not self._told_of_loss:
            _log.info("store.notices_lost", error=str(self._database.unavailable(error)))
        self._told_of_loss = True

    def _heard(self, connection: Any, sender: int, _channel: str, _payload: object) -> None:
        if sender != connection.get_server_pid():
            self._call()

    def _call(self) -> None:
        wake = self._wake
        if wake is not None:
            wake()
