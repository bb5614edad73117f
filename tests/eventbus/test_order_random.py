"""Random publishes, failures and cancellations: whatever happens, each key keeps its order."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Literal, TypeAlias

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keeping import KeepingDlq

from eventbus import EventBus

Act: TypeAlias = Literal["publish", "enqueue", "succeed", "fail", "cancel", "settle"]
ACTS: tuple[Act, ...] = (
    "publish",
    "publish",
    "publish",
    "enqueue",
    "enqueue",
    "succeed",
    "fail",
    "cancel",
    "settle",
)


class World:
    """A bus with one handler, and what is known of every event."""

    def __init__(self, workers: int) -> None:
        self.dlq = KeepingDlq()
        self.bus = EventBus(dlq=self.dlq, enqueue_concurrency=workers)  # type: ignore[arg-type]  # a stand-in
        self.bus.on("step", id="step", ordering_key="key")(self.step)
        self.published: list[tuple[str, int]] = []
        self.running: dict[int, str] = {}
        self.succeeded: set[int] = set()
        self.ends: dict[int, anyio.Event] = defaultdict(anyio.Event)
        self.failing: set[int] = set()
        self.scopes: dict[int, anyio.CancelScope] = {}
        self.receipts: dict[int, Any] = {}
        self.began: set[int] = set()
        self.wrong: list[str] = []

    async def step(self, event: dict[str, Any]) -> None:
        key, number = event["key"], event["number"]
        if key in self.running.values():
            self.wrong.append(f"{number} ran beside another one")
        if number in self.began:
            self.wrong.append(f"{number} ran twice")
        earlier = {other for of, other in self.published if of == key and other < number}
        if not earlier <= self.succeeded:
            self.wrong.append(f"{number} ran before an earlier one, or past a stored one")
        self.began.add(number)
        self.running[number] = key
        try:
            await self.ends[number].wait()
            if number in self.failing:
                raise ValueError("as asked")
            self.succeeded.add(number)
        finally:
            del self.running[number]

    async def publish(self, key: str, number: int) -> None:
        with anyio.CancelScope() as scope:
            self.scopes[number] = scope
            self.published.append((key, number))
            self.receipts[number] = await self.bus.publish("step", {"key": key, "number": number})

    async def enqueue(self, key: str, number: int) -> None:
        self.published.append((key, number))
        self.receipts[number] = await self.bus.enqueue("step", {"key": key, "number": number})

    def end(self, pick: int, *, failing: bool) -> None:
        numbers = sorted(self.running)
        if numbers:
            number = numbers[pick % len(numbers)]
            if failing:
                self.failing.add(number)
            self.ends[number].set()

    def check(self) -> None:
        """Nothing is lost or stored twice, and what never ran is stored in the order of being published."""
        assert self.wrong == []
        kept = [(it.payload["key"], it.payload["number"]) for it in self.dlq.kept]
        assert sorted(number for _, number in kept) == sorted({number for _, number in kept})
        assert self.succeeded | {number for _, number in kept} == {number for _, number in self.published}
        assert not self.succeeded & {number for _, number in kept}
        for key in "ab":
            never_ran = [number for of, number in kept if of == key and number not in self.began]
            assert never_ran == [n for of, n in self.published if of == key and n in set(never_ran)]
        for number, receipt in self.receipts.items():
            state = receipt.deliveries["step"].state
            assert (state == "succeeded") == (number in self.succeeded)


async def play(acts: list[tuple[Act, str, int]], workers: int) -> None:
    world = World(workers)
    with anyio.fail_after(10):
        async with world.bus, anyio.create_task_group() as group:
            for number, (act, key, pick) in enumerate(acts):
                match act:
                    case "publish":
                        # trio begins tasks in any order: this one is to have its number's place
                        group.start_soon(world.publish, key, number)
                        while not any(number == other for _, other in world.published):
                            await anyio.lowlevel.checkpoint()
                    case "enqueue":
                        await world.enqueue(key, number)
                    case "succeed" | "fail":
                        world.end(pick, failing=act == "fail")
                    case "cancel":
                        numbers = sorted(world.scopes)
                        if numbers:
                            world.scopes[numbers[pick % len(numbers)]].cancel()
                    case "settle":
                        await anyio.wait_all_tasks_blocked()
            for number in range(len(acts)):
                world.ends[number].set()
        assert world.bus._core is None
    world.check()


@pytest.mark.repetitive
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=150)
@given(
    acts=st.lists(
        st.tuples(st.sampled_from(ACTS), st.sampled_from("aab"), st.integers(min_value=0, max_value=5)),
        max_size=25,
    ),
    workers=st.integers(min_value=1, max_value=3),
)
def test_each_key_keeps_its_order_whatever_happens(
    backend: str, acts: list[tuple[Act, str, int]], workers: int
) -> None:
    anyio.run(play, acts, workers, backend=backend)
