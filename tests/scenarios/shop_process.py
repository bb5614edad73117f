"""A small shop in a process of its own, which the tests kill, freeze and cut off.

Every key is a tenant with a publisher of its own, which publishes its orders in turn. ``ship`` is durable and
ordered, and fails for some orders once; ``invoice`` is durable, and fails for some for good; ``notify`` is
transient, and fails for some. A clerk replays what ``ship`` left behind. Everything is said in the ledger: an
order is ``accepted`` when its publish has returned, or the commit of the session that it was published in.
At a SIGTERM it publishes nothing any more.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ledger import Ledger
from own_rows import Sessions
from points import Points
from pydantic import BaseModel
from telling_store import TellingStore

from eventbus import EventBus, EventBusError, Receipt, RetryPolicy, TelemetryEvent, current_envelope
from eventbus.clock import SystemClock
from eventbus_dlq import DeadLetterQuery, DeadLetterQueue, InvalidTransition, LeaseHeld

SHIP_FAILS_ONCE = 9
INVOICE_FAILS = 10
NOTIFY_FAILS = 7


class Order(BaseModel):
    key: str
    number: int


@dataclass
class Settings:
    """What a shop is told."""

    url: str
    ledger: str
    keys: list[str] = field(default_factory=list)
    """Whose orders it publishes."""
    orders: int = 1_000_000
    """How many of each key, before it only handles."""
    idle_exit: bool = False
    """Whether it ends when there is nothing left to do."""
    replays: bool = True
    """Whether a clerk replays what ``ship`` leaves behind."""
    retry_after: float = 60.0
    """Seconds after which a failure is tried again."""
    recovers: bool = False
    """Whether ``notify`` succeeds when it is tried again."""
    lease: float = 0.6
    max_crashes: int = 1_000
    stall_limit: float = 300.0
    point: str | None = None
    hit: int = 1
    freezes: bool = False
    """Whether it stands still at that point, instead of dying."""
    spool: str | None = None
    capture_timeout: float = 5.0
    exit_at: int | None = None
    """``ship`` ends the process in the order with this number."""
    block_at: int | None = None
    """``ship`` blocks the event loop in the order with this number."""
    block_for: float = 0.0
    work: float = 0.003
    """Seconds that a handler takes, at most."""
    pace: float = 0.0
    """Seconds that a publisher rests before each order."""
    sessions: bool = False
    """Whether each order is published in a transaction that writes it in a table of the shop's own, too."""
    clock_jumps: list[float] = field(default_factory=list)
    """By how many seconds the wall clock is off, in turn, changing every half second."""
    options: dict[str, Any] = field(default_factory=dict)
    """More arguments of the store."""


class JumpingClock(SystemClock):
    """A wall clock that somebody keeps setting."""

    def __init__(self, jumps: list[float]) -> None:
        self._jumps = jumps
        self._began = time.monotonic()

    def time_ns(self) -> int:
        turn = int((time.monotonic() - self._began) / 0.5) % len(self._jumps)
        return time.time_ns() + int(self._jumps[turn] * 1e9)


