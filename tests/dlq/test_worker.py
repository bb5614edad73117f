"""Durable deliveries: accepted, claimed by a worker, run through the bus, settled."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, ClassVar

import anyio
import pytest
import structlog
from pydantic import BaseModel
from tests.dlq.fakes import steal

from eventbus import BusClosed, Envelope, EventBus, RetryPolicy, TelemetryEvent
from eventbus.testing import FakeClock
from eventbus_dlq import (
    Claim,
    DeadLetterQuery,
    DeadLetterQueue,
    DeadLetterState,
    Lease,
    MemoryStore,
    Settlement,
    StoreLocked,
    StoreUnavailable,
)


class Steps(MemoryStore):
    """A store that notes what is asked of it, and can be away for some verbs."""

    def __init__(self) -> None:
        super().__init__()
        self.claims: list[int] = []
        self.settled: list[int] = []
        self.refuse: dict[str, Exception] = {}
        self.told: list[str] = []
        self.hold: dict[str, anyio.Event] = {}

    async def claim_due(self, wanted: Any, **options: Any) -> Sequence[Claim]:
        self._check("claim_due")
        claims = await super().claim_due(wanted, **options)
        self.claims.append(len(claims))
        await self._wait("claim_due")
        return claims

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime) -> Sequence[Lease]:
        self._check("settle")
        self.settled.append(len(settlements))
        return await super().settle(settlements, now=now)

    async def accept(self, deliveries: Any) -> Any:
        self._check("accept")
        kept = await super().accept(deliveries)
        await self._wait("accept")
        return kept

    def _check(self, verb: str) -> None:
        if verb in self.refuse:
            self.told.append(verb)
            raise self.refuse[verb]

    async def _wait(self, verb: str) -> None:
        if verb in self.hold:
            self.told.append(verb)
            await self.hold[verb].wait()

    async def until(self, there: Callable[[], bool]) -> None:
        with anyio.fail_after(10):
            while not there():
                await anyio.sleep(0.001)


def durable(
    store: MemoryStore, handler: Any, *, bus: dict[str, Any] | None = None, **options: Any
) -> EventBus:
    """Return a bus with one durable handler, which polls too rarely for a test to depend on it."""
    on = {key: options.pop(key) for key in list(options) if key in ("max_concurrency", "retry", "timeout")}
    made = EventBus(dlq=DeadLetterQueue(store, **{"poll": 3600, **options}), **(bus or {}))
    made.subscribe("job", handler, id="handler", durable=True, **on)
    return made


async def idle(bus: EventBus) -> None:
    with anyio.fail_after(20):
        await bus.wait_idle()


async def when_all_wait(call: Callable[[], None]) -> None:
    await anyio.wait_all_tasks_blocked()
    call()


async def letters_of(store: MemoryStore) -> list[Any]:
    page = await store.find(DeadLetterQuery(), order="oldest")
    return [await store.get(it.id) for it in page.items]


async def test_what_is_accepted_is_run_and_leaves_no_row(store: MemoryStore) -> None:
    seen: list[Any] = []
    told: list[TelemetryEvent] = []

    async def handler(event: Any, envelope: Envelope) -> None:
        seen.append((event, envelope.replay))

    bus = durable(store, handler, bus={"observers": [told.append]})
    async with bus:
        for number in range(3):
            receipt = await bus.publish("job", number)
            assert receipt.deliveries["handler"].state == "accepted"
        await idle(bus)
        assert (await bus.stats()).total == 0
    assert seen == [(0, None), (1, None), (2, None)]
    assert not [it for it in told if it.name.startswith("dead_letter.")]


async def test_what_succeeds_can_be_kept_as_resolved(store: MemoryStore) -> None:
    async def handler(event: Any) -> None:
        pass

    bus = durable(store, handler, keep_succeeded=True)
    async with bus:
        await bus.publish("job", 1)
        await idle(bus)
    (letter,) = await letters_of(store)
    assert (letter.state, letter.attempts, letter.retries, letter.error) == ("resolved", 1, 0, None)


async def test_what_was_accepted_before_a_crash_is_run_by_the_next_process(store: MemoryStore) -> None:
    seen: list[int] = []

    async def handler(event: int) -> None:
        seen.append(event)

    before = durable(store, handler, worker=False)
    async with before:
        await before.publish("job", 7)
        await idle(before)  # whoever has no worker waits for nobody's
    assert seen == []
    after = durable(store, handler)
    async with after:
        with anyio.fail_after(10):
            while not seen:
                await anyio.sleep(0.001)
    assert seen == [7]


async def test_a_failure_becomes_pending_with_its_whole_budget_and_is_told_as_captured(
    store: MemoryStore, fake_clock: FakeClock
) -> None:
    told: list[TelemetryEvent] = []

    async def handler(event: Any, envelope: Envelope) -> None:
        envelope.annotate(step=3)
        raise RuntimeError("card declined")

    policy = RetryPolicy(attempts=2, delay=60, jitter=False)
    bus = durable(store, handler, redelivery=policy, clock=fake_clock, bus={"observers": [told.append]})
    async with bus:
        await bus.publish("job", 1)
        await idle(bus)
        (letter,) = await letters_of(store)
        assert (letter.state, letter.reason, letter.attempts, letter.retries) == ("pending", None, 1, 0)
        assert letter.error is not None
        assert (letter.error.message, letter.annotations) == ("card declined", {"step": 3})
        assert [(it.number, it.error.message) for it in letter.history] == [(1, "card declined")]
        assert (letter.retry_at - fake_clock.now).total_seconds() == 60
        assert letter.fingerprint
        captured = [it.fields for it in told if it.name == "dead_letter.captured"]
        assert [(it["dead_letter"], it["state"], it["event_id"]) for it in captured] == [
            (letter.id, "pending", letter.event_id)
        ]
        assert (await bus.replay(letter.id)).state == "pending"
        assert (await bus.replay(letter.id)).state == "exhausted"


async def test_in_process_attempts_are_numbered_on_and_counted(store: MemoryStore) -> None:
    async def handler(event: Any) -> None:
        raise RuntimeError("fails")

    bus = durable(store, handler, retry=RetryPolicy(attempts=3, delay=0))
    async with bus:
        await bus.publish("job", 1)
        await idle(bus)
    (letter,) = await letters_of(store)
    assert (letter.attempts, letter.retries) == (3, 0)
    assert [it.number for it in letter.history] == [1, 2, 3]


async def test_a_permanent_failure_is_exhausted_and_told_so(store: MemoryStore) -> None:
    told: list[TelemetryEvent] = []

    async def handler(event: Any) -> None:
        raise TypeError("a bug")

    bus = durable(store, handler, bus={"observers": [told.append]})
    async with bus:
        await bus.publish("job", 1)
        await idle(bus)
    (letter,) = await letters_of(store)
    assert (letter.state, letter.reason) == ("exhausted", "permanent")
    assert [it.name for it in told if it.name.startswith("dead_letter.")] == [
        "dead_letter.captured",
        "dead_letter.exhausted",
    ]


async def test_no_more_run_at_a_time_than_the_handler_and_the_queue_allow(store: MemoryStore) -> None:
    running, most = {"narrow": 0, "wide": 0}, {"narrow": 0, "wide": 0}
    together = 0

    def counting(name: str) -> Any:
        async def handler(event: Any) -> None:
            nonlocal together
            running[name] += 1
            most[name] = max(most[name], running[name])
            together = max(together, sum(running.values()))
            await anyio.sleep(0.001)
            running[name] -= 1

        return handler

    bus = EventBus(dlq=DeadLetterQueue(store, concurrency=5, poll=3600))
    bus.subscribe("job", counting("narrow"), id="narrow", durable=True, max_concurrency=2)
    bus.subscribe("job", counting("wide"), id="wide", durable=True)
    async with bus:
        for number in range(20):
            await bus.publish("job", number)
        await idle(bus)
        assert (await bus.stats()).total == 0
    assert most["narrow"] == 2
    assert 2 < together <= 5


async def test_room_that_is_left_while_the_store_is_being_asked_is_filled(store: MemoryStore) -> None:
    """Between the look at what there is room for and the claim, a handler that was full may end."""

    async def handler(event: Any) -> None:
        await anyio.sleep(0)

    bus = EventBus(dlq=DeadLetterQueue(store, concurrency=5, poll=3600))
    bus.subscribe("job", handler, id="narrow", durable=True, max_concurrency=2)
    bus.subscribe("job", handler, id="wide", durable=True)
    async with bus:
        for _ in range(60):
            for number in range(8):
                await bus.publish("job", number)
            await idle(bus)
            assert (await bus.stats()).total == 0


async def test_claims_ask_for_no_more_than_can_run_now(fake_clock: FakeClock) -> None:
    store = Steps()
    go = anyio.Event()

    async def handler(event: Any) -> None:
        await go.wait()

    bus = durable(store, handler, concurrency=3, worker=True)
    async with bus:
        for number in range(7):
            await bus.publish("job", number)
        await anyio.wait_all_tasks_blocked()
        assert sum(store.claims) == 3
        go.set()
        await idle(bus)
    assert sum(store.claims) == 7


async def test_handlers_that_never_wait_are_settled_in_batches() -> None:
    store = Steps()
    seen: list[int] = []

    async def handler(event: int) -> None:
        seen.append(event)

    first = durable(store, handler, worker=False)
    async with first:
        for number in range(250):
            await first.publish("job", number)
    second = durable(store, handler)
    async with second:
        await store.until(lambda: len(seen) == 250 and sum(store.settled) == 250)
    assert seen == list(range(250))
    assert len(store.settled) <= 4


async def test_one_handler_that_waits_holds_up_no_other(store: MemoryStore) -> None:
    seen: list[int] = []
    go = anyio.Event()

    async def handler(event: int) -> None:
        if event == 0:
            await go.wait()
        seen.append(event)

    bus = durable(store, handler)
    async with bus:
        for number in range(4):
            await bus.publish("job", number)
        with anyio.fail_after(10):
            while len(seen) < 3:
                await anyio.sleep(0.001)
        assert sorted(seen) == [1, 2, 3]
        go.set()
        await idle(bus)
    assert seen[-1] == 0


async def test_deliveries_of_one_key_run_in_the_order_of_their_acceptance(store: MemoryStore) -> None:
    seen: dict[str, list[int]] = {"a": [], "b": []}

    async def handler(event: dict[str, Any]) -> None:
        await anyio.sleep(0.002 if event["n"] % 2 else 0)
        seen[event["key"]].append(event["n"])

    bus = EventBus(dlq=DeadLetterQueue(store, poll=3600))
    bus.subscribe("job", handler, id="handler", durable=True, ordering_key=lambda event: event["key"])
    async with bus:
        for number in range(6):
            for key in ("a", "b"):
                await bus.publish("job", {"key": key, "n": number})
        await idle(bus)
    assert seen == {"a": list(range(6)), "b": list(range(6))}


async def test_behind_a_failure_the_later_ones_of_its_key_are_parked_and_not_waited_for(
    store: MemoryStore,
) -> None:
    seen: list[int] = []

    async def handler(event: int) -> None:
        if event == 0:
            raise RuntimeError("the first fails")
        seen.append(event)

    bus = EventBus(dlq=DeadLetterQueue(store, poll=3600))
    bus.subscribe("job", handler, id="handler", durable=True, ordering_key=lambda event: "k")
    async with bus:
        for number in range(3):
            await bus.publish("job", number)
        await idle(bus)
        first, *others = await letters_of(store)
        assert first.state == "pending"
        assert [(it.state, it.reason) for it in others] == [("parked", "sequence")] * 2
        await bus.resolve(first.id)
        with anyio.fail_after(10):
            while len(seen) < 2:
                await anyio.sleep(0.001)
    assert seen == [1, 2]


async def test_what_kills_its_process_three_times_is_poison(store: MemoryStore) -> None:
    seen: list[Any] = []
    told: list[TelemetryEvent] = []

    async def handler(event: Any) -> None:
        seen.append(event)

    publisher = durable(store, handler, worker=False)
    async with publisher:
        await publisher.publish("job", 1)
    (letter,) = await letters_of(store)
    for _ in range(2):
        (claim,) = await store.claim_due(
            {"handler": 1},
            states={DeadLetterState.ACCEPTED},
            limit=1,
            owner="killed",
            lease=30,
            now=letter.created_at,
        )
        await store.rescue(await store.leased(now=letter.created_at), max_crashes=3, now=letter.created_at)
    (claim,) = await store.claim_due(
        {"handler": 1},
        states={DeadLetterState.ACCEPTED},
        limit=1,
        owner="killed",
        lease=30,
        now=letter.created_at,
    )
    assert claim.letter.crashes == 2
    bus = durable(store, handler, lease=0.06, bus={"observers": [told.append]})
    async with bus:
        with anyio.fail_after(10):
            while (await store.get(letter.id)).state == "running":
                await anyio.sleep(0.01)
    poison = await store.get(letter.id)
    assert (poison.state, poison.reason, poison.crashes) == ("exhausted", "poison", 3)
    assert seen == []
    names = [it.name for it in told if it.name.startswith("dead_letter.")]
    assert names == ["dead_letter.rescued", "dead_letter.exhausted"]


async def test_a_lost_lease_cancels_the_handler_and_records_nothing(store: MemoryStore) -> None:
    ended: list[str] = []
    told: list[TelemetryEvent] = []

    async def handler(event: Any) -> None:
        if event == "next":
            ended.append("next")
            return
        (letter,) = await letters_of(store)
        await steal(store, letter.id)
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("cancelled")

    bus = durable(store, handler, lease=0.06, bus={"observers": [told.append]})
    async with bus:
        await bus.publish("job", 1)
        with anyio.fail_after(10):
            while not ended:
                await anyio.sleep(0.001)
        await anyio.wait_all_tasks_blocked()
        (letter,) = await letters_of(store)
        assert (letter.state, letter.lease_owner, letter.error) == ("running", "thief", None)
        await bus.publish("job", "next")  # the worker goes on
        with anyio.fail_after(10):
            while len(ended) < 2:
                await anyio.sleep(0.001)
    assert ended == ["cancelled", "next"]
    assert [it.fields["dead_letter"] for it in told if it.name == "lease.lost"] == [letter.id]


async def test_a_lease_lost_just_before_settling_records_nothing_and_is_told(store: MemoryStore) -> None:
    told: list[TelemetryEvent] = []

    async def handler(event: Any) -> None:
        (letter,) = await letters_of(store)
        await steal(store, letter.id)

    bus = durable(store, handler, bus={"observers": [told.append]})
    async with bus:
        await bus.publish("job", 1)
        await idle(bus)
        (letter,) = await letters_of(store)
    assert (letter.state, letter.lease_owner) == ("running", "thief")
    assert [it.name for it in told if it.name == "lease.lost"] == ["lease.lost"]


async def test_a_lease_lost_before_its_handler_has_begun_is_not_run(store: MemoryStore) -> None:
    """The event loop was blocked by the first one for so long that the second one was taken over."""
    seen: list[int] = []

    async def handler(event: int) -> None:
        seen.append(event)
        if event == 0:
            for letter in await letters_of(store):
                if letter.payload == 1:
                    await steal(store, letter.id)
            run = bus.dlq._running._worker._runner._waiting[0]  # type: ignore[union-attr]
            run.lose()  # as the lease keeper does

    first = durable(store, handler, worker=False)
    async with first:
        for number in range(3):
            await first.publish("job", number)
    bus = durable(store, handler)
    async with bus:
        with anyio.fail_after(10):
            while 2 not in seen:
                await anyio.sleep(0.001)
    assert seen == [0, 2]


async def test_an_event_loop_blocked_past_the_lease_keeps_its_work(store: MemoryStore) -> None:
    told: list[TelemetryEvent] = []

    async def handler(event: Any) -> None:
        time.sleep(0.6)
        await anyio.sleep(0.05)

    bus = durable(store, handler, lease=0.2, bus={"observers": [told.append]})
    other = EventBus(dlq=DeadLetterQueue(store, lease=0.2))  # it rescues, if there is anything to rescue
    async with bus, other:
        await bus.publish("job", 1)
        await idle(bus)
        assert (await bus.stats()).total == 0
    assert not [it for it in told if it.name in ("lease.lost", "dead_letter.rescued")]


async def test_an_event_loop_blocked_past_the_stall_limit_loses_its_work(store: MemoryStore) -> None:
    told: list[TelemetryEvent] = []
    runs: list[str] = []

    async def handler(event: Any) -> None:
        runs.append("began")
        time.sleep(0.5)
        (letter,) = await letters_of(store)
        # as another process saw it meanwhile: the lease has run out
        assert letter.lease_until is not None
        lateness.append(time.time() - letter.lease_until.timestamp())
        await steal(store, letter.id)
        await anyio.sleep_forever()

    lateness: list[float] = []
    bus = durable(store, handler, lease=0.09, stall_limit=0.12, bus={"observers": [told.append]})
    async with bus:
        await bus.publish("job", 1)
        with anyio.fail_after(10):
            while not [it for it in told if it.name == "lease.lost"]:
                await anyio.sleep(0.001)
    assert runs == ["began"]
    assert lateness[0] > 0.1


async def test_stopping_lets_what_runs_finish_and_gives_the_rest_back_uncharged() -> None:
    store = Steps()
    began, go = anyio.Event(), anyio.Event()
    seen: list[int] = []

    async def handler(event: int) -> None:
        began.set()
        await go.wait()
        seen.append(event)

    bus = durable(store, handler, max_concurrency=1, concurrency=5)
    async with anyio.create_task_group() as group:
        await bus.start()
        for number in range(3):
            await bus.publish("job", number)
        await began.wait()
        group.start_soon(when_all_wait, go.set)
        await bus.stop()
    assert seen == [0]
    left = await letters_of(store)
    assert [(it.state, it.attempts, it.token) for it in left] == [("accepted", 0, 0), ("accepted", 0, 0)]


async def test_what_outlives_the_grace_is_cut_short_and_given_back_uncharged(store: MemoryStore) -> None:
    began = anyio.Event()

    async def handler(event: Any) -> None:
        began.set()
        await anyio.sleep_forever()

    bus = durable(store, handler, bus={"shutdown_grace": 0})
    async with bus:
        await bus.publish("job", 1)
        with anyio.fail_after(10):
            await began.wait()
    (letter,) = await letters_of(store)
    assert (letter.state, letter.attempts, letter.crashes, letter.lease_owner) == ("accepted", 0, 0, None)


async def test_a_claim_that_is_granted_while_the_bus_stops_is_given_back() -> None:
    store = Steps()
    seen: list[Any] = []

    async def handler(event: Any) -> None:
        seen.append(event)

    bus = durable(store, handler, bus={"shutdown_grace": 0})
    async with anyio.create_task_group() as group:
        await bus.start()
        store.hold["claim_due"] = anyio.Event()
        await bus.publish("job", 1)
        await store.until(lambda: "claim_due" in store.told)
        group.start_soon(when_all_wait, store.hold["claim_due"].set)
        await bus.stop()
    (letter,) = await letters_of(store)
    assert (letter.state, letter.attempts, letter.lease_owner) == ("accepted", 0, None)
    assert seen == []


async def test_a_store_that_is_away_while_settling_loses_no_result() -> None:
    store = Steps()
    told: list[TelemetryEvent] = []

    async def handler(event: Any) -> None:
        store.refuse["settle"] = StoreUnavailable("the server is gone")

    bus = durable(store, handler, bus={"observers": [told.append]})
    async with bus:
        await bus.publish("job", 1)
        await store.until(lambda: store.told.count("settle") == 2)
        (letter,) = await letters_of(store)
        assert letter.state == "running"
        del store.refuse["settle"]
        await idle(bus)
        assert (await bus.stats()).total == 0
    assert next(it.fields for it in told if it.name == "store.unavailable") == {"error": "the server is gone"}


async def test_a_store_that_is_away_while_claiming_is_asked_again() -> None:
    store = Steps()
    seen: list[Any] = []

    async def handler(event: Any) -> None:
        seen.append(event)

    bus = durable(store, handler)
    async with bus:
        store.refuse["claim_due"] = StoreUnavailable("the server is gone")
        await bus.publish("job", 1)
        await store.until(lambda: store.told.count("claim_due") >= 2)
        with structlog.testing.capture_logs() as logs:
            store.refuse["claim_due"] = ZeroDivisionError("a bug of the store")
            asked = len(store.told)
            await store.until(lambda: len(store.told) > asked)
            store.refuse.clear()
            await idle(bus)
    assert [it["exc_info"] for it in logs if it["event"] == "worker.cannot_claim"][-1] is not None
    assert seen == [1]


async def test_claims_whose_answer_was_lost_are_given_back_and_no_crash_of_the_process() -> None:
    class Answerless(Steps):
        lost = 4

        async def claim_due(self, wanted: Any, **options: Any) -> Sequence[Claim]:
            claims = await super().claim_due(wanted, **options)
            if claims and self.lost:
                self.lost -= 1
                raise StoreUnavailable("the connection broke after the commit")
            return claims

    store, seen = Answerless(), []

    async def handler(event: Any, envelope: Envelope) -> None:
        seen.append(event)
        if event == "first":
            await go.wait()

    go = anyio.Event()
    bus = durable(store, handler, max_crashes=1)
    async with bus:
        store.lost, lost = 0, store.lost
        await bus.publish("job", "first", ordering_key="a")
        await store.until(lambda: seen)
        store.lost = lost
        await bus.publish("job", "second", ordering_key="b")
        await store.until(lambda: len(seen) == 2)
        go.set()
        await idle(bus)
        assert (await bus.stats()).total == 0
    assert seen == ["first", "second"]


async def test_a_replay_or_a_persons_verb_on_the_head_sets_the_next_of_its_key_free(
    store: MemoryStore,
) -> None:
    seen: list[int] = []
    broken = {0, 1}

    async def handler(event: int) -> None:
        if event in broken:
            raise RuntimeError("fails")
        seen.append(event)

    bus = EventBus(dlq=DeadLetterQueue(store, poll=3600))
    bus.subscribe("job", handler, id="handler", durable=True, ordering_key=lambda event: "k")
    async with bus:
        for number in range(4):
            await bus.publish("job", number)
        await idle(bus)
        first, second, *_ = await letters_of(store)
        broken.discard(0)
        await bus.replay(first.id)
        with anyio.fail_after(10):
            while (await store.get(second.id)).state != "pending":
                await anyio.sleep(0.001)
        await bus.delete(second.id)
        with anyio.fail_after(10):
            while len(seen) < 3:
                await anyio.sleep(0.001)
    assert seen == [0, 2, 3]


async def test_a_run_that_the_store_refuses_to_record_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("eventbus_dlq.results._MAX_REFUSED", 2)

    class Picky(MemoryStore):
        async def settle(self, settlements: Sequence[Settlement], *, now: datetime) -> Sequence[Lease]:
            for settlement in settlements:
                if (await self.get(settlement.lease.dead_letter_id)).payload == "bad":
                    raise StoreUnavailable("cannot hold that", retryable=False)
            return await super().settle(settlements, now=now)

    store = Picky()

    async def handler(event: Any) -> None:
        pass

    first = durable(store, handler, worker=False)
    async with first:
        for event in (1, "bad", 2):
            await first.publish("job", event)
    bus = durable(store, handler)
    async with bus:
        with anyio.fail_after(10):
            while len(await letters_of(store)) > 1:
                await anyio.sleep(0.001)
        with structlog.testing.capture_logs() as logs, anyio.fail_after(10):
            while not [it for it in logs if it["event"] == "worker.gave_up"]:
                await anyio.sleep(0.001)
    (letter,) = await letters_of(store)
    assert (letter.payload, letter.state) == ("bad", "running")  # until its lease runs out


class HeldUp(Steps):
    """A store, in which somebody's transaction holds what is about one key."""

    def __init__(self) -> None:
        super().__init__()
        self.key: str | None = "k"
        self.refused = 0

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime) -> Sequence[Lease]:
        self._refuse([it.lease for it in settlements])
        return await super().settle(settlements, now=now)

    async def release(self, leases: Sequence[Lease], *, now: datetime) -> Sequence[Lease]:
        self._refuse(leases)
        return await super().release(leases, now=now)

    def _refuse(self, leases: Sequence[Lease]) -> None:
        ids = [it.dead_letter_id for it in leases if self._rows[it.dead_letter_id].letter.ordering_key]
        if ids and self.key is not None:
            self.refused += 1
            raise StoreLocked("somebody's transaction is open", frozenset(ids))


