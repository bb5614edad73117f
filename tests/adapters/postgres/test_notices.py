"""Processes on one PostgreSQL wake each other; a lost connection is no error."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator

import anyio
import pytest
import structlog
from letters import NOW, build_letter
from tests.flaky_network import FlakyNetwork
from tests.postgres_server import PrivateServer, Schemas

from eventbus_adapters.sql import SqlStore
from eventbus_dlq.letter import DeadLetter, DeadLetterState

SOON = 5.0


def delivery(**changes: object) -> DeadLetter:
    fresh = {"state": DeadLetterState.ACCEPTED, "error": None, "history": (), "attempts": 0}
    return build_letter(**(fresh | {"fingerprint": "", "last_attempt_at": None, "retry_at": None} | changes))


class Wakes:
    """Counts calls from any thread, and lets a test wait for the next one."""

    def __init__(self) -> None:
        self.count = 0
        self._called = threading.Event()

    def __call__(self) -> None:
        self.count += 1
        self._called.set()

    async def next(self) -> None:
        assert await anyio.to_thread.run_sync(self._called.wait, SOON), "nobody called"
        self._called.clear()


@pytest.fixture
async def teller(url: str) -> AsyncIterator[SqlStore]:
    store = SqlStore(url)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def hearer(url: str) -> AsyncIterator[SqlStore]:
    store = SqlStore(url)
    await store.open()
    yield store
    await store.close()


async def listening(store: SqlStore) -> Wakes:
    """Return what the store calls, once it listens: it calls once when it begins to."""
    wakes = Wakes()
    store.on_work(wakes)
    await wakes.next()
    return wakes


async def test_an_accepted_delivery_wakes_the_other_process(teller: SqlStore, hearer: SqlStore) -> None:
    wakes = await listening(hearer)
    await teller.accept([delivery()])
    await wakes.next()
    assert await hearer.claim_due(
        {"billing.charge": 1}, states={DeadLetterState.ACCEPTED}, limit=1, owner="hearer", lease=30, now=NOW
    )


async def test_one_notice_tells_of_all_that_came_together(teller: SqlStore, hearer: SqlStore) -> None:
    wakes = await listening(hearer)
    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(teller.accept, [delivery()])
    await wakes.next()
    assert wakes.count < 25


async def test_a_process_does_not_wake_itself(teller: SqlStore, hearer: SqlStore) -> None:
    own, other = await listening(teller), await listening(hearer)
    await teller.accept([delivery()])
    await other.next()
    assert own.count == 1  # when it began to listen


async def test_a_failure_that_is_due_later_wakes_nobody(teller: SqlStore, hearer: SqlStore) -> None:
    wakes = await listening(hearer)
    await teller.add([build_letter()])
    await teller.accept([delivery()])  # this one does
    await wakes.next()
    assert wakes.count == 2


async def test_work_that_was_committed_elsewhere_is_told_on_demand(
    teller: SqlStore, hearer: SqlStore
) -> None:
    wakes = await listening(hearer)
    assert teller._running is not None
    teller._running.tell()
    await wakes.next()


async def test_nobody_is_woken_any_more_after_an_end(teller: SqlStore, hearer: SqlStore) -> None:
    wakes = await listening(hearer)
    hearer.on_work(None)
    second = await listening(hearer)
    await teller.accept([delivery()])
    await second.next()
    assert wakes.count == 1


async def test_schemas_of_one_database_do_not_wake_each_other(
    teller: SqlStore, hearer: SqlStore, places: Schemas, tmp_path: object
) -> None:
    elsewhere = SqlStore(places.url(tmp_path / "elsewhere"))  # type: ignore[operator]  # it is a path
    await elsewhere.open()
    others, own = await listening(elsewhere), await listening(hearer)
    await teller.accept([delivery()])
    await own.next()
    assert others.count == 1
    await elsewhere.close()


async def test_a_callback_that_was_given_before_the_store_is_opened_is_kept(
    url: str, teller: SqlStore
) -> None:
    wakes = Wakes()
    store = SqlStore(url)
    store.on_work(wakes)
    await store.open()
    await wakes.next()
    await teller.accept([delivery()])
    await wakes.next()
    await store.close()


async def test_a_lost_connection_is_made_anew_and_calls_for_what_was_missed(
    running_server: PrivateServer, network: FlakyNetwork
) -> None:
    store = SqlStore(running_server.tcp_url(port=network.port))
    with structlog.testing.capture_logs() as logs:
        await store.open()
        wakes = await listening(store)
        network.reset()
        await wakes.next()  # it listens again: something may have been told in the meantime
        teller = SqlStore(running_server.url())
        await teller.open()
        await teller.accept([delivery()])
        await wakes.next()
        await teller.close()
        await store.close()
    assert not [it for it in logs if it["log_level"] in ("warning", "error")]


async def test_a_silent_connection_is_tried_from_time_to_time(
    teller: SqlStore, hearer: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventbus_adapters.sql.postgres.notices._CHECK", 0.001)
    wakes = await listening(hearer)
    await anyio.sleep(0.02)  # a few looks at the connection, none of which wakes anybody
    assert wakes.count == 1
    await teller.accept([delivery()])
    await wakes.next()
