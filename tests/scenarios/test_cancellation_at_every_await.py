"""A publish or a replay that is cancelled at any of its awaits loses nothing and leaves nothing behind."""

from __future__ import annotations

import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

import anyio
import pytest
from addresses import asynchronous_engine
from anyio import to_thread
from databases import Database
from own_rows import make_own_table, own_orders
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncSession
from tallies import snapshot, tallies

from eventbus import EventBus
from eventbus_adapters.sql import SqlStore
from eventbus_dlq import DeadLetterQuery, DeadLetterQueue, MemoryStore
from eventbus_dlq.store import DeadLetterStore

MOST_AWAITS = 60


class Order(BaseModel):
    number: int


class Interruption:
    """Cancels a scope at the n-th await of what runs in it, so many times in a row."""

    def __init__(self, at: int, times: int) -> None:
        self.at = at
        self.times = times
        self.reached = False

    async def strike(self, work: Coroutine[Any, Any, Any]) -> None:
        with anyio.CancelScope() as scope:
            await self._stepping(work, scope.cancel)

    @types.coroutine
    def _stepping(
        self, work: Coroutine[Any, Any, Any], cancel: Callable[[], None]
    ) -> Generator[Any, Any, Any]:
        step: Callable[[], Any] = lambda: work.send(None)  # noqa: E731
        awaits = 0
        while True:
            try:
                waits_for = step()
            except StopIteration as finished:
                return finished.value
            awaits += 1
            if self.at <= awaits < self.at + self.times:
                self.reached = True
                cancel()
            try:
                sent = yield waits_for
            except BaseException as thrown:
                step = _throwing(work, thrown)
            else:
                step = _sending(work, sent)


def _throwing(work: Coroutine[Any, Any, Any], thrown: BaseException) -> Callable[[], Any]:
    return lambda: work.throw(thrown)


def _sending(work: Coroutine[Any, Any, Any], sent: Any) -> Callable[[], Any]:
    return lambda: work.send(sent)


async def at_every_await(
    store: DeadLetterStore | None, attempt: Callable[[Interruption], Awaitable[None]], times: int
) -> None:
    """Repeat ``attempt`` with an interruption one await later each time, until there is none to interrupt."""
    for at in range(1, MOST_AWAITS):
        interruption = Interruption(at, times)
        await attempt(interruption)
        if not interruption.reached:
            assert at > 1 or isinstance(store, MemoryStore), "nothing was ever awaited"
            return
    raise AssertionError(f"it still awaits after {MOST_AWAITS} times")


@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice in a row"])
async def test_a_durable_publish_is_kept_or_never_was(any_store: DeadLetterStore, times: int) -> None:
    bus = EventBus(dlq=DeadLetterQueue(any_store))
    ran: list[int] = []

    async def handle(order: Order) -> None:
        await anyio.sleep(0)
        ran.append(order.number)

    bus.subscribe(Order, handle, id="ship", durable=True)
    async with bus:

        async def attempt(interruption: Interruption) -> None:
            await interruption.strike(bus.publish(Order(number=interruption.at)))
            await bus.wait_idle()
            if not interruption.reached:
                assert interruption.at in ran

        with anyio.fail_after(30):
            await at_every_await(any_store, attempt, times)
            while (await bus.dead_letters(DeadLetterQuery(state={"accepted", "running"}))).items:
                await anyio.sleep(0.01)
        assert len(ran) == len(set(ran)), "nothing runs twice because its publisher was cancelled"
        assert not (await bus.dead_letters()).items


@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice in a row"])
async def test_a_transient_failure_that_has_begun_is_kept(any_store: DeadLetterStore, times: int) -> None:
    bus = EventBus(dlq=DeadLetterQueue(any_store))
    begun: set[int] = set()

    async def handle(order: Order) -> None:
        begun.add(order.number)
        await anyio.sleep(0)
        raise ConnectionError("the bank does not answer")

    bus.subscribe(Order, handle, id="charge")
    async with bus:

        async def attempt(interruption: Interruption) -> None:
            await interruption.strike(bus.publish(Order(number=interruption.at)))
            await bus.wait_idle()

        with anyio.fail_after(30):
            await at_every_await(any_store, attempt, times)
        kept = {
            (await bus.dead_letter(summary.id)).payload["number"]
            for summary in (await bus.dead_letters(limit=1_000)).items
        }
        assert kept == begun


