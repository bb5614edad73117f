"""Sequences: deliveries of one handler with one ordering key run one at a time, in order."""

from __future__ import annotations

from functools import partial

import anyio
import pytest
from in_sequence import KEY, accepted, blocked_by_a_failure, end, run_next, standing
from letters import NOW, after, build_delivery, build_error, build_letter, build_letter_in
from steps import claim_due, claim_one, heartbeat, lease_of, rescue

from eventbus_dlq.errors import LeaseHeld
from eventbus_dlq.letter import DeadLetterState, Verb
from eventbus_dlq.store import DeadLetterStore, Settlement

ACCEPTED = DeadLetterState.ACCEPTED
RUNNING = DeadLetterState.RUNNING
EXHAUSTED = DeadLetterState.EXHAUSTED
RESOLVED = DeadLetterState.RESOLVED


async def test_the_first_does_not_wait_and_the_others_do(store: DeadLetterStore) -> None:
    letters = await accepted(store)
    assert await standing(store, letters) == ["accepted", "accepted waits", "accepted waits"]


async def test_it_is_the_same_in_one_call_and_in_several(store: DeadLetterStore) -> None:
    letters = await accepted(store, 2) + await accepted(store, 2)
    assert await standing(store, letters) == ["accepted"] + ["accepted waits"] * 3


async def test_without_a_key_nothing_waits(store: DeadLetterStore) -> None:
    deliveries = [build_delivery(None) for _ in range(3)]
    await store.accept(deliveries)
    await store.add([build_letter(ordering_key=None)])
    assert await standing(store, deliveries) == ["accepted"] * 3
    assert len(await claim_due(store)) == 3


async def test_one_is_handed_out_at_a_time_in_the_order_of_acceptance(store: DeadLetterStore) -> None:
    letters = await accepted(store, 5)
    assert [await run_next(store) for _ in letters] == [it.id for it in letters]
    assert list(await claim_due(store)) == []


async def test_while_one_runs_no_other_is_handed_out(store: DeadLetterStore) -> None:
    letters = await accepted(store)
    assert len(await claim_due(store)) == 1
    assert list(await claim_due(store, now=after(3_600))) == []
    assert await standing(store, letters) == ["running", "accepted waits", "accepted waits"]


async def test_the_order_is_that_of_acceptance_whatever_the_times_and_priorities_say(
    store: DeadLetterStore,
) -> None:
    letters = [
        build_delivery(KEY, created_at=after(50), priority=10),
        build_delivery(KEY, created_at=after(10), priority=5),
        build_delivery(KEY, created_at=after(30), priority=1),
    ]
    for letter in letters:
        await store.accept([letter])
    order = []
    for _ in letters:
        (claim,) = await claim_due(store, now=after(60))
        order.append(claim.letter.id)
        await end(store, claim.lease, RESOLVED)
    assert order == [it.id for it in letters]


async def test_a_first_run_holds_back_nothing_but_the_turn(store: DeadLetterStore) -> None:
    letters = await accepted(store, 1)
    await claim_one(store, letters[0].id)
    letters += await accepted(store, 1)
    assert await standing(store, letters) == ["running", "accepted waits"]


async def test_a_release_keeps_the_turn(store: DeadLetterStore) -> None:
    letters = await accepted(store, 2)
    claim = await claim_one(store, letters[0].id)
    await store.release([claim.lease], now=NOW)
    assert await standing(store, letters) == ["accepted", "accepted waits"]
    assert [await run_next(store) for _ in letters] == [it.id for it in letters]


async def test_a_rescue_keeps_the_turn(store: DeadLetterStore) -> None:
    letters = await accepted(store, 2)
    await claim_one(store, letters[0].id)
    rescued = await rescue(store, letters[0].id, now=after(31))
    assert (rescued.state, rescued.waits) == (ACCEPTED, False)
    assert await standing(store, letters) == ["accepted", "accepted waits"]
    assert [await run_next(store) for _ in letters] == [it.id for it in letters]


async def test_poison_blocks_its_sequence(store: DeadLetterStore) -> None:
    letters = await accepted(store, 2)
    await claim_one(store, letters[0].id)
    await rescue(store, letters[0].id, now=after(31), max_crashes=1)
    assert await standing(store, letters) == ["exhausted", "parked waits"]


async def test_a_heartbeat_changes_nothing_about_who_waits(store: DeadLetterStore) -> None:
    letters = await accepted(store, 2)
    claim = await claim_one(store, letters[0].id)
    assert await heartbeat(store, [claim.lease], now=after(10)) == []
    assert await standing(store, letters) == ["running", "accepted waits"]


async def test_a_snoozed_head_still_holds_back_the_others(store: DeadLetterStore) -> None:
    letters = await blocked_by_a_failure(store)
    await store.change(letters[0].id, Verb.SNOOZE, now=NOW, until=after(600))
    assert await standing(store, letters) == ["pending", "parked waits", "parked waits"]
    assert list(await claim_due(store, now=after(599))) == []


