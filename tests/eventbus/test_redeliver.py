"""Redelivering: what the dead-letter queue asks the bus to run, for the first time or once more."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest
from keeping import SOME_DAY, KeepingDlq, stored

from eventbus import Envelope, EventBus, OrderDeadlock, RetryPolicy
from eventbus.stored import FailedAgain, Interrupted, Succeeded

QUICK = RetryPolicy(attempts=3, delay=0)


def make_bus(dlq: KeepingDlq | None = None, **settings: Any) -> EventBus:
    return EventBus(dlq=dlq or KeepingDlq(), **settings)  # type: ignore[arg-type]  # a stand-in


async def settled() -> None:
    await anyio.wait_all_tasks_blocked()


class Flaky:
    """A handler that fails so many times, and notes what it sees."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.attempts: list[int] = []
        self.replays: list[Any] = []

    async def __call__(self, event: object, envelope: Envelope) -> None:
        from eventbus.context import current_delivery

        delivery = current_delivery.get()
        assert delivery is not None
        self.attempts.append(delivery.attempt)
        self.replays.append(envelope.replay)
        if len(self.attempts) <= self.failures:
            raise ConnectionError("no")


async def test_a_first_run_has_its_in_process_attempts_and_knows_of_no_replay() -> None:
    bus = make_bus()
    handler = Flaky(2)
    bus.on("event", id="x", retry=QUICK)(handler)
    async with bus:
        outcome = await bus.redeliver(stored("event", "x"))
    assert isinstance(outcome, Succeeded)
    assert outcome.runs == 3
    assert handler.attempts == [1, 2, 3]
    assert handler.replays == [None, None, None]


async def test_attempts_are_counted_on_from_those_before_and_all_of_them_are_told() -> None:
    bus = make_bus()
    handler = Flaky(9)
    bus.on("event", id="x", retry=QUICK)(handler)
    async with bus:
        outcome = await bus.redeliver(stored("event", "x", attempt=4, ordering_key="k"))
    assert isinstance(outcome, FailedAgain)
    assert handler.attempts == [4, 5, 6]
    assert [attempt.number for attempt in outcome.failure.attempts] == [4, 5, 6]
    assert outcome.failure.ordering_key == "k"


async def test_a_replay_runs_once() -> None:
    bus = make_bus()
    handler = Flaky(9)
    bus.on("event", id="x", retry=QUICK)(handler)
    async with bus:
        outcome = await bus.redeliver(stored("event", "x", attempt=4, first_failed_at=SOME_DAY))
    assert isinstance(outcome, FailedAgain)
    assert handler.attempts == [4]
    assert handler.replays[0].first_failed_at == SOME_DAY
    assert handler.replays[0].attempt == 4


async def test_conditions_are_not_asked_again() -> None:
    bus = make_bus()
    handler = Flaky(0)
    bus.on("event", id="x", once=True, when=lambda envelope: False)(handler)
    async with bus:
        assert isinstance(await bus.redeliver(stored("event", "x")), Succeeded)
        assert isinstance(await bus.redeliver(stored("event", "x")), Succeeded)


async def test_it_takes_its_turn_behind_what_runs_in_this_process() -> None:
    bus = make_bus()
    order: list[str] = []
    go = anyio.Event()

    @bus.on("event", id="x", ordering_key=lambda event: "k")
    async def x(event: str) -> None:
        order.append(f"began {event}")
        if event == "first":
            await go.wait()
        order.append(f"ended {event}")

    async with bus, anyio.create_task_group() as group:
        group.start_soon(bus.publish, "event", "first")
        await settled()
        group.start_soon(bus.redeliver, stored("event", "x", b'"stored"', ordering_key="k"))
        await bus.redeliver(stored("event", "x", b'"other"', ordering_key="other"))
        await settled()
        assert order == ["began first", "began other", "ended other"]
        go.set()
    assert order[3:] == ["ended first", "began stored", "ended stored"]


async def test_what_is_published_while_a_stored_one_runs_does_not_wait_for_it_but_is_stored() -> None:
    dlq = KeepingDlq()
    dlq.blocked.add(("x", "k"))
    bus = make_bus(dlq)
    go = anyio.Event()

    @bus.on("event", id="x", ordering_key=lambda event: "k")
    async def x(event: str) -> None:
        await go.wait()

    async with bus, anyio.create_task_group() as group:
        group.start_soon(bus.redeliver, stored("event", "x", b'"stored"', ordering_key="k"))
        await settled()
        receipt = await bus.publish("event", "new")
        assert receipt.deliveries["x"].state == "accepted"
        go.set()
    assert dlq.story() == [("accepted", "new")]


