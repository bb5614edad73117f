"""``open_scopes``: which controls go, and which letters come back, in order."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
from controlled import (
    ACME,
    EVERYTHING,
    bring_back,
    claimable,
    close,
    configured,
    open_again,
    parked_delivery,
    states,
)
from letters import NOW, after, build_delivery, build_letter, build_letter_in
from steps import claim_due, claim_one, stored
from subjects import Subject
from test_open_close import over_durable_stores

from eventbus.controls import Scope
from eventbus_dlq.letter import DeadLetterState, Reason
from eventbus_dlq.store import DeadLetterStore, Settlement

BILLING = Scope(handler="billing.charge")


async def test_the_controls_that_there_were_are_returned(store: DeadLetterStore) -> None:
    acme, billing = await close(store), await close(store, BILLING, "draining", now=after(1))
    assert list(await store.open_scopes([Scope(tenant="globex")], now=NOW)) == []
    assert list(await store.open_scopes([ACME, Scope(tenant="globex")], now=NOW)) == [acme]
    assert (await configured(store)).controls == (billing,)
    assert list(await store.open_scopes([BILLING], now=NOW)) == [billing]
    assert list(await store.open_scopes([BILLING], now=NOW)) == []
    assert (await configured(store)).controls == ()


async def test_all_are_opened_when_none_is_named(store: DeadLetterStore) -> None:
    controls = [await close(store, it, now=after(n)) for n, it in enumerate((EVERYTHING, ACME, BILLING))]
    letter = await parked_delivery(store)
    assert sorted(await store.open_scopes(None, now=NOW), key=lambda it: it.since) == controls
    assert await states(store, [letter]) == ["accepted"]
    assert list(await store.open_scopes(None, now=NOW)) == []


async def test_no_scope_is_opened_by_a_wider_or_a_narrower_one(store: DeadLetterStore) -> None:
    control = await close(store, Scope(tenant="acme", handler="billing.charge"))
    letter = await parked_delivery(store)
    others = [EVERYTHING, ACME, BILLING, Scope("acme", "OrderPlaced", "billing.charge")]
    assert list(await store.open_scopes(others, now=NOW)) == []
    assert list(await store.open_scopes([], now=NOW)) == []
    assert (await configured(store)).controls == (control,)
    assert await states(store, [letter]) == ["parked/paused"]


@pytest.mark.parametrize("state", [DeadLetterState.ACCEPTED, DeadLetterState.PENDING])
async def test_a_letter_goes_back_to_its_former_state(store: DeadLetterStore, state: DeadLetterState) -> None:
    retry_at = after(-1) if state is DeadLetterState.PENDING else None
    letter = await stored(store, build_letter_in(state, retry_at=retry_at, attempts=2, retries=1, token=3))
    await close(store, state="draining")
    assert list(await claim_due(store)) == []
    await store.open_scopes([ACME], now=after(60))
    kept = await store.get(letter.id)
    assert kept == replace(letter, updated_at=kept.updated_at)
    assert [it.letter.id for it in await claim_due(store)] == [letter.id]


async def test_one_that_is_pending_and_has_not_failed_yet_goes_back_to_that(store: DeadLetterStore) -> None:
    delivery = build_delivery()
    await store.accept([delivery])
    claim = await claim_one(store, delivery.id)
    interrupted = Settlement(
        lease=claim.lease,
        state=DeadLetterState.PENDING,
        reason=Reason.INTERRUPTED,
        retry_at=NOW,
        uncharged=True,
    )
    assert list(await store.settle([interrupted], now=NOW)) == []
    await close(store)
    assert list(await claim_due(store)) == []
    await open_again(store)
    kept = await store.get(delivery.id)
    assert (kept.state, kept.retry_at, kept.error) == (DeadLetterState.PENDING, NOW, None)


async def test_what_was_parked_runs_in_order(store: DeadLetterStore) -> None:
    await close(store)
    letters = [build_delivery(created_at=after(number - 10), priority=5) for number in range(4)]
    urgent = build_delivery(created_at=after(-2), priority=1)
    for letter in reversed([*letters, urgent]):
        await store.accept([letter])
    assert list(await claim_due(store)) == []
    await open_again(store, now=after(60))
    newcomer = build_delivery(created_at=after(61))
    await store.accept([newcomer])
    claims = await claim_due(store, now=after(62))
    assert [it.letter.id for it in claims] == [it.id for it in (urgent, *letters, newcomer)]


async def test_what_was_accepted_is_due_since_it_was_stored(store: DeadLetterStore) -> None:
    first, second = build_delivery(created_at=after(-20)), build_delivery(created_at=after(-10))
    await store.accept([first, second])
    claim = await claim_one(store, first.id)
    await store.release([claim.lease], now=NOW)
    await close(store)
    assert list(await claim_due(store)) == []
    await open_again(store, now=after(60))
    assert [it.letter.id for it in await claim_due(store)] == [first.id, second.id]


async def test_what_was_pending_is_due_since_its_time_came(store: DeadLetterStore) -> None:
    letters = [build_letter(retry_at=after(-number)) for number in (10, 30, 20)]
    await store.add(letters)
    await close(store)
    assert list(await claim_due(store)) == []
    await open_again(store)
    claims = await claim_due(store)
    assert [it.letter.id for it in claims] == [letters[index].id for index in (1, 2, 0)]


@pytest.mark.parametrize("order", [*permutations((0, 1, 2))])
async def test_the_last_control_that_closes_a_letter_holds_it(
    store: DeadLetterStore, order: tuple[int, ...]
) -> None:
    scopes = [ACME, BILLING, EVERYTHING]
    for scope in scopes:
        await close(store, scope)
    letter = await parked_delivery(store)
    for index in order[:-1]:
        await open_again(store, scopes[index])
        assert await claimable(store, letter) is False
        assert await states(store, [letter]) == ["parked/paused"]
    await open_again(store, scopes[order[-1]])
    assert await states(store, [letter]) == ["accepted"]


async def test_a_control_that_came_later_holds_it_too(store: DeadLetterStore) -> None:
    await close(store)
    letter = await parked_delivery(store)
    await close(store, BILLING, "draining")
    await open_again(store, ACME)
    assert (await store.get(letter.id)).state is DeadLetterState.PARKED
    await open_again(store, BILLING)
    assert await states(store, [letter]) == ["accepted"]


async def test_what_was_paused_and_then_drained_comes_back(store: DeadLetterStore) -> None:
    await close(store)
    first = await parked_delivery(store)
    await close(store, state="draining")
    second = await parked_delivery(store)
    await store.acknowledge("web-1", [], live_since=NOW, now=NOW)
    assert await states(store, [second]) == ["parked/draining"]
    await open_again(store)
    assert await states(store, [first, second]) == ["accepted", "accepted"]


async def test_what_is_parked_behind_a_failure_is_left_alone(store: DeadLetterStore) -> None:
    head = build_letter_in(DeadLetterState.EXHAUSTED, ordering_key="order-1017")
    await store.add([head])
    follower = build_delivery("order-1017")
    await store.accept([follower])
    await close(store)
    await open_again(store)
    assert await states(store, [head, follower]) == ["exhausted/attempts", "parked/sequence"]


async def test_what_was_not_met_while_it_was_closed_is_as_it_was(store: DeadLetterStore) -> None:
    delivery, failed = build_delivery(), build_letter_in(DeadLetterState.EXHAUSTED)
    await store.accept([delivery])
    await store.add([failed])
    await close(store)
    await open_again(store)
    assert [await store.get(it.id) for it in (delivery, failed)] == [delivery, failed]
    assert await claimable(store, delivery) is True


async def test_the_oldest_thousand_come_back_at_once_and_the_others_in_pieces(
    store: DeadLetterStore,
) -> None:
    letters = [build_delivery(created_at=after(number - 2_000)) for number in range(1_250)]
    await store.accept(letters)
    await close(store)
    for _ in range(3):
        assert list(await claim_due(store)) == []
    await store.open_scopes([ACME], now=NOW)
    assert (await store.stats(now=NOW)).by_state == {"accepted": 1_000, "parked": 250}
    assert await states(store, [letters[999], letters[1_000]]) == ["accepted", "parked/paused"]
    assert await store.unpark(limit=100, now=NOW) is True
    assert await states(store, [letters[1_099], letters[1_100]]) == ["accepted", "parked/paused"]
    assert await bring_back(store) <= 2
    assert (await store.stats(now=NOW)).by_state == {"accepted": 1_250}


@over_durable_stores
async def test_the_others_come_back_after_a_crash_too(subject: Subject, tmp_path: Path) -> None:
    first, second = subject.make(tmp_path), subject.make(tmp_path)
    await first.open()
    await first.accept([build_delivery() for _ in range(1_010)])
    await close(first)
    for _ in range(3):
        assert list(await claim_due(first)) == []
    await first.open_scopes([ACME], now=NOW)
    await first.close()

    await second.open()
    try:
        assert (await second.stats(now=NOW)).by_state == {"accepted": 1_000, "parked": 10}
        await bring_back(second)
        assert (await second.stats(now=NOW)).by_state == {"accepted": 1_010}
    finally:
        await second.close()
