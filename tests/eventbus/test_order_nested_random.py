"""Random trees of events that publish events: nobody waits for itself, and nothing is lost or run twice."""

from __future__ import annotations

import itertools
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keeping import KeepingDlq

from eventbus import EventBus

Tree = tuple[str, str, bool, list[Any]]
"""To which handler, under which key, whether it is enqueued, and what its handler publishes in turn."""

leaves = st.tuples(st.sampled_from(["left", "right"]), st.sampled_from("ab"), st.booleans(), st.just([]))
trees = st.recursive(
    leaves,
    lambda inner: st.tuples(
        st.sampled_from(["left", "right", "free"]),
        st.sampled_from("ab"),
        st.booleans(),
        st.lists(inner, min_size=1, max_size=2),
    ),
    max_leaves=6,
)


class World:
    """Two handlers that keep an order and one that does not; all publish what their event says."""

    def __init__(self, *, with_dlq: bool, workers: int) -> None:
        self.dlq = KeepingDlq() if with_dlq else None
        self.bus = EventBus(dlq=self.dlq, enqueue_concurrency=workers, shutdown_grace=1.0)  # type: ignore[arg-type]  # a stand-in
        for name in ("left", "right"):
            self.bus.on(name, id=name, ordering_key="key")(self._handler(name))
        self.bus.on("free", id="free")(self._handler("free"))
        self.numbers = itertools.count()
        self.published: set[int] = set()
        self.ran: list[int] = []
        self.failed: set[int] = set()
        self.now: set[tuple[str, str]] = set()
        self.wrong: list[str] = []

    def _handler(self, name: str) -> Any:
        async def handler(event: dict[str, Any]) -> None:
            place = (name, event["key"])
            if name != "free":
                if place in self.now:
                    self.wrong.append(f"two ran at a time: {place}")
                self.now.add(place)
            self.ran.append(event["number"])
            await anyio.lowlevel.checkpoint()
            for tree in event["trees"]:
                await self.send(tree)
            self.now.discard(place)

        return handler

    async def send(self, tree: Tree) -> None:
        name, key, enqueued, trees = tree
        number = next(self.numbers)
        self.published.add(number)
        send = self.bus.enqueue if enqueued else self.bus.publish
        receipt = await send(name, {"key": key, "number": number, "trees": trees})
        if receipt.deliveries[name].state == "failed":
            self.failed.add(number)


async def play(roots: list[Tree], with_dlq: bool, workers: int) -> None:
    world = World(with_dlq=with_dlq, workers=workers)
    with anyio.fail_after(5):
        async with world.bus:
            async with anyio.create_task_group() as group:
                for root in roots:
                    group.start_soon(world.send, root)
            await world.bus.wait_idle()
            core = world.bus._core
            assert core is not None
            assert len(core.turns.lines) == 0
            assert not core.turns.lines.nested
    kept = [] if world.dlq is None else [it.payload["number"] for it in world.dlq.kept]
    ended = [*world.ran, *kept, *world.failed]
    assert world.wrong == []
    assert sorted(ended) == sorted(world.published)
    if with_dlq:
        assert not world.failed


@pytest.mark.repetitive
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("with_dlq", [True, False])
@settings(max_examples=60)
@given(
    roots=st.lists(trees, min_size=1, max_size=5),
    workers=st.integers(min_value=1, max_value=3),
)
def test_events_that_publish_events_never_wait_for_themselves(
    backend: str, with_dlq: bool, roots: list[Tree], workers: int
) -> None:
    anyio.run(play, roots, with_dlq, workers, backend=backend)
