"""What a store on PostgreSQL says, and how it gets well again, when something is wrong."""

from __future__ import annotations

import time
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from letters import NOW, build_letter
from tests.flaky_network import FlakyNetwork
from tests.postgres_server import PASSWORD, PrivateServer, Schemas

from eventbus_adapters.sql import SqlStore
from eventbus_dlq.errors import StoreUnavailable
from eventbus_dlq.query import DeadLetterQuery

EVERYTHING = DeadLetterQuery.everything()


@asynccontextmanager
async def opened(url: str, **options: float) -> AsyncIterator[SqlStore]:
    store = SqlStore(url, **options)  # type: ignore[arg-type]  # all of them are seconds
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def until_it_works(call: Callable[[], object]) -> None:
    """Call again while the store says that the same call may succeed in a moment."""
    with anyio.fail_after(20):
        while True:
            try:
                await call()  # type: ignore[misc]  # it is a coroutine function
            except StoreUnavailable as error:
                if not error.retryable:
                    raise
                await anyio.sleep(0.01)
            else:
                return


async def test_a_server_that_is_not_there_is_named(server: PrivateServer) -> None:
    url = server.tcp_url()
    server.stop()
    with pytest.raises(
        StoreUnavailable, match=rf"127.0.0.1:{server.port}/postgres cannot be reached"
    ) as caught:
        await SqlStore(url).open()
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"password": "wrong-one-77"}, "refuses the login"),
        ({"database": "no_such_database"}, "does not exist"),
    ],
)
async def test_what_needs_a_person_is_not_retryable(
    running_server: PrivateServer, change: dict[str, str], message: str
) -> None:
    with pytest.raises(StoreUnavailable, match=message) as caught:
        await SqlStore(running_server.tcp_url(**change)).open()  # type: ignore[arg-type]  # texts all
    assert not caught.value.retryable


@pytest.mark.parametrize("password", [PASSWORD, "wrong-one-77"])
async def test_the_password_is_in_no_text(
    running_server: PrivateServer, network: FlakyNetwork, password: str
) -> None:
    store = SqlStore(running_server.tcp_url(port=network.port, password=password), timeout=0.3)
    network.swallow()
    texts = [repr(store), str(store)]
    for break_it in (network.swallow, network.reset, network.flow):
        break_it()
        try:
            await store.open()
        except StoreUnavailable as error:
            texts += [str(error), "".join(traceback.format_exception(error))]
        finally:
            await store.close()
    assert len(texts) > 2
    assert not [it for it in texts if password in it]


async def test_the_store_gets_well_when_the_server_comes_back(server: PrivateServer) -> None:
    async with opened(server.url(), timeout=2) as store:
        first, second = build_letter(), build_letter()
        await store.add([first])
        server.stop()
        for call in (lambda: store.add([second]), lambda: store.get(first.id)):
            with pytest.raises(StoreUnavailable) as caught:
                await call()
            assert caught.value.retryable
        server.start()
        await store.add([second])  # at once: nothing is remembered of a bad time
        assert await store.get(first.id) == first
        assert await store.get(second.id) == second
        assert (await store.stats(now=NOW)).total >= 2


async def test_connections_that_broke_while_nobody_used_them_are_not_noticed(
    running_server: PrivateServer, network: FlakyNetwork
) -> None:
    async with opened(running_server.tcp_url(port=network.port)) as store:
        letter = build_letter()
        await store.add([letter])
        assert await store.get(letter.id) == letter
        network.reset()
        await store.add([build_letter()])
        network.reset()
        assert await store.get(letter.id) == letter


async def test_a_network_that_swallows_everything_costs_a_bounded_time(
    running_server: PrivateServer, network: FlakyNetwork
) -> None:
    async with opened(running_server.tcp_url(port=network.port), timeout=0.3) as store:
        letter = build_letter()
        await store.add([letter])
        network.swallow()
        started = time.monotonic()
        errors: list[StoreUnavailable] = []

        async def attempt(call: Callable[[], object]) -> None:
            try:
                await call()  # type: ignore[misc]  # it is a coroutine function
            except StoreUnavailable as error:
                errors.append(error)

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(attempt, lambda: store.get(letter.id))
                tasks.start_soon(attempt, lambda: store.add([build_letter()]))
        assert len(errors) == 40
        assert all(it.retryable for it in errors)
        assert time.monotonic() - started < 10
        network.reset()
        network.flow()
        await until_it_works(lambda: store.add([build_letter()]))
        assert await store.get(letter.id) == letter


