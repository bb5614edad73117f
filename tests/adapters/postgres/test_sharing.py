"""Many callers, stores and processes on one PostgreSQL database."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog
import trio
from letters import NOW, build_letter
from tests.postgres_server import Schemas

from eventbus_adapters.sql import SqlStore
from eventbus_adapters.sql.batches import Batches
from eventbus_adapters.sql.folding import fold
from eventbus_adapters.sql.postgres.database import Transactions
from eventbus_dlq.errors import DeadLetterNotFound, StoreUnavailable
from eventbus_dlq.letter import DeadLetterState, Verb
from eventbus_dlq.query import DeadLetterQuery


@pytest.fixture
async def store(url: str) -> AsyncIterator[SqlStore]:
    store = SqlStore(url)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note how many jobs each transaction tries to commit."""
    sizes: list[int] = []
    transacted = Batches._transacted

    def noted(self: Batches, jobs: list[Any]) -> list[Any]:
        sizes.append(len(jobs))
        return transacted(self, jobs)

    monkeypatch.setattr(Batches, "_transacted", noted)
    return sizes


async def test_what_gathers_during_a_commit_is_committed_together(
    store: SqlStore, batches: list[int]
) -> None:
    letters = [build_letter() for _ in range(200)]
    async with anyio.create_task_group() as tasks:
        for letter in letters:
            tasks.start_soon(store.add, [letter])
    assert sum(batches) == 200
    assert len(batches) < 50
    assert (await store.stats(now=NOW)).total == 200


async def test_an_error_of_one_caller_is_not_the_error_of_the_others(store: SqlStore) -> None:
    known, fine = build_letter(), build_letter()
    await store.add([known])
    outcomes: dict[str, object] = {}

    async def attempt(name: str, *letters: Any) -> None:
        try:
            outcomes[name] = await store.add(letters)
        except (ValueError, StoreUnavailable) as error:
            outcomes[name] = type(error).__name__

    async def refused() -> None:
        try:
            await store.delete("no such id")
        except DeadLetterNotFound as error:
            outcomes["unknown"] = error.dead_letter_id

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(attempt, "first", build_letter(id="first"))
        tasks.start_soon(attempt, "half taken", build_letter(), build_letter(id=known.id))
        tasks.start_soon(refused)
        tasks.start_soon(attempt, "fine", fine)
    assert outcomes == {
        "first": ["first"],
        "half taken": "TakenIdError",
        "unknown": "no such id",
        "fine": [fine.id],
    }
    assert (await store.stats(now=NOW)).total == 3


async def test_verbs_of_one_caller_happen_in_the_order_of_its_calls(store: SqlStore) -> None:
    letter = build_letter()
    for call in (
        lambda: store.add([letter]),
        lambda: store.change(letter.id, Verb.RESOLVE, now=NOW, by="ann"),
        lambda: store.change(letter.id, Verb.RESTORE, now=NOW, by="bob"),
    ):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await call()
    await store.change(letter.id, Verb.ARCHIVE, now=NOW, by="eve")
    found = await store.get(letter.id)
    assert (found.state, found.acted_by) == (DeadLetterState.ARCHIVED, "eve")


def run_on_asyncio(main: Callable[[], Any]) -> None:
    asyncio.run(main())


def test_one_store_serves_an_asyncio_loop_and_a_trio_loop_at_once(url: str) -> None:
    store = SqlStore(url)
    asyncio.run(store.open())

    async def fill() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(30):
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

    assert asyncio.run(count()) == 90


async def test_stores_that_open_at_once_create_the_tables_once(places: Schemas, tmp_path: Path) -> None:
    folder = tmp_path / "fresh"
    url = places.url(folder)
    for (table,) in places.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()", folder=folder
    ):
        places.execute(f"DROP TABLE {table}", folder=folder)
    stores = [SqlStore(url) for _ in range(6)]
    async with anyio.create_task_group() as tasks:
        for it in stores:
            tasks.start_soon(it.open)
    async with anyio.create_task_group() as tasks:
        for it in stores:
            tasks.start_soon(it.add, [build_letter()])
    assert {(await it.stats(now=NOW)).total for it in stores} == {6}
    for it in stores:
        await it.close()


async def test_two_tasks_that_open_one_store_leave_one_thread(url: str) -> None:
    store = SqlStore(url)
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(store.open)
    with anyio.fail_after(5):
        while len(_threads()) > 1:  # those that were too late are about to end
            await anyio.sleep(0.001)
    (thread,) = _threads()
    await store.close()
    thread.join(5)
    assert not thread.is_alive()


def _threads() -> list[threading.Thread]:
    return [it for it in threading.enumerate() if it.name.startswith("eventbus-postgres ")]


async def test_what_comes_while_the_store_closes_is_refused(store: SqlStore) -> None:
    running = store._running
    assert running is not None
    await store.close()
    store._running = running  # as a caller has it who looked just before the close
    for call in (lambda: store.add([build_letter()]), lambda: store.get("any")):
        with pytest.raises(StoreUnavailable, match="is closed"):
            await call()
    store._running = None


async def test_an_open_that_is_cancelled_leaves_no_thread(url: str) -> None:
    before = set(threading.enumerate())
    with anyio.CancelScope() as scope:
        scope.cancel()
        await SqlStore(url).open()
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("eventbus-postgres"):
            thread.join(5)
            assert not thread.is_alive()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio starts tasks in any order
