"""Sequences: a closed letter that is opened again has its old place."""

from __future__ import annotations

import pytest
from in_sequence import KEY, accepted, blocked_by_a_failure, end, standing
from letters import NOW, after, build_error, build_letter, build_letter_in
from steps import claim_one

from eventbus_dlq.letter import CLOSED_STATES, DeadLetterState, Verb
from eventbus_dlq.store import DeadLetterStore

PENDING = DeadLetterState.PENDING
EXHAUSTED = DeadLetterState.EXHAUSTED
RESOLVED = DeadLetterState.RESOLVED


async def test_a_restored_letter_goes_before_the_younger_head_that_is_at_rest(
    store: DeadLetterStore,
) -> None:
    letters = await blocked_by_a_failure(store)
    await store.change(letters[0].id, Verb.RESOLVE, now=NOW)
    assert await standing(store, letters) == ["resolved", "accepted", "parked waits"]
    answer = await store.change(letters[0].id, Verb.RESTORE, now=NOW)
    assert (answer.state, answer.waits) == (EXHAUSTED, False)
    assert await standing(store, letters) == ["exhausted", "parked waits", "parked waits"]


async def test_a_restored_letter_waits_for_a_younger_one_that_runs(store: DeadLetterStore) -> None:
    letters = await blocked_by_a_failure(store)
    await store.change(letters[0].id, Verb.RESOLVE, now=NOW)
    claim = await claim_one(store, letters[1].id)
    answer = await store.change(letters[0].id, Verb.RESTORE, now=NOW)
    assert (answer.state, answer.waits) == (EXHAUSTED, True)
    assert await standing(store, letters) == ["exhausted waits", "running", "parked waits"]
    await end(store, claim.lease, RESOLVED)
    assert await standing(store, letters) == ["exhausted", "resolved", "parked waits"]


async def test_a_restored_letter_waits_on_when_the_one_that_ran_has_failed(store: DeadLetterStore) -> None:
    """Who goes on trying is not changed by an older letter that came back while it ran."""
    letters = await blocked_by_a_failure(store)
    await store.change(letters[0].id, Verb.RESOLVE, now=NOW)
    claim = await claim_one(store, letters[1].id)
    await store.change(letters[0].id, Verb.RESTORE, now=NOW)
    await end(store, claim.lease, PENDING, retry_at=after(60), error=build_error())
    assert await standing(store, letters) == ["exhausted waits", "pending", "parked waits"]
    await store.change(letters[1].id, Verb.RESOLVE, now=NOW)
    assert await standing(store, letters) == ["exhausted", "resolved", "parked waits"]


async def test_a_restored_letter_that_is_younger_waits(store: DeadLetterStore) -> None:
    letters = await blocked_by_a_failure(store)
    await store.change(letters[2].id, Verb.DISCARD, now=NOW)
    answer = await store.change(letters[2].id, Verb.RESTORE, now=NOW)
    assert (answer.state, answer.waits) == (EXHAUSTED, True)
    assert await standing(store, letters) == ["exhausted", "parked waits", "exhausted waits"]


async def test_a_restored_letter_parks_what_was_accepted_after_it_was_closed(store: DeadLetterStore) -> None:
    (closed,) = await blocked_by_a_failure(store, 0)
    await store.change(closed.id, Verb.RESOLVE, now=NOW)
    letters = [closed, *await accepted(store, 2)]
    assert await standing(store, letters) == ["resolved", "accepted", "accepted waits"]
    await store.change(closed.id, Verb.RESTORE, now=NOW)
    assert await standing(store, letters) == ["exhausted", "parked waits", "parked waits"]


@pytest.mark.parametrize("state", sorted(CLOSED_STATES))
async def test_a_closed_letter_that_fails_again_takes_its_old_place(
    store: DeadLetterStore, state: DeadLetterState
) -> None:
    closed = build_letter_in(state, ordering_key=KEY)
    await store.add([closed])
    letters = [closed, *await accepted(store, 2)]
    await store.add([build_letter(event_id=closed.event_id, ordering_key=KEY)])
    assert await standing(store, letters) == ["pending", "parked waits", "parked waits"]


async def test_a_closed_letter_that_fails_again_while_another_runs_waits(store: DeadLetterStore) -> None:
    closed = build_letter_in(RESOLVED, ordering_key=KEY)
    await store.add([closed])
    letters = [closed, *await accepted(store, 2)]
    await claim_one(store, letters[1].id)
    await store.add([build_letter(event_id=closed.event_id, ordering_key=KEY)])
    assert await standing(store, letters) == ["pending waits", "running", "parked waits"]


async def test_the_key_of_the_first_failure_counts(store: DeadLetterStore) -> None:
    known = build_letter(ordering_key=KEY)
    await store.add([known])
    await store.add([build_letter(event_id=known.event_id, ordering_key="other")])
    assert await standing(store, [known, *await accepted(store, 1)]) == ["pending", "parked waits"]
    assert await standing(store, await accepted(store, 1, "other")) == ["accepted"]