async def test_closing_does_not_wait_for_a_network_that_swallows_everything(
    running_server: PrivateServer, network: FlakyNetwork
) -> None:
    store = SqlStore(running_server.tcp_url(port=network.port), timeout=0.3)
    await store.open()
    await store.add([build_letter()])
    network.swallow()
    with anyio.fail_after(10):
        await store.close()


async def test_a_lock_of_somebody_else_is_waited_for_and_told(url: str, places: Schemas) -> None:
    async with opened(url, busy_timeout=0.1) as store:
        letter = build_letter()
        await store.add([letter])
        async with opened(url) as other, held(other, letter.id):
            with pytest.raises(StoreUnavailable, match="is locked by another transaction") as caught:
                await store.delete(letter.id)
            assert caught.value.retryable
        await store.delete(letter.id)


@asynccontextmanager
async def held(store: SqlStore, dead_letter_id: str) -> AsyncIterator[None]:
    """Hold the row of a letter in a transaction that goes on."""
    import threading

    from eventbus_adapters.sql.bridge import BlockingWaiter
    from eventbus_adapters.sql.locking import lock_rows
    from eventbus_adapters.sql.work import Change

    locked, done = threading.Event(), threading.Event()

    def lock(connection: object, _: object) -> None:
        lock_rows(connection, [dead_letter_id])  # type: ignore[arg-type]  # it is one
        locked.set()
        done.wait(30)

    waiting: BlockingWaiter[None] = BlockingWaiter()
    store._opened().write(Change(lock, waiting))
    await anyio.to_thread.run_sync(locked.wait)
    try:
        yield
    finally:
        done.set()
        await anyio.to_thread.run_sync(waiting.block)


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)  # it uses asyncpg itself
async def test_the_locks_of_a_process_that_stands_still_do_not_last(url: str) -> None:
    async with opened(url, timeout=0.2) as frozen, opened(url, busy_timeout=20) as other:
        letter = build_letter()
        await other.add([letter])
        connection: Any = await frozen._database.connect()  # type: ignore[attr-defined]  # asyncpg's
        if connection.get_server_version().major < 17:
            connection.terminate()
            pytest.skip("older servers cannot limit a transaction that counts as busy")
        await connection.execute("BEGIN")
        await connection.execute("SELECT 1 FROM eventbus_dead_letters FOR UPDATE")
        await connection.prepare("SELECT 1")  # the server waits for the rest, and is not idle
        with anyio.fail_after(10):
            await other.delete(letter.id)
        connection.terminate()


async def test_a_statement_that_takes_too_long_is_ended(url: str) -> None:
    async with opened(url, timeout=0.2) as store:

        def sleep(connection: object) -> None:
            connection.exec_driver_sql("SELECT pg_sleep(30)")  # type: ignore[attr-defined]

        with anyio.fail_after(5), pytest.raises(StoreUnavailable, match="took too long") as caught:
            await store._read(sleep)
        assert caught.value.retryable
        assert not (await store.find(EVERYTHING)).items


async def test_a_conflict_with_another_transaction_is_tried_again(url: str) -> None:
    async with opened(url) as store:
        tries: list[int] = []

        def conflict(connection: object, _: object) -> str:
            tries.append(1)
            if len(tries) < 3:
                connection.exec_driver_sql(  # type: ignore[attr-defined]
                    "DO $$ BEGIN RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01'; END $$"
                )
            return "done"

        assert await store._change(conflict, lambda: "a conflict") == "done"
        assert len(tries) == 3


async def test_a_conflict_that_does_not_end_is_told(url: str) -> None:
    async with opened(url) as store:

        def conflict(connection: object) -> None:
            connection.exec_driver_sql(  # type: ignore[attr-defined]
                "DO $$ BEGIN RAISE EXCEPTION 'could not serialize' USING ERRCODE = '40001'; END $$"
            )

        with pytest.raises(StoreUnavailable, match="conflict with another transaction") as caught:
            await store._read(conflict)
        assert caught.value.retryable


