"""Statements over many letters at a time, written once for both dialects.

Core compiles what stands in ``prepared``. Here are the statements whose shape depends on how many letters
they are about: a list of rows becomes ``VALUES``, its length rounded to a power of two, so that few texts
are made and each is parsed once. For asyncpg it becomes one array for each column.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any

from eventbus_adapters.sql.driver import driver_of
from eventbus_adapters.sql.tables import (
    HELD,
    IN_SEQUENCE,
    PENDING,
    READY_TO_RUN,
    REOPENED,
    RUNNING,
    announcements,
    configuration,
    control_acks,
    controls,
    count_deltas,
    counts,
    handlers,
    letters,
    parked,
    processes,
    schedules,
    spools,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Connection, Row

LARGEST = 128
"""Rows in one statement, at most."""

_EVERYWHERE = {
    "letters": letters.name,
    "counts": counts.name,
    "count_deltas": count_deltas.name,
    "handlers": handlers.name,
    "processes": processes.name,
    "spools": spools.name,
    "configuration": configuration.name,
    "controls": controls.name,
    "acks": control_acks.name,
    "parked": parked.name,
    "schedules": schedules.name,
    "announcements": announcements.name,
    "reopened": str(REOPENED),
    "held": str(HELD),
    "pending": str(PENDING),
    "ready_to_run": str(READY_TO_RUN),
    "running": str(RUNNING),
    "in_sequence": str(IN_SEQUENCE),
}
_SERVERS_CLOCK = "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)"
_FRAGMENTS = {
    "sqlite": {
        **_EVERYWHERE,
        "clock": "CAST(:now_us AS BIGINT)",
        "arriving_lease": "lease_us",
        "sure": "",
        "skip_locked": "",
        "ready": "INDEXED BY eventbus_letters_ready",
        "due": "INDEXED BY eventbus_letters_due",
        "leased": "INDEXED BY eventbus_letters_leased",
        "sequence": "INDEXED BY eventbus_letters_sequence",
    },
    "postgresql": {
        **_EVERYWHERE,
        "clock": _SERVERS_CLOCK,
        "arriving_lease": f"{_SERVERS_CLOCK} + lease_us - updated_us",
        "sure": "FOR UPDATE",
        "skip_locked": "FOR UPDATE SKIP LOCKED",
        "ready": "",
        "due": "",
        "leased": "",
        "sequence": "",
    },
}
_FRAGMENTS["postgresql by the callers' clock"] = {
    **_FRAGMENTS["postgresql"],
    "clock": _FRAGMENTS["sqlite"]["clock"],
    "arriving_lease": _FRAGMENTS["sqlite"]["arriving_lease"],
}
"""Where the dialects differ.

``clock`` is now in microseconds: the caller's, or the server's, which all its clients agree on; by the same
one the lease of a letter that arrives running is as long as its sender made it. The names of indexes pin
SQLite to them, which without statistics takes any.
"""

CALLERS_CLOCK = "eventbus_callers_clock"
"""The execution option of a connection to PostgreSQL that has it take the callers' clock for its own."""

_ARRAYS = "numeric_dollar"  # asyncpg, the driver of the store itself, takes lists as arrays
_PART = re.compile(r"\{(\w+)\}")
_PARAMETER = re.compile(r"(?<!:):(\w+)")


