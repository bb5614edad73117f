"""Keeping leases alive from a thread, and noticing when they are lost."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import anyio
import pytest
import structlog
from letters import build_letter
from tests.dlq.fakes import FakeBus

from eventbus.testing import FakeClock
from eventbus_dlq import Claim, Lease, MemoryStore, StoreUnavailable
from eventbus_dlq.heartbeats import Heart, Unanswered
from eventbus_dlq.leases import LeaseKeeper


class WatchedStore(MemoryStore):
    """A store that tells of every heartbeat, and can be away, or hang, for some."""

    def __init__(self, *, away: int = 0, error: Exception | None = None) -> None:
        super().__init__()
        self.away = away
        self.error = error or StoreUnavailable("locked")
        self.beats = 0
        self.lengths: list[int] = []
        self.let_go = threading.Event()
        self.hangs = 0
        self.tell: Callable[[Callable[[], None]], None] = lambda call: None
        self.beat = anyio.Event()

    def heartbeat(self, leases: Any, *, lease: float, now: datetime) -> Any:
        self.beats += 1
        if self.beats <= self.away:
            raise self.error
        if self.beats <= self.hangs:
            self.let_go.wait(30)
        lost = super().heartbeat(leases, lease=lease, now=now)
        self.lengths.append(len(leases))
        self.tell(lambda: self.beat.set())
        return lost

    async def next_beat(self) -> None:
        self.beat = anyio.Event()
        with anyio.fail_after(10):
            await self.beat.wait()


@asynccontextmanager
async def keeper_of(store: WatchedStore, clock: FakeClock, **options: Any) -> AsyncGenerator[LeaseKeeper]:
    bus: Any = FakeBus()
    store.tell = bus.call_from_thread
    keeper = LeaseKeeper(store, clock=clock, **{"lease": 0.03, **options})
    keeper.start(bus)
    try:
        yield keeper
    finally:
        store.let_go.set()
        await keeper.stop()


async def leased(store: MemoryStore, clock: FakeClock) -> Lease:
    letter = build_letter()
    await store.add([letter])
    (claim,) = await store.claim([letter.id], owner="me", lease=0.03, now=clock.now)
    assert isinstance(claim, Claim)
    return claim.lease


def threads() -> list[str]:
    return [it.name for it in threading.enumerate() if it.name.startswith("eventbus-")]


async def test_a_lease_is_extended_while_the_block_runs(fake_clock: FakeClock) -> None:
    store = WatchedStore()
    lease = await leased(store, fake_clock)
    before = (await store.get(lease.dead_letter_id)).lease_until
    fake_clock.advance(10)
    async with keeper_of(store, fake_clock) as keeper:
        with keeper.keeping([lease]):
            await store.next_beat()
    after = (await store.get(lease.dead_letter_id)).lease_until
    assert before is not None
    assert after is not None
    assert (after - before).total_seconds() == pytest.approx(10)


@pytest.mark.parametrize("error", [StoreUnavailable("locked"), ValueError("a bug of the store")])
async def test_a_store_that_is_away_for_a_moment_loses_nothing(
    fake_clock: FakeClock, error: Exception
) -> None:
    store = WatchedStore(away=3, error=error)
    lease = await leased(store, fake_clock)
    async with keeper_of(store, fake_clock) as keeper:
        with structlog.testing.capture_logs() as logs, keeper.keeping([lease]):
            await store.next_beat()
        if isinstance(error, StoreUnavailable):  # an outage is told of once; a bug each time
            assert [it["event"] for it in logs] == ["heartbeat.failed"]
        else:
            assert [it["event"] for it in logs] == ["heartbeat.failed"] * 3
        assert store.beats >= 4


async def test_a_beat_that_hangs_does_not_keep_the_next_one_from_being_made(fake_clock: FakeClock) -> None:
    store = WatchedStore()
    store.hangs = 2
    lease = await leased(store, fake_clock)
    async with keeper_of(store, fake_clock) as keeper:
        with keeper.keeping([lease]):
            await store.next_beat()
            assert store.beats >= 3


async def test_the_block_is_cancelled_when_all_of_its_leases_are_lost(fake_clock: FakeClock) -> None:
    store = WatchedStore()
    kept, lost = await leased(store, fake_clock), await leased(store, fake_clock)
    await store.release([lost], now=fake_clock.now)
    ended = False
    async with keeper_of(store, fake_clock) as keeper:
        with anyio.fail_after(10):
            with keeper.keeping([kept, lost]):
                await store.next_beat()
                await store.release([kept], now=fake_clock.now)
                await anyio.sleep_forever()
                ended = True
        assert not ended
        assert not keeper.holds(kept)


async def test_a_lost_lease_is_told_once(fake_clock: FakeClock) -> None:
    store = WatchedStore()
    lease = await leased(store, fake_clock)
    await store.release([lease], now=fake_clock.now)
    bus: Any = FakeBus()
    keeper = LeaseKeeper(store, clock=fake_clock, lease=0.03)
    keeper.start(bus)
    with anyio.fail_after(10), keeper.keeping([lease]):
        await anyio.sleep_forever()
    await keeper.stop()
    assert [it.fields for it in bus.seen] == [{"dead_letter": lease.dead_letter_id, "token": lease.token}]
    assert bus.names() == ["lease.lost"]


async def test_a_lease_that_was_forgotten_is_nobodys_loss(fake_clock: FakeClock) -> None:
    store = WatchedStore()
    kept, forgotten = await leased(store, fake_clock), await leased(store, fake_clock)
    lost: list[Lease] = []
    async with keeper_of(store, fake_clock) as keeper:
        keeper.watch(kept, lambda: lost.append(kept))
        keeper.watch(forgotten, lambda: lost.append(forgotten))
        keeper.forget(forgotten)
        await store.release([forgotten], now=fake_clock.now)
        await store.next_beat()
        await store.next_beat()
    assert lost == []
    assert set(store.lengths) == {1}


async def test_without_leases_there_is_no_thread_and_no_beat(fake_clock: FakeClock) -> None:
    store = WatchedStore()
    before = threads()
    async with keeper_of(store, fake_clock):
        assert threads() == before
    lease = await leased(store, fake_clock)
    async with keeper_of(store, fake_clock, lease=1e6) as keeper:
        with keeper.keeping([lease]):
            pass
    assert store.beats == 0


async def test_stopping_ends_the_threads_and_a_keeper_can_be_started_again(fake_clock: FakeClock) -> None:
    store = WatchedStore()
    lease = await leased(store, fake_clock)
    bus: Any = FakeBus()
    store.tell = bus.call_from_thread
    keeper = LeaseKeeper(store, clock=fake_clock, lease=0.03)
    for _ in range(2):
        keeper.start(bus)
        keeper.watch(lease, lambda: None)
        await store.next_beat()
        assert "eventbus-leases" in threads()
        await keeper.stop()
        assert "eventbus-leases" not in threads()


async def test_an_event_loop_that_is_blocked_past_the_lease_keeps_its_leases(fake_clock: FakeClock) -> None:
    store = WatchedStore()
    lease = await leased(store, fake_clock)
    async with keeper_of(store, fake_clock) as keeper:
        with keeper.keeping([lease]):
            time.sleep(0.2)  # the handler blocks the event loop
            assert store.beats >= 3


async def test_an_event_loop_that_is_blocked_past_the_stall_limit_gets_no_more_beats_until_it_moves(
    fake_clock: FakeClock,
) -> None:
    store = WatchedStore()
    lease = await leased(store, fake_clock)
    async with keeper_of(store, fake_clock, stall_limit=0.15) as keeper:
        with keeper.keeping([lease]):
            await store.next_beat()
            time.sleep(0.4)
            beats = store.beats
            time.sleep(0.1)
            assert store.beats == beats
            await store.next_beat()


async def test_the_error_of_the_block_is_raised_as_it_is(fake_clock: FakeClock) -> None:
    """A task group would put it into a group, for which nobody has an except clause."""
    store = WatchedStore()
    lease = await leased(store, fake_clock)
    error = LookupError("the block's own")
    async with keeper_of(store, fake_clock, lease=1e6) as keeper:
        with pytest.raises(LookupError) as caught, keeper.keeping([lease]):
            raise error
    assert caught.value is error


async def test_the_cancellation_of_the_block_is_nobodys_error(fake_clock: FakeClock) -> None:
    store = WatchedStore()
    lease = await leased(store, fake_clock)
    async with keeper_of(store, fake_clock, lease=1e6) as keeper:
        with anyio.CancelScope() as scope, keeper.keeping([lease]):
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught


def test_when_every_thread_hangs_a_beat_is_refused_at_once() -> None:
    go = threading.Event()

    def hang(leases: Any) -> Any:
        go.wait(30)
        return []

    heart = Heart(hang)
    for _ in range(3):
        with pytest.raises(Unanswered, match="no answer within"):
            heart.beat([], patience=0.01)
    with pytest.raises(Unanswered, match="3 calls before have not returned"):
        heart.beat([], patience=0.01)
    go.set()
    heart.stop()


def test_stopping_ends_the_wait_for_a_beat_that_hangs() -> None:
    go, began = threading.Event(), threading.Event()

    def hang(leases: Any) -> Any:
        began.set()
        go.wait(30)
        return []

    heart = Heart(hang)

    def stop() -> None:
        began.wait(30)
        heart.stop()

    threading.Thread(target=stop).start()
    begun = time.monotonic()
    with pytest.raises(Unanswered):
        heart.beat([], patience=30)
    assert time.monotonic() - begun < 10
    go.set()
