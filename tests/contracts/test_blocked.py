"""``blocked``: the sequences that no transient delivery may pass."""

from __future__ import annotations

import pytest
from letters import NOW, build_delivery, build_letter, build_letter_in
from steps import claim_one

from eventbus_dlq.letter import OPEN_STATES, DeadLetterState, Verb
from eventbus_dlq.store import DeadLetterStore, SequenceKey, Settlement

CHARGE, RESERVE = "billing.charge", "stock.reserve"


async def test_without_letters_nothing_is_blocked(store: DeadLetterStore) -> None:
    assert await store.blocked({CHARGE}) == frozenset()


@pytest.mark.parametrize("state", sorted(DeadLetterState))
async def test_what_is_open_blocks_its_key(store: DeadLetterStore, state: DeadLetterState) -> None:
    await store.add([build_letter_in(state, ordering_key="order-1")])
    expected = {SequenceKey(CHARGE, "order-1")} if state in OPEN_STATES else set[SequenceKey]()
    assert await store.blocked({CHARGE}) == expected


async def test_letters_without_a_key_block_nothing(store: DeadLetterStore) -> None:
    await store.add([build_letter(ordering_key=None)])
    await store.accept([build_delivery(None)])
    assert await store.blocked({CHARGE}) == frozenset()


async def test_only_the_handlers_that_are_asked_for_are_told(store: DeadLetterStore) -> None:
    await store.accept([build_delivery("a"), build_delivery("a", handler_id=RESERVE)])
    assert await store.blocked({CHARGE}) == {SequenceKey(CHARGE, "a")}
    assert await store.blocked([RESERVE, CHARGE]) == {SequenceKey(CHARGE, "a"), SequenceKey(RESERVE, "a")}
    assert await store.blocked(set()) == frozenset()
    assert await store.blocked({"unknown"}) == frozenset()


async def test_a_key_is_told_once_however_many_letters_it_has(store: DeadLetterStore) -> None:
    await store.accept([build_delivery("a") for _ in range(20)] + [build_delivery("")])
    assert await store.blocked({CHARGE}) == {SequenceKey(CHARGE, "a"), SequenceKey(CHARGE, "")}


async def test_a_key_is_free_when_its_last_letter_has_settled(store: DeadLetterStore) -> None:
    letters = [build_letter(ordering_key="a"), build_delivery("a")]
    await store.add(letters[:1])
    await store.accept(letters[1:])
    await store.change(letters[0].id, Verb.RESOLVE, now=NOW)
    assert await store.blocked({CHARGE}) == {SequenceKey(CHARGE, "a")}
    claim = await claim_one(store, letters[1].id)
    assert await store.blocked({CHARGE}) == {SequenceKey(CHARGE, "a")}
    settlement = Settlement(lease=claim.lease, state=DeadLetterState.RESOLVED, forget=True)
    await store.settle([settlement], now=NOW)
    assert await store.blocked({CHARGE}) == frozenset()


async def test_a_key_is_blocked_again_by_a_restore(store: DeadLetterStore) -> None:
    letter = build_letter_in(DeadLetterState.RESOLVED, ordering_key="a")
    await store.add([letter])
    await store.change(letter.id, Verb.RESTORE, now=NOW)
    assert await store.blocked({CHARGE}) == {SequenceKey(CHARGE, "a")}
    await store.delete(letter.id)
    assert await store.blocked({CHARGE}) == frozenset()


async def test_many_keys_are_told(store: DeadLetterStore) -> None:
    keys = {f"customer-{number}" for number in range(500)}
    await store.accept([build_delivery(key) for key in sorted(keys)])
    assert {key.ordering_key for key in await store.blocked({CHARGE})} == keys
