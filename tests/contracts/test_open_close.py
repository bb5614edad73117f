"""``open`` and ``close``: harmless when repeated, and nothing is lost between them."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from letters import NOW, after, build_letter
from steps import claim_one, heartbeat, running
from subjects import SUBJECTS, Subject

from eventbus_dlq.letter import DeadLetterState
from eventbus_dlq.store import Claim, DeadLetterStore

over_durable_stores = pytest.mark.parametrize(
    "subject", [it for it in SUBJECTS if it.durable], ids=lambda subject: subject.name
)


async def test_opening_twice_is_harmless(store: DeadLetterStore) -> None:
    letter = build_letter()
    await store.add([letter])
    await store.open()
    assert await store.get(letter.id) == letter


async def test_closing_twice_is_harmless(store: DeadLetterStore) -> None:
    await store.close()
    await store.close()


async def test_a_store_that_was_never_opened_can_be_closed(subject: Subject, tmp_path: Path) -> None:
    await subject.make(tmp_path).close()


async def test_a_store_that_was_closed_can_be_opened_again(store: DeadLetterStore) -> None:
    letter = build_letter()
    await store.add([letter])
    await store.close()
    await store.open()
    assert await store.get(letter.id) == letter
    await store.add([build_letter()])


async def test_closing_finishes_the_writes_that_were_handed_over(store: DeadLetterStore) -> None:
    letters = [build_letter() for _ in range(20)]
    with anyio.CancelScope() as scope:
        scope.cancel()
        await store.add(letters)
    await store.close()
    await store.open()
    assert [await store.get(letter.id) for letter in letters] == letters


@over_durable_stores
async def test_letters_and_leases_outlive_a_durable_store(subject: Subject, tmp_path: Path) -> None:
    first, second = subject.make(tmp_path), subject.make(tmp_path)
    letter = build_letter(token=3)
    await first.open()
    lease = await running(first, letter)
    await first.close()

    await second.open()
    try:
        kept = await second.get(letter.id)
        assert (kept.state, kept.token, kept.lease_owner) == (DeadLetterState.RUNNING, 4, "worker-1")
        assert await heartbeat(second, [lease], now=after(1)) == []
        assert list(await second.release([lease], now=after(2))) == []
        assert (await claim_one(second, letter.id)).lease.token == 5
    finally:
        await second.close()


@over_durable_stores
async def test_two_open_stores_on_one_place_see_each_other(subject: Subject, tmp_path: Path) -> None:
    first, second = subject.make(tmp_path), subject.make(tmp_path)
    await first.open()
    await second.open()
    try:
        letter = build_letter()
        await first.add([letter])
        assert await second.get(letter.id) == letter
        assert list(await second.add([build_letter(event_id=letter.event_id)])) == [letter.id]
        await claim_one(second, letter.id)
        (answer,) = await first.claim([letter.id], owner="worker-2", lease=30.0, now=NOW)
        assert not isinstance(answer, Claim)
    finally:
        await first.close()
        await second.close()
