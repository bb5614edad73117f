"""What operators have set, as one process learns it: newer answers count, whatever order they come in."""

from __future__ import annotations

from dataclasses import replace

import anyio
import structlog

from eventbus_dlq import Configuration, MemoryStore
from eventbus_dlq.configuring import Configuring


class Answering(MemoryStore):
    """A store with a version that the test sets, and whose answers wait until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.version = 0
        self.goes_on = anyio.Event()

    async def configuration(self, *, known: int | None = None) -> Configuration | None:
        answer = None if self.version == known else replace(Configuration(), version=self.version)
        await self.goes_on.wait()
        return answer


async def test_each_newer_one_is_told_once() -> None:
    store, told = Answering(), list[int]()
    store.goes_on.set()
    configuring = Configuring(store)
    configuring.listen(lambda it: told.append(it.version))
    for version in (0, 2, 2, 3):
        store.version = version
        assert (await configuring.refresh()).version == version
    assert told == [2, 3]


async def test_an_answer_that_was_overtaken_changes_nothing() -> None:
    store, told = Answering(), list[int]()
    configuring = Configuring(store)
    configuring.listen(lambda it: told.append(it.version))
    store.version = 1
    async with anyio.create_task_group() as group:
        group.start_soon(configuring.refresh)
        await anyio.wait_all_tasks_blocked()
        configuring.take(Configuration(version=2))
        store.goes_on.set()
    assert (configuring.current.version, told) == (2, [2])


async def test_a_store_that_was_put_back_to_an_earlier_state_is_followed() -> None:
    store, told = Answering(), list[int]()
    store.goes_on.set()
    configuring = Configuring(store)
    configuring.listen(lambda it: told.append(it.version))
    configuring.take(Configuration(version=57))
    store.version = 4
    with structlog.testing.capture_logs() as logs:
        assert (await configuring.refresh()).version == 4
        await configuring.refresh()
    assert told == [57, 4]
    assert [it["event"] for it in logs] == ["configuration.went_back"]
