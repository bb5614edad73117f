"""Parking beside others on a real server: nobody waits for long, nobody deadlocks, and nothing is stuck."""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread
from controlled import ACME, bring_back, close
from letters import NOW, after, build_delivery
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool
from steps import claim_due
from tests.postgres_server import Schemas

from eventbus.controls import Control, Scope
from eventbus_adapters.sql import SqlStore
from eventbus_adapters.sql.closures import KnownControls
from eventbus_adapters.sql.configuring import close_scope
from eventbus_adapters.sql.counts import Deltas
from eventbus_adapters.sql.due import claim_due as claim_due_within
from eventbus_adapters.sql.offline import in_transaction
from eventbus_dlq.errors import StoreLocked
from eventbus_dlq.letter import DeadLetter, DeadLetterState, Reason
from eventbus_dlq.query import DeadLetterQuery
from eventbus_dlq.recount import recount
from eventbus_dlq.store import Settlement

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])  # SQLAlchemy's sessions need it

HANDLER = "billing.charge"
GLOBEX = Scope(tenant="globex")
ACCEPTED, PARKED = DeadLetterState.ACCEPTED, DeadLetterState.PARKED


@pytest.fixture
async def store(url: str) -> AsyncIterator[SqlStore]:
    store = SqlStore(url)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def other(url: str) -> AsyncIterator[SqlStore]:
    """Give a store on the same database, as another process has it."""
    store = SqlStore(url)
    await store.open()
    yield store
    await store.close()


@asynccontextmanager
async def half_done(url: str, work: Callable[[Connection], Any]) -> AsyncIterator[None]:
    """Do something in a transaction that is committed when the block ends."""
    done, go = threading.Event(), threading.Event()

    def hold(connection: Connection, _: object) -> None:
        work(connection)
        done.set()
        assert go.wait(20)

    async with anyio.create_task_group() as group:
        group.start_soon(to_thread.run_sync, partial(in_transaction, url, hold))
        try:
            assert await to_thread.run_sync(done.wait, 20)
            yield
        finally:
            go.set()


@asynccontextmanager
async def session_on(url: str) -> AsyncIterator[AsyncSession]:
    server, _, schema = url.rpartition("&search_path=")
    settings = {"server_settings": {"search_path": schema}}
    engine = create_async_engine(server, poolclass=NullPool, connect_args=settings)
    async with AsyncSession(engine) as session:
        yield session
    await engine.dispose()


def park_what_is_due(connection: Connection) -> None:
    deltas = Deltas()
    claim_due_within(
        connection,
        deltas,
        {HANDLER: 9},
        states={ACCEPTED},
        limit=9,
        owner="w",
        lease=30,
        now=NOW,
        known=KnownControls(),
    )
    deltas.write(connection)


def close_globex(connection: Connection) -> None:
    close_scope(
        connection, Deltas(), scope=GLOBEX, state="paused", reason="a bug", by="ann", until=None, now=NOW
    )


async def states(store: SqlStore, *letters: DeadLetter) -> list[DeadLetterState]:
    return [(await store.get(it.id)).state for it in letters]


async def accepted(store: SqlStore, tenant: str, key: str | None = None, **values: Any) -> DeadLetter:
    delivery = build_delivery(key, tenant=tenant, **values)
    await store.accept([delivery])
    return delivery


async def test_an_opening_waits_for_who_parks_and_brings_back_what_he_has_parked(
    store: SqlStore, url: str
) -> None:
    letter = await accepted(store, "acme")
    await close(store)
    order: list[str] = []

    async def open_again() -> None:
        await store.open_scopes([ACME], now=NOW)
        order.append("opened")

    async with anyio.create_task_group() as group, half_done(url, park_what_is_due):
        group.start_soon(open_again)
        await anyio.sleep(0.1)
        order.append("parked")
    assert order == ["parked", "opened"]
    assert await states(store, letter) == [ACCEPTED]
    assert len(await claim_due(store)) == 1


async def test_a_worker_does_not_wait_for_who_changes_the_controls(store: SqlStore, url: str) -> None:
    closed, free = await accepted(store, "acme"), await accepted(store, "initech")
    await close(store)
    async with half_done(url, close_globex):
        with anyio.fail_after(3):
            assert [it.letter.id for it in await claim_due(store)] == [free.id]
            arriving = replace(build_delivery(tenant="acme"), state=PARKED, reason=Reason.PAUSED)
            (kept,) = await store.accept([arriving])
        assert kept.state is ACCEPTED
        assert await states(store, closed, arriving) == [ACCEPTED, ACCEPTED]
    assert list(await claim_due(store)) == []
    assert await states(store, closed, arriving) == [PARKED, PARKED]


