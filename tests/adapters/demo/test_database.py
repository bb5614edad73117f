"""The demo's own database: many writers, one commit, and no one suffers for another."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import anyio
import pytest

from eventbus_adapters.demo.database import Database

SCHEMA = "CREATE TABLE t (n INTEGER PRIMARY KEY, twin INTEGER UNIQUE)"


def insert(number: int, twin: int | None = None) -> object:
    def work(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO t VALUES (?, ?)", (number, twin))

    return work


async def test_what_is_written_is_there_for_everybody(tmp_path: Path) -> None:
    async with Database.open(tmp_path / "own.db", SCHEMA) as database:
        await database.write(insert(1))
        with sqlite3.connect(tmp_path / "own.db") as other:
            assert other.execute("SELECT n FROM t").fetchall() == [(1,)]
        other.close()
        assert await database.read("SELECT n FROM t WHERE n = ?", 1) == [(1,)]


async def test_many_writers_share_commits_and_all_is_kept(tmp_path: Path) -> None:
    commits: list[str] = []
    async with Database.open(tmp_path / "own.db", SCHEMA) as database:
        database._connection.set_trace_callback(
            lambda statement: commits.append(statement) if statement == "COMMIT" else None
        )
        async with anyio.create_task_group() as tasks:
            for number in range(200):
                tasks.start_soon(database.write, insert(number))
        assert await database.read("SELECT count(*) FROM t") == [(200,)]
    assert len(commits) < 20


async def test_one_that_fails_gets_its_own_error_and_the_others_are_kept(tmp_path: Path) -> None:
    failed: list[int] = []
    async with Database.open(tmp_path / "own.db", SCHEMA) as database:

        async def write(number: int) -> None:
            try:
                await database.write(insert(number, number // 2))
            except sqlite3.IntegrityError:
                failed.append(number)

        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(write, number)
        ((kept,),) = await database.read("SELECT count(*) FROM t")
    assert (kept, len(failed)) == (10, 10)


async def test_work_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    def work(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO t VALUES (1, 1)")
        raise LookupError("no")

    async with Database.open(tmp_path / "own.db", SCHEMA) as database:
        with pytest.raises(LookupError):
            await database.write(work)
        assert await database.read("SELECT * FROM t") == []


async def test_a_commit_that_fails_is_everybody_s_error(tmp_path: Path) -> None:
    deferred = """
        CREATE TABLE p (n INTEGER PRIMARY KEY);
        CREATE TABLE c (n REFERENCES p DEFERRABLE INITIALLY DEFERRED);
    """

    def orphan(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO c VALUES (9)")

    async with Database.open(tmp_path / "own.db", deferred) as database:
        database._connection.execute("PRAGMA foreign_keys = ON")
        with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
            await database.write(orphan)
        assert await database.read("SELECT * FROM c") == []
        await database.write(lambda connection: connection.execute("INSERT INTO p VALUES (1)"))


async def test_a_locked_file_is_an_error_and_the_next_write_goes_on(tmp_path: Path) -> None:
    async with Database.open(tmp_path / "own.db", SCHEMA) as database:
        database._connection.execute("PRAGMA busy_timeout = 0")
        other = sqlite3.connect(tmp_path / "own.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            await database.write(insert(1))
        other.execute("ROLLBACK")
        other.close()
        await database.write(insert(2))
        assert await database.read("SELECT n FROM t") == [(2,)]


async def test_a_writer_that_is_cancelled_takes_nobody_with_it(tmp_path: Path) -> None:
    async with Database.open(tmp_path / "own.db", SCHEMA) as database:
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as scope:
                scope.cancel()
                await database.write(insert(1))
            tasks.start_soon(database.write, insert(2))
            tasks.start_soon(database.write, insert(3))
        rows = {number for (number,) in await database.read("SELECT n FROM t")}
    assert rows >= {2, 3}


async def test_a_file_that_has_the_tables_already_is_refused(tmp_path: Path) -> None:
    async with Database.open(tmp_path / "own.db", SCHEMA):
        pass
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        async with Database.open(tmp_path / "own.db", SCHEMA):
            raise AssertionError("opened")
