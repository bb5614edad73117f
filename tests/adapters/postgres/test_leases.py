"""Leases are measured by the server's clock, whatever a caller's says, and wherever they began."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from letters import build_delivery

from eventbus_adapters.sql import SqlStore
from eventbus_dlq import moves
from eventbus_dlq.letter import DeadLetter

HOUR = timedelta(hours=1)


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
