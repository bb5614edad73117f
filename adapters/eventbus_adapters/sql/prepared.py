"""Statements of the hot path: compiled once by Core, run with tuples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, cast

from eventbus_adapters.sql.driver import driver_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, CursorResult
    from sqlalchemy.sql import ClauseElement
    from sqlalchemy.sql.compiler import SQLCompiler


_LARGEST = 128  # rows in one statement: SQLite takes 32,766 parameters


@lru_cache
def _widened(sql: str, columns: int, rows: int) -> str:
    """Return an INSERT of one row as an INSERT of many."""
    row = "(" + ", ".join("?" * columns) + ")"
    return sql.replace(row, ", ".join([row] * rows))


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A statement for one dialect.

    Attributes:
        sql: its text.
        arranged: brings values into the order of its parameters; None when they are in it already.
    """

    sql: str
    arranged: Callable[[Sequence[Any]], tuple[Any, ...]] | None


class Prepared:
    """One statement, compiled for each dialect it meets.

    Args:
        statement: the statement, or one for each dialect's name where they differ.
        names: the parameters, in the order in which :meth:`many` and :meth:`run` take them.
    """

    def __init__(self, statement: ClauseElement | Mapping[str, ClauseElement], names: Sequence[str]) -> None:
        self._statement = statement
        self._names = tuple(names)
        self._compiled: dict[str, _Compiled] = {}

    def run(self, connection: Connection, *values: Any) -> CursorResult[Any]:
        """Execute it once."""
        compiled = self._for(connection)
        if compiled.arranged is not None:
            values = compiled.arranged(values)
        return connection.exec_driver_sql(compiled.sql, values)

    def many(self, connection: Connection, rows: list[tuple[Any, ...]]) -> int:
        """Execute it for each of ``rows``; return how many rows it changed, or -1 if that is not known."""
        compiled = self._for(connection)
        if compiled.arranged is not None:
            rows = [compiled.arranged(row) for row in rows]
        driver = driver_of(connection)
        if driver is not None:
            return driver.executemany(compiled.sql, rows).rowcount
        return connection.exec_driver_sql(compiled.sql, rows).rowcount

    def many_at_once(self, connection: Connection, rows: list[tuple[Any, ...]]) -> int:
        """Execute an INSERT for all of ``rows``, many with one statement; return how many it inserted.

        It is for dialects whose parameters are question marks, as SQLite's are. A thread gives up the
        interpreter's lock once per statement. Row by row, it would have to wait for the lock after each
        one while a busy event loop holds it.
        """
        sql = self.sql(connection)
        execute: Callable[..., Any] = connection.exec_driver_sql
        if (driver := driver_of(connection)) is not None:
            execute = driver.execute
        inserted = start = 0
        while start < len(rows):
            left = len(rows) - start
            size = min(_LARGEST, 1 << left.bit_length() - 1)  # powers of two: few statements to keep
            values = tuple(chain.from_iterable(rows[start : start + size]))
            inserted += execute(_widened(sql, len(self._names), size), values).rowcount
            start += size
        return inserted

    def sql(self, connection: Connection) -> str:
        """Return its text for the connection's dialect."""
        return self._for(connection).sql

    def _for(self, connection: Connection) -> _Compiled:
        dialect = connection.dialect
        style = dialect.paramstyle
        found = self._compiled.get(style)
        if found is None:
            if not dialect.positional:  # psycopg, in somebody's session: it takes tuples as well
                dialect = cast("Any", type(dialect))(paramstyle="format")
            statement = self._statement
            chosen = statement[dialect.name] if isinstance(statement, Mapping) else statement
            compiled = cast("SQLCompiler", chosen.compile(dialect=dialect))
            order = tuple(compiled.positiontup or ())
            found = self._compiled[style] = _Compiled(str(compiled), self._arranging(order))
        return found

    def _arranging(self, order: tuple[str, ...]) -> Callable[[Sequence[Any]], tuple[Any, ...]] | None:
        if order == self._names:
            return None
        if not set(order) <= set(self._names):
            raise AssertionError(f"parameters stand in the order {order}, not {self._names}")
        places = [self._names.index(name) for name in order]
        if len(places) == 1:
            return lambda values: (values[places[0]],)
        return cast("Callable[[Sequence[Any]], tuple[Any, ...]]", itemgetter(*places))
