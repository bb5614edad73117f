"""``stats``: what the letters add up to."""

from __future__ import annotations

import pytest
from controlled import ACME, EVERYTHING, close, open_again
from letters import NOW, after, build_delivery, build_error, build_letter, build_letter_in
from steps import claim_one, rescue, running, stored

from eventbus.classify import Kind
from eventbus.controls import Scope
from eventbus_dlq.letter import DeadLetterState, Verb
from eventbus_dlq.stats import Recovery, Stats
from eventbus_dlq.store import DeadLetterStore, Settlement

HOUR = 3600.0
NOTHING = Stats(
    total=0, by_state={}, by_event={}, by_handler={}, by_tenant={}, by_kind={}, by_category={}, by_route={},
    last_24h=0, average_attempts=0.0, average_age=0.0, due=0, oldest_open=None, newest_open=None,
    recovery=Recovery(total=0, pending=0, recovered=0, abandoned=0),
)  # fmt: skip


async def test_an_empty_store_adds_up_to_nothing(store: DeadLetterStore) -> None:
    assert await store.stats(now=NOW) == NOTHING


async def test_the_letters_are_counted_by_everything(store: DeadLetterStore) -> None:
    bug, conflict = build_error(Kind.BUG), build_error(Kind.CONFLICT)
    await store.add(
        [
            build_letter(attempts=3),
            build_letter(event_name="OrderPaid", tenant=None, error=bug),
            build_letter_in(
                DeadLetterState.EXHAUSTED, handler_id="stock.reserve", error=conflict, attempts=5
            ),
            build_letter_in(DeadLetterState.ACCEPTED, tenant="globex"),
            build_letter_in(DeadLetterState.RESOLVED, tenant="globex", error=bug),
            build_letter_in(DeadLetterState.DISCARDED),
            build_letter_in(DeadLetterState.ARCHIVED),
        ]
    )
    stats = await store.stats(now=NOW)
    assert stats.total == 7
    assert stats.by_state == {
        "pending": 2, "exhausted": 1, "accepted": 1, "resolved": 1, "discarded": 1, "archived": 1,
    }  # fmt: skip
    assert stats.by_event == {"OrderPlaced": 6, "OrderPaid": 1}
    assert stats.by_handler == {"billing.charge": 6, "stock.reserve": 1}
    assert stats.by_tenant == {"acme": 4, "globex": 2, None: 1}
    assert stats.by_kind == {"timeout": 3, "bug": 2, "conflict": 1}
    assert stats.by_category == {"transient": 3, "permanent": 3}
    assert stats.by_route == {"recoverable": 3, "system_error": 2, "user_error": 1}
    assert stats.average_attempts == pytest.approx((3 + 1 + 5 + 0 + 1 + 1 + 1) / 7)
    assert stats.recovery == Recovery(total=7, pending=4, recovered=1, abandoned=2)
    assert (stats.paused, stats.draining) == ((), ())


async def test_what_has_not_failed_is_of_no_kind(store: DeadLetterStore) -> None:
    delivery = build_delivery()
    await store.accept([delivery, build_delivery()])
    await claim_one(store, delivery.id)
    stats = await store.stats(now=NOW)
    assert (stats.total, stats.by_state) == (2, {"running": 1, "accepted": 1})
    assert (stats.by_event, stats.by_handler) == ({"OrderPlaced": 2}, {"billing.charge": 2})
    assert (stats.by_kind, stats.by_category, stats.by_route) == ({}, {}, {})
    assert stats.recovery == Recovery(total=2, pending=2, recovered=0, abandoned=0)
    assert (stats.by_tenant, stats.last_24h, stats.oldest_open) == ({"acme": 2}, 2, NOW)


async def test_a_letter_without_a_tenant_is_not_one_of_the_tenant_called_none(store: DeadLetterStore) -> None:
    await store.add([build_letter(tenant=None), build_letter(tenant="None"), build_letter(tenant="")])
    assert (await store.stats(now=NOW)).by_tenant == {None: 1, "None": 1, "": 1}
    assert (await store.stats(now=NOW, tenants={"None"})).by_tenant == {"None": 1}


async def test_the_statistics_of_tenants_count_theirs_alone(store: DeadLetterStore) -> None:
    await store.add(
        [
            build_letter(tenant="acme", attempts=4, created_at=after(-10), retry_at=after(-1)),
            build_letter(tenant="globex", attempts=2, created_at=after(-30), event_name="OrderPaid"),
            build_letter(tenant=None, attempts=9, created_at=after(-99), retry_at=after(-1)),
        ]
    )
    acme = await store.stats(now=NOW, tenants={"acme"})
    assert (acme.total, acme.by_tenant, acme.by_event) == (1, {"acme": 1}, {"OrderPlaced": 1})
    assert (acme.average_attempts, acme.average_age, acme.due, acme.last_24h) == (4.0, 10.0, 1, 1)
    assert (acme.oldest_open, acme.newest_open) == (after(-10), after(-10))
    assert acme.recovery == Recovery(total=1, pending=1, recovered=0, abandoned=0)

    both = await store.stats(now=NOW, tenants=["globex", "acme"])
    assert (both.total, both.by_tenant) == (2, {"acme": 1, "globex": 1})
    assert (both.average_attempts, both.average_age) == (3.0, 20.0)
    assert await store.stats(now=NOW, tenants={"unknown"}) == NOTHING
    assert await store.stats(now=NOW, tenants=set()) == NOTHING


