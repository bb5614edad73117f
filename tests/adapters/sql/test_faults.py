"""What a store says when its file is locked, full, broken, gone or somebody else's."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from letters import NOW, build_letter

from eventbus import CaptureFailed, EventBus
from eventbus_adapters.sql import SqlStore
from eventbus_dlq import DeadLetterQueue
from eventbus_dlq.errors import StoreUnavailable
from eventbus_dlq.query import DeadLetterQuery

EVERYTHING = DeadLetterQuery.everything()
NOBODY = 65_534


def at(path: Path) -> SqlStore:
    return SqlStore(f"sqlite:///{path}", busy_timeout=0.05)


async def refusal_to_open(path: Path) -> StoreUnavailable:
    with pytest.raises(StoreUnavailable) as refused:
        await at(path).open()
    assert str(path.parent) in str(refused.value)
    return refused.value


async def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    refused = await refusal_to_open(tmp_path / "nowhere" / "letters.db")
    assert "does not exist; create it" in str(refused)
    assert not refused.retryable
    assert not (tmp_path / "nowhere").exists()


async def test_a_directory_is_no_file(tmp_path: Path) -> None:
    refused = await refusal_to_open(tmp_path)
    assert "is a directory" in str(refused)
    assert not refused.retryable


async def test_a_file_that_is_no_database_is_left_as_it_is(path: Path) -> None:
    path.write_text("name,price\n" * 1_000)
    refused = await refusal_to_open(path)
    assert "is not an SQLite database" in str(refused)
    assert not refused.retryable
    assert path.read_text() == "name,price\n" * 1_000


async def test_a_damaged_database_is_called_damaged(path: Path) -> None:
    store = at(path)
    await store.open()
    await store.add([build_letter() for _ in range(50)])
    await store.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (path.stat().st_size - 4096))
    refused = await refusal_to_open(path)
    assert "is damaged" in str(refused)
    assert not refused.retryable


@pytest.fixture
def read_only() -> Iterator[Path]:
    """Make a database that this user may read and not write."""
    folder = Path(tempfile.mkdtemp())
    path = folder / "letters.db"
    at(path)._database.create()
    path.chmod(0o444)
    folder.chmod(0o555)
    user = os.geteuid()
    if user == 0:  # root may write everything
        os.seteuid(NOBODY)
    yield path
    os.seteuid(user)
    folder.chmod(0o755)
    shutil.rmtree(folder)


async def test_a_read_only_database_is_refused_when_it_is_opened(read_only: Path) -> None:
    refused = await refusal_to_open(read_only)
    assert not refused.retryable


async def test_a_locked_database_is_worth_another_try(
    store: SqlStore, by_hand: sqlite3.Connection, path: Path
) -> None:
    by_hand.execute("BEGIN IMMEDIATE")
    letter = build_letter()
    with pytest.raises(StoreUnavailable, match="is locked by another transaction") as refused:
        await store.add([letter])
    assert refused.value.retryable
    assert str(path) in str(refused.value)
    assert not (await store.find(EVERYTHING)).items
    by_hand.execute("ROLLBACK")
    assert await store.add([letter]) == [letter.id]


async def test_a_capture_within_a_write_transaction_of_the_applications_own_says_what_to_do(
    path: Path, by_hand: sqlite3.Connection, tmp_path: Path
) -> None:
    """With a spool it waits there for the commit, which it would else wait for in vain."""
    alone = EventBus(dlq=DeadLetterQueue(at(path), capture_timeout=0.1))
    spooling = EventBus(dlq=DeadLetterQueue(at(path), capture_timeout=0.1, spool=tmp_path / "spool"))
    for bus in (alone, spooling):

        @bus.on("order.placed", id="billing.charge")
        async def charge(order: object) -> None:
            raise ValueError("no such order")

    async with alone, spooling:
        by_hand.execute("BEGIN IMMEDIATE")
        with pytest.raises(CaptureFailed, match="within one of your own publish with session="):
            await alone.publish("order.placed", 1)
        receipt = await spooling.publish("order.placed", 2)
        assert receipt.deliveries["billing.charge"].state == "dead_lettered"
        by_hand.execute("COMMIT")
        with anyio.fail_after(5):
            while (await alone.stats()).total == 0:
                await anyio.sleep(0.01)
        (kept,) = (await alone.dead_letters()).items
        assert kept.id == receipt.deliveries["billing.charge"].dead_letter_id


async def test_a_database_that_stays_locked_cannot_be_opened(path: Path) -> None:
    at(path)._database.create()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert (await refusal_to_open(path)).retryable


async def test_switching_to_the_log_waits_for_whoever_reads_and_then_gives_up(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TABLE theirs (id)")
        other.execute("BEGIN EXCLUSIVE")
        assert (await refusal_to_open(path)).retryable


async def test_a_full_disk_loses_nothing_that_was_kept(store: SqlStore) -> None:
    kept = build_letter()
    await store.add([kept])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, before[1]))
    try:
        with pytest.raises(StoreUnavailable) as refused:
            await store.add([build_letter(payload_json=b'"' + b"x" * 3_000_000 + b'"')])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert refused.value.retryable
    assert [it.id for it in (await store.find(EVERYTHING)).items] == [kept.id]
    assert (await store.stats(now=NOW)).total == 1
    later = build_letter()
    assert await store.add([later]) == [later.id]


async def test_a_database_that_may_not_grow_says_that_it_is_full(store: SqlStore, path: Path) -> None:
    letter = build_letter(payload_json=b'"' + b"x" * 1_000_000 + b'"')
    connect = store._database.connect

    def connect_limited(mode: str) -> object:
        connection = connect(mode)  # type: ignore[arg-type]  # passed through
        connection.exec_driver_sql("PRAGMA max_page_count=40")
        connection.rollback()
        return connection

    store._database.connect = connect_limited  # type: ignore[method-assign,assignment]  # a small disk
    with pytest.raises(StoreUnavailable, match="the disk is full") as refused:
        await store.add([letter])
    assert refused.value.retryable
    store._database.connect = connect  # type: ignore[method-assign]
    assert await store.add([letter]) == [letter.id]


def remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


async def test_a_file_that_was_deleted_takes_no_letters_in_silence(store: SqlStore, path: Path) -> None:
    await store.add([build_letter()])
    await store.find(EVERYTHING)
    remove(path)
    with pytest.raises(StoreUnavailable, match="is gone"):
        await store.add([build_letter()])
    with pytest.raises(StoreUnavailable, match="is gone"):
        await store.find(EVERYTHING)
    assert not path.exists()


async def test_a_file_that_was_put_in_its_place_is_used_from_then_on(store: SqlStore, path: Path) -> None:
    await store.add([build_letter()])
    await store.find(EVERYTHING)
    at(path.with_name("other.db"))._database.create()
    remove(path)
    path.with_name("other.db").rename(path)
    letter = build_letter()
    await store.add([letter])
    assert [it.id for it in (await store.find(EVERYTHING)).items] == [letter.id]


@pytest.mark.parametrize("version", ["1", "2", "4"])
async def test_tables_of_another_version_are_not_touched(path: Path, version: str) -> None:
    at(path)._database.create()
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE eventbus_meta SET value = ? WHERE key = 'schema_version'", (version,))
    refused = await refusal_to_open(path)
    assert f"schema version {version}" in str(refused)
    assert not refused.retryable


async def test_tables_without_a_version_are_not_touched(path: Path) -> None:
    at(path)._database.create()
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("DELETE FROM eventbus_meta")
    assert "which is no version" in str(await refusal_to_open(path))


async def test_a_foreign_database_keeps_its_own_tables(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("CREATE TABLE orders (id INTEGER)")
    store = at(path)
    await store.open()
    await store.add([build_letter()])
    await store.close()
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT count(*) FROM orders").fetchone() == (0,)


async def test_a_store_that_is_not_open_says_so(path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="is not open"):
        await at(path).add([build_letter()])
    with pytest.raises(StoreUnavailable, match="is not open"):
        await at(path).find(EVERYTHING)


async def test_a_letter_that_no_database_can_hold_is_refused_loudly(store: SqlStore) -> None:
    for unfit in (
        build_letter(note="\ud800"),
        build_letter(annotations={"text": "\ud800"}),
        build_letter(token=2**70),
    ):
        with pytest.raises(StoreUnavailable, match="dead-letter store") as refused:
            await store.add([unfit])
        assert not refused.value.retryable
    assert not (await store.find(EVERYTHING)).items


async def test_a_letter_without_what_every_letter_has_is_refused_loudly(store: SqlStore) -> None:
    with pytest.raises(StoreUnavailable, match="NOT NULL"):
        await store.add([build_letter(event_name=None)])


async def test_tables_that_were_dropped_underneath_are_named(
    store: SqlStore, by_hand: sqlite3.Connection
) -> None:
    by_hand.execute("DROP TABLE eventbus_dead_letters")
    with pytest.raises(StoreUnavailable, match="no such table: eventbus_dead_letters"):
        await store.find(EVERYTHING)


def busy() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return error


def test_a_lock_during_the_switch_to_the_log_is_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("eventbus_adapters.sql.engine.time.sleep", waits.append)
    answers = iter([busy(), busy(), "wal"])

    def ask() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert SqlStore(f"sqlite:///{path}", busy_timeout=60)._database._patiently(ask) == "wal"
    assert len(waits) == 2


def test_a_file_system_without_a_log_is_refused(path: Path) -> None:
    class Stubborn(sqlite3.Connection):
        def execute(self, *_: object) -> sqlite3.Cursor:
            return super().execute("SELECT 'delete'")

    with (
        closing(sqlite3.connect(path, factory=Stubborn)) as connection,
        pytest.raises(StoreUnavailable, match="write-ahead log"),
    ):
        at(path)._database._enter_wal(connection)


async def test_several_may_open_a_store_at_once(path: Path) -> None:
    store = SqlStore(f"sqlite:///{path}", busy_timeout=60)
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(store.open)
    threads = [it for it in threading.enumerate() if it.name == f"eventbus-writer {path}"]
    for thread in threads:  # one that was stopped may still be on its way out
        await to_thread.run_sync(thread.join, 0.3)
    assert len([it for it in threads if it.is_alive()]) == 1
    await store.close()
