"""``find``: order, limits, and cursors that neither shift nor repeat."""

from __future__ import annotations

import base64

import pytest
from letters import NOW, after, build_letter
from steps import find_all

from eventbus_dlq.errors import InvalidCursor
from eventbus_dlq.letter import DeadLetter
from eventbus_dlq.query import DeadLetterQuery
from eventbus_dlq.store import DeadLetterStore, Order

EVERY = DeadLetterQuery()


async def add_many(store: DeadLetterStore, count: int, *, start: int = 0) -> list[DeadLetter]:
    """Add letters in threes of one moment each; return them oldest first."""
    letters = [build_letter(created_at=after(number // 3)) for number in range(start, start + count)]
    await store.add(letters)
    return letters


def ids(letters: list[DeadLetter]) -> list[str]:
    return [letter.id for letter in letters]


async def test_the_newest_come_first_unless_asked_otherwise(store: DeadLetterStore) -> None:
    letters = await add_many(store, 10)
    assert [item.id for item in await find_all(store)] == ids(letters)[::-1]
    assert [item.id for item in await find_all(store, order="newest")] == ids(letters)[::-1]
    assert [item.id for item in await find_all(store, order="oldest")] == ids(letters)


async def test_letters_of_one_moment_are_in_the_order_of_their_insertion(store: DeadLetterStore) -> None:
    letters = [build_letter() for _ in range(12)]
    for letter in letters:
        await store.add([letter])
    assert [item.id for item in await find_all(store, order="oldest", limit=5)] == ids(letters)
    assert [item.id for item in await find_all(store, order="newest", limit=5)] == ids(letters)[::-1]


async def test_the_order_is_that_of_creation_and_not_of_insertion_or_id(store: DeadLetterStore) -> None:
    late, early, middle = build_letter(created_at=after(9)), build_letter(), build_letter(created_at=after(5))
    await store.add([late])
    await store.add([early, middle])
    assert [item.id for item in await find_all(store, order="oldest")] == ids([early, middle, late])


async def test_a_moment_before_1970_is_in_order_too(store: DeadLetterStore) -> None:
    old, new = build_letter(created_at=NOW.replace(year=1969)), build_letter()
    await store.add([old, new])
    assert [item.id for item in await find_all(store, order="oldest", limit=1)] == ids([old, new])
    assert [item.id for item in await find_all(store, order="newest", limit=1)] == ids([new, old])


@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 20, 21, 1000])
async def test_the_pages_together_are_the_whole(store: DeadLetterStore, order: Order, limit: int) -> None:
    letters = await add_many(store, 20)
    expected = ids(letters) if order == "oldest" else ids(letters)[::-1]
    assert [item.id for item in await find_all(store, limit=limit, order=order)] == expected


@pytest.mark.parametrize("order", ["newest", "oldest"])
async def test_the_pages_of_a_filter_together_are_what_it_means(store: DeadLetterStore, order: Order) -> None:
    letters = [build_letter(created_at=after(number), priority=1 + number % 5) for number in range(40)]
    await store.add(letters)
    query = DeadLetterQuery(priority={2, 4})
    expected = [letter.id for letter in letters if letter.priority in (2, 4)]
    paged = [item.id for item in await find_all(store, query, limit=3, order=order)]
    assert paged == (expected if order == "oldest" else expected[::-1])


async def test_a_page_is_full_while_the_letters_last(store: DeadLetterStore) -> None:
    await add_many(store, 60)
    page = await store.find(EVERY)
    assert len(page.items) == 50
    assert page.next_cursor is not None
    rest = await store.find(EVERY, cursor=page.next_cursor)
    assert len(rest.items) == 10


async def test_a_rare_letter_is_found_however_far_it_is(store: DeadLetterStore) -> None:
    await add_many(store, 1500)
    rare = build_letter(created_at=after(-1), tags=("rare",), error=build_letter().error)
    await store.add([rare])
    found = await find_all(store, DeadLetterQuery(tag="rare", text="orderplaced"), limit=10)
    assert [item.id for item in found] == [rare.id]


async def test_letters_stored_between_two_pages_neither_shift_nor_repeat_the_rest(
    store: DeadLetterStore,
) -> None:
    letters = await add_many(store, 9)
    first = await store.find(EVERY, limit=4)
    newer = await add_many(store, 5, start=100)
    rest = await find_all_from(store, first.next_cursor, order="newest")
    assert [item.id for item in first.items] + rest == ids(letters)[::-1]
    assert not set(rest) & set(ids(newer))


async def test_letters_stored_between_two_pages_of_the_oldest_come_at_the_end(store: DeadLetterStore) -> None:
    letters = await add_many(store, 9)
    first = await store.find(EVERY, limit=4, order="oldest")
    newer = await add_many(store, 5, start=100)
    rest = await find_all_from(store, first.next_cursor, order="oldest")
    assert [item.id for item in first.items] + rest == ids(letters) + ids(newer)


@pytest.mark.parametrize("order", ["newest", "oldest"])
async def test_letters_deleted_between_two_pages_leave_no_gap(store: DeadLetterStore, order: Order) -> None:
    await add_many(store, 12)
    whole = [item.id for item in await find_all(store, order=order)]
    first = await store.find(EVERY, limit=4, order=order)
    for gone in (whole[0], whole[3], whole[4], whole[11]):
        await store.delete(gone)
    assert await find_all_from(store, first.next_cursor, order=order) == whole[5:11]


async def test_a_letter_that_changes_stays_in_its_place(store: DeadLetterStore) -> None:
    letters = await add_many(store, 9)
    await store.add([build_letter(event_id=letters[4].event_id, created_at=after(999))])
    assert [item.id for item in await find_all(store, limit=2, order="oldest")] == ids(letters)


async def test_a_cursor_may_be_used_again(store: DeadLetterStore) -> None:
    await add_many(store, 9)
    first = await store.find(EVERY, limit=4)
    once = await store.find(EVERY, limit=4, cursor=first.next_cursor)
    assert await store.find(EVERY, limit=4, cursor=first.next_cursor) == once


async def find_all_from(store: DeadLetterStore, cursor: str | None, *, order: Order) -> list[str]:
    """Follow ``cursor`` to the end in pages of two; return the ids."""
    items: list[str] = []
    while cursor is not None:
        page = await store.find(EVERY, limit=2, cursor=cursor, order=order)
        items += [item.id for item in page.items]
        cursor = page.next_cursor
    return items


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


GARBAGE = [
    "", " ", "garbage", "0", "-1", "null", "{}", "é", "\ud800", "\x00", "🗝️", "=", "====", "A", "AAAA", "%20",
    "9" * 40, "x" * 100_000, "0195f0a0-7b1c-7def-8a11-0123456789ab",
    encoded("newest"), encoded("newest:1"), encoded("newest:a:b"), encoded("newest:1:2:3"),
    encoded("[1, 2]"), encoded('["newest", 1e400, 1]'), encoded('{"order": "newest"}'), encoded("\x00"),
]  # fmt: skip


@pytest.mark.parametrize("cursor", GARBAGE, ids=lambda cursor: ascii(cursor[:24]))
async def test_a_cursor_that_was_not_given_out_is_refused(store: DeadLetterStore, cursor: str) -> None:
    await add_many(store, 3)
    with pytest.raises(InvalidCursor) as caught:
        await store.find(EVERY, cursor=cursor)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(("given", "asked"), [("newest", "oldest"), ("oldest", "newest")])
async def test_a_cursor_of_the_other_order_is_refused(
    store: DeadLetterStore, given: Order, asked: Order
) -> None:
    await add_many(store, 3)
    page = await store.find(EVERY, limit=1, order=given)
    with pytest.raises(InvalidCursor, match=asked):
        await store.find(EVERY, cursor=page.next_cursor, order=asked)


async def test_a_cursor_that_was_tampered_with_is_refused_or_harmless(store: DeadLetterStore) -> None:
    letters = await add_many(store, 3)
    page = await store.find(EVERY, limit=1)
    assert page.next_cursor is not None
    cursor = page.next_cursor
    spoilt = [cursor[:end] for end in range(len(cursor))]
    spoilt += [cursor[:at] + other + cursor[at + 1 :] for at in range(len(cursor)) for other in "Az9-="]
    refused = 0
    for text in spoilt:
        try:
            items = (await store.find(EVERY, cursor=text)).items
        except InvalidCursor:
            refused += 1
        else:
            assert {item.id for item in items} <= set(ids(letters))
    assert refused > len(spoilt) // 2


@pytest.mark.parametrize("limit", [0, -1, 1001, 10**9])
async def test_a_limit_outside_one_to_a_thousand_is_refused(store: DeadLetterStore, limit: int) -> None:
    with pytest.raises(ValueError, match=str(limit)) as caught:
        await store.find(EVERY, limit=limit)
    assert not isinstance(caught.value, InvalidCursor)


async def test_a_page_of_a_thousand_is_possible(store: DeadLetterStore) -> None:
    await add_many(store, 1001)
    page = await store.find(EVERY, limit=1000)
    assert len(page.items) == 1000
    assert page.next_cursor is not None
    assert len((await store.find(EVERY, limit=1000, cursor=page.next_cursor)).items) == 1
