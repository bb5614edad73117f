"""A small shop in a process of its own, which the tests kill, freeze and cut off.

    python shop.py '{"url": "sqlite:///shop.db", "ledger": "ledger", ...}'

Every key has a publisher that publishes its orders in turn. ``ship`` is durable and ordered, and fails for
some orders once; ``invoice`` is durable, and fails for some for good; ``notify`` is transient, and fails for
some. A clerk replays what ``ship`` left behind. Everything is said in the ledger: an order is ``accepted``
when its publish has returned.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ledger import Ledger
from points import KillingStore, Points
from pydantic import BaseModel

from eventbus import EventBus, EventBusError, current_envelope
from eventbus.clock import SystemClock
from eventbus_dlq import DeadLetterQuery, DeadLetterQueue

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
    lease: float = 0.6
    max_crashes: int = 1_000
    stall_limit: float = 300.0
    point: str | None = None
    hit: int = 1
    spool: str | None = None
    capture_timeout: float = 5.0
    exit_at: int | None = None
    """``ship`` ends the process in the order with this number."""
    block_at: int | None = None
    """``ship`` blocks the event loop in the order with this number."""
    block_for: float = 0.0
    work: float = 0.003
    """Seconds that a handler takes, at most."""
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
        self.points = Points(settings.point, settings.hit)
        self.store = KillingStore(settings.url, **settings.options)
        self.store.points = self.points
        clock = JumpingClock(settings.clock_jumps) if settings.clock_jumps else None
        self.bus = EventBus(
            dlq=DeadLetterQueue(
                self.store,
                lease=settings.lease,
                poll=0.1,
                max_crashes=settings.max_crashes,
                stall_limit=settings.stall_limit,
                spool=settings.spool,
                capture_timeout=settings.capture_timeout,
                clock=clock,
            ),
            shutdown_grace=5.0,
        )
        self.failed_once = {
            (key, number)
            for key, number in self.ledger.said("failed", "ship")
            if number % SHIP_FAILS_ONCE == 0
        }
        self.bus.subscribe(Order, self.ship, id="ship", durable=True, ordering_key="key")
        self.bus.subscribe(Order, self.invoice, id="invoice", durable=True)
        self.bus.subscribe(Order, self.notify, id="notify")

    async def ship(self, order: Order) -> None:
        settings, said = self.settings, (order.key, order.number)
        envelope = current_envelope()
        assert envelope is not None
        self.ledger.say("started", "ship", *said)
        self.points.passing("handler" if envelope.replay is None else "replay.handler")
        if settings.exit_at == order.number:
            os._exit(7)
        if settings.block_at == order.number and not self.ledger.said("blocked", "ship"):
            self.ledger.say("blocked", "ship", *said)
            time.sleep(settings.block_for)  # the whole loop stands still
        await asyncio.sleep(random.random() * settings.work)
        if order.number % SHIP_FAILS_ONCE == 0 and said not in self.failed_once:
            self.failed_once.add(said)
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
        if order.number % NOTIFY_FAILS == 0:
            self.ledger.say("failed", "notify", order.key, order.number)
            raise ConnectionError("the mail server does not answer")
        self.ledger.say("ended", "notify", order.key, order.number)

    async def run(self) -> None:
        settings = self.settings
        async with self.bus:
            self.ledger.say("open", "shop")
            tried = self.ledger.said("trying")
            async with asyncio.TaskGroup() as group:
                for key in settings.keys:
                    last = max((number for known, number in tried if known == key), default=0)
                    group.create_task(self._publish(key, last + 1))
                clerk = asyncio.create_task(self._replay())
            if settings.idle_exit:
                await self._until_idle()
                clerk.cancel()
            await asyncio.gather(clerk, return_exceptions=True)
        self.ledger.say("closed", "shop")

    async def _publish(self, key: str, first: int) -> None:
        for number in range(first, self.settings.orders + 1):
            self.ledger.say("trying", "shop", key, number)
            try:
                receipt = await self.bus.publish(Order(key=key, number=number))
            except EventBusError as error:
                print(f"{key} {number}: {error}", file=sys.stderr)
                self.ledger.say("refused", "shop", key, number)
                continue
            self.ledger.say("accepted", "shop", key, number)
            assert set(receipt.deliveries) == {"ship", "invoice", "notify"}

    async def _replay(self) -> None:
        """Replay what ``ship`` has left behind, for ever."""
        query = DeadLetterQuery(state={"pending", "exhausted"}, handler="ship")
        while True:
            try:
                page = await self.bus.dead_letters(query, order="oldest")
                for letter in page.items:
                    self.store.replaying = self.points_at_replay
                    await self.bus.replay(letter.id, by="clerk")
            except EventBusError:  # it is run by somebody, or is not at the head of its sequence
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.05)

    @property
    def points_at_replay(self) -> bool:
        return (self.settings.point or "").startswith("replay.")

    async def _until_idle(self) -> None:
        """Return when nothing is waiting, running, or left to the clerk."""
        waiting = DeadLetterQuery(state={"accepted", "running", "parked"})
        behind = DeadLetterQuery(state={"pending", "exhausted"}, handler="ship")
        while True:
            try:
                pages = [await self.bus.dead_letters(query, limit=1) for query in (waiting, behind)]
            except EventBusError:
                await asyncio.sleep(0.1)
                continue
            if not any(page.items or page.next_cursor for page in pages) and not self._spooled():
                return
            await asyncio.sleep(0.05)

    def _spooled(self) -> bool:
        folder = self.settings.spool
        return folder is not None and any(path.stat().st_size for path in Path(folder).glob("*.spool"))


if __name__ == "__main__":
    asyncio.run(Shop(Settings(**json.loads(sys.argv[1]))).run())