class Shop:
    """The bus, its handlers, and those who use it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.ledger = Ledger(Path(settings.ledger))
        self.points = Points(
            settings.point, settings.hit, signal.SIGSTOP if settings.freezes else signal.SIGKILL
        )
        self.leaving = asyncio.Event()
        self.replaying = asyncio.Lock()
        self.store = TellingStore(settings.url, **settings.options)
        self.store.ledger, self.store.points = self.ledger, self.points
        clock = JumpingClock(settings.clock_jumps) if settings.clock_jumps else None
        self.bus = EventBus(
            dlq=DeadLetterQueue(
                self.store,
                redelivery=RetryPolicy(
                    attempts=20, backoff="fixed", delay=settings.retry_after, jitter=False
                ),
                lease=settings.lease,
                poll=0.1,
                max_crashes=settings.max_crashes,
                stall_limit=settings.stall_limit,
                spool=settings.spool,
                capture_timeout=settings.capture_timeout,
                clock=clock,
            ),
            shutdown_grace=5.0,
            observers=[self._observe],
        )
        self.bus.subscribe(Order, self.ship, id="ship", durable=True, ordering_key="key")
        self.bus.subscribe(Order, self.invoice, id="invoice", durable=True)
        self.bus.subscribe(Order, self.notify, id="notify")
        self.sessions = Sessions(settings.url, self.bus) if settings.sessions else None

    async def ship(self, order: Order) -> None:
        settings, said = self.settings, (order.key, order.number)
        envelope = current_envelope()
        assert envelope is not None
        self.ledger.say("started", "ship", *said)
        self.points.passing("handler" if envelope.replay is None else "replay.handler")
        if settings.exit_at == order.number:
            os._exit(7)
        if settings.block_at == order.number and self._is_first("blocked", order):
            self.ledger.say("blocked", "ship", *said)
            time.sleep(settings.block_for)  # the whole loop stands still
        await asyncio.sleep(random.random() * settings.work)
        if order.number % SHIP_FAILS_ONCE == 0 and self._is_first("failed", order):
            self.ledger.say("failed", "ship", *said)
            raise ConnectionError(f"the carrier does not answer for {order.key} {order.number}")
        self.ledger.say("ended", "ship", *said)

    async def invoice(self, order: Order) -> None:
        self.ledger.say("started", "invoice", order.key, order.number)
        await asyncio.sleep(random.random() * self.settings.work)
        if order.number % INVOICE_FAILS == 0:
            self.ledger.say("failed", "invoice", order.key, order.number)
            raise ValueError(f"order {order.number} has no address")
        self.ledger.say("ended", "invoice", order.key, order.number)

    async def notify(self, order: Order) -> None:
        envelope = current_envelope()
        assert envelope is not None
        is_retry = envelope.replay is not None
        if is_retry:
            self.ledger.say("retried", "notify", order.key, order.number)
            self.points.passing("retry.handler")
        if order.number % NOTIFY_FAILS == 0 and not (is_retry and self.settings.recovers):
            self.ledger.say("failed", "notify", order.key, order.number)
            raise ConnectionError("the mail server does not answer")
        self.ledger.say("ended", "notify", order.key, order.number)

    def _is_first(self, what: str, order: Order) -> bool:
        """Tell whether no process has asked this before."""
        mark = self.ledger.path.with_name(f"{what}-{order.key}-{order.number}")
        try:
            mark.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def _observe(self, event: TelemetryEvent) -> None:
        if event.name.startswith(("store.", "lease.")) or event.name == "dead_letter.rescued":
            self.ledger.say(event.name, "bus")

    async def run(self) -> None:
        settings = self.settings
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.leaving.set)
        async with self.bus:
            self.ledger.say("open", "shop")
            tried = self.ledger.said("trying")
            async with asyncio.TaskGroup() as group:
                for key in settings.keys:
                    last = max((number for known, number in tried if known == key), default=0)
                    group.create_task(self._publish(key, last + 1))
                clerk = asyncio.create_task(self._replay() if settings.replays else asyncio.sleep(0))
            if settings.idle_exit:
                await self._until_idle()
            else:
                await self.leaving.wait()
            async with self.replaying:  # a replay that is cut short runs once more
                clerk.cancel()
                await asyncio.gather(clerk, return_exceptions=True)
        if self.sessions is not None:
            await self.sessions.close()
        self.ledger.say("closed", "shop")

    async def _publish(self, key: str, first: int) -> None:
        for number in range(first, self.settings.orders + 1):
            await asyncio.sleep(self.settings.pace)
            if self.leaving.is_set():
                return
            self.ledger.say("trying", "shop", key, number)
            try:
                receipt = await self._published(Order(key=key, number=number))
            except EventBusError:
                self.ledger.say("refused", "shop", key, number)
                continue
            if receipt is None:
                self.ledger.say("taken_back", "shop", key, number)
                continue
            self.ledger.say("accepted", "shop", key, number)
            assert set(receipt.deliveries) == {"ship", "invoice", "notify"}

    async def _published(self, order: Order) -> Receipt | None:
        """Publish an order; return None when its transaction was rolled back."""
        if self.sessions is None:
            return await self.bus.publish(order, tenant=order.key)
        receipt = await self.sessions.publish(order, key=order.key, number=order.number)
        if receipt is not None:
            self.points.passing("session.after_commit")
        return receipt

    async def _replay(self) -> None:
        """Replay what ``ship`` has left behind, for ever."""
        query = DeadLetterQuery(state={"pending", "exhausted"}, handler="ship")
        while True:
            with suppress(EventBusError):
                page = await self.bus.dead_letters(query, order="oldest")
                for letter in random.sample(page.items, len(page.items)):  # others replay them, too
                    with suppress(LeaseHeld, InvalidTransition):
                        async with self.replaying:
                            await self.bus.replay(letter.id, by="clerk")
            await asyncio.sleep(0.02)

    async def _until_idle(self) -> None:
        """Return when nothing is waiting, running, or left to the clerk."""
        begun = {"accepted", "running", "parked"}
        left = [
            DeadLetterQuery(state={*begun, "pending", "exhausted"}, handler="ship"),
            DeadLetterQuery(state=begun, handler="invoice"),
            DeadLetterQuery(state=begun, handler="notify"),  # where a pause has held it back
        ]
        while True:
            spooled = self._spooled()  # asked first: what is spooled no more is in the store
            try:
                pages = [await self.bus.dead_letters(query, limit=1) for query in left]
            except EventBusError:
                await asyncio.sleep(0.1)
                continue
            if not any(page.items or page.next_cursor for page in pages) and not spooled:
                return
            await asyncio.sleep(0.05)

    def _spooled(self) -> bool:
        if self.settings.spool is None:
            return False
        files = Path(self.settings.spool).glob("*.spool")
        return any(path.read_bytes().count(b"\n") > 1 for path in files)  # the first line is a header


def open_for_business(told: dict[str, Any]) -> None:
    """Be a shop until it closes."""
    asyncio.run(Shop(Settings(**told)).run())
