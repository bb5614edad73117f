"""``add``: what is stored, durable, and merged by event and handler."""

from __future__ import annotations

import threading
from functools import partial

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from letters import NOW, after, build_attempt, build_error, build_letter, build_letter_in
from steps import claim_one, find_all, lease_of, rescue, running, stored

from eventbus.classify import Kind
from eventbus.retry import RetryPolicy
from eventbus_dlq.letter import (
    CLOSED_STATES,
    MAX_HISTORY,
    OPEN_STATES,
    DeadLetter,
    DeadLetterState,
    Reason,
    Verb,
)
from eventbus_dlq.query import DeadLetterQuery
from eventbus_dlq.store import DeadLetterStore, Settlement

AT_REST = sorted((OPEN_STATES | CLOSED_STATES) - {DeadLetterState.RUNNING})


def failed_again(known: DeadLetter, **overrides: object) -> DeadLetter:
    """Return a later failure of the same event and handler, in which everything is different."""
    values: dict[str, object] = {
        "event_id": known.event_id,
        "handler_id": known.handler_id,
        "payload_json": b'{"order_id":0}',
        "headers": {"other": "header"},
        "tags": ("other",),
        "tenant": "other",
        "priority": 9,
        "state": DeadLetterState.EXHAUSTED,
        "reason": Reason.PERMANENT,
        "retry_at": None,
        "error": build_error(
            Kind.CONFLICT, type="sqlite3.IntegrityError", message="UNIQUE failed", causes=()
        ),
        "fingerprint": "0000ffff0000ffff",
        "annotations": {"step": 2},
        "redelivery": RetryPolicy(attempts=2, delay=1),
        "attempts": 2,
        "history": (build_attempt(1), build_attempt(2)),
        "created_at": after(100),
        "updated_at": after(100),
        "last_attempt_at": after(99),
        "acted_by": "nobody",
        "note": "none",
    }
    return build_letter(**{**values, **overrides})


async def test_the_ids_come_back_in_the_order_of_the_letters(store: DeadLetterStore) -> None:
    letters = [build_letter(handler_id=f"handler.{number}") for number in range(20)]
    assert list(await store.add(letters)) == [letter.id for letter in letters]


async def test_adding_nothing_is_fine(store: DeadLetterStore) -> None:
    assert list(await store.add([])) == []
    assert await find_all(store) == []


async def test_one_event_has_a_letter_for_each_handler_that_failed(store: DeadLetterStore) -> None:
    first = build_letter(handler_id="billing.charge")
    second = build_letter(handler_id="stock.reserve", event_id=first.event_id)
    await store.add([first, second])
    assert {item.id for item in await find_all(store)} == {first.id, second.id}


async def test_what_the_caller_does_to_its_mappings_afterwards_changes_nothing(
    store: DeadLetterStore,
) -> None:
    headers, annotations = {"a": "1"}, {"steps": ["reserve"]}
    letter = build_letter(headers=headers, annotations=annotations)
    await store.add([letter])
    headers["a"] = "2"
    annotations["steps"].append("charge")
    kept = await store.get(letter.id)
    assert kept.headers == {"a": "1"}
    assert kept.annotations == {"steps": ["reserve"]}


@pytest.mark.parametrize("state", AT_REST)
async def test_a_second_failure_of_the_same_delivery_changes_the_row_at_rest(
    store: DeadLetterStore, state: DeadLetterState
) -> None:
    known = await stored(store, build_letter_in(state, attempts=3, retries=2, crashes=1, token=4))
    again = failed_again(known)

    assert list(await store.add([again])) == [known.id]

    kept = await store.get(known.id)
    for name in ("state", "reason", "retry_at", "error", "fingerprint", "annotations", "redelivery"):
        assert getattr(kept, name) == getattr(again, name), name
    assert (kept.updated_at, kept.last_attempt_at) == (again.updated_at, again.last_attempt_at)
    assert kept.attempts == 5
    taken_over = {"state", "reason", "retry_at", "error", "fingerprint", "annotations", "redelivery"}
    changed = taken_over | {"updated_at", "last_attempt_at", "attempts", "history", "_payload"}
    for name in set(DeadLetter.__dataclass_fields__) - changed:
        assert getattr(kept, name) == getattr(known, name), name
    assert len(await find_all(store)) == 1


async def test_the_history_of_a_second_failure_is_numbered_on(store: DeadLetterStore) -> None:
    known = build_letter(attempts=2, history=(build_attempt(1), build_attempt(2)))
    again = failed_again(known, attempts=1, history=(build_attempt(1, error=build_error(Kind.BUG)),))
    await store.add([known])
    await store.add([again])
    kept = await store.get(known.id)
    assert [attempt.number for attempt in kept.history] == [1, 2, 3]
    assert kept.history[2].error == build_error(Kind.BUG)
    assert kept.history[2].started_at == again.history[0].started_at