@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice in a row"])
async def test_a_replay_settles_or_gives_its_letter_back(any_store: DeadLetterStore, times: int) -> None:
    bus = EventBus(dlq=DeadLetterQueue(any_store))
    broken = True

    async def handle(order: Order) -> None:
        await anyio.sleep(0)
        if broken:
            raise ConnectionError("the bank does not answer")

    bus.subscribe(Order, handle, id="charge")
    async with bus:

        async def attempt(interruption: Interruption) -> None:
            nonlocal broken
            broken = True
            receipt = await bus.publish(Order(number=interruption.at))
            letter_id = receipt.deliveries["charge"].dead_letter_id
            assert letter_id is not None
            broken = False
            await interruption.strike(bus.replay(letter_id))
            await bus.wait_idle()
            letter = await bus.dead_letter(letter_id)
            while letter.state == "running":  # what was handed to the store is written, and not waited for
                letter = await bus.dead_letter(letter_id)
            assert letter.state in ("pending", "resolved")
            assert letter.attempts == (2 if letter.state == "resolved" else 1)
            if letter.state == "pending":
                assert (await bus.replay(letter_id)).state == "resolved"

        with anyio.fail_after(60):
            await at_every_await(any_store, attempt, times)


class Till:
    """An application that writes orders in a table of its own, and publishes them in the same transaction."""

    def __init__(self, database: Database) -> None:
        make_own_table(database.url)
        self._url = database.url
        self.engine = asynchronous_engine(database.url)
        self.bus = EventBus(dlq=DeadLetterQueue(SqlStore(database.url)))
        self.ran: dict[str, list[int]] = {"ship": [], "notify": []}
        self.bus.subscribe(Order, self._ship, id="ship", durable=True, ordering_key="number")
        self.bus.subscribe(Order, self._notify, id="notify")

    async def _ship(self, order: Order) -> None:
        self.ran["ship"].append(order.number)

    async def _notify(self, order: Order) -> None:
        self.ran["notify"].append(order.number)

    async def write_down(self, session: AsyncSession, number: int) -> None:
        await session.execute(own_orders.insert().values(key="acme", number=number))

    async def written(self) -> list[int]:
        """Return the orders in the table when nothing is left to run; check that the counters know."""
        while (await self.bus.dead_letters(DeadLetterQuery(state={"accepted", "running"}))).items:
            await anyio.sleep(0.01)
        await to_thread.run_sync(self._check_counters)
        async with AsyncSession(self.engine) as session:
            return sorted((await session.execute(select(own_orders.c.number))).scalars())

    def _check_counters(self) -> None:
        with snapshot(self._url) as connection:
            tallies(connection).check()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # SQLAlchemy's AsyncSession knows no other
@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice in a row"])
async def test_a_transaction_commits_its_rows_and_its_deliveries_or_neither(
    database: Database, times: int
) -> None:
    till = Till(database)
    uninterrupted: list[int] = []

    async def transact(number: int) -> None:
        async with AsyncSession(till.engine) as session, session.begin():
            await till.write_down(session, number)
            await till.bus.publish(Order(number=number), session=session)

    async def attempt(interruption: Interruption) -> None:
        await interruption.strike(transact(interruption.at))
        if not interruption.reached:
            uninterrupted.append(interruption.at)

    async with till.bus:
        with anyio.fail_after(60):
            await at_every_await(None, attempt, times)
            written = await till.written()
    await till.engine.dispose()
    assert {handler: sorted(numbers) for handler, numbers in till.ran.items()} == {
        "ship": written,
        "notify": written,
    }
    assert uninterrupted[0] in written


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice in a row"])
async def test_a_publish_that_was_cancelled_leaves_no_part_of_itself_in_a_transaction_that_goes_on(
    database: Database, times: int
) -> None:
    till = Till(database)
    published: set[int] = set()
    committed: set[int] = set()

    async def attempt(interruption: Interruption) -> None:
        async def publish() -> None:
            await till.bus.publish(Order(number=interruption.at), session=session)
            published.add(interruption.at)

        async with AsyncSession(till.engine) as session:
            await till.write_down(session, interruption.at)
            await interruption.strike(publish())
            try:
                await session.commit()
            except InvalidRequestError:  # its connection was given up
                return
        committed.add(interruption.at)

    async with till.bus:
        with anyio.fail_after(60):
            await at_every_await(None, attempt, times)
            written = await till.written()
    await till.engine.dispose()
    assert set(written) == committed
    assert sorted(till.ran["ship"]) == sorted(till.ran["notify"])
    assert published & committed <= set(till.ran["ship"]) <= committed
    assert published & committed
