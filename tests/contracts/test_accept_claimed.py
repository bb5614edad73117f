"""``accept`` of deliveries that come running: as if they had been accepted and then claimed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from letters import NOW, after, build_delivery, build_error
from steps import claim_due, claim_one, find_all, heartbeat, lease_of, rescue, seen

from eventbus_dlq import moves
from eventbus_dlq.letter import Attempt, DeadLetter, DeadLetterState, Reason
from eventbus_dlq.store import DeadLetterStore, Kept, Settlement

ACCEPTED, RUNNING = DeadLetterState.ACCEPTED, DeadLetterState.RUNNING


def build_claimed(**overrides: Any) -> DeadLetter:
    """Return a delivery that comes claimed for 30 seconds."""
    return moves.claimed(build_delivery(**overrides), owner="worker-1", lease=30.0, now=NOW)


async def test_it_is_kept_as_it_came_and_the_answer_says_that_it_runs(store: DeadLetterStore) -> None:
    claimed = build_claimed()
    assert list(await store.accept([claimed])) == [Kept(claimed.id, RUNNING)]
    assert await store.get(claimed.id) == claimed
    assert (claimed.attempts, claimed.token, claimed.lease_until) == (1, 1, after(30))


async def test_it_differs_in_nothing_from_one_that_was_accepted_and_then_claimed(
    store: DeadLetterStore,
) -> None:
    claimed, plain = build_claimed(), build_delivery()
    await store.accept([claimed, plain])
    claim = await claim_one(store, plain.id)
    own = {"id": plain.id, "event_id": plain.event_id, "correlation_id": plain.correlation_id}
    assert replace(await store.get(claimed.id), **own) == claim.letter


async def test_nobody_else_can_claim_it(store: DeadLetterStore) -> None:
    await store.accept([build_claimed()])
    assert list(await claim_due(store)) == []


async def test_its_owner_settles_it_and_nothing_is_left(store: DeadLetterStore) -> None:
    claimed = build_claimed()
    await store.accept([claimed])
    done = Settlement(lease=lease_of(claimed), state=DeadLetterState.RESOLVED, forget=True)
    assert list(await store.settle([done], now=after(1))) == []
    assert await find_all(store) == []
    stats = await store.stats(now=after(1))
    assert (stats.total, stats.by_state) == (0, {})


async def test_when_it_fails_the_run_that_was_charged_is_its_first(store: DeadLetterStore) -> None:
    claimed = build_claimed()
    await store.accept([claimed])
    error = build_error()
    failed = Settlement(
        lease=lease_of(claimed),
        state=DeadLetterState.PENDING,
        retry_at=after(60),
        error=error,
        attempts=(Attempt(1, NOW, after(1), error),),
        fingerprint="f" * 16,
    )
    await store.settle([failed], now=after(1))
    kept = await store.get(claimed.id)
    assert (kept.state, kept.attempts, kept.retries) == (DeadLetterState.PENDING, 1, 0)
    assert (await store.stats(now=after(1))).by_state == {DeadLetterState.PENDING: 1}


async def test_a_release_makes_it_accepted_and_uncharged(store: DeadLetterStore) -> None:
    claimed = build_claimed()
    await store.accept([claimed])
    assert list(await store.release([lease_of(claimed)], now=after(2))) == []
    kept = await store.get(claimed.id)
    assert (kept.state, kept.attempts, kept.token, kept.lease_owner) == (ACCEPTED, 0, 1, None)
    (claim,) = await claim_due(store, now=after(3))
    assert (claim.letter.attempts, claim.lease.token) == (1, 2)


async def test_a_heartbeat_extends_its_lease(store: DeadLetterStore) -> None:
    claimed = build_claimed()
    await store.accept([claimed])
    assert await heartbeat(store, [lease_of(claimed)], now=after(10)) == []
    assert (await store.get(claimed.id)).lease_until == after(40)


async def test_when_its_owner_dies_it_is_taken_back_and_claimable_at_once(store: DeadLetterStore) -> None:
    claimed = build_claimed()
    await store.accept([claimed])
    rescued = await rescue(store, claimed.id, now=after(31))
    assert (rescued.state, rescued.attempts, rescued.crashes) == (ACCEPTED, 1, 1)
    (claim,) = await claim_due(store, now=after(32))
    assert claim.lease.token == 2
    late = Settlement(lease=lease_of(claimed), state=DeadLetterState.RESOLVED, forget=True)
    assert list(await store.settle([late], now=after(33))) == [late.lease]


async def test_when_it_kills_its_owner_once_too_often_it_is_poison(store: DeadLetterStore) -> None:
    claimed = build_claimed()
    await store.accept([claimed])
    poisoned = await rescue(store, claimed.id, now=after(31), max_crashes=1)
    assert (poisoned.state, poisoned.reason) == (DeadLetterState.EXHAUSTED, Reason.POISON)


async def test_one_that_is_known_already_stays_where_it_is(store: DeadLetterStore) -> None:
    known = build_delivery()
    await store.accept([known])
    claimed = build_claimed(event_id=known.event_id)
    assert list(await store.accept([claimed])) == [Kept(known.id, ACCEPTED)]
    assert await store.get(known.id) == known


async def test_accepting_it_again_as_one_that_nobody_has_claimed_leaves_it_to_its_owner(
    store: DeadLetterStore,
) -> None:
    claimed = build_claimed()
    await store.accept([claimed])
    again = moves.released(claimed, ACCEPTED, now=claimed.updated_at)
    assert list(await store.accept([again])) == [Kept(claimed.id, RUNNING)]
    assert await store.get(claimed.id) == claimed


async def test_in_one_call_with_its_repetition_the_first_is_kept(store: DeadLetterStore) -> None:
    claimed, other = build_claimed(), build_delivery()
    again = moves.released(claimed, ACCEPTED, now=claimed.updated_at)
    kept = await store.accept([other, claimed, again])
    assert list(kept) == [Kept(other.id, ACCEPTED), Kept(claimed.id, RUNNING), Kept(claimed.id, RUNNING)]
    assert (await store.stats(now=NOW)).by_state == {ACCEPTED: 1, RUNNING: 1}


@pytest.mark.parametrize("count", [1, 3, 40])
async def test_many_that_are_alike_keep_what_is_their_own(store: DeadLetterStore, count: int) -> None:
    letters = [
        build_claimed(
            payload_json=b'{"order_id":%d}' % number,
            tenant=None if number % 2 else "acme",
            headers={"n": str(number)},
            created_at=after(number / 1000),
        )
        for number in range(count)
    ]
    letters += [build_delivery(handler_id="stock.reserve", priority=3) for _ in range(count)]
    kept = await store.accept(letters)
    assert [it.id for it in kept] == [letter.id for letter in letters]
    assert [await store.get(letter.id) for letter in letters] == letters
    stats = await store.stats(now=NOW)
    assert stats.by_state == {RUNNING: count, ACCEPTED: count}
    assert stats.by_handler == {"billing.charge": count, "stock.reserve": count}


async def test_its_lease_is_as_long_as_its_owner_made_it(store: DeadLetterStore) -> None:
    claimed = build_claimed()
    long = replace(claimed, lease_until=NOW + timedelta(seconds=300))
    await store.accept([long])
    assert (await store.get(long.id)).lease_until == after(300)
    assert (await seen(store, long.id, now=after(301))).token == 1
