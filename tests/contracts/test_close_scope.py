"""``close_scope``: what is closed from then on, and what is not."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from controlled import ACME, EVERYTHING, claimable, close, configured, open_again
from letters import NOW, after, build_delivery
from steps import claim_due
from subjects import Subject
from test_open_close import over_durable_stores
from test_sequence_keys import KEYS

from eventbus.controls import Control, ControlState, Scope
from eventbus_dlq.control_store import Closing
from eventbus_dlq.letter import DeadLetter, DeadLetterState
from eventbus_dlq.store import DeadLetterStore

SCOPES = [Scope(*it) for it in product((None, "acme"), (None, "OrderPlaced"), (None, "billing.charge"))]
HANDLERS = ("billing.charge", "stock.reserve")
BOTH = dict.fromkeys(HANDLERS, 100)


def deliveries() -> list[DeadLetter]:
    """Return a delivery of each tenant, event and handler that there is."""
    return [
        build_delivery(tenant=tenant, event_name=event, handler_id=handler)
        for tenant, event, handler in product(
            ("acme", "globex", None), ("OrderPlaced", "OrderPaid"), HANDLERS
        )
    ]


def is_of(scope: Scope, letter: DeadLetter) -> bool:
    return scope.covers(letter.tenant, letter.event_name, letter.handler_id)


@pytest.mark.parametrize("state", ["paused", "draining"])
async def test_a_control_says_who_closed_what_and_why(store: DeadLetterStore, state: Closing) -> None:
    scope = Scope("acme", "OrderPlaced", "billing.charge")
    control = await close(
        store, scope, state, reason="refunds first", by="bob", until=after(60), now=after(1)
    )
    assert control == Control(
        scope=scope,
        state=ControlState(state),
        reason="refunds first",
        by="bob",
        since=after(1),
        until=after(60),
        drained_at=None,
        version=1,
    )
    assert (await configured(store)).controls == (control,)


@pytest.mark.parametrize("scope", SCOPES, ids=str)
async def test_exactly_what_is_in_the_scope_is_refused(store: DeadLetterStore, scope: Scope) -> None:
    letters = deliveries()
    await store.accept(letters)
    await close(store, scope)
    assert [await claimable(store, it) for it in letters] == [not is_of(scope, it) for it in letters]


@pytest.mark.parametrize("scope", SCOPES, ids=str)
async def test_exactly_what_is_in_the_scope_is_held_and_comes_back(
    store: DeadLetterStore, scope: Scope
) -> None:
    letters = deliveries()
    await store.accept(letters)
    await close(store, scope, "draining")
    claims = await claim_due(store, BOTH)
    assert {it.letter.id for it in claims} == {it.id for it in letters if not is_of(scope, it)}
    held = [await store.get(it.id) for it in letters if is_of(scope, it)]
    assert {(it.state, it.reason) for it in held} == {("parked", "draining")}
    await open_again(store, scope)
    assert {it.letter.id for it in await claim_due(store, BOTH)} == {it.id for it in held}


@pytest.mark.parametrize(
    "scope",
    [Scope(tenant="Acme"), Scope(tenant="acme "), Scope(tenant=""), Scope(event="orderplaced"),
     Scope(event=""), Scope(handler="billing.charg_"), Scope(handler="billing.%"), Scope(handler=""),
     Scope(tenant="None")],
    ids=repr,
)  # fmt: skip
async def test_names_are_compared_as_they_are(store: DeadLetterStore, scope: Scope) -> None:
    letters = [build_delivery(), build_delivery(tenant=None)]
    await store.accept(letters)
    await close(store, scope)
    assert [await claimable(store, it) for it in letters] == [True, True]
    assert [it.scope for it in (await configured(store)).controls] == [scope]


async def test_tenants_of_every_look_are_told_apart(store: DeadLetterStore) -> None:
    letters = [build_delivery(tenant=name) for name in KEYS]
    await store.accept(letters)
    for name in KEYS[::2]:
        await close(store, Scope(tenant=name))
    assert {it.letter.tenant for it in await claim_due(store)} == set(KEYS[1::2])
    assert {it.tenant for it in (await configured(store)).controls} == set(KEYS[::2])


async def test_an_empty_name_is_a_name(store: DeadLetterStore) -> None:
    await close(store, Scope(tenant=""))
    everything = await close(store, EVERYTHING, now=after(1))
    await close(store, Scope(event="", handler=""), now=after(2))
    assert len((await configured(store)).controls) == 3
    assert list(await store.open_scopes([EVERYTHING], now=NOW)) == [everything]
    letters = [build_delivery(tenant=""), build_delivery(tenant=None)]
    await store.accept(letters)
    assert [await claimable(store, it) for it in letters] == [False, True]


async def test_what_is_closed_already_takes_the_new_words_over(store: DeadLetterStore) -> None:
    first = await close(store, until=after(60))
    again = await close(store, reason="still down", by="bob", until=after(600), now=after(30))
    assert (again.reason, again.by, again.since, again.until) == (
        "still down", "bob", after(30), after(600),
    )  # fmt: skip
    assert again.version > first.version
    assert (await configured(store)).controls == (again,)
    forever = await close(store, now=after(31))
    assert forever.until is None
    assert (await configured(store)).controls == (forever,)


@pytest.mark.parametrize("then", ["paused", "draining"])
@pytest.mark.parametrize("first", ["paused", "draining", "drained"])
async def test_the_last_word_decides_how_it_is_closed(
    store: DeadLetterStore, first: str, then: Closing
) -> None:
    control = await close(store, state="paused" if first == "paused" else "draining")
    if first == "drained":
        (control,) = await store.acknowledge("web-1", [], live_since=NOW, now=after(1))
        assert (control.state, control.drained_at) == ("drained", after(1))
    again = await close(store, state=then, now=after(2))
    assert (again.state, again.drained_at) == (then, None)
    assert again.version > control.version
    assert (await configured(store)).controls == (again,)


async def test_controls_are_told_by_the_time_since_when(store: DeadLetterStore) -> None:
    scopes = [Scope(tenant=name) for name in ("globex", "acme", "initech")]
    for number, scope in enumerate(scopes):
        await close(store, scope, now=after(number))
    assert [it.scope for it in (await configured(store)).controls] == scopes
    await close(store, scopes[0], now=after(10))
    assert [it.scope for it in (await configured(store)).controls] == [*scopes[1:], scopes[0]]


async def test_a_control_ends_at_its_until(store: DeadLetterStore) -> None:
    early, late = build_delivery(), build_delivery()
    await store.accept([early, late])
    await close(store, until=after(60))
    assert await claimable(store, early, now=after(59.999999)) is False
    assert await claimable(store, early, now=after(60)) is True
    assert [it.letter.id for it in await claim_due(store, now=after(60))] == [late.id]


async def test_a_scope_is_closed_again_after_its_until(store: DeadLetterStore) -> None:
    letter = build_delivery()
    await store.accept([letter])
    await close(store, until=after(60))
    again = await close(store, until=after(180), now=after(120))
    assert await claimable(store, letter, now=after(121)) is False
    assert (await configured(store)).controls == (again,)


async def test_any_of_several_controls_closes(store: DeadLetterStore) -> None:
    both, tenant, handler = (
        build_delivery(handler_id="stock.reserve"),
        build_delivery(),
        build_delivery(tenant="globex", handler_id="stock.reserve"),
    )
    await store.accept([both, tenant, handler])
    await close(store, ACME)
    await close(store, Scope(handler="stock.reserve"), "draining")
    assert [await claimable(store, it) for it in (both, tenant, handler)] == [False, False, False]
    assert list(await claim_due(store, BOTH)) == []


async def test_many_scopes_are_told_apart(store: DeadLetterStore) -> None:
    letters = [build_delivery(tenant=f"tenant-{number}") for number in range(60)]
    await store.accept(letters)
    for letter in letters[::2]:
        await close(store, Scope(tenant=letter.tenant))
    claims = await claim_due(store)
    assert {it.letter.id for it in claims} == {it.id for it in letters[1::2]}


async def test_what_is_closed_stays_so_while_the_store_is_closed(store: DeadLetterStore) -> None:
    control = await close(store)
    await store.close()
    await store.open()
    letter = build_delivery()
    await store.accept([letter])
    assert await claimable(store, letter) is False
    assert (await configured(store)).controls == (control,)


@over_durable_stores
async def test_what_is_closed_stays_so_when_a_store_is_opened_again(subject: Subject, tmp_path: Path) -> None:
    first, second = subject.make(tmp_path), subject.make(tmp_path)
    letter, other = build_delivery(), build_delivery(tenant="globex")
    await first.open()
    await first.accept([letter, other])
    await close(first)
    await first.close()

    await second.open()
    try:
        assert [it.letter.id for it in await claim_due(second)] == [other.id]
        assert (await second.get(letter.id)).state is DeadLetterState.PARKED
        assert await claimable(second, letter) is False
        await open_again(second)
        assert [it.letter.id for it in await claim_due(second)] == [letter.id]
    finally:
        await second.close()


@over_durable_stores
async def test_another_process_obeys_from_that_moment(subject: Subject, tmp_path: Path) -> None:
    first, second = subject.make(tmp_path), subject.make(tmp_path)
    await first.open()
    await second.open()
    try:
        letters = [build_delivery() for _ in range(3)]
        await first.accept(letters)
        assert await claimable(second, letters[0]) is True
        await close(first)
        assert await claimable(second, letters[1]) is False
        assert list(await claim_due(second)) == []
        await open_again(first)
        assert len(await claim_due(second)) == 2
    finally:
        await first.close()
        await second.close()
