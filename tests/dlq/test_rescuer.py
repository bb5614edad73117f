"""Taking letters back from the dead, and from nobody else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import anyio
import pytest
from letters import build_letter, build_letter_in
from tests.dlq.fakes import FakeBus, WallClock

from eventbus import EventBus
from eventbus.testing import FakeClock
from eventbus_dlq import (
    Claim,
    DeadLetterQueue,
    DeadLetterState,
    Leased,
    MemoryStore,
    StoreLocked,
    StoreUnavailable,
)
from eventbus_dlq.leases import LeaseKeeper
from eventbus_dlq.rescuer import Rescuer, rescue_interval


class JudgingStore(MemoryStore):
    """A store with a clock of its own, which a wall clock that jumps does not touch."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self.clock = clock

    @property
    def judges_leases(self) -> bool:
        return True

    async def leased(self, *, now: datetime, owner: str | None = None) -> Sequence[Leased]:
        leased = await super().leased(now=self.clock.now)
        judged = [replace(it, expired=it.lease_until <= self.clock.now) for it in leased]
        return [it for it in judged if it.expired]


class Watch:
    """A rescuer whose monotonic clock a test turns, beside a wall clock that jumps as it likes.

    Attributes:
        writable: whether the store takes writes.
        write_takes: seconds that its next write takes.
    """

    def __init__(self, store: MemoryStore, *, max_crashes: int = 3) -> None:
        self.store = store
        self.bus: Any = FakeBus()
        self.wall = FakeClock()
        self.monotonic = 1_000.0
        self.woken = 0
        self.moved: list[tuple[str, Any]] = []
        self.writable = True
        self.write_takes = 0.0
        self.keeper = LeaseKeeper(store, clock=self.wall, lease=30)
        self.rescuer = Rescuer(
            store=store,
            bus=self.bus,
            keeper=self.keeper,
            clock=self.wall,
            beat=self.write,
            lease=30,
            max_crashes=max_crashes,
            rescued=self.wake,
            moved=lambda state, retry_at: self.moved.append((state, retry_at)),
            monotonic=lambda: self.monotonic,
        )

    def wake(self) -> None:
        self.woken += 1

    async def write(self) -> None:
        if not self.writable:
            raise StoreUnavailable("database is locked")
        self.monotonic += self.write_takes
        self.write_takes = 0.0

    async def look(self, *, after: float) -> None:
        self.monotonic += after
        await self.rescuer.rescue()

    async def is_refused(self, *, after: float) -> None:
        self.writable = False
        with pytest.raises(StoreUnavailable):
            await self.look(after=after)
        self.writable = True

    async def state(self, claim: Claim) -> tuple[str, int]:
        letter = await self.store.get(claim.letter.id)
        return letter.state, letter.crashes

    async def claim(self, **overrides: Any) -> Claim:
        letter = build_letter(**overrides)
        await self.store.add([letter])
        (claim,) = await self.store.claim([letter.id], owner="other", lease=30, now=self.wall.now)
        assert isinstance(claim, Claim)
        return claim


def test_looks_are_ten_seconds_apart_or_a_third_of_a_short_lease() -> None:
    assert [rescue_interval(lease) for lease in (30, 300, 3)] == [10, 10, 1]


async def test_letters_that_a_transaction_holds_do_not_keep_the_others_from_being_rescued() -> None:
    class HeldUp(MemoryStore):
        held_up = ""

        async def rescue(self, leased: Sequence[Leased], **options: Any) -> Any:
            if any(it.dead_letter_id == self.held_up for it in leased):
                raise StoreLocked("somebody's transaction is open", frozenset({self.held_up}))
            return await super().rescue(leased, **options)

    store = HeldUp()
    watch = Watch(store)
    store.held_up, other = (await watch.claim()).letter.id, (await watch.claim()).letter.id
    for _ in range(5):
        await watch.look(after=10)
    assert (await store.get(other)).state == "pending"
    assert (await store.get(store.held_up)).state == "running"
    store.held_up, held_up = "", store.held_up
    await watch.look(after=10)
    assert (await store.get(held_up)).state == "pending"


