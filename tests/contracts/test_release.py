"""``release``: a claim is given back as if it had not been made, but for the token."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from letters import NOW, after, build_letter, build_letter_in
from steps import claim_one, lease_of, rescue, running

from eventbus.ids import new_id
from eventbus_dlq.letter import CLAIMABLE_STATES, DeadLetter, DeadLetterState, Reason
from eventbus_dlq.store import DeadLetterStore, Lease, Settlement

INTERRUPTED: dict[str, Any] = {
    "state": DeadLetterState.PENDING,
    "reason": Reason.INTERRUPTED,
    "retry_at": after(-5),
}
BEFORE = [*(build_letter_in(state) for state in sorted(CLAIMABLE_STATES)), build_letter(**INTERRUPTED)]


@pytest.mark.parametrize("letter", BEFORE, ids=lambda letter: f"{letter.state}-{letter.reason}")
async def test_a_release_restores_the_state_before_uncharged(
    store: DeadLetterStore, letter: DeadLetter
) -> None:
    own = replace(letter, id=new_id(), event_id=new_id(), token=3)
    lease = await running(store, own)
    assert list(await store.release([lease], now=after(4))) == []
    assert await store.get(own.id) == replace(own, token=4, updated_at=after(4))


async def test_the_former_owner_is_fenced_out(store: DeadLetterStore) -> None:
    lease = await running(store, build_letter())
    await store.release([lease], now=NOW)
    before = await store.get(lease.dead_letter_id)
    assert list(await store.release([lease], now=after(1))) == [lease]
    assert list(
        await store.settle([Settlement(lease=lease, state=DeadLetterState.RESOLVED)], now=after(1))
    ) == [lease]
    assert await store.get(lease.dead_letter_id) == before

    claim = await claim_one(store, lease.dead_letter_id, now=after(2))
    assert claim.lease.token == lease.token + 1
    assert list(await store.release([lease], now=after(3))) == [lease]
    assert await store.get(lease.dead_letter_id) == claim.letter


async def test_a_letter_that_was_rescued_and_claimed_anew_returns_to_its_state(
    store: DeadLetterStore,
) -> None:
    letter = build_letter_in(DeadLetterState.EXHAUSTED, attempts=2, retries=1)
    former = await running(store, letter)
    await rescue(store, letter.id, now=after(31))
    again = await claim_one(store, letter.id, now=after(31))
    assert list(await store.release([former, again.lease], now=after(32))) == [former]
    kept = await store.get(letter.id)
    assert (kept.state, kept.reason) == (DeadLetterState.EXHAUSTED, Reason.ATTEMPTS)
    assert (kept.attempts, kept.retries, kept.crashes, kept.token) == (3, 2, 1, 2)


async def test_the_state_before_is_that_of_the_latest_claim(store: DeadLetterStore) -> None:
    lease = await running(store, build_letter_in(DeadLetterState.ACCEPTED))
    settlement = Settlement(lease=lease, state=DeadLetterState.PENDING, retry_at=after(60))
    await store.settle([settlement], now=NOW)
    claim = await claim_one(store, lease.dead_letter_id)
    await store.release([claim.lease], now=NOW)
    kept = await store.get(lease.dead_letter_id)
    assert (kept.state, kept.retry_at) == (DeadLetterState.PENDING, after(60))


@pytest.mark.parametrize(("retry_at", "due"), [(None, after(5)), (after(60), after(60))])
async def test_a_letter_that_arrived_running_becomes_pending(
    store: DeadLetterStore, retry_at: datetime | None, due: datetime
) -> None:
    letter = build_letter_in(DeadLetterState.RUNNING, retry_at=retry_at, reason=Reason.INTERRUPTED)
    await store.add([letter])
    assert list(await store.release([lease_of(letter)], now=after(5))) == []
    kept = await store.get(letter.id)
    assert (kept.state, kept.reason, kept.retry_at) == (DeadLetterState.PENDING, Reason.INTERRUPTED, due)
    assert (kept.attempts, kept.retries, kept.token) == (letter.attempts, letter.retries, letter.token)
    assert (kept.lease_owner, kept.lease_until) == (None, None)


async def test_a_closed_letter_that_was_reopened_running_stays_open(store: DeadLetterStore) -> None:
    former = await running(store, build_letter_in(DeadLetterState.EXHAUSTED))
    await store.settle([Settlement(lease=former, state=DeadLetterState.RESOLVED)], now=NOW)
    closed = await store.get(former.dead_letter_id)
    arrived = build_letter_in(DeadLetterState.RUNNING, event_id=closed.event_id, attempts=2)
    await store.add([arrived])

    lease = Lease(dead_letter_id=closed.id, token=closed.token + 1)
    assert list(await store.release([lease], now=NOW)) == []
    kept = await store.get(closed.id)
    assert (kept.state, kept.attempts, kept.retries) == (
        DeadLetterState.PENDING,
        closed.attempts + 2,
        closed.retries,
    )


async def test_only_the_lost_ones_of_many_are_returned(store: DeadLetterStore) -> None:
    first, second = await running(store, build_letter()), await running(store, build_letter())
    unknown = Lease(dead_letter_id=new_id(), token=1)
    stale = second._replace(token=0)
    assert list(await store.release([unknown, first, stale, first], now=NOW)) == [unknown, stale, first]
    assert (await store.get(first.dead_letter_id)).state is DeadLetterState.PENDING
    assert (await store.get(second.dead_letter_id)).state is DeadLetterState.RUNNING


async def test_no_lease_at_all_is_fine(store: DeadLetterStore) -> None:
    assert list(await store.release([], now=NOW)) == []
