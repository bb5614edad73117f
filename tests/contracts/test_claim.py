"""``claim``: who may run a letter, and what it costs."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest
from letters import NOW, after, build_letter, build_letter_in
from steps import claim_due, claim_one, stored

from eventbus.ids import new_id
from eventbus_dlq.errors import DeadLetterNotFound, InvalidTransition, LeaseHeld
from eventbus_dlq.letter import CLAIMABLE_STATES, CLOSED_STATES, DeadLetterState
from eventbus_dlq.store import Claim, DeadLetterStore, Lease

REFUSED = sorted(set(DeadLetterState) - CLAIMABLE_STATES - {DeadLetterState.RUNNING})


@pytest.mark.parametrize("state", sorted(CLAIMABLE_STATES))
async def test_a_claim_charges_an_attempt_and_raises_the_token(
    store: DeadLetterStore, state: DeadLetterState
) -> None:
    letter = build_letter_in(state, attempts=3, retries=1, token=4)
    await store.add([letter])

    (claim,) = await store.claim([letter.id], owner="worker-7", lease=12.5, now=after(100))

    assert isinstance(claim, Claim)
    assert claim.lease == Lease(dead_letter_id=letter.id, token=5)
    assert claim.letter == replace(
        letter,
        state=DeadLetterState.RUNNING,
        attempts=4,
        retries=1 if state == "accepted" else 2,
        token=5,
        lease_owner="worker-7",
        lease_until=after(112.5),
        updated_at=after(100),
    )


async def test_the_claimed_letter_is_the_stored_one(store: DeadLetterStore) -> None:
    letter = await stored(store, build_letter())
    claim = await claim_one(store, letter.id)
    assert await store.get(letter.id) == claim.letter


@pytest.mark.parametrize("state", REFUSED)
async def test_other_states_refuse_and_are_named(store: DeadLetterStore, state: DeadLetterState) -> None:
    letter = await stored(store, build_letter_in(state))
    (answer,) = await store.claim([letter.id], owner="worker-1", lease=30.0, now=NOW)
    assert isinstance(answer, InvalidTransition)
    assert letter.id in str(answer)
    assert state in str(answer)
    assert ("restore" in str(answer)) is (state in CLOSED_STATES)
    assert await store.get(letter.id) == letter


async def test_a_lease_is_never_taken_by_a_claim_even_when_it_has_run_out(store: DeadLetterStore) -> None:
    letter = await stored(store, build_letter())
    claim = await claim_one(store, letter.id, now=NOW)
    for moment in (NOW, after(29.999999), after(-86_400), after(31), after(86_400)):
        (answer,) = await store.claim([letter.id], owner="worker-2", lease=30.0, now=moment)
        assert isinstance(answer, LeaseHeld)
        assert letter.id in str(answer)
    assert list(await claim_due(store, now=after(86_400), owner="worker-2")) == []
    assert await store.get(letter.id) == claim.letter


async def test_the_answers_are_in_the_order_of_the_ids_with_errors_in_their_places(
    store: DeadLetterStore,
) -> None:
    pending, exhausted = build_letter(), build_letter_in(DeadLetterState.EXHAUSTED)
    running, resolved = build_letter_in(DeadLetterState.RUNNING), build_letter_in(DeadLetterState.RESOLVED)
    await store.add([resolved, running, exhausted, pending])
    unknown = new_id()

    asked = [unknown, pending.id, running.id, exhausted.id, resolved.id]
    answers = await store.claim(asked, owner="worker-1", lease=30.0, now=NOW)

    assert [type(answer) for answer in answers] == [
        DeadLetterNotFound,
        Claim,
        LeaseHeld,
        Claim,
        InvalidTransition,
    ]
    assert [answer.letter.id for answer in answers if isinstance(answer, Claim)] == [pending.id, exhausted.id]


async def test_an_id_asked_for_twice_is_claimed_once(store: DeadLetterStore) -> None:
    letter = await stored(store, build_letter())
    first, second = await store.claim([letter.id, letter.id], owner="worker-1", lease=30.0, now=NOW)
    assert isinstance(first, Claim)
    assert isinstance(second, LeaseHeld)
    assert (await store.get(letter.id)).token == first.lease.token


async def test_asking_for_nothing_gives_nothing(store: DeadLetterStore) -> None:
    assert list(await store.claim([], owner="worker-1", lease=30.0, now=NOW)) == []


async def test_many_ids_are_claimed_in_one_call(store: DeadLetterStore) -> None:
    letters = [build_letter() for _ in range(1500)]
    await store.add(letters)
    asked = [letter.id for letter in reversed(letters)]
    answers = await store.claim(asked, owner="worker-1", lease=30.0, now=NOW)
    assert [answer.letter.id for answer in answers if isinstance(answer, Claim)] == asked


async def test_of_many_claimants_at_a_time_one_gets_the_letter(store: DeadLetterStore) -> None:
    letter = await stored(store, build_letter())
    answers: list[Claim | Exception] = []

    async def claim(owner: str) -> None:
        answers.extend(await store.claim([letter.id], owner=owner, lease=30.0, now=NOW))

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(claim, f"worker-{number}")
    (winner,) = [answer for answer in answers if isinstance(answer, Claim)]
    assert sum(isinstance(answer, LeaseHeld) for answer in answers) == 19
    assert (await store.get(letter.id)).lease_owner == winner.letter.lease_owner