async def test_an_owner_that_stood_still_for_a_whole_lease_is_dead(store: MemoryStore) -> None:
    watch = Watch(store)
    claim = await watch.claim()
    for after in (0, 10, 10, 9.9):
        await watch.look(after=after)
    assert (await store.get(claim.letter.id)).state == "running"
    await watch.look(after=0.1)
    letter = await store.get(claim.letter.id)
    assert (letter.state, letter.crashes, letter.attempts) == ("pending", 1, 2)
    assert watch.bus.names() == ["dead_letter.rescued"]
    assert watch.bus.seen[0].fields["crashes"] == 1
    assert watch.woken == 1


async def test_an_owner_that_beats_is_alive_for_ever(store: MemoryStore) -> None:
    watch = Watch(store)
    claim = await watch.claim()
    for _ in range(20):
        await watch.look(after=10)
        watch.wall.advance(1)
        assert store.heartbeat([claim.lease], lease=30, now=watch.wall.now) == []
    assert (await store.get(claim.letter.id)).state == "running"
    assert watch.bus.seen == []


async def test_a_new_claim_of_the_same_letter_is_watched_anew(store: MemoryStore) -> None:
    watch = Watch(store)
    claim = await watch.claim()
    for after in (0, 10, 10):
        await watch.look(after=after)
    await store.release([claim.lease], now=watch.wall.now)
    await store.claim([claim.letter.id], owner="another", lease=30, now=watch.wall.now)
    for after in (9, 10, 10):
        await watch.look(after=after)
    assert (await store.get(claim.letter.id)).lease_owner == "another"


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
async def test_a_wall_clock_that_jumps_costs_nobody_a_lease(store: MemoryStore, jump: float) -> None:
    watch = Watch(store)
    watch.wall = FakeClock(watch.wall.now + timedelta(hours=2))
    claim = await watch.claim()
    watch.rescuer._clock = FakeClock(watch.wall.now + timedelta(seconds=jump))
    for _ in range(4):
        await watch.look(after=9)
        assert (await store.get(claim.letter.id)).state == "running"
    await watch.look(after=9)
    assert (await store.get(claim.letter.id)).state == "pending"


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
async def test_a_running_bus_survives_a_jump_of_the_wall_clock(store: MemoryStore, jump: float) -> None:
    clock = WallClock()
    clock.jump = 7200.0
    seen: list[Any] = []
    bus = EventBus(dlq=DeadLetterQueue(store, clock=clock, lease=0.15), observers=[seen.append])
    other = EventBus(dlq=DeadLetterQueue(store, clock=clock, lease=0.15))

    @bus.on("job", id="handler", durable=True)
    async def handler(event: Any) -> None:
        clock.jump += jump
        await anyio.sleep(0.4)

    async with other, bus:
        await bus.publish("job", 1)
        with anyio.fail_after(10):
            await bus.wait_idle()
        assert (await bus.stats()).total == 0
    assert not [it.name for it in seen if it.name in ("lease.lost", "dead_letter.rescued")]


async def test_time_in_which_the_rescuer_itself_was_frozen_hardly_counts(store: MemoryStore) -> None:
    """Both were stopped with the machine: the owner is about to beat."""
    watch = Watch(store)
    claim = await watch.claim()
    for after in (0, 10, 600, 10):
        await watch.look(after=after)
    assert await watch.state(claim) == ("running", 0)
    await watch.look(after=10)
    assert await watch.state(claim) == ("pending", 1)


async def test_a_judging_stores_word_has_to_wait_when_the_rescuer_itself_was_frozen() -> None:
    clock = FakeClock()
    store = JudgingStore(clock)
    watch = Watch(store)
    for after in (0, 10, 10, 10):
        await watch.look(after=after)
    claim = await watch.claim()
    clock.advance(600)
    for after in (600, 10, 10):
        await watch.look(after=after)
        assert await watch.state(claim) == ("running", 0)
    await watch.look(after=10)
    assert await watch.state(claim) == ("pending", 1)


