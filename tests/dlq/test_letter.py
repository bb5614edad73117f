"""The record of a dead letter, and the moves between its states."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest
from letters import NOW, build_attempt, build_letter

from eventbus_dlq.errors import InvalidTransition, LeaseHeld
from eventbus_dlq.letter import (
    ALLOWED_FROM,
    CLAIMABLE_STATES,
    CLOSED_STATES,
    MAX_HISTORY,
    OPEN_STATES,
    STATE_AFTER,
    DeadLetterState,
    Verb,
    bounded_history,
    check_claim,
    check_verb,
)

# One row per state; a mark under each verb that it allows.
MOVES = """
state      claim resolve discard archive restore snooze requeue delete
accepted   x     x       x       x       -       -      -       x
running    -     -       -       -       -       -      -       -
pending    x     x       x       x       -       x      x       x
exhausted  x     x       x       x       -       x      x       x
parked     -     x       x       x       -       -      -       x
resolved   -     -       -       -       x       -      -       x
discarded  -     -       -       -       x       -      -       x
archived   -     -       -       -       x       -      -       x
"""
HEAD, *ROWS = [line.split() for line in MOVES.strip().splitlines()]
TABLE = [
    (verb, DeadLetterState(row[0]), mark == "x")
    for row in ROWS
    for verb, mark in zip(HEAD[1:], row[1:], strict=True)
]
VERBS = [(Verb(verb), state, allowed) for verb, state, allowed in TABLE if verb != "claim"]
CLAIMS = [
    (state, allowed)
    for verb, state, allowed in TABLE
    if verb == "claim" and state is not DeadLetterState.RUNNING
]


def test_the_table_names_every_state_and_every_verb() -> None:
    assert {row[0] for row in ROWS} == set(DeadLetterState)
    assert set(HEAD[2:]) == set(Verb)


@pytest.mark.parametrize(("verb", "state", "allowed"), VERBS)
def test_a_verb_passes_where_the_table_says_so(verb: Verb, state: DeadLetterState, allowed: bool) -> None:
    if allowed:
        check_verb(verb, "dl-1", state)
        return
    expected = LeaseHeld if state is DeadLetterState.RUNNING else InvalidTransition
    with pytest.raises(expected) as caught:
        check_verb(verb, "dl-1", state)
    assert "dl-1" in str(caught.value)
    assert state in str(caught.value)
    assert verb in str(caught.value)


@pytest.mark.parametrize(("verb", "state", "allowed"), VERBS)
def test_a_refusal_names_the_states_that_would_do(verb: Verb, state: DeadLetterState, allowed: bool) -> None:
    if allowed or state is DeadLetterState.RUNNING:
        assert (state in ALLOWED_FROM[verb]) is allowed
        return
    with pytest.raises(InvalidTransition) as caught:
        check_verb(verb, "dl-1", state)
    _, _, ways_out = str(caught.value).partition("possible from: ")
    assert set(ways_out.split(", ")) == ALLOWED_FROM[verb]


@pytest.mark.parametrize(("state", "allowed"), CLAIMS)
def test_a_claim_of_a_letter_at_rest_passes_where_the_table_says_so(
    state: DeadLetterState, allowed: bool
) -> None:
    assert (state in CLAIMABLE_STATES) is allowed
    if allowed:
        check_claim("dl-1", state)
        return
    with pytest.raises(InvalidTransition) as caught:
        check_claim("dl-1", state)
    assert f"dl-1 is {state}" in str(caught.value)
    assert ("restore it first" in str(caught.value)) is (state in CLOSED_STATES)


@pytest.mark.parametrize("state", sorted(CLAIMABLE_STATES))
def test_a_claim_of_a_letter_that_waits_is_refused_and_says_what_to_do(state: DeadLetterState) -> None:
    with pytest.raises(InvalidTransition, match=r"dl-1 waits for an earlier one.* resolve or discard"):
        check_claim("dl-1", state, waits=True)


@pytest.mark.parametrize("waits", [False, True])
def test_a_claim_of_a_running_letter_is_refused_as_held(waits: bool) -> None:
    with pytest.raises(LeaseHeld, match="dl-1 is running"):
        check_claim("dl-1", DeadLetterState.RUNNING, waits=waits)


def test_every_state_is_either_open_or_closed() -> None:
    assert set(DeadLetterState) == OPEN_STATES | CLOSED_STATES
    assert not OPEN_STATES & CLOSED_STATES


def test_every_verb_but_delete_leads_to_a_state() -> None:
    assert set(STATE_AFTER) == set(Verb) - {Verb.DELETE}
    assert {verb for verb, state in STATE_AFTER.items() if state in CLOSED_STATES} == {
        Verb.RESOLVE,
        Verb.DISCARD,
        Verb.ARCHIVE,
    }


def test_every_state_can_be_left() -> None:
    """A letter in a state that no verb sees could never be got rid of."""
    for state in set(DeadLetterState) - {DeadLetterState.RUNNING}:
        assert [verb for verb, states in ALLOWED_FROM.items() if state in states and verb is not Verb.DELETE]


@pytest.mark.parametrize(
    ("stored", "payload"),
    [
        (b'{"order_id":1017}', {"order_id": 1017}),
        (b"[1,2]", [1, 2]),
        (b'"text"', "text"),
        (b"0", 0),
        (b"null", None),
        ('"größe 🧾"'.encode(), "größe 🧾"),
    ],
)
def test_a_payload_is_read_as_json(stored: bytes, payload: object) -> None:
    assert build_letter(payload_json=stored).payload == payload


@pytest.mark.parametrize("stored", [b"", b"not json", b"\xff\xfe", b"{", b"[" * 200_000, b"1" * 10_000])
def test_what_cannot_be_read_as_json_is_none(stored: bytes) -> None:
    letter = build_letter(payload_json=stored)
    assert letter.payload is None
    assert letter.payload_json == stored


def test_a_payload_is_decoded_once() -> None:
    letter = build_letter()
    assert letter.payload is letter.payload


def test_a_copy_with_another_payload_shows_the_other_payload() -> None:
    letter = build_letter(payload_json=b'{"order_id":1}')
    assert letter.payload == {"order_id": 1}
    assert replace(letter, payload_json=b'{"order_id":2}').payload == {"order_id": 2}


def test_two_letters_are_equal_whether_or_not_their_payload_was_read() -> None:
    read = build_letter()
    unread = replace(read)
    assert read.payload
    assert read == unread
    assert "_payload" not in repr(read)


def test_a_letter_is_frozen() -> None:
    letter = build_letter()
    with pytest.raises(FrozenInstanceError):
        letter.state = DeadLetterState.RESOLVED


def test_the_idempotency_key_is_the_event_and_the_handler() -> None:
    letter = build_letter(event_id="evt-1", handler_id="billing.charge")
    assert letter.idempotency_key == "evt-1:billing.charge"
    assert replace(letter, id="other", attempts=9, updated_at=NOW).idempotency_key == "evt-1:billing.charge"


@pytest.mark.parametrize("length", [0, 1, MAX_HISTORY - 1, MAX_HISTORY])
def test_a_short_history_is_kept_as_it_is(length: int) -> None:
    history = tuple(build_attempt(number) for number in range(1, length + 1))
    assert bounded_history(history) == history


@pytest.mark.parametrize("beyond", [1, 2, 1000])
def test_a_long_history_keeps_the_first_and_the_latest(beyond: int) -> None:
    history = tuple(build_attempt(number) for number in range(1, MAX_HISTORY + beyond + 1))
    bounded = bounded_history(history)
    assert len(bounded) == MAX_HISTORY
    assert bounded[0] == history[0]
    assert bounded[1:] == history[-(MAX_HISTORY - 1) :]
    assert bounded_history(bounded) == bounded
