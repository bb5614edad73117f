"""What the tests do again and again with a store."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from letters import NOW

from eventbus_dlq.letter import DeadLetter, DeadLetterSummary
from eventbus_dlq.query import DeadLetterQuery
from eventbus_dlq.store import Claim, DeadLetterStore, Lease


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
