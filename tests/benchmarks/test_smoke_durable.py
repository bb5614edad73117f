"""Both sides of the durable SQLite benchmarks do what they are timed for, and write the same rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest
from benchmarks import (
    claim_settle,
    claim_settle_retries,
    coming_home,
    due_backlog,
    durable_sqlite_huey,
    durable_sqlite_persist_queue,
    retry_worker,
    two_workers,
)
from benchmarks.durable import PUBLISHERS
from benchmarks.harness import Handler, Side, Sides
from benchmarks.stored import ACCEPTED, BATCH, PENDING, Filler, claim, settle, stored

OWN = {"seq", "id", "event_id", "correlation_id", "created_s"}

RIVALS: list[tuple[ModuleType, str]] = [
    (durable_sqlite_huey, "huey"),
    (durable_sqlite_persist_queue, "persistqueue"),
]


def table(path: Path, name: str) -> list[dict[str, Any]]:
    """Return the rows of a table, without what differs from letter to letter and from day to day."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        rows = [dict(row) for row in connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2, 3, 4, 5, 6, 7")]
    left_out = {
        it for it in (rows[0] if rows else ()) if it in OWN or it.endswith("_us") or it == "created_s"
    }
    return [{it: value for it, value in row.items() if it not in left_out} for row in rows]


def written(ours: Filler, theirs: Filler, name: str) -> Iterator[list[dict[str, Any]]]:
    for file in (ours, theirs):
        yield table(file.path, name)


async def run(sides: Sides, operations: int) -> None:
    for side in sides:
        side.prepare(operations)
        await side.run(operations)


@pytest.fixture
def anyio_backend() -> str:
    """Benchmarks run on asyncio, except those that say so."""
    return "asyncio"


async def test_first_runs_leave_nothing_on_either_side():
    async with stored(ACCEPTED) as files:
        await run(claim_settle.sides_on(files), 2 * BATCH)
        assert [*written(files.ours, files.theirs, "eventbus_dead_letters")] == [[], []]
        for counts in written(files.ours, files.theirs, "eventbus_dead_letter_counts"):
            assert {(row["letters"], row["attempts"]) for row in counts} == {(0, 0)}


async def test_retries_that_fail_again_are_the_same_rows_on_both_sides():
    async with stored(PENDING) as files:
        await run(claim_settle_retries.sides_on(files), BATCH)
        ours, theirs = written(files.ours, files.theirs, "eventbus_dead_letters")
        for row in (*ours, *theirs):
            assert row.pop("history").count(b'"error":"last"') == 2
        assert ours == theirs
        assert len(ours) == BATCH
        assert {(row["state"], row["attempts"], row["token"]) for row in ours} == {("pending", 2, 1)}
        ours, theirs = written(files.ours, files.theirs, "eventbus_dead_letter_counts")
        assert ours == theirs


async def test_what_is_put_off_is_not_claimed():
    async with stored(PENDING) as files:
        files.ours.fill(3)
        files.ours.put_off()
        files.ours.fill(2)
        claims = await claim(files.store, PENDING)
        await settle(files.store, claims)
        assert len(claims) == 2
        assert [row["state"] for row in table(files.ours.path, "eventbus_dead_letters")] == [
            *["pending"] * 3,
            *["resolved"] * 2,
        ]


async def test_what_is_due_is_drained_with_and_without_a_backlog():
    async with due_backlog.sides(not_due=30) as sides:
        await run(sides, 20)  # each checks how many it has settled


@pytest.mark.parametrize(("state", "left"), [(PENDING, ["resolved"] * 20), (ACCEPTED, [])])
async def test_a_worker_runs_all_there_is_and_keeps_what_had_failed(state: Any, left: list[str]):
    async with stored(state) as files:
        side = retry_worker.running(files.ours)
        side.prepare(20)
        await side.run(20)  # returns when its handler has run so often
        assert [row["state"] for row in table(files.ours.path, "eventbus_dead_letters")] == left


async def test_dead_letters_come_home_again_and_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(coming_home, "WAIT", 0.2)
    async with coming_home.home() as opened:
        for _ in range(2):
            assert 0 < await opened.round(3) < 5
        assert (await opened.bus.stats()).by_state == {"resolved": 6}


async def test_two_processes_and_one_drain_a_file():
    async with two_workers.sides() as sides:
        await run(sides, 2 * BATCH)  # each checks how many it has settled


async def test_a_worker_that_settles_something_else_is_noticed():
    async with due_backlog.sides(not_due=0) as sides:
        sides.ours.prepare(3)
        with pytest.raises(AssertionError, match="3 of 4 letters were settled"):
            await sides.ours.run(4)


class Counting:
    """Handlers that count their calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Handler:
        async def handle(event: object) -> None:
            self.calls += 1

        return handle


async def calls_of(side: Side, counting: Counting) -> int:
    before = counting.calls
    side.prepare(PUBLISHERS)
    await side.run(PUBLISHERS)
    return counting.calls - before


@pytest.mark.parametrize(
    "module", [module for module, rival in RIVALS if find_spec(rival)], ids=lambda module: module.__name__
)
def test_both_sides_process_every_event_once(module: Any):
    async def both() -> list[int]:
        counting = Counting()
        async with module.sides(counting) as sides:
            return [await calls_of(side, counting) for side in sides]

    assert anyio.run(both) == [PUBLISHERS, PUBLISHERS]


@pytest.mark.skipif(not find_spec("huey"), reason="huey is not installed")
def test_huey_syncs_as_sqlite_does_for_us(tmp_path: Path):
    from huey import SqliteHuey

    storage = SqliteHuey(filename=str(tmp_path / "huey.db"), fsync=True).storage
    assert storage.conn.execute("PRAGMA synchronous").fetchone() == (2,)
    storage.close()


@pytest.mark.skipif(not find_spec("persistqueue"), reason="persist-queue is not installed")
def test_persist_queue_syncs_as_sqlite_does_for_us(tmp_path: Path):
    from persistqueue import SQLiteAckQueue

    queue = SQLiteAckQueue(str(tmp_path / "queue"), multithreading=True)
    assert queue._putter.execute("PRAGMA synchronous").fetchone() == (2,)
    queue.close()
