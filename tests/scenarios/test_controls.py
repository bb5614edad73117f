"""A tenant that one process pauses or drains is left alone by the others, and none of its orders is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from children import Child
from databases import Database
from invariants import check_at_the_end, check_meanwhile
from ledger import Line

from eventbus import ControlState, EventBus
from eventbus_adapters.sql import SqlStore
from eventbus_dlq import DeadLetterQueue

WITHIN = 1.0
"""Seconds within which every process obeys."""
WHY: Any = {"reason": "their database is being moved", "by": "ann"}
SETTINGS: dict[str, Any] = {"keys": ["acme", "globex"], "pace": 0.06, "lease": 5.0}


@asynccontextmanager
async def office(database: Database) -> AsyncIterator[EventBus]:
    """Open a bus that runs nothing, in this process."""
    async with EventBus(dlq=DeadLetterQueue(SqlStore(database.url), worker=False)) as bus:
        yield bus


def begun(child: Child, key: str, since: float) -> Sequence[Line]:
    """Return the runs of a tenant that a shop has begun, or ended, since a moment."""
    whats = {"started"} if key == "acme" else {"started", "ended"}
    runs = {("started", "ship"), ("started", "invoice"), ("ended", "notify"), ("failed", "notify")}
    return [
        line
        for line in child.lines()
        if line.key == key and line.at > since and ((line.what, line.who) in runs or line.what in whats)
    ]


async def others_go_on(child: Child, since: float, *, runs: int = 8) -> None:
    """Return when a shop has begun some runs of the tenant that is not paused."""
    deadline = time.monotonic() + 60
    while len(begun(child, "globex", since)) < runs:
        assert time.monotonic() < deadline, child.errors()
        await asyncio.sleep(0.05)


def finish(database: Database, tmp_path: Path, *children: Child, **tolerance: Any) -> None:
    """Close the shops, have the last one do what is left, and check that nothing was lost."""
    for child in children:
        child.leave()
        assert child.wait() == 0, child.errors()
    last = Child(tmp_path, url=database.url, **SETTINGS | {"orders": 0, "idle_exit": True})
    assert last.wait() == 0, last.errors()
    check_at_the_end(database.url, last.ledger, **tolerance)


def test_another_process_obeys_a_pause_within_a_second(database: Database, tmp_path: Path) -> None:
    child = Child(tmp_path, url=database.url, **SETTINGS)
    child.until("ended", "ship", times=4)

    async def pause_and_resume() -> None:
        async with office(database) as bus:
            await bus.pause(tenant="acme", **WHY)
            paused_at = time.monotonic()
            await others_go_on(child, paused_at + WITHIN)
            assert not begun(child, "acme", paused_at + WITHIN)
            letters = check_meanwhile(database.url, child.ledger).rows
            assert {row.reason for row in letters if row.state == "parked"} >= {"paused"}
            await bus.resume(tenant="acme")

    asyncio.run(pause_and_resume())
    child.until("open", "shop")
    finish(database, tmp_path, child)


def test_a_pause_outlives_the_processes_and_nothing_is_lost(database: Database, tmp_path: Path) -> None:
    child = Child(tmp_path, url=database.url, **SETTINGS)
    child.until("ended", "ship", times=4)

    async def pause() -> None:
        async with office(database) as bus:
            await bus.pause(tenant="acme", **WHY)

    async def resume(restarted: Child) -> None:
        async with office(database) as bus:
            (control,) = await bus.controls()
            assert (control.tenant, control.state, control.by) == ("acme", ControlState.PAUSED, "ann")
            await others_go_on(restarted, 0.0)
            assert not begun(restarted, "acme", 0.0)
            await bus.resume(tenant="acme")

    asyncio.run(pause())
    time.sleep(WITHIN)
    child.kill()
    tolerated = check_meanwhile(database.url, child.ledger).running(child.lines())
    restarted = Child(tmp_path, url=database.url, **SETTINGS)
    asyncio.run(resume(restarted))
    finish(database, tmp_path, restarted, tolerated=tolerated, losses=1)


def test_a_drain_waits_for_every_process(database: Database, tmp_path: Path) -> None:
    children = [
        Child(tmp_path, url=database.url, **SETTINGS | {"keys": keys, "work": 0.2, "pace": 0.2})
        for keys in KEYS
    ]
    for child in children:
        child.until("started", "ship", times=2)

    async def drain_and_resume() -> None:
        async with office(database) as bus:
            control = await bus.drain(tenant="acme", **WHY)
            drained_at = time.monotonic()
            assert control.drained_at is not None
            for child in children:
                runs = [line for line in child.lines() if line.key == "acme" and line.at < drained_at]
                started = [(line.who, line.number) for line in runs if line.what == "started"]
                over = [(line.who, line.number) for line in runs if line.what in ("ended", "failed")]
                assert set(started) <= set(over)
                await others_go_on(child, drained_at)
                assert not begun(child, "acme", drained_at)
            await bus.resume(tenant="acme")

    asyncio.run(drain_and_resume())
    finish(database, tmp_path, *children)


KEYS = (["acme", "globex"], ["initech"])
"""Whose orders each of two shops publishes; both run those of all."""