async def test_a_failure_that_is_still_running_holds_back_what_comes(store: DeadLetterStore) -> None:
    """A handler's thread that has timed out: stored as running, and settled when it has returned."""
    held = build_letter_in(RUNNING, ordering_key=KEY)
    await store.add([held])
    letters = [held, *await accepted(store, 2)]
    assert await standing(store, letters) == ["running", "parked waits", "parked waits"]
    await end(store, lease_of(held), RESOLVED)
    assert await standing(store, letters) == ["resolved", "accepted", "parked waits"]


async def test_a_lost_lease_moves_no_sequence(store: DeadLetterStore) -> None:
    letters = await accepted(store, 2)
    former = await claim_one(store, letters[0].id)
    await rescue(store, letters[0].id, now=after(31))
    current = await claim_one(store, letters[0].id, now=after(32))
    for state in (RESOLVED, EXHAUSTED):
        assert list(await store.settle([Settlement(lease=former.lease, state=state)], now=after(33))) == [
            former.lease
        ]
    assert list(await store.release([former.lease], now=after(33))) == [former.lease]
    assert await standing(store, letters) == ["running", "accepted waits"]
    assert await store.get(letters[0].id) == current.letter


async def test_a_follower_that_runs_refuses_nobody_but_itself(store: DeadLetterStore) -> None:
    letters = await accepted(store, 2)
    await claim_one(store, letters[0].id)
    with pytest.raises(LeaseHeld):
        await store.delete(letters[0].id)
    await store.delete(letters[1].id)
    assert await standing(store, letters[:1]) == ["running"]


async def test_a_long_sequence_does_not_hold_up_the_others(store: DeadLetterStore) -> None:
    await accepted(store, 200, "long")
    late = [build_delivery(f"short-{number}", created_at=after(1)) for number in range(5)]
    await store.accept(late)
    order: list[str | None] = []
    for number in range(12):
        (claim,) = await claim_due(store, limit=1, now=after(10 + number))
        order.append(claim.letter.ordering_key)
        settlement = Settlement(lease=claim.lease, state=RESOLVED, forget=True)
        await store.settle([settlement], now=after(10 + number))
    assert order == ["long", *(it.ordering_key for it in late), *["long"] * 6]


async def test_sequences_take_turns(store: DeadLetterStore) -> None:
    for key in ("a", "b", "c"):
        await accepted(store, 4, key)
    order: list[str | None] = []
    for number in range(12):
        (claim,) = await claim_due(store, limit=1, now=after(1 + number))
        order.append(claim.letter.ordering_key)
        await store.settle([Settlement(lease=claim.lease, state=RESOLVED)], now=after(1 + number))
    assert order == ["a", "b", "c"] * 4


async def test_a_blocked_sequence_does_not_hold_up_the_others(store: DeadLetterStore) -> None:
    await blocked_by_a_failure(store, 100)
    (free,) = await accepted(store, 1, "free")
    (claim,) = await claim_due(store, limit=1)
    assert claim.letter.id == free.id


async def test_callers_at_a_time_leave_one_head(store: DeadLetterStore) -> None:
    letters = [build_delivery(KEY) for _ in range(30)]
    async with anyio.create_task_group() as group:
        for letter in letters:
            group.start_soon(partial(store.accept, [letter]))
    marks = await standing(store, letters)
    assert sorted(marks) == ["accepted", *["accepted waits"] * 29]
    assert sorted([await run_next(store) for _ in letters]) == sorted(it.id for it in letters)


async def test_settling_beside_accepting_leaves_one_head_and_keeps_the_order(store: DeadLetterStore) -> None:
    expected: list[str] = []
    done: list[str] = []

    async def accept_all() -> None:
        for _ in range(40):
            (letter,) = await accepted(store, 1)
            expected.append(letter.id)

    async def run_all() -> None:
        while len(done) < 40:
            claims = await claim_due(store)
            assert len(claims) <= 1
            for claim in claims:
                done.append(claim.letter.id)
                await end(store, claim.lease, RESOLVED, forget=True)
            await anyio.lowlevel.checkpoint()

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(accept_all)
            group.start_soon(run_all)
    assert done == expected


async def test_accepting_beside_settling_never_leaves_a_sequence_without_a_head(
    store: DeadLetterStore,
) -> None:
    for _ in range(15):
        (first,) = await accepted(store, 1)
        claim = await claim_one(store, first.id)
        second = build_delivery(KEY)
        async with anyio.create_task_group() as group:
            group.start_soon(end, store, claim.lease, RESOLVED)
            group.start_soon(partial(store.accept, [second]))
        assert await run_next(store) == second.id


async def test_failing_beside_accepting_leaves_nothing_runnable_behind_the_failure(
    store: DeadLetterStore,
) -> None:
    for number in range(15):
        key = f"key-{number}"
        (first,) = await accepted(store, 1, key)
        claim = await claim_one(store, first.id)
        second = build_delivery(key)
        async with anyio.create_task_group() as group:
            group.start_soon(partial(end, store, claim.lease, EXHAUSTED, error=build_error()))
            group.start_soon(partial(store.accept, [second]))
        assert await standing(store, [first, second]) == ["exhausted", "parked waits"]
