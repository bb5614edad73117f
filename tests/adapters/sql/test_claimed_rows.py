"""Claimed letters are what stands in their rows, however these are read."""

from __future__ import annotations

import sqlite3

import pytest
from letters import NOW, after, build_delivery, build_letter

from eventbus_adapters.sql import SqlStore
from eventbus_dlq.errors import InvalidTransition
from eventbus_dlq.letter import DeadLetter, DeadLetterState, Reason
from eventbus_dlq.store import Claim

BOTH = {DeadLetterState.ACCEPTED, DeadLetterState.PENDING}


async def claim_due(store: SqlStore, number: int = 9) -> list[Claim]:
    return list(
        await store.claim_due(
            {"billing.charge": number}, states=BOTH, limit=number, owner="w", lease=30, now=after(90)
        )
    )


@pytest.mark.parametrize(
    "letter",
    [
        build_delivery(),
        build_delivery(ordering_key="order-7", priority=1, causation_id="e-1", tenant=None, headers={}),
        build_delivery(annotations={"step": 2}, tags=(), user_id=None, source=None, crashes=2, retries=1),
        build_delivery(acted_by="ann", note="by hand", token=7, attempts=3),
        build_letter(retry_at=after(80)),
    ],
    ids=["as it came", "in a sequence", "rescued before", "released by hand", "failed before"],
)
async def test_a_claimed_letter_is_what_is_found_afterwards(store: SqlStore, letter: DeadLetter) -> None:
    put = store.accept if letter.state is DeadLetterState.ACCEPTED else store.add
    await put([letter])
    (claim,) = await claim_due(store)
    assert claim.letter == await store.get(letter.id)
    assert claim.lease == (letter.id, letter.token + 1)


async def test_first_runs_and_retries_are_claimed_together_by_their_urgency(store: SqlStore) -> None:
    fresh = build_delivery(created_at=after(30))
    late, early = build_letter(retry_at=after(40)), build_letter(retry_at=after(20))
    await store.accept([fresh])
    await store.add([late, early])
    assert [it.letter.id for it in await claim_due(store)] == [early.id, fresh.id, late.id]


async def test_a_delivery_that_stands_among_the_failures_without_one_becomes_live(
    store: SqlStore, by_hand: sqlite3.Connection
) -> None:
    """As one does that was parked, and let go again."""
    delivery = build_delivery()
    await store.accept([delivery])
    by_hand.execute("UPDATE eventbus_dead_letters SET live = 0")
    (claim,) = await claim_due(store)
    assert claim.letter == await store.get(delivery.id)
    assert by_hand.execute("SELECT live FROM eventbus_dead_letters").fetchall() == [(1,)]


ODD_NUMBERS = [
    ("attempts", "3 or so"),
    ("attempts", 2**31 - 1),
    ("retries", 2**63 - 1),
    ("token", "many"),
    ("token", 1.5),
    ("attempts", -(2**63)),
    ("token", 2**63 - 1),
]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("tags", "[1]"),
        ("headers", b"["),
        ("annotations", b"\xff"),
        ("redelivery", "soon"),
        ("payload", "a text"),
        ("occurred_us", 10**18),
        ("source", b"\x00"),
        ("tenant", b"acme"),
        ("reason", "bored"),
        ("priority", "high"),
        ("priority", b"5"),
        ("history", b"null"),
        ("history", b"[3]"),
        ("history", b"{}"),
        ("error", b"{"),
        ("error", 2**62),
        *ODD_NUMBERS,
    ],
)
async def test_a_broken_first_run_is_set_aside_and_those_beside_it_are_claimed(
    store: SqlStore, by_hand: sqlite3.Connection, column: str, value: object
) -> None:
    broken, whole = build_delivery(), build_delivery(created_at=after(1))
    await store.accept([broken])
    by_hand.execute(f"UPDATE eventbus_dead_letters SET {column} = ?", (value,))
    await store.accept([whole])
    assert [it.letter.id for it in await claim_due(store)] == [whole.id]
    found = await store.get(broken.id)
    assert (found.state, found.reason) == (DeadLetterState.EXHAUSTED, Reason.UNDECODABLE)
    assert by_hand.execute(
        "SELECT state, reason, live FROM eventbus_dead_letters WHERE id = ?", (broken.id,)
    ).fetchall() == [("exhausted", "undecodable", 0)]
    assert await claim_due(store) == []
    await store.delete(broken.id)
    assert (await store.stats(now=NOW)).by_state == {DeadLetterState.RUNNING: 1}


@pytest.mark.parametrize(("column", "value"), ODD_NUMBERS)
async def test_a_retry_that_cannot_be_counted_further_is_set_aside(
    store: SqlStore, by_hand: sqlite3.Connection, column: str, value: object
) -> None:
    broken, whole = build_letter(retry_at=after(1)), build_letter(retry_at=after(2))
    await store.add([broken, whole])
    by_hand.execute(f"UPDATE eventbus_dead_letters SET {column} = ? WHERE id = ?", (value, broken.id))
    assert [it.letter.id for it in await claim_due(store)] == [whole.id]
    assert (await store.stats(now=NOW)).by_state == {
        DeadLetterState.RUNNING: 1,
        DeadLetterState.EXHAUSTED: 1,
    }
    (refusal,) = await store.claim([broken.id], owner="w", lease=30, now=NOW)
    assert isinstance(refusal, InvalidTransition)


async def test_a_claim_by_id_of_what_cannot_be_counted_further_is_refused(
    store: SqlStore, by_hand: sqlite3.Connection
) -> None:
    letter = build_letter()
    await store.add([letter])
    by_hand.execute("UPDATE eventbus_dead_letters SET attempts = ?", (2**31 - 1,))
    (refusal,) = await store.claim([letter.id], owner="w", lease=30, now=NOW)
    assert isinstance(refusal, InvalidTransition)
    assert "cannot be counted any further" in str(refusal)


@pytest.mark.parametrize("queued_us", [None, "soon"])
async def test_a_failure_made_accepted_by_hand_is_run_and_holds_up_nobody(
    store: SqlStore, by_hand: sqlite3.Connection, queued_us: str | None
) -> None:
    failed, fresh = build_letter(), build_delivery()
    await store.add([failed])
    by_hand.execute("UPDATE eventbus_dead_letters SET state = 'accepted', queued_us = ?", (queued_us,))
    await store.accept([fresh])
    assert [it.letter.id for it in await claim_due(store)] == [failed.id, fresh.id]


async def test_what_was_mended_between_claim_and_look_is_left_to_a_rescue(
    store: SqlStore, by_hand: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs under its lease, like what any owner has lost sight of."""
    await store.accept([build_delivery()])
    by_hand.execute("UPDATE eventbus_dead_letters SET headers = x'5b'")
    look = store._change

    async def mend_first(work: object, *args: object, **options: object) -> object:
        if "set_aside_broken" in repr(work):
            by_hand.execute("UPDATE eventbus_dead_letters SET headers = x'7b7d'")
        return await look(work, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "_change", mend_first)
    assert await claim_due(store) == []
    (seen,) = await store.leased(now=after(91), owner="w")
    assert [it.state for it in await store.rescue([seen], max_crashes=3, now=after(200))] == [
        DeadLetterState.ACCEPTED
    ]