async def test_transactions_that_cross_never_wait_for_each_other(
    store: SqlStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two stores change two sequences, one of them in the other order, each in one transaction."""
    interrupted: list[Exception] = []

    def repeats(self: Transactions, error: Exception, tries: int) -> bool:
        interrupted.append(error)
        return False

    monkeypatch.setattr(Transactions, "repeats", repeats)
    other = SqlStore(url)
    await other.open()
    first, second = (build_letter(ordering_key=key) for key in ("acme", "globex"))
    await store.add([first, second])
    gathered, meeting = threading.Event(), threading.Barrier(2)

    def gather(*_: Any) -> None:
        assert gathered.wait(10)

    def meet(*_: Any) -> None:
        with suppress(threading.BrokenBarrierError):  # the other one waits until this one is done
            meeting.wait(0.5)

    async def change(theirs: SqlStore, *ids: str) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(theirs._change, gather, str)
            for dead_letter_id in ids:
                tasks.start_soon(partial(theirs.change, dead_letter_id, Verb.SNOOZE, now=NOW, until=NOW))
                tasks.start_soon(theirs._change, meet, str)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(change, store, first.id, second.id)
        tasks.start_soon(change, other, second.id, first.id)
        await anyio.wait_all_tasks_blocked()
        gathered.set()
    await other.close()
    assert not interrupted


async def test_counters_are_the_same_before_and_after_a_fold(
    store: SqlStore, places: Schemas, tmp_path: Path
) -> None:
    def rows(table: str) -> int:
        return int(places.execute(f"SELECT count(*) FROM {table}", folder=tmp_path)[0][0])

    letters = [build_letter(tenant=tenant) for tenant in ("acme", "initech", None) for _ in range(4)]
    await store.add(letters)
    await store.change(letters[0].id, Verb.RESOLVE, now=NOW)
    await store.delete(letters[1].id)
    before = await store.stats(now=NOW)
    assert rows("eventbus_dead_letter_count_deltas") > 0
    folded = await store._change(lambda connection, _: fold(connection), lambda: "fold")
    assert folded > 0
    assert rows("eventbus_dead_letter_count_deltas") == 0
    assert await store.stats(now=NOW) == before
    await store.delete(letters[2].id)
    assert (await store.stats(now=NOW)).total == before.total - 1
    assert (await store.stats(now=NOW, tenants={"initech"})).total == 4


async def test_two_stores_do_not_fold_at_once(store: SqlStore, url: str) -> None:
    other = SqlStore(url)
    await other.open()
    await store.add([build_letter()])

    async def meanwhile() -> int:
        return await other._change(lambda connection, _: fold(connection), lambda: "fold")

    holding, go_on = threading.Event(), threading.Event()

    def hold(connection: Any, _: object) -> int:
        folded = fold(connection)
        holding.set()
        go_on.wait(10)
        return folded

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store._change, hold, lambda: "fold")
        await anyio.to_thread.run_sync(holding.wait)
        assert await meanwhile() == 0
        go_on.set()
    await other.close()


async def test_upkeep_folds_when_much_has_gathered(
    store: SqlStore, places: Schemas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventbus_adapters.sql.postgres.upkeep._ROWS", 1)
    await store.add([build_letter()])
    with anyio.fail_after(10):
        while places.execute("SELECT 1 FROM eventbus_dead_letter_count_deltas", folder=tmp_path):
            await anyio.sleep(0.01)
    assert (await store.stats(now=NOW)).total == 1


@pytest.mark.parametrize(
    ("text", "found"), [("ÜBER", True), ("über", True), ("100%", True), ("_", False), ("100.", False)]
)
async def test_a_text_is_found_in_upper_and_lower_case_and_without_wildcards(
    store: SqlStore, text: str, found: bool
) -> None:
    letter = build_letter()
    await store.add([build_letter(error=letter.error._replace(message="Über 100% of it"))])
    page = await store.find(DeadLetterQuery(text=text))
    assert bool(page.items) is found


async def test_a_tag_is_found_whatever_stands_in_it_and_broken_lists_have_none(
    store: SqlStore, places: Schemas, tmp_path: Path
) -> None:
    tags = ('a"b', ",", "a\\", "é🗝️", "\x7f\x01", "")
    letters = [build_letter(tags=(tag, "both")) for tag in tags]
    await store.add(letters)
    for letter, tag in zip(letters, tags, strict=True):
        assert [it.id for it in (await store.find(DeadLetterQuery(tag=tag))).items] == [letter.id]
    assert not (await store.find(DeadLetterQuery(tag="a"))).items
    broken = "UPDATE eventbus_dead_letters SET tags = '[\"both\"' WHERE id = '{}'"
    places.execute(broken.format(letters[0].id), folder=tmp_path)
    assert len((await store.find(DeadLetterQuery(tag="both"))).items) == len(tags) - 1


async def test_upkeep_that_fails_is_told_and_tried_again(
    store: SqlStore, places: Schemas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventbus_adapters.sql.postgres.upkeep._SECONDS", 0.01)
    failures = [OSError("no route to host")]

    def fails_once(connection: Any) -> int:
        if failures:
            raise failures.pop()
        return fold(connection)

    monkeypatch.setattr("eventbus_adapters.sql.postgres.upkeep.fold", fails_once)
    with structlog.testing.capture_logs() as logs:
        await store.add([build_letter()])
        with anyio.fail_after(10):
            while places.execute("SELECT 1 FROM eventbus_dead_letter_count_deltas", folder=tmp_path):
                await anyio.sleep(0.01)
    (line,) = [it for it in logs if it["event"] == "store.upkeep_failed"]
    assert "no route to host" in line["error"]
    assert not failures