async def test_a_failure_that_never_ran_keeps_the_time_of_the_last_attempt(store: DeadLetterStore) -> None:
    known = build_letter(last_attempt_at=after(-3))
    await store.add([known])
    await store.add([failed_again(known, last_attempt_at=None, attempts=0, history=())])
    assert (await store.get(known.id)).last_attempt_at == after(-3)


@pytest.mark.parametrize("state", sorted(CLOSED_STATES))
async def test_a_closed_letter_that_fails_again_is_open_again(
    store: DeadLetterStore, state: DeadLetterState
) -> None:
    known = build_letter_in(state)
    await store.add([known])
    await store.add([build_letter(event_id=known.event_id)])
    (item,) = await find_all(store, DeadLetterQuery(state=DeadLetterState.PENDING))
    assert item.id == known.id
    assert await find_all(store, DeadLetterQuery(state=state)) == []


async def test_a_running_row_is_left_to_its_owner(store: DeadLetterStore) -> None:
    known = build_letter()
    lease = await running(store, known)
    before = await store.get(known.id)

    assert list(await store.add([failed_again(known)])) == [known.id]

    assert await store.get(known.id) == before
    settled = Settlement(lease=lease, state=DeadLetterState.RESOLVED)
    assert list(await store.settle([settled], now=NOW)) == []


async def test_two_letters_of_one_delivery_in_one_call_become_one_row(store: DeadLetterStore) -> None:
    first = build_letter(attempts=1)
    other = build_letter()
    second = failed_again(first)
    assert list(await store.add([first, other, second])) == [first.id, other.id, first.id]
    kept = await store.get(first.id)
    assert (kept.state, kept.attempts, kept.payload_json) == (second.state, 3, first.payload_json)
    assert len(await find_all(store)) == 2


async def test_a_row_that_arrives_running_is_left_alone_by_the_next_letter_of_the_call(
    store: DeadLetterStore,
) -> None:
    first = build_letter_in(DeadLetterState.RUNNING)
    assert list(await store.add([first, failed_again(first)])) == [first.id, first.id]
    assert await store.get(first.id) == first


async def test_a_letter_that_arrives_running_is_settled_by_its_owner(store: DeadLetterStore) -> None:
    letter = build_letter_in(DeadLetterState.RUNNING, token=7)
    await store.add([letter])
    (claim,) = await store.claim([letter.id], owner="thief", lease=30.0, now=after(29))
    assert isinstance(claim, Exception)

    settlement = Settlement(lease=lease_of(letter), state=DeadLetterState.RESOLVED)
    assert list(await store.settle([settlement], now=after(29))) == []
    assert (await store.get(letter.id)).state is DeadLetterState.RESOLVED


async def test_a_letter_that_arrives_running_is_rescued_when_its_lease_has_run_out(
    store: DeadLetterStore,
) -> None:
    letter = build_letter_in(DeadLetterState.RUNNING, token=7)
    await store.add([letter])
    rescued = await rescue(store, letter.id, now=after(31))
    assert (rescued.state, rescued.token, rescued.crashes) == (DeadLetterState.PENDING, 7, 1)
    assert (await claim_one(store, letter.id, now=after(31))).lease.token == 8


async def test_a_letter_that_arrives_running_takes_over_a_row_at_rest(store: DeadLetterStore) -> None:
    known = build_letter(attempts=1)
    await store.add([known])
    arrived = build_letter_in(DeadLetterState.RUNNING, event_id=known.event_id, token=1)
    assert list(await store.add([arrived])) == [known.id]
    kept = await store.get(known.id)
    assert (kept.state, kept.attempts, kept.token) == (DeadLetterState.RUNNING, 2, 1)
    assert (kept.lease_owner, kept.lease_until) == (arrived.lease_owner, arrived.lease_until)


@pytest.mark.parametrize("state", AT_REST)
async def test_a_token_never_goes_down(store: DeadLetterStore, state: DeadLetterState) -> None:
    known = build_letter_in(state, token=6)
    await store.add([known])
    await store.add([build_letter(event_id=known.event_id, token=0)])
    assert (await store.get(known.id)).token == 6
    await store.add([build_letter(event_id=known.event_id, token=9)])
    assert (await store.get(known.id)).token == 9