@pytest.mark.parametrize("judges", [False, True])
@pytest.mark.parametrize(("late", "looks"), [(19, 3), (21, 6), (600, 6)])
async def test_looks_that_come_late_all_the_time_rescue_too(judges: bool, late: float, looks: int) -> None:
    """Of the time between two of them no more counts than there should have been."""
    clock = FakeClock()
    store = JudgingStore(clock) if judges else MemoryStore()
    watch = Watch(store)
    claim = await watch.claim()
    clock.advance(60)
    await watch.look(after=0)
    for _ in range(looks):
        assert await watch.state(claim) == ("running", 0)
        await watch.look(after=late)
    assert await watch.state(claim) == ("pending", 1)


@pytest.mark.parametrize("lasts", [1, 2, 5, 60])
async def test_an_outage_of_writes_gives_the_living_a_whole_lease_to_beat_again(
    store: MemoryStore, lasts: int
) -> None:
    watch = Watch(store)
    claim = await watch.claim()
    for after in (0, 10, 10):
        await watch.look(after=after)
    for _ in range(lasts):
        await watch.is_refused(after=10)
    for after in (1, 10, 10):
        await watch.look(after=after)
        assert await watch.state(claim) == ("running", 0)
    await watch.look(after=10)
    assert await watch.state(claim) == ("pending", 1)


@pytest.mark.parametrize("outage", [1.0, 10.0, 15.0, 20.0, 29.0, 60.0])
async def test_when_a_write_has_waited_for_the_end_of_an_outage_the_living_have_another_interval(
    store: MemoryStore, outage: float
) -> None:
    """The outage begins when they were about to beat again."""
    watch = Watch(store)
    claim = await watch.claim()
    for after in (0, 10):
        await watch.look(after=after)
    watch.write_takes = max(0.0, outage - 10)
    await watch.look(after=10)
    assert await watch.state(claim) == ("running", 0)
    watch.wall.advance(1)
    assert store.heartbeat([claim.lease], lease=30, now=watch.wall.now) == []
    for _ in range(3):
        await watch.look(after=10)
        assert await watch.state(claim) == ("running", 0)
    await watch.look(after=10)
    assert await watch.state(claim) == ("pending", 1)


async def test_outages_one_after_another_charge_no_crash_to_those_who_beat_between_them(
    store: MemoryStore,
) -> None:
    watch = Watch(store, max_crashes=3)
    claim = await watch.claim()
    for _ in range(4):
        for after in (0.5, 10, 10, 10):
            await watch.look(after=after)
            watch.wall.advance(1)
            assert store.heartbeat([claim.lease], lease=30, now=watch.wall.now) == []
        for _ in range(9):
            await watch.is_refused(after=5)
    assert await watch.state(claim) == ("running", 0)


async def test_a_look_or_a_rescue_that_fails_is_an_outage_too() -> None:
    class Failing(MemoryStore):
        fails = ""

        async def leased(self, **options: Any) -> Sequence[Leased]:
            if self.fails == "leased":
                raise StoreUnavailable("gone")
            return await super().leased(**options)

        async def rescue(self, leased: Sequence[Leased], **options: Any) -> Any:
            if self.fails == "rescue":
                raise StoreUnavailable("gone")
            return await super().rescue(leased, **options)

    for fails in ("leased", "rescue"):
        store = Failing()
        watch = Watch(store)
        claim = await watch.claim()
        for after in (0, 10, 10):
            await watch.look(after=after)
        store.fails = fails
        with pytest.raises(StoreUnavailable):
            await watch.look(after=10)
        store.fails = ""
        for after in (1, 10, 10):
            await watch.look(after=after)
            assert await watch.state(claim) == ("running", 0)
        await watch.look(after=10)
        assert await watch.state(claim) == ("pending", 1)


