"""The list of airports, whole and in part."""

from __future__ import annotations

from itertools import pairwise

import airportsdata

from eventbus_adapters.demo.source import listed_airports


def test_every_record_of_the_list_comes_as_it_is() -> None:
    rows = airportsdata.load()
    airports = listed_airports()
    assert len(airports) == len(rows) > 28_000
    row, airport = rows["LSZH"], next(airport for airport in airports if airport.icao == "LSZH")
    assert airport.model_dump() == {
        **{name: row[name] for name in ("icao", "iata", "lid", "name", "city", "country", "elevation")},
        "subdivision": row["subd"],
        "latitude": row["lat"],
        "longitude": row["lon"],
        "zone": row["tz"],
    }


def test_a_part_is_taken_from_the_whole_list_at_even_distances() -> None:
    keys = list(airportsdata.load())
    part = [keys.index(airport.icao) for airport in listed_airports(10)]
    steps = {after - before for before, after in pairwise(part)}
    assert len(part) == 10
    assert max(steps) - min(steps) <= 1


def test_a_limit_beyond_the_list_is_the_list() -> None:
    assert len(listed_airports(1_000_000)) == len(airportsdata.load())
