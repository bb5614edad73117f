"""What the capture benchmarks share: an event of a kilobyte, a handler that fails, and two files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from pydantic import BaseModel

from benchmarks.harness import Handler, MakeHandler
from benchmarks.raw_writer import RawDatabase
from eventbus import EventBus
from eventbus_adapters.sql import SqlStore
from eventbus_dlq import DeadLetterQueue


class Order(BaseModel):
    """An event of about a kilobyte."""

    order_id: int
    customer: str
    note: str


ORDER = Order(order_id=1, customer="ann", note="leave it at the door, please. " * 36)


class ChargeError(Exception):
    """What the handler raises: nothing in it says whether trying again can help, so it is tried again."""


def declining() -> Handler:
    """Return a new handler that always fails."""

    async def charge(event: object) -> None:
        raise ChargeError("the charge did not go through: ask again")

    return charge


class Databases(NamedTuple):
    """A bus over a store of its own, and a raw connection to a second file of the same kind.

    Attributes:
        bus: captures into ``ours``.
        raw: writes into ``theirs``.
        ours: the store's file.
        theirs: the raw connection's file.
    """

    bus: EventBus
    raw: RawDatabase
    ours: Path
    theirs: Path


@asynccontextmanager
async def databases(make_handler: MakeHandler = declining) -> AsyncIterator[Databases]:
    """Make both files in a new folder beside this code: a temporary one may be memory, and sync nothing.

    Each begins with one letter that the store wrote.
    """
    with TemporaryDirectory(prefix=".files-", dir=Path(__file__).parent) as folder:
        ours, theirs = Path(folder) / "ours.db", Path(folder) / "theirs.db"
        async with _failing_bus(theirs, declining) as bus:
            await bus.publish(ORDER)
        raw = RawDatabase(theirs)
        try:
            async with _failing_bus(ours, make_handler) as bus:
                await bus.publish(ORDER)
                yield Databases(bus, raw, ours, theirs)
        finally:
            raw.close()


@asynccontextmanager
async def _failing_bus(path: Path, make_handler: MakeHandler) -> AsyncIterator[EventBus]:
    bus = EventBus(dlq=DeadLetterQueue(SqlStore(f"sqlite:///{path}", synchronous="FULL")))
    bus.subscribe(Order, make_handler(), id="billing.charge")
    async with bus:
        yield bus
