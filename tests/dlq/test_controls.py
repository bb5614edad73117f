"""Pausing tenants, events and handlers: nothing of theirs begins, nothing is lost, all of it runs later."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.dlq.controlled import WHY, Shop, until

from eventbus import CaptureFailed, EventBus, TelemetryEvent
from eventbus.controls import Scope
from eventbus_dlq import (
    DeadLetterQueue,
    DeadLetterState,
    MemoryStore,
    Reason,
    StoreUnavailable,
)


@pytest.mark.parametrize(
    "scope",
    [
        {"tenant": "acme"},
        {"event": "job"},
        {"handler": "handler"},
        {"tenant": "acme", "event": "job"},
        {"tenant": "acme", "handler": "handler"},
        {"event": "job", "handler": "handler"},
        {"tenant": "acme", "event": "job", "handler": "handler"},
        {},
    ],
    ids=lambda scope: "+".join(scope) or "everything",
)
@pytest.mark.parametrize("observed", [False, True], ids=["direct", "observed"])
async def test_what_is_published_to_a_paused_scope_is_parked_and_runs_after_the_resume(
    store: MemoryStore, scope: dict[str, str], observed: bool
) -> None:
    seen: list[TelemetryEvent] = []
    shop = Shop(store, bus={"observers": [seen.append] if observed else []}).handle("job", "handler")
    async with shop.bus as bus:
        control = await bus.pause(**scope, **WHY)
        receipt = await bus.publish("job", 1, tenant="acme")
        result = receipt.deliveries["handler"]
        assert (result.state, receipt.ok, shop.ran) == ("parked", True, [])
        letter = await bus.dead_letter(result.dead_letter_id or "")
        assert (letter.state, letter.reason, letter.attempts) == (DeadLetterState.PARKED, Reason.PAUSED, 0)
        assert await bus.resume(**scope) == control
        await until(lambda: shop.ran == [("handler", "acme", 1)])
        receipt = await bus.publish("job", 2, tenant="acme")
        assert receipt.deliveries["handler"].state == "succeeded"
    assert not observed or "delivery.parked" in {it.name for it in seen}


async def test_others_run_while_a_tenant_is_paused(store: MemoryStore) -> None:
    shop = Shop(store).handle("job", "handler")
    async with shop.bus as bus:
        await bus.pause(tenant="acme", **WHY)
        for tenant in ("zen", None, "acme", "zen"):
            await bus.publish("job", 1, tenant=tenant)
        assert shop.ran == [("handler", "zen", 1), ("handler", None, 1), ("handler", "zen", 1)]


@pytest.mark.parametrize("concurrency", ["concurrent", "serial"])
async def test_of_several_handlers_only_the_paused_one_is_held_back(
    store: MemoryStore, concurrency: str
) -> None:
    shop = Shop(store, bus={"concurrency": concurrency})
    for name in ("first", "second", "third"):
        shop.handle("job", name)
    async with shop.bus as bus:
        await bus.pause(handler="second", **WHY)
        receipt = await bus.publish("job", 1)
        states = {name: result.state for name, result in receipt.deliveries.items()}
        assert states == {"first": "succeeded", "second": "parked", "third": "succeeded"}
        await bus.resume(handler="second")
        await until(lambda: shop.payloads("second") == [1])


async def test_what_would_run_in_a_task_of_its_own_is_held_back_too(store: MemoryStore) -> None:
    shop = Shop(store)
    first = shop.hang("job", "first")
    shop.handle("job", "second")
    async with shop.bus as bus, anyio.create_task_group() as group:
        await bus.pause(handler="second", **WHY)
        group.start_soon(bus.publish, "job", 1)
        await until(lambda: first.began == [1])
        with anyio.fail_after(5):
            while not await shop.letters(state={"parked"}):
                await anyio.sleep(0.005)
        assert shop.ran == []
        first.let_go()


async def test_a_later_stage_obeys_a_pause_that_came_while_the_first_one_ran(store: MemoryStore) -> None:
    shop = Shop(store)
    first = shop.hang("job", "first")
    shop.handle("job", "second", stage=1)
    async with shop.bus as bus, anyio.create_task_group() as group:
        group.start_soon(bus.publish, "job", 1)
        await until(lambda: first.began == [1])
        await bus.pause(handler="second", **WHY)
        first.let_go()
        await until(lambda: shop.ran == [("first", None, 1)])
        await bus.wait_idle()
        assert [it.reason for it in await shop.letters()] == [Reason.PAUSED]
        await bus.resume(handler="second")
        await until(lambda: shop.payloads("second") == [1])


async def test_enqueued_events_obey_when_their_turn_comes(store: MemoryStore) -> None:
    shop = Shop(store, bus={"enqueue_concurrency": 1})
    ahead = shop.hang("ahead", "ahead")
    shop.handle("job", "handler")
    async with shop.bus as bus:
        await bus.enqueue("ahead", 0)
        receipts = [await bus.enqueue("job", number, tenant="acme") for number in range(3)]
        await until(lambda: ahead.began == [0])
        await bus.pause(tenant="acme", **WHY)
        ahead.let_go()
        await bus.wait_idle()
        assert [it.deliveries["handler"].state for it in receipts] == ["parked"] * 3
        assert shop.payloads("handler") == []
        await bus.resume(tenant="acme")
        await until(lambda: sorted(shop.payloads("handler")) == [0, 1, 2])


async def test_what_a_running_handler_publishes_into_the_scope_is_parked_and_the_handler_goes_on(
    store: MemoryStore,
) -> None:
    shop = Shop(store).handle("inner", "inner")
    states: list[str] = []
    paused, began = anyio.Event(), anyio.Event()

    @shop.bus.on("outer", id="outer")
    async def outer(_: Any) -> None:
        began.set()
        await paused.wait()
        receipt = await shop.bus.publish("inner", 1)  # of the same tenant
        states.append(receipt.deliveries["inner"].state)

    async with shop.bus as bus, anyio.create_task_group() as group:
        group.start_soon(lambda: bus.publish("outer", 0, tenant="acme"))
        await began.wait()
        await bus.pause(tenant="acme", **WHY)
        paused.set()
        await until(lambda: states == ["parked"])
        await bus.resume(tenant="acme")
        await until(lambda: shop.ran == [("inner", "acme", 1)])


async def test_durable_deliveries_are_parked_as_they_are_accepted(store: MemoryStore) -> None:
    shop = Shop(store).handle("job", "handler", durable=True)
    async with shop.bus as bus:
        await bus.pause(event="job", **WHY)
        states = [(await bus.publish("job", number)).deliveries["handler"].state for number in range(3)]
        assert states == ["parked"] * 3
        await bus.wait_idle()
        assert shop.ran == []
        await bus.resume(event="job")
        await until(lambda: sorted(shop.payloads("handler")) == [0, 1, 2])


async def test_what_is_accepted_and_due_is_parked_by_the_worker(store: MemoryStore) -> None:
    shop = Shop(store, worker=False).handle("job", "handler", durable=True)
    async with shop.bus as bus:
        receipt = await bus.publish("job", 1)
        assert receipt.deliveries["handler"].state == "accepted"
    shop = Shop(store).handle("job", "handler", durable=True).handle("other", "other", durable=True)
    closing = Shop(store, worker=False).handle("job", "handler")
    async with closing.bus as bus:
        await bus.pause(handler="handler", **WHY)
    async with shop.bus as bus:
        await bus.publish("other", 1)
        await until(lambda: shop.payloads("other") == [1])
        (letter,) = await shop.letters(handler="handler")
        assert (letter.state, letter.reason) == (DeadLetterState.PARKED, Reason.PAUSED)
        await bus.resume(handler="handler")
        await until(lambda: shop.payloads("handler") == [1])


async def test_a_condition_is_asked_once_and_goes_before_the_pause(store: MemoryStore) -> None:
    asked: list[Any] = []

    def is_odd(envelope: Any) -> bool:
        asked.append(envelope.payload)
        return bool(envelope.payload % 2)

    shop = Shop(store).handle("job", "odd", when=is_odd).handle("job", "once", once=True)
    async with shop.bus as bus:
        await bus.pause(**WHY)
        receipts = [await bus.publish("job", number) for number in (1, 2)]
        assert [it.deliveries["odd"].state for it in receipts] == ["parked", "skipped"]
        assert [it.deliveries["once"].state for it in receipts] == ["parked", "skipped"]
        await bus.resume()
        await until(lambda: sorted(shop.ran) == [("odd", None, 1), ("once", None, 1)])
    assert asked == [1, 2]


async def test_a_condition_that_raises_is_a_failure_in_a_paused_scope_too(store: MemoryStore) -> None:
    def broken(_: Any) -> bool:
        raise ValueError("no such field")

    shop = Shop(store).handle("job", "handler", when=broken)
    async with shop.bus as bus:
        await bus.pause(**WHY)
        receipt = await bus.publish("job", 1)
        assert receipt.deliveries["handler"].state == "dead_lettered"


async def test_a_plain_function_is_held_back_too(store: MemoryStore) -> None:
    shop = Shop(store)
    ran: list[Any] = []

    @shop.bus.on("job", id="plain")
    def plain(payload: Any) -> None:
        ran.append(payload)

    async with shop.bus as bus:
        await bus.pause(handler="plain", **WHY)
        assert (await bus.publish("job", 1)).deliveries["plain"].state == "parked"
        assert ran == []
        await bus.resume(handler="plain")
        await until(lambda: ran == [1])


async def test_what_waits_for_a_place_when_its_scope_is_closed_does_not_begin(store: MemoryStore) -> None:
    shop = Shop(store)
    handler = shop.hang("job", "handler", max_concurrency=1)
    async with shop.bus as bus, anyio.create_task_group() as group:
        for number in (1, 2):
            group.start_soon(lambda number=number: bus.publish("job", number, tenant="acme"))
            await until(lambda: handler.began == [1])
        await anyio.wait_all_tasks_blocked()
        await bus.pause(tenant="acme", **WHY)
        handler.let_go()
        await bus.wait_idle()
        assert handler.began == [1]
        (letter,) = await shop.letters()
        assert (letter.payload, letter.reason) == (2, Reason.PAUSED)
        metrics = bus.metrics.snapshot()["handler"]
        assert (metrics.in_flight, metrics.parked, metrics.delivered) == (0, 1, 1)
        await bus.resume(tenant="acme")
        await until(lambda: handler.began == [1, 2])


# -- order


async def test_deliveries_of_one_key_run_in_order_around_a_pause(store: MemoryStore) -> None:
    shop = Shop(store).handle("job", "handler", ordering_key=lambda _: "k")
    async with shop.bus as bus:
        await bus.publish("job", 1)
        await bus.pause(handler="handler", **WHY)
        for number in (2, 3, 4):
            assert (await bus.publish("job", number)).deliveries["handler"].state == "parked"
        await bus.resume(handler="handler")
        await bus.publish("job", 5)
        await until(lambda: len(shop.ran) == 5)
    assert shop.payloads("handler") == [1, 2, 3, 4, 5]


async def test_what_waits_in_line_when_its_scope_is_closed_is_parked_in_order(store: MemoryStore) -> None:
    shop = Shop(store)
    handler = shop.hang("job", "handler", ordering_key=lambda _: "k")
    async with shop.bus as bus, anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(lambda number=number: bus.publish("job", number))
            await anyio.wait_all_tasks_blocked()
        assert handler.began == [0]
        await bus.pause(handler="handler", **WHY)
        handler.let_go()
        await bus.wait_idle()
        assert shop.payloads("handler") == [0]
        assert [it.payload for it in await shop.letters()] == [1, 2, 3, 4]
        await bus.resume(handler="handler")
        await until(lambda: len(shop.ran) == 5)
    assert shop.payloads("handler") == [0, 1, 2, 3, 4]


async def test_in_a_line_with_a_paused_tenant_the_others_behind_it_wait_too(store: MemoryStore) -> None:
    shop = Shop(store).handle("job", "handler", ordering_key=lambda _: "k")
    async with shop.bus as bus:
        await bus.pause(tenant="acme", **WHY)
        await bus.publish("job", 1, tenant="acme")
        await bus.publish("job", 2, tenant="zen")
        assert shop.ran == []
        await bus.resume(tenant="acme")
        await until(lambda: shop.ran == [("handler", "acme", 1), ("handler", "zen", 2)])


async def test_what_was_parked_without_a_key_runs_by_the_time_it_was_published(store: MemoryStore) -> None:
    shop = Shop(store, concurrency=1).handle("job", "handler", durable=True)
    async with shop.bus as bus:
        await bus.pause(**WHY)
        for number in range(20):
            await bus.publish("job", number)
        await bus.resume()
        await until(lambda: len(shop.ran) == 20)
    assert shop.payloads("handler") == list(range(20))


# -- nothing is lost


class Refusing(MemoryStore):
    """A store that is away for the verbs in ``refuses``."""

    def __init__(self) -> None:
        super().__init__()
        self.refuses: set[str] = set()

    async def accept(self, deliveries: Any) -> Any:
        self._check("accept")
        return await super().accept(deliveries)

    async def configuration(self, *, known: int | None = None) -> Any:
        self._check("configuration")
        return await super().configuration(known=known)

    def _check(self, verb: str) -> None:
        if verb in self.refuses:
            raise StoreUnavailable(f"no {verb} today")


async def test_what_cannot_be_parked_is_told_to_the_publisher() -> None:
    store = Refusing()
    shop = Shop(store, capture_timeout=0.0).handle("job", "handler")
    async with shop.bus as bus:
        await bus.pause(**WHY)
        store.refuses.add("accept")
        with pytest.raises(CaptureFailed, match="no accept today"):
            await bus.publish("job", 1)
        assert shop.ran == []


async def test_what_is_parked_while_the_store_is_away_comes_from_the_spool_and_runs_after_the_resume(
    tmp_path: Path,
) -> None:
    store = Refusing()
    shop = Shop(store, capture_timeout=0.01, spool=tmp_path / "spool").handle("job", "handler")
    async with shop.bus as bus:
        await bus.pause(tenant="acme", **WHY)
        store.refuses.add("accept")
        receipt = await bus.publish("job", 1, tenant="acme")
        assert receipt.deliveries["handler"].state == "parked"
        assert bus.dlq.is_spooling
        store.refuses.clear()
        with anyio.fail_after(10):
            while [it.state for it in await shop.letters()] != [DeadLetterState.PARKED]:
                await anyio.sleep(0.01)
        assert shop.ran == []
        await bus.resume(tenant="acme")
        await until(lambda: shop.ran == [("handler", "acme", 1)])


async def test_a_store_that_is_away_leaves_closed_what_was_closed() -> None:
    store = Refusing()
    shop = Shop(store).handle("job", "handler")
    async with shop.bus as bus:
        await bus.pause(tenant="acme", **WHY)
        store.refuses.add("configuration")
        await until(lambda: bus.dlq.store_error is not None)
        assert (await bus.publish("job", 1, tenant="acme")).deliveries["handler"].state == "parked"
        assert (await bus.publish("job", 2, tenant="zen")).deliveries["handler"].state == "succeeded"


async def test_a_bus_that_cannot_learn_what_is_closed_does_not_start() -> None:
    store = Refusing()
    store.refuses.add("configuration")
    shop = Shop(store).handle("job", "handler")
    with pytest.raises(StoreUnavailable, match="no configuration"):
        await shop.bus.start()
    assert await store.processes() == []
    store.refuses.clear()
    async with shop.bus as bus:
        assert (await bus.publish("job", 1)).ok


async def test_a_publisher_that_is_cancelled_while_its_delivery_is_parked_loses_nothing(
    store: MemoryStore,
) -> None:
    accept, held = store.accept, anyio.Event()

    async def slowly(deliveries: Any) -> Any:
        kept = await accept(deliveries)
        held.set()
        await anyio.sleep_forever()
        return kept

    shop = Shop(store).handle("job", "handler")
    async with shop.bus as bus:
        await bus.pause(**WHY)
        store.accept = slowly  # type: ignore[method-assign]
        async with anyio.create_task_group() as group:
            group.start_soon(bus.publish, "job", 1)
            await held.wait()
            store.accept = accept  # type: ignore[method-assign]
            group.cancel_scope.cancel()
        await bus.resume()
        await until(lambda: shop.payloads("handler") == [1])


async def test_a_bus_stops_at_once_while_all_is_paused_and_starts_closed(store: MemoryStore) -> None:
    shop = Shop(store).handle("job", "handler").handle("job", "durable", durable=True)
    async with shop.bus as bus:
        await bus.pause(**WHY)
        await bus.publish("job", 1)
    ran: list[str] = []
    async with shop.bus as bus:
        states = (await bus.publish("job", 2)).deliveries
        assert {it.state for it in states.values()} == {"parked"}
        ran.extend(name for name, _, _ in shop.ran)
        await bus.resume_all()
        await until(lambda: len(shop.ran) == 4)
    assert ran == []


async def test_a_bus_that_is_started_again_on_another_store_knows_nothing_of_the_first() -> None:
    bus = EventBus(dlq=DeadLetterQueue(MemoryStore()))
    ran: list[Any] = []

    @bus.on("job", id="handler")
    async def handler(payload: Any) -> None:
        ran.append(payload)

    async with bus:
        await bus.pause(**WHY)
    bus._dlq = DeadLetterQueue(MemoryStore())
    async with bus:
        await bus.publish("job", 1)
    assert ran == [1]


@pytest.mark.repetitive
async def test_of_ten_thousand_tenants_a_thousand_are_paused_and_the_others_run(store: MemoryStore) -> None:
    shop = Shop(store).handle("job", "handler")
    paused = {f"tenant-{number}" for number in range(0, 10_000, 10)}
    async with shop.bus as bus:
        for tenant in sorted(paused):
            await bus.pause(tenant=tenant, **WHY)
        for number in range(10_000):
            await bus.publish("job", number, tenant=f"tenant-{number}")
        assert len(shop.ran) == 9_000
        assert paused.isdisjoint(tenant for _, tenant, _ in shop.ran)
        assert len(await bus.controls()) == len((await bus.stats()).paused) == 1_000
        assert len(await bus.resume_all()) == 1_000
        await until(lambda: len(shop.ran) == 10_000, within=60)
    assert {tenant for _, tenant, _ in shop.ran[9_000:]} == paused


class SlowToBringBack(MemoryStore):
    """A store with so much to bring back that it takes until the test lets it go on."""

    def __init__(self) -> None:
        super().__init__()
        self.began, self.go_on = anyio.Event(), anyio.Event()

    async def unpark(self, *, limit: int, now: datetime) -> bool:
        self.began.set()
        await self.go_on.wait()
        return await super().unpark(limit=limit, now=now)


async def test_what_others_close_is_learned_while_much_is_being_brought_back() -> None:
    store = SlowToBringBack()
    async with Shop(store).handle("job", "handler").bus as bus:
        await store.began.wait()
        now = datetime.now(UTC)
        await store.close_scope(Scope("acme"), "paused", until=None, now=now, **WHY)  # by another process
        await until(lambda: bool(bus.gate))
        store.go_on.set()
