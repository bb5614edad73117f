"""A store in a file of its own, and a hand in that file beside it."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.adapters.sql.places import Place, place_of
from tests.adapters.sql.tracing import traced

from eventbus_adapters.sql import SqlStore


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Give a database without any tables."""
    with place_of(request.param, tmp_path) as found:
        yield found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "letters.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqlStore]:
    store = SqlStore(f"sqlite+aiosqlite:///{path}", busy_timeout=0.5)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def by_hand(path: Path) -> Iterator[sqlite3.Connection]:
    """Connect as somebody else; every statement commits by itself."""
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
        yield connection


@pytest.fixture
def statements(store: SqlStore) -> Iterator[list[str]]:
    """Every statement that the writer runs, as SQLite itself tells of it, with its parameters in it."""
    with traced(store) as seen:
        yield seen
