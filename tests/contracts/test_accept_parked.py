"""``accept`` of what its process knows to be closed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from controlled import ACME, EVERYTHING, claimable, close, open_again, states
from in_sequence import KEY, standing
from letters import NOW, after, build_delivery, build_letter_in
from steps import claim_due, claim_one

from eventbus.controls import Scope
from eventbus_dlq.control_store import Closing
from eventbus_dlq.letter import DeadLetter, DeadLetterState, Reason
from eventbus_dlq.store import DeadLetterStore, Kept, Spooled

ACCEPTED, PARKED = DeadLetterState.ACCEPTED, DeadLetterState.PARKED


def held(ordering_key: str | None = None, reason: Reason = Reason.PAUSED, **values: Any) -> DeadLetter:
    """Return a delivery that comes parked."""
    return replace(build_delivery(ordering_key, **values), state=PARKED, reason=reason)


@pytest.mark.parametrize("kind", ["paused", "draining"])
async def test_what_a_control_closes_is_kept_parked_and_comes_back(
    store: DeadLetterStore, kind: Closing
) -> None:
    control = await close(store, state=kind)
    letter = held(reason=Reason(kind))
    assert list(await store.accept([letter])) == [Kept(letter.id, PARKED)]
    assert await store.get(letter.id) == letter
    assert await claimable(store, letter) is False
    (answer,) = await store.claim([letter.id], owner="worker-1", lease=30.0, now=NOW)
    assert getattr(answer, "control", None) == control
    await open_again(store)
    kept = await store.get(letter.id)
    assert kept == replace(letter, state=ACCEPTED, reason=None, updated_at=kept.updated_at)
    (claim,) = await claim_due(store)
    assert (claim.letter.attempts, claim.letter.retries) == (1, 0)


@pytest.mark.parametrize("scope", [None, Scope(tenant="globex"), Scope("acme", "OrderPaid")], ids=str)
async def test_what_no_control_closes_is_accepted(store: DeadLetterStore, scope: Scope | None) -> None:
    if scope is not None:
        await close(store, scope)
    letter = held()
    assert list(await store.accept([letter])) == [Kept(letter.id, ACCEPTED)]
    assert await store.get(letter.id) == replace(letter, state=ACCEPTED, reason=None)
    assert await claimable(store, letter) is True


async def test_what_was_opened_meanwhile_is_accepted(store: DeadLetterStore) -> None:
    await close(store)
    await open_again(store)
    letter = held()
    assert list(await store.accept([letter])) == [Kept(letter.id, ACCEPTED)]


async def test_a_control_that_has_ended_closes_nothing(store: DeadLetterStore) -> None:
    await close(store, until=after(60))
    early = held(created_at=after(59), updated_at=after(59))
    late = held(created_at=after(60), updated_at=after(60))
    assert [it.state for it in await store.accept([early, late])] == [PARKED, ACCEPTED]


async def test_each_of_one_call_is_judged_by_itself(store: DeadLetterStore) -> None:
    await close(store)
    letters = [held(), held(tenant="globex"), build_delivery(), held(tenant=None)]
    kept = await store.accept(letters)
    assert [it.state for it in kept] == [PARKED, ACCEPTED, ACCEPTED, ACCEPTED]


async def test_one_that_is_known_already_is_the_known_one(store: DeadLetterStore) -> None:
    await close(store)
    first, parked = build_delivery(), held()
    await store.accept([first, parked])
    again = held(event_id=first.event_id)
    assert list(await store.accept([again])) == [Kept(first.id, ACCEPTED)]
    assert list(await store.accept([parked])) == [Kept(parked.id, PARKED)]
    late = build_delivery(event_id=parked.event_id)
    assert list(await store.accept([late])) == [Kept(parked.id, PARKED)]


async def test_the_first_of_a_key_is_held_and_the_others_behind_it(store: DeadLetterStore) -> None:
    await close(store)
    letters = [held(KEY), held(KEY), build_delivery(KEY)]
    await store.accept(letters[:2])
    await store.accept(letters[2:])
    assert await standing(store, letters) == ["parked", "parked waits", "parked waits"]
    assert await states(store, letters) == ["parked/paused", "parked/sequence", "parked/sequence"]
    await open_again(store)
    assert await standing(store, letters) == ["accepted", "parked waits", "parked waits"]


async def test_one_behind_a_run_waits_for_it(store: DeadLetterStore) -> None:
    first = build_delivery(KEY)
    await store.accept([first])
    await claim_one(store, first.id)
    await close(store)
    letter = held(KEY)
    assert list(await store.accept([letter])) == [Kept(letter.id, ACCEPTED)]
    assert await standing(store, [first, letter]) == ["running", "accepted waits"]


async def test_one_behind_a_failure_is_held_by_that(store: DeadLetterStore) -> None:
    await store.add([build_letter_in(DeadLetterState.EXHAUSTED, ordering_key=KEY)])
    await close(store)
    letter = held(KEY)
    assert list(await store.accept([letter])) == [Kept(letter.id, PARKED)]
    assert await states(store, [letter]) == ["parked/sequence"]


async def test_a_spool_brings_it_in_the_same_way(store: DeadLetterStore) -> None:
    await close(store)
    letters = [held(), held(tenant="globex")]
    writes = [Spooled("accept", it) for it in letters]
    assert await store.import_spool("spool-1", writes, start=0, end=10, now=NOW)
    assert await states(store, letters) == ["parked/paused", "accepted"]
    await open_again(store)
    assert {it.letter.id for it in await claim_due(store)} == {it.id for it in letters}


async def test_a_spool_that_is_imported_after_the_end_of_the_pause_finds_it_open(
    store: DeadLetterStore,
) -> None:
    await close(store, until=after(60))
    letter = held()
    assert await store.import_spool("spool-1", [Spooled("accept", letter)], start=0, end=10, now=after(61))
    assert await states(store, [letter]) == ["accepted"]


async def test_what_came_parked_and_what_a_worker_parked_run_in_order(store: DeadLetterStore) -> None:
    await close(store, EVERYTHING)
    letters = [(held if number % 2 else build_delivery)(created_at=after(number - 10)) for number in range(6)]
    for letter in letters:
        await store.accept([letter])
    assert list(await claim_due(store)) == []
    await open_again(store, EVERYTHING)
    assert [it.letter.id for it in await claim_due(store)] == [it.id for it in letters]


async def test_it_is_counted_as_parked(store: DeadLetterStore) -> None:
    await close(store, ACME)
    await store.accept([held(), held(), held(tenant="globex")])
    assert (await store.stats(now=NOW)).by_state == {"parked": 2, "accepted": 1}
    assert (await store.stats(now=NOW, tenants={"acme"})).by_state == {"parked": 2}