async def test_a_letter_that_arrives_running_fences_out_every_former_owner(store: DeadLetterStore) -> None:
    known = build_letter()
    former = await running(store, known)
    assert list(await store.release([former], now=NOW)) == []
    arrived = build_letter_in(DeadLetterState.RUNNING, event_id=known.event_id, token=former.token)
    await store.add([arrived])

    assert (await store.get(known.id)).token == former.token + 1
    assert list(await store.settle([Settlement(lease=former, state=DeadLetterState.RESOLVED)], now=NOW)) == [
        former
    ]


async def test_the_history_is_bounded_to_the_first_and_the_latest(store: DeadLetterStore) -> None:
    known = build_letter(attempts=40, history=tuple(build_attempt(number) for number in range(1, 41)))
    again = failed_again(known, attempts=30, history=tuple(build_attempt(number) for number in range(1, 31)))
    await store.add([known])
    await store.add([again])
    kept = await store.get(known.id)
    assert [attempt.number for attempt in kept.history] == [1, *range(22, 71)]
    assert len(kept.history) == MAX_HISTORY
    assert kept.attempts == 70


async def test_a_cancelled_caller_ends_the_wait_and_not_the_write(store: DeadLetterStore) -> None:
    letter, marker = build_letter(), build_letter()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await store.add([letter])
    await store.add([marker])
    assert await store.get(letter.id) == letter


async def test_a_caller_that_is_cancelled_while_it_waits_loses_nothing(store: DeadLetterStore) -> None:
    letters = [build_letter() for _ in range(50)]
    begun: set[str] = set()

    async def add(letter: DeadLetter) -> None:
        begun.add(letter.id)
        await store.add([letter])

    async with anyio.create_task_group() as group:
        for letter in letters:
            group.start_soon(add, letter)
        await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    await store.add([build_letter()])
    assert begun
    assert begun <= {item.id for item in await find_all(store)}


async def test_two_hundred_callers_at_a_time_are_all_served(store: DeadLetterStore) -> None:
    letters = [build_letter() for _ in range(200)]
    answers: dict[str, str] = {}

    async def add(letter: DeadLetter) -> None:
        (answers[letter.id],) = await store.add([letter])

    async with anyio.create_task_group() as group:
        for letter in letters:
            group.start_soon(add, letter)
    assert answers == {letter.id: letter.id for letter in letters}
    assert {item.id for item in await find_all(store)} == set(answers)


async def test_callers_of_one_delivery_at_a_time_get_one_row(store: DeadLetterStore) -> None:
    first = build_letter()
    letters = [first, *(build_letter(event_id=first.event_id) for _ in range(49))]
    answers: list[str] = []

    async def add(letter: DeadLetter) -> None:
        answers.extend(await store.add([letter]))

    async with anyio.create_task_group() as group:
        for letter in letters:
            group.start_soon(add, letter)
    (item,) = await find_all(store)
    assert answers == [item.id] * 50
    assert item.attempts == 50


async def test_calls_come_from_asyncio_and_from_trio_at_a_time(store: DeadLetterStore) -> None:
    letters = [build_letter() for _ in range(40)]
    together = threading.Barrier(2)

    async def add_all(own: list[DeadLetter]) -> None:
        together.wait(timeout=10)
        for letter in own:
            await store.add([letter])
            await store.get(letter.id)

    async with anyio.create_task_group() as group:
        for backend, own in (("asyncio", letters[:20]), ("trio", letters[20:])):
            run_there = partial(anyio.run, add_all, own, backend=backend)
            group.start_soon(anyio.to_thread.run_sync, run_there)
    assert {item.id for item in await find_all(store)} == {letter.id for letter in letters}


@pytest.mark.parametrize("state", list(DeadLetterState))
async def test_a_letter_that_was_added_already_stays_as_it_is(
    store: DeadLetterStore, state: DeadLetterState
) -> None:
    """A commit that reported an error may have happened: to add once more is no second failure."""
    letters = [build_letter_in(state), build_letter()]
    ids = [letter.id for letter in letters]
    assert list(await store.add(letters)) == ids
    assert list(await store.add(letters)) == ids
    assert [await store.get(dead_letter_id) for dead_letter_id in ids] == letters
    assert len(await find_all(store)) == (await store.stats(now=NOW)).total == 2


async def test_one_letter_twice_in_a_call_is_one_failure(store: DeadLetterStore) -> None:
    letter = build_letter()
    assert list(await store.add([letter, letter])) == [letter.id, letter.id]
    assert await store.get(letter.id) == letter


async def test_adding_a_letter_once_more_does_not_undo_what_was_done_with_it(store: DeadLetterStore) -> None:
    letter = build_letter()
    await store.add([letter])
    resolved = await store.change(letter.id, Verb.RESOLVE, now=after(1), by="ann")
    assert list(await store.add([letter])) == [letter.id]
    assert await store.get(letter.id) == resolved
