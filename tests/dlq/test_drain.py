"""Draining: what runs is waited for, in every process, and nothing else is."""

from __future__ import annotations

import threading
from datetime import timedelta
from functools import partial
from typing import Any

import anyio
import pytest
from tests.dlq.controlled import WHY, Hanging, Shop, until

from eventbus import BusClosed, Control, ControlState, DrainInterrupted, RetryPolicy
from eventbus.testing import FakeClock
from eventbus_dlq import MemoryStore, Process, Reason, StoreUnavailable


class Waiting:
    """Somebody who waits for a drain.

    Attributes:
        control: what the drain has answered; None until then.
        error: what it has raised.
    """

    def __init__(self) -> None:
        self.control: Control | None = None
        self.error: Exception | None = None

    async def drain(self, shop: Shop, **scope: Any) -> None:
        """Drain, and note how that ends."""
        try:
            self.control = await shop.bus.drain(**scope, **WHY)
        except Exception as error:
            self.error = error

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.control is not None or self.error is not None


async def turned(clock: FakeClock, waiting: Waiting) -> None:
    """Turn a clock on, half a second at a time, until a wait is over."""
    with anyio.fail_after(10):
        while not waiting.is_over:
            clock.advance(0.5)
            await anyio.sleep(0.005)


async def closed_in(shop: Shop) -> None:
    """Return when the bus knows that something is closed, and all there is to do about it is done."""
    await until(lambda: bool(shop.bus.gate))
    await anyio.sleep(0.05)


async def test_a_drain_of_what_does_not_run_is_over_at_once_and_stays_closed(store: MemoryStore) -> None:
    shop = Shop(store).handle("job", "handler")
    async with shop.bus as bus:
        with anyio.fail_after(10):
            control = await bus.drain(tenant="acme", **WHY)
        assert control.state is ControlState.DRAINED
        assert control.drained_at is not None
        assert control.drained_at >= control.since
        assert await bus.controls() == (control,)
        receipt = await bus.publish("job", 1, tenant="acme")
        assert receipt.deliveries["handler"].state == "parked"
        (letter,) = await shop.letters()
        assert letter.reason is Reason.DRAINING
        assert await bus.resume(tenant="acme") == control
        await until(lambda: shop.ran == [("handler", "acme", 1)])


@pytest.mark.parametrize("how", ["transient", "durable", "replay", "observed", "ordered"])
async def test_a_drain_waits_for_what_runs(store: MemoryStore, how: str) -> None:
    shop = Shop(store, bus={"observers": [lambda _: None] if how == "observed" else []})
    options: dict[str, Any] = {"durable": how == "durable"}
    if how == "ordered":
        options["ordering_key"] = lambda _: "k"
    handler = shop.hang("job", "handler", **options)
    waiting = Waiting()
    async with shop.bus as bus, anyio.create_task_group() as group:
        if how == "replay":
            letter_id = await bus.capture("job", ValueError("x"), handler="handler", data=1, tenant="acme")
            group.start_soon(bus.replay, letter_id)
        else:
            group.start_soon(lambda: bus.publish("job", 1, tenant="acme"))
        await until(lambda: handler.began == [1])
        group.start_soon(lambda: waiting.drain(shop, tenant="acme"))
        await closed_in(shop)
        (control,) = await bus.controls()
        assert (control.state, waiting.is_over) == (ControlState.DRAINING, False)
        handler.let_go()
        await until(lambda: waiting.is_over)
        assert waiting.control is not None
        assert waiting.control.drained_at is not None
        assert shop.ran == [("handler", "acme", 1)]


async def test_what_runs_elsewhere_than_in_the_scope_is_not_waited_for(store: MemoryStore) -> None:
    shop = Shop(store)
    handler = shop.hang("job", "handler")
    async with shop.bus as bus, anyio.create_task_group() as group:
        group.start_soon(lambda: bus.publish("job", 1, tenant="zen"))
        await until(lambda: handler.began == [1])
        with anyio.fail_after(10):
            assert (await bus.drain(tenant="acme", **WHY)).drained_at is not None
        handler.let_go()


async def test_what_waits_behind_a_run_of_another_tenant_is_not_waited_for(store: MemoryStore) -> None:
    shop = Shop(store)
    handler = shop.hang("job", "handler", ordering_key=lambda _: "k")
    other = shop.hang("task", "limited", max_concurrency=1)
    async with shop.bus as bus, anyio.create_task_group() as group:
        for event in ("job", "task"):
            for tenant in ("zen", "acme"):
                group.start_soon(lambda event=event, tenant=tenant: bus.publish(event, tenant, tenant=tenant))
                await anyio.wait_all_tasks_blocked()
        assert handler.began == other.began == ["zen"]
        with anyio.fail_after(10):
            assert (await bus.drain(tenant="acme", **WHY)).drained_at is not None
        handler.let_go()
        other.let_go()
        await bus.wait_idle()
        assert handler.began == other.began == ["zen"]
        assert {it.payload for it in await shop.letters(state={"parked"})} == {"acme"}