async def test_the_last_day_ends_now(store: DeadLetterStore) -> None:
    ages = (0, 23.99 * HOUR, 24.01 * HOUR, 100 * HOUR)
    await store.add([build_letter(created_at=after(-age)) for age in ages])
    assert (await store.stats(now=NOW)).last_24h == 2
    assert (await store.stats(now=after(0.02 * HOUR))).last_24h == 1


async def test_ages_are_those_of_open_letters(store: DeadLetterStore) -> None:
    await store.add(
        [
            build_letter(created_at=after(-10)),
            build_letter_in(DeadLetterState.PARKED, created_at=after(-50)),
            build_letter_in(DeadLetterState.RUNNING, created_at=after(-30)),
            build_letter_in(DeadLetterState.RESOLVED, created_at=after(-9999)),
            build_letter_in(DeadLetterState.ARCHIVED, created_at=after(-1)),
        ]
    )
    stats = await store.stats(now=NOW)
    assert stats.average_age == pytest.approx(30.0, abs=1e-3)
    assert (stats.oldest_open, stats.newest_open) == (after(-50), after(-10))


async def test_due_are_the_pending_whose_time_has_come(store: DeadLetterStore) -> None:
    await store.add([build_letter(retry_at=after(seconds)) for seconds in (-5, 0, 5)])
    await store.add([build_letter_in(DeadLetterState.RUNNING, retry_at=after(-5))])
    await store.add([build_letter_in(DeadLetterState.EXHAUSTED)])
    assert (await store.stats(now=after(-6))).due == 0
    assert (await store.stats(now=NOW)).due == 2
    assert (await store.stats(now=after(5))).due == 3


async def test_a_letter_is_counted_anew_with_every_verb(store: DeadLetterStore) -> None:
    async def states() -> dict[str, int]:
        return dict((await store.stats(now=NOW)).by_state)

    letter = await stored(store, build_letter())
    assert await states() == {"pending": 1}
    claim = await claim_one(store, letter.id)
    assert await states() == {"running": 1}
    await store.release([claim.lease], now=NOW)
    assert await states() == {"pending": 1}
    claim = await claim_one(store, letter.id)
    await store.settle([Settlement(lease=claim.lease, state=DeadLetterState.RESOLVED)], now=NOW)
    assert await states() == {"resolved": 1}
    await store.change(letter.id, Verb.RESTORE, now=NOW)
    assert await states() == {"exhausted": 1}
    await store.add([build_letter_in(DeadLetterState.PARKED, event_id=letter.event_id)])
    assert await states() == {"parked": 1}
    await store.delete(letter.id)
    assert await store.stats(now=NOW) == NOTHING


async def test_a_letter_that_fails_otherwise_is_counted_under_its_new_kind(store: DeadLetterStore) -> None:
    lease = await running(store, build_letter())
    settlement = Settlement(lease=lease, state=DeadLetterState.EXHAUSTED, error=build_error(Kind.BUG))
    await store.settle([settlement], now=NOW)
    stats = await store.stats(now=NOW)
    assert (stats.by_kind, stats.by_category) == ({"bug": 1}, {"permanent": 1})
    assert stats.by_route == {"system_error": 1}
    assert stats.average_attempts == 2.0


async def test_a_lost_lease_counts_nothing(store: DeadLetterStore) -> None:
    former = await running(store, build_letter())
    await rescue(store, former.dead_letter_id, now=after(31))
    await claim_one(store, former.dead_letter_id, now=after(31))
    before = await store.stats(now=after(31))
    await store.settle([Settlement(lease=former, state=DeadLetterState.RESOLVED)], now=after(31))
    await store.release([former], now=after(31))
    assert await store.stats(now=after(31)) == before


async def test_the_closed_scopes_are_named(store: DeadLetterStore) -> None:
    await close(store, Scope(tenant="acme", handler="billing.charge"))
    await close(store, EVERYTHING, now=after(1))
    await close(store, Scope(event="OrderPaid"), "draining", now=after(2))
    stats = await store.stats(now=after(3))
    assert stats.paused == (Scope("acme", handler="billing.charge"), EVERYTHING)
    assert stats.draining == (Scope(event="OrderPaid"),)


async def test_what_is_drained_is_still_named_as_draining(store: DeadLetterStore) -> None:
    await close(store, state="draining")
    assert len(await store.acknowledge("web-1", [], live_since=NOW, now=NOW)) == 1
    stats = await store.stats(now=NOW)
    assert (stats.paused, stats.draining) == ((), (ACME,))


async def test_a_tenant_sees_its_own_closed_scopes_alone(store: DeadLetterStore) -> None:
    scopes = [EVERYTHING, Scope(handler="billing.charge"), ACME, Scope("acme", "OrderPaid"), Scope("globex")]
    for number, scope in enumerate(scopes):
        await close(store, scope, "draining" if scope.event else "paused", now=after(number))
    seen = {
        tenants: await store.stats(now=NOW, tenants=tenants)
        for tenants in (frozenset({"acme"}), frozenset({"globex", "initech"}), frozenset[str]())
    }
    assert [(it.paused, it.draining) for it in seen.values()] == [
        ((ACME,), (Scope("acme", "OrderPaid"),)),
        ((Scope("globex"),), ()),
        ((), ()),
    ]


async def test_what_was_opened_or_has_ended_is_not_named(store: DeadLetterStore) -> None:
    await close(store, ACME, until=after(60))
    await close(store, Scope(tenant="globex"), "draining")
    await open_again(store, Scope(tenant="globex"))
    assert (await store.stats(now=after(59))).paused == (ACME,)
    stats = await store.stats(now=after(60))
    assert (stats.paused, stats.draining) == ((), ())
