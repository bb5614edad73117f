"""Outage mode: a handler that keeps failing is probed by one delivery at a time, and comes back gradually."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from tests.dlq.fakes import steal

from eventbus import CircuitPolicy, Classification, EventBus, Kind, RetryPolicy, TelemetryEvent
from eventbus.testing import FakeClock
from eventbus_dlq import DeadLetterQuery, DeadLetterQueue, MemoryStore

HOUR = 3_600.0
OPEN = {"accepted", "running", "pending", "exhausted", "parked"}
LEASE = 100 * HOUR  # what is told of leases stands in other tests


class Partner:
    """What a handler talks to: it answers, or it does not."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.error: BaseException | None = None
        self.gate: anyio.Event | None = None
        self.attempts: list[float] = []
        self.done: list[Any] = []
        self.at_a_time: list[int] = []
        self._running = 0

    async def __call__(self, event: Any) -> None:
        self.attempts.append(self.clock.monotonic())
        self._running += 1
        self.at_a_time.append(self._running)
        try:
            await (self.gate.wait() if self.gate is not None else checkpoint())
            if self.error is not None:
                raise self.error
            self.done.append(event)
        finally:
            self._running -= 1


def key_of(event: Any) -> str | None:
    return event[0] if isinstance(event, (list, tuple)) else None


def bus_on(
    store: MemoryStore,
    clock: FakeClock,
    handlers: dict[str, Any],
    *,
    on: dict[str, Any] | None = None,
    **options: Any,
) -> EventBus:
    dlq = DeadLetterQueue(store, clock=clock, **{"concurrency": 20, "lease": LEASE, "poll": HOUR, **options})
    bus = EventBus(dlq=dlq)
    for handler_id, handler in handlers.items():
        bus.subscribe("job", handler, id=handler_id, durable=True, ordering_key=key_of, **(on or {}))
    return bus


async def pass_by(clock: FakeClock, seconds: float, *, step: float = 15.0) -> None:
    """Turn the clock in steps, and let everything happen that is due after each."""
    end = clock.monotonic() + seconds
    while True:
        await settle_down()
        left = end - clock.monotonic()
        if left <= 0:
            return
        clock.advance(min(step, left))


async def settle_down() -> None:
    for _ in range(40):
        await checkpoint()