async def test_two_stored_ones_of_a_key_never_run_beside_each_other() -> None:
    bus = make_bus()
    now = most = 0

    @bus.on("event", id="x")
    async def x(_event: object) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await anyio.lowlevel.checkpoint()
        now -= 1

    async with bus, anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(bus.redeliver, stored("event", "x", ordering_key="k"))
    assert most == 1


async def test_a_stopping_bus_gives_one_back_that_waits_for_its_turn() -> None:
    bus = make_bus(shutdown_grace=0.0)
    outcomes: list[Any] = []

    @bus.on("event", id="x")
    async def x(_event: object) -> None:
        await anyio.sleep_forever()

    async def redeliver() -> None:
        outcomes.append(await bus.redeliver(stored("event", "x", ordering_key="k")))

    async with anyio.create_task_group() as group, bus:
        group.start_soon(redeliver)
        await settled()
        group.start_soon(redeliver)
        await settled()
    assert outcomes == [Interrupted(), Interrupted()]


async def test_a_redelivery_that_is_cancelled_in_line_leaves_its_place() -> None:
    bus = make_bus()
    go = anyio.Event()
    ran: list[str] = []

    @bus.on("event", id="x")
    async def x(event: str) -> None:
        ran.append(event)
        await go.wait()

    def delivery(payload: bytes) -> Any:
        return stored("event", "x", payload, ordering_key="k")

    async with bus, anyio.create_task_group() as group:
        group.start_soon(bus.redeliver, delivery(b'"first"'))
        await settled()
        async with anyio.create_task_group() as doomed:
            doomed.start_soon(bus.redeliver, delivery(b'"doomed"'))
            await settled()
            group.start_soon(bus.redeliver, delivery(b'"last"'))
            await settled()
            doomed.cancel_scope.cancel()
        go.set()
    assert ran == ["first", "last"]


async def test_a_handler_that_asks_for_its_own_key_is_told_that_it_would_wait_for_itself() -> None:
    bus = make_bus()
    errors: list[Exception] = []

    @bus.on("event", id="x", ordering_key=lambda event: "k")
    async def x(event: object) -> None:
        if event == "outer":
            try:
                await bus.redeliver(stored("event", "x", ordering_key="k"))
            except OrderDeadlock as error:
                errors.append(error)

    async with bus:
        await bus.publish("event", "outer")
        assert isinstance(await bus.redeliver(stored("event", "x", ordering_key="k")), Succeeded)
    assert "dead letter letter with ordering key 'k'" in str(errors[0])


def test_the_handlers_of_a_bus_are_told_with_their_limits_and_aliases() -> None:
    bus = make_bus()

    async def nothing(_event: object) -> None:
        pass

    bus.on("event", id="x", aliases=["old"], max_concurrency=3)(nothing)
    bus.on("event", id="y", durable=True, ordering_key="k")(nothing)
    assert dict(bus.handlers) == {"x": 3, "old": 3, "y": None}


async def test_handlers_that_keep_an_order_are_told_once_somebody_asks_for_one() -> None:
    bus = make_bus()

    async def nothing(_event: object) -> None:
        pass

    bus.on("event", id="x")(nothing)
    bus.on("event", id="kept", durable=True, ordering_key="k")(nothing)
    assert list(bus.ordered_handlers) == []
    subscription = bus.subscribe("other", nothing, id="keyed", ordering_key="k")
    assert list(bus.ordered_handlers) == ["keyed"]
    bus.unsubscribe(subscription)
    async with bus:
        await bus.publish("event", {"k": "a"}, ordering_key="a")
    assert list(bus.ordered_handlers) == ["x"]


async def test_a_thread_can_have_something_called_in_the_loop() -> None:
    bus = make_bus()
    called: list[int] = []
    done = anyio.Event()

    def call() -> None:
        called.append(threading.get_ident())
        done.set()

    async with bus:
        thread = threading.Thread(target=bus.call_from_thread, args=[call])
        thread.start()
        with anyio.fail_after(5):
            await done.wait()
        thread.join()
    assert called == [threading.get_ident()]
    bus.call_from_thread(call)
    await settled()
    assert len(called) == 1, "a bus that is closed calls nothing"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_call_to_a_loop_that_has_ended_is_dropped(backend: str) -> None:
    async def main() -> Any:
        bus = make_bus()
        async with bus:
            core = bus._core
            assert core is not None
            return core.runtime

    runtime = anyio.run(main, backend=backend)
    runtime.call_from_thread(lambda: None)
