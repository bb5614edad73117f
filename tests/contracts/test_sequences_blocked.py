"""Blocked sequences: a failure holds back what is behind it, and is released in order."""

from __future__ import annotations

import pytest
from in_sequence import KEY, accepted, blocked_by_a_failure, end, run_next, standing
from letters import NOW, after, build_error, build_letter, build_letter_in
from steps import claim_due, claim_one

from eventbus_dlq.errors import InvalidTransition
from eventbus_dlq.letter import DeadLetterState, Reason, Verb
from eventbus_dlq.store import Claim, DeadLetterStore, Kept

ACCEPTED = DeadLetterState.ACCEPTED
PENDING = DeadLetterState.PENDING
EXHAUSTED = DeadLetterState.EXHAUSTED
PARKED = DeadLetterState.PARKED
RESOLVED = DeadLetterState.RESOLVED
CLOSING = {Verb.RESOLVE: RESOLVED, Verb.DISCARD: "discarded", Verb.ARCHIVE: "archived"}


@pytest.mark.parametrize("state", [PENDING, EXHAUSTED])
async def test_a_head_that_fails_parks_what_is_behind_it(
    store: DeadLetterStore, state: DeadLetterState
) -> None:
    letters = await accepted(store)
    claim = await claim_one(store, letters[0].id)
    await end(store, claim.lease, state, error=build_error(), retry_at=after(60))
    assert await standing(store, letters) == [state, "parked waits", "parked waits"]
    follower = await store.get(letters[1].id)
    assert (follower.reason, follower.attempts, follower.error) == (Reason.SEQUENCE, 0, None)


async def test_what_comes_later_is_parked_too(store: DeadLetterStore) -> None:
    letters = await blocked_by_a_failure(store)
    letters += await accepted(store, 1)
    assert await standing(store, letters) == ["exhausted", *["parked waits"] * 3]


async def test_while_a_failure_runs_again_its_followers_stay_parked(store: DeadLetterStore) -> None:
    letters = await blocked_by_a_failure(store)
    await claim_one(store, letters[0].id)
    letters += await accepted(store, 1)
    assert await standing(store, letters) == ["running", *["parked waits"] * 3]


async def test_a_follower_cannot_be_claimed_by_its_id(store: DeadLetterStore) -> None:
    free, behind = await accepted(store, 2), await blocked_by_a_failure(store, 1)
    for follower in (free[1], behind[1]):
        (answer,) = await store.claim([follower.id], owner="worker-1", lease=30.0, now=NOW)
        assert isinstance(answer, InvalidTransition)
        assert follower.id in str(answer)
    states = {PENDING, EXHAUSTED, PARKED, ACCEPTED}
    assert [it.letter.id for it in await claim_due(store, states=states)] == [free[0].id]


async def test_a_follower_that_waits_says_so_when_it_refuses(store: DeadLetterStore) -> None:
    _, follower = await accepted(store, 2)
    (answer,) = await store.claim([follower.id], owner="worker-1", lease=30.0, now=NOW)
    assert isinstance(answer, InvalidTransition)
    assert "waits for an earlier one" in str(answer)
    _, parked = await blocked_by_a_failure(store, 1)
    (answer,) = await store.claim([parked.id], owner="worker-1", lease=30.0, now=NOW)
    assert "discard the first one of its ordering key, and it runs by itself" in str(answer)


async def test_two_of_one_sequence_in_one_claim_are_one_run(store: DeadLetterStore) -> None:
    first, second = await accepted(store, 2)
    answers = await store.claim([second.id, first.id], owner="worker-1", lease=30.0, now=NOW)
    assert [type(answer) for answer in answers] == [InvalidTransition, Claim]


async def test_a_replay_that_succeeds_releases_the_followers_one_after_another(
    store: DeadLetterStore,
) -> None:
    letters = await blocked_by_a_failure(store)
    claim = await claim_one(store, letters[0].id)
    await end(store, claim.lease, RESOLVED)
    assert await standing(store, letters) == ["resolved", "accepted", "parked waits"]
    assert (await store.get(letters[1].id)).reason is None
    assert [await run_next(store) for _ in range(2)] == [it.id for it in letters[1:]]
    assert await store.blocked({"billing.charge"}) == frozenset()


async def test_the_key_stays_blocked_until_its_last_follower_has_settled(store: DeadLetterStore) -> None:
    letters = await blocked_by_a_failure(store, 2)
    await store.change(letters[0].id, Verb.RESOLVE, now=NOW)
    letters += await accepted(store, 1)
    assert await standing(store, letters) == ["resolved", "accepted", "parked waits", "parked waits"]
    await run_next(store)
    letters += await accepted(store, 1)
    assert await standing(store, letters[-1:]) == ["parked waits"]
    for _ in range(3):
        await run_next(store)
    letters += await accepted(store, 1)
    assert await standing(store, letters[-1:]) == ["accepted"]