async def test_tables_that_vanish_need_a_person(url: str, places: Schemas, tmp_path: object) -> None:
    async with opened(url) as store:
        places.execute("ALTER TABLE eventbus_dead_letters RENAME TO elsewhere", folder=tmp_path)  # type: ignore[arg-type]
        with pytest.raises(StoreUnavailable, match="run: eventbus db check") as caught:
            await store.add([build_letter()])
        assert not caught.value.retryable
        places.execute("ALTER TABLE elsewhere RENAME TO eventbus_dead_letters", folder=tmp_path)  # type: ignore[arg-type]
        await store.add([build_letter()])


async def test_a_text_that_postgres_cannot_hold_spoils_nobody_elses_write(url: str) -> None:
    async with opened(url) as store:
        fine = build_letter()
        outcomes: dict[str, object] = {}

        async def attempt(name: str, note: str | None) -> None:
            letter = fine if note is None else build_letter(note=note)
            try:
                outcomes[name] = await store.add([letter])
            except StoreUnavailable as error:
                outcomes[name] = error.retryable

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(attempt, "nul", "a\x00b")
            tasks.start_soon(attempt, "surrogate", "a\ud800b")
            tasks.start_soon(attempt, "fine", None)
        assert outcomes == {"nul": False, "surrogate": False, "fine": [fine.id]}


async def test_a_server_without_connections_to_spare_is_told_and_retryable(server: PrivateServer) -> None:
    import asyncpg  # noqa: F401  # the store needs it

    async with opened(server.url()) as store:
        await store.add([build_letter()])
    server.stop()
    server.settings["max_connections"] = "4"
    server.settings["superuser_reserved_connections"] = "0"
    server.start()
    try:
        async with opened(server.url()) as one, opened(server.url()) as two:
            outcomes: list[object] = []

            async def attempt(store: SqlStore) -> None:
                try:
                    outcomes.append((await store.find(EVERYTHING)).next_cursor)
                except StoreUnavailable as error:
                    outcomes.append(error)

            async with anyio.create_task_group() as tasks:
                for _ in range(10):
                    tasks.start_soon(attempt, one)
                    tasks.start_soon(attempt, two)
            told = [it for it in outcomes if isinstance(it, StoreUnavailable)]
            assert all(it.retryable for it in told)
            assert told
            assert "has no connection left" in str(told[0])
            await until_it_works(lambda: one.add([build_letter()]))
    finally:
        server.settings.pop("max_connections")
        server.settings.pop("superuser_reserved_connections")


async def test_a_commit_that_nobody_confirmed_says_that_repeating_it_is_safe(
    running_server: PrivateServer, network: FlakyNetwork
) -> None:
    async with opened(running_server.tcp_url(port=network.port), timeout=0.3) as store:
        letter = build_letter()
        await store.add([letter])

        def cut_off(connection: object, _: object) -> None:
            connection.exec_driver_sql("SELECT 1")  # type: ignore[attr-defined]
            network.swallow()

        with pytest.raises(StoreUnavailable, match="committed is not known; repeating it is safe") as caught:
            await store._change(cut_off, lambda: "cut off")
        assert caught.value.retryable
        network.reset()
        network.flow()
        assert await store.add([letter]) == [letter.id]


async def test_a_transaction_that_its_server_ended_is_tried_again(url: str) -> None:
    async with opened(url) as store:
        tries: list[int] = []

        def killed_once(connection: object, _: object) -> str:
            tries.append(1)
            if len(tries) == 1:
                connection.exec_driver_sql(  # type: ignore[attr-defined]
                    "SELECT pg_terminate_backend(pg_backend_pid())"
                )
            return "done"

        assert await store._change(killed_once, lambda: "killed") == "done"
        assert len(tries) == 2


async def test_a_connection_whose_settings_are_refused_is_not_kept(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = "SELECT $1, $2, $3, $4, nonsense"
    monkeypatch.setattr("eventbus_adapters.sql.postgres.database._SETTINGS", settings)
    with pytest.raises(StoreUnavailable, match="nonsense"):
        await SqlStore(url).open()
