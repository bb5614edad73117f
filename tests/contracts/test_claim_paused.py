"""``claim`` of what is closed: refused, with who closed it and why."""

from __future__ import annotations

import pytest
from controlled import ACME, EVERYTHING, close, parked_delivery
from in_sequence import KEY
from letters import NOW, after, build_delivery, build_letter, build_letter_in
from steps import running, stored

from eventbus.controls import Scope
from eventbus.errors import Paused
from eventbus.ids import new_id
from eventbus_dlq.control_store import Closing
from eventbus_dlq.errors import DeadLetterNotFound, InvalidTransition, LeaseHeld
from eventbus_dlq.letter import CLAIMABLE_STATES, CLOSED_STATES, DeadLetterState
from eventbus_dlq.store import Claim, DeadLetterStore


async def refused(store: DeadLetterStore, dead_letter_id: str) -> Paused:
    """Claim a letter; return why it was refused."""
    (answer,) = await store.claim([dead_letter_id], owner="worker-1", lease=30.0, now=NOW)
    assert isinstance(answer, Paused), answer
    return answer


@pytest.mark.parametrize("kind", ["paused", "draining"])
@pytest.mark.parametrize("state", sorted(CLAIMABLE_STATES))
async def test_a_letter_of_a_closed_scope_is_refused_and_stays_as_it_is(
    store: DeadLetterStore, state: DeadLetterState, kind: Closing
) -> None:
    letter = await stored(store, build_letter_in(state))
    control = await close(store, state=kind)
    assert (await refused(store, letter.id)).control == control
    assert await store.get(letter.id) == letter


async def test_a_refusal_says_who_and_why_since_when_and_until_when_and_the_way_out(
    store: DeadLetterStore,
) -> None:
    letter = await stored(store, build_letter())
    scope = Scope(tenant="acme", handler="billing.charge")
    await close(store, scope, reason="their bank is down", by="ann", until=after(3600), now=after(-60))
    text = str(await refused(store, letter.id))
    for said in (
        letter.id, "tenant=acme handler=billing.charge is paused", "their bank is down", "by ann",
        f"since {after(-60).isoformat()}", f"until {after(3600).isoformat()}",
        "bus.resume(tenant='acme', handler='billing.charge')",
    ):  # fmt: skip
        assert said in text


async def test_a_refusal_by_a_control_of_everything_names_its_way_out(store: DeadLetterStore) -> None:
    letter = await stored(store, build_letter())
    await close(store, EVERYTHING, "draining")
    text = str(await refused(store, letter.id))
    assert "everything is draining since" in text
    assert "bus.resume()" in text
    assert "until" not in text


async def test_what_is_drained_refuses_too(store: DeadLetterStore) -> None:
    letter = await stored(store, build_letter())
    await close(store, state="draining")
    (drained,) = await store.acknowledge("web-1", [], live_since=NOW, now=after(1))
    answer = await refused(store, letter.id)
    assert answer.control == drained
    assert "tenant=acme is drained" in str(answer)


async def test_what_a_control_has_parked_is_refused_by_it(store: DeadLetterStore) -> None:
    control = await close(store)
    letter = await parked_delivery(store)
    assert (await refused(store, letter.id)).control == control
    assert await store.get(letter.id) == letter


async def test_one_of_the_controls_that_close_it_is_named(store: DeadLetterStore) -> None:
    letter = await stored(store, build_letter())
    controls = [
        await close(store, ACME),
        await close(store, Scope(handler="billing.charge")),
        await close(store, Scope(event="OrderPaid")),
    ]
    assert (await refused(store, letter.id)).control in controls[:2]


async def test_a_letter_that_could_not_be_claimed_anyway_says_that(store: DeadLetterStore) -> None:
    lease = await running(store, build_letter())
    closed = [await stored(store, build_letter_in(state)) for state in sorted(CLOSED_STATES)]
    first, follower = build_delivery(KEY), build_delivery(KEY)
    await store.accept([first, follower])
    await close(store)
    asked = [new_id(), lease.dead_letter_id, *(it.id for it in closed), follower.id]
    answers = await store.claim(asked, owner="worker-2", lease=30.0, now=NOW)
    assert [type(it) for it in answers] == [DeadLetterNotFound, LeaseHeld, *[InvalidTransition] * 4]


async def test_in_one_call_what_is_open_is_claimed_and_the_rest_refused(store: DeadLetterStore) -> None:
    letters = [build_letter(tenant=tenant) for tenant in ("acme", "globex", None, "acme")]
    await store.add(letters)
    await close(store)
    answers = await store.claim([it.id for it in letters], owner="worker-1", lease=30.0, now=NOW)
    assert [type(it) for it in answers] == [Paused, Claim, Claim, Paused]
