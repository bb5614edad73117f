"""What happens in the demo: an airport is listed."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class AirportListed(BaseModel):
    """Somebody's list has an airport.

    It takes a record as it is, flaws included: what is wrong with it is for each handler to find, so
    that one flaw stops one handler and not the record.

    Attributes:
        icao: the record's key: ICAO location indicator, or the national code where there is none.
        iata: IATA location code; empty for most airports.
        lid: the FAA's location identifier; empty outside of the United States.
        name: what the airport is called.
        city: the place it serves.
        subdivision: state, province or region.
        country: ISO 3166-1 alpha-2 code.
        elevation: feet above the sea.
        latitude: degrees, north is positive.
        longitude: degrees, east is positive.
        zone: name of its time zone, such as ``Europe/Zurich``.
    """

    model_config = ConfigDict(frozen=True)
    event_name: ClassVar[str] = "airport.listed"

    icao: str
    iata: str = ""
    lid: str = ""
    name: str = ""
    city: str = ""
    subdivision: str = ""
    country: str = ""
    elevation: float = 0.0
    latitude: float = 0.0
    longitude: float = 0.0
    zone: str = ""
