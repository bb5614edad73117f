"""The counter rows: kept in the transaction of the change that they count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import ColumnElement, case, literal_column
from sqlalchemy.dialects import postgresql, sqlite

from eventbus_adapters.sql.prepared import Prepared
from eventbus_adapters.sql.tables import counts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

    from eventbus_adapters.sql.encoding import Value

Key: TypeAlias = "tuple[Value, ...]"

TENANT_MARK = "="
"""Stands before every tenant among the counters; no tenant at all is the empty text."""

KEY = ("tenant", "event_name", "handler_id", "kind", "category", "route", "state")
_ZERO: ColumnElement[int] = literal_column("0")
_SECOND_US = 1_000_000
SUMS = ("letters", "attempts", "created_s", "created_rest_us")


def tenant_key(tenant: str | None) -> str:
    """Return what stands for ``tenant`` in a column that cannot be NULL."""
    return "" if tenant is None else TENANT_MARK + tenant


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
        key = (tenant_key(row["tenant"]), *(row[name] for name in KEY[1:]))
        attempts = row["attempts"] if isinstance(row["attempts"], int) else 0  # a text, written by hand
        self.count(key, sign, sign * attempts, sign * row["created_us"])

    def count(self, key: Key, letters: int, attempts: int, created_us: int) -> None:
        """Add to the sums of the rows with these values of ``KEY``."""
        sums = self._of.setdefault(key, [0, 0, 0])
        sums[0] += letters
        sums[1] += attempts
        sums[2] += created_us

    def write(self, connection: Connection) -> None:
        """Add everything to the counter rows."""
        rows = [
            (*key, letters, attempts, *divmod(created_us, _SECOND_US))
            for key, (letters, attempts, created_us) in self._of.items()
            if letters or attempts or created_us
        ]
        if rows:
            _ADD.many(connection, rows)


def _upsert(insert: Any) -> Any:
    statement = insert(counts)
    # Rows that were put in by hand are in no counter: taking one out must not make it negative.
    kept = {name: getattr(counts.c, name) + statement.excluded[name] for name in SUMS}
    kept["letters"] = case((kept["letters"] < _ZERO, _ZERO), else_=kept["letters"])
    return statement.on_conflict_do_update(index_elements=list(KEY), set_=kept)


_ADD = Prepared({"sqlite": _upsert(sqlite.insert), "postgresql": _upsert(postgresql.insert)}, (*KEY, *SUMS))
