"""What the memory store promises beyond the contract, which ``tests/contracts`` covers."""

from __future__ import annotations

import pytest
from letters import NOW, build_letter

from eventbus.ids import new_id
from eventbus_dlq.errors import DeadLetterNotFound
from eventbus_dlq.memory import MemoryStore
from eventbus_dlq.query import DeadLetterQuery


@pytest.mark.parametrize("stored_before", [True, False], ids=["stored-before", "same-call"])
async def test_an_id_that_another_letter_has_is_refused_and_nothing_is_added(stored_before: bool) -> None:
    store = MemoryStore()
    taken, new = build_letter(), build_letter()
    thief = build_letter(id=taken.id, handler_id="stock.reserve")
    if stored_before:
        await store.add([taken])
    with pytest.raises(ValueError, match=rf"{taken.id}.*stock\.reserve.*is taken"):
        await store.add([new, thief] if stored_before else [new, taken, thief])
    with pytest.raises(DeadLetterNotFound):
        await store.get(new.id)
    assert (await store.stats(now=NOW)).total == stored_before


async def test_a_call_examines_a_thousand_letters_and_goes_on() -> None:
    store = MemoryStore()
    rare = build_letter(tags=("rare",))
    await store.add([rare, *(build_letter() for _ in range(1500))])
    first = await store.find(DeadLetterQuery(tag="rare"))
    assert first.items == ()
    assert first.next_cursor is not None
    second = await store.find(DeadLetterQuery(tag="rare"), cursor=first.next_cursor)
    assert [item.id for item in second.items] == [rare.id]
    assert second.next_cursor is None


async def test_an_order_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="order='random' must be 'newest' or 'oldest'"):
        await MemoryStore().find(DeadLetterQuery(), order="random")  # type: ignore[arg-type]  # the mistake


async def test_two_stores_know_nothing_of_each_other() -> None:
    first, second = MemoryStore(), MemoryStore()
    await first.add([build_letter()])
    assert (await second.stats(now=NOW)).total == 0


async def test_a_letter_is_found_among_many() -> None:
    store = MemoryStore()
    wanted = build_letter(id=new_id(), event_id="evt-needle")
    template = build_letter()
    await store.add([wanted])
    await store.add([build_letter(error=template.error, history=template.history) for _ in range(20_000)])
    assert (await store.get(wanted.id)).event_id == "evt-needle"
    assert list(await store.add([build_letter(event_id="evt-needle")])) == [wanted.id]
    await store.delete(wanted.id)
    assert (await store.stats(now=NOW)).total == 20_000