async def test_its_own_live_leases_are_never_rescued(store: MemoryStore) -> None:
    watch = Watch(store)
    claim = await watch.claim()
    watch.keeper.watch(claim.lease, lambda: None)
    for _ in range(10):
        await watch.look(after=10)
    assert (await store.get(claim.letter.id)).state == "running"
    watch.keeper.forget(claim.lease)  # such as a claim whose answer was lost
    for _ in range(4):
        await watch.look(after=10)
    assert (await store.get(claim.letter.id)).state == "pending"


async def test_a_store_that_judges_is_believed_once_it_has_been_watched_for_a_lease() -> None:
    clock = FakeClock()
    store = JudgingStore(clock)
    watch = Watch(store)
    for after in (0, 10, 10, 10):
        await watch.look(after=after)
    dead, own = await watch.claim(), await watch.claim()
    watch.keeper.watch(own.lease, lambda: None)
    clock.advance(29)
    await watch.look(after=10)
    assert await watch.state(dead) == ("running", 0)
    clock.advance(2)
    await watch.look(after=10)
    assert await watch.state(dead) == ("pending", 1)
    assert await watch.state(own) == ("running", 0)


@pytest.mark.parametrize("refused", [0, 1, 7])
async def test_when_a_store_that_judges_is_back_the_living_have_a_whole_lease_to_beat_again(
    refused: int,
) -> None:
    """A rescuer that has just started does not know how long it has been back."""
    clock = FakeClock()
    store = JudgingStore(clock)
    watch = Watch(store)
    dead, alive = await watch.claim(), await watch.claim()
    clock.advance(3_600)
    for after in (0, 10, 10, 10)[: refused * 4]:
        await watch.is_refused(after=after)
    for after in (1, 10, 10):
        await watch.look(after=after)
        assert await watch.state(dead) == ("running", 0)
    assert store.heartbeat([alive.lease], lease=30, now=clock.now) == []
    await watch.look(after=10)
    assert await watch.state(dead) == ("pending", 1)
    assert await watch.state(alive) == ("running", 0)


async def test_at_max_crashes_it_is_poison_and_told_as_exhausted(store: MemoryStore) -> None:
    watch = Watch(store, max_crashes=1)
    claim = await watch.claim()
    for after in (0, 10, 10, 10):
        await watch.look(after=after)
    letter = await store.get(claim.letter.id)
    assert (letter.state, letter.reason) == ("exhausted", "poison")
    assert watch.bus.names() == ["dead_letter.rescued"]
    assert watch.moved == [("exhausted", None)]


async def test_a_letter_that_settled_meanwhile_is_left_alone(store: MemoryStore) -> None:
    watch = Watch(store)
    claim = await watch.claim()
    for after in (0, 10, 10):
        await watch.look(after=after)
    rescue = store.rescue

    async def late(leased: Any, **options: Any) -> Any:
        await store.release([claim.lease], now=watch.wall.now)
        return await rescue(leased, **options)

    store.rescue = late  # type: ignore[method-assign]
    await watch.look(after=10)
    assert (await store.get(claim.letter.id)).crashes == 0
    assert watch.bus.seen == []
    assert watch.woken == 0


async def test_a_bus_without_a_worker_rescues_too_and_goes_on_when_the_store_was_away() -> None:
    class Flaky(MemoryStore):
        away = 2

        async def leased(self, *, now: datetime, owner: str | None = None) -> Sequence[Leased]:
            self.away -= 1
            if self.away >= 0:
                raise StoreUnavailable("gone")
            return await super().leased(now=now)

    store = Flaky()
    await store.add([build_letter_in(DeadLetterState.RUNNING, id="dead")])
    bus = EventBus(dlq=DeadLetterQueue(store, worker=False, lease=0.03))
    async with bus:
        with anyio.fail_after(10):
            while (await store.get("dead")).state == "running":
                await anyio.sleep(0.005)
    assert (await store.get("dead")).crashes == 1