async def test_a_run_whose_sequence_is_held_by_a_transaction_is_recorded_after_it() -> None:
    store = HeldUp()
    seen: list[Any] = []

    async def handler(event: Any) -> None:
        seen.append(event)

    bus = durable(store, handler)
    async with bus:
        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(
                    partial(bus.publish, "job", number, ordering_key="k" if number == 2 else None)
                )
        await store.until(lambda: store.refused > 2)
        (held_up,) = await letters_of(store)
        assert (held_up.state, held_up.ordering_key) == ("running", "k")
        await bus.publish("job", 5)
        await store.until(lambda: 5 in seen)
        store.key = None
        await idle(bus)
        assert (await bus.stats()).total == 0
    assert sorted(seen) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("ends", [True, False])
async def test_a_bus_that_stops_beside_a_transaction_waits_for_it_a_little(
    ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventbus_dlq.worker._PATIENCE", 0.2)
    store = HeldUp()

    async def handler(event: Any) -> None: ...

    bus = durable(store, handler)
    async with anyio.create_task_group() as group, bus:
        await bus.publish("job", 1, ordering_key="k")
        await store.until(lambda: store.refused > 0)

        async def end() -> None:
            await anyio.sleep(0.05)
            store.key = None

        if ends:
            group.start_soon(end)
    assert [it.state for it in await letters_of(store)] == ([] if ends else ["running"])


async def test_results_that_the_store_does_not_take_at_the_end_are_left_to_a_rescue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("eventbus_dlq.worker._PATIENCE", 0.1)
    store = Steps()

    async def handler(event: Any) -> None:
        store.refuse["settle"] = StoreUnavailable("the server is gone")

    bus = durable(store, handler)
    with structlog.testing.capture_logs() as logs:
        async with bus:
            await bus.publish("job", 1)
            await store.until(lambda: "settle" in store.told)
    (letter,) = await letters_of(store)
    assert letter.state == "running"
    assert [it["dead_letter"] for it in logs if it["event"] == "worker.left"] == [letter.id]


async def test_a_handler_that_was_unsubscribed_since_the_claim_leaves_it_to_others() -> None:
    store = Steps()

    async def handler(event: Any) -> None:
        raise AssertionError("it is not subscribed")

    bus = durable(store, handler)
    async with bus:
        store.hold["claim_due"] = anyio.Event()
        await bus.publish("job", 1)
        await store.until(lambda: "claim_due" in store.told)
        (subscription,) = bus.subscriptions
        bus.unsubscribe(subscription)
        store.hold.pop("claim_due").set()
        await idle(bus)
        (letter,) = await letters_of(store)
    assert (letter.state, letter.attempts) == ("accepted", 0)


async def test_an_undecodable_payload_is_exhausted_and_uncharged(store: MemoryStore) -> None:
    class Job(BaseModel):
        event_name: ClassVar[str] = "job"
        n: int

    async def handler(event: Job) -> None:
        raise AssertionError("it cannot be decoded")

    async def anything(event: Any) -> None:
        pass

    first = durable(store, anything, worker=False)
    async with first:
        await first.publish("job", "not a number")
    bus = EventBus(dlq=DeadLetterQueue(store, poll=3600))
    bus.subscribe(Job, handler, id="handler", durable=True)
    async with bus:
        with anyio.fail_after(10):
            while (await letters_of(store))[0].state in ("accepted", "running"):
                await anyio.sleep(0.001)
    (letter,) = await letters_of(store)
    assert (letter.state, letter.reason, letter.attempts) == ("exhausted", "undecodable", 0)
    assert letter.error is not None
    assert letter.fingerprint


async def test_after_a_timeout_the_lease_is_held_until_the_thread_returns(store: MemoryStore) -> None:
    go = threading.Event()

    def slow(event: Any) -> None:
        go.wait(30)

    bus = durable(store, slow, timeout=0.25)
    try:
        async with bus:
            await bus.publish("job", 1)
            with anyio.fail_after(10):
                while bus.metrics.snapshot()["handler"].timed_out == 0:
                    await anyio.sleep(0.001)
            await anyio.wait_all_tasks_blocked()
            (letter,) = await letters_of(store)
            assert letter.state == "running"
            go.set()
            await idle(bus)
            (letter,) = await letters_of(store)
    finally:
        go.set()
    assert letter.error is not None
    assert (letter.state, letter.attempts, letter.error.kind) == ("pending", 1, "timeout")


async def test_a_thread_that_outlives_the_bus_is_named_and_its_lease_runs_out(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventbus.core._AFTER_GRACE", 0.05)
    go = threading.Event()

    def slow(event: Any) -> None:
        go.wait(30)

    bus = durable(store, slow, timeout=0.25, bus={"shutdown_grace": 0})
    try:
        with structlog.testing.capture_logs() as logs:
            async with bus:
                await bus.publish("job", 1)
                with anyio.fail_after(10):
                    while bus.metrics.snapshot()["handler"].timed_out == 0:
                        await anyio.sleep(0.001)
                await anyio.wait_all_tasks_blocked()
    finally:
        go.set()
    (letter,) = await letters_of(store)
    assert letter.state == "running"
    assert [it["handler_id"] for it in logs if it["event"] == "shutdown.thread_left"] == ["handler"]


async def test_poll_finds_what_nobody_has_told_of(store: MemoryStore, fake_clock: FakeClock) -> None:
    seen = anyio.Event()

    async def handler(event: Any) -> None:
        seen.set()

    bus = durable(store, handler, clock=fake_clock, poll=1)
    other = durable(store, handler, worker=False)
    async with other, bus:
        await anyio.wait_all_tasks_blocked()
        await other.publish("job", 1)
        await anyio.wait_all_tasks_blocked()
        assert not seen.is_set()
        fake_clock.advance(1)
        with anyio.fail_after(10):
            await seen.wait()


async def test_no_task_and_no_thread_is_left_behind(store: MemoryStore) -> None:
    async def handler(event: Any) -> None:
        await anyio.sleep(0)

    before = {it.name for it in threading.enumerate()}
    bus = durable(store, handler)
    async with bus:
        await bus.publish("job", 1)
        await idle(bus)
    left = {it.name for it in threading.enumerate()} - before
    assert not [name for name in left if name.startswith("eventbus-")]


@pytest.mark.parametrize("at", ["running", "settling"])
async def test_what_the_bus_itself_fails_at_is_left_to_a_rescue_and_becomes_poison(
    store: MemoryStore, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def handler(event: Any) -> None: ...

    async def broken(stored: Any) -> Any:
        raise RecursionError("too deep to decode")

    def undecided(*_: Any, **__: Any) -> Any:
        raise OverflowError("no such date")

    bus = durable(store, handler)
    with structlog.testing.capture_logs() as logs:
        async with bus:
            if at == "running":
                bus.redeliver = broken  # type: ignore[method-assign]
            else:
                monkeypatch.setattr("eventbus_dlq.runner.settlement_of", undecided)
            await bus.publish("job", 1)
            await idle(bus)
            keeper = bus.dlq._running._keeper  # type: ignore[union-attr]
            assert not keeper._watched
    (letter,) = await letters_of(store)
    assert letter.state == "running"
    assert [it["dead_letter"] for it in logs if it["event"] == "worker.failed"] == [letter.id]


async def test_a_bus_that_has_closed_meanwhile_leaves_the_delivery_uncharged(store: MemoryStore) -> None:
    async def handler(event: Any) -> None: ...

    async def closed(stored: Any) -> Any:
        raise BusClosed("stopping")

    bus = durable(store, handler)
    async with bus:
        bus.redeliver = closed  # type: ignore[method-assign]
        await bus.publish("job", 1)
        await idle(bus)
        bus.dlq.halt()
    (letter,) = await letters_of(store)
    assert (letter.state, letter.attempts) == ("accepted", 0)


async def test_what_was_claimed_and_has_not_begun_when_the_bus_stops_is_given_back(
    store: MemoryStore,
) -> None:
    seen: list[int] = []

    async def handler(event: int) -> None:
        seen.append(event)
        bus.dlq.halt()  # as the bus does when it begins to stop

    first = durable(store, handler, worker=False)
    async with first:
        for number in range(4):
            await first.publish("job", number)
    bus = durable(store, handler)
    async with bus:
        with anyio.fail_after(10):
            while not seen:
                await anyio.sleep(0.001)
    left = await letters_of(store)
    assert seen == [0]
    assert [(it.payload, it.state, it.attempts) for it in left] == [
        (number, "accepted", 0) for number in (1, 2, 3)
    ]


async def test_a_lease_lost_while_an_abandoned_thread_still_runs_records_nothing(store: MemoryStore) -> None:
    go = threading.Event()
    told: list[TelemetryEvent] = []

    def slow(event: Any) -> None:
        go.wait(30)

    bus = durable(store, slow, timeout=0.25, lease=0.09, bus={"observers": [told.append]})
    try:
        async with bus:
            await bus.publish("job", 1)
            with anyio.fail_after(10):
                while bus.metrics.snapshot()["handler"].timed_out == 0:
                    await anyio.sleep(0.001)
                (letter,) = await letters_of(store)
                await steal(store, letter.id)
                while not [it for it in told if it.name == "lease.lost"]:
                    await anyio.sleep(0.001)
            go.set()
            await idle(bus)
    finally:
        go.set()
    (letter,) = await letters_of(store)
    assert (letter.state, letter.lease_owner, letter.error) == ("running", "thief", None)
