"""What the application does about a listed airport: five handlers, each with one job.

Deliveries may come twice: by a replay, or because a process died. So every handler writes in such a way
that a second time changes nothing (see ``tables``).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from eventbus import RetryPolicy, annotate
from eventbus_adapters.demo import tables
from eventbus_adapters.demo.events import AirportListed
from eventbus_adapters.demo.place import Place

if TYPE_CHECKING:
    from eventbus import EventBus
    from eventbus_adapters.demo.database import Database
    from eventbus_adapters.demo.zones import TimeZones

_ICAO = re.compile(r"[A-Z]{4}")
_HAVE_NATIONAL_CODES = frozenset({"US", "CA"})
_JANUARY = datetime(2026, 1, 15, 12, tzinfo=UTC)
_JULY = datetime(2026, 7, 15, 12, tzinfo=UTC)
_MOST_OFF_THE_SUN = timedelta(hours=4)
_DAY = timedelta(days=1)


class MissingCode(ValueError):
    """An airport has no location indicator of the ICAO's."""


class Handlers:
    """The handlers, with what they work on."""

    def __init__(self, database: Database, zones: TimeZones) -> None:
        self._database = database
        self._zones = zones

    def subscribe_to(self, bus: EventBus) -> None:
        """Put every handler on the bus, under the id by which its dead letters find it again."""
        bus.subscribe(AirportListed, self.enter, id="directory.enter")
        bus.subscribe(AirportListed, self.register, id="codes.register")
        bus.subscribe(AirportListed, self.check, id="places.check")
        bus.subscribe(
            AirportListed,
            self.resolve,
            id="clocks.resolve",
            # It asks a service: a second try within the process often helps.
            retry=RetryPolicy(attempts=2, delay=0.05, jitter=False),
        )
        bus.subscribe(AirportListed, self.count, id="countries.count")

    async def enter(self, airport: AirportListed) -> None:
        """Enter the airport into the directory; the table's own constraints are the check.

        Raises:
            sqlite3.IntegrityError: a code, a name or a number is not allowed, or another airport has it.
        """
        await self._database.write(partial(tables.enter_airport, airport=airport))

    async def register(self, airport: AirportListed) -> None:
        """Register every code that the airport goes by, all of them or none.

        Raises:
            MissingCode: it has no ICAO code, in a country that has no codes of its own.
            CodeTaken: one of its codes means another airport.
        """
        if airport.country not in _HAVE_NATIONAL_CODES and not _ICAO.fullmatch(airport.icao):
            raise MissingCode(
                f"{airport.icao!r} in {airport.country} is no ICAO code, which has four letters"
            )
        await self._database.write(partial(tables.register_codes, airport=airport))

    async def check(self, airport: AirportListed) -> None:
        """Check that people can find the airport.

        Raises:
            pydantic.ValidationError: its name, city, subdivision, country or position is not fit to be used.
        """
        place = Place.model_validate(airport, from_attributes=True)
        await self._database.write(partial(tables.enter_place, icao=airport.icao, place=place))

    async def resolve(self, airport: AirportListed) -> None:
        """Find out what time it is there, in January and in July.

        Raises:
            OSError: the time-zone service cannot be reached; it may be another time.
            ValueError: there is no such zone, or it is not one of that longitude.
        """
        annotate(zone=airport.zone)  # kept with a failure, for whoever looks into it
        zone = await self._zones.find(airport.zone)
        january, july = (moment.astimezone(zone).utcoffset() or timedelta() for moment in (_JANUARY, _JULY))
        off = _off_the_sun(january, airport.longitude)
        if off > _MOST_OFF_THE_SUN:
            raise ValueError(
                f"the clocks of {airport.icao} are {off / timedelta(hours=1):.1f} h off the sun: "
                f"{airport.zone} at longitude {airport.longitude}"
            )
        await self._database.write(
            partial(tables.enter_clock, icao=airport.icao, zone=airport.zone, january=january, july=july)
        )

    async def count(self, airport: AirportListed) -> None:
        """Count the airport to its country."""
        await self._database.write(partial(tables.count_airport, airport=airport))


def _off_the_sun(offset: timedelta, longitude: float) -> timedelta:
    """Return how far a clock is from solar time, at most half a day: the sun moves 15 degrees an hour."""
    off = (offset - timedelta(hours=longitude / 15)) % _DAY
    return min(off, _DAY - off)
