"""The counter rows agree with a count of the letters, whatever happened to them."""

from __future__ import annotations

import random
import sqlite3
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from anyio import to_thread
from letters import NOW, after, build_attempt, build_delivery, build_error, build_letter

from eventbus.classify import Category, Kind, Route
from eventbus.controls import Scope
from eventbus.errors import Paused
from eventbus_adapters.sql import SqlStore
from eventbus_adapters.sql.adding import accept
from eventbus_adapters.sql.counts import Deltas
from eventbus_adapters.sql.encoding import row_of
from eventbus_adapters.sql.engine import Database
from eventbus_dlq.errors import DeadLetterNotFound, InvalidTransition, LeaseHeld
from eventbus_dlq.letter import DeadLetter, DeadLetterState, Verb
from eventbus_dlq.query import DeadLetterQuery
from eventbus_dlq.recount import recount
from eventbus_dlq.stats import Stats
from eventbus_dlq.store import Claim, Settlement


async def one_step(store: SqlStore, chance: random.Random, ids: list[str]) -> None:
    """Do one of the things that happen to letters; a refusal is fine."""
    kind = chance.choice(list(Kind))
    error = build_error(kind, category=chance.choice(list(Category)), route=chance.choice(list(Route)))
    what = chance.randrange(10)
    try:
        if what == 0 or not ids:
            ids += await store.add(
                [
                    build_letter(**some_delivery(chance), error=error, attempts=chance.randrange(1, 4))
                    for _ in range(chance.randrange(1, 5))
                ]
            )
        elif what == 6:
            deliveries = [build_delivery(**some_delivery(chance)) for _ in range(chance.randrange(1, 5))]
            ids += [it.id for it in await store.accept(deliveries)]
        elif what == 7:
            deliveries = [build_delivery(**some_delivery(chance)) for _ in range(chance.randrange(1, 5))]
            ids += await to_thread.run_sync(accept_in_a_transaction_of_ones_own, store, deliveries)
        elif what == 8:
            await work(store, chance, error)
        elif what == 9:
            seen = await store.leased(now=NOW)
            await store.rescue(chance.sample(seen, len(seen) // 2), max_crashes=2, now=NOW)
        elif what == 1:
            await store.change(chance.choice(ids), chance.choice(list(Verb)[:-1]), now=NOW, until=NOW)
        elif what == 2:
            await store.delete(chance.choice(ids))
        else:
            (claim,) = await store.claim([chance.choice(ids)], owner="w", lease=30, now=NOW)
            if isinstance(claim, Claim):
                await end_run(store, claim, what, error)
    except (DeadLetterNotFound, InvalidTransition, LeaseHeld, Paused):
        return


async def operate(store: SqlStore, chance: random.Random) -> None:
    """Close a scope, open some, or let letters go back."""
    scope = Scope(chance.choice([None, "acme", "globex"]), None, chance.choice([None, "a"]))
    what = chance.randrange(3)
    if what == 0:
        await store.close_scope(scope, "paused", reason="a bug", by="ann", until=None, now=NOW)
    elif what == 1:
        await store.open_scopes(chance.choice([None, [scope]]), now=NOW)
    else:
        await store.unpark(limit=3, now=NOW)


def some_delivery(chance: random.Random) -> dict[str, Any]:
    event = chance.randrange(40)
    return {
        "event_id": f"e-{event}",
        "handler_id": chance.choice(["a", "b"]),
        "tenant": chance.choice([None, "", "acme", "globex"]),
        "ordering_key": None if event % 3 else f"key-{event % 4}",
        "created_at": NOW - timedelta(microseconds=chance.randrange(10**12)),
    }


def accept_in_a_transaction_of_ones_own(store: SqlStore, deliveries: list[DeadLetter]) -> list[str]:
    """Do what a session does: the counters get no more than deltas."""
    database = store._database
    assert isinstance(database, Database)
    with database.connect("write") as connection, connection.begin():
        deltas = Deltas()
        kept = accept(connection, deltas, deliveries, [row_of(it) for it in deliveries])
        deltas.append(connection)
    return [it.id for it in kept]


async def work(store: SqlStore, chance: random.Random, error: Any) -> None:
    claims = await store.claim_due(
        {"a": 3, "b": 3}, states=set(DeadLetterState), limit=4, owner="w", lease=30, now=after(90)
    )
    settlements = [
        Settlement(lease=it.lease, state=DeadLetterState.RESOLVED, forget=True)
        if chance.random() < 0.6
        else Settlement(lease=it.lease, state=DeadLetterState.EXHAUSTED, error=error)
        for it in claims
    ]
    await store.settle(settlements, now=after(91))


async def end_run(store: SqlStore, claim: Claim, how: int, error: Any) -> None:
    if how == 3:
        await store.release([claim.lease], now=NOW)
    elif how == 4:
        settlement = Settlement(
            lease=claim.lease,
            state=DeadLetterState.PENDING,
            retry_at=after(60),
            error=error,
            attempts=(build_attempt(claim.letter.attempts, error=error),),
        )
        await store.settle([settlement], now=NOW)


def alike(found: Stats, counted: Stats) -> bool:
    """Compare statistics; the average age but for the last bits of a float."""
    close = found.average_age == pytest.approx(counted.average_age, rel=1e-9)
    found = replace(found, paused=(), draining=())  # a recount knows the letters alone
    return close and replace(found, average_age=0.0) == replace(counted, average_age=0.0)


@pytest.mark.repetitive
async def test_after_many_random_verbs_the_statistics_are_those_of_a_recount(
    store: SqlStore, by_hand: sqlite3.Connection
) -> None:
    chance = random.Random(20_261_122)
    ids: list[str] = []
    now = after(90)
    for _ in range(5):
        for _ in range(150):
            await (operate(store, chance) if chance.random() < 0.15 else one_step(store, chance, ids))
        items = (await store.find(DeadLetterQuery.everything(), limit=1_000)).items
        letters = [await store.get(it.id) for it in items]
        assert alike(await store.stats(now=now), recount(letters, now))
    # what was appended last is folded with the next change
    await to_thread.run_sync(accept_in_a_transaction_of_ones_own, store, [build_delivery()])
    assert by_hand.execute("SELECT count(*) FROM eventbus_dead_letter_count_deltas").fetchone() != (0,)
    await store.add([build_letter()])
    assert by_hand.execute("SELECT count(*) FROM eventbus_dead_letter_count_deltas").fetchone() == (0,)
    items = (await store.find(DeadLetterQuery.everything(), limit=1_000)).items
    letters = [await store.get(it.id) for it in items]
    assert alike(await store.stats(now=now), recount(letters, now))
    for tenants in ({"acme"}, {"acme", ""}, set[str](), {"nobody"}):
        own = [it for it in letters if it.tenant in tenants]
        assert alike(await store.stats(now=now, tenants=tenants), recount(own, now))


async def test_sums_of_a_billion_letters_fit(store: SqlStore, by_hand: sqlite3.Connection) -> None:
    """A sum of microseconds in one column would pass 64 bits at five million."""
    await store.add([build_letter(created_at=after(0))])
    by_hand.execute(
        "UPDATE eventbus_dead_letter_counts SET letters = letters * 1000000000, "
        "created_s = created_s * 1000000000, created_rest_us = created_rest_us * 1000000000"
    )
    await store.add([build_letter()])
    stats = await store.stats(now=after(10))
    assert stats.total == 1_000_000_001
    assert abs(stats.average_age - 10) < 1e-6
