"""``find``: which letters a query means, as summaries."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta
from typing import Any

import pytest
from letters import NOW, after, build_error, build_letter, build_letter_in
from steps import find_all, found

from eventbus.classify import Category, Kind, Route
from eventbus_dlq.letter import DeadLetterState, DeadLetterSummary, Reason
from eventbus_dlq.query import DeadLetterQuery
from eventbus_dlq.store import DeadLetterStore

FILTERS: dict[str, tuple[dict[str, Any], str]] = {
    "state": ({"state": DeadLetterState.PARKED}, "parked"),
    "reason": ({"state": DeadLetterState.EXHAUSTED, "reason": Reason.POISON}, "poison"),
    "event": ({"event_name": "order.placed"}, "order.placed"),
    "handler": ({"handler_id": "stock.reserve"}, "stock.reserve"),
    "tenant": ({"tenant": "globex"}, "globex"),
    "user_id": ({"user_id": "u-9"}, "u-9"),
    "kind": ({"error": build_error(Kind.CONFLICT)}, "conflict"),
    "category": ({"error": build_error(Kind.BUG)}, "permanent"),
    "route": ({"error": build_error(Kind.UNKNOWN)}, "review"),
    "error_type": ({"error": build_error(type="builtins.KeyError")}, "builtins.KeyError"),
    "fingerprint": ({"fingerprint": "ffff"}, "ffff"),
    "correlation_id": ({"correlation_id": "req-7"}, "req-7"),
    "tag": ({"tags": ("urgent", "eu")}, "urgent"),
}


async def test_a_summary_says_what_the_letter_says(store: DeadLetterStore) -> None:
    letter = build_letter(
        reason=Reason.INTERRUPTED, attempts=7, retries=2, crashes=1, token=4, acted_by="ann", note="✓",
        error=build_error(Kind.CONFLICT, message="ä" * 501), ordering_key="order-41",
    )  # fmt: skip
    await store.add([letter])
    (item,) = await find_all(store)
    of_the_error = {"error_type", "error_message", "kind", "category", "route"}
    for field in fields(DeadLetterSummary):
        if field.name not in of_the_error:
            assert getattr(item, field.name) == getattr(letter, field.name), field.name
    assert item.error_type == "httpx.ReadTimeout"
    assert item.error_message == "ä" * 500
    assert (item.kind, item.category, item.route) == (Kind.CONFLICT, Category.PERMANENT, Route.USER_ERROR)
    assert type(item.state) is DeadLetterState
    assert type(item.reason) is Reason


async def test_a_summary_of_a_letter_without_the_optional_is_without_it(store: DeadLetterStore) -> None:
    await store.add([build_letter(tenant=None, user_id=None, retry_at=None, last_attempt_at=None, tags=())])
    (item,) = await find_all(store)
    assert (item.tenant, item.user_id, item.retry_at, item.last_attempt_at) == (None, None, None, None)
    assert (item.reason, item.acted_by, item.note, item.tags) == (None, None, None, ())


async def test_an_empty_store_has_an_empty_page_without_a_cursor(store: DeadLetterStore) -> None:
    page = await store.find(DeadLetterQuery())
    assert (page.items, page.next_cursor) == ((), None)


@pytest.mark.parametrize("name", FILTERS)
async def test_a_filter_means_its_value_or_any_of_a_set(store: DeadLetterStore, name: str) -> None:
    overrides, value = FILTERS[name]
    letter, other = build_letter(**overrides), build_letter()
    await store.add([letter, other])
    assert await found(store, **{name: value}) == {letter.id}
    assert await found(store, **{name: {value, "something else"}}) == {letter.id}
    assert await found(store, **{name: "something else"}) == set()
    assert await found(store, **{name: value.swapcase()}) == set()
    assert await found(store, **{name: set()}) == set()


async def test_priority_means_its_number_or_any_of_a_set(store: DeadLetterStore) -> None:
    letters = {number: build_letter(priority=number) for number in (1, 5, 10)}
    await store.add(list(letters.values()))
    assert await found(store, priority=1) == {letters[1].id}
    assert await found(store, priority={1, 10, 3}) == {letters[1].id, letters[10].id}
    assert await found(store, priority=()) == set()


async def test_a_set_of_all_states_means_every_letter(store: DeadLetterStore) -> None:
    letters = [build_letter_in(state) for state in DeadLetterState]
    await store.add(letters)
    assert await found(store, state=set(DeadLetterState)) == {letter.id for letter in letters}
    closed = {letter.id for letter in letters if letter.state in ("resolved", "discarded", "archived")}
    assert await found(store, state=["resolved", "discarded", "archived"]) == closed


async def test_letters_without_a_tenant_are_found_only_without_a_condition_on_it(
    store: DeadLetterStore,
) -> None:
    nobodys, acmes, nones = (
        build_letter(tenant=None),
        build_letter(tenant="acme"),
        build_letter(tenant="None"),
    )
    await store.add([nobodys, acmes, nones])
    assert await found(store, tenant=None) == {nobodys.id, acmes.id, nones.id}
    assert await found(store, tenant={"acme", "None", ""}) == {acmes.id, nones.id}


async def test_a_query_within_tenants_never_shows_the_letters_of_others(store: DeadLetterStore) -> None:
    letters = {tenant: build_letter(tenant=tenant) for tenant in ("acme", "globex", None)}
    await store.add(list(letters.values()))

    async def seen(query: DeadLetterQuery) -> set[str]:
        return {item.id for item in await find_all(store, query)}

    assert await seen(DeadLetterQuery().within({"acme"})) == {letters["acme"].id}
    assert await seen(DeadLetterQuery(tenant="globex").within({"acme"})) == set()
    assert await seen(DeadLetterQuery().within(())) == set()
    assert len(await seen(DeadLetterQuery().within(None))) == 3


async def test_any_one_of_several_tags_is_enough(store: DeadLetterStore) -> None:
    first, second = build_letter(tags=("a", "b")), build_letter(tags=("b", "c"))
    await store.add([first, second, build_letter(tags=()), build_letter(tags=("ab", "a b", 'a"b', "B"))])
    assert await found(store, tag="b") == {first.id, second.id}
    assert await found(store, tag={"a", "c"}) == {first.id, second.id}
    assert await found(store, tag="a") == {first.id}


async def test_tags_are_compared_as_they_are(store: DeadLetterStore) -> None:
    odd = ('say "hi"', "back\\slash", "per%cent", "under_score", "größe", "a,b", "[x]", "'")
    letters = {tag: build_letter(tags=(tag,)) for tag in odd}
    await store.add(list(letters.values()))
    for tag in odd:
        assert await found(store, tag=tag) == {letters[tag].id}, tag
    assert await found(store, tag="%") == set()


async def test_conditions_are_combined_with_and(store: DeadLetterStore) -> None:
    both = build_letter(tenant="globex", error=build_error(Kind.BUG), tags=("x",), priority=2)
    await store.add(
        [both, build_letter(tenant="globex"), build_letter(error=build_error(Kind.BUG), tags=("x",))]
    )
    conditions: dict[str, Any] = {
        "tenant": {"globex", "acme"}, "kind": "bug", "tag": "x", "priority": {2, 3}, "state": "pending",
        "text": "ORDERplaced", "since": NOW, "until": after(1),
    }  # fmt: skip
    assert await found(store, **conditions) == {both.id}
    assert await found(store, **{**conditions, "priority": 3}) == set()
    assert await found(store, **{**conditions, "tenant": ()}) == set()


async def test_every_field_at_once_finds_the_one_letter(store: DeadLetterStore) -> None:
    letter = build_letter(state=DeadLetterState.EXHAUSTED, reason=Reason.ATTEMPTS)
    await store.add([letter, build_letter()])
    everything = DeadLetterQuery(
        state="exhausted", reason="attempts", event="OrderPlaced", handler="billing.charge", tenant="acme",
        user_id="u-381", kind="timeout", category="transient", route="recoverable",
        error_type="httpx.ReadTimeout", fingerprint=letter.fingerprint, correlation_id=letter.correlation_id,
        tag="eu", priority=5, since=after(-1), until=after(1), text="readtimeout",
    )  # fmt: skip
    assert all(getattr(everything, field.name) is not None for field in fields(everything))
    assert [item.id for item in await find_all(store, everything)] == [letter.id]


async def test_since_includes_its_moment_and_until_does_not(store: DeadLetterStore) -> None:
    microsecond = timedelta(microseconds=1)
    before, at, behind = (
        build_letter(created_at=moment) for moment in (NOW - microsecond, NOW, NOW + microsecond)
    )
    await store.add([before, at, behind])
    assert await found(store, since=NOW) == {at.id, behind.id}
    assert await found(store, until=NOW) == {before.id}
    assert await found(store, since=NOW, until=NOW + microsecond) == {at.id}
    assert await found(store, since=NOW, until=NOW) == set()


async def test_a_moment_in_another_time_zone_is_the_same_moment(store: DeadLetterStore) -> None:
    from datetime import timezone

    tokyo = timezone(timedelta(hours=9))
    letter = build_letter()
    await store.add([letter])
    assert await found(store, since=NOW.astimezone(tokyo)) == {letter.id}
    assert await found(store, until=NOW.astimezone(tokyo)) == set()


SEARCHED: dict[str, tuple[dict[str, Any], str]] = {
    "the event's name": ({"event_name": "invoice.sent"}, "VOICE.se"),
    "the handler's id": ({"handler_id": "stock.reserve"}, "Stock.R"),
    "the error's type": ({"error": build_error(type="app.CardDeclined")}, "carddecl"),
    "the error's message": ({"error": build_error(message="Insufficient funds on 4242")}, "FUNDS ON 42"),
    "the letter's id": ({"id": "0195f0a0-7b1c-7def-8a11-0123456789ab"}, "8A11-0123"),
    "the event's id": ({"event_id": "evt-Zebra-77"}, "zebra-7"),
    "the flow's id": ({"correlation_id": "REQ-zulu-1"}, "req-ZULU"),
}


@pytest.mark.parametrize("where", SEARCHED)
async def test_text_is_searched_in(store: DeadLetterStore, where: str) -> None:
    overrides, text = SEARCHED[where]
    letter = build_letter(**overrides)
    await store.add([letter, build_letter()])
    assert await found(store, text=text) == {letter.id}


async def test_text_is_never_searched_in_what_may_be_secret(store: DeadLetterStore) -> None:
    await store.add([build_letter(
        payload_json=b'{"pin":"needle"}', headers={"needle": "needle"}, annotations={"needle": "needle"},
        note="needle", tags=("needle",), user_id="needle", tenant="needle",
        error=build_error(traceback="needle", causes=()),
    )])  # fmt: skip
    assert await found(store, text="needle") == set()


@pytest.mark.parametrize("text", ["100%", "a_b", "a\\b", "it's", '"x"', "*", "[a]", "?", "50% \\_ off", "\\"])
async def test_a_text_is_taken_literally(store: DeadLetterStore, text: str) -> None:
    letter = build_letter(error=build_error(message=f"<< {text} >>"))
    decoy = build_letter(error=build_error(type="app.Error", message="1000 axb a/b its x 50 a off"))
    await store.add([letter, decoy])
    assert await found(store, text=text) == {letter.id}


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("Zürich überlastet", "zürich"),
        ("Zürich überlastet", "ZÜRICH ÜBER"),
        ("ОШИБКА ПЛАТЕЖА", "ошибка"),
        ("支払いエラー 🧾", "エラー 🧾"),
    ],
)
async def test_text_beyond_ascii_is_found_in_upper_or_lower_case(
    store: DeadLetterStore, message: str, text: str
) -> None:
    letter = build_letter(error=build_error(message=message))
    await store.add([letter, build_letter(error=build_error(message="zurich uberlastet"))])
    assert await found(store, text=text) == {letter.id}


async def test_an_empty_text_means_every_letter(store: DeadLetterStore) -> None:
    letter = build_letter()
    await store.add([letter])
    assert await found(store, text="") == {letter.id}


@pytest.mark.parametrize("value", ["'; DROP TABLE dead_letters; --", "x" * 100_000, "🗝️", "a\x00b"])
@pytest.mark.parametrize("name", ["event", "tenant", "tag", "text", "state"])
async def test_a_strange_value_finds_nothing_and_breaks_nothing(
    store: DeadLetterStore, name: str, value: str
) -> None:
    letter = build_letter()
    await store.add([letter])
    assert await found(store, **{name: value}) == set()
    assert await found(store) == {letter.id}


async def test_a_set_may_be_large(store: DeadLetterStore) -> None:
    letters = [build_letter(handler_id=f"handler.{number}") for number in range(3)]
    await store.add(letters)
    wanted = {f"handler.{number}" for number in range(1, 5000)}
    assert await found(store, handler=wanted) == {letters[1].id, letters[2].id}
