"""Announcements: each letter that becomes exhausted is told of, at least once, by its move."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path

import anyio
import pytest
from controlled import ACME, close, open_again, parked_delivery
from letters import NOW, after, build_delivery, build_error, build_letter, build_letter_in
from steps import claim_one, rescue, running, stored
from subjects import Subject
from test_open_close import over_durable_stores

from eventbus.ids import new_id
from eventbus_dlq.control_store import Announcement
from eventbus_dlq.letter import DeadLetter, DeadLetterState, Reason, Verb
from eventbus_dlq.store import Claim, DeadLetterStore, Settlement, Spooled

EXHAUSTED, PENDING = DeadLetterState.EXHAUSTED, DeadLetterState.PENDING
LONG_AGO = after(-7_200)
Exhaust = Callable[[DeadLetterStore], Awaitable[DeadLetter]]


async def told(
    store: DeadLetterStore, *, limit: int = 100, owner: str = "web-1", now: datetime = NOW
) -> list[Announcement]:
    """Take announcements, for ten seconds."""
    return list(await store.claim_announcements(limit=limit, owner=owner, lease=10.0, now=now))


async def by_an_addition(store: DeadLetterStore) -> DeadLetter:
    return await stored(store, build_letter_in(EXHAUSTED, reason=Reason.PERMANENT, updated_at=after(5)))


async def by_a_further_failure(store: DeadLetterStore) -> DeadLetter:
    letter = await stored(store, build_letter())
    further = build_letter_in(
        EXHAUSTED, event_id=letter.event_id, reason=Reason.PERMANENT, updated_at=after(5)
    )
    await store.add([further])
    return await store.get(letter.id)


async def by_a_spool(store: DeadLetterStore) -> DeadLetter:
    letter = build_letter_in(EXHAUSTED, reason=Reason.PERMANENT, updated_at=after(5))
    assert await store.import_spool("spool-1", [Spooled("add", letter)], start=0, end=9, now=after(5))
    return await store.get(letter.id)


async def by_a_settlement(store: DeadLetterStore) -> DeadLetter:
    lease = await running(store, build_letter())
    settlement = Settlement(lease=lease, state=EXHAUSTED, reason=Reason.PERMANENT, error=build_error())
    assert list(await store.settle([settlement], now=after(5))) == []
    return await store.get(lease.dead_letter_id)


async def by_a_rescue(store: DeadLetterStore) -> DeadLetter:
    letter = await stored(store, build_letter(crashes=2))
    await claim_one(store, letter.id, now=after(-60))
    return await rescue(store, letter.id, now=after(5))


async def by_having_no_handler(store: DeadLetterStore) -> DeadLetter:
    delivery = build_delivery(created_at=LONG_AGO)
    await store.accept([delivery])
    assert list(await store.exhaust_unhandled(since=after(-3_600), now=after(5))) == [delivery.id]
    return await store.get(delivery.id)


WAYS = [
    by_an_addition,
    by_a_further_failure,
    by_a_spool,
    by_a_settlement,
    by_a_rescue,
    by_having_no_handler,
]
over_all_ways = pytest.mark.parametrize("exhaust", WAYS, ids=lambda way: way.__name__)


@over_all_ways
async def test_whoever_becomes_exhausted_is_announced(store: DeadLetterStore, exhaust: Exhaust) -> None:
    letter = await exhaust(store)
    (announcement,) = await told(store)
    assert announcement == Announcement(
        key=announcement.key,
        dead_letter_id=letter.id,
        event_id=letter.event_id,
        event_name="OrderPlaced",
        handler_id="billing.charge",
        tenant="acme",
        reason=letter.reason,
        at=after(5),
    )
    assert (letter.state, announcement.reason is None) == (EXHAUSTED, False)


@over_all_ways
async def test_it_is_told_until_it_is_confirmed(store: DeadLetterStore, exhaust: Exhaust) -> None:
    await exhaust(store)
    (first,) = await told(store, owner="web-1")
    assert await told(store, owner="web-2", now=after(9.5)) == []
    assert await told(store, owner="web-2", now=after(10.5)) == [first]
    await store.confirm_announcements([first.key])
    assert await told(store, owner="web-3", now=after(3_600)) == []


async def test_one_that_nobody_is_of_has_no_tenant(store: DeadLetterStore) -> None:
    await store.add([build_letter_in(EXHAUSTED, tenant=None, reason=None)])
    (announcement,) = await told(store)
    assert (announcement.tenant, announcement.reason) == (None, None)


async def test_what_becomes_anything_else_is_not_announced(store: DeadLetterStore) -> None:
    await store.add([build_letter_in(state) for state in DeadLetterState if state is not EXHAUSTED])
    lease = await running(store, build_letter())
    await store.settle([Settlement(lease=lease, state=PENDING, retry_at=after(60))], now=NOW)
    lease = await running(store, build_letter())
    await store.settle([Settlement(lease=lease, state=DeadLetterState.RESOLVED)], now=NOW)
    letter = await stored(store, build_letter())
    await claim_one(store, letter.id, now=after(-60))
    await rescue(store, letter.id, now=NOW)
    await close(store)
    await parked_delivery(store)
    await open_again(store)
    assert await told(store) == []


async def test_a_person_who_restores_a_letter_knows_it(store: DeadLetterStore) -> None:
    letter = await stored(store, build_letter())
    await store.change(letter.id, Verb.DISCARD, now=NOW)
    assert (await store.change(letter.id, Verb.RESTORE, now=NOW)).state is EXHAUSTED
    assert await told(store) == []


async def test_a_release_does_not_make_it_exhausted_again(store: DeadLetterStore) -> None:
    letter = await by_an_addition(store)
    await store.confirm_announcements([it.key for it in await told(store)])
    claim = await claim_one(store, letter.id)
    await store.release([claim.lease], now=NOW)
    assert (await store.get(letter.id)).state is EXHAUSTED
    assert await told(store) == []


async def test_a_rescue_of_what_was_exhausted_before_does_not_either(store: DeadLetterStore) -> None:
    letter = await by_an_addition(store)
    await store.confirm_announcements([it.key for it in await told(store)])
    await claim_one(store, letter.id, now=after(-60))
    assert (await rescue(store, letter.id, now=NOW)).state is EXHAUSTED
    assert await told(store) == []


async def test_an_addition_that_is_repeated_is_announced_once(store: DeadLetterStore) -> None:
    letter = build_letter_in(EXHAUSTED)
    for _ in range(3):
        await store.add([letter])
    assert [it.dead_letter_id for it in await told(store)] == [letter.id]


async def test_a_further_failure_of_what_is_exhausted_is_no_news(store: DeadLetterStore) -> None:
    letter = await by_an_addition(store)
    await store.add([build_letter_in(EXHAUSTED, event_id=letter.event_id)])
    assert [it.dead_letter_id for it in await told(store)] == [letter.id]


async def test_what_was_closed_and_fails_again_is_announced_again(store: DeadLetterStore) -> None:
    letter = await by_an_addition(store)
    await store.change(letter.id, Verb.RESOLVE, now=NOW)
    await store.add([build_letter_in(EXHAUSTED, event_id=letter.event_id)])
    assert [it.dead_letter_id for it in await told(store)] == [letter.id] * 2


async def test_a_batch_of_settlements_announces_each_that_is_exhausted(store: DeadLetterStore) -> None:
    letters = [build_letter() for _ in range(120)]
    await store.add(letters)
    claims = await store.claim([it.id for it in letters], owner="worker-1", lease=30.0, now=NOW)
    leases = [it.lease for it in claims if isinstance(it, Claim)]
    settlements = [
        Settlement(lease=lease, state=EXHAUSTED if number % 3 else DeadLetterState.RESOLVED, reason=None)
        for number, lease in enumerate(leases)
    ]
    assert list(await store.settle(settlements, now=NOW)) == []
    assert {it.dead_letter_id for it in await told(store, limit=200)} == {
        lease.dead_letter_id for number, lease in enumerate(leases) if number % 3
    }


async def test_a_spool_that_somebody_else_has_imported_announces_nothing(store: DeadLetterStore) -> None:
    await by_a_spool(store)
    write = Spooled("add", build_letter_in(EXHAUSTED))
    assert not await store.import_spool("spool-1", [write], start=0, end=9, now=NOW)
    assert len(await told(store)) == 1


async def test_each_time_it_becomes_so_has_a_key_of_its_own(store: DeadLetterStore) -> None:
    letter = await by_an_addition(store)
    for _ in range(2):
        claim = await claim_one(store, letter.id)
        await store.settle([Settlement(lease=claim.lease, state=EXHAUSTED, reason=Reason.ATTEMPTS)], now=NOW)
    await store.change(letter.id, Verb.SNOOZE, now=NOW, until=after(60))
    await store.add([build_letter_in(EXHAUSTED, event_id=letter.event_id, attempts=0, history=())])
    announcements = await told(store)
    assert [it.dead_letter_id for it in announcements] == [letter.id] * 4
    assert len({it.key for it in announcements}) == 4


async def test_a_former_owner_announces_nothing(store: DeadLetterStore) -> None:
    letter = await stored(store, build_letter())
    claim = await claim_one(store, letter.id, now=after(-60))
    await rescue(store, letter.id, now=NOW)
    settlement = Settlement(lease=claim.lease, state=EXHAUSTED, reason=Reason.PERMANENT)
    assert list(await store.settle([settlement], now=NOW)) == [claim.lease]
    assert await told(store) == []


async def test_a_refused_addition_announces_nothing(store: DeadLetterStore) -> None:
    taken = await stored(store, build_letter())
    with pytest.raises(ValueError, match=taken.id):
        await store.add([build_letter_in(EXHAUSTED), build_letter_in(EXHAUSTED, id=taken.id)])
    assert await told(store) == []


@pytest.mark.parametrize("verb", [Verb.RESOLVE, Verb.DELETE])
async def test_what_becomes_of_the_letter_later_does_not_matter(store: DeadLetterStore, verb: Verb) -> None:
    letter = await by_a_settlement(store)
    if verb is Verb.DELETE:
        await store.delete(letter.id)
    else:
        await store.change(letter.id, verb, now=NOW)
    assert [it.dead_letter_id for it in await told(store)] == [letter.id]


async def test_the_oldest_are_told_first_and_no_more_than_asked_for(store: DeadLetterStore) -> None:
    letters = [build_letter_in(EXHAUSTED, updated_at=after(number)) for number in range(5)]
    for letter in letters:
        await store.add([letter])
    batches: Sequence[Sequence[Announcement]] = []
    for _ in range(3):
        batch = await told(store, limit=2)
        await store.confirm_announcements([it.key for it in batch])
        batches = [*batches, batch]
    assert [[it.dead_letter_id for it in batch] for batch in batches] == [
        [letters[0].id, letters[1].id],
        [letters[2].id, letters[3].id],
        [letters[4].id],
    ]


async def test_each_is_told_by_one_at_a_time(store: DeadLetterStore) -> None:
    await store.add([build_letter_in(EXHAUSTED) for _ in range(30)])
    taken: list[Announcement] = []

    async def tell(owner: str) -> None:
        taken.extend(await told(store, limit=5, owner=owner))

    async with anyio.create_task_group() as group:
        for number in range(6):
            group.start_soon(tell, f"web-{number}")
    assert len(taken) == len({it.key for it in taken}) == 30


async def test_many_are_announced_by_one_call(store: DeadLetterStore) -> None:
    letters = [build_letter_in(EXHAUSTED) for _ in range(1_200)]
    await store.add(letters)
    announcements = await told(store, limit=2_000)
    assert {it.dead_letter_id for it in announcements} == {it.id for it in letters}
    await store.confirm_announcements([it.key for it in announcements])
    assert await told(store, now=after(60)) == []


async def test_confirming_what_is_not_there_is_harmless(store: DeadLetterStore) -> None:
    await by_an_addition(store)
    (announcement,) = await told(store)
    await store.confirm_announcements([])
    await store.confirm_announcements([new_id(), "", "nonsense"])
    assert await told(store, owner="web-2", now=after(11)) == [announcement]
    for _ in range(2):
        await store.confirm_announcements([announcement.key, new_id()])
    assert await told(store, now=after(60)) == []


async def test_where_there_is_nothing_to_tell_nothing_is_taken(store: DeadLetterStore) -> None:
    assert await told(store) == []


async def test_a_control_holds_back_no_announcement(store: DeadLetterStore) -> None:
    await close(store, ACME)
    await by_an_addition(store)
    assert len(await told(store)) == 1


@over_durable_stores
async def test_what_was_not_told_outlives_a_durable_store(subject: Subject, tmp_path: Path) -> None:
    first, second = subject.make(tmp_path), subject.make(tmp_path)
    await first.open()
    letters = [await by_an_addition(first), await by_a_settlement(first)]
    (announcement,) = await told(first, limit=1)
    await first.close()

    await second.open()
    try:
        assert [it.dead_letter_id for it in await told(second, owner="web-2")] == [letters[1].id]
        assert announcement in await told(second, owner="web-2", now=after(10.5))
    finally:
        await second.close()
