"""``change`` with ``requeue``: due now, with the schedule's retries renewed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from controlled import close, open_again, states
from in_sequence import KEY, standing
from letters import NOW, after, build_attempt, build_delivery, build_letter, build_letter_in
from steps import claim_due, running, stored

from eventbus_dlq.errors import InvalidTransition, LeaseHeld
from eventbus_dlq.letter import DeadLetterState, Reason, Verb
from eventbus_dlq.store import DeadLetterStore

PENDING, EXHAUSTED = DeadLetterState.PENDING, DeadLetterState.EXHAUSTED


@pytest.mark.parametrize("state", [PENDING, EXHAUSTED])
async def test_it_is_due_at_once_with_its_retries_renewed_and_its_history_kept(
    store: DeadLetterStore, state: DeadLetterState
) -> None:
    history = tuple(build_attempt(number) for number in range(1, 7))
    letter = await stored(
        store, build_letter_in(state, attempts=6, retries=5, crashes=2, token=6, history=history)
    )
    answer = await store.change(letter.id, Verb.REQUEUE, now=after(9), by="ann", note="the bank is back")
    assert answer == replace(
        letter,
        state=PENDING,
        reason=None,
        retries=0,
        retry_at=after(9),
        acted_by="ann",
        note="the bank is back",
        updated_at=after(9),
    )
    assert await store.get(letter.id) == answer
    (claim,) = await claim_due(store, now=after(9))
    assert (claim.letter.id, claim.letter.attempts, claim.letter.retries) == (letter.id, 7, 1)


async def test_poison_and_the_unhandled_are_given_another_chance(store: DeadLetterStore) -> None:
    for reason in (Reason.POISON, Reason.UNHANDLED, Reason.UNDECODABLE):
        letter = await stored(store, build_letter_in(EXHAUSTED, reason=reason, handler_id=f"h-{reason}"))
        answer = await store.change(letter.id, Verb.REQUEUE, now=NOW)
        assert (answer.state, answer.reason) == (PENDING, None)


@pytest.mark.parametrize("state", sorted(set(DeadLetterState) - {PENDING, EXHAUSTED, "running"}))
async def test_every_other_state_refuses(store: DeadLetterStore, state: DeadLetterState) -> None:
    letter = await stored(store, build_letter_in(state))
    with pytest.raises(InvalidTransition, match=letter.id):
        await store.change(letter.id, Verb.REQUEUE, now=NOW)
    assert await store.get(letter.id) == letter


async def test_what_runs_is_left_to_its_owner(store: DeadLetterStore) -> None:
    lease = await running(store, build_letter())
    with pytest.raises(LeaseHeld, match=lease.dead_letter_id):
        await store.change(lease.dead_letter_id, Verb.REQUEUE, now=NOW)


async def test_a_moment_that_is_given_counts_for_nothing(store: DeadLetterStore) -> None:
    letter = await stored(store, build_letter())
    answer = await store.change(letter.id, Verb.REQUEUE, now=NOW, until=after(3_600))
    assert answer.retry_at == NOW


async def test_it_keeps_its_place_in_its_sequence(store: DeadLetterStore) -> None:
    letters = [build_letter_in(EXHAUSTED, ordering_key=KEY) for _ in range(2)]
    await store.add(letters)
    await store.change(letters[1].id, Verb.REQUEUE, now=NOW)
    assert await standing(store, letters) == ["exhausted", "pending waits"]
    assert list(await claim_due(store)) == []
    await store.change(letters[0].id, Verb.REQUEUE, now=NOW)
    assert [it.letter.id for it in await claim_due(store)] == [letters[0].id]


async def test_in_a_closed_scope_it_waits_for_the_scope(store: DeadLetterStore) -> None:
    letter = await stored(store, build_letter_in(EXHAUSTED))
    await close(store)
    await store.change(letter.id, Verb.REQUEUE, now=NOW)
    assert list(await claim_due(store)) == []
    assert await states(store, [letter]) == ["parked/paused"]
    await open_again(store)
    assert [it.letter.id for it in await claim_due(store)] == [letter.id]


async def test_what_a_control_has_parked_refuses(store: DeadLetterStore) -> None:
    await close(store)
    delivery = build_delivery()
    await store.accept([delivery])
    await claim_due(store)
    for verb in (Verb.REQUEUE, Verb.SNOOZE):
        with pytest.raises(InvalidTransition, match="parked"):
            await store.change(delivery.id, verb, now=NOW, until=after(60))