async def test_who_claims_sees_a_control_as_soon_as_it_is_there(store: SqlStore, other: SqlStore) -> None:
    for number in range(5):
        scope = Scope(f"tenant-{number}")
        await accepted(store, f"tenant-{number}")
        assert list(await claim_due(other, {"nobody": 1})) == []
        await close(store, scope)
        assert list(await claim_due(other)) == []
        await store.open_scopes([scope], now=NOW)
        assert len(await claim_due(other)) == 1


async def test_a_sequence_that_is_locked_is_not_parked_and_holds_up_nobody(store: SqlStore, url: str) -> None:
    head = await accepted(store, "acme", "k")
    await close(store)
    async with session_on(url) as session:
        behind = build_delivery("k", tenant="acme")
        await store.accept_in(session, [behind])
        late = [await accepted(store, "acme", created_at=after(1)) for _ in range(40)]
        free = await accepted(store, "initech", created_at=after(2))
        with anyio.fail_after(3):
            claims = await claim_due(store, limit=1)
        assert [it.letter.id for it in claims] == [free.id]
        assert await states(store, head, late[0], late[-1]) == [ACCEPTED, PARKED, PARKED]
        await session.commit()
    assert list(await claim_due(store)) == []
    assert await states(store, head, behind) == [PARKED, PARKED]
    assert (await store.get(behind.id)).reason is Reason.SEQUENCE


async def test_what_is_locked_goes_back_later_and_the_rest_at_once(store: SqlStore, url: str) -> None:
    in_line, locked, free = [await accepted(store, "acme", key) for key in ("k", None, None)]
    await close(store)
    await claim_due(store)
    assert await states(store, in_line, locked, free) == [PARKED] * 3
    async with session_on(url) as session:
        await store.accept_in(session, [build_delivery("k", tenant="acme")])
        await session.execute(
            text("SELECT 1 FROM eventbus_dead_letters WHERE id = :id FOR UPDATE"), {"id": locked.id}
        )
        with anyio.fail_after(3):
            await store.open_scopes([ACME], now=NOW)
            assert await store.unpark(limit=9, now=NOW)
        assert await states(store, in_line, locked, free) == [PARKED, PARKED, ACCEPTED]
        await session.commit()
    assert not await store.unpark(limit=9, now=NOW)
    assert await states(store, in_line, locked, free) == [ACCEPTED] * 3


async def test_what_is_locked_is_not_asked_for_again_and_again(store: SqlStore, url: str) -> None:
    await accepted(store, "acme", "k")
    await close(store)
    await claim_due(store)
    async with session_on(url) as session:
        await store.accept_in(session, [build_delivery("k", tenant="acme")])
        await store.open_scopes([ACME], now=NOW)
        asked = 0
        with anyio.move_on_after(0.6):
            while await store.unpark(limit=9, now=NOW):
                asked += 1
        assert 0 < asked <= 3


async def test_two_processes_may_let_go_back_at_the_same_time(store: SqlStore, other: SqlStore) -> None:
    await close(store)
    await store.accept([build_delivery(tenant="acme") for _ in range(1_300)])
    while (await store.stats(now=NOW)).by_state != {"parked": 1_300}:
        await claim_due(store)
    await store.open_scopes([ACME], now=NOW)
    async with anyio.create_task_group() as group:
        for one in (store, other) * 2:
            group.start_soon(partial(bring_back, one, limit=40))
    assert (await store.stats(now=NOW)).by_state == {"accepted": 1_300}


async def test_what_was_claimed_before_an_acknowledgement_keeps_the_drain_open(
    store: SqlStore, other: SqlStore
) -> None:
    """The claim of a process is stored before what it acknowledges later, though nobody waits for it."""
    for number in range(10):
        tenant = f"tenant-{number}"
        await accepted(store, tenant)
        claimed: list[Any] = []

        async def claim(claimed: list[Any] = claimed) -> None:
            claimed += await claim_due(store)

        async with anyio.create_task_group() as group:
            group.start_soon(claim)
            drain = await close(other, Scope(tenant), "draining")
            drained = await store.acknowledge("p-1", [drain], live_since=NOW, now=NOW)
        assert len(claimed) + len(drained) == 1
        await store.open_scopes(None, now=NOW)
        await store.settle([_done(it) for it in claimed], now=NOW)
        await store.settle([_done(it) for it in await claim_due(store)], now=NOW)


