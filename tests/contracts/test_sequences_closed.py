"""Sequences and closed scopes: a head that is held holds the others, and the order is kept."""

from __future__ import annotations

import pytest
from controlled import close, open_again, states
from in_sequence import KEY, accepted, end, run_next, standing
from letters import NOW, after, build_delivery, build_error, build_letter, build_letter_in
from steps import claim_due, claim_one

from eventbus_dlq.errors import InvalidTransition
from eventbus_dlq.letter import DeadLetter, DeadLetterState, Verb
from eventbus_dlq.store import DeadLetterStore

PENDING, EXHAUSTED = DeadLetterState.PENDING, DeadLetterState.EXHAUSTED
CLOSING = [Verb.RESOLVE, Verb.DISCARD, Verb.ARCHIVE]


async def held_sequence(store: DeadLetterStore, number: int = 3) -> list[DeadLetter]:
    """Accept deliveries of one key, close their tenant, and let a worker meet the first one."""
    letters = await accepted(store, number)
    await close(store)
    assert list(await claim_due(store)) == []
    return letters


async def test_a_head_that_is_held_holds_the_others(store: DeadLetterStore) -> None:
    letters = await held_sequence(store)
    letters += await accepted(store, 1)
    assert await standing(store, letters) == ["parked", *["parked waits"] * 3]
    assert await states(store, letters) == ["parked/paused", *["parked/sequence"] * 3]
    assert list(await claim_due(store)) == []
    (answer,) = await store.claim([letters[1].id], owner="worker-1", lease=30.0, now=NOW)
    assert isinstance(answer, InvalidTransition)


async def test_the_order_is_kept_when_it_is_opened_again(store: DeadLetterStore) -> None:
    letters = await held_sequence(store)
    letters += await accepted(store, 1)
    await open_again(store)
    letters += await accepted(store, 1)
    assert await standing(store, letters) == ["accepted", *["parked waits"] * 4]
    assert [await run_next(store) for _ in letters] == [it.id for it in letters]
    assert await store.blocked({"billing.charge"}) == frozenset()


async def test_the_order_is_kept_however_often_it_is_closed(store: DeadLetterStore) -> None:
    letters = await held_sequence(store)
    ran: list[str] = []
    for _ in letters:
        await open_again(store)
        ran.append(await run_next(store))
        await close(store)
        assert list(await claim_due(store)) == []
    assert ran == [it.id for it in letters]


async def test_one_sequence_of_a_closed_tenant_holds_no_other(store: DeadLetterStore) -> None:
    await held_sequence(store)
    other = build_delivery("order-1018", tenant="globex")
    await store.accept([other])
    assert [it.letter.id for it in await claim_due(store)] == [other.id]


async def test_a_head_of_a_closed_tenant_holds_the_others_of_its_key(store: DeadLetterStore) -> None:
    letters = [build_delivery(KEY), build_delivery(KEY, tenant="globex")]
    await store.accept(letters)
    await close(store)
    assert list(await claim_due(store)) == []
    assert await states(store, letters) == ["parked/paused", "parked/sequence"]
    await open_again(store)
    assert [await run_next(store) for _ in letters] == [it.id for it in letters]


async def test_a_follower_of_a_closed_tenant_is_held_when_its_turn_comes(store: DeadLetterStore) -> None:
    letters = [build_delivery(KEY, tenant="globex"), build_delivery(KEY)]
    await store.accept(letters)
    await close(store)
    assert await run_next(store) == letters[0].id
    assert await standing(store, letters[1:]) == ["accepted"]
    assert list(await claim_due(store)) == []
    assert await states(store, letters[1:]) == ["parked/paused"]


async def test_a_failed_head_goes_back_to_pending_and_holds_the_others(store: DeadLetterStore) -> None:
    letters = await accepted(store)
    claim = await claim_one(store, letters[0].id)
    await end(store, claim.lease, PENDING, error=build_error(), retry_at=after(60))
    await close(store)
    assert list(await claim_due(store, now=after(60))) == []
    assert await states(store, letters) == ["parked/paused", "parked/sequence", "parked/sequence"]
    await open_again(store, now=after(61))
    assert await standing(store, letters) == ["pending", "parked waits", "parked waits"]
    (claim,) = await claim_due(store, now=after(62))
    assert claim.letter.id == letters[0].id


@pytest.mark.parametrize("verb", CLOSING)
async def test_closing_a_head_that_is_held_hands_its_place_on(store: DeadLetterStore, verb: Verb) -> None:
    letters = await held_sequence(store)
    await store.change(letters[0].id, verb, now=NOW, by="ann")
    assert await standing(store, letters[1:]) == ["accepted", "parked waits"]
    assert list(await claim_due(store)) == []
    assert await states(store, letters[1:]) == ["parked/paused", "parked/sequence"]
    await open_again(store)
    assert [await run_next(store) for _ in range(2)] == [it.id for it in letters[1:]]


