"""What a settlement makes of a row that is not read as a letter is what it would make of the letter."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from letters import NOW, after, build_delivery, build_letter

from eventbus.classify import Category, Kind, Route
from eventbus.failure import CauseRecord, ErrorRecord
from eventbus_adapters.sql import SqlStore
from eventbus_dlq.letter import MAX_HISTORY, Attempt, DeadLetter, DeadLetterState
from eventbus_dlq.memory import MemoryStore
from eventbus_dlq.store import Claim, DeadLetterStore, Settlement

PENDING = DeadLetterState.PENDING
FIRST = ErrorRecord(
    "shop.Declined", 'not "now"', "line 1\n", "402", Kind.CONFLICT, Category.PERMANENT, Route.USER_ERROR
)
SECOND = FIRST._replace(message="later " * 200, causes=(CauseRecord("cause", "OSError", "gone", "line 2\n"),))
MARKED = FIRST._replace(message='{"number":1,"error":"last"}', traceback='"error":"last"')
ERRORS = {"first": FIRST, "second": SECOND, "marked": MARKED}


async def claimed(store: DeadLetterStore, dead_letter_id: str) -> Claim:
    (claim,) = await store.claim([dead_letter_id], owner="w", lease=30, now=NOW)
    assert isinstance(claim, Claim)
    return claim


async def failed_with(
    store: DeadLetterStore, letter: DeadLetter, errors: Sequence[ErrorRecord]
) -> DeadLetter:
    """Run a letter once for each error; return it as it is then."""
    for number, error in enumerate(errors, 1):
        claim = await claimed(store, letter.id)
        at = after(number)
        settlement = Settlement(
            lease=claim.lease,
            state=PENDING,
            retry_at=at + timedelta(seconds=60),
            error=error,
            attempts=(Attempt(claim.letter.attempts, at, at, error),),
            fingerprint=f"print of {error.message[:5]}",
            annotations={"run": number} if number % 2 else None,
        )
        assert await store.settle([settlement], now=at) == []
    return await store.get(letter.id)


async def opened(store: SqlStore) -> MemoryStore:
    memory = MemoryStore()
    await memory.open()
    return memory


@pytest.mark.parametrize(
    "names",
    [
        ("first",),
        ("first", "first"),
        ("first", "second"),
        ("first", "second", "first"),
        ("marked", "marked", "second"),
        ("second", "marked", "first", "marked"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("has_failed", [True, False], ids=["a dead letter", "a first run"])
async def test_every_attempt_keeps_its_own_error(
    store: SqlStore, names: Sequence[str], has_failed: bool
) -> None:
    letter = build_letter() if has_failed else build_delivery()
    reference = await opened(store)
    for each in (store, reference):
        await (each.add([letter]) if has_failed else each.accept([letter]))
    errors = [ERRORS[name] for name in names]
    found = await failed_with(store, letter, errors)
    assert found == await failed_with(reference, letter, errors)
    assert [attempt.error for attempt in found.history[-len(errors) :]] == errors
    assert await store.stats(now=NOW) == await reference.stats(now=NOW)


async def test_a_history_that_is_full_keeps_the_first_attempt_and_the_latest(store: SqlStore) -> None:
    letter = build_letter()
    await store.add([letter])
    found = await failed_with(store, letter, [FIRST] * (MAX_HISTORY + 2))
    assert len(found.history) == MAX_HISTORY
    assert found.history[0] == letter.history[0]
    assert found.history[-1].number == found.attempts


@pytest.mark.parametrize("history", ["null", '[{"number":1}', "3"])
async def test_a_history_that_is_broken_is_left_alone(
    store: SqlStore, by_hand: sqlite3.Connection, history: str
) -> None:
    letter = build_letter()
    await store.add([letter])
    claim = await claimed(store, letter.id)
    by_hand.execute("UPDATE eventbus_dead_letters SET history = CAST(? AS BLOB)", (history,))
    attempt = Attempt(2, NOW, NOW, FIRST)
    settlement = Settlement(
        lease=claim.lease, state=PENDING, error=FIRST, attempts=(attempt,), fingerprint="print"
    )
    assert await store.settle([settlement], now=NOW) == [claim.lease]


async def test_a_lease_that_is_settled_twice_in_one_call_is_settled_as_was_said_first(
    store: SqlStore,
) -> None:
    letter = build_letter()
    await store.add([letter])
    claim = await claimed(store, letter.id)
    first = Settlement(lease=claim.lease, state=DeadLetterState.EXHAUSTED, annotations={"said": "first"})
    second = Settlement(lease=claim.lease, state=DeadLetterState.RESOLVED)
    assert await store.settle([first, second], now=NOW) == [claim.lease]
    found: Any = await store.get(letter.id)
    assert (found.state, found.annotations) == (DeadLetterState.EXHAUSTED, {"said": "first"})
