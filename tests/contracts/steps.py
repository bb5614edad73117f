"""What the tests do again and again with a store."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import anyio.to_thread
from letters import NOW

from eventbus_dlq.letter import DeadLetter, DeadLetterState, DeadLetterSummary
from eventbus_dlq.query import DeadLetterQuery
from eventbus_dlq.store import Claim, DeadLetterStore, Lease, Leased


async def stored(store: DeadLetterStore, letter: DeadLetter) -> DeadLetter:
    """Add ``letter`` and return what the store has under its id."""
    (dead_letter_id,) = await store.add([letter])
    return await store.get(dead_letter_id)


async def claim_one(
    store: DeadLetterStore, dead_letter_id: str, *, now: datetime = NOW, owner: str = "worker-1"
) -> Claim:
    """Claim a letter for 30 seconds; it must be there to be claimed."""
    (claim,) = await store.claim([dead_letter_id], owner=owner, lease=30.0, now=now)
    assert isinstance(claim, Claim), claim
    return claim


async def running(store: DeadLetterStore, letter: DeadLetter) -> Lease:
    """Add ``letter``, claim it for 30 seconds, and return the lease."""
    (dead_letter_id,) = await store.add([letter])
    return (await claim_one(store, dead_letter_id)).lease


async def claim_due(
    store: DeadLetterStore,
    wanted: Mapping[str, int] | None = None,
    *,
    states: Collection[DeadLetterState] = (DeadLetterState.ACCEPTED, DeadLetterState.PENDING),
    limit: int = 100,
    owner: str = "worker-1",
    lease: float = 30.0,
    now: datetime = NOW,
) -> Sequence[Claim]:
    """Claim what is due, of the handler of most letters unless said otherwise."""
    return await store.claim_due(
        wanted or {"billing.charge": 100}, states=states, limit=limit, owner=owner, lease=lease, now=now
    )


async def heartbeat(
    store: DeadLetterStore, leases: Sequence[Lease], *, now: datetime, lease: float = 30.0
) -> list[Lease]:
    """Extend leases, from a thread as the contract says; return those that are lost."""
    beat = partial(store.heartbeat, leases, lease=lease, now=now)
    return list(await anyio.to_thread.run_sync(beat))


async def seen(store: DeadLetterStore, dead_letter_id: str, *, now: datetime) -> Leased:
    """Return a running letter as a rescuer sees it; its lease has run out by ``now``."""
    (one,) = [it for it in await store.leased(now=now) if it.dead_letter_id == dead_letter_id]
    return one


async def rescue(
    store: DeadLetterStore, dead_letter_id: str, *, now: datetime, max_crashes: int = 3
) -> DeadLetter:
    """Take a letter back whose lease has run out; it must be there to be taken."""
    leased = await seen(store, dead_letter_id, now=now)
    (letter,) = await store.rescue([leased], max_crashes=max_crashes, now=now)
    return letter


def lease_of(letter: DeadLetter) -> Lease:
    """Return the lease under which ``letter`` is running."""
    return Lease(dead_letter_id=letter.id, token=letter.token)


async def find_all(
    store: DeadLetterStore, query: DeadLetterQuery | None = None, *, limit: int = 1000, **options: Any
) -> list[DeadLetterSummary]:
    """Follow the cursors to the end; return what all the pages hold."""
    items: list[DeadLetterSummary] = []
    cursor = None
    while True:
        page = await store.find(query or DeadLetterQuery(), limit=limit, cursor=cursor, **options)
        assert len(page.items) <= limit
        items += page.items
        cursor = page.next_cursor
        if cursor is None:
            return items


async def found(store: DeadLetterStore, **conditions: Any) -> set[str]:
    """Return the ids of all letters that ``conditions`` mean."""
    return {item.id for item in await find_all(store, DeadLetterQuery(**conditions))}
