"""A transaction of the application's own, however long, holds up its sequences and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from letters import NOW, after, build_delivery, build_letter
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from eventbus import EventBus
from eventbus_adapters.sql import SqlStore
from eventbus_adapters.sql.locking import lock
from eventbus_dlq import Claim, DeadLetterQuery, DeadLetterQueue, Settlement, StoreLocked
from eventbus_dlq.letter import DeadLetterState, Verb

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])  # SQLAlchemy's sessions need it


@pytest.fixture
async def store(url: str) -> AsyncIterator[SqlStore]:
    store = SqlStore(url)
    await store.open()
    yield store
    await store.close()


@asynccontextmanager
async def session_on(url: str) -> AsyncIterator[AsyncSession]:
    server, _, schema = url.rpartition("&search_path=")
    settings = {"server_settings": {"search_path": schema}}
    engine = create_async_engine(server, poolclass=NullPool, connect_args=settings)
    async with AsyncSession(engine) as session:
        yield session
    await engine.dispose()


def done(claim: Claim) -> Settlement:
    return Settlement(lease=claim.lease, state=DeadLetterState.RESOLVED)


async def claims(store: SqlStore, *ids: str) -> list[Claim]:
    found = await store.claim(ids, owner="w", lease=30, now=NOW)
    return [it for it in found if isinstance(it, Claim)]


async def test_what_is_in_a_locked_sequence_is_named_and_the_rest_can_be_settled(
    store: SqlStore, url: str
) -> None:
    held_up, other, alone = build_delivery("k"), build_delivery("other"), build_delivery()
    await store.accept([held_up, other, alone])
    claimed = await claims(store, held_up.id, other.id, alone.id)
    async with session_on(url) as session:
        await store.accept_in(session, [build_delivery("k")])
        with anyio.fail_after(3):
            for settle in (
                lambda: store.settle([done(it) for it in claimed], now=NOW),
                lambda: store.release([it.lease for it in claimed], now=NOW),
            ):
                with pytest.raises(StoreLocked) as error:
                    await settle()
                assert error.value.dead_letter_ids == {held_up.id}
                assert error.value.retryable
            assert await store.settle([done(it) for it in claimed[1:]], now=NOW) == []
        assert (await store.get(held_up.id)).state is DeadLetterState.RUNNING
        await session.commit()
    assert await store.settle([done(claimed[0])], now=NOW) == []


async def test_who_holds_a_sequence_is_not_guessed(store: SqlStore, url: str) -> None:
    delivery = build_delivery("k")
    await store.accept([delivery])
    (claim,) = await claims(store, delivery.id)
    async with session_on(url) as session:  # as another process begins, which changes letters of this key
        await session.run_sync(lambda it: lock(it.connection(), [(delivery.handler_id, "k")], ()))
        with pytest.raises(StoreLocked, match="a write of some process or one of the application's") as error:
            await store.settle([done(claim)], now=NOW)
        assert delivery.id in str(error.value)
    assert await store.settle([done(claim)], now=NOW) == []


async def test_the_dead_of_a_locked_sequence_are_rescued_later(store: SqlStore, url: str) -> None:
    held_up, other = build_delivery("k"), build_delivery("other")
    await store.accept([held_up, other])
    await store.claim([held_up.id, other.id], owner="dead", lease=-1, now=NOW)
    leased = await store.leased(now=NOW)
    async with session_on(url) as session:
        await store.accept_in(session, [build_delivery("k")])
        with pytest.raises(StoreLocked) as error:
            await store.rescue(leased, max_crashes=3, now=NOW)
        assert error.value.dead_letter_ids == {held_up.id}


async def test_other_writes_wait_for_the_end_of_the_transaction_and_hold_up_nobody(
    store: SqlStore, url: str
) -> None:
    failed = build_letter(ordering_key="k")
    await store.add([failed])
    order: list[str] = []

    async with session_on(url) as session, anyio.create_task_group() as group:
        behind = build_delivery("k")
        await store.accept_in(session, [behind])

        async def accept() -> None:
            await store.accept([build_delivery("k")])
            order.append("accepted")

        async def resolve() -> None:
            await store.change(failed.id, Verb.RESOLVE, now=NOW)
            order.append("resolved")

        group.start_soon(accept)
        group.start_soon(resolve)
        with anyio.fail_after(3):
            for _ in range(20):
                await store.accept([build_delivery("other"), build_delivery()])
                await store.delete((await store.add([build_letter()]))[0])
        assert not order
        order.append("committed")
        await session.commit()
    assert order[0] == "committed"
    assert sorted(order) == ["accepted", "committed", "resolved"]
    kept = await store.get(behind.id)
    assert (kept.state, kept.waits) == (DeadLetterState.ACCEPTED, False)


async def test_what_nobody_handles_in_a_locked_sequence_is_given_up_later(store: SqlStore, url: str) -> None:
    held_up, other = (build_delivery(key, created_at=after(-7_200)) for key in ("k", "other"))
    await store.accept([held_up, other])
    async with session_on(url) as session:
        await store.accept_in(session, [build_delivery("k")])
        with anyio.fail_after(3):
            assert await store.exhaust_unhandled(since=after(-3_600), now=NOW) == [other.id]
    assert await store.exhaust_unhandled(since=after(-3_600), now=NOW) == [held_up.id]


async def test_what_waits_is_written_before_the_store_closes(url: str) -> None:
    store, looking = SqlStore(url), SqlStore(url)
    await store.open()
    delivery = build_delivery("k")
    async with session_on(url) as session, anyio.create_task_group() as group:
        await store.accept_in(session, [build_delivery("k")])
        group.start_soon(store.accept, [delivery])
        await anyio.sleep(0.05)
        group.start_soon(store.close)
        await anyio.sleep(0.05)
        await session.rollback()
    await looking.open()
    assert (await looking.get(delivery.id)).state is DeadLetterState.ACCEPTED
    await looking.close()


async def test_a_bus_goes_on_beside_a_long_transaction(url: str) -> None:
    bus = EventBus(dlq=DeadLetterQueue(SqlStore(url)))
    go, seen = anyio.Event(), []

    @bus.on("job", id="handler", durable=True, ordering_key=lambda event: event[0])
    async def handler(event: tuple[str, int]) -> None:
        if event == ["k", 1]:
            await go.wait()
        seen.append(tuple(event))

    async def until(count: int) -> None:
        with anyio.fail_after(4):  # less than a lock is waited for
            while len(seen) < count:
                await anyio.sleep(0.005)

    async with bus:
        await bus.publish("job", ("k", 1))
        async with session_on(url) as session:
            await bus.publish("job", ("k", 2), session=session)
            go.set()
            await until(1)
            for number in range(3):
                await bus.publish("job", ("other", number))
            await until(4)
            await session.commit()
        await until(5)
        with anyio.fail_after(4):
            await bus.wait_idle()
        assert (await bus.stats()).total == 0
    assert seen == [("k", 1), ("other", 0), ("other", 1), ("other", 2), ("k", 2)]


async def keys_in_order(store: SqlStore) -> list[tuple[str | None, str]]:
    page = await store.find(DeadLetterQuery(), order="oldest")
    return [(it.ordering_key, it.event_id) for it in page.items]


async def test_what_comes_behind_a_held_up_one_of_its_sequence_does_not_pass_it(
    store: SqlStore, url: str
) -> None:
    locked, first, second, third = (build_delivery(key, created_at=NOW) for key in ("k", "j", "j", "j"))
    async with session_on(url) as session, anyio.create_task_group() as group:
        await store.accept_in(session, [build_delivery("k", created_at=after(-1))])
        for batch in ([locked, first], [second]):  # with one another in a transaction
            group.start_soon(store.accept, batch)
        await anyio.sleep(0.1)
        group.start_soon(store.accept, [third])
        await anyio.sleep(0.1)
        assert await keys_in_order(store) == []
        await session.rollback()
    assert await keys_in_order(store) == [
        ("k", locked.event_id),
        ("j", first.event_id),
        ("j", second.event_id),
        ("j", third.event_id),
    ]


async def test_what_is_held_up_keeps_its_place_when_its_sequence_is_free_again(
    store: SqlStore, url: str
) -> None:
    first, second = (build_delivery("k", created_at=NOW) for _ in range(2))
    async with session_on(url) as long, session_on(url) as short, anyio.create_task_group() as group:
        await store.accept_in(long, [build_delivery("x"), build_delivery("y")])
        await store.accept_in(short, [build_delivery("k")])
        for delivery in (build_delivery("x"), build_delivery("y"), first):  # more than wait at a time
            group.start_soon(store.accept, [delivery])
            await anyio.sleep(0.05)
        await short.rollback()
        group.start_soon(store.accept, [second])
        await anyio.sleep(0.1)
        await long.rollback()
    assert [it for it in await keys_in_order(store) if it[0] == "k"] == [
        ("k", first.event_id),
        ("k", second.event_id),
    ]
