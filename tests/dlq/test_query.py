"""The query: what it accepts, how it is narrowed, and what it means."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from letters import NOW, after

from eventbus.classify import Kind
from eventbus_dlq.letter import DeadLetterState, DeadLetterSummary, Reason
from eventbus_dlq.query import DeadLetterQuery

TEXT_FIELDS = [
    it.name for it in fields(DeadLetterQuery) if it.name not in {"priority", "since", "until", "text"}
]
NAIVE = datetime(2026, 3, 14)
SUMMARY = DeadLetterSummary(
    id="dl-Abc", event_id="evt-Xyz", event_name="OrderPlaced", handler_id="billing.charge", tenant="acme",
    user_id="u-381", correlation_id="req-7", ordering_key="order-41", priority=5, tags=("billing", "eu"),
    state=DeadLetterState.EXHAUSTED, reason=Reason.ATTEMPTS, attempts=4, retries=3, crashes=0, retry_at=None,
    created_at=NOW, updated_at=NOW, last_attempt_at=NOW, fingerprint="b41d", error_type="httpx.ReadTimeout",
    error_message="No answer from Zürich", kind="timeout", category="transient", route="recoverable",
    acted_by="ann", note="secret note", token=3,
)  # fmt: skip


@pytest.mark.parametrize("name", TEXT_FIELDS)
def test_one_value_stands_for_the_set_of_it(name: str) -> None:
    assert DeadLetterQuery(**{name: "a"}) == DeadLetterQuery(**{name: {"a"}})
    assert DeadLetterQuery(**{name: "abc"}).values(name) == {"abc"}


@pytest.mark.parametrize(
    "given", [["a", "b"], ("b", "a", "a"), {"a", "b"}, frozenset("ab"), iter("ab"), {"a": 1, "b": 2}]
)
def test_any_iterable_of_texts_is_a_set(given: Any) -> None:
    query = DeadLetterQuery(tenant=given)
    assert query.values("tenant") == {"a", "b"}
    assert query.values("tenant") == {"a", "b"}


def test_enumerations_are_their_texts() -> None:
    query = DeadLetterQuery(state={DeadLetterState.PENDING}, reason=Reason.POISON, kind=Kind.BUG)
    assert query == DeadLetterQuery(state="pending", reason="poison", kind="bug")
    assert {type(value) for value in query.values("state") or ()} == {str}


@pytest.mark.parametrize("given", [1, [1, 5], (5, 1, 1), {1, 5}, iter([1, 5])])
def test_a_priority_is_a_number_or_any_of_several(given: Any) -> None:
    expected = frozenset({given} if isinstance(given, int) else {1, 5})
    assert DeadLetterQuery(priority=given).priority == expected


@pytest.mark.parametrize("given", [None, DeadLetterQuery().tenant])
def test_none_is_no_condition(given: None) -> None:
    query = DeadLetterQuery(tenant=given)
    assert query.values("tenant") is None
    assert query.is_empty


@pytest.mark.parametrize("name", TEXT_FIELDS)
@pytest.mark.parametrize("given", [{None}, [1], [b"acme"], ["acme", None], b"acme", 7])
def test_a_value_that_is_no_text_is_refused(name: str, given: Any) -> None:
    with pytest.raises(TypeError):
        DeadLetterQuery(**{name: given})


def test_the_refusal_of_a_value_names_field_and_value() -> None:
    with pytest.raises(TypeError, match=r"tenant=None is not a text; leave tenant out"):
        DeadLetterQuery(tenant=["acme", None])  # type: ignore[list-item]  # the mistake under test


@pytest.mark.parametrize("name", ["since", "until"])
def test_a_moment_without_a_time_zone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name}=.*no time zone"):
        DeadLetterQuery(**{name: NAIVE})
    assert not DeadLetterQuery(**{name: NAIVE.replace(tzinfo=UTC)}).is_empty


def test_a_query_is_frozen_and_can_be_a_key() -> None:
    query = DeadLetterQuery(state=["pending", "parked"], priority=[1])
    with pytest.raises(FrozenInstanceError):
        query.state = None
    assert {query: 1}[DeadLetterQuery(state={"parked", "pending"}, priority={1})] == 1


CONDITIONS: list[dict[str, Any]] = [
    *({name: value} for name in TEXT_FIELDS for value in ("x", ())),
    *({"priority": value} for value in (5, ())),
    *({"text": value} for value in ("x", "")),
    {"since": NOW},
    {"until": NOW},
]


@pytest.mark.parametrize("condition", CONDITIONS, ids=str)
def test_a_query_with_a_condition_is_not_empty(condition: dict[str, Any]) -> None:
    assert not DeadLetterQuery(**condition).is_empty


def test_everything_has_to_be_said() -> None:
    everything = DeadLetterQuery.everything()
    assert everything.is_everything
    assert everything.is_empty
    assert not DeadLetterQuery().is_everything
    assert not replace(everything, state="pending").is_everything


def test_everything_within_every_tenant_is_still_everything() -> None:
    assert DeadLetterQuery.everything().within(None).is_everything
    assert not DeadLetterQuery.everything().within({"acme"}).is_everything


@pytest.mark.parametrize(
    ("asked", "own", "expected"),
    [
        (None, {"acme"}, {"acme"}),
        (None, set(), set()),
        ("acme", {"acme", "globex"}, {"acme"}),
        ({"acme", "initech"}, ["acme", "globex"], {"acme"}),
        ("initech", {"acme"}, set()),
        ((), {"acme"}, set()),
        ("acme", (), set()),
        ("acme", None, {"acme"}),
        (None, None, None),
    ],
)
def test_a_limit_to_tenants_only_ever_narrows(asked: Any, own: Any, expected: set[str] | None) -> None:
    query = DeadLetterQuery(tenant=asked, state="pending").within(own)
    assert query.values("tenant") == expected
    assert query.values("state") == {"pending"}


def test_limits_to_tenants_add_up() -> None:
    assert DeadLetterQuery().within({"a", "b"}).within({"b", "c"}).values("tenant") == {"b"}


MATCHING: dict[str, Any] = {
    "state": "exhausted", "reason": "attempts", "event": "OrderPlaced", "handler": "billing.charge",
    "tenant": "acme", "user_id": "u-381", "kind": "timeout", "category": "transient", "route": "recoverable",
    "error_type": "httpx.ReadTimeout", "fingerprint": "b41d", "correlation_id": "req-7", "tag": "eu",
    "priority": 5, "since": NOW, "until": after(1), "text": "zÜRICH",
}  # fmt: skip
FAILING: dict[str, Any] = {
    **dict.fromkeys(TEXT_FIELDS, "other"),
    "priority": 4, "since": NOW + timedelta(microseconds=1), "until": NOW, "text": "other",
}  # fmt: skip


def test_the_tables_name_every_field() -> None:
    names = {field.name for field in fields(DeadLetterQuery)}
    assert set(MATCHING) == set(FAILING) == names


@pytest.mark.parametrize("name", MATCHING)
def test_a_condition_lets_pass_what_fits(name: str) -> None:
    assert DeadLetterQuery(**{name: MATCHING[name]}).matches(SUMMARY)
    assert not DeadLetterQuery(**{name: FAILING[name]}).matches(SUMMARY)


@pytest.mark.parametrize("name", MATCHING)
def test_one_condition_that_does_not_fit_is_enough(name: str) -> None:
    assert DeadLetterQuery(**MATCHING).matches(SUMMARY)
    assert not DeadLetterQuery(**{**MATCHING, name: FAILING[name]}).matches(SUMMARY)


@pytest.mark.parametrize("name", [*TEXT_FIELDS, "priority"])
def test_an_empty_set_fits_nothing(name: str) -> None:
    assert not DeadLetterQuery(**{name: ()}).matches(SUMMARY)


@pytest.mark.parametrize("name", ["tenant", "user_id", "reason"])
def test_what_a_letter_does_not_have_fits_no_condition(name: str) -> None:
    summary = replace(SUMMARY, **{name: None})
    assert DeadLetterQuery().matches(summary)
    for value in (MATCHING[name], "None", "", ()):
        assert not DeadLetterQuery(**{name: value}).matches(summary)


@pytest.mark.parametrize(
    "text", ["ORDERp", "billing.", "readTIMEOUT", "no answer", "DL-abc", "EVT-xyz", "Req-7", "ü", ""]
)
def test_text_is_part_of_a_name_an_error_or_an_id(text: str) -> None:
    assert DeadLetterQuery(text=text).matches(SUMMARY)


@pytest.mark.parametrize(
    "text", ["acme", "u-381", "b41d", "secret", "ann", "eu", "%", "order%placed", "timeout.no"]
)
def test_text_is_nothing_else(text: str) -> None:
    assert not DeadLetterQuery(text=text).matches(SUMMARY)
