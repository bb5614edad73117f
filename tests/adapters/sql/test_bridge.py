"""Answers find their way into any loop, and are not lost when nobody waits."""

from __future__ import annotations

import asyncio
from pathlib import Path

import anyio
import pytest
import structlog
import trio
from anyio.lowlevel import checkpoint
from letters import build_letter

from eventbus_adapters.sql import SqlStore
from eventbus_adapters.sql.bridge import Failed, deliver, waiter


async def test_a_failure_that_meets_the_cancellation_of_its_caller_is_logged() -> None:
    """The answer is there and the caller is cancelled before it could look."""
    with structlog.testing.capture_logs() as logs:
        async with anyio.create_task_group() as tasks:
            waiting = waiter(lambda: "the work")
            tasks.start_soon(waiting.wait)
            for _ in range(5):
                await checkpoint()
            tasks.cancel_scope.cancel()
            waiting.answer(Failed(OSError("no disk")))
    assert [(it["work"], it["error"]) for it in logs] == [("the work", "no disk")]


async def test_a_result_that_meets_the_cancellation_of_its_caller_is_not_logged() -> None:
    with structlog.testing.capture_logs() as logs:
        async with anyio.create_task_group() as tasks:
            waiting = waiter(lambda: "the work")
            tasks.start_soon(waiting.wait)
            for _ in range(5):
                await checkpoint()
            tasks.cancel_scope.cancel()
            waiting.answer("done")
    assert not logs


async def test_a_failure_is_raised_where_it_is_awaited() -> None:
    waiting = waiter()
    deliver([(waiting, Failed(OSError("no disk")))])
    with pytest.raises(OSError, match="no disk"):
        await waiting.wait()


def test_an_asyncio_task_that_is_cancelled_with_its_answer_logs_the_failure() -> None:
    async def main() -> None:
        waiting = waiter(lambda: "the work")
        task = asyncio.create_task(waiting.wait())
        await asyncio.sleep(0)
        waiting.answer(Failed(OSError("no disk")))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with structlog.testing.capture_logs() as logs:
        asyncio.run(main())
    assert [it["event"] for it in logs] == ["store.write_failed"]


def test_trio_as_a_guest_of_asyncio_is_served_as_trio(tmp_path: Path) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/letters.db")
    letter = build_letter()

    async def guest() -> list[str]:
        await store.open()
        ids = await store.add([letter])
        await store.close()
        return list(ids)

    async def host() -> list[str]:
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        trio.lowlevel.start_guest_run(
            guest,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=ended.set_result,
        )
        outcome = await ended
        ids: list[str] = outcome.unwrap()
        return ids

    assert asyncio.run(host()) == [letter.id]
