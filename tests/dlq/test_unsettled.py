"""What wait_idle waits for: the deliveries that this process has accepted."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from letters import build_letter_in

from eventbus import EventBus
from eventbus_dlq import DeadLetter, DeadLetterQueue, DeadLetterState, MemoryStore, StoreUnavailable
from eventbus_dlq.unsettled import Unsettled


class Found(MemoryStore):
    away = False

    async def get(self, dead_letter_id: str) -> DeadLetter:
        if self.away:
            raise StoreUnavailable("gone")
        return await super().get(dead_letter_id)


def unsettled_of(store: MemoryStore, *, spooling: bool = False) -> Unsettled:
    return Unsettled(store, handlers=lambda: {"billing.charge"}, is_spooling=lambda: spooling)


async def is_idle(unsettled: Unsettled) -> bool:
    with anyio.move_on_after(0.02) as scope:
        await unsettled.wait()
    return not scope.cancelled_caught


async def test_nothing_expected_is_idle_and_what_is_crossed_off_too() -> None:
    unsettled = unsettled_of(MemoryStore())
    assert await is_idle(unsettled)
    unsettled.expect("a")
    unsettled.expect("b")
    assert not await is_idle(unsettled)
    async with anyio.create_task_group() as group:
        group.start_soon(unsettled.wait)
        await anyio.wait_all_tasks_blocked()
        unsettled.cross_off("a")
        unsettled.cross_off("b")
    assert await is_idle(unsettled)


@pytest.mark.parametrize("state", list(DeadLetterState))
async def test_what_others_run_is_waited_for_while_it_is_under_way(state: DeadLetterState) -> None:
    store = MemoryStore()
    letter = build_letter_in(state)
    await store.add([letter])
    unsettled = unsettled_of(store)
    unsettled.expect(letter.id)
    unsettled.leave(set(), unsettled.mark())
    assert await is_idle(unsettled) == (state not in ("accepted", "running"))


async def test_what_is_held_here_or_was_accepted_since_is_not_looked_up() -> None:
    unsettled = unsettled_of(MemoryStore())
    unsettled.expect("held")
    mark = unsettled.mark()
    unsettled.expect("later")
    unsettled.leave({"held"}, mark)
    assert not await is_idle(unsettled)
    unsettled.cross_off("held")
    assert not await is_idle(unsettled)
    unsettled.cross_off("later")
    assert await is_idle(unsettled)


async def test_what_is_unknown_to_the_store_is_over_unless_it_is_on_its_way_there() -> None:
    unsettled = unsettled_of(MemoryStore(), spooling=True)
    unsettled.expect_elsewhere(["spooled"])
    assert not await is_idle(unsettled)
    unsettled._is_spooling = lambda: False
    assert await is_idle(unsettled)


async def test_while_the_store_is_away_it_is_not_known_to_be_idle() -> None:
    store = Found()
    unsettled = unsettled_of(store)
    unsettled.expect_elsewhere(["somewhere"])
    store.away = True
    assert not await is_idle(unsettled)
    store.away = False
    assert await is_idle(unsettled)


async def test_what_no_handler_of_this_process_can_run_is_not_waited_for() -> None:
    store = MemoryStore()
    letter = build_letter_in(DeadLetterState.ACCEPTED, handler_id="elsewhere")
    await store.accept([letter])
    unsettled = unsettled_of(store)
    unsettled.expect_elsewhere([letter.id])
    assert await is_idle(unsettled)


async def test_there_is_an_end_to_how_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventbus_dlq.unsettled._MOST", 3)
    unsettled = unsettled_of(MemoryStore())
    unsettled.expect_elsewhere(str(number) for number in range(10))
    assert list(unsettled._elsewhere) == ["7", "8", "9"]
    for number in range(10, 20):
        unsettled.expect(str(number))
    assert (list(unsettled._elsewhere), list(unsettled._expected)) == (["14", "15", "16"], ["17", "18", "19"])


async def test_at_the_end_everybody_is_let_go() -> None:
    unsettled = unsettled_of(MemoryStore())
    unsettled.expect("a")
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(unsettled.wait)
            await anyio.wait_all_tasks_blocked()
            unsettled.end()


async def test_a_bus_waits_for_what_its_durable_handlers_publish(store: MemoryStore) -> None:
    seen: list[int] = []
    bus = EventBus(dlq=DeadLetterQueue(store, poll=3600))

    @bus.on("job", id="handler", durable=True)
    async def handler(event: int) -> None:
        await anyio.sleep(0.005)
        seen.append(event)
        if event:
            await bus.publish("job", event - 1)

    async with bus:
        await bus.publish("job", 3)
        with anyio.fail_after(10):
            await bus.wait_idle()
    assert seen == [3, 2, 1, 0]


class Overtaken:
    """A store as a process sees it whose claims always come too late."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def claim_due(self, wanted: Any, **options: Any) -> Any:
        return []


async def test_a_bus_waits_for_what_another_process_runs_of_its_own(store: MemoryStore) -> None:
    began, go, seen = anyio.Event(), anyio.Event(), list[Any]()

    def shop(store: Any) -> EventBus:
        bus = EventBus(dlq=DeadLetterQueue(store, poll=0.01))

        @bus.on("job", id="billing.charge", durable=True)
        async def handler(event: Any) -> None:
            began.set()
            await go.wait()
            seen.append(event)

        return bus

    publisher, other = shop(Overtaken(store)), shop(store)
    async with other, publisher:
        await publisher.publish("job", 1)
        with anyio.fail_after(10):
            await began.wait()
            with anyio.move_on_after(0.05) as patience:
                await publisher.wait_idle()
            assert patience.cancelled_caught
            go.set()
            await publisher.wait_idle()
    assert seen == [1]
