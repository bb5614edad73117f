"""``claim_due``: what is due, the most urgent first, and no more than is wanted."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import anyio
import pytest
from letters import NOW, after, build_delivery, build_letter, build_letter_in
from steps import claim_due, claim_one

from eventbus_dlq.letter import DeadLetterState, Verb
from eventbus_dlq.store import Claim, DeadLetterStore, Lease, Settlement

ACCEPTED, PENDING = DeadLetterState.ACCEPTED, DeadLetterState.PENDING


def ids(claims: object) -> list[str]:
    """Return the letters of claims, in their order."""
    assert isinstance(claims, (list, tuple))
    return [claim.letter.id for claim in claims]


async def test_a_delivery_is_claimed_for_its_first_run(store: DeadLetterStore) -> None:
    delivery = build_delivery()
    await store.accept([delivery])
    (claim,) = await claim_due(store, owner="worker-7", lease=12.5, now=after(100))
    assert claim.lease == Lease(dead_letter_id=delivery.id, token=1)
    assert claim.letter == replace(
        delivery,
        state=DeadLetterState.RUNNING,
        attempts=1,
        retries=0,
        token=1,
        lease_owner="worker-7",
        lease_until=after(112.5),
        updated_at=after(100),
    )
    assert await store.get(delivery.id) == claim.letter


async def test_a_failure_is_claimed_for_a_retry_when_its_time_has_come(store: DeadLetterStore) -> None:
    letter = build_letter(retry_at=after(60))
    await store.add([letter])
    assert list(await claim_due(store, now=after(59.999999))) == []
    (claim,) = await claim_due(store, now=after(60))
    assert (claim.letter.attempts, claim.letter.retries, claim.letter.retry_at) == (2, 1, after(60))


async def test_a_pending_letter_without_a_time_is_never_due(store: DeadLetterStore) -> None:
    await store.add([build_letter(retry_at=None)])
    assert list(await claim_due(store, now=after(86_400))) == []


@pytest.mark.parametrize("state", sorted(set(DeadLetterState) - {ACCEPTED, PENDING}))
async def test_no_other_state_is_ever_due(store: DeadLetterStore, state: DeadLetterState) -> None:
    await store.add([build_letter_in(state, retry_at=after(-5))])
    assert list(await claim_due(store, now=after(86_400))) == []


async def test_the_states_that_are_wanted_are_claimed_alone(store: DeadLetterStore) -> None:
    delivery, letter = build_delivery(), build_letter(retry_at=NOW)
    await store.accept([delivery])
    await store.add([letter])
    assert list(await claim_due(store, states=())) == []
    assert ids(await claim_due(store, states={PENDING})) == [letter.id]
    assert ids(await claim_due(store, states={ACCEPTED})) == [delivery.id]


async def test_of_each_handler_no_more_is_claimed_than_is_wanted(store: DeadLetterStore) -> None:
    handlers = ("billing.charge", "stock.reserve", "mail.send")
    await store.accept([build_delivery(handler_id=it) for it in handlers for _ in range(5)])
    claims = await claim_due(store, {"billing.charge": 3, "stock.reserve": 1, "mail.send": 0, "unknown": 9})
    assert Counter(it.letter.handler_id for it in claims) == {"billing.charge": 3, "stock.reserve": 1}


async def test_both_states_share_what_is_wanted_of_a_handler(store: DeadLetterStore) -> None:
    await store.accept([build_delivery() for _ in range(3)])
    await store.add([build_letter(retry_at=NOW) for _ in range(3)])
    assert len(await claim_due(store, {"billing.charge": 4})) == 4
    assert len(await claim_due(store, {"billing.charge": 4})) == 2


async def test_of_all_handlers_together_no_more_is_claimed_than_the_limit(store: DeadLetterStore) -> None:
    await store.accept([build_delivery(handler_id=it) for it in ("a", "b") for _ in range(5)])
    wanted = {"a": 9, "b": 9}
    assert [len(await claim_due(store, wanted, limit=4)) for _ in range(4)] == [4, 4, 2, 0]


async def test_of_nothing_wanted_nothing_is_claimed(store: DeadLetterStore) -> None:
    await store.accept([build_delivery()])
    assert list(await claim_due(store, {"other": 1})) == []
    none = await store.claim_due({}, states={ACCEPTED}, limit=10, owner="worker-1", lease=30.0, now=NOW)
    assert list(none) == []


async def test_the_most_urgent_come_first_whatever_their_state_and_handler(store: DeadLetterStore) -> None:
    await store.accept([build_delivery(priority=9), build_delivery(priority=1, handler_id="stock.reserve")])
    await store.add([build_letter(priority=it, retry_at=NOW) for it in (5, 2, 10)])
    claims = await claim_due(store, {"billing.charge": 9, "stock.reserve": 9})
    assert [it.letter.priority for it in claims] == [1, 2, 5, 9, 10]


async def test_what_is_urgent_takes_the_place_of_what_came_before_it(store: DeadLetterStore) -> None:
    await store.accept([build_delivery(priority=5) for _ in range(3)])
    urgent = build_delivery(priority=1, handler_id="stock.reserve", created_at=after(5))
    await store.accept([urgent])
    wanted = {"billing.charge": 9, "stock.reserve": 9}
    assert ids(await claim_due(store, wanted, limit=1, now=after(6))) == [urgent.id]


async def test_of_one_priority_what_came_first_goes_first(store: DeadLetterStore) -> None:
    deliveries = [build_delivery(created_at=after(number)) for number in range(6)]
    for delivery in deliveries:
        await store.accept([delivery])
    first = await claim_due(store, limit=4, now=after(9))
    rest = await claim_due(store, now=after(9))
    assert ids([*first, *rest]) == [it.id for it in deliveries]


async def test_of_one_priority_what_has_been_due_for_longest_goes_first(store: DeadLetterStore) -> None:
    letters = [build_letter(retry_at=after(seconds)) for seconds in (-1, -9, -5)]
    await store.add(letters)
    assert ids(await claim_due(store)) == [letters[1].id, letters[2].id, letters[0].id]


async def test_accepted_and_pending_are_one_order(store: DeadLetterStore) -> None:
    early, late = build_delivery(created_at=after(-60)), build_delivery(created_at=after(-10))
    between = build_letter(retry_at=after(-30))
    await store.add([between])
    await store.accept([early])
    await store.accept([late])
    assert ids(await claim_due(store)) == [early.id, between.id, late.id]


async def test_what_is_not_due_holds_nothing_up(store: DeadLetterStore) -> None:
    await store.add([build_letter(priority=1, retry_at=after(3_600)) for _ in range(300)])
    await store.add([build_letter_in(DeadLetterState.EXHAUSTED, priority=1) for _ in range(50)])
    due = build_letter(priority=10, retry_at=NOW)
    await store.add([due])
    assert ids(await claim_due(store, limit=1)) == [due.id]


async def test_a_letter_is_claimed_once(store: DeadLetterStore) -> None:
    await store.accept([build_delivery() for _ in range(5)])
    first, second = await claim_due(store, limit=3), await claim_due(store)
    assert len({*ids(first), *ids(second)}) == 5
    assert list(await claim_due(store, now=after(86_400))) == []


async def test_of_many_claimants_at_a_time_each_letter_goes_to_one(store: DeadLetterStore) -> None:
    deliveries = [build_delivery() for _ in range(60)]
    await store.accept(deliveries)
    claims: list[Claim] = []

    async def claim(owner: str) -> None:
        while got := await claim_due(store, limit=7, owner=owner):
            claims.extend(got)

    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(claim, f"worker-{number}")
    assert sorted(it.letter.id for it in claims) == sorted(it.id for it in deliveries)
    for claim in claims:
        assert (await store.get(claim.letter.id)).lease_owner == claim.letter.lease_owner


async def test_what_was_released_is_due_again(store: DeadLetterStore) -> None:
    await store.accept([build_delivery()])
    await store.add([build_letter(retry_at=NOW)])
    claims = await claim_due(store)
    await store.release([it.lease for it in claims], now=after(1))
    again = await claim_due(store, now=after(2))
    assert sorted(ids(again)) == sorted(ids(claims))
    assert {it.lease.token for it in again} == {2}


async def test_what_was_settled_to_a_later_time_is_due_then(store: DeadLetterStore) -> None:
    await store.accept([build_delivery()])
    (claim,) = await claim_due(store)
    await store.settle([Settlement(lease=claim.lease, state=PENDING, retry_at=after(60))], now=after(1))
    assert list(await claim_due(store, now=after(59))) == []
    assert len(await claim_due(store, now=after(60))) == 1


async def test_what_was_snoozed_is_due_at_that_time(store: DeadLetterStore) -> None:
    letter = build_letter(retry_at=NOW)
    await store.add([letter])
    await store.change(letter.id, Verb.SNOOZE, now=NOW, until=after(600))
    assert list(await claim_due(store, now=after(599))) == []
    assert ids(await claim_due(store, now=after(600))) == [letter.id]


async def test_a_letter_that_was_claimed_by_its_id_is_not_due_as_well(store: DeadLetterStore) -> None:
    letter = build_letter(retry_at=NOW)
    await store.add([letter])
    await claim_one(store, letter.id)
    assert list(await claim_due(store)) == []


async def test_many_handlers_are_served_in_one_call(store: DeadLetterStore) -> None:
    deliveries = [build_delivery(handler_id=f"handler.{number}") for number in range(300)]
    await store.accept(deliveries)
    claims = await claim_due(store, {it.handler_id: 1 for it in deliveries}, limit=1_000)
    assert sorted(ids(claims)) == sorted(it.id for it in deliveries)
