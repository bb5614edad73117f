"""The application's own tables. Their constraints have the last word about every record."""

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
    code TEXT PRIMARY KEY CHECK (length(code) BETWEEN 3 AND 4),
    icao TEXT NOT NULL
) STRICT;
CREATE INDEX codes_icao ON codes (icao);

CREATE TABLE places (
    icao        TEXT PRIMARY KEY,
    city        TEXT NOT NULL CHECK (city <> ''),
    subdivision TEXT NOT NULL CHECK (subdivision <> ''),
    country     TEXT NOT NULL
) STRICT;

CREATE TABLE clocks (
    icao        TEXT PRIMARY KEY,
    zone        TEXT NOT NULL,
    january_min INTEGER NOT NULL CHECK (january_min BETWEEN -720 AND 840),
    july_min    INTEGER NOT NULL CHECK (july_min BETWEEN -720 AND 840)
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