async def test_a_drain_waits_for_retries_within_the_process(store: MemoryStore) -> None:
    clock = FakeClock()
    shop = Shop(store, clock=clock)
    runs: list[Any] = []

    @shop.bus.on("job", id="handler", retry=RetryPolicy(attempts=2, delay=30, jitter=False))
    async def handler(payload: Any) -> None:
        runs.append(payload)
        if len(runs) == 1:
            raise ConnectionError("not yet")

    waiting = Waiting()
    async with shop.bus as bus, anyio.create_task_group() as group:
        group.start_soon(bus.publish, "job", 1)
        await until(lambda: runs == [1])
        await anyio.wait_all_tasks_blocked()
        group.start_soon(lambda: waiting.drain(shop, handler="handler"))
        await closed_in(shop)
        assert not waiting.is_over
        clock.advance(30)
        await until(lambda: runs == [1, 1])
        await turned(clock, waiting)
        assert (waiting.control is not None, runs) == (True, [1, 1])


@pytest.mark.parametrize("timeout", [None, 0.25], ids=["thread", "abandoned thread"])
async def test_a_drain_waits_for_threads(store: MemoryStore, timeout: float | None) -> None:
    shop = Shop(store)
    let_go, began, waiting = threading.Event(), threading.Event(), Waiting()

    @shop.bus.on("job", id="handler", timeout=timeout)
    def handler(_: Any) -> None:
        began.set()
        assert let_go.wait(30)

    async with shop.bus as bus, anyio.create_task_group() as group:
        group.start_soon(bus.publish, "job", 1)
        await until(began.is_set)
        if timeout is not None:
            await until(lambda: bus.metrics.snapshot()["handler"].timed_out == 1)
        group.start_soon(lambda: waiting.drain(shop, handler="handler"))
        await closed_in(shop)
        assert not waiting.is_over
        let_go.set()
        await until(lambda: waiting.is_over)
        assert waiting.control is not None


async def test_a_drain_waits_until_the_failure_of_the_last_run_is_stored(store: MemoryStore) -> None:
    shop = Shop(store)
    handler = shop.hang("job", "handler", timeout=0.01)  # which is a failure
    add, may_store, storing = store.add, anyio.Event(), anyio.Event()

    async def slowly(letters: Any) -> Any:
        storing.set()
        await may_store.wait()
        return await add(letters)

    store.add = slowly  # type: ignore[method-assign]
    waiting = Waiting()
    async with shop.bus as bus, anyio.create_task_group() as group:
        group.start_soon(bus.publish, "job", 1)
        await storing.wait()
        assert handler.began == [1]
        group.start_soon(lambda: waiting.drain(shop, handler="handler"))
        await closed_in(shop)
        assert not waiting.is_over
        may_store.set()
        await until(lambda: waiting.is_over)
        assert waiting.control is not None


# -- several processes


async def test_a_drain_waits_for_the_other_process_too(store: MemoryStore) -> None:
    here, there = Shop(store).handle("job", "handler"), Shop(store)
    handler: Hanging = there.hang("job", "handler")
    waiting = Waiting()
    async with here.bus, there.bus, anyio.create_task_group() as group:
        group.start_soon(there.bus.publish, "job", 1)
        await until(lambda: handler.began == [1])
        group.start_soon(lambda: waiting.drain(here, handler="handler"))
        await closed_in(there)
        assert not waiting.is_over
        handler.let_go()
        await until(lambda: waiting.is_over)
        assert waiting.control is not None
        assert there.payloads("handler") == [1]


async def test_a_process_is_waited_for_until_it_has_not_beaten_for_half_a_minute(store: MemoryStore) -> None:
    clock = FakeClock()
    shop = Shop(store, clock=clock).handle("job", "handler")
    waiting = Waiting()
    async with shop.bus as bus, anyio.create_task_group() as group:
        await store.announce(
            Process(
                id="killed",
                name="shop",
                host="there",
                pid=7,
                started_at=clock.now,
                beat_at=clock.now,
                handlers=("handler",),
            )
        )
        group.start_soon(lambda: waiting.drain(shop))
        await closed_in(shop)
        for _ in range(3):
            clock.advance(10)
            await anyio.sleep(0.02)
        assert not waiting.is_over
        await turned(clock, waiting)
        assert waiting.control is not None
        assert (await bus.controls())[0].state is ControlState.DRAINED


# -- ends of the wait


async def test_a_drain_whose_caller_gives_up_goes_on(store: MemoryStore) -> None:
    shop = Shop(store)
    handler = shop.hang("job", "handler")
    async with shop.bus as bus, anyio.create_task_group() as group:
        group.start_soon(bus.publish, "job", 1)
        await until(lambda: handler.began == [1])
        async with anyio.create_task_group() as waiting:
            waiting.start_soon(partial(bus.drain, handler="handler", **WHY))
            with anyio.fail_after(10):
                while not await bus.controls():
                    await anyio.sleep(0.001)
            waiting.cancel_scope.cancel()
        (control,) = await bus.controls()
        assert (control.state, control.drained_at) == (ControlState.DRAINING, None)
        handler.let_go()
        with anyio.fail_after(5):
            while (await bus.controls())[0].state is not ControlState.DRAINED:
                await anyio.sleep(0.01)