async def until(there: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not there():
            await checkpoint()


async def letters_of(store: MemoryStore, **query: Any) -> list[Any]:
    letters, cursor = [], None
    while True:
        page = await store.find(DeadLetterQuery(**query), limit=1_000, cursor=cursor, order="oldest")
        letters += [await store.get(it.id) for it in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return letters


async def publish_backlog(bus: EventBus, *, keyed: int, others: int) -> None:
    for number in range(keyed):
        await bus.publish("job", [f"key-{number % 5}", number])
    for number in range(others):
        await bus.publish("job", number)


@pytest.mark.repetitive
async def test_an_hour_of_outage_costs_few_attempts_and_nobodys_retries(store: MemoryStore) -> None:
    clock = FakeClock()
    partner, healthy = Partner(clock), Partner(clock)
    bus = bus_on(store, clock, {"billing": partner, "mail": healthy})
    async with bus:
        await bus.publish("job", "before")
        await until(lambda: partner.done == healthy.done == ["before"])
        await settle_down()
        partner.error = ConnectionError("down")
        for number in range(10):
            await bus.capture("job", partner.error, handler="billing", data=number)
        await publish_backlog(bus, keyed=500, others=200)
        await until(lambda: len(healthy.done) == 701)
        await pass_by(clock, HOUR)
        assert len(partner.attempts) <= 1 + 20 + 6 + HOUR / 60  # what ran when it opened, and the probes
        assert bus.circuits()["billing"].state == "open"
        letters = await letters_of(store, handler="billing")
        assert len(letters) == 710
        assert {letter.state for letter in letters} <= {"accepted", "pending", "parked"}
        assert sum(letter.retries for letter in letters) <= 5
        assert (
            sum(letter.token for letter in letters) <= len(partner.attempts) + 2 * 20
        )  # few were claimed in vain
        await bus.publish("job", "meanwhile")
        await settle_down()
        assert healthy.done[-1] == "meanwhile"

        partner.error = None
        partner.at_a_time.clear()
        await pass_by(clock, 15 * 60)
        assert bus.circuits()["billing"].state == "closed"
        assert await letters_of(store, handler="billing", state=OPEN) == []
    order = defaultdict(list)
    for event in partner.done:
        if isinstance(event, list):
            order[event[0]].append(event[1])
    assert {key: len(numbers) for key, numbers in order.items()} == {f"key-{n}": 100 for n in range(5)}
    assert all(numbers == sorted(numbers) for numbers in order.values())
    assert len(partner.done) == 712
    assert max(partner.at_a_time[:1]) == 1
    assert max(partner.at_a_time[:3]) <= 2
    assert max(partner.at_a_time[:7]) <= 4


@pytest.mark.repetitive
async def test_a_restart_amid_an_outage_is_no_retry_storm(store: MemoryStore) -> None:
    clock, partner = FakeClock(), None
    attempts: list[int] = []
    for _ in range(4):
        partner = Partner(clock)
        partner.error = TimeoutError()
        bus = bus_on(store, clock, {"billing": partner}, concurrency=100)
        async with bus:
            if not attempts:
                await publish_backlog(bus, keyed=100, others=200)
            await pass_by(clock, 15 * 60)
        attempts.append(len(partner.attempts))
    assert all(number <= 5 + 6 + 15 for number in attempts), attempts
    letters = await letters_of(store)
    assert len(letters) == 300
    assert {letter.state for letter in letters} <= {"accepted", "pending", "parked"}
    assert sum(letter.retries for letter in letters) <= 4 * 5

    partner = Partner(clock)
    async with bus_on(store, clock, {"billing": partner}, poll=60.0):
        await pass_by(clock, HOUR, step=20.0)
    assert len(partner.done) == 300
    assert await letters_of(store, state=OPEN) == []


async def test_a_handler_that_has_not_answered_yet_is_not_tried_with_everything_at_once(
    store: MemoryStore,
) -> None:
    clock = FakeClock()
    partner = Partner(clock)
    partner.gate = anyio.Event()
    bus = bus_on(store, clock, {"billing": partner}, concurrency=100)
    async with bus:
        await publish_backlog(bus, keyed=0, others=50)
        await settle_down()
        assert max(partner.at_a_time) == 5
        partner.gate.set()
        await until(lambda: len(partner.done) == 50)
        partner.gate = anyio.Event()
        await publish_backlog(bus, keyed=0, others=50)
        await until(lambda: max(partner.at_a_time) == 50)
        partner.gate.set()
        await until(lambda: len(partner.done) == 100)


async def test_deliveries_that_take_their_time_keep_the_others_waiting_for_a_moment_only(
    store: MemoryStore,
) -> None:
    clock = FakeClock()
    partner = Partner(clock)
    partner.gate = anyio.Event()
    bus = bus_on(store, clock, {"billing": partner}, concurrency=100)
    async with bus:
        await publish_backlog(bus, keyed=0, others=50)
        await settle_down()
        assert max(partner.at_a_time) == 5
        with anyio.fail_after(10):
            while max(partner.at_a_time) < 50:  # they may wait for each other
                await anyio.sleep(0.01)
        partner.gate.set()
        await until(lambda: len(partner.done) == 50)


async def test_what_was_claimed_and_has_not_begun_when_it_opens_is_given_back_uncharged(
    store: MemoryStore,
) -> None:
    clock, failing = FakeClock(), False
    seen: list[int] = []

    async def handler(event: int) -> None:  # never waits: one task runs them one after another
        seen.append(event)
        if failing:
            raise ConnectionError

    bus = bus_on(store, clock, {"billing": handler}, concurrency=50)
    async with bus:
        await bus.publish("job", -1)
        await until(lambda: seen == [-1])
        await settle_down()
        failing = True
        async with anyio.create_task_group() as group:
            for number in range(40):
                group.start_soon(bus.publish, "job", number)
        await settle_down()
        assert len(seen) == 6
        letters = await letters_of(store)
        assert sorted((it.state, it.attempts, it.retries) for it in letters) == [
            *[("accepted", 0, 0)] * 35,
            *[("pending", 1, 0)] * 5,
        ]


async def test_a_probe_that_fails_comes_back_with_a_later_one_and_is_not_charged(store: MemoryStore) -> None:
    clock = FakeClock()
    partner = Partner(clock)
    partner.error = ConnectionError("down")
    bus = bus_on(store, clock, {"billing": partner})
    async with bus:
        await publish_backlog(bus, keyed=0, others=7)
        await settle_down()
        charged = await letters_of(store, state={"pending"})
        assert len(charged) == 5
        assert all((it.retry_at - clock.now).total_seconds() >= 60 for it in charged)  # their schedule
        clock.advance(1)
        await until(lambda: len(partner.attempts) == 6)
        await settle_down()
        (probe,) = [it for it in await letters_of(store, state={"pending"}) if it not in charged]
        status = bus.circuits()["billing"]
        assert status.next_probe_at is not None
        assert (probe.attempts, probe.retries, len(probe.history)) == (1, 0, 1)
        assert probe.retry_at == status.next_probe_at


async def test_what_the_failing_side_asks_for_is_honoured_and_does_not_stop_the_probes(
    store: MemoryStore,
) -> None:
    clock = FakeClock()
    partner = Partner(clock)
    partner.error = LookupError("slow down")

    def rule(_: BaseException) -> Classification:
        return Classification(Kind.RATE_LIMIT, retry_after=7_200.0)

    bus = bus_on(store, clock, {"billing": partner}, on={"classify": [rule]})
    async with bus:
        await publish_backlog(bus, keyed=0, others=8)
        await pass_by(clock, 10, step=0.5)
        letters = await letters_of(store, state={"pending"})
        assert len(partner.attempts) == len(letters) == 8
        assert all(it.retry_at - it.last_attempt_at >= timedelta(seconds=7_199) for it in letters)


@pytest.mark.parametrize("error", [ValueError("no such customer"), PermissionError("no")])
async def test_a_permanent_failure_is_settled_as_ever_and_shows_that_the_other_side_answers(
    store: MemoryStore, error: Exception
) -> None:
    clock = FakeClock()
    partner = Partner(clock)
    partner.error = ConnectionError()
    bus = bus_on(store, clock, {"billing": partner})
    async with bus:
        await publish_backlog(bus, keyed=0, others=6)
        await settle_down()
        assert bus.circuits()["billing"].state == "open"
        partner.error = error
        clock.advance(1)
        await until(lambda: bus.circuits()["billing"].state == "reopening")
        await settle_down()
        (letter,) = await letters_of(store, state={"exhausted"})
        assert letter.reason == "permanent"


async def test_one_delivery_that_cannot_succeed_is_exhausted_by_its_schedule(store: MemoryStore) -> None:
    clock = FakeClock()
    partner = Partner(clock)
    partner.error = TimeoutError()
    redelivery = RetryPolicy(attempts=8, delay=1.0, backoff="fixed", jitter=False)
    bus = bus_on(store, clock, {"billing": partner}, redelivery=redelivery)
    async with bus:
        await bus.publish("job", 1)
        await pass_by(clock, 20, step=0.5)
        (letter,) = await letters_of(store)
        assert (letter.state, letter.reason, letter.attempts) == ("exhausted", "attempts", 9)
        assert bus.circuits()["billing"].state == "closed"


async def test_an_outage_that_does_not_end_exhausts_in_the_end(store: MemoryStore) -> None:
    clock = FakeClock()
    partner = Partner(clock)
    partner.error = TimeoutError()
    policy = CircuitPolicy(threshold=2, max_delay=60, max_outage=600)
    redelivery = RetryPolicy(attempts=1, delay=1.0)
    bus = bus_on(store, clock, {"billing": partner}, on={"circuit": policy}, redelivery=redelivery)
    async with bus:
        await publish_backlog(bus, keyed=0, others=4)
        await pass_by(clock, 590)
        assert {it.state for it in await letters_of(store)} == {"pending"}
        await pass_by(clock, HOUR)
        assert {(it.state, it.reason) for it in await letters_of(store)} == {("exhausted", "attempts")}


async def test_a_handler_without_a_circuit_runs_whatever_is_due(store: MemoryStore) -> None:
    clock = FakeClock()
    partner = Partner(clock)
    partner.error = ConnectionError()
    bus = bus_on(store, clock, {"billing": partner}, on={"circuit": False})
    async with bus:
        await publish_backlog(bus, keyed=0, others=100)
        await until(lambda: len(partner.attempts) == 100)
        assert bus.circuits() == {}


async def test_a_probe_whose_lease_is_lost_makes_room_for_another(store: MemoryStore) -> None:
    clock = FakeClock()
    partner = Partner(clock)
    partner.error = ConnectionError()
    bus = bus_on(store, clock, {"billing": partner}, lease=0.3)
    async with bus:
        await publish_backlog(bus, keyed=0, others=8)
        await settle_down()
        partner.gate = anyio.Event()
        clock.advance(1)
        await until(lambda: len(partner.attempts) == 6)
        (probe,) = await letters_of(store, state={"running"})
        await steal(store, probe.id)
        await until(lambda: len(partner.attempts) == 7)
        assert bus.circuits()["billing"].state == "probing"
        partner.error = None
        partner.gate.set()
        await until(lambda: bus.circuits()["billing"].state == "reopening")


async def test_a_probe_that_the_stopping_bus_cuts_short_is_given_back_uncharged(store: MemoryStore) -> None:
    clock = FakeClock()
    partner = Partner(clock)
    partner.error = ConnectionError()
    hasty = EventBus(dlq=DeadLetterQueue(store, clock=clock, lease=LEASE), shutdown_grace=0)
    hasty.subscribe("job", partner, id="billing", durable=True)
    async with hasty:
        await publish_backlog(hasty, keyed=0, others=6)
        await settle_down()
        partner.gate = anyio.Event()
        clock.advance(1)
        await until(lambda: len(partner.attempts) == 6)
    (letter,) = await letters_of(store, state={"accepted"})
    assert (letter.attempts, letter.retries, letter.crashes) == (0, 0, 0)
    partner.gate = partner.error = None
    async with bus_on(store, clock, {"billing": partner}, poll=1.0):
        await pass_by(clock, 120)
    assert await letters_of(store, state=OPEN) == []


async def test_nobody_waits_for_what_an_open_circuit_holds_back(store: MemoryStore) -> None:
    clock = FakeClock()
    partner = Partner(clock)
    partner.error = ConnectionError()
    bus = bus_on(store, clock, {"billing": partner})
    async with bus:
        await publish_backlog(bus, keyed=0, others=30)
        with anyio.fail_after(10):
            await bus.wait_idle()
        assert len(partner.attempts) == 5


async def test_work_by_hand_does_not_run_the_backlog_into_the_wall_either(store: MemoryStore) -> None:
    clock = FakeClock()
    partner = Partner(clock)
    partner.error = ConnectionError()
    bus = bus_on(store, clock, {"billing": partner}, worker=False, concurrency=1)
    async with bus:
        await publish_backlog(bus, keyed=0, others=30)
        processed = await bus.process_due()
        assert (processed.claimed, processed.pending, processed.released) == (30, 5, 25)
        assert (await bus.process_due()).claimed == 0
        clock.advance(1)
        processed = await bus.process_due()
        assert (processed.claimed, processed.pending) == (1, 1)
        letters = await letters_of(store, state={"accepted"})
        assert len(letters) == 24
        assert all((it.attempts, it.retries) == (0, 0) for it in letters)


async def test_a_replay_by_hand_that_succeeds_is_as_good_as_a_probe(store: MemoryStore) -> None:
    clock = FakeClock()
    partner = Partner(clock)
    partner.error = ConnectionError()
    bus = bus_on(store, clock, {"billing": partner})
    async with bus:
        await publish_backlog(bus, keyed=0, others=20)
        await settle_down()
        (failed, *_) = await letters_of(store, state={"pending"})
        outcome = await bus.replay(failed.id)
        assert (outcome.state, outcome.attempts, bus.circuits()["billing"].state) == ("pending", 2, "open")
        assert (await bus.dead_letter(failed.id)).retries == 1  # asked for, and charged
        partner.error = None
        assert (await bus.replay(failed.id)).state == "resolved"
        await until(lambda: len(partner.done) == 16)  # the other four are pending, and come home by schedule


async def test_a_letter_under_an_old_name_goes_by_the_same_circuit(store: MemoryStore) -> None:
    clock = FakeClock()
    partner = Partner(clock)
    partner.error = ConnectionError()
    async with bus_on(store, clock, {"old": partner}, worker=False) as before:
        await publish_backlog(before, keyed=0, others=10)
    bus = bus_on(store, clock, {"new": partner}, on={"aliases": ["old"]})
    async with bus:
        await publish_backlog(bus, keyed=0, others=10)
        await pass_by(clock, 600)
        assert len(partner.attempts) <= 2 * 5 + 6 + 10
        assert list(bus.circuits()) == ["new"]
        partner.error = None
        await pass_by(clock, 900)
    assert len(partner.done) == 20


async def test_every_change_is_told_once(store: MemoryStore) -> None:
    clock, told = FakeClock(), list[TelemetryEvent]()
    partner = Partner(clock)
    partner.error = ConnectionError()
    bus = EventBus(dlq=DeadLetterQueue(store, clock=clock, lease=LEASE), observers=[told.append])
    bus.subscribe("job", partner, id="billing", durable=True)
    async with bus:
        await publish_backlog(bus, keyed=0, others=50)
        await settle_down()
        partner.error = None
        await pass_by(clock, 2, step=1.0)
        await until(lambda: len(partner.done) == 45)
    states = [it.fields["state"] for it in told if it.name == "circuit.changed"]
    assert states == ["open", "probing", "reopening", "closed"]


async def test_what_is_accepted_while_it_is_open_is_left_in_the_store(store: MemoryStore) -> None:
    clock = FakeClock()
    partner = Partner(clock)
    bus = bus_on(store, clock, {"billing": partner})
    async with bus:
        await publish_backlog(bus, keyed=0, others=30)
        await until(lambda: len(partner.done) == 30)
        partner.error = ConnectionError()
        await publish_backlog(bus, keyed=0, others=30)
        await settle_down()
        assert bus.circuits()["billing"].state == "open"
        before = {letter.id for letter in await letters_of(store)}
        await publish_backlog(bus, keyed=0, others=30)
        await settle_down()
        later = [letter for letter in await letters_of(store) if letter.id not in before]
        assert len(later) == 30
        assert all((it.state, it.token) == ("accepted", 0) for it in later)


async def test_a_permanent_failure_is_an_answer_too(store: MemoryStore) -> None:
    clock = FakeClock()
    partner = Partner(clock)
    partner.error = ValueError("no such customer")
    bus = bus_on(store, clock, {"billing": partner}, concurrency=100)
    async with bus:
        await publish_backlog(bus, keyed=0, others=1)
        await settle_down()
        partner.error, partner.gate = None, anyio.Event()
        await publish_backlog(bus, keyed=0, others=50)
        await until(lambda: max(partner.at_a_time) == 50)
        partner.gate.set()
        await until(lambda: len(partner.done) == 50)


async def test_a_probe_is_a_single_attempt_of_a_first_run_too(store: MemoryStore) -> None:
    clock = FakeClock()
    partner = Partner(clock)
    partner.error = ConnectionError()
    bus = bus_on(store, clock, {"billing": partner}, on={"retry": RetryPolicy(attempts=3, delay=0.0)})
    async with bus:
        await publish_backlog(bus, keyed=0, others=10)
        await settle_down()
        assert len(partner.attempts) == 3 * 5
        for wait in (1, 2, 4):
            before = len(partner.attempts)
            clock.advance(wait)
            await settle_down()
            assert len(partner.attempts) == before + 1


async def test_urgent_deliveries_that_fail_by_themselves_do_not_take_every_probe(store: MemoryStore) -> None:
    clock = FakeClock()
    partner = Partner(clock)
    partner.error = ConnectionError()

    async def handler(event: Any) -> None:
        if event == "urgent poison":
            raise TimeoutError
        await partner(event)

    redelivery = RetryPolicy(attempts=5, delay=0.0)
    bus = bus_on(store, clock, {"billing": handler}, redelivery=redelivery)
    async with bus:
        for _ in range(4):
            await bus.publish("job", "urgent poison", priority=1)
        await publish_backlog(bus, keyed=0, others=10)
        await settle_down()
        assert bus.circuits()["billing"].state == "open"
        partner.error = None
        await pass_by(clock, HOUR)
        assert len(partner.done) == 10
