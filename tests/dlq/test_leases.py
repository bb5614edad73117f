"""Keeping leases alive, and noticing when they are lost."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import anyio
import pytest
from letters import build_letter

from eventbus.testing import FakeClock
from eventbus_dlq import MemoryStore, StoreUnavailable
from eventbus_dlq.leases import LeaseKeeper
from eventbus_dlq.store import Claim, Lease


class WatchedStore(MemoryStore):
    """A store that tells of every heartbeat, and can be away for some."""

    def __init__(self, away: int = 0) -> None:
        super().__init__()
        self.away = away
        self.beats = 0
        self.beat = anyio.Event()

    async def heartbeat(self, leases: Any, *, lease: float, now: datetime) -> Any:
        self.beats += 1
        if self.beats <= self.away:
            raise StoreUnavailable("locked")
        lost = await super().heartbeat(leases, lease=lease, now=now)
        self.beat.set()
        return lost


async def leased(store: MemoryStore, clock: FakeClock) -> Lease:
    letter = build_letter()
    await store.add([letter])
    (claim,) = await store.claim([letter.id], owner="me", lease=0.03, now=clock.now)
    assert isinstance(claim, Claim)
    return claim.lease


async def test_a_lease_is_extended_while_the_block_runs(fake_clock: FakeClock) -> None:
    store = WatchedStore()
    lease = await leased(store, fake_clock)
    before = (await store.get(lease.dead_letter_id)).lease_until
    keeper = LeaseKeeper(store, clock=fake_clock, lease=0.03)
    fake_clock.advance(10)
    with anyio.fail_after(10):
        async with keeper.keeping([lease]):
            await store.beat.wait()
    after = (await store.get(lease.dead_letter_id)).lease_until
    assert before is not None
    assert after is not None
    assert (after - before).total_seconds() == pytest.approx(10)


async def test_a_store_that_is_away_for_a_moment_loses_nothing(fake_clock: FakeClock) -> None:
    store = WatchedStore(away=3)
    lease = await leased(store, fake_clock)
    with anyio.fail_after(10):
        async with LeaseKeeper(store, clock=fake_clock, lease=0.03).keeping([lease]):
            await store.beat.wait()
    assert store.beats == 4


async def test_the_block_is_cancelled_when_all_of_its_leases_are_lost(fake_clock: FakeClock) -> None:
    store = WatchedStore()
    kept, lost = await leased(store, fake_clock), await leased(store, fake_clock)
    keeper = LeaseKeeper(store, clock=fake_clock, lease=0.03)
    await store.release([lost], now=fake_clock.now)
    with anyio.fail_after(10):
        async with keeper.keeping([kept, lost]):
            await store.beat.wait()
            await store.release([kept], now=fake_clock.now)
            await anyio.sleep_forever()


async def test_nothing_beats_after_the_block(fake_clock: FakeClock) -> None:
    store = WatchedStore()
    lease = await leased(store, fake_clock)
    async with LeaseKeeper(store, clock=fake_clock, lease=1e6).keeping([lease]):
        pass
    assert store.beats == 0


async def test_the_error_of_the_block_is_raised_as_it_is(fake_clock: FakeClock) -> None:
    """A task group would put it into a group, for which nobody has an except clause."""
    store = WatchedStore()
    lease = await leased(store, fake_clock)
    error = LookupError("the block's own")
    with pytest.raises(LookupError) as caught:
        async with LeaseKeeper(store, clock=fake_clock, lease=1e6).keeping([lease]):
            raise error
    assert caught.value is error


async def test_the_cancellation_of_the_block_is_nobodys_error(fake_clock: FakeClock) -> None:
    store = WatchedStore()
    lease = await leased(store, fake_clock)
    with anyio.CancelScope() as scope:
        async with LeaseKeeper(store, clock=fake_clock, lease=1e6).keeping([lease]):
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
