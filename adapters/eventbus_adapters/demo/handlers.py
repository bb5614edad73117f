"""What the application does about a listed airport: five handlers, each with one job.

Deliveries may come twice: by a replay, or because a process died. So every handler writes in such a way
that a second time changes nothing.
"""

from __future__ import annotations

import re
import sqlite3
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BaseModel, Field

from eventbus import EventBus, RetryPolicy, annotate
from eventbus_adapters.demo.events import AirportListed

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from eventbus_adapters.demo.database import Database
    from eventbus_adapters.demo.zones import TimeZones

_ICAO = re.compile(r"[A-Z]{4}")
_HAS_NATIONAL_CODES = frozenset({"US", "CA"})
_JANUARY = datetime(2026, 1, 15, 12, tzinfo=UTC)
_JULY = datetime(2026, 7, 15, 12, tzinfo=UTC)
_MOST_HOURS_OFF_THE_SUN = 4.0


class CodeTaken(Exception):
    """An airport's code already means another airport."""


class MissingCode(ValueError):
    """An airport has no location indicator of the ICAO's."""


def _tidy(text: str) -> str:
    if not text.isprintable() or text != " ".join(text.split()):
        raise ValueError("should have no control characters and no needless spaces")
    return text


Text = Annotated[str, Field(min_length=1), AfterValidator(_tidy)]


class Place(BaseModel):
    """Where an airport is, as this application wants to have it."""

    name: Text
    city: Text
    subdivision: Text
    country: Annotated[str, Field(pattern="^[A-Z]{2}$")]
    latitude: Annotated[float, Field(ge=-90, le=90)]
    longitude: Annotated[float, Field(ge=-180, le=180)]


def subscribe(bus: EventBus, database: Database, zones: TimeZones) -> None:
    """Put the handlers on the bus."""

    @bus.on(AirportListed, id="directory.enter")
    async def enter(airport: AirportListed) -> None:
        """Enter the airport into the directory; the table's own constraints are the check."""

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO airports VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (icao) DO NOTHING",
                (
                    airport.icao,
                    airport.iata or None,
                    airport.name,
                    airport.country,
                    airport.elevation,
                    airport.latitude,
                    airport.longitude,
                ),
            )

        await database.write(insert)

    @bus.on(AirportListed, id="codes.register")
    async def register(airport: AirportListed) -> None:
        """Register every code that the airport goes by, all of them or none."""
        if airport.country not in _HAS_NATIONAL_CODES and not _ICAO.fullmatch(airport.icao):
            raise MissingCode(f"{airport.icao!r} in {airport.country} is no ICAO code, which has four letters")

        def claim(connection: sqlite3.Connection) -> None:
            for code in dict.fromkeys(filter(None, (airport.icao, airport.iata, airport.lid))):
                holder = connection.execute("SELECT icao FROM codes WHERE code = ?", (code,)).fetchone()
                if holder is None:
                    connection.execute("INSERT INTO codes VALUES (?, ?)", (code, airport.icao))
                elif holder[0] != airport.icao:
                    raise CodeTaken(f"{code} of {airport.icao} already means {holder[0]}")

        await database.write(claim)

    @bus.on(AirportListed, id="places.check")
    async def check(airport: AirportListed) -> None:
        """Check that the airport can be found by people; pydantic says what is wrong."""
        place = Place.model_validate(airport, from_attributes=True)

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO places VALUES (?, ?, ?, ?) ON CONFLICT (icao) DO NOTHING",
                (airport.icao, place.city, place.subdivision, place.country),
            )

        await database.write(insert)

    @bus.on(AirportListed, id="clocks.resolve", retry=RetryPolicy(attempts=2, delay=0.05, jitter=False))
    async def resolve(airport: AirportListed) -> None:
        """Find out what time it is there; asks a service, so that a second try within the process pays."""
        annotate(zone=airport.zone)  # kept with a failure, beside the payload
        zone = await zones.find(airport.zone)
        january, july = _minutes_at(zone, _JANUARY), _minutes_at(zone, _JULY)
        hours_off = abs((january / 60 - airport.longitude / 15 + 12) % 24 - 12)
        if hours_off > _MOST_HOURS_OFF_THE_SUN:
            raise ValueError(
                f"the clocks of {airport.icao} are {hours_off:.1f} h off the sun: {airport.zone} at "
                f"longitude {airport.longitude}"
            )

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO clocks VALUES (?, ?, ?, ?) ON CONFLICT (icao) DO NOTHING",
                (airport.icao, airport.zone, january, july),
            )

        await database.write(insert)

    @bus.on(AirportListed, id="countries.count")
    async def count(airport: AirportListed) -> None:
        """Count the airport to its country, once: what it was counted to is written down with the sum."""

        def add(connection: sqlite3.Connection) -> None:
            first_time = connection.execute(
                "INSERT INTO counted VALUES (?, ?) ON CONFLICT (icao) DO NOTHING",
                (airport.icao, airport.country),
            ).rowcount
            if first_time:
                connection.execute(
                    "INSERT INTO countries VALUES (?, 1, ?) ON CONFLICT (country) DO UPDATE"
                    " SET airports = airports + 1, highest = max(highest, excluded.highest)",
                    (airport.country, airport.elevation),
                )

        await database.write(add)


def _minutes_at(zone: ZoneInfo, moment: datetime) -> int:
    offset = moment.astimezone(zone).utcoffset()
    assert offset is not None  # an aware moment has one
    return round(offset.total_seconds() / 60)
