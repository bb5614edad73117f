"""``spool_position`` and ``import_spool``: what waited in a file is written once."""

from __future__ import annotations

from typing import Literal

import anyio
import pytest
from letters import NOW, after, build_delivery, build_letter, build_letter_in
from steps import claim_due, find_all, running, stored

from eventbus_dlq.letter import CLOSED_STATES, DeadLetter, DeadLetterState
from eventbus_dlq.store import DeadLetterStore, Spooled

AT_REST_AND_OPEN = sorted(set(DeadLetterState) - CLOSED_STATES - {DeadLetterState.RUNNING})
SPOOL = "0195f0a0-spool"


def spooled(*letters: DeadLetter, verb: Literal["add", "accept"] | None = None) -> list[Spooled]:
    """Return the writes that deliveries and failures waited for."""
    own = [verb or ("add" if letter.error else "accept") for letter in letters]
    return [Spooled(it, letter) for it, letter in zip(own, letters, strict=True)]


async def import_all(store: DeadLetterStore, writes: list[Spooled], start: int = 0, end: int = 100) -> bool:
    """Import writes between two positions of the spool."""
    return await store.import_spool(SPOOL, writes, start=start, end=end, now=after(60))


async def test_a_spool_that_is_not_known_begins_at_its_start(store: DeadLetterStore) -> None:
    assert await store.spool_position(SPOOL) == 0


async def test_the_writes_are_carried_out_and_the_position_is_noted(store: DeadLetterStore) -> None:
    letter, delivery = build_letter(), build_delivery()
    assert await import_all(store, spooled(letter, delivery), end=2_048) is True
    assert await store.get(letter.id) == letter
    assert await store.get(delivery.id) == delivery
    assert await store.spool_position(SPOOL) == 2_048
    assert len(await claim_due(store, now=after(60))) == 2


async def test_the_next_import_goes_on_where_the_last_one_ended(store: DeadLetterStore) -> None:
    assert await import_all(store, spooled(build_letter()), 0, 100)
    assert await import_all(store, spooled(build_letter()), 100, 250)
    assert await store.spool_position(SPOOL) == 250
    assert len(await find_all(store)) == 2


@pytest.mark.parametrize("start", [0, 50, 99, 101])
async def test_what_somebody_else_has_imported_is_not_imported_again(
    store: DeadLetterStore, start: int
) -> None:
    await import_all(store, spooled(build_letter()), 0, 100)
    again = build_letter()
    assert await import_all(store, spooled(again), start, 300) is False
    assert await store.spool_position(SPOOL) == 100
    assert again.id not in {item.id for item in await find_all(store)}


async def test_a_spool_that_is_not_known_is_not_begun_in_the_middle(store: DeadLetterStore) -> None:
    assert await import_all(store, spooled(build_letter()), 10, 100) is False
    assert await store.spool_position(SPOOL) == 0
    assert await find_all(store) == []


async def test_spools_have_positions_of_their_own(store: DeadLetterStore) -> None:
    await import_all(store, spooled(build_letter()), 0, 100)
    assert await store.spool_position("another") == 0
    assert await store.import_spool("another", spooled(build_letter()), start=0, end=7, now=NOW)
    assert (await store.spool_position(SPOOL), await store.spool_position("another")) == (100, 7)


async def test_an_import_without_writes_moves_the_position(store: DeadLetterStore) -> None:
    assert await import_all(store, [], 0, 40)
    assert await store.spool_position(SPOOL) == 40


async def test_of_many_importers_at_a_time_one_imports(store: DeadLetterStore) -> None:
    known = await stored(store, build_letter(attempts=1))
    answers: list[bool] = []

    async def take(number: int) -> None:
        again = build_letter(event_id=known.event_id, attempts=1)
        answers.append(await import_all(store, spooled(again, build_delivery()), 0, 100 + number))

    async with anyio.create_task_group() as group:
        for number in range(6):
            group.start_soon(take, number)
    assert sorted(answers) == [False] * 5 + [True]
    assert (await store.get(known.id)).attempts == 2
    assert len(await find_all(store)) == 2


async def test_what_had_reached_the_store_after_all_stays_as_it_is(store: DeadLetterStore) -> None:
    """A commit that was reported as failed, and had happened."""
    letter, delivery = build_letter(), build_delivery()
    await store.add([letter])
    await store.accept([delivery])
    assert await import_all(store, spooled(letter, delivery))
    assert await store.get(letter.id) == letter
    assert await store.get(delivery.id) == delivery
    assert (await store.stats(now=NOW)).total == 2


async def test_what_ran_since_then_is_not_accepted_again(store: DeadLetterStore) -> None:
    delivery = build_delivery()
    lease = await running(store, delivery)
    assert await import_all(store, spooled(delivery))
    assert (await store.get(delivery.id)).token == lease.token
    assert list(await claim_due(store, now=after(86_400))) == []


@pytest.mark.parametrize("state", AT_REST_AND_OPEN)
async def test_a_further_failure_is_merged_into_an_open_row(
    store: DeadLetterStore, state: DeadLetterState
) -> None:
    known = await stored(store, build_letter_in(state, attempts=3))
    failure = build_letter(event_id=known.event_id, attempts=2, retry_at=after(90))
    assert await import_all(store, spooled(failure))
    kept = await store.get(known.id)
    assert (kept.state, kept.attempts, kept.retry_at) == (DeadLetterState.PENDING, 5, after(90))


@pytest.mark.parametrize("state", sorted(CLOSED_STATES))
@pytest.mark.parametrize("verb", ["add", "accept"])
async def test_a_closed_row_is_not_touched(
    store: DeadLetterStore, state: DeadLetterState, verb: Literal["add", "accept"]
) -> None:
    known = await stored(store, build_letter_in(state))
    later = build_letter(event_id=known.event_id)
    assert await import_all(store, spooled(later, verb=verb))
    assert await store.get(known.id) == known


@pytest.mark.parametrize("verb", ["add", "accept"])
async def test_a_running_row_is_not_touched(store: DeadLetterStore, verb: Literal["add", "accept"]) -> None:
    lease = await running(store, build_letter())
    known = await store.get(lease.dead_letter_id)
    assert await import_all(store, spooled(build_letter(event_id=known.event_id), verb=verb))
    assert await store.get(known.id) == known


async def test_the_writes_keep_their_order_in_a_sequence(store: DeadLetterStore) -> None:
    letters = [build_delivery("order-1"), build_letter(ordering_key="order-1"), build_delivery("order-1")]
    assert await import_all(store, spooled(*letters))
    kept = [await store.get(letter.id) for letter in letters]
    assert [(it.state, it.waits) for it in kept] == [
        (DeadLetterState.ACCEPTED, False),
        (DeadLetterState.PENDING, True),
        (DeadLetterState.PARKED, True),
    ]


async def test_a_delivery_and_its_failure_in_one_import_are_one_row(store: DeadLetterStore) -> None:
    delivery = build_delivery()
    failure = build_letter(event_id=delivery.event_id)
    assert await import_all(store, spooled(delivery, failure))
    (item,) = await find_all(store)
    assert (item.id, item.state, item.attempts) == (delivery.id, DeadLetterState.PENDING, 1)


async def test_many_writes_are_imported_at_once(store: DeadLetterStore) -> None:
    letters = [build_delivery() if number % 2 else build_letter() for number in range(1_000)]
    assert await import_all(store, spooled(*letters))
    assert {item.id for item in await find_all(store)} == {letter.id for letter in letters}
    assert (await store.stats(now=NOW)).by_state == {"accepted": 500, "pending": 500}
