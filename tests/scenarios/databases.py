"""The databases that the processes of a shop share: an SQLite file or a place in PostgreSQL."""

from __future__ import annotations

import functools
import itertools
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import psycopg
from addresses import plain
from tests.postgres_server import PrivateServer, schemas

KINDS = ("sqlite", "postgres")
_numbers = itertools.count(1)


class Database(Protocol):
    """A database that is empty at first, and can be down.

    Attributes:
        url: where it is, for who looks into it.
        address: where it is, for the processes of the shop.
        impatient: options of a store that soon gives up when the database is down.
    """

    url: str
    address: str
    impatient: Mapping[str, Any]

    def takes_writes(self) -> bool:
        """Tell whether nobody keeps others from writing, now and until he goes on."""
        ...

    def down(self) -> AbstractContextManager[None]:
        """Take no writes within the block."""
        ...


class File:
    """An SQLite file. It is down while somebody else keeps writing to it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "shop.db"
        self.url = self.address = f"sqlite:///{self.path}"
        self.impatient: Mapping[str, Any] = {"busy_timeout": 0.1}

    def takes_writes(self) -> bool:
        try:
            with self.down(patience=0.1):
                return True
        except sqlite3.OperationalError:
            return False

    @contextmanager
    def down(self, *, patience: float = 30.0) -> Iterator[None]:
        connection = sqlite3.connect(self.path, timeout=patience, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield
        finally:
            connection.close()


class Shared:
    """A schema on the server of all tests, or on the one that ``EVENTBUS_TEST_POSTGRES`` names."""

    def __init__(self, folder: Path) -> None:
        self.url = self.address = schemas().url(folder)
        self.impatient: Mapping[str, Any] = {"timeout": 1.0}

    def takes_writes(self) -> bool:
        return True  # the server ends transactions that go on for too long

    def down(self) -> AbstractContextManager[None]:
        raise NotImplementedError("others use this server: ask for the fixture database_that_stops")


class Stoppable:
    """A database on a server that may be stopped. It is down while the server is.

    Attributes:
        server: the server, which other tests use before and after.
    """

    def __init__(self) -> None:
        self.server = stoppable_server()
        self._name = f"shop_{next(_numbers)}"
        with psycopg.connect(_plain(self.server.url()), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {self._name}".encode())
        self.url = self.server.url(self._name)
        self.address = self.through(self.server.port)
        self.impatient: Mapping[str, Any] = {"timeout": 1.0}

    def through(self, port: int) -> str:
        """Return the address for those who go by TCP through a proxy that listens on ``port``."""
        return self.server.tcp_url(port=port, database=self._name)

    def takes_writes(self) -> bool:
        return True

    @contextmanager
    def down(self) -> Iterator[None]:
        self.server.stop()
        try:
            yield
        finally:
            self.server.start()


@functools.cache
def stoppable_server() -> PrivateServer:
    """Return the one server that tests of this folder may stop; it runs."""
    import atexit

    server = PrivateServer()
    atexit.register(server.remove)
    server.start()
    return server


def _plain(url: str) -> str:
    return plain(url).replace("+psycopg", "", 1)
