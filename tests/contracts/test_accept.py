"""``accept``: deliveries that have not run yet, each of them once."""

from __future__ import annotations

from functools import partial

import anyio
import anyio.lowlevel
import pytest
from letters import NOW, after, build_delivery, build_letter, build_letter_in
from steps import claim_due, claim_one, find_all, running, stored

from eventbus_dlq.letter import DeadLetter, DeadLetterState
from eventbus_dlq.store import DeadLetterStore, Kept, Settlement

ACCEPTED, PARKED = DeadLetterState.ACCEPTED, DeadLetterState.PARKED


async def test_a_delivery_is_kept_as_it_came(store: DeadLetterStore) -> None:
    delivery = build_delivery()
    assert list(await store.accept([delivery])) == [Kept(delivery.id, ACCEPTED)]
    assert await store.get(delivery.id) == delivery


@pytest.mark.parametrize("ordering_key", [None, "order-1"])
async def test_tokens_go_on_from_the_one_it_comes_with(
    store: DeadLetterStore, ordering_key: str | None
) -> None:
    delivery = build_delivery(ordering_key, token=1 << 32)
    await store.accept([delivery])
    (claim,) = await claim_due(store)
    assert claim.lease.token == (1 << 32) + 1
    assert not await store.settle([Settlement(lease=claim.lease, state=DeadLetterState.RESOLVED)], now=NOW)


async def test_where_each_is_kept_is_said_in_order(store: DeadLetterStore) -> None:
    deliveries = [build_delivery(handler_id=f"handler.{number}") for number in range(20)]
    assert list(await store.accept(deliveries)) == [Kept(it.id, ACCEPTED) for it in deliveries]


async def test_accepting_nothing_is_fine(store: DeadLetterStore) -> None:
    assert list(await store.accept([])) == []


async def test_one_event_is_a_delivery_for_each_of_its_handlers(store: DeadLetterStore) -> None:
    first = build_delivery()
    second = build_delivery(event_id=first.event_id, handler_id="stock.reserve")
    await store.accept([first, second])
    assert {item.id for item in await find_all(store)} == {first.id, second.id}


async def test_it_is_listed_without_an_error(store: DeadLetterStore) -> None:
    await store.accept([build_delivery()])
    (item,) = await find_all(store)
    assert (item.state, item.attempts, item.fingerprint) == (ACCEPTED, 0, "")
    assert (item.error_type, item.error_message, item.kind, item.category, item.route) == ("",) * 5


async def test_accepting_again_changes_nothing(store: DeadLetterStore) -> None:
    deliveries = [build_delivery(), build_delivery("order-1")]
    first = await store.accept(deliveries)
    assert list(await store.accept(deliveries)) == list(first)
    assert [await store.get(it.id) for it in deliveries] == deliveries
    assert (await store.stats(now=NOW)).total == 2


async def test_another_delivery_of_a_known_event_and_handler_is_the_known_one(store: DeadLetterStore) -> None:
    known = build_delivery()
    await store.accept([known])
    again = build_delivery(
        event_id=known.event_id, payload_json=b'{"order_id":0}', tenant="globex", created_at=after(9)
    )
    assert list(await store.accept([again])) == [Kept(known.id, ACCEPTED)]
    assert [item.id for item in await find_all(store)] == [known.id]
    assert await store.get(known.id) == known


async def test_the_same_delivery_twice_in_one_call_is_kept_once(store: DeadLetterStore) -> None:
    first = build_delivery()
    again = build_delivery(event_id=first.event_id)
    assert list(await store.accept([first, again])) == [Kept(first.id, ACCEPTED)] * 2
    assert len(await find_all(store)) == 1


@pytest.mark.parametrize("state", sorted(DeadLetterState))
async def test_a_delivery_that_is_known_stays_in_its_state_which_is_the_answer(
    store: DeadLetterStore, state: DeadLetterState
) -> None:
    known = await stored(store, build_letter_in(state))
    (kept,) = await store.accept([build_delivery(event_id=known.event_id)])
    assert kept == Kept(known.id, state)
    assert await store.get(known.id) == known


async def test_a_delivery_that_is_running_is_not_accepted_anew(store: DeadLetterStore) -> None:
    delivery = build_delivery()
    await store.accept([delivery])
    claim = await claim_one(store, delivery.id)
    assert list(await store.accept([delivery])) == [Kept(delivery.id, DeadLetterState.RUNNING)]
    assert await store.get(delivery.id) == claim.letter


