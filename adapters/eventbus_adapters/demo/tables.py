"""The application's own tables, and what is written into them: each function may be repeated at will."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eventbus_adapters.demo.events import AirportListed
    from eventbus_adapters.demo.place import Place

SCHEMA = """
CREATE TABLE airports (
    icao      TEXT PRIMARY KEY CHECK (icao GLOB '[A-Z0-9][A-Z0-9][A-Z0-9][A-Z0-9]'),
    iata      TEXT UNIQUE CHECK (iata GLOB '[A-Z][A-Z][A-Z]'),
    name      TEXT NOT NULL CHECK (name <> ''),
    country   TEXT NOT NULL CHECK (country GLOB '[A-Z][A-Z]'),
    elevation REAL NOT NULL CHECK (elevation BETWEEN -1400 AND 30000),
    latitude  REAL NOT NULL CHECK (latitude BETWEEN -90 AND 90),
    longitude REAL NOT NULL CHECK (longitude BETWEEN -180 AND 180),
    UNIQUE (latitude, longitude)
) STRICT;

-- What travellers and pilots type: one code, one airport, whoever gave the code out.
CREATE TABLE codes (
    code TEXT PRIMARY KEY CHECK (length(code) BETWEEN 3 AND 7),
    icao TEXT NOT NULL
) STRICT;

CREATE TABLE places (
    icao        TEXT PRIMARY KEY,
    city        TEXT NOT NULL CHECK (city <> ''),
    subdivision TEXT NOT NULL CHECK (subdivision <> ''),
    country     TEXT NOT NULL
) STRICT;

CREATE TABLE clocks (
    icao            TEXT PRIMARY KEY,
    zone            TEXT NOT NULL,
    january_minutes INTEGER NOT NULL CHECK (january_minutes BETWEEN -720 AND 840),
    july_minutes    INTEGER NOT NULL CHECK (july_minutes BETWEEN -720 AND 840)
) STRICT;

CREATE TABLE counted (
    icao    TEXT PRIMARY KEY,
    country TEXT NOT NULL
) STRICT;

CREATE TABLE countries (
    country  TEXT PRIMARY KEY,
    airports INTEGER NOT NULL CHECK (airports > 0),
    highest  REAL NOT NULL
) STRICT;
"""
"""Made once, in a file of its own beside the dead letters."""

TABLE_OF = {
    "directory.enter": "airports",
    "codes.register": "codes",
    "places.check": "places",
    "clocks.resolve": "clocks",
    "countries.count": "counted",
}
"""Where each handler leaves its mark: a row with the airport's ``icao`` when, and only when, it is done."""

_MINUTE = timedelta(minutes=1)


class CodeTaken(Exception):
    """An airport's code already means another airport."""


def enter_airport(connection: sqlite3.Connection, airport: AirportListed) -> None:
    """Enter an airport into the directory."""
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


def register_codes(connection: sqlite3.Connection, airport: AirportListed) -> None:
    """Register every code that an airport goes by.

    Raises:
        CodeTaken: one of them means another airport. The violated constraint is its cause, which also
            tells the bus what kind of failure it is.
    """
    for code in dict.fromkeys(filter(None, (airport.icao, airport.iata, airport.lid))):
        try:
            connection.execute("INSERT INTO codes VALUES (?, ?)", (code, airport.icao))
        except sqlite3.IntegrityError as error:
            holder = connection.execute("SELECT icao FROM codes WHERE code = ?", (code,)).fetchone()
            if holder is None:
                raise
            if holder != (airport.icao,):
                raise CodeTaken(f"{code} of {airport.icao} already means {holder[0]}") from error


def enter_place(connection: sqlite3.Connection, icao: str, place: Place) -> None:
    """Enter where an airport is."""
    connection.execute(
        "INSERT INTO places VALUES (?, ?, ?, ?) ON CONFLICT (icao) DO NOTHING",
        (icao, place.city, place.subdivision, place.country),
    )


def enter_clock(
    connection: sqlite3.Connection, icao: str, zone: str, january: timedelta, july: timedelta
) -> None:
    """Enter how far an airport's clocks are from UTC, in January and in July."""
    connection.execute(
        "INSERT INTO clocks VALUES (?, ?, ?, ?) ON CONFLICT (icao) DO NOTHING",
        (icao, zone, round(january / _MINUTE), round(july / _MINUTE)),
    )


def count_airport(connection: sqlite3.Connection, airport: AirportListed) -> None:
    """Count an airport to its country, once: who was counted is kept with the sum."""
    first_time = connection.execute(
        "INSERT INTO counted VALUES (?, ?) ON CONFLICT (icao) DO NOTHING", (airport.icao, airport.country)
    ).rowcount
    if first_time:
        connection.execute(
            "INSERT INTO countries VALUES (?, 1, ?) ON CONFLICT (country) DO UPDATE"
            " SET airports = airports + 1, highest = max(highest, excluded.highest)",
            (airport.country, airport.elevation),
        )
