"""``leased`` and ``rescue``: a letter whose owner has died comes back, and never one whose owner lives."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest
from letters import NOW, after, build_delivery, build_error, build_letter, build_letter_in
from steps import claim_due, claim_one, heartbeat, rescue, running, seen

from eventbus.classify import Kind
from eventbus.ids import new_id
from eventbus_dlq.letter import DeadLetter, DeadLetterState, Reason
from eventbus_dlq.store import DeadLetterStore, Leased, Settlement

ACCEPTED, PENDING, EXHAUSTED = DeadLetterState.ACCEPTED, DeadLetterState.PENDING, DeadLetterState.EXHAUSTED


def as_seen(letter: DeadLetter, **changes: object) -> Leased:
    """Return how a rescuer has seen a running letter, whose lease it takes for expired."""
    assert letter.lease_until is not None
    assert letter.lease_owner is not None
    leased = Leased(
        dead_letter_id=letter.id,
        token=letter.token,
        lease_until=letter.lease_until,
        owner=letter.lease_owner,
        expired=True,
    )
    return replace(leased, **changes)  # type: ignore[arg-type]  # as the caller says


async def test_what_runs_is_seen_with_token_lease_and_owner(store: DeadLetterStore) -> None:
    letter = build_letter()
    await store.add([letter])
    await claim_one(store, letter.id, owner="worker-7")
    one = await seen(store, letter.id, now=after(31))
    assert (one.token, one.lease_until, one.owner) == (1, after(30), "worker-7")
    assert one.expired is (True if store.judges_leases else None)


async def test_what_arrived_running_is_seen_too(store: DeadLetterStore) -> None:
    letter = build_letter_in(DeadLetterState.RUNNING, token=7)
    await store.add([letter])
    one = await seen(store, letter.id, now=after(31))
    assert (one.token, one.lease_until, one.owner) == (7, letter.lease_until, letter.lease_owner)


async def test_an_owner_is_told_of_all_that_it_holds_expired_or_not(store: DeadLetterStore) -> None:
    letters = [build_letter() for _ in range(3)]
    await store.add(letters)
    for letter, owner in zip(letters, ("w", "w:1", "w"), strict=True):
        await claim_one(store, letter.id, owner=owner)
    for moment in (after(1), after(31)):
        held = await store.leased(now=moment, owner="w")
        assert sorted(it.dead_letter_id for it in held) == sorted([letters[0].id, letters[2].id])
    assert list(await store.leased(now=after(31), owner="x")) == []


async def test_before_its_lease_has_run_out_nobody_calls_it_expired(store: DeadLetterStore) -> None:
    await running(store, build_letter())
    for one in await store.leased(now=after(29)):
        assert not store.judges_leases
        assert one.expired is None


async def test_what_is_at_rest_is_not_seen(store: DeadLetterStore) -> None:
    await store.add([build_letter_in(it) for it in DeadLetterState if it is not DeadLetterState.RUNNING])
    settled, released = await running(store, build_letter()), await running(store, build_letter())
    await store.settle([Settlement(lease=settled, state=DeadLetterState.RESOLVED)], now=NOW)
    await store.release([released], now=NOW)
    assert list(await store.leased(now=after(3_600))) == []


async def test_a_heartbeat_moves_what_is_seen(store: DeadLetterStore) -> None:
    lease = await running(store, build_letter())
    first = await seen(store, lease.dead_letter_id, now=after(31))
    await heartbeat(store, [lease], now=after(20))
    second = await seen(store, lease.dead_letter_id, now=after(51))
    assert (first.lease_until, second.lease_until) == (after(30), after(50))
    assert first.token == second.token


@pytest.mark.parametrize("state", [ACCEPTED, PENDING, EXHAUSTED])
async def test_a_rescued_letter_is_where_it_was_and_the_attempt_stays_charged(
    store: DeadLetterStore, state: DeadLetterState
) -> None:
    letter = build_letter_in(state, attempts=3, retries=1, token=4)
    await store.add([letter])
    claim = await claim_one(store, letter.id)

    rescued = await rescue(store, letter.id, now=after(31))

    assert rescued == replace(
        claim.letter,
        state=state,
        crashes=1,
        lease_owner=None,
        lease_until=None,
        updated_at=after(31),
        retry_at=letter.retry_at,
    )
    assert (rescued.attempts, rescued.retries) == (4, 1 + (state is not ACCEPTED))
    assert rescued.reason is letter.reason
    assert await store.get(letter.id) == rescued


@pytest.mark.parametrize("state", [ACCEPTED, PENDING, EXHAUSTED])
async def test_a_rescued_letter_can_be_claimed_at_once(
    store: DeadLetterStore, state: DeadLetterState
) -> None:
    lease = await running(store, build_letter_in(state))
    await rescue(store, lease.dead_letter_id, now=after(31))
    assert (await claim_one(store, lease.dead_letter_id, now=after(31))).lease.token == lease.token + 1


async def test_a_rescued_delivery_is_due(store: DeadLetterStore) -> None:
    delivery = build_delivery()
    await store.accept([delivery])
    await claim_due(store)
    await rescue(store, delivery.id, now=after(31))
    (claim,) = await claim_due(store, now=after(31), owner="worker-2")
    assert (claim.letter.id, claim.letter.attempts, claim.letter.crashes) == (delivery.id, 2, 1)


async def test_a_rescued_retry_is_due(store: DeadLetterStore) -> None:
    letter = build_letter(retry_at=NOW)
    await store.add([letter])
    await claim_due(store)
    await rescue(store, letter.id, now=after(31))
    (claim,) = await claim_due(store, now=after(31))
    assert (claim.letter.id, claim.letter.retries) == (letter.id, 2)


async def test_one_that_arrived_running_becomes_pending_and_due(store: DeadLetterStore) -> None:
    letter = build_letter_in(DeadLetterState.RUNNING)
    await store.add([letter])
    rescued = await rescue(store, letter.id, now=after(31))
    assert (rescued.state, rescued.retry_at, rescued.crashes) == (PENDING, after(31), 1)
    assert (rescued.attempts, rescued.retries, rescued.token) == (letter.attempts, letter.retries, 1)
    assert len(await claim_due(store, now=after(31))) == 1


async def test_the_former_owner_is_fenced_out_before_anybody_else_claims(store: DeadLetterStore) -> None:
    lease = await running(store, build_letter())
    rescued = await rescue(store, lease.dead_letter_id, now=after(31))
    late = Settlement(lease=lease, state=DeadLetterState.RESOLVED, error=build_error(Kind.BUG))
    assert list(await store.settle([late], now=after(32))) == [lease]
    assert list(await store.release([lease], now=after(32))) == [lease]
    assert await heartbeat(store, [lease], now=after(32)) == [lease]
    assert await store.get(lease.dead_letter_id) == rescued


async def test_an_owner_that_still_beats_keeps_its_letter(store: DeadLetterStore) -> None:
    lease = await running(store, build_letter())
    watched = await seen(store, lease.dead_letter_id, now=after(31))
    await heartbeat(store, [lease], now=after(32))
    kept = await store.get(lease.dead_letter_id)
    assert list(await store.rescue([watched], max_crashes=3, now=after(33))) == []
    assert await store.get(lease.dead_letter_id) == kept
    assert list(await store.settle([Settlement(lease=lease, state=EXHAUSTED)], now=after(34))) == []


async def test_a_letter_that_somebody_else_runs_by_now_is_left_alone(store: DeadLetterStore) -> None:
    lease = await running(store, build_letter())
    watched = await seen(store, lease.dead_letter_id, now=after(31))
    await store.release([lease], now=after(32))
    claim = await claim_one(store, lease.dead_letter_id, now=NOW, owner="worker-2")
    assert claim.letter.lease_until == watched.lease_until
    assert list(await store.rescue([watched], max_crashes=3, now=after(33))) == []
    assert await store.get(lease.dead_letter_id) == claim.letter


async def test_a_letter_at_rest_is_left_alone(store: DeadLetterStore) -> None:
    lease = await running(store, build_letter())
    watched = await seen(store, lease.dead_letter_id, now=after(31))
    await store.settle([Settlement(lease=lease, state=PENDING, retry_at=after(60))], now=after(31))
    kept = await store.get(lease.dead_letter_id)
    assert list(await store.rescue([watched], max_crashes=3, now=after(32))) == []
    assert await store.get(lease.dead_letter_id) == kept


@pytest.mark.parametrize("change", [{"token": 2}, {"token": 0}, {"lease_until": after(31)}])
async def test_a_letter_that_is_not_as_it_was_seen_is_left_alone(
    store: DeadLetterStore, change: dict[str, object]
) -> None:
    lease = await running(store, build_letter())
    letter = await store.get(lease.dead_letter_id)
    assert list(await store.rescue([as_seen(letter, **change)], max_crashes=3, now=after(61))) == []
    assert await store.get(letter.id) == letter


async def test_a_store_that_judges_leases_rescues_no_one_whose_lease_lasts(store: DeadLetterStore) -> None:
    """Another store cannot tell, and leaves it to the rescuer, who has watched it for a whole lease."""
    lease = await running(store, build_letter())
    letter = await store.get(lease.dead_letter_id)
    rescued = await store.rescue([as_seen(letter)], max_crashes=3, now=after(29))
    assert len(rescued) == (0 if store.judges_leases else 1)


async def test_an_unknown_letter_is_left_out_of_the_answer(store: DeadLetterStore) -> None:
    lease = await running(store, build_letter())
    known = await seen(store, lease.dead_letter_id, now=after(31))
    unknown = replace(known, dead_letter_id=new_id())
    (rescued,) = await store.rescue([unknown, known], max_crashes=3, now=after(31))
    assert rescued.id == lease.dead_letter_id
    assert list(await store.rescue([], max_crashes=3, now=after(31))) == []


async def test_a_letter_is_rescued_once(store: DeadLetterStore) -> None:
    lease = await running(store, build_letter())
    watched = await seen(store, lease.dead_letter_id, now=after(31))
    assert len(await store.rescue([watched, watched], max_crashes=3, now=after(31))) == 1
    assert list(await store.rescue([watched], max_crashes=3, now=after(31))) == []
    assert (await store.get(lease.dead_letter_id)).crashes == 1


async def test_of_many_rescuers_at_a_time_one_rescues(store: DeadLetterStore) -> None:
    leases = [await running(store, build_letter()) for _ in range(10)]
    watched = await store.leased(now=after(31))
    rescued: list[str] = []

    async def take_back() -> None:
        letters = await store.rescue(watched, max_crashes=3, now=after(31))
        rescued.extend(letter.id for letter in letters)

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(take_back)
    assert sorted(rescued) == sorted(it.dead_letter_id for it in leases)


@pytest.mark.parametrize("state", [ACCEPTED, PENDING, EXHAUSTED])
async def test_a_letter_that_kills_process_after_process_becomes_poison(
    store: DeadLetterStore, state: DeadLetterState
) -> None:
    letter = build_letter_in(state)
    await store.add([letter])
    for crash in range(1, 4):
        moment = after(100 * crash)
        await claim_one(store, letter.id, now=moment)
        rescued = await rescue(store, letter.id, now=after(100 * crash + 31), max_crashes=3)
        assert (rescued.crashes, rescued.state) == (crash, EXHAUSTED if crash == 3 else state)
    assert (rescued.reason, rescued.retry_at, rescued.attempts) == (Reason.POISON, None, letter.attempts + 3)
    assert (rescued.lease_owner, rescued.lease_until) == (None, None)
    assert await store.get(letter.id) == rescued
    assert list(await claim_due(store, now=after(86_400))) == []


async def test_poison_keeps_the_error_that_it_has(store: DeadLetterStore) -> None:
    letter = build_letter(error=build_error(Kind.QUOTA_EXCEEDED))
    lease = await running(store, letter)
    rescued = await rescue(store, lease.dead_letter_id, now=after(31), max_crashes=1)
    assert (rescued.error, rescued.fingerprint, rescued.history) == (
        letter.error,
        letter.fingerprint,
        letter.history,
    )


async def test_poison_that_never_failed_gets_an_error_that_says_so_and_a_group(
    store: DeadLetterStore,
) -> None:
    delivery = build_delivery()
    await store.accept([delivery])
    await claim_one(store, delivery.id, owner="shop-7")
    rescued = await rescue(store, delivery.id, now=after(31), max_crashes=1)
    assert rescued.error is not None
    assert "died" in rescued.error.message
    assert "shop-7" in rescued.error.message
    assert rescued.fingerprint
    assert await store.get(delivery.id) == rescued
    assert (await store.stats(now=NOW)).by_kind == {"unknown": 1}


async def test_a_success_in_between_does_not_undo_the_crashes(store: DeadLetterStore) -> None:
    lease = await running(store, build_letter())
    await rescue(store, lease.dead_letter_id, now=after(31))
    again = await claim_one(store, lease.dead_letter_id, now=after(32))
    await store.settle([Settlement(lease=again.lease, state=EXHAUSTED)], now=after(33))
    assert (await store.get(lease.dead_letter_id)).crashes == 1


async def test_the_statistics_follow_a_rescue(store: DeadLetterStore) -> None:
    lease = await running(store, build_letter())
    await rescue(store, lease.dead_letter_id, now=after(31))
    assert (await store.stats(now=NOW)).by_state == {"pending": 1}
    await claim_one(store, lease.dead_letter_id, now=after(32))
    await rescue(store, lease.dead_letter_id, now=after(63), max_crashes=2)
    assert (await store.stats(now=NOW)).by_state == {"exhausted": 1}