class Statement:
    """One statement: parameters are ``:name``, and ``{name}`` is what the dialects write differently.

    Args:
        sql: its text. A list of rows, if it takes one, is ``{rows}``, stands first in it, and is written
            ``VALUES {rows}``.
        row: the SQL types of the columns of such a row.
        parts: what else stands in braces.
    """

    pads = False

    def __init__(self, sql: str, *, row: Sequence[str] = (), **parts: str) -> None:
        self._sql = _PART.sub(lambda found: parts.get(found[1], found[0]), sql)
        self._row = tuple(row)

    def run(self, connection: Connection, **values: Any) -> Sequence[Row[*tuple[Any, ...]]]:
        """Execute it once; return the rows of its result."""
        return self._run(connection, (), values)

    def over(
        self, connection: Connection, rows: Sequence[tuple[Any, ...]], **values: Any
    ) -> list[Row[*tuple[Any, ...]]]:
        """Execute it over ``rows``; return the rows of all its results."""
        portions = self._portions(connection, rows)
        return [row for some in portions for row in self._run(connection, some, values)]

    def tuples(
        self, connection: Connection, rows: Sequence[tuple[Any, ...]] | None = None, **values: Any
    ) -> list[tuple[Any, ...]]:
        """Do the same, over ``rows`` if it takes any; what is returned knows no names, and costs less."""
        portions = [()] if rows is None else self._portions(connection, rows)
        driver = driver_of(connection)
        if driver is None:
            return [tuple(row) for some in portions for row in self._run(connection, some, values)]
        found: list[tuple[Any, ...]] = []
        for some in portions:
            sql, names = rendered(self._sql, self._row, len(some), "sqlite", "qmark")
            given = (*chain.from_iterable(some), *[values[it] for it in names])
            found += driver.execute(sql, given).fetchall()
        return found

    def count(self, connection: Connection, rows: Sequence[tuple[Any, ...]], **values: Any) -> int:
        """Execute an INSERT over ``rows``, on SQLite; return how many rows it inserted."""
        execute: Callable[..., Any] = connection.exec_driver_sql
        if (driver := driver_of(connection)) is not None:
            execute = driver.execute
        inserted = 0
        for some in self._portions(connection, rows):
            sql, names = rendered(
                self._sql, self._row, len(some), connection.dialect.name, connection.dialect.paramstyle
            )
            given = (*chain.from_iterable(some), *[values[it] for it in names])
            inserted += execute(sql, given).rowcount
        return inserted

    def _portions(
        self, connection: Connection, rows: Sequence[tuple[Any, ...]]
    ) -> Iterator[Sequence[tuple[Any, ...]]]:
        """Yield ``rows`` in as many portions as there are statements to execute."""
        if not rows:
            return
        if connection.dialect.paramstyle == _ARRAYS:
            yield rows
            return
        start = 0
        while start < len(rows):
            left = len(rows) - start
            size = min(LARGEST, 1 << left.bit_length() - 1)
            if self.pads and size < left < LARGEST:
                size *= 2
            padding = [(None,) * len(self._row)] * (size - left)
            yield [*rows[start : start + size], *padding]
            start += size

    def _run(
        self, connection: Connection, rows: Sequence[tuple[Any, ...]], values: dict[str, Any]
    ) -> Sequence[Row[*tuple[Any, ...]]]:
        dialect = connection.dialect
        name, style = dialect.name, dialect.paramstyle
        if name == "postgresql" and connection.get_execution_options().get(CALLERS_CLOCK):
            name = "postgresql by the callers' clock"
        as_arrays = style == _ARRAYS
        sql, names = rendered(self._sql, self._row, 0 if as_arrays else len(rows), name, style)
        listed = _columns(rows) if as_arrays else chain.from_iterable(rows)
        result = connection.exec_driver_sql(sql, (*listed, *(values[it] for it in names)))
        return result.all() if result.returns_rows else ()


class Padded(Statement):
    """A statement that a row of NULLs means nothing to: a few may be added, to execute it less often."""

    pads = True


@lru_cache(maxsize=512)
def rendered(
    sql: str, row: tuple[str, ...], rows: int, dialect: str, paramstyle: str
) -> tuple[str, tuple[str, ...]]:
    """Return the text for a dialect, and the names of its parameters behind those of the rows."""
    names: list[str] = []
    taken = len(row) * (rows if paramstyle != _ARRAYS else "{rows}" in sql)

    def placeholder(found: re.Match[str]) -> str:
        names.append(found[1])
        return mark(paramstyle, taken + len(names))

    fragments = _FRAGMENTS[dialect]
    if paramstyle == _ARRAYS:
        sql = sql.replace("VALUES {rows}", "SELECT * FROM unnest({rows})")
    whole = _PART.sub(lambda found: fragments.get(found[1], found[0]), sql)
    before, listed, behind = whole.partition("{rows}")
    text = _PARAMETER.sub(placeholder, behind if listed else before)
    if not listed:
        return text, tuple(names)
    numbers = iter(range(1, taken + 1))
    if paramstyle == _ARRAYS:
        arrays = ", ".join(f"CAST({mark(paramstyle, next(numbers))} AS {kind}[])" for kind in row)
        return before + arrays + text, tuple(names)
    wanted = ", ".join(
        f"({', '.join(f'CAST({mark(paramstyle, next(numbers))} AS {kind})' for kind in row)})"
        for _ in range(rows)
    )
    return before + wanted + text, tuple(names)


def _columns(rows: Sequence[tuple[Any, ...]]) -> Iterator[Sequence[Any]]:
    """Yield the columns of rows as arrays; one that has nothing but NULLs is empty.

    ``unnest`` fills up with NULLs what is shorter than the longest, and no row is NULL throughout.
    """
    for column in zip(*rows, strict=True):
        yield () if column[0] is None and column.count(None) == len(column) else column


def mark(paramstyle: str, number: int) -> str:
    """Return the placeholder of a driver's parameter, counting from 1."""
    if paramstyle == "qmark":
        return "?"
    return f"${number}" if paramstyle == "numeric_dollar" else "%s"
