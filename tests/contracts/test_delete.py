"""``delete``: a letter that nobody runs can be removed."""

from __future__ import annotations

import pytest
from letters import NOW, build_letter, build_letter_in
from steps import claim_one, find_all, heartbeat, running, stored

from eventbus.ids import new_id
from eventbus_dlq.errors import DeadLetterNotFound, LeaseHeld
from eventbus_dlq.letter import DeadLetterState
from eventbus_dlq.store import DeadLetterStore, Settlement


async def test_a_letter_at_rest_can_be_deleted_in_every_state(store: DeadLetterStore) -> None:
    other = await stored(store, build_letter())
    for state in sorted(set(DeadLetterState) - {DeadLetterState.RUNNING}):
        letter = await stored(store, build_letter_in(state))
        await store.delete(letter.id)
        with pytest.raises(DeadLetterNotFound, match=letter.id):
            await store.get(letter.id)
    assert [item.id for item in await find_all(store)] == [other.id]


async def test_a_running_letter_stays(store: DeadLetterStore) -> None:
    letter = await stored(store, build_letter_in(DeadLetterState.RUNNING))
    with pytest.raises(LeaseHeld, match=letter.id):
        await store.delete(letter.id)
    assert await store.get(letter.id) == letter


async def test_an_unknown_id_is_not_found(store: DeadLetterStore) -> None:
    unknown = new_id()
    with pytest.raises(DeadLetterNotFound, match=unknown):
        await store.delete(unknown)


async def test_a_letter_is_deleted_once(store: DeadLetterStore) -> None:
    letter = await stored(store, build_letter())
    await store.delete(letter.id)
    with pytest.raises(DeadLetterNotFound, match=letter.id):
        await store.delete(letter.id)


async def test_after_a_delete_the_same_delivery_is_a_new_letter(store: DeadLetterStore) -> None:
    old = await stored(store, build_letter(attempts=4))
    await store.delete(old.id)
    new = build_letter(event_id=old.event_id)
    assert list(await store.add([new])) == [new.id]
    assert await store.get(new.id) == new


async def test_a_lease_of_a_deleted_letter_is_lost(store: DeadLetterStore) -> None:
    lease = await running(store, build_letter())
    await store.release([lease], now=NOW)
    await store.delete(lease.dead_letter_id)
    assert await heartbeat(store, [lease], now=NOW) == [lease]
    assert list(await store.settle([Settlement(lease=lease, state=DeadLetterState.RESOLVED)], now=NOW)) == [
        lease
    ]
    assert list(await store.release([lease], now=NOW)) == [lease]


async def test_the_others_can_still_be_claimed(store: DeadLetterStore) -> None:
    gone, stays = await stored(store, build_letter()), await stored(store, build_letter())
    await store.delete(gone.id)
    assert (await claim_one(store, stays.id)).letter.id == stays.id
