"""Two files of the store's, filled alike: one for the store's verbs, one for ``sqlite3`` alone.

Each row is a copy of one that a bus wrote through the store, under fresh ids, put in before the clock
runs. Both files lie in a new folder beside this code: a temporary one may be memory, and sync nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks.failing import ORDER, Order, declining
from benchmarks.raw_writer import RawDatabase
from benchmarks.subjects import no_op
from eventbus import EventBus
from eventbus_adapters.sql import SqlStore
from eventbus_dlq import DeadLetterQueue, DeadLetterState
from eventbus_dlq.settling import make_settlement
from eventbus_dlq.store import Claim

HANDLER = "billing.charge"
BATCH = 100
ACCEPTED = DeadLetterState.ACCEPTED
PENDING = DeadLetterState.PENDING
RESOLVED = DeadLetterState.RESOLVED

_MOST_ROWS = 5_000  # in one commit


class Stored(NamedTuple):
    """A store and a raw connection, each with a file of its own.

    Attributes:
        store: open, on ``ours``.
        ours: the store's file.
        theirs: the raw connection's file.
    """

    store: SqlStore
    ours: Filler
    theirs: Filler


class Filler:
    """Puts copies of the one letter of a file into it.

    Args:
        path: a file with the store's tables and one letter, which is removed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._raw = RawDatabase(path)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("DELETE FROM eventbus_dead_letters")
            connection.execute("DELETE FROM eventbus_dead_letter_counts")

    def fill(self, rows: int) -> None:
        """Add that many rows."""
        while rows > 0:
            some = min(rows, _MOST_ROWS)
            self._raw.commit([self._raw.fresh_row() for _ in range(some)])
            rows -= some

    def put_off(self) -> None:
        """Make every row that is pending due in a day."""
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(
                "UPDATE eventbus_dead_letters SET retry_us = retry_us + 86400000000 WHERE state = 'pending'"
            )

    def close(self) -> None:
        """Close the connection."""
        self._raw.close()


@asynccontextmanager
async def stored(state: DeadLetterState) -> AsyncIterator[Stored]:
    """Make both files; what they are filled with is ``accepted``, or ``pending`` and due."""
    with TemporaryDirectory(prefix=".files-", dir=Path(__file__).parent) as folder:
        ours, theirs = [await _file(Path(folder) / name, state) for name in ("ours.db", "theirs.db")]
        store = SqlStore(f"sqlite:///{ours.path}", synchronous="FULL")
        await store.open()
        try:
            yield Stored(store, ours, theirs)
        finally:
            await store.close()
            ours.close()
            theirs.close()


async def _file(path: Path, state: DeadLetterState) -> Filler:
    """Have a bus write one letter: of a durable event that nobody runs, or of one whose handler fails."""
    accepted = state is ACCEPTED
    bus = EventBus(dlq=DeadLetterQueue(SqlStore(f"sqlite:///{path}"), worker=False))
    bus.subscribe(Order, no_op() if accepted else declining(), id=HANDLER, durable=accepted)
    async with bus:
        await bus.publish(ORDER)
    if not accepted:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE eventbus_dead_letters SET retry_us = created_us")
    return Filler(path)


def now() -> datetime:
    """Return what the store's verbs are told of the time."""
    return datetime.now(UTC)


async def claim(store: SqlStore, state: DeadLetterState) -> Sequence[Claim]:
    """Claim what is due, at most ``BATCH``."""
    return await store.claim_due(
        {HANDLER: BATCH}, states={state}, limit=BATCH, owner="worker", lease=30.0, now=now()
    )


async def settle(store: SqlStore, claims: Sequence[Claim]) -> None:
    """Record that all have succeeded: what had not failed before is deleted, the rest resolved."""
    settlements = [make_settlement(lease=it.lease, state=RESOLVED, forget=True) for it in claims]
    lost = await store.settle(settlements, now=now())
    if lost:
        raise AssertionError(f"{len(lost)} leases were lost")


async def drain(store: SqlStore, state: DeadLetterState = ACCEPTED) -> int:
    """Claim and settle in batches of ``BATCH`` until nothing is left; return how many it were."""
    settled = 0
    while claims := await claim(store, state):
        await settle(store, claims)
        settled += len(claims)
    return settled
