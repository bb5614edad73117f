"""``heartbeat``: a lease lives on while its token is the current one."""

from __future__ import annotations

import threading

import anyio.to_thread
from letters import NOW, after, build_letter
from steps import claim_one, heartbeat, rescue, running

from eventbus.ids import new_id
from eventbus_dlq.errors import LeaseHeld
from eventbus_dlq.letter import DeadLetterState
from eventbus_dlq.store import DeadLetterStore, Lease, Settlement


async def test_a_heartbeat_extends_the_lease_from_now(store: DeadLetterStore) -> None:
    lease = await running(store, build_letter())
    assert await heartbeat(store, [lease], now=after(20)) == []
    assert (await store.get(lease.dead_letter_id)).lease_until == after(50)
    (answer,) = await store.claim([lease.dead_letter_id], owner="worker-2", lease=30.0, now=after(49))
    assert isinstance(answer, LeaseHeld)


async def test_a_heartbeat_changes_nothing_but_the_lease(store: DeadLetterStore) -> None:
    lease = await running(store, build_letter())
    before = await store.get(lease.dead_letter_id)
    await heartbeat(store, [lease], now=after(20))
    kept = await store.get(lease.dead_letter_id)
    assert (kept.token, kept.attempts, kept.retries, kept.crashes) == (
        before.token,
        before.attempts,
        before.retries,
        before.crashes,
    )
    assert (kept.state, kept.lease_owner) == (before.state, before.lease_owner)


async def test_a_late_heartbeat_saves_a_lease_that_nobody_took(store: DeadLetterStore) -> None:
    lease = await running(store, build_letter())
    assert await heartbeat(store, [lease], now=after(300)) == []
    assert (await store.get(lease.dead_letter_id)).lease_until == after(330)


async def test_a_lease_that_was_taken_over_is_lost(store: DeadLetterStore) -> None:
    former = await running(store, build_letter())
    await rescue(store, former.dead_letter_id, now=after(31))
    await claim_one(store, former.dead_letter_id, now=after(31), owner="worker-2")
    assert await heartbeat(store, [former], now=after(32)) == [former]
    assert (await store.get(former.dead_letter_id)).lease_until == after(61)


async def test_a_lease_that_was_settled_or_released_is_lost(store: DeadLetterStore) -> None:
    settled, released = await running(store, build_letter()), await running(store, build_letter())
    await store.settle([Settlement(lease=settled, state=DeadLetterState.RESOLVED)], now=NOW)
    await store.release([released], now=NOW)
    assert await heartbeat(store, [settled, released], now=NOW) == [settled, released]
    for lease in (settled, released):
        assert (await store.get(lease.dead_letter_id)).lease_until is None


async def test_only_the_lost_ones_of_many_are_returned(store: DeadLetterStore) -> None:
    kept = [await running(store, build_letter()) for _ in range(3)]
    unknown = Lease(dead_letter_id=new_id(), token=1)
    ahead = Lease(dead_letter_id=kept[0].dead_letter_id, token=kept[0].token + 1)
    asked = [kept[0], unknown, kept[1], ahead, kept[2]]
    assert await heartbeat(store, asked, now=after(5)) == [unknown, ahead]
    for lease in kept:
        assert (await store.get(lease.dead_letter_id)).lease_until == after(35)


async def test_a_lease_that_was_rescued_is_lost(store: DeadLetterStore) -> None:
    former = await running(store, build_letter())
    letter = await rescue(store, former.dead_letter_id, now=after(31))
    assert await heartbeat(store, [former], now=after(32)) == [former]
    assert await store.get(former.dead_letter_id) == letter


async def test_a_heartbeat_needs_no_event_loop(store: DeadLetterStore) -> None:
    lease = await running(store, build_letter())
    lost: list[Lease] = []

    def beat() -> None:
        lost.extend(store.heartbeat([lease], lease=30.0, now=after(20)))

    thread = threading.Thread(target=beat)
    thread.start()
    await anyio.to_thread.run_sync(thread.join)
    assert lost == []
    assert (await store.get(lease.dead_letter_id)).lease_until == after(50)


async def test_a_heartbeat_gets_through_while_the_event_loop_is_busy(store: DeadLetterStore) -> None:
    lease = await running(store, build_letter())
    done = threading.Event()

    def beat() -> None:
        store.heartbeat([lease], lease=30.0, now=after(20))
        done.set()

    threading.Thread(target=beat).start()
    assert done.wait(10)  # blocks the loop
    assert (await store.get(lease.dead_letter_id)).lease_until == after(50)


async def test_no_lease_at_all_is_fine(store: DeadLetterStore) -> None:
    assert await heartbeat(store, [], now=NOW) == []
