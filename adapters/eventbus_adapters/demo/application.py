"""The demo's application: how a bus, its dead letters and the application's own database come together."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eventbus import EventBus
from eventbus_adapters.demo.database import Database
from eventbus_adapters.demo.handlers import Handlers
from eventbus_adapters.demo.tables import SCHEMA
from eventbus_adapters.demo.zones import TimeZones
from eventbus_adapters.sql import SqlStore
from eventbus_dlq import DeadLetterQueue

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from pathlib import Path

    from eventbus_adapters.demo.events import AirportListed

AIRPORTS = "airports.db"
"""The application's own database, in the demo's folder."""
DEAD_LETTERS = "dead-letters.db"
"""The database of its dead letters, in the same folder."""
EVENT_ID = "airport:"
"""An event's id is this and the record's key, so that listing a record twice is one event."""


@dataclass(frozen=True, slots=True)
class Application:
    """The demo while it runs.

    Attributes:
        bus: started; it stops with the application.
        database: the application's own tables.
        zones: the service with the fault.
    """

    bus: EventBus
    database: Database
    zones: TimeZones

    async def take_in(self, airports: Sequence[AirportListed], progress: Callable[[int], object]) -> None:
        """Publish every airport and return when all their deliveries have settled.

        Args:
            airports: the records.
            progress: told after each event how many have been accepted.
        """
        for number, airport in enumerate(airports, start=1):
            # Waits while the queue is full: the source is never ahead of the handlers by more than that.
            await self.bus.enqueue(
                airport, id=f"{EVENT_ID}{airport.icao}", tenant=airport.country, source="airportsdata"
            )
            progress(number)
        await self.bus.wait_idle()


@asynccontextmanager
async def application(folder: Path) -> AsyncGenerator[Application, None]:
    """Run the application with its two database files in ``folder``.

    Raises:
        sqlite3.Error: its own database cannot be made.
        StoreUnavailable: the dead letters' cannot.
    """
    bus = EventBus(
        dlq=DeadLetterQueue(SqlStore(f"sqlite+aiosqlite:///{folder / DEAD_LETTERS}")),
        name="demo",
        queue_size=1_000,
        enqueue_concurrency=200,
    )
    zones = TimeZones()
    async with Database.open(folder / AIRPORTS, SCHEMA) as database:
        Handlers(database, zones).subscribe_to(bus)
        async with bus:
            yield Application(bus, database, zones)
