"""``claim_due`` and closed scopes: what is due is parked, and nothing else is touched."""

from __future__ import annotations

from dataclasses import replace

import pytest
from controlled import ACME, close, open_again, parked_delivery, states
from in_sequence import KEY
from letters import NOW, after, build_delivery, build_letter, build_letter_in, build_process
from steps import claim_due, claim_one, find_all, heartbeat, rescue, stored

from eventbus.controls import Scope
from eventbus_dlq.control_store import Closing
from eventbus_dlq.letter import DeadLetterState, Reason
from eventbus_dlq.query import DeadLetterQuery
from eventbus_dlq.store import DeadLetterStore, Settlement

ACCEPTED, PENDING = DeadLetterState.ACCEPTED, DeadLetterState.PENDING
PARKED = DeadLetterState.PARKED


@pytest.mark.parametrize("kind", ["paused", "draining"])
@pytest.mark.parametrize("state", [ACCEPTED, PENDING])
async def test_what_is_due_is_parked_and_keeps_everything_else(
    store: DeadLetterStore, state: DeadLetterState, kind: Closing
) -> None:
    retry_at = NOW if state is PENDING else None
    letter = build_letter_in(state, retry_at=retry_at, attempts=3, retries=2, crashes=1, token=4)
    letter = await stored(store, letter)
    await close(store, state=kind)
    assert list(await claim_due(store, now=after(1))) == []
    kept = await store.get(letter.id)
    assert kept == replace(letter, state=PARKED, reason=Reason(kind), updated_at=kept.updated_at)


async def test_the_listing_and_the_statistics_show_what_is_parked(store: DeadLetterStore) -> None:
    await close(store)
    letter = await parked_delivery(store)
    (item,) = await find_all(store, DeadLetterQuery(state="parked", reason="paused"))
    assert item.id == letter.id
    stats = await store.stats(now=NOW)
    assert (stats.by_state, stats.due) == ({"parked": 1}, 0)


async def test_what_would_not_have_been_handed_out_is_not_parked(store: DeadLetterStore) -> None:
    letters = [
        build_letter(retry_at=after(60)),
        build_letter_in(DeadLetterState.EXHAUSTED),
        build_delivery(handler_id="stock.reserve"),
        build_delivery(tenant="globex", ordering_key=KEY),
        build_delivery(ordering_key=KEY),
    ]
    await store.add([it for it in letters if it.error is not None])
    await store.accept([it for it in letters if it.error is None])
    before = [await store.get(it.id) for it in letters]
    await close(store)
    (claim,) = await claim_due(store)
    assert claim.letter.id == letters[3].id
    assert [await store.get(it.id) for it in letters] == [*before[:3], claim.letter, before[4]]


@pytest.mark.parametrize(("wanted", "left"), [(ACCEPTED, PENDING), (PENDING, ACCEPTED)])
async def test_only_the_states_that_are_wanted_are_parked(
    store: DeadLetterStore, wanted: DeadLetterState, left: DeadLetterState
) -> None:
    letters = {
        it: await stored(store, build_letter_in(it, retry_at=NOW if it is PENDING else None))
        for it in (wanted, left)
    }
    await close(store)
    assert list(await claim_due(store, states={wanted})) == []
    assert await states(store, [letters[wanted], letters[left]]) == ["parked/paused", left]


async def test_however_urgent_it_keeps_nothing_else_waiting(store: DeadLetterStore) -> None:
    closed = [build_delivery(priority=1, created_at=after(-number)) for number in range(300)]
    other = build_delivery(tenant="globex", priority=10)
    await store.accept([*closed, other])
    await close(store)
    claims = await claim_due(store, {"billing.charge": 1}, limit=1)
    assert [it.letter.id for it in claims] == [other.id]


async def test_what_is_parked_counts_for_no_limit(store: DeadLetterStore) -> None:
    tenants = ("acme", "globex", "acme", None, "acme", "globex")
    letters = [build_delivery(tenant=it, priority=number) for number, it in enumerate(tenants, start=1)]
    await store.accept(letters)
    await close(store)
    claims = await claim_due(store, {"billing.charge": 2}, limit=5)
    assert [it.letter.id for it in claims] == [letters[1].id, letters[3].id]