async def test_deleting_a_head_that_is_held_hands_its_place_on(store: DeadLetterStore) -> None:
    head, *others = await held_sequence(store)
    await store.delete(head.id)
    assert await standing(store, others) == ["accepted", "parked waits"]
    assert list(await claim_due(store)) == []
    await open_again(store)
    assert [await run_next(store) for _ in range(2)] == [it.id for it in others]


@pytest.mark.parametrize("verb", [*CLOSING, Verb.DELETE])
async def test_a_follower_leaves_without_touching_the_head(store: DeadLetterStore, verb: Verb) -> None:
    head, gone, last = await held_sequence(store)
    if verb is Verb.DELETE:
        await store.delete(gone.id)
    else:
        await store.change(gone.id, verb, now=NOW)
    assert await states(store, [head, last]) == ["parked/paused", "parked/sequence"]
    await open_again(store)
    assert [await run_next(store) for _ in range(2)] == [head.id, last.id]


async def test_an_earlier_one_that_is_restored_comes_before_a_head_that_is_held(
    store: DeadLetterStore,
) -> None:
    letters = await accepted(store)
    await store.change(letters[0].id, Verb.RESOLVE, now=NOW)
    await close(store)
    assert list(await claim_due(store)) == []
    await store.change(letters[0].id, Verb.RESTORE, now=NOW)
    assert await standing(store, letters) == ["exhausted", "parked waits", "parked waits"]
    assert await states(store, letters[1:]) == ["parked/paused", "parked/sequence"]
    await open_again(store)
    assert await states(store, letters[1:]) == ["parked/sequence", "parked/sequence"]
    assert await standing(store, letters) == ["exhausted", "parked waits", "parked waits"]
    await store.change(letters[0].id, Verb.DISCARD, now=NOW)
    assert [await run_next(store) for _ in range(2)] == [it.id for it in letters[1:]]


async def test_one_that_is_held_and_waits_is_still_held_when_its_turn_comes(store: DeadLetterStore) -> None:
    letters = await accepted(store, 2)
    await store.change(letters[0].id, Verb.RESOLVE, now=NOW)
    await close(store)
    assert list(await claim_due(store)) == []
    await store.change(letters[0].id, Verb.RESTORE, now=NOW)
    await store.change(letters[0].id, Verb.DISCARD, now=NOW)
    assert await standing(store, letters) == ["discarded", "parked"]
    assert await states(store, letters[1:]) == ["parked/paused"]
    await open_again(store)
    assert await run_next(store) == letters[1].id


async def test_a_failed_one_that_is_held_and_waits_goes_back_to_pending(store: DeadLetterStore) -> None:
    first = build_letter_in(DeadLetterState.RESOLVED, ordering_key=KEY)
    failed = build_letter(ordering_key=KEY, retry_at=NOW)
    await store.add([first])
    await store.add([failed])
    await close(store)
    assert list(await claim_due(store)) == []
    await store.change(first.id, Verb.RESTORE, now=NOW)
    assert await standing(store, [first, failed]) == ["exhausted", "parked waits"]
    await open_again(store)
    assert await standing(store, [first, failed]) == ["exhausted", "pending waits"]


async def test_a_failure_behind_one_that_is_held_waits(store: DeadLetterStore) -> None:
    letters = await held_sequence(store, 1)
    failed = build_letter(ordering_key=KEY, retry_at=NOW)
    await store.add([failed])
    assert await standing(store, [*letters, failed]) == ["parked", "pending waits"]
    await open_again(store)
    assert [await run_next(store) for _ in range(2)] == [letters[0].id, failed.id]


async def test_a_sequence_that_is_held_is_blocked_for_what_is_not_stored(store: DeadLetterStore) -> None:
    await held_sequence(store, 1)
    assert [tuple(it) for it in await store.blocked({"billing.charge"})] == [("billing.charge", KEY)]


async def test_one_that_is_released_into_a_closed_scope_is_still_the_first(store: DeadLetterStore) -> None:
    letters = await accepted(store)
    claim = await claim_one(store, letters[0].id)
    await close(store)
    await store.release([claim.lease], now=NOW)
    assert list(await claim_due(store)) == []
    assert await states(store, letters) == ["parked/paused", "parked/sequence", "parked/sequence"]
    await open_again(store)
    assert [await run_next(store) for _ in letters] == [it.id for it in letters]
