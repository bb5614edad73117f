"""Which sequences are blocked, as a process knows it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from letters import build_letter
from tests.dlq.fakes import FakeBus

from eventbus import EventBus
from eventbus.testing import FakeClock
from eventbus_dlq import DeadLetter, DeadLetterQueue, MemoryStore, SequenceKey, StoreUnavailable
from eventbus_dlq.sequences import BlockedSequences

KEY = ("billing.charge", "order-1")


class Slow(MemoryStore):
    """A store whose answer takes as long as the test wants, and that can be away."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.answer: anyio.Event | None = None
        self.away = False

    async def blocked(self, handlers: Collection[str]) -> frozenset[SequenceKey]:
        self.asked += 1
        if self.away:
            raise StoreUnavailable("gone")
        found = await super().blocked(handlers)
        if self.answer is not None:
            await self.answer.wait()
        return found


async def test_what_is_stored_is_blocked_until_it_is_resolved() -> None:
    store, bus = Slow(), FakeBus()
    blocked = BlockedSequences(store)
    letter = build_letter(ordering_key="order-1")
    await store.add([letter])
    assert not blocked.is_blocked(*KEY)
    await blocked.refresh(bus)  # type: ignore[arg-type]
    assert blocked.is_blocked(*KEY)
    assert not blocked.is_blocked("billing.charge", "order-2")
    await store.delete(letter.id)
    await blocked.refresh(bus)  # type: ignore[arg-type]
    assert not blocked.is_blocked(*KEY)


async def test_what_this_process_stores_is_blocked_at_once_and_until_a_look_has_seen_it() -> None:
    store, bus = Slow(), FakeBus()
    blocked = BlockedSequences(store)
    with blocked.storing([build_letter(ordering_key="order-1"), build_letter(ordering_key="order-1")]):
        assert blocked.is_blocked(*KEY)
    assert blocked.is_blocked(*KEY)
    await blocked.refresh(bus)  # type: ignore[arg-type]
    assert not blocked.is_blocked(*KEY)  # nothing was stored under it


async def test_a_look_that_began_before_the_row_was_there_frees_nothing() -> None:
    store, bus = Slow(), FakeBus()
    blocked = BlockedSequences(store)
    store.answer = anyio.Event()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(blocked.refresh, bus)
            await anyio.wait_all_tasks_blocked()
            with blocked.storing([build_letter(ordering_key="order-1")]):
                pass
            store.answer.set()
    assert blocked.is_blocked(*KEY)


async def test_letters_without_a_key_block_nothing() -> None:
    blocked = BlockedSequences(MemoryStore())
    with blocked.storing([build_letter()]):
        assert not blocked.is_blocked("billing.charge", "None")


async def test_a_store_that_is_away_frees_nothing() -> None:
    store, bus = Slow(), FakeBus()
    blocked = BlockedSequences(store)
    with blocked.storing([build_letter(ordering_key="order-1")]):
        pass
    store.away = True
    with pytest.raises(StoreUnavailable):
        await blocked.refresh(bus)  # type: ignore[arg-type]
    assert blocked.is_blocked(*KEY)


async def test_what_waits_in_the_spool_is_blocked_until_a_look_after_its_import() -> None:
    store, bus = Slow(), FakeBus()
    spooling = True
    blocked = BlockedSequences(store, is_spooling=lambda: spooling)
    letter = build_letter(ordering_key="order-1")
    with blocked.storing([letter]):
        pass
    for _ in range(2):
        await blocked.refresh(bus)  # type: ignore[arg-type]
        assert blocked.is_blocked(*KEY)
    await store.add([letter])  # the import
    spooling = False
    await blocked.refresh(bus)  # type: ignore[arg-type]
    await store.delete(letter.id)
    assert blocked.is_blocked(*KEY)
    await blocked.refresh(bus)  # type: ignore[arg-type]
    assert not blocked.is_blocked(*KEY)


class NotYet(MemoryStore):
    """A store that is away for everything that is to be written."""

    async def add(self, letters: Sequence[DeadLetter]) -> Sequence[str]:
        raise StoreUnavailable("gone")

    async def import_spool(self, *arguments: Any, **options: Any) -> bool:
        raise StoreUnavailable("gone")


async def test_a_transient_delivery_does_not_pass_a_failure_that_is_in_the_spool(
    tmp_path: Path, fake_clock: FakeClock
) -> None:
    bus = EventBus(
        dlq=DeadLetterQueue(NotYet(), capture_timeout=0, spool=tmp_path / "spool", clock=fake_clock)
    )
    seen: list[int] = []

    @bus.on("job", id="handler", ordering_key=lambda event: "k")
    async def handler(event: int) -> None:
        seen.append(event)
        if event == 0:
            raise RuntimeError("fails")

    async with bus:
        await bus.publish("job", 0)
        for _ in range(3):  # looks at a store that can be read, and does not know of it yet
            await anyio.wait_all_tasks_blocked()
            fake_clock.advance(1)
        await anyio.wait_all_tasks_blocked()
        await bus.publish("job", 1)
    assert seen == [0]


async def test_a_failure_whose_publisher_was_cancelled_is_not_passed_while_it_is_being_stored(
    fake_clock: FakeClock,
) -> None:
    bus = EventBus(dlq=DeadLetterQueue(NotYet(), capture_timeout=0.5, clock=fake_clock))

    @bus.on("job", id="handler", ordering_key=lambda event: "k")
    async def handler(event: int) -> None:
        raise RuntimeError("fails")

    async with bus:
        async with anyio.create_task_group() as group:
            group.start_soon(bus.publish, "job", 0)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        for _ in range(3):
            await anyio.wait_all_tasks_blocked()
            fake_clock.advance(1)
        await anyio.wait_all_tasks_blocked()
        assert bus.dlq.is_blocked("handler", "k")


async def test_a_bus_without_order_never_asks_the_store() -> None:
    store, bus = Slow(), FakeBus()
    bus.ordered_handlers = ()
    await BlockedSequences(store).refresh(bus)  # type: ignore[arg-type]
    assert store.asked == 0


async def test_a_running_bus_learns_within_a_second_what_others_have_stored(fake_clock: FakeClock) -> None:
    store = Slow()
    bus = EventBus(dlq=DeadLetterQueue(store, clock=fake_clock))

    @bus.on("job", id="billing.charge", ordering_key=lambda event: "order-1")
    async def handler(event: Any) -> None: ...

    async with bus:
        await anyio.wait_all_tasks_blocked()
        await store.add([build_letter(ordering_key="order-1")])
        assert not bus.dlq.is_blocked(*KEY)
        fake_clock.advance(1)
        await anyio.wait_all_tasks_blocked()
        assert bus.dlq.is_blocked(*KEY)
    assert not bus.dlq.is_blocked(*KEY)  # a closed queue knows nothing


async def test_the_first_transient_delivery_after_a_failure_of_its_key_is_stored_behind_it(
    store: MemoryStore,
) -> None:
    bus = EventBus(dlq=DeadLetterQueue(store))
    seen: list[int] = []

    @bus.on("job", id="handler", ordering_key=lambda event: "k")
    async def handler(event: int) -> None:
        if event == 0:
            raise RuntimeError("fails")
        seen.append(event)

    async with bus:
        first = await bus.publish("job", 0)
        second = await bus.publish("job", 1)
        assert first.deliveries["handler"].state == "dead_lettered"
        assert second.deliveries["handler"].state == "parked"
        await bus.resolve(str(first.deliveries["handler"].dead_letter_id))
        with anyio.fail_after(10):
            while not seen:
                await anyio.sleep(0.001)
    assert seen == [1]
