"""The rows of the processes that share a store, and deliveries that nobody handles."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import anyio
from letters import build_letter_in
from tests.dlq.fakes import FakeBus

from eventbus import EventBus
from eventbus.testing import FakeClock
from eventbus_dlq import DeadLetterQueue, DeadLetterState, MemoryStore, StoreUnavailable
from eventbus_dlq.processes import Announcer


class JumpingClock(FakeClock):
    """A clock whose wall time jumps without any time passing."""

    jump = timedelta(0)

    def time_ns(self) -> int:
        return super().time_ns() + int(self.jump.total_seconds() * 1e9)


class Asked(MemoryStore):
    """A store that notes since when handlers are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.since: list[datetime] = []

    async def exhaust_unhandled(self, *, since: datetime, now: datetime) -> Sequence[str]:
        self.since.append(since)
        return await super().exhaust_unhandled(since=since, now=now)


async def test_a_bus_announces_itself_beats_and_withdraws(store: MemoryStore, fake_clock: FakeClock) -> None:
    bus = EventBus(name="shop", dlq=DeadLetterQueue(store, clock=fake_clock))

    @bus.on("job", id="handler", aliases=("old",))
    async def handler(event: Any) -> None: ...

    async with bus:
        (process,) = await store.processes()
        assert (process.name, process.host, process.pid) == ("shop", socket.gethostname(), os.getpid())
        assert process.handlers == ("handler", "old")
        assert process.started_at == process.beat_at == fake_clock.now
        bus.subscribe("job", handler, id="later")
        await anyio.wait_all_tasks_blocked()
        fake_clock.advance(10)
        await anyio.wait_all_tasks_blocked()
        (process,) = await store.processes()
        assert process.handlers == ("handler", "later", "old")
        assert process.beat_at == fake_clock.now == process.started_at + timedelta(seconds=10)
    assert await store.processes() == []


async def test_every_start_of_a_bus_is_a_process_of_its_own(store: MemoryStore) -> None:
    bus = EventBus(dlq=DeadLetterQueue(store))
    ids = set[str]()
    for _ in range(2):
        async with bus:
            ids |= {it.id for it in await store.processes()}
    assert len(ids) == 2


async def test_a_store_that_is_away_for_a_moment_keeps_no_bus_from_starting_and_stopping() -> None:
    class Away(MemoryStore):
        async def announce(self, process: Any) -> None:
            raise StoreUnavailable("gone")

        async def withdraw(self, process_id: str) -> None:
            raise StoreUnavailable("gone")

    async with EventBus(dlq=DeadLetterQueue(Away())) as bus:
        assert bus.running


async def test_what_nobody_has_handled_for_an_hour_is_exhausted_and_told(
    store: MemoryStore, fake_clock: FakeClock
) -> None:
    bus: Any = FakeBus({"mine": None})
    created = fake_clock.now - timedelta(hours=3)
    for name in ("mine", "gone"):
        letter = build_letter_in(
            DeadLetterState.ACCEPTED, id=name, handler_id=name, error=None, created_at=created
        )
        await store.accept([letter])
    moved: list[tuple[str, datetime | None]] = []

    def note(state: DeadLetterState, retry_at: datetime | None) -> None:
        moved.append((state, retry_at))

    announcer = Announcer(store=store, bus=bus, clock=fake_clock, process_id="me", moved=note)
    for _ in range(59):
        await announcer.announce()
        await announcer.exhaust_unhandled()
        fake_clock.advance(60)
    assert (await store.get("gone")).state == "accepted"  # others get an hour to come back, like us
    fake_clock.advance(60)
    await announcer.announce()
    await announcer.exhaust_unhandled()
    assert ((await store.get("gone")).state, (await store.get("gone")).reason) == ("exhausted", "unhandled")
    assert (await store.get("mine")).state == "accepted"
    assert moved == [("exhausted", None)]


async def test_a_jump_of_the_wall_clock_exhausts_nothing() -> None:
    store, clock = Asked(), JumpingClock()
    bus: Any = FakeBus({"mine": None})
    announcer = Announcer(
        store=store, bus=bus, clock=clock, process_id="me", moved=lambda state, retry_at: None
    )
    clock.advance(3600)
    await announcer.exhaust_unhandled()
    assert len(store.since) == 1
    clock.jump = timedelta(hours=1)
    await announcer.exhaust_unhandled()
    clock.advance(3599)
    await announcer.exhaust_unhandled()
    assert len(store.since) == 1
    clock.advance(1)
    await announcer.exhaust_unhandled()
    assert len(store.since) == 2
    assert store.since[1] == datetime.fromtimestamp(clock.time_ns() / 1e9, clock.now.tzinfo) - timedelta(
        hours=1
    )


async def test_an_outage_of_the_store_exhausts_nothing_of_those_that_come_back_later() -> None:
    store, clock = Asked(), FakeClock()
    bus: Any = FakeBus({"mine": None})
    announcer = Announcer(
        store=store, bus=bus, clock=clock, process_id="me", moved=lambda state, retry_at: None
    )
    for _ in range(360):
        clock.advance(10)
        await announcer.announce()
    await announcer.exhaust_unhandled()
    assert len(store.since) == 1
    clock.advance(3600)  # nobody can announce, and this process is the first that can again
    await announcer.announce()
    await announcer.exhaust_unhandled()
    assert len(store.since) == 1
    for _ in range(360):
        clock.advance(10)
        await announcer.announce()
    await announcer.exhaust_unhandled()
    assert len(store.since) == 2


async def test_a_running_bus_looks_once_a_minute(fake_clock: FakeClock) -> None:
    store = Asked()
    async with EventBus(dlq=DeadLetterQueue(store, clock=fake_clock)):
        await anyio.wait_all_tasks_blocked()
        for _ in range(61):
            fake_clock.advance(60)
            await anyio.wait_all_tasks_blocked()
    assert [it.timestamp() for it in store.since] == [
        (fake_clock.now - timedelta(hours=1, minutes=1)).timestamp(),
        (fake_clock.now - timedelta(hours=1)).timestamp(),
    ]
