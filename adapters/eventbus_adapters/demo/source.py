"""Where the demo's records come from: the list that the package ``airportsdata`` ships."""

from __future__ import annotations

import airportsdata

from eventbus_adapters.demo.events import AirportListed


def listed_airports(limit: int | None = None) -> list[AirportListed]:
    """Return the airports of the list, in its order.

    Args:
        limit: at most so many, taken at even distances from the whole list; all of them without one.
    """
    rows = list(airportsdata.load().values())
    if limit is not None and limit < len(rows):
        rows = [rows[position * len(rows) // limit] for position in range(limit)]
    return [
        AirportListed(
            icao=row["icao"],
            iata=row["iata"],
            lid=row["lid"],
            name=row["name"],
            city=row["city"],
            subdivision=row["subd"],
            country=row["country"],
            elevation=row["elevation"],
            latitude=row["lat"],
            longitude=row["lon"],
            zone=row["tz"],
        )
        for row in rows
    ]
