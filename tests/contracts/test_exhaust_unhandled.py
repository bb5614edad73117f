"""``exhaust_unhandled``: what nobody has had a handler for is given up, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from letters import NOW, after, build_delivery, build_letter, build_letter_in, build_process
from steps import claim_due, claim_one, find_all

from eventbus_dlq.letter import DeadLetterState, Reason, Verb
from eventbus_dlq.store import DeadLetterStore

SINCE = after(-3_600)
LONG_AGO = after(-7_200)


async def test_a_delivery_without_a_handler_anywhere_is_exhausted(store: DeadLetterStore) -> None:
    delivery = build_delivery(created_at=LONG_AGO)
    await store.accept([delivery])
    assert list(await store.exhaust_unhandled(since=SINCE, now=NOW)) == [delivery.id]
    assert await store.get(delivery.id) == replace(
        delivery, state=DeadLetterState.EXHAUSTED, reason=Reason.UNHANDLED, updated_at=NOW
    )
    assert (await store.stats(now=NOW)).by_state == {"exhausted": 1}
    assert list(await store.exhaust_unhandled(since=SINCE, now=NOW)) == []


async def test_one_whose_handler_is_announced_waits_for_it(store: DeadLetterStore) -> None:
    await store.announce(build_process(handlers=("billing.charge",), beat_at=SINCE))
    await store.accept([build_delivery(created_at=LONG_AGO)])
    assert list(await store.exhaust_unhandled(since=SINCE, now=NOW)) == []
    assert len(await claim_due(store)) == 1


async def test_one_whose_handler_was_announced_long_ago_does_not(store: DeadLetterStore) -> None:
    await store.announce(build_process(handlers=("billing.charge",), beat_at=after(-3_600.000001)))
    delivery = build_delivery(created_at=LONG_AGO)
    await store.accept([delivery])
    assert list(await store.exhaust_unhandled(since=SINCE, now=NOW)) == [delivery.id]


async def test_what_a_process_announced_stays_known_when_it_has_withdrawn(store: DeadLetterStore) -> None:
    process = build_process(handlers=("billing.charge",), beat_at=after(-60))
    await store.announce(process)
    await store.withdraw(process.id)
    await store.accept([build_delivery(created_at=LONG_AGO)])
    assert list(await store.exhaust_unhandled(since=SINCE, now=NOW)) == []


async def test_an_older_announcement_does_not_undo_a_younger_one(store: DeadLetterStore) -> None:
    await store.announce(build_process(handlers=("billing.charge",), beat_at=after(-60)))
    await store.announce(build_process(handlers=("billing.charge",), beat_at=LONG_AGO))
    await store.accept([build_delivery(created_at=LONG_AGO)])
    assert list(await store.exhaust_unhandled(since=SINCE, now=NOW)) == []


async def test_a_handler_that_a_process_no_longer_names_was_announced_all_the_same(
    store: DeadLetterStore,
) -> None:
    process = build_process(handlers=("billing.charge",), beat_at=after(-60))
    await store.announce(process)
    await store.announce(replace(process, handlers=("mail.send",), beat_at=NOW))
    await store.accept([build_delivery(created_at=LONG_AGO)])
    assert list(await store.exhaust_unhandled(since=SINCE, now=NOW)) == []


async def test_one_that_was_stored_since_then_has_time(store: DeadLetterStore) -> None:
    await store.accept([build_delivery(created_at=SINCE), build_delivery(created_at=NOW)])
    assert list(await store.exhaust_unhandled(since=SINCE, now=NOW)) == []


@pytest.mark.parametrize("state", sorted(set(DeadLetterState) - {DeadLetterState.ACCEPTED}))
async def test_other_states_are_left_alone(store: DeadLetterStore, state: DeadLetterState) -> None:
    letter = build_letter_in(state, created_at=LONG_AGO)
    await store.add([letter])
    assert list(await store.exhaust_unhandled(since=SINCE, now=NOW)) == []
    assert await store.get(letter.id) == letter


async def test_one_that_runs_is_left_alone(store: DeadLetterStore) -> None:
    delivery = build_delivery(created_at=LONG_AGO)
    await store.accept([delivery])
    claim = await claim_one(store, delivery.id)
    assert list(await store.exhaust_unhandled(since=SINCE, now=NOW)) == []
    assert await store.get(delivery.id) == claim.letter


async def test_of_a_sequence_the_head_is_given_up_and_holds_back_the_others(store: DeadLetterStore) -> None:
    head, follower = (build_delivery("order-1", created_at=LONG_AGO) for _ in range(2))
    await store.accept([head, follower])
    assert list(await store.exhaust_unhandled(since=SINCE, now=NOW)) == [head.id]
    kept = await store.get(follower.id)
    assert (kept.state, kept.reason, kept.waits) == (DeadLetterState.PARKED, Reason.SEQUENCE, True)
    await store.change(head.id, Verb.DISCARD, now=NOW)
    assert list(await store.exhaust_unhandled(since=SINCE, now=NOW)) == [follower.id]


async def test_of_several_handlers_only_the_unknown_ones_lose_theirs(store: DeadLetterStore) -> None:
    await store.announce(build_process(handlers=("billing.charge",)))
    known = build_delivery(created_at=LONG_AGO)
    unknown = [build_delivery(created_at=LONG_AGO, handler_id=it) for it in ("mail.send", "billing", "")]
    await store.accept([known, *unknown])
    assert sorted(await store.exhaust_unhandled(since=SINCE, now=NOW)) == sorted(it.id for it in unknown)
    assert (await store.get(known.id)).state is DeadLetterState.ACCEPTED


async def test_it_takes_a_thousand_at_a_time(store: DeadLetterStore) -> None:
    await store.accept([build_delivery(created_at=LONG_AGO) for _ in range(1_001)])
    first = await store.exhaust_unhandled(since=SINCE, now=NOW)
    second = await store.exhaust_unhandled(since=SINCE, now=NOW)
    assert (len(first), len(second), len({*first, *second})) == (1_000, 1, 1_001)
    assert {item.state for item in await find_all(store)} == {"exhausted"}


async def test_it_can_be_run_when_somebody_has_the_handler_again(store: DeadLetterStore) -> None:
    delivery = build_delivery(created_at=LONG_AGO)
    await store.accept([delivery])
    await store.exhaust_unhandled(since=SINCE, now=NOW)
    assert (await claim_one(store, delivery.id)).letter.attempts == 1


async def test_a_failure_of_nobody_keeps_its_error(store: DeadLetterStore) -> None:
    letter = build_letter(created_at=LONG_AGO, retry_at=LONG_AGO)
    await store.add([letter])
    assert list(await store.exhaust_unhandled(since=SINCE, now=NOW)) == []
    assert (await store.get(letter.id)).error == letter.error
