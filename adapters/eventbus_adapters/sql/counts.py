"""The counter rows: kept in the transaction of the change that they count.

SQLite has one writer, who adds to them. Where transactions run side by side, and in one of the
application's own, deltas are appended instead: all of them would wait for the same few rows.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import ColumnElement, case, literal_column
from sqlalchemy.dialects import sqlite

from eventbus_adapters.sql.prepared import Prepared
from eventbus_adapters.sql.statements import Statement
from eventbus_adapters.sql.tables import counts
from eventbus_dlq.letter import DeadLetterState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import Connection

    from eventbus_adapters.sql.encoding import Value

Key: TypeAlias = "tuple[Value, ...]"

TENANT_MARK = "="
"""Stands before every tenant among the counters; no tenant at all is the empty text."""

KEY = ("tenant", "event_name", "handler_id", "kind", "category", "route", "state")
_ACCEPTED = DeadLetterState.ACCEPTED.value
_ZERO: ColumnElement[int] = literal_column("0")
_SECOND_US = 1_000_000
_MOST_ATTEMPTS = 2**31 - 1  # what the column holds on PostgreSQL
SUMS = ("letters", "attempts", "created_s", "created_rest_us")

COUNTED: tuple[str, ...] = (*KEY, "attempts", "created_us")
"""The columns of a letter that the counters are about."""

_rest_of = itemgetter(*KEY[1:])


def tenant_key(tenant: object) -> str:
    """Return what stands for ``tenant``, a text or None, in a column that cannot be NULL."""
    if tenant is None:
        return ""
    if isinstance(tenant, str):
        return TENANT_MARK + tenant
    if isinstance(tenant, bytes):  # written by hand
        return TENANT_MARK + tenant.decode(errors="replace")
    return f"{TENANT_MARK}{tenant}"


class Deltas:
    """What a transaction adds to the counters, gathered before it is written."""

    def __init__(self) -> None:
        self._of: dict[Key, list[int]] = {}

    def move(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """Note that a row was ``before`` and is ``after``."""
        self.add(before, -1)
        self.add(after, 1)

    def add(self, row: Mapping[str, Any], sign: int) -> None:
        """Count one row of ``letters`` in (1) or out (-1)."""
        key = (tenant_key(row["tenant"]), *_rest_of(row))
        attempts = _attempts(row["attempts"])
        self.count(key, sign, sign * attempts, sign * row["created_us"])

    def count(self, key: Key, letters: int, attempts: int, created_us: int) -> None:
        """Add to the sums of the rows with these values of ``KEY``."""
        sums = self._of.setdefault(key, [0, 0, 0])
        sums[0] += letters
        sums[1] += attempts
        sums[2] += created_us

    def take_in(self, rows: Iterable[Sequence[Any]]) -> None:
        """Count rows in, each given as its values of ``COUNTED``."""
        for (tenant, *rest), (letters, attempts, created_us) in _sums(rows).items():
            self.count((tenant_key(tenant), *rest), letters, attempts, created_us)

    def take_out(self, rows: Iterable[Sequence[Any]]) -> None:
        """Count rows out, each given as its values of ``COUNTED``."""
        for (tenant, *rest), (letters, attempts, created_us) in _sums(rows).items():
            self.count((tenant_key(tenant), *rest), -letters, -attempts, -created_us)

    def claim(self, rows: Iterable[tuple[str, Sequence[Any]]]) -> None:
        """Count rows that were claimed: the state before, and its values of ``COUNTED`` now, of each."""
        of_state: dict[str, list[Sequence[Any]]] = {}
        for state, row in rows:
            of_state.setdefault(state, []).append(row)
        for before, alike in of_state.items():
            for (tenant, *rest, now), (letters, attempts, created_us) in _sums(alike).items():
                key = (tenant_key(tenant), *rest)
                self.count((*key, before), -letters, letters - attempts, -created_us)
                self.count((*key, now), letters, attempts, created_us)

    @property
    def accepts(self) -> bool:
        """Whether there is more to run for the first time than before."""
        return any(key[-1] == _ACCEPTED and sums[0] > 0 for key, sums in self._of.items())

    def write(self, connection: Connection) -> int:
        """Add everything to the counters; return how many rows wait for being folded because of it.

        On PostgreSQL it is appended, see ``folding``. On SQLite what sessions have appended is added first.
        """
        if connection.dialect.name != "sqlite":
            return self.append(connection)
        rows = self._rows()
        if rows:
            if _APPENDED.tuples(connection):
                _add_appended(connection)
            _ADD.many_at_once(connection, rows)
        return 0

    def append(self, connection: Connection) -> int:
        """Append everything, for a later fold; return how many rows it were.

        This is what is fit for a transaction that may be long.
        """
        rows = self._rows()
        _APPEND.over(connection, rows)
        return len(rows)

    def _rows(self) -> list[tuple[Value, ...]]:
        return [
            (*key, letters, attempts, *divmod(created_us, _SECOND_US))
            for key, (letters, attempts, created_us) in self._of.items()
            if letters or attempts or created_us
        ]


def _sums(rows: Iterable[Sequence[Any]]) -> dict[tuple[Any, ...], list[int]]:
    """Return number, attempts and creation times of rows of ``COUNTED``, summed up for each key."""
    sums: dict[tuple[Any, ...], list[int]] = {}
    for row in rows:
        of_key = sums.setdefault(tuple(row[: len(KEY)]), [0, 0, 0])
        attempts, created_us = row[len(KEY) :]
        of_key[0] += 1
        of_key[1] += _attempts(attempts)
        of_key[2] += created_us
    return sums


def _attempts(value: Any) -> int:
    """Return what is counted as attempts: nothing where somebody has written what no number of runs is."""
    return value if isinstance(value, int) and 0 <= value <= _MOST_ATTEMPTS else 0


def _add_appended(connection: Connection) -> None:
    sums: dict[Key, list[int]] = {}
    for row in _TAKE_APPENDED.run(connection):
        known = sums.setdefault(tuple(row[: len(KEY)]), [0] * len(SUMS))
        for place, value in enumerate(row[len(KEY) :]):
            known[place] += value
    _ADD.many(connection, [(*key, *values) for key, values in sums.items()])


def _upsert(insert: Any) -> Any:
    statement = insert(counts)
    # Rows that were put in by hand are in no counter: taking one out must not make it negative.
    kept = {name: getattr(counts.c, name) + statement.excluded[name] for name in SUMS}
    kept["letters"] = case((kept["letters"] < _ZERO, _ZERO), else_=kept["letters"])
    return statement.on_conflict_do_update(index_elements=list(KEY), set_=kept)


_ADD = Prepared(_upsert(sqlite.insert), (*KEY, *SUMS))
_APPEND = Statement(
    "INSERT INTO {count_deltas} ({columns}) VALUES {rows}",
    columns=", ".join((*KEY, *SUMS)),
    row=[*("TEXT" for _ in KEY), *("BIGINT" for _ in SUMS)],
)
_APPENDED = Statement("SELECT seq FROM {count_deltas} LIMIT 1")
_TAKE_APPENDED = Statement("DELETE FROM {count_deltas} RETURNING {columns}", columns=", ".join((*KEY, *SUMS)))