@pytest.mark.parametrize("verb", sorted(CLOSING))
async def test_a_person_who_closes_the_head_releases_the_next(store: DeadLetterStore, verb: Verb) -> None:
    letters = await blocked_by_a_failure(store)
    answer = await store.change(letters[0].id, verb, now=NOW)
    assert (answer.state, answer.waits) == (CLOSING[verb], False)
    assert await standing(store, letters) == [CLOSING[verb], "accepted", "parked waits"]
    (claim,) = await claim_due(store)
    assert claim.letter.id == letters[1].id


async def test_deleting_the_head_releases_the_next(store: DeadLetterStore) -> None:
    head, *others = await blocked_by_a_failure(store)
    await store.delete(head.id)
    assert await standing(store, others) == ["accepted", "parked waits"]
    assert [await run_next(store) for _ in others] == [it.id for it in others]


async def test_deleting_a_delivery_that_is_first_lets_the_next_go(store: DeadLetterStore) -> None:
    head, *others = await accepted(store)
    await store.delete(head.id)
    assert await standing(store, others) == ["accepted", "accepted waits"]


@pytest.mark.parametrize("verb", sorted(CLOSING))
async def test_a_follower_may_be_closed_out_of_turn(store: DeadLetterStore, verb: Verb) -> None:
    letters = await blocked_by_a_failure(store)
    answer = await store.change(letters[1].id, verb, now=NOW)
    assert answer.waits is False
    assert await standing(store, letters) == ["exhausted", CLOSING[verb], "parked waits"]
    await store.change(letters[0].id, Verb.RESOLVE, now=NOW)
    assert await standing(store, [letters[2]]) == ["accepted"]


async def test_a_follower_may_be_deleted_out_of_turn(store: DeadLetterStore) -> None:
    head, gone, last = await blocked_by_a_failure(store)
    await store.delete(gone.id)
    assert await standing(store, [head, last]) == ["exhausted", "parked waits"]


async def test_a_failure_behind_a_head_waits_for_it(store: DeadLetterStore) -> None:
    head, failed = build_letter(ordering_key=KEY, retry_at=NOW), build_letter(ordering_key=KEY, retry_at=NOW)
    await store.add([head])
    await store.add([failed])
    assert await standing(store, [head, failed]) == ["pending", "pending waits"]
    (claim,) = await claim_due(store)
    assert claim.letter.id == head.id
    (answer,) = await store.claim([failed.id], owner="worker-1", lease=30.0, now=NOW)
    assert isinstance(answer, InvalidTransition)


async def test_a_failure_that_waited_keeps_its_state_when_its_turn_comes(store: DeadLetterStore) -> None:
    head = build_letter(ordering_key=KEY)
    failed = build_letter_in(EXHAUSTED, ordering_key=KEY)
    await store.add([head, failed])
    await store.change(head.id, Verb.DISCARD, now=NOW)
    assert await standing(store, [head, failed]) == ["discarded", "exhausted"]
    assert (await store.get(failed.id)).reason is Reason.ATTEMPTS
    await claim_one(store, failed.id)


async def test_a_failure_behind_a_delivery_parks_those_between_them(store: DeadLetterStore) -> None:
    letters = await accepted(store)
    failed = build_letter(ordering_key=KEY)
    await store.add([failed])
    letters += [failed, *await accepted(store, 1)]
    assert await standing(store, letters) == [
        "accepted", "parked waits", "parked waits", "pending waits", "parked waits",
    ]  # fmt: skip


async def test_a_failure_behind_a_first_run_parks_those_between_them(store: DeadLetterStore) -> None:
    letters = await accepted(store, 2)
    claim = await claim_one(store, letters[0].id)
    await store.add([failed := build_letter(ordering_key=KEY, retry_at=NOW)])
    assert await standing(store, [*letters, failed]) == ["running", "parked waits", "pending waits"]
    await end(store, claim.lease, RESOLVED, forget=True)
    assert [await run_next(store) for _ in range(2)] == [letters[1].id, failed.id]


async def test_what_is_parked_in_a_sequence_is_known_when_it_is_accepted_again(
    store: DeadLetterStore,
) -> None:
    letters = await blocked_by_a_failure(store, 1)
    await store.change(letters[0].id, Verb.RESOLVE, now=NOW)
    assert list(await store.accept([letters[1]])) == [Kept(letters[1].id, ACCEPTED)]
    assert await standing(store, letters) == ["resolved", "accepted"]


async def test_the_statistics_follow_a_sequence(store: DeadLetterStore) -> None:
    letters = await blocked_by_a_failure(store, 3)
    assert (await store.stats(now=NOW)).by_state == {"exhausted": 1, "parked": 3}
    await store.change(letters[0].id, Verb.RESOLVE, now=NOW)
    assert (await store.stats(now=NOW)).by_state == {"resolved": 1, "accepted": 1, "parked": 2}
    await run_next(store)
    assert (await store.stats(now=NOW)).by_state == {"resolved": 1, "accepted": 1, "parked": 1}
