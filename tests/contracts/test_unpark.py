"""``unpark``: what no control closes any more comes back, and controls end at their time."""

from __future__ import annotations

from controlled import ACME, bring_back, claimable, close, configured, parked_delivery, states, version
from letters import NOW, after, build_delivery
from steps import claim_due

from eventbus.controls import Scope
from eventbus.errors import Paused
from eventbus_dlq.letter import DeadLetterState, Verb
from eventbus_dlq.store import DeadLetterStore


async def test_where_nothing_was_opened_there_is_nothing_to_do(store: DeadLetterStore) -> None:
    assert await store.unpark(limit=10, now=NOW) is False
    await close(store)
    letter = await parked_delivery(store)
    assert await store.unpark(limit=10, now=NOW) is False
    assert await store.get(letter.id) == letter


async def test_a_control_that_has_come_to_its_end_is_removed(store: DeadLetterStore) -> None:
    other = await close(store, Scope(tenant="globex"))
    await close(store, until=after(60))
    letter = await parked_delivery(store)
    before = await version(store)
    assert await store.unpark(limit=10, now=after(59.999999)) is False
    assert await version(store) == before
    assert await states(store, [letter]) == ["parked/paused"]
    await bring_back(store, now=after(60))
    assert await version(store) > before
    assert (await configured(store)).controls == (other,)
    assert await states(store, [letter]) == ["accepted"]


async def test_what_another_control_closes_stays_when_one_ends(store: DeadLetterStore) -> None:
    await close(store, until=after(60))
    await close(store, Scope(handler="billing.charge"))
    letter = await parked_delivery(store)
    await bring_back(store, now=after(60))
    assert await states(store, [letter]) == ["parked/paused"]
    assert await claimable(store, letter, now=after(60)) is False


async def test_a_drain_ends_at_its_time_too(store: DeadLetterStore) -> None:
    await close(store, state="draining", until=after(60))
    letter = await parked_delivery(store)
    await store.acknowledge("web-1", [], live_since=NOW, now=after(1))
    await bring_back(store, now=after(60))
    assert (await configured(store)).controls == ()
    assert await states(store, [letter]) == ["accepted"]


async def test_the_oldest_come_first_and_no_more_than_asked_for(store: DeadLetterStore) -> None:
    letters = [build_delivery(created_at=after(number - 60)) for number in range(7)]
    await store.accept(list(reversed(letters)))
    await close(store, until=after(60))
    assert list(await claim_due(store)) == []
    for done in (3, 6):
        assert await store.unpark(limit=3, now=after(60)) is True
        assert await states(store, letters) == ["accepted"] * done + ["parked/paused"] * (7 - done)
    await bring_back(store, limit=3, now=after(60))
    assert await states(store, letters) == ["accepted"] * 7


async def test_those_between_that_are_still_closed_hold_up_no_others(store: DeadLetterStore) -> None:
    tenants = ["acme", "globex"] * 4
    letters = [build_delivery(tenant=it, created_at=after(n - 60)) for n, it in enumerate(tenants)]
    await store.accept(letters)
    await close(store, ACME)
    await close(store, Scope(tenant="globex"), until=after(60))
    assert list(await claim_due(store)) == []
    await bring_back(store, limit=2, now=after(60))
    assert await states(store, letters) == ["parked/paused", "accepted"] * 4


async def test_a_scope_that_is_closed_again_keeps_what_is_still_parked(store: DeadLetterStore) -> None:
    letters = [build_delivery(created_at=after(number - 60)) for number in range(4)]
    await store.accept(letters)
    await close(store, until=after(60))
    assert list(await claim_due(store)) == []
    assert await store.unpark(limit=1, now=after(60)) is True
    await close(store, now=after(61))
    await bring_back(store, now=after(62))
    assert await states(store, letters) == ["accepted", *["parked/paused"] * 3]
    assert list(await claim_due(store, now=after(62))) == []
    await store.open_scopes([ACME], now=after(63))
    assert await states(store, letters) == ["accepted"] * 4


async def test_until_a_letter_has_come_back_a_claim_says_so(store: DeadLetterStore) -> None:
    await close(store, until=after(60))
    letter = await parked_delivery(store)
    (answer,) = await store.claim([letter.id], owner="worker-1", lease=30.0, now=after(60))
    assert isinstance(answer, Paused)
    assert answer.control is None
    assert letter.id in str(answer)
    assert "try again" in str(answer)
    await bring_back(store, now=after(60))
    assert await claimable(store, letter, now=after(60)) is True


async def test_what_a_person_has_closed_meanwhile_does_not_come_back(store: DeadLetterStore) -> None:
    await close(store, until=after(60))
    letters = [await parked_delivery(store) for _ in range(3)]
    await store.change(letters[0].id, Verb.RESOLVE, now=NOW, by="ann")
    await store.change(letters[1].id, Verb.DISCARD, now=NOW, by="ann")
    await store.delete(letters[2].id)
    await bring_back(store, now=after(60))
    assert await states(store, letters[:2]) == ["resolved", "discarded"]
    await store.change(letters[0].id, Verb.RESTORE, now=after(61))
    await bring_back(store, now=after(62))
    assert (await store.get(letters[0].id)).state is DeadLetterState.EXHAUSTED
