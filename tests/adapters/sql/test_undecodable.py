"""Rows written by hand: whatever stands in them, they break nothing and can be deleted."""

from __future__ import annotations

import sqlite3
from datetime import timedelta

import pytest
import structlog
from letters import NOW, after, build_delivery, build_letter

from eventbus.retry import RetryPolicy
from eventbus_adapters.sql import SqlStore
from eventbus_dlq.errors import DeadLetterNotFound, InvalidTransition
from eventbus_dlq.letter import DeadLetterState, Reason, Verb
from eventbus_dlq.query import DeadLetterQuery
from eventbus_dlq.store import Kept

EVERYTHING = DeadLetterQuery.everything()

IN_LISTINGS = [
    ("state", "quarantined"),
    ("reason", "bored"),
    ("tags", '["unclosed'),
    ("tags", '{"a": 1}'),
    ("tags", "[1, 2]"),
    ("kind", "gremlins"),
    ("category", ""),
    ("route", b"\x00"),
    ("attempts", "many"),
    ("priority", 1.5),
    ("updated_us", 10**18),
    ("last_attempt_us", "yesterday"),
    ("retry_us", -(2**62)),
    ("created_us", 2**62),
    ("error_message", b"\xff\xfe"),
    ("handler_id", b"billing"),
]
IN_LETTERS_ALONE = [
    ("error", b"{"),
    ("error", b"[]"),
    ("error", b"{}"),
    ("error", b'{"message": 3, "traceback": "", "causes": []}'),
    ("error", b'{"message": null, "traceback": "", "causes": [{"relation": "uncle"}]}'),
    ("error", (b'{"message": null, "traceback": "", "causes": '
              b'[{"relation": "uncle", "type": "", "message": "", "traceback": ""}]}')),
    ("history", b"null"),
    ("history", b"[3]"),
    ("history", b'[{"number": 1, "started_us": 0, "ended_us": 0, "error": "first"}]'),
    ("headers", b'{"a": 1}'),
    ("annotations", b"\xff"),
    ("redelivery", '{"attempts": -1}'),
    ("redelivery", "soon"),
    ("payload", "a text"),
    ("occurred_us", 10**18),
    ("lease_us", "later"),
]  # fmt: skip


def write(by_hand: sqlite3.Connection, column: str, value: object) -> None:
    by_hand.execute(f"UPDATE eventbus_dead_letters SET {column} = ?", (value,))


@pytest.mark.parametrize(("column", "value"), [*IN_LISTINGS, *IN_LETTERS_ALONE])
async def test_a_broken_row_is_an_undecodable_letter(
    store: SqlStore, by_hand: sqlite3.Connection, column: str, value: object
) -> None:
    letter = build_letter()
    await store.add([letter])
    write(by_hand, column, value)
    found = await store.get(letter.id)
    assert (found.state, found.reason) == (DeadLetterState.EXHAUSTED, Reason.UNDECODABLE)
    assert (found.id, found.event_name) == (letter.id, letter.event_name)
    (refusal,) = await store.claim([letter.id], owner="w", lease=30, now=NOW)
    assert isinstance(refusal, InvalidTransition)
    with pytest.raises(InvalidTransition, match="can only be deleted"):
        await store.change(letter.id, Verb.RESOLVE, now=NOW)
    await store.delete(letter.id)
    with pytest.raises(DeadLetterNotFound):
        await store.get(letter.id)


@pytest.mark.parametrize(("column", "value"), IN_LISTINGS)
async def test_a_broken_row_is_listed_among_the_others(
    store: SqlStore, by_hand: sqlite3.Connection, column: str, value: object
) -> None:
    broken, whole = build_letter(), build_letter(created_at=after(1))
    await store.add([broken])
    write(by_hand, column, value)
    await store.add([whole])
    first = await store.find(EVERYTHING, limit=1, order="oldest")
    rest = await store.find(EVERYTHING, limit=5, cursor=first.next_cursor, order="oldest")
    items = {it.id: it for it in (*first.items, *rest.items)}
    assert items.keys() == {broken.id, whole.id}
    assert (items[broken.id].state, items[broken.id].reason) == (
        DeadLetterState.EXHAUSTED,
        Reason.UNDECODABLE,
    )
    assert items[whole.id].state is DeadLetterState.PENDING
    for query in (
        DeadLetterQuery(user_id="u-381"),
        DeadLetterQuery(tag="billing"),
        DeadLetterQuery(text="orderplaced"),
    ):
        assert whole.id in {it.id for it in (await store.find(query)).items}


