"""How SQLite finds what is due, and what a batch costs: seeks along an index, and few statements."""

from __future__ import annotations

import sqlite3

from letters import NOW, after, build_delivery, build_letter
from tests.adapters.sql.tracing import plans_of

from eventbus_adapters.sql import SqlStore
from eventbus_dlq.letter import DeadLetterState
from eventbus_dlq.store import Settlement

BOTH = {DeadLetterState.ACCEPTED, DeadLetterState.PENDING}
HANDLER = "billing.charge"


async def claim_due(store: SqlStore, *handlers: str, limit: int = 100) -> list[str]:
    claims = await store.claim_due(
        dict.fromkeys(handlers or [HANDLER], limit),
        states=BOTH,
        limit=limit,
        owner="w",
        lease=30,
        now=after(90),
    )
    return [it.letter.id for it in claims]


async def test_due_letters_are_found_by_seeks_and_never_sorted(
    store: SqlStore, by_hand: sqlite3.Connection, statements: list[str]
) -> None:
    await store.accept([build_delivery() for _ in range(3)])
    await store.add([build_letter() for _ in range(3)])
    statements.clear()
    assert len(await claim_due(store, HANDLER, "mail.send", "stock.reserve")) == 6
    steps = plans_of(by_hand, statements)
    assert not [step for step in steps if "TEMP B-TREE" in step]
    on_letters = [step for step in steps if "eventbus_dead_letters" in step]
    assert len([step for step in on_letters if "eventbus_letters_ready (handler_id=?)" in step]) == 3
    due = "eventbus_letters_due (handler_id=? AND priority=? AND retry_us<?)"
    assert len([step for step in on_letters if due in step]) == 30
    assert not [step for step in on_letters if step.startswith("SCAN")]


async def test_a_hundred_claims_and_their_settling_are_a_handful_of_statements(
    store: SqlStore, statements: list[str]
) -> None:
    await store.accept([build_delivery() for _ in range(128)])
    statements.clear()
    claims = await store.claim_due({HANDLER: 128}, states=BOTH, limit=128, owner="w", lease=30, now=after(90))
    assert len(claims) == 128
    done = [Settlement(lease=it.lease, state=DeadLetterState.RESOLVED, forget=True) for it in claims]
    assert await store.settle(done, now=after(91)) == []
    assert len(statements) <= 10
    assert (await store.stats(now=NOW)).total == 0


async def test_what_has_no_ordering_key_pays_for_no_sequence(store: SqlStore, statements: list[str]) -> None:
    await store.accept([build_delivery()])
    await claim_due(store)
    assert not [statement for statement in statements if "eventbus_letters_sequence" in statement]


async def test_a_long_sequence_is_not_read_to_move_on(
    store: SqlStore, by_hand: sqlite3.Connection, statements: list[str]
) -> None:
    await store.accept([build_delivery(ordering_key="o-1") for _ in range(4)])
    (first,) = await store.claim_due({HANDLER: 9}, states=BOTH, limit=9, owner="w", lease=30, now=after(90))
    statements.clear()
    await store.settle(
        [Settlement(lease=first.lease, state=DeadLetterState.RESOLVED, forget=True)], now=after(91)
    )
    await store.accept([build_delivery(ordering_key="o-1")])
    steps = [step for step in plans_of(by_hand, statements) if "eventbus_letters_sequence" in step]
    assert steps
    for step in steps:
        assert "(handler_id=? AND ordering_key=?)" in step
    assert not [step for step in plans_of(by_hand, statements) if "TEMP B-TREE FOR ORDER BY" in step]


async def test_a_row_that_cannot_be_understood_does_not_stand_before_the_others(
    store: SqlStore, by_hand: sqlite3.Connection
) -> None:
    broken, whole = build_delivery(), build_delivery(created_at=after(1))
    await store.accept([broken])
    by_hand.execute("UPDATE eventbus_dead_letters SET headers = x'5b'")
    await store.accept([whole])
    assert await claim_due(store, limit=1) == []
    assert await claim_due(store, limit=1) == [whole.id]
    by_hand.execute("UPDATE eventbus_dead_letters SET headers = x'7b7d' WHERE id = ?", (broken.id,))
    repaired = await store.get(broken.id)
    assert (repaired.state, repaired.reason) == (DeadLetterState.EXHAUSTED, "undecodable")
    stats = await store.stats(now=NOW)
    assert stats.by_state == {"exhausted": 1, "running": 1}


async def test_many_handlers_are_asked_about_at_once(store: SqlStore) -> None:
    handlers = [f"handler-{number}" for number in range(40)]
    deliveries = [
        build_delivery(handler_id=it, created_at=after(40 - number)) for number, it in enumerate(handlers)
    ]
    await store.accept(deliveries)
    claimed = await claim_due(store, *handlers, limit=35)
    assert claimed == [it.id for it in reversed(deliveries)][:35]


async def test_what_nobody_handles_is_found_along_the_index_however_much_it_is(
    store: SqlStore, by_hand: sqlite3.Connection, statements: list[str]
) -> None:
    await store.accept([build_delivery(handler_id=f"gone-{number % 2}") for number in range(8)])
    statements.clear()
    assert len(await store.exhaust_unhandled(since=after(7_200), now=after(10_800))) == 8
    steps = plans_of(by_hand, [it for it in statements if "eventbus_letters_ready" in it])
    assert [step for step in steps if "eventbus_letters_ready (handler_id=?)" in step]
    assert not [step for step in steps if "TEMP B-TREE" in step]


async def test_a_row_may_have_any_number(store: SqlStore, by_hand: sqlite3.Connection) -> None:
    await store.accept([build_delivery()])
    with by_hand:
        by_hand.execute("UPDATE eventbus_dead_letters SET seq = -1")
        by_hand.execute("INSERT INTO eventbus_configuration VALUES (1, 1, 'stamp', 1)")
    await store.accept([build_delivery(), build_delivery()])
    numbers = [seq for (seq,) in by_hand.execute("SELECT seq FROM eventbus_dead_letters ORDER BY seq")]
    assert numbers == [-1, 0, 1]  # SQLite counts on from what is there
    assert len(await claim_due(store)) == 3
