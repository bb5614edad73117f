"""The JSON form of a letter: what comes back is what went in, and what is wrong is named."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from letters import NOW, after, build_attempt, build_error, build_letter, build_letter_in

from eventbus.classify import Category, Kind, Route
from eventbus.failure import CauseRecord, ErrorRecord
from eventbus.retry import RetryPolicy
from eventbus_dlq.letter import Attempt, DeadLetter, DeadLetterState, Reason
from eventbus_dlq.letter_json import letter_from_json, letter_to_json

TEXT = st.text(max_size=20)
MAYBE_TEXT = st.none() | TEXT
MOMENT = st.datetimes(
    min_value=datetime(1970, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)
)  # fmt: skip
COUNT = st.integers(0, 2**40)
JSON_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
CAUSE = st.builds(CauseRecord, st.sampled_from(["cause", "context", "member"]), TEXT, TEXT, TEXT)
ERROR = st.builds(
    ErrorRecord,
    type=TEXT,
    message=TEXT,
    traceback=TEXT,
    code=MAYBE_TEXT,
    kind=st.sampled_from(Kind),
    category=st.sampled_from(Category),
    route=st.sampled_from(Route),
    causes=st.lists(CAUSE, max_size=2).map(tuple),
)
POLICY = st.builds(
    RetryPolicy,
    attempts=st.integers(0, 99),
    backoff=st.sampled_from(["fixed", "linear", "exponential"]),
    delay=st.floats(0, 1e6),
    multiplier=st.floats(1, 100),
    max_delay=st.floats(0, 1e6),
    jitter=st.booleans(),
)
LETTER = st.builds(
    DeadLetter,
    id=TEXT,
    event_id=TEXT,
    event_name=TEXT,
    event_version=COUNT,
    payload_json=st.binary(max_size=40) | JSON_VALUE.map(lambda value: json.dumps(value).encode()),
    occurred_at=MOMENT,
    handler_id=TEXT,
    tenant=MAYBE_TEXT,
    user_id=MAYBE_TEXT,
    correlation_id=TEXT,
    causation_id=MAYBE_TEXT,
    source=MAYBE_TEXT,
    ordering_key=MAYBE_TEXT,
    priority=st.integers(1, 10),
    headers=st.dictionaries(TEXT, TEXT, max_size=3),
    tags=st.lists(TEXT, max_size=3).map(tuple),
    annotations=st.dictionaries(TEXT, JSON_VALUE, max_size=3),
    redelivery=POLICY,
    state=st.sampled_from(DeadLetterState),
    reason=st.none() | st.sampled_from(Reason),
    attempts=COUNT,
    retries=COUNT,
    crashes=COUNT,
    retry_at=st.none() | MOMENT,
    created_at=MOMENT,
    updated_at=MOMENT,
    last_attempt_at=st.none() | MOMENT,
    fingerprint=TEXT,
    error=st.none() | ERROR,
    history=st.lists(st.builds(Attempt, COUNT, MOMENT, MOMENT, st.none() | ERROR), max_size=2).map(tuple),
    acted_by=MAYBE_TEXT,
    note=MAYBE_TEXT,
    token=COUNT,
    lease_owner=MAYBE_TEXT,
    lease_until=st.none() | MOMENT,
    waits=st.booleans(),
)
MEMBERS = {field.name for field in fields(DeadLetter) if field.init} - {"payload_json"} | {"payload"}


@pytest.mark.repetitive
@given(LETTER)
def test_what_comes_back_is_what_went_in(letter: DeadLetter) -> None:
    written = letter_to_json(letter)
    assert letter_from_json(written) == letter
    assert b"\n" not in written
    assert written.isascii()


def test_every_field_is_written_under_its_own_name() -> None:
    assert set(json.loads(letter_to_json(build_letter()))) == MEMBERS


def test_a_payload_is_readable_when_it_is_text_and_exact_when_it_is_not() -> None:
    text = b'{"a":  "\xc3\xa9"}'
    members = json.loads(letter_to_json(build_letter(payload_json=text)))
    assert members["payload"] == text.decode()
    bytes_of_no_text = b"\xff\x00{"
    members = json.loads(letter_to_json(build_letter(payload_json=bytes_of_no_text)))
    assert "payload" not in members
    letter = letter_from_json(json.dumps(members))
    assert letter.payload_json == bytes_of_no_text


def test_lone_surrogates_and_line_breaks_survive() -> None:
    letter = build_letter(note="one\ntwo\u2028three\x00 \ud800", annotations={"a\n": "\udfff"})
    assert letter_from_json(letter_to_json(letter)) == letter


@pytest.mark.parametrize("state", DeadLetterState)
def test_a_letter_of_every_state_comes_back(state: DeadLetterState) -> None:
    letter = replace(build_letter_in(state), history=(build_attempt(1), build_attempt(2, error=None)))
    assert letter_from_json(letter_to_json(letter)) == letter


def test_members_of_a_newer_release_are_ignored() -> None:
    letter = build_letter()
    members = json.loads(letter_to_json(letter))
    members["colour"] = "red"
    members["error"]["severity"] = 3
    members["redelivery"]["cap"] = 1
    members["history"][0]["node"] = "n1"
    members["error"]["causes"][0]["depth"] = 1
    assert letter_from_json(json.dumps(members)) == letter


@pytest.mark.parametrize("name", sorted(MEMBERS))
def test_a_missing_member_is_named(name: str) -> None:
    members = json.loads(letter_to_json(build_letter()))
    del members[name]
    with pytest.raises(ValueError, match=f"the letter has no '{name}'"):
        letter_from_json(json.dumps(members))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("id", 7, "not a text"),
        ("attempts", "7", "not a whole number"),
        ("attempts", True, "not a whole number"),
        ("waits", 1, "neither true nor false"),
        ("headers", [], "not an object"),
        ("headers", {"a": 1}, "not a text"),
        ("tags", "billing", "not a list"),
        ("tags", [1], "not a text"),
        ("created_at", "yesterday", "yesterday"),
        ("created_at", "2026-03-14T09:26:53", "no offset from UTC"),
        ("state", "asleep", "asleep"),
        ("reason", "asleep", "asleep"),
        ("redelivery", {}, "no 'attempts'"),
        ("redelivery", {"attempts": -1}, "no 'backoff'"),
        ("payload", 3, "not a text"),
        ("error", "boom", "not an object"),
    ],
)
def test_a_wrong_member_is_named_with_what_is_wrong(name: str, value: Any, said: str) -> None:
    members = json.loads(letter_to_json(build_letter()))
    members[name] = value
    with pytest.raises(ValueError, match=f"the letter's '{name}': .*{said}"):
        letter_from_json(json.dumps(members))


def test_a_wrong_member_deep_inside_is_named() -> None:
    members = json.loads(letter_to_json(build_letter()))
    members["error"]["causes"][0]["relation"] = "uncle"
    with pytest.raises(ValueError, match=r"'error'.*'causes'.*'relation'.*'uncle' is none of cause"):
        letter_from_json(json.dumps(members))


def test_a_policy_of_the_wrong_types_is_refused() -> None:
    members = json.loads(letter_to_json(build_letter()))
    members["redelivery"]["attempts"] = "many"
    with pytest.raises(ValueError, match="the letter's 'redelivery'"):
        letter_from_json(json.dumps(members))
    members["redelivery"]["attempts"] = -1
    with pytest.raises(ValueError, match="attempts=-1"):
        letter_from_json(json.dumps(members))


def test_base64_that_is_none_is_refused() -> None:
    members = json.loads(letter_to_json(build_letter()))
    members["payload_base64"] = "*"
    with pytest.raises(ValueError, match="payload_base64"):
        letter_from_json(json.dumps(members))


@pytest.mark.parametrize("data", [b"", b"[]", b"7", b"{", b"[" * 100_000, b"\xff"])
def test_what_is_no_letter_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        letter_from_json(data)


def test_an_annotation_without_a_json_form_is_refused_by_the_letters_id() -> None:
    letter = build_letter(annotations={"lock": object()})
    with pytest.raises(ValueError, match=f"dead letter {letter.id} has no JSON form"):
        letter_to_json(letter)


def test_a_letter_without_any_failure_comes_back() -> None:
    letter = build_letter_in(DeadLetterState.ACCEPTED, error=None, fingerprint="", lease_until=after(1))
    assert letter_from_json(letter_to_json(letter)) == letter
    assert letter.created_at == NOW
    assert build_error() != letter.error