def _done(claim: Any) -> Settlement:
    return Settlement(lease=claim.lease, state=DeadLetterState.RESOLVED, forget=True)


async def _when_unlocked(end: Callable[[], Awaitable[Any]]) -> Any:
    """End a run as a worker does, which comes back to what somebody else has locked meanwhile."""
    while True:
        try:
            return await end()
        except StoreLocked:
            await anyio.sleep(0.005)


class Busy:
    """Two processes with workers, operators and publishers that know nothing of each other."""

    def __init__(self, stores: list[SqlStore], deliveries: int) -> None:
        self.stores = stores
        self.chance = random.Random(20_261_122)
        self.published: dict[str, list[str]] = defaultdict(list)
        self.ran: dict[str, list[str]] = defaultdict(list)
        self.left = deliveries

    async def publish(self, store: SqlStore, key: str) -> None:
        while self.left > 0:
            self.left -= 1
            tenant = self.chance.choice(["acme", "globex", "initech"])
            delivery = build_delivery(key or None, tenant=tenant, created_at=after(-self.left))
            if self.chance.random() < 0.3:
                delivery = replace(delivery, state=PARKED, reason=Reason.PAUSED)
            self.published[key].append(delivery.id)
            await store.accept([delivery])

    async def work(self, store: SqlStore, done: anyio.Event) -> None:
        while not done.is_set():
            for claim in await claim_due(store, limit=3):
                if self.chance.random() < 0.2:
                    await _when_unlocked(partial(store.release, [claim.lease], now=NOW))
                    continue
                self.ran[claim.letter.ordering_key or ""].append(claim.letter.id)
                assert await _when_unlocked(partial(store.settle, [_done(claim)], now=NOW)) == []

    async def operate(self, store: SqlStore) -> None:
        while self.left > 0:
            scope = Scope(self.chance.choice([None, "acme", "globex"]), None, HANDLER)
            await close(store, scope)
            await anyio.sleep(0.002)
            await store.open_scopes([scope] if self.chance.random() < 0.8 else None, now=NOW)
            await store.unpark(limit=2, now=NOW)

    async def run(self) -> None:
        done = anyio.Event()
        async with anyio.create_task_group() as group:
            for store in self.stores:
                group.start_soon(self.work, store, done)
            async with anyio.create_task_group() as meanwhile:
                for store in self.stores:
                    meanwhile.start_soon(self.operate, store)
                    meanwhile.start_soon(self.publish, store, "")
                meanwhile.start_soon(self.publish, self.stores[0], "k-1")
                meanwhile.start_soon(self.publish, self.stores[1], "k-2")
            await self.stores[0].open_scopes(None, now=NOW)
            await bring_back(self.stores[1])
            with anyio.fail_after(20):
                while (await self.stores[0].stats(now=NOW)).total:
                    await anyio.sleep(0.02)
            done.set()


async def test_whatever_operators_do_meanwhile_everything_runs_once_and_in_order(
    store: SqlStore, other: SqlStore, places: Schemas, tmp_path: Path
) -> None:
    busy = Busy([store, other], deliveries=250)
    await busy.run()
    assert {key: ids for key, ids in busy.ran.items() if key} == {
        key: ids for key, ids in busy.published.items() if key
    }
    assert sorted(busy.ran[""]) == sorted(busy.published[""])
    for table in ("eventbus_parked", "eventbus_controls"):
        assert places.execute(f"SELECT 1 FROM {table}", folder=tmp_path) == []


async def test_after_parking_and_going_back_the_statistics_are_those_of_a_recount(store: SqlStore) -> None:
    await store.accept([build_delivery(tenant=it) for it in ("acme", "acme", "globex")])
    await close(store)
    await claim_due(store)
    for _ in range(2):
        items = (await store.find(DeadLetterQuery.everything())).items
        counted = recount([await store.get(it.id) for it in items], NOW)
        found = await store.stats(now=NOW)
        assert replace(found, paused=(), draining=(), average_age=0.0) == replace(counted, average_age=0.0)
        await store.open_scopes(None, now=NOW)


async def test_a_control_says_who_has_closed_what_to_every_process(store: SqlStore, other: SqlStore) -> None:
    made: Control = await close(store)
    configuration = await other.configuration(known=0)
    assert configuration is not None
    assert configuration.controls == (made,)
    assert await other.configuration(known=configuration.version) is None
