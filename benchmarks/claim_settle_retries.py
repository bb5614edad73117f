"""Claim and settle retries that fail again, in batches of 100, beside ``sqlite3`` that writes the same rows.

What a worker does with dead letters that are due: it claims a hundred and gets them whole, with error and
history, and when they have failed once more, each is due again later, with one more attempt. See
``claim_settle`` and ``raw_claims`` for what is the same on both sides, and what is not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

from benchmarks.harness import Benchmark, Figure, Operations, Side, Sides, timed
from benchmarks.raw_claims import RawClaims
from benchmarks.stored import BATCH, PENDING, Stored, claim, now, stored
from eventbus_adapters.sql import SqlStore
from eventbus_dlq.letter import Attempt
from eventbus_dlq.settling import make_settlement
from eventbus_dlq.store import Claim

LETTERS = BATCH * 20
_RETRY = timedelta(minutes=1)


async def fail(store: SqlStore, claims: Sequence[Claim]) -> None:
    """Record that all have failed again, as they had before."""
    at = now()
    settlements = [
        make_settlement(
            lease=it.lease,
            state=PENDING,
            retry_at=at + _RETRY,
            error=it.letter.error,
            attempts=(Attempt(it.letter.attempts, at, at, it.letter.error),),
            fingerprint=it.letter.fingerprint,
        )
        for it in claims
    ]
    lost = await store.settle(settlements, now=at)
    if lost:
        raise AssertionError(f"{len(lost)} leases were lost")


@asynccontextmanager
async def sides() -> AsyncIterator[Sides]:
    """Open a store, and a raw connection with its own file."""
    async with stored(PENDING) as files:
        yield sides_on(files)


def sides_on(files: Stored) -> Sides:
    """Claim and settle in both files."""
    raw = RawClaims(files.theirs.path, PENDING)

    async def run(operations: int) -> None:
        for _ in range(operations // BATCH):
            await fail(files.store, await claim(files.store, PENDING))

    async def run_raw(operations: int) -> None:
        raw.run(operations)

    return Sides(Side(run, files.ours.fill), Side(run_raw, files.theirs.fill))


BENCHMARK = Benchmark(
    name="claim-settle-retries",
    question="retries claimed and failed again in batches of 100",
    rival="sqlite3, the same rows",
    take=timed(sides, Operations(LETTERS, LETTERS), rounds=21),
    figure=Figure.SPEEDUP,
    limit=0.7,
)
