"""Pausing, resuming and draining end to end, on every store."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread
from sqlalchemy.orm import Session
from tests.adapters.sql.places import shared_place
from tests.dlq.controlled import WHY, Shop, until

from eventbus import ControlState, Paused, Scope
from eventbus.testing import FakeClock
from eventbus_adapters.sql import SqlStore
from eventbus_dlq import DeadLetterState
from eventbus_dlq.store import DeadLetterStore


async def test_what_is_published_while_paused_runs_in_order_after_the_resume(
    any_store: DeadLetterStore,
) -> None:
    shop = Shop(any_store)
    shop.handle("job", "transient").handle("job", "durable", durable=True)
    shop.handle("job", "ordered", ordering_key=lambda number: number % 2 if number >= 0 else None)
    async with shop.bus as bus:
        await bus.pause(tenant="acme", **WHY)
        for number in range(20):
            receipt = await bus.publish("job", number, tenant="acme")
            assert {it.state for it in receipt.deliveries.values()} == {"parked"}
            await bus.publish("job", -number - 1, tenant="zen")
        await until(lambda: len([it for it in shop.ran if it[1] == "zen"]) == 60)
        assert not [it for it in shop.ran if it[1] == "acme"]
        stats = await bus.stats()
        assert (stats.paused, stats.by_tenant["acme"]) == ((Scope("acme"),), 60)
        await bus.resume(tenant="acme")
        await until(lambda: len(shop.ran) == 120, within=60)
        ordered = [number for number in shop.payloads("ordered") if number >= 0]
        for parity in (0, 1):
            assert [number for number in ordered if number % 2 == parity] == list(range(parity, 20, 2))
        assert (await bus.stats()).paused == ()


async def test_a_failure_that_is_paused_is_neither_retried_nor_replayed(any_store: DeadLetterStore) -> None:
    shop = Shop(any_store).handle("job", "handler")
    async with shop.bus as bus:
        letter_id = await bus.capture(
            "job", ConnectionError("gone"), handler="handler", data=1, tenant="acme"
        )
        control = await bus.pause(tenant="acme", handler="handler", **WHY)
        with pytest.raises(Paused, match="ann: moving to a new database") as caught:
            await bus.replay(letter_id)
        assert caught.value.control == control
        await bus.requeue(letter_id)
        with anyio.fail_after(10):
            while (await bus.dead_letter(letter_id)).state is not DeadLetterState.PARKED:
                await anyio.sleep(0.01)
        with pytest.raises(Paused):
            await bus.replay(letter_id)
        assert shop.ran == []
        await bus.resume(tenant="acme", handler="handler")
        await until(lambda: shop.ran == [("handler", "acme", 1)])


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_another_bus_with_a_store_of_its_own_obeys_and_is_waited_for(kind: str, tmp_path: Path) -> None:
    place = shared_place(kind, tmp_path)
    here, there = Shop(SqlStore(place.url)).handle("job", "handler"), Shop(SqlStore(place.url))
    handler = there.hang("job", "handler", durable=True)
    drained: list[Any] = []

    async def drain() -> None:
        drained.append(await here.bus.drain(handler="handler", **WHY))

    async with there.bus, anyio.create_task_group() as group:
        await there.bus.publish("job", 1)
        await until(lambda: handler.began == [1])
        async with here.bus:
            group.start_soon(drain)
            with anyio.fail_after(1):
                while not there.bus.gate:
                    await anyio.sleep(0.01)
            assert (await there.bus.publish("job", 2)).deliveries["handler"].state == "parked"
            assert drained == []
            handler.let_go()
            await until(lambda: bool(drained))
            (control,) = await there.bus.controls()
            assert (control, control.state) == (drained[0], ControlState.DRAINED)
            await here.bus.resume(handler="handler")
            await until(lambda: len(there.ran) + len(here.ran) == 2)


async def test_until_opens_again_what_was_closed(any_store: DeadLetterStore) -> None:
    clock = FakeClock()
    shop = Shop(any_store, clock=clock).handle("job", "handler", durable=True)
    async with shop.bus as bus:
        await bus.pause(event="job", until=clock.now + timedelta(minutes=5), **WHY)
        assert (await bus.publish("job", 1)).deliveries["handler"].state == "parked"
        clock.advance(299)
        await anyio.sleep(0.05)
        assert shop.ran == []
        clock.advance(1)
        await until(lambda: shop.ran == [("handler", None, 1)])
        assert await bus.controls() == ()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_what_an_application_commits_while_paused_is_parked_by_the_worker(
    kind: str, tmp_path: Path
) -> None:
    place = shared_place(kind, tmp_path)
    shop = Shop(SqlStore(place.url)).handle("job", "handler")
    async with shop.bus as bus:
        await bus.pause(tenant="acme", **WHY)

        def commit() -> None:
            engine = place.engine()
            with Session(engine) as session:
                receipt = bus.publish_in(session, "job", 1, tenant="acme")
                assert receipt.deliveries["handler"].state == "accepted"
                session.commit()
            engine.dispose()

        await to_thread.run_sync(commit)
        with anyio.fail_after(10):
            while [it.state for it in await shop.letters()] != [DeadLetterState.PARKED]:
                await anyio.sleep(0.01)
        assert shop.ran == []
        await bus.resume(tenant="acme")
        await until(lambda: shop.ran == [("handler", "acme", 1)])
