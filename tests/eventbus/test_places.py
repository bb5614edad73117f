"""``max_concurrency`` and events that handlers publish: nobody waits for a place that never comes free."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import anyio
import pytest

from eventbus import EventBus


class Handlers:
    """Handlers that publish to each other, and how many of each run at a time.

    An event is the list of whom to publish to: the first runs it and publishes the rest.
    """

    def __init__(self, **limits: int) -> None:
        self.bus = EventBus()
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.gate = anyio.Event()
        for name, limit in limits.items():
            self._subscribe(name, limit)

    def _subscribe(self, name: str, limit: int) -> None:
        async def handler(path: list[str]) -> None:
            self.running[name] += 1
            self.most[name] = max(self.most[name], self.running[name])
            await self.gate.wait()
            if path:
                await self.publish(path)
            self.running[name] -= 1

        self.bus.subscribe(name, handler, id=name, max_concurrency=limit)

    async def publish(self, path: list[str]) -> None:
        (await self.bus.publish(path[0], path[1:])).raise_for_failures()

    async def run(self, *paths: list[str]) -> None:
        """Publish all at once; those that got a place go on when nobody moves any more."""
        with anyio.fail_after(10):
            async with self.bus, anyio.create_task_group() as group:
                for path in paths:
                    group.start_soon(self.publish, path)
                await anyio.wait_all_tasks_blocked()
                self.gate.set()


async def test_two_handlers_that_publish_to_each_other_do_not_wait_for_each_other() -> None:
    handlers = Handlers(a=1, b=1)
    await handlers.run(["a", "b"], ["b", "a"])
    assert sorted(handlers.most.values()) == [1, 2]  # one of them went beside the other


async def test_nor_do_three_in_a_circle() -> None:
    handlers = Handlers(a=1, b=1, c=1)
    await handlers.run(["a", "b"], ["b", "c"], ["c", "a"])
    assert sorted(handlers.most.values()) == [1, 1, 2]


async def test_nor_those_whose_every_place_is_taken_by_one_that_waits() -> None:
    handlers = Handlers(a=2, b=2)
    await handlers.run(["a", "b"], ["a", "b"], ["b", "a"], ["b", "a"])
    assert max(handlers.most.values()) <= 4


async def test_a_place_that_will_come_free_is_waited_for() -> None:
    handlers = Handlers(a=2, b=1)
    await handlers.run(["a", "b"], ["a"], ["b", "a"])
    assert handlers.most == {"a": 2, "b": 1}
    handlers = Handlers(a=1, b=1)
    await handlers.run(["a", "b"], ["a", "b"], ["a"], ["b"])
    assert handlers.most == {"a": 1, "b": 1}


@pytest.mark.parametrize("seed", range(20))
async def test_no_web_of_publishing_handlers_comes_to_a_halt(seed: int) -> None:
    chance = random.Random(seed)
    names = "abcd"[: chance.randint(2, 4)]
    handlers = Handlers(**{name: chance.randint(1, 2) for name in names})

    def path() -> list[Any]:
        return [chance.choice(names) for _ in range(chance.randint(1, 4))]

    await handlers.run(*(path() for _ in range(12)))
    assert not +handlers.running
