"""``change``: a person's verbs, each from each state."""

from __future__ import annotations

from dataclasses import replace

import pytest
from letters import NOW, after, build_letter, build_letter_in
from steps import found, stored

from eventbus.ids import new_id
from eventbus_dlq.errors import DeadLetterNotFound, InvalidTransition, LeaseHeld
from eventbus_dlq.letter import DeadLetterState, Verb
from eventbus_dlq.store import DeadLetterStore

ALL = set(DeadLetterState)
OPEN_AT_REST = {"accepted", "pending", "exhausted", "parked"}
CLOSED = {"resolved", "discarded", "archived"}
MOVES = {
    Verb.RESOLVE: (OPEN_AT_REST, DeadLetterState.RESOLVED),
    Verb.DISCARD: (OPEN_AT_REST, DeadLetterState.DISCARDED),
    Verb.ARCHIVE: (OPEN_AT_REST, DeadLetterState.ARCHIVED),
    Verb.RESTORE: (CLOSED, DeadLetterState.EXHAUSTED),
    Verb.SNOOZE: ({"pending", "exhausted"}, DeadLetterState.PENDING),
    Verb.REQUEUE: ({"pending", "exhausted"}, DeadLetterState.PENDING),
}


@pytest.mark.parametrize("verb", MOVES)
async def test_a_verb_moves_a_letter_from_every_state_that_allows_it(
    store: DeadLetterStore, verb: Verb
) -> None:
    allowed, state_after = MOVES[verb]
    until = after(3600) if verb is Verb.SNOOZE else None
    retry_at = after(7) if verb is Verb.REQUEUE else until
    for state in sorted(allowed):
        letter = await stored(store, build_letter_in(DeadLetterState(state), token=3, retries=2))

        answer = await store.change(letter.id, verb, now=after(7), by="bob", note="seen", until=until)

        assert answer == replace(
            letter,
            state=state_after,
            reason=None,
            retries=0 if verb is Verb.REQUEUE else 2,
            retry_at=retry_at,
            acted_by="bob",
            note="seen",
            updated_at=after(7),
        )
        assert await store.get(letter.id) == answer


@pytest.mark.parametrize("verb", MOVES)
async def test_a_verb_is_refused_by_every_other_state(store: DeadLetterStore, verb: Verb) -> None:
    for state in sorted(ALL - MOVES[verb][0] - {"running"}):
        letter = await stored(store, build_letter_in(state))
        with pytest.raises(InvalidTransition) as caught:
            await store.change(letter.id, verb, now=NOW, by="bob", until=after(3600))
        assert {letter.id, str(state), str(verb)} <= set(str(caught.value).replace(";", "").split())
        assert await store.get(letter.id) == letter


@pytest.mark.parametrize("verb", MOVES)
async def test_a_running_letter_refuses_every_verb_even_when_its_lease_has_run_out(
    store: DeadLetterStore, verb: Verb
) -> None:
    letter = await stored(store, build_letter_in(DeadLetterState.RUNNING))
    with pytest.raises(LeaseHeld, match=letter.id):
        await store.change(letter.id, verb, now=after(3600), until=after(7200))
    assert await store.get(letter.id) == letter


@pytest.mark.parametrize("verb", MOVES)
async def test_an_unknown_id_is_not_found(store: DeadLetterStore, verb: Verb) -> None:
    unknown = new_id()
    with pytest.raises(DeadLetterNotFound, match=unknown):
        await store.change(unknown, verb, now=NOW)


async def test_who_and_note_are_overwritten_even_by_none(store: DeadLetterStore) -> None:
    letter = await stored(store, build_letter(acted_by="ann", note="asked the bank"))
    answer = await store.change(letter.id, Verb.RESOLVE, now=NOW)
    assert (answer.acted_by, answer.note) == (None, None)


async def test_until_counts_for_a_snooze_alone(store: DeadLetterStore) -> None:
    letter = await stored(store, build_letter())
    answer = await store.change(letter.id, Verb.ARCHIVE, now=NOW, until=after(60))
    assert answer.retry_at is None


async def test_a_delete_is_no_change(store: DeadLetterStore) -> None:
    letter = await stored(store, build_letter())
    with pytest.raises(ValueError, match="delete"):
        await store.change(letter.id, Verb.DELETE, now=NOW)
    assert await store.get(letter.id) == letter


async def test_a_listing_by_state_follows_the_verbs(store: DeadLetterStore) -> None:
    letter = await stored(store, build_letter())
    await store.change(letter.id, Verb.DISCARD, now=NOW)
    assert await found(store, state="discarded") == {letter.id}
    await store.change(letter.id, Verb.RESTORE, now=NOW)
    assert await found(store, state="discarded") == set()
    assert await found(store, state="exhausted") == {letter.id}
