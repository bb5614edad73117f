"""Controls that change while workers claim and publishers accept: nothing gets through or is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from controlled import ACME, EVERYTHING, bring_back, close, configured
from letters import NOW, build_delivery, build_letter_in
from steps import claim_due, find_all
from subjects import Subject

from eventbus.controls import Scope
from eventbus_dlq.letter import DeadLetterState, Reason
from eventbus_dlq.store import DeadLetterStore

ROUNDS = 6


class Gatekeeper:
    """Closes and opens a scope again and again, and knows when it was closed for sure.

    Attributes:
        closings: how often it has closed it.
        is_closed: between the end of a closing and the beginning of the opening.
        is_done: it has opened it for the last time.
    """

    def __init__(self, store: DeadLetterStore) -> None:
        self._store = store
        self.closings = 0
        self.is_closed = False
        self.is_done = False

    async def keep(self, pass_through: Callable[[], Awaitable[object]]) -> None:
        """Close and open it; what is awaited in between lets the others have their turns."""
        for _ in range(ROUNDS):
            await close(self._store, ACME)
            self.closings, self.is_closed = self.closings + 1, True
            await pass_through()
            self.is_closed = False
            await self._store.open_scopes([ACME], now=NOW)
            await pass_through()
        self.is_done = True


@asynccontextmanager
async def two_of(subject: Subject, folder: Path) -> AsyncIterator[Sequence[DeadLetterStore]]:
    """Open two stores on one place, as two processes do; of one that is not durable there is one."""
    stores = [subject.make(folder) for _ in range(2 if subject.durable else 1)]
    for store in stores:
        await store.open()
    try:
        yield [stores[0], stores[-1]]
    finally:
        for store in stores:
            await store.close()


async def test_nothing_of_a_closed_scope_is_handed_out_and_everything_comes_back(
    subject: Subject, tmp_path: Path
) -> None:
    async with two_of(subject, tmp_path) as (one, other):
        letters = [build_delivery() for _ in range(40)]
        await one.accept(letters)
        gatekeeper = Gatekeeper(one)
        handed_out = 0

        async def work(store: DeadLetterStore) -> None:
            nonlocal handed_out
            while not gatekeeper.is_done:
                was_closed, closings = gatekeeper.is_closed, gatekeeper.closings
                claims = await claim_due(store, limit=7)
                if was_closed and gatekeeper.is_closed and closings == gatekeeper.closings:
                    assert list(claims) == []
                handed_out += len(claims)
                await store.release([it.lease for it in claims], now=NOW)
                await anyio.lowlevel.checkpoint()

        async def publish(store: DeadLetterStore) -> None:
            while not gatekeeper.is_done:
                comes = replace(build_delivery(), state=DeadLetterState.PARKED, reason=Reason.PAUSED)
                letters.append(comes)
                await store.accept([comes])
                await anyio.lowlevel.checkpoint()

        async def pass_through() -> None:
            for store in (one, other):
                await claim_due(store, {"none": 1})
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as group:
            for store in (one, other):
                group.start_soon(work, store)
                group.start_soon(publish, store)
            group.start_soon(gatekeeper.keep, pass_through)

        await bring_back(other)
        assert (await configured(one)).controls == ()
        assert {(it.id, str(it.state)) for it in await find_all(one)} == {
            (it.id, "accepted") for it in letters
        }
        assert handed_out > 0


async def test_each_announcement_is_told_by_one_process(subject: Subject, tmp_path: Path) -> None:
    async with two_of(subject, tmp_path) as stores:
        letters = [build_letter_in(DeadLetterState.EXHAUSTED) for _ in range(60)]
        await stores[0].add(letters)
        told: list[str] = []

        async def tell(store: DeadLetterStore, owner: str) -> None:
            while taken := await store.claim_announcements(limit=4, owner=owner, lease=60.0, now=NOW):
                told.extend(it.dead_letter_id for it in taken)
                await store.confirm_announcements([it.key for it in taken])

        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(tell, stores[number % 2], f"web-{number}")
        assert sorted(told) == sorted(it.id for it in letters)


async def test_scopes_that_are_closed_at_a_time_are_all_closed(subject: Subject, tmp_path: Path) -> None:
    async with two_of(subject, tmp_path) as stores:
        scopes = [Scope(tenant=f"tenant-{number}") for number in range(12)]
        async with anyio.create_task_group() as group:
            for number, scope in enumerate([*scopes, *scopes, EVERYTHING]):
                group.start_soon(close, stores[number % 2], scope)
        controls = (await configured(stores[0])).controls
        assert {it.scope for it in controls} == {*scopes, EVERYTHING}
        assert len({it.version for it in controls}) == 13
        assert await configured(stores[1]) == await configured(stores[0])


async def test_a_drain_that_two_processes_end_at_a_time_ends_once(subject: Subject, tmp_path: Path) -> None:
    async with two_of(subject, tmp_path) as stores:
        control = await close(stores[0], ACME, "draining")
        drained: list[object] = []

        async def acknowledge(store: DeadLetterStore, name: str) -> None:
            drained.extend(await store.acknowledge(name, [control], live_since=NOW, now=NOW))

        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(acknowledge, stores[number % 2], f"web-{number}")
        assert len(drained) == 1
        assert list((await configured(stores[1])).controls) == drained


@pytest.mark.parametrize("verb", ["close", "open", "configure"])
async def test_whoever_stops_waiting_does_not_take_it_back(store: DeadLetterStore, verb: str) -> None:
    before = await configured(store)
    if verb == "open":
        await close(store)
    with anyio.CancelScope() as scope:
        scope.cancel()
        if verb == "close":
            await close(store)
        elif verb == "open":
            await store.open_scopes([ACME], now=NOW)
        else:
            await store.configure(now=NOW, automatic_retries=False)
    await store.close()
    await store.open()
    after = await configured(store)
    assert after.version > before.version
    assert (len(after.controls), after.automatic_retries) == (verb == "close", verb != "configure")
