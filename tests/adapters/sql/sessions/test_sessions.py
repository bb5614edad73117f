"""Deliveries in a session's own transaction: with it they come, and with it they go."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from anyio import to_thread
from letters import NOW, build_delivery, build_letter_in
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import async_scoped_session, async_sessionmaker
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from tests.adapters.sql.places import begin_for_savepoints
from tests.adapters.sql.sessions.shops import Hand, Opening, Order, Shop, ended

from eventbus_dlq.errors import StoreUnavailable
from eventbus_dlq.letter import DeadLetterState
from eventbus_dlq.store import Kept

ACCEPTED = DeadLetterState.ACCEPTED
PARKED = DeadLetterState.PARKED


async def test_deliveries_come_with_the_commit(shop: Shop, opening: Opening) -> None:
    hand = await opening()
    delivery = build_delivery()
    assert await hand.accept(delivery) == [Kept(delivery.id, ACCEPTED)]
    assert await shop.kept() == set()
    assert shop.woken == []
    await hand.do("commit")
    assert shop.woken == ["woken"]
    assert await shop.kept() == {delivery.id}
    assert await shop.total() == 1
    (claim,) = await shop.store.claim_due(
        {delivery.handler_id: 1}, states={ACCEPTED}, limit=1, owner="w", lease=30, now=NOW
    )
    assert claim.letter.id == delivery.id
    assert claim.letter.payload == delivery.payload


async def test_a_rollback_leaves_nothing_and_wakes_nobody(shop: Shop, opening: Opening) -> None:
    hand = await opening()
    await hand.accept(build_delivery(), build_delivery("customer-7"))
    await hand.do("rollback")
    await hand.do("commit")
    assert await shop.total() == 0
    assert await shop.kept() == set()
    assert shop.woken == []


async def test_closing_without_a_commit_leaves_nothing(shop: Shop, opening: Opening) -> None:
    hand = await opening()
    await hand.accept(build_delivery())
    await hand.do("close")
    assert await shop.total() == 0
    assert shop.woken == []


async def test_they_share_the_fate_of_the_applications_rows(shop: Shop, opening: Opening) -> None:
    hand = await opening()
    hand.session.add(Order(id=1))
    await hand.accept(build_delivery())
    await hand.do("rollback")
    hand.session.add(Order(id=2))
    kept = build_delivery()
    await hand.accept(kept)
    await hand.do("commit")
    orders = await hand.do("scalars", select(Order.id))
    assert list(orders) == [2]
    assert await shop.kept() == {kept.id}


async def test_nothing_of_the_sessions_own_is_flushed(shop: Shop, opening: Opening) -> None:
    hand = await opening()
    order = Order(id=1)
    hand.session.add(order)
    await hand.accept(build_delivery())
    assert order in hand.session.new
    await hand.do("commit")


async def test_two_publishes_in_one_transaction_wake_once(shop: Shop, opening: Opening) -> None:
    hand = await opening()
    first, second = build_delivery(), build_delivery()
    await hand.accept(first)
    await hand.accept(second)
    await hand.do("commit")
    assert await shop.kept() == {first.id, second.id}
    assert await shop.total() == 2
    assert shop.woken == ["woken"]


async def test_every_transaction_of_a_session_wakes_for_itself(shop: Shop, opening: Opening) -> None:
    hand = await opening()
    for _ in range(3):
        await hand.accept(build_delivery())
        await hand.do("commit")
        await hand.do("commit")  # of a transaction without deliveries
    assert shop.woken == ["woken"] * 3


async def test_a_savepoint_that_is_rolled_back_takes_its_own_with_it(shop: Shop, opening: Opening) -> None:
    hand = await opening()
    before, within = build_delivery(), build_delivery()
    await hand.accept(before)
    savepoint = await hand.savepoint()
    await hand.accept(within)
    await ended(savepoint, "rollback")
    await hand.do("commit")
    assert await shop.kept() == {before.id}
    assert await shop.total() == 1
    assert shop.woken == ["woken"]


async def test_a_commit_after_only_savepoints_that_were_rolled_back_wakes_nobody(
    shop: Shop, opening: Opening
) -> None:
    hand = await opening()
    savepoint = await hand.savepoint()
    await hand.accept(build_delivery())
    await ended(savepoint, "rollback")
    await hand.do("commit")
    assert await shop.total() == 0
    assert shop.woken == []


async def test_the_release_of_a_savepoint_wakes_nobody_yet(shop: Shop, opening: Opening) -> None:
    hand = await opening()
    outer = await hand.savepoint()
    inner = await hand.savepoint()
    delivery = build_delivery()
    await hand.accept(delivery)
    await ended(inner, "commit")
    await ended(outer, "commit")
    assert shop.woken == []
    assert await shop.kept() == set()
    await hand.do("commit")
    assert shop.woken == ["woken"]
    assert await shop.kept() == {delivery.id}


async def test_a_released_savepoint_in_a_transaction_that_is_rolled_back_leaves_nothing(
    shop: Shop, opening: Opening
) -> None:
    hand = await opening()
    savepoint = await hand.savepoint()
    await hand.accept(build_delivery())
    await ended(savepoint, "commit")
    await hand.do("rollback")
    assert await shop.total() == 0
    assert shop.woken == []


async def test_a_savepoint_without_deliveries_is_none_of_our_business(shop: Shop, opening: Opening) -> None:
    hand = await opening()
    delivery = build_delivery()
    await hand.accept(delivery)
    savepoint = await hand.savepoint()
    await ended(savepoint, "commit")
    assert shop.woken == []
    await hand.do("commit")
    assert shop.woken == ["woken"]
    assert await shop.kept() == {delivery.id}


async def test_a_session_that_has_joined_a_transaction_wakes_nobody_before_its_end(shop: Shop) -> None:
    engine = shop.place.engine()
    if shop.place.kind == "sqlite":
        begin_for_savepoints(engine)

    def play() -> list[str]:
        with engine.connect() as connection, connection.begin() as outer:
            with Session(connection, join_transaction_mode="create_savepoint") as session:
                shop.store.accept_in_sync(session, [build_delivery()])
                session.commit()
            told = list(shop.woken)
            outer.rollback()
        return told

    assert await to_thread.run_sync(play) == []
    engine.dispose()
    assert await shop.total() == 0


async def test_a_delivery_that_is_known_already_changes_nothing(shop: Shop, opening: Opening) -> None:
    hand = await opening()
    known = build_delivery()
    await shop.store.accept([known])
    again = build_delivery(event_id=known.event_id)
    assert await hand.accept(again, build_delivery()) == [
        Kept(known.id, ACCEPTED),
        Kept((await shop_ids(hand))[-1], ACCEPTED),
    ]
    await hand.do("commit")
    assert await shop.total() == 2


async def shop_ids(hand: Hand) -> list[str]:
    found = await hand.do("scalars", text("SELECT id FROM eventbus_dead_letters ORDER BY seq"))
    return list(found)


async def test_order_is_kept_within_a_session(shop: Shop, opening: Opening) -> None:
    hand = await opening()
    first, second = build_delivery("customer-7"), build_delivery("customer-7")
    assert [it.state for it in await hand.accept(first)] == [ACCEPTED]
    assert [it.state for it in await hand.accept(second)] == [ACCEPTED]
    await hand.do("commit")
    claims = await shop.store.claim_due(
        {first.handler_id: 9}, states={ACCEPTED}, limit=9, owner="w", lease=30, now=NOW
    )
    assert [claim.letter.id for claim in claims] == [first.id]
    assert (await shop.store.get(second.id)).waits


async def test_a_delivery_of_a_blocked_sequence_is_parked(shop: Shop, opening: Opening) -> None:
    hand = await opening()
    await shop.store.add([build_letter_in(DeadLetterState.PENDING, ordering_key="customer-7")])
    behind = build_delivery("customer-7")
    assert await hand.accept(behind) == [Kept(behind.id, PARKED)]
    await hand.do("commit")
    assert (await shop.store.stats(now=NOW)).by_state == {DeadLetterState.PENDING: 1, PARKED: 1}


async def test_many_deliveries_at_once(shop: Shop, opening: Opening) -> None:
    hand = await opening()
    deliveries = [build_delivery(f"key-{number % 7}" if number % 2 else None) for number in range(150)]
    kept = await hand.accept(*deliveries)
    await hand.do("commit")
    assert [it.id for it in kept] == [it.id for it in deliveries]
    assert await shop.total() == 150


async def test_no_deliveries_are_nothing_to_write(shop: Shop, opening: Opening) -> None:
    hand = await opening()
    assert await hand.accept() == []
    assert not hand.session.in_transaction()


async def test_a_scoped_session_is_a_session(shop: Shop, way: str) -> None:
    delivery = build_delivery()
    if way == "async":
        engine = shop.place.async_engine()
        scoped = async_scoped_session(async_sessionmaker(engine), scopefunc=lambda: 1)
        await shop.store.accept_in(scoped, [delivery])
        await scoped.commit()
        await scoped.remove()
        await engine.dispose()
    else:
        synchronous = shop.place.engine()
        local = scoped_session(sessionmaker(synchronous), scopefunc=lambda: 1)
        await to_thread.run_sync(shop.store.accept_in_sync, local, [delivery])
        await to_thread.run_sync(local.commit)
        await to_thread.run_sync(local.remove)
        synchronous.dispose()
    assert await shop.kept() == {delivery.id}


async def test_a_synchronous_session_needs_no_event_loop(shop: Shop) -> None:
    engine = shop.place.engine()
    delivery = build_delivery()

    def publish() -> Sequence[Kept]:
        with Session(engine) as session, session.begin():
            return shop.store.accept_in_sync(session, [delivery])

    assert await to_thread.run_sync(publish) == [Kept(delivery.id, ACCEPTED)]
    engine.dispose()
    assert await shop.kept() == {delivery.id}


async def test_an_engine_as_it_comes_commits_and_rolls_back(shop: Shop, opening: Opening) -> None:
    hand = await opening(plain=True)
    await hand.accept(build_delivery())
    await hand.do("rollback")
    delivery = build_delivery()
    await hand.accept(delivery)
    assert await shop.kept() == set()
    await hand.do("commit")
    assert await shop.kept() == {delivery.id}


async def test_a_closed_store_takes_nothing_in(shop: Shop, opening: Opening) -> None:
    hand = await opening()
    await shop.store.close()
    with pytest.raises(StoreUnavailable, match="is not open"):
        await hand.accept(build_delivery())
    assert not hand.session.in_transaction()