async def test_text_that_is_not_utf_8_is_shown_with_replacements(
    store: SqlStore, by_hand: sqlite3.Connection
) -> None:
    letter = build_letter()
    await store.add([letter])
    by_hand.execute("UPDATE eventbus_dead_letters SET note = CAST(x'61ff62' AS TEXT)")
    assert (await store.get(letter.id)).note == "a\ufffdb"
    (item,) = (await store.find(EVERYTHING)).items
    assert item.note == "a\ufffdb"


async def test_text_that_is_not_utf_8_keeps_nothing_from_being_run(
    store: SqlStore, by_hand: sqlite3.Connection
) -> None:
    odd, plain = build_delivery(), build_delivery()
    await store.accept([odd, plain])
    by_hand.execute(
        "UPDATE eventbus_dead_letters SET source = CAST(x'61ff62' AS TEXT) WHERE id = ?", (odd.id,)
    )
    for _ in range(2):
        claims = await store.claim_due(
            {"billing.charge": 2},
            states={DeadLetterState.ACCEPTED},
            limit=2,
            owner="w",
            lease=30,
            now=after(1),
        )
        assert {it.letter.source for it in claims} == {"a\ufffdb", plain.source}
        assert await store.release([it.lease for it in claims], now=after(2)) == []


async def test_a_failure_that_arrives_for_a_broken_row_replaces_it(
    store: SqlStore, by_hand: sqlite3.Connection
) -> None:
    letter = build_letter()
    await store.add([letter])
    write(by_hand, "history", b"not json")
    again = build_letter(event_id=letter.event_id, note="again")
    assert await store.add([again]) == [letter.id]
    found = await store.get(letter.id)
    assert found.note == "again"
    assert found.history == again.history
    assert (await store.stats(now=NOW)).total == 1


async def test_a_broken_running_row_has_lost_its_lease(store: SqlStore, by_hand: sqlite3.Connection) -> None:
    letter = build_letter()
    await store.add([letter])
    (claim,) = await store.claim([letter.id], owner="w", lease=30, now=NOW)
    assert not isinstance(claim, Exception)
    write(by_hand, "headers", b"[")
    assert await store.release([claim.lease], now=NOW) == [claim.lease]


async def test_a_broken_running_row_is_set_aside_by_a_rescue(
    store: SqlStore, by_hand: sqlite3.Connection
) -> None:
    """Else it would run for ever: nobody can settle it."""
    await store.accept([build_delivery()])
    (claim,) = await store.claim_due(
        {"billing.charge": 1}, states={DeadLetterState.ACCEPTED}, limit=1, owner="w", lease=30, now=after(1)
    )
    write(by_hand, "headers", b"[")
    seen = await store.leased(now=after(60))
    assert await store.rescue(seen, max_crashes=3, now=after(60)) == []
    assert await store.leased(now=after(60)) == []
    found = await store.get(claim.letter.id)
    assert (found.state, found.reason) == (DeadLetterState.EXHAUSTED, Reason.UNDECODABLE)
    assert (await store.stats(now=NOW)).by_state == {DeadLetterState.EXHAUSTED: 1}
    await store.delete(claim.letter.id)


async def test_a_broken_delivery_that_nobody_handles_stays(
    store: SqlStore, by_hand: sqlite3.Connection
) -> None:
    broken, whole = build_delivery(), build_delivery()
    await store.accept([broken, whole])
    by_hand.execute("UPDATE eventbus_dead_letters SET headers = x'5b' WHERE id = ?", (broken.id,))
    assert await store.exhaust_unhandled(since=after(9), now=after(10)) == [whole.id]