async def test_a_drain_that_is_not_waited_for_answers_at_once(store: MemoryStore) -> None:
    shop = Shop(store)
    handler = shop.hang("job", "handler")
    async with shop.bus as bus, anyio.create_task_group() as group:
        group.start_soon(bus.publish, "job", 1)
        await until(lambda: handler.began == [1])
        control = await bus.drain(handler="handler", wait=False, **WHY)
        assert (control.state, control.drained_at) == (ControlState.DRAINING, None)
        handler.let_go()


async def test_a_handler_cannot_wait_for_its_own_end(store: MemoryStore) -> None:
    shop = Shop(store)
    errors: list[BaseException] = []

    @shop.bus.on("outer", id="outer")
    async def outer(_: Any) -> None:
        await shop.bus.publish("inner", 1)

    @shop.bus.on("inner", id="inner")
    async def inner(_: Any) -> None:
        for scope in ({"handler": "inner"}, {"event": "outer"}, {"tenant": "acme"}, {}):
            with pytest.raises(RuntimeError, match="wait for its own end") as caught:
                await shop.bus.drain(**scope, **WHY)
            errors.append(caught.value)
        await shop.bus.drain(tenant="zen", **WHY)
        await shop.bus.drain(tenant="acme", wait=False, **WHY)

    async with shop.bus as bus:
        receipt = await bus.publish("outer", 1, tenant="acme")
        assert (receipt.ok, len(errors)) == (True, 4)
        assert [control.tenant for control in await bus.controls()] == ["zen", "acme"]


@pytest.mark.parametrize("verb", ["resume", "resume_all", "pause"])
async def test_who_waits_is_told_when_somebody_opens_the_scope(store: MemoryStore, verb: str) -> None:
    shop = Shop(store)
    handler = shop.hang("job", "handler")
    waiting = Waiting()
    async with shop.bus as bus, anyio.create_task_group() as group:
        group.start_soon(lambda: bus.publish("job", 1, tenant="acme"))
        await until(lambda: handler.began == [1])
        group.start_soon(lambda: waiting.drain(shop, tenant="acme"))
        await closed_in(shop)
        if verb == "resume_all":
            await bus.resume_all()
        else:
            await getattr(bus, verb)(tenant="acme", **WHY)
        await until(lambda: waiting.is_over)
        assert isinstance(waiting.error, DrainInterrupted)
        assert "tenant=acme" in str(waiting.error)
        handler.let_go()


async def test_who_waits_is_told_when_the_drain_comes_to_its_end(store: MemoryStore) -> None:
    clock = FakeClock()
    shop = Shop(store, clock=clock)
    handler = shop.hang("job", "handler")
    waiting = Waiting()
    async with shop.bus as bus, anyio.create_task_group() as group:
        group.start_soon(bus.publish, "job", 1)
        await until(lambda: handler.began == [1])
        group.start_soon(lambda: waiting.drain(shop, until=clock.now + timedelta(seconds=1)))
        await closed_in(shop)
        await turned(clock, waiting)
        assert isinstance(waiting.error, DrainInterrupted)
        handler.let_go()


async def test_who_waits_is_told_when_the_bus_stops(store: MemoryStore) -> None:
    shop = Shop(store)
    handler = shop.hang("job", "handler")
    waiting = Waiting()
    async with anyio.create_task_group() as group:
        async with shop.bus as bus:
            group.start_soon(bus.publish, "job", 1)
            await until(lambda: handler.began == [1])
            group.start_soon(lambda: waiting.drain(shop))
            await closed_in(shop)
            group.start_soon(_let_go_soon, handler)
        await until(lambda: waiting.is_over)
        assert waiting.control is not None or isinstance(waiting.error, BusClosed)
        (control,) = await bus.controls()
        assert control.state in (ControlState.DRAINING, ControlState.DRAINED)


async def _let_go_soon(handler: Hanging) -> None:
    await anyio.wait_all_tasks_blocked()
    handler.let_go()


async def test_a_drain_outlasts_an_outage_of_the_store(store: MemoryStore) -> None:
    shop = Shop(store).handle("job", "handler")
    acknowledge, refused = store.acknowledge, anyio.Event()

    async def refuse(*_: Any, **__: Any) -> Any:
        refused.set()
        raise StoreUnavailable("away")

    store.acknowledge = refuse  # type: ignore[method-assign]
    waiting = Waiting()
    async with shop.bus, anyio.create_task_group() as group:
        group.start_soon(lambda: waiting.drain(shop))
        await refused.wait()
        await anyio.wait_all_tasks_blocked()
        assert not waiting.is_over
        store.acknowledge = acknowledge  # type: ignore[method-assign]
        await until(lambda: waiting.is_over)
        assert waiting.control is not None