async def test_a_thousand_that_are_closed_are_passed_in_a_few_calls(store: DeadLetterStore) -> None:
    await store.accept([build_delivery(priority=1) for _ in range(1_500)])
    other = build_delivery(tenant="globex")
    await store.accept([other])
    await close(store)
    claims = [claim for _ in range(3) for claim in await claim_due(store)]
    assert [it.letter.id for it in claims] == [other.id]
    assert (await store.stats(now=NOW)).by_state == {"parked": 1_500, "running": 1}


async def test_what_is_parked_is_not_given_up_as_unhandled(store: DeadLetterStore) -> None:
    await close(store)
    letter = await parked_delivery(store, created_at=after(-7_200))
    assert list(await store.exhaust_unhandled(since=after(-3_600), now=NOW)) == []
    assert await store.get(letter.id) == letter


async def test_a_run_that_began_before_goes_on_and_ends_as_ever(store: DeadLetterStore) -> None:
    ends = (DeadLetterState.RESOLVED, PENDING, DeadLetterState.EXHAUSTED)
    letters = [await stored(store, build_letter()) for _ in ends]
    claims = [await claim_one(store, it.id) for it in letters]
    await close(store)
    leases = [it.lease for it in claims]
    assert await heartbeat(store, leases, now=after(10)) == []
    settlements = [
        Settlement(lease=lease, state=state, retry_at=after(60) if state is PENDING else None)
        for lease, state in zip(leases, ends, strict=True)
    ]
    assert list(await store.settle(settlements, now=after(11))) == []
    assert await states(store, letters) == [str(it) for it in ends]
    assert list(await claim_due(store, now=after(60))) == []
    assert await states(store, letters) == ["resolved", "parked/paused", "exhausted"]


@pytest.mark.parametrize("state", [ACCEPTED, PENDING])
async def test_what_is_released_into_a_closed_scope_is_parked_uncharged(
    store: DeadLetterStore, state: DeadLetterState
) -> None:
    letter = await stored(store, build_letter_in(state, retry_at=NOW if state is PENDING else None))
    claim = await claim_one(store, letter.id)
    await close(store)
    assert list(await store.release([claim.lease], now=after(1))) == []
    assert await states(store, [letter]) == [state]
    assert list(await claim_due(store, now=after(2))) == []
    await open_again(store, now=after(3))
    kept = await store.get(letter.id)
    assert kept == replace(letter, token=1, updated_at=kept.updated_at)


async def test_what_is_rescued_into_a_closed_scope_is_parked(store: DeadLetterStore) -> None:
    await store.announce(build_process())
    letter = await stored(store, build_letter(retry_at=NOW))
    await claim_one(store, letter.id)
    await close(store)
    assert (await rescue(store, letter.id, now=after(60))).state is PENDING
    assert list(await claim_due(store, now=after(61))) == []
    kept = await store.get(letter.id)
    assert (kept.state, kept.reason, kept.attempts, kept.retries, kept.crashes) == (
        PARKED, Reason.PAUSED, 2, 1, 1,
    )  # fmt: skip


async def test_being_parked_costs_no_attempt(store: DeadLetterStore) -> None:
    delivery, failed = build_delivery(), build_letter(retry_at=NOW, retries=2, attempts=3)
    await store.accept([delivery])
    await store.add([failed])
    for _ in range(3):
        await close(store)
        assert list(await claim_due(store)) == []
        await open_again(store)
    claims = {it.letter.id: it.letter for it in await claim_due(store)}
    assert (claims[delivery.id].attempts, claims[delivery.id].retries) == (1, 0)
    assert (claims[failed.id].attempts, claims[failed.id].retries) == (4, 3)


async def test_a_further_failure_of_a_parked_one_takes_its_place(store: DeadLetterStore) -> None:
    await close(store)
    parked = await parked_delivery(store)
    failure = build_letter(event_id=parked.event_id, retry_at=after(60))
    assert list(await store.add([failure])) == [parked.id]
    await open_again(store)
    kept = await store.get(parked.id)
    assert (kept.state, kept.retry_at, kept.attempts) == (PENDING, after(60), 1)


async def test_a_tenant_of_one_handler_alone_is_held(store: DeadLetterStore) -> None:
    held, other = build_delivery(), build_delivery(handler_id="stock.reserve")
    await store.accept([held, other])
    await close(store, Scope(tenant=ACME.tenant, handler="billing.charge"))
    claims = await claim_due(store, {"billing.charge": 9, "stock.reserve": 9})
    assert [it.letter.id for it in claims] == [other.id]
    assert await states(store, [held]) == ["parked/paused"]
