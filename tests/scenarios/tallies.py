"""What the counters of a store say, and what a count of its letters says, read in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from addresses import plain
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

KEY = ("tenant", "event_name", "handler_id", "kind", "category", "route", "state")
SUMS = ("letters", "attempts", "created_s", "created_rest_us")
Key = tuple[str, ...]
_KEY = ", ".join(KEY)
_COUNTERS = ", ".join((*KEY, *SUMS))
_LETTERS = f"""
SELECT CASE WHEN tenant IS NULL THEN '' ELSE '=' || tenant END AS tenant, {", ".join(KEY[1:])},
    count(*), sum(attempts), sum(created_us) FROM eventbus_dead_letters GROUP BY tenant, {", ".join(KEY[1:])}
"""
_COUNTED = f"""
SELECT {_KEY}, {", ".join(f"sum({it})" for it in SUMS)} FROM (
    SELECT {_COUNTERS} FROM eventbus_dead_letter_counts
    UNION ALL SELECT {_COUNTERS} FROM eventbus_dead_letter_count_deltas
) AS both_of_them GROUP BY {_KEY}
"""


@dataclass(frozen=True)
class Tally:
    """Letters of one sort, summed up.

    Attributes:
        created_us: the sum of the moments at which they were made, in microseconds.
    """

    letters: int
    attempts: int
    created_us: int


@dataclass(frozen=True)
class Tallies:
    """The tallies of all sorts that a store has, by the whole key of its counters.

    Attributes:
        there: counted from the letters.
        counted: what the counters say, those that wait for being folded included.
    """

    there: Mapping[Key, Tally]
    counted: Mapping[Key, Tally]

    def check(self) -> None:
        """Check that the counters say what a count says, of every sort."""
        differing = {
            key: (self.there.get(key), self.counted.get(key))
            for key in {*self.there, *self.counted}
            if self.there.get(key) != self.counted.get(key)
        }
        assert not differing, f"what is there is not what was counted: {differing}"


@contextmanager
def snapshot(url: str) -> Iterator[Connection]:
    """Give a connection that sees one moment of a database."""
    engine = create_engine(plain(url), poolclass=NullPool)
    try:
        with engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            else:
                connection.exec_driver_sql("BEGIN")
            yield connection
    finally:
        engine.dispose()


def tallies(connection: Connection) -> Tallies:
    """Read both."""
    there = _sums(connection.execute(text(_LETTERS)))
    counted = _sums(
        (*key, letters, attempts, int(seconds) * 1_000_000 + int(rest_us))
        for *key, letters, attempts, seconds, rest_us in connection.execute(text(_COUNTED))
    )
    nothing = Tally(0, 0, 0)
    return Tallies(there, {key: tally for key, tally in counted.items() if tally != nothing})


def _sums(rows: Iterable[Sequence[Any]]) -> dict[Key, Tally]:
    return {
        tuple(row[: len(KEY)]): Tally(
            *(int(number) for number in row[len(KEY) :])
        )  # PostgreSQL's are decimals
        for row in rows
    }
