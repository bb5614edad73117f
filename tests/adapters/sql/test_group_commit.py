"""Many callers, one writer: what is committed together, and what each of them is told."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
import structlog
import trio
from anyio.lowlevel import checkpoint
from letters import NOW, build_letter

from eventbus_adapters.sql import SqlStore
from eventbus_adapters.sql.batches import CROWD, Batches
from eventbus_adapters.sql.running import OnSqlite
from eventbus_dlq.errors import DeadLetterNotFound, StoreUnavailable
from eventbus_dlq.letter import DeadLetterState, Verb
from eventbus_dlq.query import DeadLetterQuery
from eventbus_dlq.store import DeadLetterStore

EVERYTHING = DeadLetterQuery.everything()


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note how many jobs each transaction tries to commit."""
    sizes: list[int] = []
    together = Batches._together

    def noted(self: Batches, jobs: list[Any]) -> list[Any]:
        sizes.append(len(jobs))
        return together(self, jobs)

    monkeypatch.setattr(Batches, "_together", noted)
    return sizes


@pytest.fixture
def lock(by_hand: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Connect as somebody who can hold the writer up."""
    yield by_hand
    if by_hand.in_transaction:
        by_hand.execute("ROLLBACK")


@pytest.fixture
async def patient(path: Path) -> Any:
    """Open a store that waits for the lock as long as a test may take."""
    store = SqlStore(f"sqlite:///{path}", busy_timeout=60)
    await store.open()
    yield store
    await store.close()


async def settle_down() -> None:
    """Let every task of this loop hand over its work."""
    for _ in range(20):
        await checkpoint()


async def test_what_gathers_during_a_commit_is_committed_together(
    patient: SqlStore, lock: sqlite3.Connection, batches: list[int]
) -> None:
    letters = [build_letter() for _ in range(40)]
    lock.execute("BEGIN IMMEDIATE")
    async with anyio.create_task_group() as tasks:
        for letter in letters:
            tasks.start_soon(patient.add, [letter])
        await settle_down()
        lock.execute("ROLLBACK")
    assert sum(batches) == 40
    assert len(batches) <= 3
    assert len((await patient.find(EVERYTHING)).items) == 40


async def test_a_crowd_has_what_it_hands_over_next_in_the_same_commit(
    patient: SqlStore, lock: sqlite3.Connection, batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    breathing, handed_over = threading.Event(), threading.Event()

    def breathe(_: float) -> None:
        breathing.set()
        assert handed_over.wait(10)

    monkeypatch.setattr("eventbus_adapters.sql.writer.sleep", breathe)
    lock.execute("BEGIN IMMEDIATE")
    async with anyio.create_task_group() as tasks:
        for _ in range(2 * CROWD):
            tasks.start_soon(patient.add, [build_letter()])
        await settle_down()
        lock.execute("ROLLBACK")
        assert await anyio.to_thread.run_sync(breathing.wait, 10)
        for _ in range(5):
            tasks.start_soon(patient.add, [build_letter()])
        await settle_down()
        handed_over.set()
    assert sum(batches) == 2 * CROWD + 5
    assert batches[-1] >= CROWD + 5


async def test_an_error_of_one_caller_is_not_the_error_of_the_others(
    patient: SqlStore, lock: sqlite3.Connection
) -> None:
    known = build_letter()
    await patient.add([known])
    fine, taken = build_letter(), build_letter(id=known.id)
    unfit = build_letter(note="\ud800")
    outcomes: dict[str, object] = {}

    async def attempt(name: str, *letters: Any) -> None:
        try:
            outcomes[name] = await patient.add(letters)
        except Exception as error:
            outcomes[name] = type(error)

    lock.execute("BEGIN IMMEDIATE")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(attempt, "first", build_letter())
        await settle_down()
        tasks.start_soon(attempt, "unfit", unfit)
        tasks.start_soon(attempt, "fine", fine)
        tasks.start_soon(attempt, "half taken", build_letter(), taken)
        await settle_down()
        lock.execute("ROLLBACK")
    assert outcomes["unfit"] is StoreUnavailable
    assert issubclass(outcomes["half taken"], ValueError)  # type: ignore[arg-type]  # it is a type
    assert outcomes["fine"] == [fine.id]
    assert len((await patient.find(EVERYTHING)).items) == 3
    assert (await patient.stats(now=NOW)).total == 3


async def test_a_refusal_undoes_nothing_of_its_batch(
    patient: SqlStore, lock: sqlite3.Connection, batches: list[int]
) -> None:
    letter = build_letter()
    refused: list[str] = []

    async def delete_unknown() -> None:
        try:
            await patient.delete("no such id")
        except DeadLetterNotFound as error:
            refused.append(error.dead_letter_id)

    lock.execute("BEGIN IMMEDIATE")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(patient.add, [build_letter()])
        await settle_down()
        tasks.start_soon(patient.add, [letter])
        tasks.start_soon(delete_unknown)
        await settle_down()
        lock.execute("ROLLBACK")
    assert refused == ["no such id"]
    assert sum(batches) == 3
    assert await patient.get(letter.id) == letter


async def test_verbs_of_one_caller_happen_in_the_order_of_its_calls(
    patient: SqlStore, lock: sqlite3.Connection
) -> None:
    letter = build_letter()
    lock.execute("BEGIN IMMEDIATE")
    for call in (
        lambda: patient.add([letter]),
        lambda: patient.change(letter.id, Verb.RESOLVE, now=NOW, by="ann"),
        lambda: patient.change(letter.id, Verb.RESTORE, now=NOW, by="bob"),
    ):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await call()
    lock.execute("ROLLBACK")
    await patient.change(letter.id, Verb.ARCHIVE, now=NOW, by="eve", note="last")
    found = await patient.get(letter.id)
    assert (found.state, found.acted_by) == (DeadLetterState.ARCHIVED, "eve")


async def test_a_lock_fails_everybody_who_waits_and_each_with_an_error_of_its_own(
    store: SqlStore, lock: sqlite3.Connection
) -> None:
    errors: list[StoreUnavailable] = []

    async def attempt() -> None:
        try:
            await store.add([build_letter()])
        except StoreUnavailable as error:
            errors.append(error)

    lock.execute("BEGIN IMMEDIATE")
    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(attempt)
    assert len(errors) == 8
    assert len({id(error) for error in errors}) == 8


async def test_a_write_that_fails_after_its_caller_left_is_logged_with_its_letters(
    path: Path, lock: sqlite3.Connection
) -> None:
    store = SqlStore(f"sqlite:///{path}", busy_timeout=0.05)
    await store.open()
    letter = build_letter()
    lock.execute("BEGIN IMMEDIATE")
    with structlog.testing.capture_logs() as logs:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await store.add([letter])
        await store.close()
        await settle_down()
    (line,) = [it for it in logs if it["event"] == "store.write_failed"]
    assert line["log_level"] == "error"
    assert letter.id in line["work"]
    assert "locked" in line["error"]


async def test_a_read_that_fails_after_its_caller_left_is_of_no_interest(store: SqlStore) -> None:
    with structlog.testing.capture_logs() as logs:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await store.get("no such id")
        await store.close()
        await settle_down()
    assert not logs


def leave_with_a_write_under_way(store: SqlStore, letter: Any, run: Any) -> None:
    """Run a loop that ends, and is closed, while its letter still waits for the writer."""

    async def hand_over() -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await store.add([letter])

    run(hand_over)


def run_on_asyncio(main: Any) -> None:
    asyncio.run(main())


@pytest.mark.parametrize("run", [run_on_asyncio, trio.run])
def test_a_loop_that_is_closed_by_now_does_not_hurt_the_writer(path: Path, run: Any) -> None:
    """The letter is kept, and the store goes on serving another loop."""
    store = SqlStore(f"sqlite:///{path}", busy_timeout=60)
    letter = build_letter()
    asyncio.run(store.open())
    with closing(sqlite3.connect(path, isolation_level=None)) as lock:
        lock.execute("BEGIN IMMEDIATE")
        leave_with_a_write_under_way(store, letter, run)
        lock.execute("ROLLBACK")

    async def look() -> None:
        await store.change(letter.id, Verb.RESOLVE, now=NOW)
        await store.close()

    asyncio.run(look())


@pytest.mark.parametrize("run", [run_on_asyncio, trio.run])
def test_a_failure_whose_loop_is_closed_by_now_is_logged(path: Path, run: Any) -> None:
    store = SqlStore(f"sqlite:///{path}", busy_timeout=0.05)
    letter = build_letter()
    asyncio.run(store.open())
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as lock,
        structlog.testing.capture_logs() as logs,
    ):
        lock.execute("BEGIN IMMEDIATE")
        leave_with_a_write_under_way(store, letter, run)
        asyncio.run(store.close())
    assert [it["event"] for it in logs] == ["store.write_failed"]


def test_one_store_serves_an_asyncio_loop_and_a_trio_loop_at_once(path: Path) -> None:
    store = SqlStore(f"sqlite:///{path}")
    asyncio.run(store.open())

    async def fill() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(store.add, [build_letter()])

    threads = [threading.Thread(target=run, args=(fill,)) for run in (run_on_asyncio, trio.run, trio.run)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    async def count() -> int:
        stats = await store.stats(now=NOW)
        await store.close()
        return stats.total

    assert asyncio.run(count()) == 150


async def test_every_answer_goes_to_the_caller_who_asked(store: SqlStore) -> None:
    letters = [build_letter() for _ in range(300)]
    answers: dict[str, object] = {}

    async def add(letter: Any) -> None:
        answers[letter.id] = await store.add([letter])

    async with anyio.create_task_group() as tasks:
        for letter in letters:
            tasks.start_soon(add, letter)
    assert answers == {letter.id: [letter.id] for letter in letters}


async def test_many_letters_of_one_call_are_one_transaction(store: SqlStore, batches: list[int]) -> None:
    letters = [build_letter() for _ in range(1_000)]
    assert await store.add(letters) == [letter.id for letter in letters]
    assert batches == [1]


async def test_nothing_is_written_for_no_letters(store: SqlStore, batches: list[int]) -> None:
    assert await store.add([]) == []
    assert not batches


async def test_what_comes_while_the_store_closes_is_refused(store: SqlStore) -> None:
    running = store._running
    assert running is not None
    await store.close()
    store._running = running  # as a caller has it who looked just before the close
    with pytest.raises(StoreUnavailable, match="is closed"):
        await store.add([build_letter()])
    store._running = None


def test_it_is_a_dead_letter_store(path: Path) -> None:
    store: DeadLetterStore = SqlStore(f"sqlite:///{path}")
    assert repr(store) == f"SqlStore({str(path)!r})"


async def test_closing_ends_every_thread(path: Path) -> None:
    before = threading.active_count()
    store = SqlStore(f"sqlite:///{path}")
    await store.open()
    names = {it.name for it in threading.enumerate()}
    assert f"eventbus-writer {path}" in names
    await store.close()
    for thread in threading.enumerate():
        if str(path) in thread.name:
            thread.join()
    assert not [it for it in threading.enumerate() if str(path) in it.name]
    assert before <= threading.active_count() + 1


async def test_a_database_that_goes_away_between_single_tries_fails_the_rest(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def together(_: Batches, jobs: list[Any]) -> list[Any]:
        tried.append(len(jobs))
        if len(jobs) > 1:
            raise OverflowError
        raise StoreUnavailable("gone")

    monkeypatch.setattr(Batches, "_together", together)
    assert isinstance(store._running, OnSqlite)
    outcomes = store._running.writer._batches.commit([None, None, None])  # type: ignore[list-item]  # never run
    assert [str(it.error) for it in outcomes] == ["gone"] * 3
    assert tried == [3, 1]