async def test_a_failure_of_a_delivery_that_is_accepted_is_merged_into_it(store: DeadLetterStore) -> None:
    delivery = build_delivery()
    await store.accept([delivery])
    failure = build_letter(event_id=delivery.event_id)
    assert list(await store.add([failure])) == [delivery.id]
    kept = await store.get(delivery.id)
    assert (kept.state, kept.error, kept.attempts) == (DeadLetterState.PENDING, failure.error, 1)
    assert (await store.stats(now=NOW)).by_kind == {"timeout": 1}


async def test_what_the_caller_does_to_its_mappings_afterwards_changes_nothing(
    store: DeadLetterStore,
) -> None:
    headers = {"a": "1"}
    delivery = build_delivery(headers=headers)
    await store.accept([delivery])
    headers["a"] = "2"
    assert (await store.get(delivery.id)).headers == {"a": "1"}


async def test_a_cancelled_caller_ends_the_wait_and_not_the_write(store: DeadLetterStore) -> None:
    delivery = build_delivery()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await store.accept([delivery])
    await store.accept([build_delivery()])
    assert await store.get(delivery.id) == delivery


async def test_callers_that_are_cancelled_while_they_wait_lose_nothing(store: DeadLetterStore) -> None:
    deliveries = [build_delivery() for _ in range(50)]
    begun: set[str] = set()

    async def accept(delivery: DeadLetter) -> None:
        begun.add(delivery.id)
        await store.accept([delivery])

    async with anyio.create_task_group() as group:
        for delivery in deliveries:
            group.start_soon(accept, delivery)
        await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    await store.accept([build_delivery()])
    assert begun
    assert begun <= {item.id for item in await find_all(store)}


async def test_callers_of_one_delivery_at_a_time_get_one_row(store: DeadLetterStore) -> None:
    first = build_delivery()
    answers: list[Kept] = []

    async def accept(delivery: DeadLetter) -> None:
        answers.extend(await store.accept([delivery]))

    async with anyio.create_task_group() as group:
        for number in range(50):
            group.start_soon(accept, build_delivery(event_id=first.event_id) if number else first)
    (item,) = await find_all(store)
    assert answers == [Kept(item.id, ACCEPTED)] * 50


async def test_many_callers_at_a_time_are_all_served(store: DeadLetterStore) -> None:
    deliveries = [build_delivery() for _ in range(200)]
    async with anyio.create_task_group() as group:
        for delivery in deliveries:
            group.start_soon(partial(store.accept, [delivery]))
    assert {item.id for item in await find_all(store)} == {it.id for it in deliveries}


async def test_accepting_beside_adding_loses_neither(store: DeadLetterStore) -> None:
    deliveries, letters = [build_delivery() for _ in range(50)], [build_letter() for _ in range(50)]
    async with anyio.create_task_group() as group:
        for delivery, letter in zip(deliveries, letters, strict=True):
            group.start_soon(partial(store.accept, [delivery]))
            group.start_soon(partial(store.add, [letter]))
    assert {item.id for item in await find_all(store)} == {it.id for it in (*deliveries, *letters)}
    assert (await store.stats(now=NOW)).by_state == {"accepted": 50, "pending": 50}


async def test_many_deliveries_are_accepted_in_one_call(store: DeadLetterStore) -> None:
    deliveries = [build_delivery(f"order-{number % 7}") for number in range(1_000)]
    answers = await store.accept(deliveries)
    assert [kept.id for kept in answers] == [it.id for it in deliveries]
    assert {kept.state for kept in answers} == {ACCEPTED}
    assert len(await claim_due(store, {"billing.charge": 1_000}, limit=1_000)) == 7


async def test_behind_a_failure_of_the_same_key_it_is_parked(store: DeadLetterStore) -> None:
    await store.add([build_letter(ordering_key="order-1")])
    delivery, other = build_delivery("order-1"), build_delivery("order-2")
    assert list(await store.accept([delivery, other])) == [
        Kept(delivery.id, PARKED),
        Kept(other.id, ACCEPTED),
    ]
    kept = await store.get(delivery.id)
    assert (kept.state, kept.reason, kept.waits) == (PARKED, "sequence", True)


async def test_one_that_was_parked_is_parked_still_when_it_is_accepted_again(store: DeadLetterStore) -> None:
    await store.add([build_letter(ordering_key="order-1")])
    delivery = build_delivery("order-1")
    await store.accept([delivery])
    assert list(await store.accept([delivery])) == [Kept(delivery.id, PARKED)]


async def test_one_that_was_resolved_is_not_run_again(store: DeadLetterStore) -> None:
    lease = await running(store, build_letter())
    await store.settle([Settlement(lease=lease, state=DeadLetterState.RESOLVED)], now=NOW)
    known = await store.get(lease.dead_letter_id)
    again = build_delivery(event_id=known.event_id)
    assert list(await store.accept([again])) == [Kept(known.id, DeadLetterState.RESOLVED)]
    assert list(await claim_due(store)) == []
