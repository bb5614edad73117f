"""Leases are measured by the server's clock, whatever a caller's says, and wherever they began."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import anyio.to_thread
import pytest
from letters import build_delivery

from eventbus_adapters.sql import SqlStore
from eventbus_dlq import moves
from eventbus_dlq.letter import DeadLetter, DeadLetterState
from eventbus_dlq.store import Lease, Leased

HOUR = timedelta(hours=1)
SHORT = 0.001
"""Seconds of a lease that soon runs out."""


@pytest.fixture
async def store(url: str) -> AsyncIterator[SqlStore]:
    store = SqlStore(url)
    await store.open()
    yield store
    await store.close()


async def accepted_claimed(store: SqlStore, now: datetime) -> DeadLetter:
    letter = moves.claimed(
        build_delivery(created_at=now, updated_at=now), owner="worker-1", lease=30.0, now=now
    )
    await store.accept([letter])
    return await store.get(letter.id)


async def claimed_by_itself(store: SqlStore, now: datetime) -> DeadLetter:
    letter = build_delivery()
    await store.accept([letter])
    await store.claim([letter.id], owner="worker-1", lease=30.0, now=now)
    return await store.get(letter.id)


async def beat_for(store: SqlStore, letter: DeadLetter, seconds: float, *, now: datetime) -> None:
    """Have a letter's lease end so many seconds from now."""
    lease = Lease(dead_letter_id=letter.id, token=letter.token)
    beat = partial(store.heartbeat, [lease], lease=seconds, now=now)
    assert list(await anyio.to_thread.run_sync(beat)) == []


async def run_out(store: SqlStore, ids: Collection[str], *, now: datetime) -> Sequence[Leased]:
    """Wait until the leases of letters, and no others, have run out, and return them."""
    with anyio.fail_after(10):
        while True:
            seen = await store.leased(now=now)
            if {it.dead_letter_id for it in seen} == set(ids):
                return seen
            await anyio.sleep(0.005)


@pytest.mark.parametrize("claimed", [accepted_claimed, claimed_by_itself])
@pytest.mark.parametrize("wrong_by", [-HOUR, HOUR])
async def test_a_caller_whose_clock_is_wrong_has_its_lease_for_as_long_as_any_other(
    store: SqlStore, claimed: Callable[[SqlStore, datetime], Awaitable[DeadLetter]], wrong_by: timedelta
) -> None:
    before = datetime.now(UTC)
    letter = await claimed(store, before + wrong_by)
    after = datetime.now(UTC)
    lease = timedelta(seconds=30)
    assert before + lease - timedelta(seconds=1) <= letter.lease_until <= after + lease + timedelta(seconds=1)
    assert list(await store.leased(now=before + wrong_by)) == []  # none of them has run out


@pytest.mark.parametrize("wrong_by", [-HOUR, HOUR])
async def test_a_heartbeat_lasts_from_now_by_the_server_whatever_the_callers_clock_says(
    store: SqlStore, wrong_by: timedelta
) -> None:
    claimed = await claimed_by_itself(store, datetime.now(UTC))
    lease = Lease(dead_letter_id=claimed.id, token=claimed.token)
    gone = Lease(dead_letter_id=claimed.id, token=claimed.token - 1)
    before = datetime.now(UTC)
    beat = partial(store.heartbeat, [lease, gone], lease=90.0, now=before + wrong_by)
    assert list(await anyio.to_thread.run_sync(beat)) == [gone]
    after = datetime.now(UTC)
    lease_until = (await store.get(claimed.id)).lease_until
    assert lease_until is not None
    slack = timedelta(seconds=1)
    assert before + timedelta(seconds=90) - slack <= lease_until <= after + timedelta(seconds=90) + slack


@pytest.mark.parametrize("wrong_by", [-HOUR, HOUR])
async def test_a_rescue_takes_what_has_run_out_by_the_server_and_nothing_else(
    store: SqlStore, wrong_by: timedelta
) -> None:
    now = datetime.now(UTC) + wrong_by
    alive, beaten, dead = [await claimed_by_itself(store, now) for _ in range(3)]
    for letter in (beaten, dead):
        await beat_for(store, letter, SHORT, now=now)
    seen = await run_out(store, {beaten.id, dead.id}, now=now)
    assert {it.dead_letter_id: it.expired for it in seen} == {beaten.id: True, dead.id: True}
    await beat_for(store, beaten, 30.0, now=now)
    assert alive.lease_until is not None
    too_soon = Leased(
        dead_letter_id=alive.id,
        token=alive.token,
        lease_until=alive.lease_until,
        owner="worker-1",
        expired=True,  # which is for the server to say
    )
    (rescued,) = await store.rescue([*seen, too_soon], max_crashes=3, now=now)
    assert (rescued.id, rescued.state, rescued.crashes) == (dead.id, "accepted", 1)
    assert (await store.get(beaten.id)).state == (await store.get(alive.id)).state == "running"


@pytest.mark.parametrize("wrong_by", [-HOUR, HOUR])
async def test_who_lets_a_lease_run_out_may_still_release_it_until_somebody_rescues(
    store: SqlStore, wrong_by: timedelta
) -> None:
    now = datetime.now(UTC) + wrong_by
    late, lost = [await claimed_by_itself(store, now) for _ in range(2)]
    for letter in (late, lost):
        await beat_for(store, letter, SHORT, now=now)
    seen = await run_out(store, {late.id, lost.id}, now=now)
    await store.rescue([it for it in seen if it.dead_letter_id == lost.id], max_crashes=3, now=now)
    leases = [Lease(dead_letter_id=it.id, token=it.token) for it in (late, lost)]
    assert list(await store.release(leases, now=now)) == leases[1:]
    assert [(await store.get(it.id)).attempts for it in (late, lost)] == [0, 1]
    assert list(await store.leased(now=now)) == []


@pytest.mark.parametrize("wrong_by", [-HOUR, HOUR])
async def test_what_is_claimed_as_due_has_its_lease_by_the_server(
    store: SqlStore, wrong_by: timedelta
) -> None:
    delivery = build_delivery()
    await store.accept([delivery])
    before = datetime.now(UTC)
    (claim,) = await store.claim_due(
        {delivery.handler_id: 1},
        states={DeadLetterState.ACCEPTED},
        limit=1,
        owner="worker-1",
        lease=30.0,
        now=before + wrong_by,
    )
    after = datetime.now(UTC)
    kept = (await store.get(delivery.id)).lease_until
    assert kept is not None
    lease, slack = timedelta(seconds=30), timedelta(seconds=1)
    assert before + lease - slack <= kept <= after + lease + slack
    assert claim.letter.lease_until == kept
