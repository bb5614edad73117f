"""What operators say: who obeys and when, what is refused, what is answered, and what observers are told."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import anyio
import pytest
from tests.dlq.controlled import WHY, Shop, until

from eventbus import (
    BusClosed,
    ControlState,
    EventBus,
    NoDeadLetterQueue,
    Paused,
    Scope,
    TelemetryEvent,
    UnknownEvent,
    UnknownHandler,
)
from eventbus.testing import FakeClock
from eventbus_dlq import DeadLetterQuery, DeadLetterQueue, DeadLetterState, MemoryStore, Reason

# -- the other processes


async def test_another_bus_on_the_store_obeys_within_half_a_second_of_its_clock(store: MemoryStore) -> None:
    clock = FakeClock()
    here = Shop(store).handle("job", "handler")
    there = Shop(store, clock=clock).handle("job", "handler")
    async with here.bus, there.bus:
        await here.bus.pause(tenant="acme", **WHY)
        await anyio.wait_all_tasks_blocked()
        clock.advance(0.5)
        await until(lambda: bool(there.bus.gate))
        receipt = await there.bus.publish("job", 1, tenant="acme")
        assert receipt.deliveries["handler"].state == "parked"
        await here.bus.resume(tenant="acme")
        clock.advance(0.5)
        await until(lambda: not there.bus.gate)
        receipt = await there.bus.publish("job", 2, tenant="acme")
        assert receipt.deliveries["handler"].state == "succeeded"


async def test_a_bus_that_thinks_a_scope_closed_runs_what_the_store_hands_it(store: MemoryStore) -> None:
    here = Shop(store, worker=False).handle("job", "handler", durable=True)
    there = Shop(store, clock=FakeClock()).handle("job", "handler", durable=True)  # it never looks by itself
    async with here.bus:
        await here.bus.pause(**WHY)
        async with there.bus:
            assert there.bus.gate
            await anyio.wait_all_tasks_blocked()
            await here.bus.resume()
            receipt = await there.bus.publish("job", 1)  # parked, as far as is known there
            assert receipt.deliveries["handler"].state == "accepted"
            await until(lambda: there.ran == [("handler", None, 1)])


async def test_what_is_claimed_when_its_scope_is_closed_is_given_back(store: MemoryStore) -> None:
    shop = Shop(store).handle("job", "handler", durable=True)
    claim_due = store.claim_due

    async def claim_and_be_overtaken(wanted: Any, **options: Any) -> Any:
        claims = await claim_due(wanted, **options)
        if claims and not shop.bus.gate:
            await shop.bus.pause(handler="handler", **WHY)
        return claims

    store.claim_due = claim_and_be_overtaken  # type: ignore[method-assign]
    accepting = Shop(store, worker=False).handle("job", "handler", durable=True)
    async with accepting.bus as bus:
        await bus.publish("job", 1)
    async with shop.bus as bus:
        await until(lambda: bool(bus.gate))
        while (letter := (await shop.letters())[0]).state is not DeadLetterState.PARKED:
            await anyio.sleep(0.001)
        assert (shop.ran, letter.reason, letter.attempts) == ([], Reason.PAUSED, 0)
        store.claim_due = claim_due  # type: ignore[method-assign]
        await bus.resume(handler="handler")
        await until(lambda: shop.payloads("handler") == [1])


async def test_the_id_under_which_a_delivery_is_stored_says_what_closes_it(store: MemoryStore) -> None:
    old = Shop(store, worker=False).handle("job", "old", durable=True)
    async with old.bus as bus:
        await bus.publish("job", 1)
    shop = Shop(store).handle("job", "new", durable=True, aliases=("old",))
    async with Shop(store, worker=False).handle("job", "new").bus as bus:  # it knows of no alias
        await bus.pause(handler="new", **WHY)
    async with shop.bus as bus:
        await bus.publish("job", 2)
        await until(lambda: shop.payloads("new") == [1])
        (letter,) = await shop.letters(state={DeadLetterState.PARKED})
        assert letter.payload == 2


@pytest.mark.repetitive
async def test_a_resume_brings_back_more_than_one_transaction_holds(store: MemoryStore) -> None:
    shop = Shop(store, clock=FakeClock()).handle("job", "handler")  # nothing is looked for meanwhile
    async with shop.bus as bus:
        await bus.pause(**WHY)
        for number in range(2_500):
            await bus.publish("job", number)
        await anyio.wait_all_tasks_blocked()
        await bus.resume()
        await until(lambda: len(shop.ran) == 2_500, within=60)


# -- until


async def test_a_pause_that_ends_by_itself_lets_everything_run(store: MemoryStore) -> None:
    clock = FakeClock()
    shop = Shop(store, clock=clock).handle("job", "handler").handle("job", "durable", durable=True)
    async with shop.bus as bus:
        await bus.pause(tenant="acme", until=clock.now + timedelta(hours=1), **WHY)
        await bus.publish("job", 1, tenant="acme")
        clock.advance(3_599)
        await anyio.wait_all_tasks_blocked()
        assert (shop.ran, len(await bus.controls())) == ([], 1)
        clock.advance(1)
        await until(lambda: len(shop.ran) == 2)
        assert (await bus.controls(), (await bus.stats()).paused) == ((), ())
        assert (await bus.publish("job", 2, tenant="acme")).deliveries["handler"].state == "succeeded"


# -- replays


async def failed(shop: Shop) -> str:
    """Have a delivery of the tenant acme fail; return its letter."""
    return await shop.bus.capture("job", ValueError("broken"), handler="handler", data=1, tenant="acme")


async def test_replaying_something_paused_is_refused_with_who_and_why(store: MemoryStore) -> None:
    shop = Shop(store).handle("job", "handler")
    async with shop.bus as bus:
        letter_id = await failed(shop)
        before = await bus.dead_letter(letter_id)
        control = await bus.pause(tenant="acme", **WHY)
        said = r"by ann: moving to a new database.*resume\(tenant='acme'\)"
        with pytest.raises(Paused, match=said) as caught:
            await bus.replay(letter_id)
        assert caught.value.control == control
        assert await bus.dead_letter(letter_id) == before
        await bus.resume(tenant="acme")
        assert (await bus.replay(letter_id)).state == DeadLetterState.RESOLVED


async def test_a_bulk_replay_skips_what_is_paused(store: MemoryStore) -> None:
    shop = Shop(store).handle("job", "handler")
    async with shop.bus as bus:
        await failed(shop)
        await bus.capture("job", ValueError("broken"), handler="handler", data=2, tenant="zen")
        await bus.pause(tenant="acme", **WHY)
        operation = await bus.replay_all(DeadLetterQuery(handler="handler"))
        assert (operation.total, operation.done, operation.skipped) == (2, 1, 1)


async def test_a_replay_that_waits_for_a_place_when_its_scope_is_closed_is_not_run(
    store: MemoryStore,
) -> None:
    shop = Shop(store)
    handler = shop.hang("job", "handler", max_concurrency=1)
    refused: list[Paused] = []

    async def replay(letter_id: str) -> None:
        with pytest.raises(Paused) as caught:
            await shop.bus.replay(letter_id)
        refused.append(caught.value)

    async with shop.bus as bus, anyio.create_task_group() as group:
        group.start_soon(bus.publish, "job", 0)
        await until(lambda: handler.began == [0])
        letter_id = await failed(shop)
        group.start_soon(replay, letter_id)
        await anyio.wait_all_tasks_blocked()
        control = await bus.pause(tenant="acme", **WHY)
        handler.let_go()
        await until(lambda: bool(refused))
        assert refused[0].control == control
        letter = await bus.dead_letter(letter_id)
        assert (letter.state, letter.attempts, handler.began) == (DeadLetterState.EXHAUSTED, 1, [0])


# -- what is answered


async def test_resume_lifts_what_it_names_and_resume_all_everything(store: MemoryStore) -> None:
    shop = Shop(store).handle("job", "handler")
    async with shop.bus as bus:
        everything = await bus.pause(**WHY)
        acme = await bus.pause(tenant="acme", **WHY)
        both = await bus.pause("zen", "job", reason="because", by="bob")
        assert await bus.controls() == (everything, acme, both)
        assert (both.scope, both.reason, both.by) == (Scope("zen", "job"), "because", "bob")
        assert await bus.resume() == everything
        assert await bus.resume() is None
        assert (await bus.publish("job", 1)).deliveries["handler"].state == "succeeded"
        assert (await bus.publish("job", 1, tenant="acme")).deliveries["handler"].state == "parked"
        assert await bus.resume_all() == (acme, both)
        assert await bus.resume_all() == ()
        assert await bus.controls() == ()


async def test_to_pause_again_takes_over_what_is_said_now(store: MemoryStore) -> None:
    clock = FakeClock()
    shop = Shop(store, clock=clock).handle("job", "handler")
    async with shop.bus as bus:
        await bus.pause(tenant="acme", until=clock.now + timedelta(hours=1), **WHY)
        again = await bus.pause(tenant="acme", reason="for longer", by="bob")
        assert await bus.controls() == (again,)
        assert (again.until, again.reason, again.by) == (None, "for longer", "bob")


async def test_what_two_controls_close_is_held_until_both_are_lifted(store: MemoryStore) -> None:
    shop = Shop(store).handle("job", "handler")
    async with shop.bus as bus:
        await bus.pause(tenant="acme", **WHY)
        await bus.publish("job", 1, tenant="acme")
        await bus.pause(event="job", **WHY)
        await bus.resume(tenant="acme")
        assert (await bus.publish("job", 2, tenant="acme")).deliveries["handler"].state == "parked"
        assert [it.state for it in await shop.letters()] == [DeadLetterState.PARKED] * 2
        await bus.resume(event="job")
        await until(lambda: sorted(shop.payloads("handler")) == [1, 2])


async def test_observers_are_told_of_every_change(store: MemoryStore) -> None:
    told: list[TelemetryEvent] = []
    shop = Shop(store, bus={"observers": [told.append]}).handle("job", "handler")
    async with shop.bus as bus:
        await bus.pause("acme", "job", "handler", reason="one", by="ann")
        await bus.resume("acme", "job", "handler", reason="two", by="bob")
        await bus.drain(reason="three", by="cal")
        await bus.resume_all(by="dot")
    changes = [it.fields for it in told if it.name == "control.changed"]
    keys = ("tenant", "event", "handler", "state", "reason", "by")
    assert [tuple(it[key] for key in keys) for it in changes] == [
        ("acme", "job", "handler", "paused", "one", "ann"),
        ("acme", "job", "handler", "resumed", "two", "bob"),
        (None, None, None, "draining", "three", "cal"),
        (None, None, None, "drained", "three", "cal"),
        (None, None, None, "resumed", None, "dot"),
    ]


# -- what is refused


NAIVE = datetime(2999, 1, 1)
BEYOND = datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"reason": ""}, "reason=''"),
        ({"reason": "  "}, "blank"),
        ({"by": "\n"}, "blank"),
        ({"by": None}, "by=None"),
        ({"reason": "x" * 513}, "at most 512"),
        ({"reason": "nul\x00"}, "NUL"),
        ({"tenant": ""}, "tenant=''"),
        ({"tenant": 7}, "tenant=7"),
        ({"event": "job.*"}, "for one event, or, with event=None, for all"),
        ({"handler": " "}, "blank"),
        ({"until": NAIVE}, "no time zone"),
        ({"until": BEYOND}, "beyond the calendar in UTC"),
        ({"until": 60}, "no time zone"),
    ],
)
@pytest.mark.parametrize("verb", ["pause", "drain"])
async def test_bad_input_is_refused_and_nothing_is_closed(
    store: MemoryStore, verb: str, given: dict[str, Any], complaint: str
) -> None:
    shop = Shop(store).handle("job", "handler")
    async with shop.bus as bus:
        with pytest.raises(ValueError, match=complaint.replace("*", r"\*")):
            await getattr(bus, verb)(**{**WHY, **given})
        assert await bus.controls() == ()
        assert (await bus.publish("job", 1)).deliveries["handler"].state == "succeeded"


async def test_an_end_that_has_passed_is_refused(store: MemoryStore) -> None:
    clock = FakeClock()
    shop = Shop(store, clock=clock).handle("job", "handler")
    async with shop.bus as bus:
        with pytest.raises(ValueError, match=r"until=2026-01-01T00:00:00\+00:00 has passed"):
            await bus.pause(until=clock.now, **WHY)
        assert await bus.controls() == ()


@pytest.mark.parametrize("tenant", [" ", "=", "a=b handler=c", 'it\'s "quoted"', "two\nlines", "x" * 512])
async def test_whatever_tenant_can_be_published_for_can_be_stopped(store: MemoryStore, tenant: str) -> None:
    shop = Shop(store).handle("job", "handler")
    async with shop.bus as bus:
        await bus.pause(tenant=tenant, **WHY)
        receipt = await bus.publish("job", 1, tenant=tenant)
        assert receipt.deliveries["handler"].state == "parked"
        await bus.resume(tenant=tenant)
        await until(lambda: shop.ran == [("handler", tenant, 1)])


@pytest.mark.parametrize("given", [{"by": ""}, {"reason": " "}, {"tenant": ""}, {"event": "a..b"}])
async def test_a_resume_with_bad_input_lifts_nothing(store: MemoryStore, given: dict[str, Any]) -> None:
    shop = Shop(store).handle("job", "handler")
    async with shop.bus as bus:
        control = await bus.pause(**WHY)
        with pytest.raises(ValueError, match=r"=''|blank|segments"):
            await bus.resume(**given)
        assert await bus.controls() == (control,)


async def test_unknown_events_and_handlers_are_refused_by_name(store: MemoryStore) -> None:
    shop = Shop(store).handle("job", "handler")
    async with shop.bus as bus:
        with pytest.raises(UnknownEvent, match="'jobb' is not known"):
            await bus.pause(event="jobb", **WHY)
        with pytest.raises(UnknownHandler, match=r"'handlr' is not known.*did you mean 'handler'"):
            await bus.drain(handler="handlr", **WHY)
        with pytest.raises(LookupError):
            await bus.pause("acme", "job", "handlr", **WHY)
        assert await bus.controls() == ()


async def test_known_is_what_a_pattern_matches_what_another_process_has_and_what_is_stored(
    store: MemoryStore,
) -> None:
    elsewhere = Shop(store).handle("job", "elsewhere")
    async with elsewhere.bus as bus:
        await bus.capture("old.event", ValueError("broken"), handler="old.handler", data=1)
        shop = Shop(store).handle("order.**", "handler")
        async with shop.bus as bus:
            for scope in (
                {"event": "order.placed"},
                {"event": "old.event"},
                {"handler": "elsewhere"},
                {"handler": "old.handler"},
            ):
                await bus.pause(**scope, **WHY)
            assert len(await bus.controls()) == 4
    async with shop.bus as bus:
        await bus.resume_all()
        with pytest.raises(UnknownHandler):  # its process has ended
            await bus.pause(handler="elsewhere", **WHY)


async def test_what_nobody_knows_any_more_can_still_be_resumed(store: MemoryStore) -> None:
    shop = Shop(store).handle("job", "handler")
    async with shop.bus as bus:
        control = await bus.pause(handler="handler", **WHY)
    shop = Shop(store).handle("job", "renamed")
    async with shop.bus as bus:
        assert await bus.resume(handler="handler") == control


async def test_a_renamed_handler_is_stopped_under_its_former_id_too(store: MemoryStore) -> None:
    old = Shop(store, worker=False).handle("job", "old", durable=True)
    async with old.bus as bus:
        await bus.publish("job", 1)
    shop = Shop(store).handle("job", "new", durable=True, aliases=("old",))
    async with Shop(store, worker=False).handle("job", "new", aliases=("old",)).bus as bus:
        control = await bus.pause(handler="old", **WHY)
        assert control.handler == "new"
    async with shop.bus as bus:
        await bus.publish("job", 2)
        while {it.state for it in await shop.letters()} != {DeadLetterState.PARKED}:
            await anyio.sleep(0.005)
        assert shop.ran == []
        assert await bus.resume(handler="new") == control
        await until(lambda: sorted(shop.payloads("new")) == [1, 2])
        assert await bus.controls() == ()


async def test_without_a_queue_or_a_running_bus_nothing_can_be_controlled(dlq: DeadLetterQueue) -> None:
    with pytest.raises(NoDeadLetterQueue):
        await EventBus().pause(**WHY)
    stopped = EventBus(dlq=dlq)
    for verb in (stopped.pause(**WHY), stopped.drain(**WHY), stopped.resume(), stopped.resume_all()):
        with pytest.raises(BusClosed):
            await verb


async def test_statistics_name_what_is_paused_and_what_is_draining(store: MemoryStore) -> None:
    shop = Shop(store).handle("job", "handler")
    async with shop.bus as bus:
        await bus.pause(tenant="acme", handler="handler", **WHY)
        drained = await bus.drain(event="job", **WHY)
        assert drained.state is ControlState.DRAINED
        stats = await bus.stats()
        assert (stats.paused, stats.draining) == ((Scope("acme", handler="handler"),), (Scope(event="job"),))
