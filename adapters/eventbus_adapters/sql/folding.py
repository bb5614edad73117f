"""Folding what transactions have appended to the counters into the counter rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbus_adapters.sql.counts import KEY, SUMS
from eventbus_adapters.sql.statements import Statement
from eventbus_adapters.sql.tables import count_deltas, counts

if TYPE_CHECKING:
    from sqlalchemy import Connection

FOLDED = 20_000
"""How many appended rows one transaction folds, at most."""

_LOCK = int.from_bytes(b"eb.folds")
_ALONE = Statement(
    f"SELECT pg_try_advisory_xact_lock({_LOCK} # CAST('{counts.name}' AS regclass)::oid::bigint)"
)
_KEYS = ", ".join(KEY)
_SUMS = ", ".join(SUMS)
# Rows that were put in by hand are in no counter: taking one out must not make it negative.
_ADDED = ", ".join(f"sum({name})" for name in SUMS)
_KEPT = ", ".join(
    f"{name} = known.{name} + excluded.{name}"
    if name != "letters"
    else "letters = greatest(0, known.letters + excluded.letters)"
    for name in SUMS
)
_FOLD = Statement(
    f"""WITH gone AS (
        DELETE FROM {count_deltas.name} WHERE seq IN (
            SELECT seq FROM {count_deltas.name} ORDER BY seq LIMIT {FOLDED}
        ) RETURNING {_KEYS}, {_SUMS}
    ), folded AS (
        INSERT INTO {counts.name} AS known ({_KEYS}, {_SUMS})
        SELECT {_KEYS}, {_ADDED} FROM gone GROUP BY {_KEYS} ORDER BY {_KEYS}
        ON CONFLICT ({_KEYS}) DO UPDATE SET {_KEPT}
    ) SELECT count(*) FROM gone"""  # noqa: S608  # names of ours
)


def fold(connection: Connection) -> int:
    """Fold up to ``FOLDED`` rows; return how many. 0 also while another process is at it."""
    if not _ALONE.run(connection)[0][0]:
        return 0
    return int(_FOLD.run(connection)[0][0])
