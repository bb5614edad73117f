"""What the memory store promises beyond the contract, which ``tests/contracts`` covers."""

from __future__ import annotations

import pytest
from letters import NOW, build_delivery, build_letter, build_letter_in
from steps import claim_due

from eventbus.ids import new_id
from eventbus_dlq.errors import DeadLetterNotFound, InvalidSession
from eventbus_dlq.letter import DeadLetterState
from eventbus_dlq.memory import MemoryStore
from eventbus_dlq.query import DeadLetterQuery
from eventbus_dlq.store import DeadLetterStore, SessionStore, Settlement, Spooled


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


@pytest.mark.repetitive
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


@pytest.mark.parametrize("verb", ["accept", "import_spool"])
async def test_an_id_that_another_delivery_has_is_refused_by_every_way_in(verb: str) -> None:
    store = MemoryStore()
    taken, new = build_letter(), build_delivery()
    thief = build_delivery(id=taken.id, handler_id="stock.reserve")
    await store.add([taken])
    writes = [Spooled("accept", new), Spooled("accept", thief)]
    taking_in = (
        store.accept([new, thief])
        if verb == "accept"
        else store.import_spool("spool-1", writes, start=0, end=9, now=NOW)
    )
    with pytest.raises(ValueError, match=rf"{taken.id}.*stock\.reserve.*is taken"):
        await taking_in
    assert (await store.stats(now=NOW)).total == 1
    assert await store.spool_position("spool-1") == 0


async def test_it_fulfils_both_protocols() -> None:
    store: DeadLetterStore = MemoryStore()
    sessions: SessionStore = MemoryStore()
    assert (store.judges_leases, sessions) == (False, sessions)


async def test_a_session_is_refused_with_the_way_out() -> None:
    store, session = MemoryStore(), "session of shop.db"
    with pytest.raises(InvalidSession, match=r"no database transaction.*session of shop\.db.*SqlStore"):
        await store.accept_in(session, [build_delivery()])
    with pytest.raises(InvalidSession, match=r"no database transaction.*session of shop\.db.*SqlStore"):
        store.accept_in_sync(session, [build_delivery()])
    assert (await store.stats(now=NOW)).total == 0


async def test_nobody_else_can_make_work_for_it() -> None:
    woken: list[int] = []
    store = MemoryStore()
    store.on_work(lambda: woken.append(1))
    await store.accept([build_delivery()])
    store.on_work(None)
    assert woken == []


async def test_what_runs_without_a_lease_is_nobodys_to_rescue() -> None:
    store = MemoryStore()
    await store.add([build_letter_in(DeadLetterState.RUNNING, lease_until=None)])
    assert list(await store.leased(now=NOW)) == []


async def test_a_long_sequence_is_worked_off() -> None:
    store = MemoryStore()
    deliveries = [build_delivery("order-1") for _ in range(3_000)]
    await store.accept(deliveries)
    order: list[str] = []
    while claims := await claim_due(store):
        order += [claim.letter.id for claim in claims]
        done = [
            Settlement(lease=claim.lease, state=DeadLetterState.RESOLVED, forget=True) for claim in claims
        ]
        assert list(await store.settle(done, now=NOW)) == []
    assert order == [it.id for it in deliveries]
    assert await store.blocked({"billing.charge"}) == frozenset()