async def test_a_delivery_whose_row_is_broken_is_kept_where_it_is(
    store: SqlStore, by_hand: sqlite3.Connection
) -> None:
    delivery = build_delivery()
    await store.accept([delivery])
    write(by_hand, "headers", b"[")
    again = build_delivery(event_id=delivery.event_id)
    assert await store.accept([again]) == [Kept(delivery.id, DeadLetterState.EXHAUSTED)]


@pytest.mark.parametrize(
    ("column", "value"), [("tags", "[1]"), ("reason", "bored"), ("crashes", "many"), ("updated_us", 2**62)]
)
async def test_a_delivery_that_never_failed_is_read_as_strictly(
    store: SqlStore, by_hand: sqlite3.Connection, column: str, value: object
) -> None:
    await store.accept([build_delivery()])
    by_hand.execute(f"UPDATE eventbus_dead_letters SET {column} = ?, retry_us = NULL", (value,))
    claims = await store.claim_due(
        {"billing.charge": 1}, states={DeadLetterState.ACCEPTED}, limit=1, owner="w", lease=30, now=after(1)
    )
    # the time of a change is written by the claim itself
    assert [it.letter.updated_at for it in claims] == ([after(1)] if column == "updated_us" else [])


async def test_an_unknown_state_before_counts_as_none(store: SqlStore, by_hand: sqlite3.Connection) -> None:
    letter = build_letter()
    await store.add([letter])
    (claim,) = await store.claim([letter.id], owner="w", lease=30, now=NOW)
    assert not isinstance(claim, Exception)
    write(by_hand, "state_before", "limbo")
    assert await store.release([claim.lease], now=NOW) == []
    assert (await store.get(letter.id)).state is DeadLetterState.PENDING


async def test_rows_put_in_by_hand_never_make_a_counter_negative(
    store: SqlStore, by_hand: sqlite3.Connection
) -> None:
    await store.add([build_letter()])
    by_hand.execute("UPDATE eventbus_dead_letter_counts SET letters = 0, attempts = 0")
    (item,) = (await store.find(EVERYTHING)).items
    await store.delete(item.id)
    await store.add([build_letter()])
    assert (await store.stats(now=NOW)).total == 1


async def test_a_time_of_creation_that_is_no_number_cannot_be_written(
    store: SqlStore, by_hand: sqlite3.Connection
) -> None:
    await store.add([build_letter()])
    with pytest.raises(sqlite3.IntegrityError):
        write(by_hand, "created_us", "long ago")


async def test_a_long_message_and_old_attempts_come_back_whole(store: SqlStore) -> None:
    from letters import build_attempt, build_error

    error = build_error(message="x" * 8_192, code="503")
    history = (
        build_attempt(1, error=build_error(type="builtins.OSError", causes=())),
        build_attempt(2, error=None),
        build_attempt(3, error=error, ended_at=NOW + timedelta(days=400)),
    )
    letter = build_letter(error=error, history=history)
    await store.add([letter])
    assert await store.get(letter.id) == letter
    (item,) = (await store.find(EVERYTHING)).items
    assert item.error_message == "x" * 500


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("redelivery", '{"attempts": 3, "of_a_later_version": 1}'),
        ("redelivery", "soon"),
        ("since_us", 10**18),
    ],
)
async def test_a_broken_schedule_applies_to_nothing_and_can_be_replaced(
    store: SqlStore, by_hand: sqlite3.Connection, column: str, value: object
) -> None:
    policy = RetryPolicy(attempts=3)
    await store.configure(now=NOW, handler="billing.charge", redelivery=policy)
    by_hand.execute(f"UPDATE eventbus_schedules SET {column} = ?", (value,))
    with structlog.testing.capture_logs() as logs:
        await store.configure(now=NOW, event="OrderPlaced", redelivery=policy)
        found = await store.configuration()
    assert found is not None
    assert [(it.handler, it.event) for it in found.schedules] == [(None, "OrderPlaced")]
    assert {(it["event"], it["handler_id"]) for it in logs} == {("schedule.unreadable", "billing.charge")}
    mended = await store.configure(now=after(1), handler="billing.charge", redelivery=policy)
    assert {it.handler for it in mended.schedules} == {"billing.charge", None}
