"""``settle``: how a claimed run ended."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest
from letters import NOW, after, build_attempt, build_delivery, build_error, build_letter, build_letter_in
from steps import claim_one, find_all, lease_of, rescue, running, stored

from eventbus.classify import Kind
from eventbus.ids import new_id
from eventbus.retry import RetryPolicy
from eventbus_dlq.errors import DeadLetterNotFound
from eventbus_dlq.letter import MAX_HISTORY, DeadLetterState, Reason
from eventbus_dlq.query import DeadLetterQuery
from eventbus_dlq.store import DeadLetterStore, Lease, Settlement

RESOLVED, PENDING, EXHAUSTED = (
    DeadLetterState.RESOLVED,
    DeadLetterState.PENDING,
    DeadLetterState.EXHAUSTED,
)


@pytest.mark.parametrize(
    ("state", "reason", "retry_at"),
    [
        (RESOLVED, None, None),
        (PENDING, None, after(300)),
        (PENDING, Reason.INTERRUPTED, NOW),
        *((EXHAUSTED, reason, None) for reason in (Reason.ATTEMPTS, Reason.POISON, Reason.UNHANDLED)),
    ],
)
async def test_a_letter_goes_where_its_run_leads(
    store: DeadLetterStore, state: DeadLetterState, reason: Reason | None, retry_at: datetime | None
) -> None:
    letter = await stored(store, build_letter())
    claim = await claim_one(store, letter.id)
    settlement = Settlement(lease=claim.lease, state=state, reason=reason, retry_at=retry_at)

    assert list(await store.settle([settlement], now=after(9))) == []

    assert await store.get(letter.id) == replace(
        claim.letter,
        state=state,
        reason=reason,
        retry_at=retry_at,
        updated_at=after(9),
        last_attempt_at=after(9),
        lease_owner=None,
        lease_until=None,
    )


async def test_a_reason_of_before_does_not_outlive_the_run(store: DeadLetterStore) -> None:
    lease = await running(store, build_letter(state=EXHAUSTED, reason=Reason.ATTEMPTS, retry_at=None))
    await store.settle([Settlement(lease=lease, state=RESOLVED)], now=NOW)
    assert (await store.get(lease.dead_letter_id)).reason is None


async def test_a_failed_run_becomes_the_last_error_and_part_of_the_history(store: DeadLetterStore) -> None:
    lease = await running(store, build_letter())
    error = build_error(Kind.CONFLICT, type="sqlite3.IntegrityError", message="UNIQUE failed: charge.id")
    attempt = build_attempt(2, error=error)
    settlement = Settlement(lease=lease, state=PENDING, retry_at=after(300), error=error, attempts=(attempt,))
    await store.settle([settlement], now=after(1))

    kept = await store.get(lease.dead_letter_id)
    assert kept.error == error
    assert kept.history == (build_attempt(1), attempt)
    (item,) = await find_all(store, DeadLetterQuery(kind="conflict", error_type="sqlite3.IntegrityError"))
    assert item.error_message == error.message


async def test_a_run_that_failed_elsewhere_changes_the_group_and_the_notes(store: DeadLetterStore) -> None:
    lease = await running(store, build_letter())
    notes = {"step": "refunded", "tries": [1, 2]}
    await store.settle(
        [Settlement(lease=lease, state=PENDING, retry_at=after(60), fingerprint="f00d", annotations=notes)],
        now=after(1),
    )

    kept = await store.get(lease.dead_letter_id)
    assert (kept.fingerprint, kept.annotations) == ("f00d", notes)
    assert [item.id for item in await find_all(store, DeadLetterQuery(fingerprint="f00d"))] == [kept.id]


async def test_without_an_error_the_one_before_stays(store: DeadLetterStore) -> None:
    letter = build_letter(error=build_error(Kind.QUOTA_EXCEEDED))
    lease = await running(store, letter)
    await store.settle([Settlement(lease=lease, state=RESOLVED)], now=NOW)
    kept = await store.get(letter.id)
    assert (kept.error, kept.history) == (letter.error, letter.history)


async def test_an_uncharged_run_gives_the_charge_back(store: DeadLetterStore) -> None:
    letter = build_letter(attempts=3, retries=2, last_attempt_at=after(-60))
    lease = await running(store, letter)
    settlement = Settlement(lease=lease, state=EXHAUSTED, reason=Reason.UNHANDLED, uncharged=True)
    assert list(await store.settle([settlement], now=after(1))) == []
    kept = await store.get(letter.id)
    assert (kept.attempts, kept.retries, kept.token) == (3, 2, lease.token)
    assert kept.last_attempt_at == after(-60)
    assert kept.updated_at == after(1)


async def test_an_uncharged_first_run_gives_the_attempt_back(store: DeadLetterStore) -> None:
    delivery = build_delivery()
    await store.accept([delivery])
    claim = await claim_one(store, delivery.id)
    settlement = Settlement(lease=claim.lease, state=EXHAUSTED, reason=Reason.UNDECODABLE, uncharged=True)
    await store.settle([settlement], now=after(1))
    kept = await store.get(delivery.id)
    assert (kept.attempts, kept.retries, kept.last_attempt_at) == (0, 0, None)


async def test_what_arrived_running_was_not_charged_and_gets_nothing_back(store: DeadLetterStore) -> None:
    letter = build_letter_in(DeadLetterState.RUNNING, attempts=2)
    await store.add([letter])
    settlement = Settlement(lease=lease_of(letter), state=EXHAUSTED, uncharged=True)
    await store.settle([settlement], now=after(1))
    kept = await store.get(letter.id)
    assert (kept.attempts, kept.retries) == (2, letter.retries)


async def test_runs_beyond_the_one_that_was_claimed_are_added(store: DeadLetterStore) -> None:
    delivery = build_delivery()
    await store.accept([delivery])
    claim = await claim_one(store, delivery.id)
    runs = (build_attempt(1), build_attempt(2), build_attempt(3, error=build_error(Kind.BUG)))
    settlement = Settlement(
        lease=claim.lease, state=EXHAUSTED, error=runs[2].error, attempts=runs, reruns=2, fingerprint="f00d"
    )
    await store.settle([settlement], now=after(9))
    kept = await store.get(delivery.id)
    assert (kept.attempts, kept.retries, kept.history) == (3, 0, runs)
    assert (kept.error, kept.fingerprint) == (build_error(Kind.BUG), "f00d")


async def test_a_first_run_that_succeeded_is_forgotten_on_demand(store: DeadLetterStore) -> None:
    delivery = build_delivery()
    await store.accept([delivery])
    claim = await claim_one(store, delivery.id)
    settlement = Settlement(lease=claim.lease, state=RESOLVED, forget=True, attempts=(build_attempt(1),))
    assert list(await store.settle([settlement], now=after(1))) == []
    with pytest.raises(DeadLetterNotFound):
        await store.get(delivery.id)
    assert await find_all(store) == []
    assert (await store.stats(now=NOW)).total == 0
    assert list(await store.settle([settlement], now=after(1))) == [claim.lease]


async def test_what_has_crashed_and_not_failed_is_forgotten_too(store: DeadLetterStore) -> None:
    delivery = build_delivery()
    await store.accept([delivery])
    await claim_one(store, delivery.id)
    await rescue(store, delivery.id, now=after(31))
    claim = await claim_one(store, delivery.id, now=after(32))
    await store.settle([Settlement(lease=claim.lease, state=RESOLVED, forget=True)], now=after(33))
    with pytest.raises(DeadLetterNotFound):
        await store.get(delivery.id)


async def test_what_has_failed_before_is_kept_as_resolved(store: DeadLetterStore) -> None:
    lease = await running(store, build_letter())
    await store.settle([Settlement(lease=lease, state=RESOLVED, forget=True)], now=after(1))
    assert (await store.get(lease.dead_letter_id)).state is RESOLVED


@pytest.mark.parametrize("state", [PENDING, EXHAUSTED])
async def test_what_has_not_succeeded_is_never_forgotten(
    store: DeadLetterStore, state: DeadLetterState
) -> None:
    delivery = build_delivery()
    await store.accept([delivery])
    claim = await claim_one(store, delivery.id)
    settlement = Settlement(
        lease=claim.lease, state=state, retry_at=after(5), error=build_error(), forget=True
    )
    await store.settle([settlement], now=after(1))
    assert (await store.get(delivery.id)).state is state


async def test_a_forgotten_delivery_can_be_accepted_again(store: DeadLetterStore) -> None:
    delivery = build_delivery()
    await store.accept([delivery])
    claim = await claim_one(store, delivery.id)
    await store.settle([Settlement(lease=claim.lease, state=RESOLVED, forget=True)], now=NOW)
    (kept,) = await store.accept([delivery])
    assert kept == (delivery.id, DeadLetterState.ACCEPTED)
    assert await store.get(delivery.id) == delivery


@pytest.mark.parametrize(
    ("by", "note", "expected"),
    [
        (None, None, ("ann", "asked the bank")),
        ("bob", None, ("bob", "asked the bank")),
        (None, "tried again", ("ann", "tried again")),
        ("bob", "tried again", ("bob", "tried again")),
    ],
)
async def test_who_asked_for_the_run_and_their_note_are_kept(
    store: DeadLetterStore, by: str | None, note: str | None, expected: tuple[str, str]
) -> None:
    lease = await running(store, build_letter(acted_by="ann", note="asked the bank"))
    await store.settle([Settlement(lease=lease, state=RESOLVED, acted_by=by, note=note)], now=NOW)
    kept = await store.get(lease.dead_letter_id)
    assert (kept.acted_by, kept.note) == expected


async def test_the_history_is_bounded_to_the_first_and_the_latest(store: DeadLetterStore) -> None:
    full = tuple(build_attempt(number) for number in range(1, MAX_HISTORY + 1))
    lease = await running(store, build_letter(attempts=MAX_HISTORY, history=full))
    latest = build_attempt(MAX_HISTORY + 1)
    settlement = Settlement(lease=lease, state=PENDING, retry_at=after(1), attempts=(latest,))
    await store.settle([settlement], now=NOW)
    assert (await store.get(lease.dead_letter_id)).history == (full[0], *full[2:], latest)


async def test_a_former_owner_changes_nothing(store: DeadLetterStore) -> None:
    former = await running(store, build_letter())
    await rescue(store, former.dead_letter_id, now=after(31))
    claim = await claim_one(store, former.dead_letter_id, now=after(31), owner="worker-2")
    late = Settlement(
        lease=former,
        state=RESOLVED,
        error=build_error(Kind.BUG),
        attempts=(build_attempt(9),),
        acted_by="former",
    )
    assert list(await store.settle([late], now=after(32))) == [former]
    assert await store.get(former.dead_letter_id) == claim.letter


async def test_an_owner_whose_lease_ran_out_untaken_may_still_settle(store: DeadLetterStore) -> None:
    lease = await running(store, build_letter())
    assert list(await store.settle([Settlement(lease=lease, state=RESOLVED)], now=after(3600))) == []
    assert (await store.get(lease.dead_letter_id)).state is RESOLVED


async def test_a_run_is_settled_once(store: DeadLetterStore) -> None:
    lease = await running(store, build_letter())
    first = Settlement(lease=lease, state=RESOLVED)
    second = Settlement(lease=lease, state=PENDING, retry_at=after(1), attempts=(build_attempt(2),))
    assert list(await store.settle([first, second], now=NOW)) == [lease]
    assert list(await store.settle([second], now=NOW)) == [lease]
    kept = await store.get(lease.dead_letter_id)
    assert (kept.state, len(kept.history)) == (RESOLVED, 1)


async def test_only_the_lost_ones_of_many_are_returned(store: DeadLetterStore) -> None:
    leases = [await running(store, build_letter()) for _ in range(4)]
    unknown = Lease(dead_letter_id=new_id(), token=1)
    stale = leases[1]._replace(token=leases[1].token - 1)
    asked = [leases[0], unknown, stale, leases[2], leases[3]]
    settlements = [Settlement(lease=lease, state=RESOLVED) for lease in asked]
    assert list(await store.settle(settlements, now=NOW)) == [unknown, stale]
    states = [(await store.get(lease.dead_letter_id)).state for lease in leases]
    assert states == [RESOLVED, DeadLetterState.RUNNING, RESOLVED, RESOLVED]


async def test_nothing_to_settle_is_fine(store: DeadLetterStore) -> None:
    assert list(await store.settle([], now=NOW)) == []


async def test_the_token_stays_for_the_next_claim_to_raise(store: DeadLetterStore) -> None:
    lease = await running(store, build_letter())
    await store.settle([Settlement(lease=lease, state=PENDING, retry_at=NOW)], now=NOW)
    assert (await store.get(lease.dead_letter_id)).token == lease.token
    assert (await claim_one(store, lease.dead_letter_id)).lease.token == lease.token + 1


async def test_an_excused_run_costs_none_of_the_retries_and_is_kept(store: DeadLetterStore) -> None:
    letter = await stored(store, build_letter(attempts=3, retries=2))
    claim = await claim_one(store, letter.id)
    assert (claim.letter.attempts, claim.letter.retries) == (4, 3)
    attempt = build_attempt(4)
    settlement = Settlement(
        lease=claim.lease,
        state=PENDING,
        retry_at=after(9),
        error=build_error(),
        attempts=(attempt,),
        excused=True,
    )
    assert list(await store.settle([settlement], now=after(2))) == []
    kept = await store.get(letter.id)
    assert (kept.attempts, kept.retries, kept.last_attempt_at) == (4, 2, after(2))
    assert kept.history[-1] == attempt


@pytest.mark.parametrize("state", [DeadLetterState.ACCEPTED, DeadLetterState.RUNNING])
async def test_excusing_a_run_that_was_no_retry_takes_none_back(
    store: DeadLetterStore, state: DeadLetterState
) -> None:
    letter = await stored(store, build_letter_in(state, retries=2))
    lease = lease_of(letter)
    if state is DeadLetterState.ACCEPTED:
        lease = (await claim_one(store, letter.id)).lease
    before = await store.get(letter.id)
    settlement = Settlement(
        lease=lease, state=PENDING, retry_at=after(9), error=build_error(), reruns=1, excused=True
    )
    assert list(await store.settle([settlement], now=NOW)) == []
    kept = await store.get(letter.id)
    assert (kept.attempts, kept.retries) == (before.attempts + 1, 2)


async def test_a_run_that_is_uncharged_and_excused_is_given_back_once(store: DeadLetterStore) -> None:
    letter = await stored(store, build_letter(attempts=3, retries=2))
    claim = await claim_one(store, letter.id)
    settlement = Settlement(lease=claim.lease, state=PENDING, retry_at=NOW, uncharged=True, excused=True)
    assert list(await store.settle([settlement], now=NOW)) == []
    kept = await store.get(letter.id)
    assert (kept.attempts, kept.retries) == (3, 2)


async def test_an_excused_run_may_resolve_or_exhaust_too(store: DeadLetterStore) -> None:
    for state in (RESOLVED, EXHAUSTED):
        letter = await stored(store, build_letter(retries=1))
        claim = await claim_one(store, letter.id)
        await store.settle([Settlement(lease=claim.lease, state=state, excused=True)], now=NOW)
        kept = await store.get(letter.id)
        assert (kept.state, kept.attempts, kept.retries) == (state, 2, 1)


async def test_a_schedule_that_is_given_applies_from_then_on(store: DeadLetterStore) -> None:
    hourly = RetryPolicy(attempts=24, backoff="fixed", delay=3600.0, max_delay=7200.0, jitter=False)
    letter = await stored(store, build_letter())
    for given, then in ((None, letter.redelivery), (hourly, hourly), (None, hourly)):
        claim = await claim_one(store, letter.id)
        settlement = Settlement(lease=claim.lease, state=PENDING, retry_at=NOW, redelivery=given)
        await store.settle([settlement], now=NOW)
        assert (await store.get(letter.id)).redelivery == then


async def test_the_letters_of_one_call_get_each_their_own_schedule(store: DeadLetterStore) -> None:
    letters = [await stored(store, build_letter()) for _ in range(4)]
    claims = [await claim_one(store, it.id) for it in letters]
    given = [RetryPolicy(attempts=2), None, RetryPolicy(attempts=3), None]
    settlements = [
        Settlement(lease=claim.lease, state=PENDING, retry_at=NOW, redelivery=policy, excused=index % 2 == 0)
        for index, (claim, policy) in enumerate(zip(claims, given, strict=True))
    ]
    await store.settle(settlements, now=NOW)
    kept = [await store.get(it.id) for it in letters]
    assert [it.redelivery for it in kept] == [policy or letters[0].redelivery for policy in given]
    assert [it.retries for it in kept] == [0, 1, 0, 1]
