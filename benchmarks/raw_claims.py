"""The floor of the claim benchmarks: plain ``sqlite3`` that claims and settles as the store does.

File, tables and indexes are the store's, and the connection has its settings. A claim is one statement that
takes the hundred most urgent along the store's own index and returns their whole rows; a settlement writes
what the store would write, and both add to the counter rows in their transactions. What is missing is
everything else: no row is decoded or checked, all are taken to be of one handler, event and tenant, an
error is written as it was read, and nobody but this one connection asks for anything.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.stored import ACCEPTED, BATCH, HANDLER
from eventbus_dlq import DeadLetterState

Row: TypeAlias = "tuple[Any, ...]"

_LETTERS = "eventbus_dead_letters"
_COUNTS = "eventbus_dead_letter_counts"
_LEASE_US = 30_000_000
_RETRY_US = 60_000_000
_HELD = "WHERE id = ? AND token = ? AND state = 'running'"
_AT_REST = (
    "state_before = NULL, reason = NULL, lease_owner = NULL, lease_us = NULL, "
    "state = ?, retry_us = ?, updated_us = ?, last_attempt_us = ?"
)
_FAILURE = (
    "error_type",
    "error_message",
    "error_code",
    "kind",
    "category",
    "route",
    "annotations",
    "error",
    "history",
)
_FORGET = f"DELETE FROM {_LETTERS} {_HELD}"
_FAIL = f"UPDATE {_LETTERS} SET {_AT_REST}, {', '.join(f'{name} = ?' for name in _FAILURE)} {_HELD}"
_COUNTED = ("event_name", "handler_id", "kind", "category", "route")
_ADD = f"INSERT INTO {_COUNTS} VALUES ({', '.join('?' * 11)}) ON CONFLICT DO UPDATE SET " + ", ".join(
    f"{name} = {name} + excluded.{name}" for name in ("letters", "attempts", "created_s", "created_rest_us")
)


class RawClaims:
    """Claims and settles what a file holds.

    Args:
        path: the file.
        state: in which state its letters are claimed: accepted, or pending.
    """

    def __init__(self, path: Path, state: DeadLetterState) -> None:
        self._state = state
        self._connection = sqlite3.connect(path, isolation_level=None)
        for pragma in ("synchronous=FULL", "wal_autocheckpoint=10000", "cache_size=-65536"):
            self._connection.execute(f"PRAGMA {pragma}")
        columns = [name for _, name, *_ in self._connection.execute(f"PRAGMA table_info({_LETTERS})")]
        self._at = {name: number for number, name in enumerate(columns)}
        fresh = state is ACCEPTED
        since, index = ("queued_us", "ready") if fresh else ("retry_us", "due")
        self._claim = (
            f"UPDATE {_LETTERS} SET state_before = state, state = 'running', attempts = attempts + 1, "
            f"token = token + 1, retries = retries + {int(not fresh)}, queued_us = NULL, "
            "lease_owner = 'worker', lease_us = ?, updated_us = ? WHERE seq IN ("
            f"SELECT seq FROM {_LETTERS} INDEXED BY eventbus_letters_{index} "
            f"WHERE state = '{state}' AND waits = 0 AND handler_id = '{HANDLER}' "
            f"ORDER BY priority, {since} LIMIT {BATCH}) RETURNING *"
        )

    def run(self, operations: int) -> None:
        """Claim and settle that many, in batches, each in a transaction of its own."""
        for _ in range(operations // BATCH):
            self._settle(self._claimed())

    def _claimed(self) -> Sequence[Row]:
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        now_us = time.time_ns() // 1000
        rows = execute(self._claim, (now_us + _LEASE_US, now_us)).fetchall()
        self._move(rows, self._state, DeadLetterState.RUNNING, charged=True)
        execute("COMMIT")
        return rows

    def _settle(self, rows: Sequence[Row]) -> None:
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        held = [(row[self._at["id"]], row[self._at["token"]]) for row in rows]
        if self._state is ACCEPTED:
            self._connection.executemany(_FORGET, held)
            self._move(rows, DeadLetterState.RUNNING, None)
        else:
            now_us = time.time_ns() // 1000
            at_rest = (str(self._state), now_us + _RETRY_US, now_us, now_us)
            news = [(*at_rest, *self._failed_again(row)) for row in rows]
            self._connection.executemany(_FAIL, [(*new, *it) for new, it in zip(news, held, strict=True)])
            self._move(rows, DeadLetterState.RUNNING, self._state)
        execute("COMMIT")

    def _failed_again(self, row: Row) -> Row:
        """Return the columns of a failure like the last one: one more attempt that is like it."""
        *failure, history = [row[self._at[name]] for name in _FAILURE]
        return (*failure, history[:-1] + b"," + history[1:])

    def _move(
        self,
        rows: Sequence[Row],
        before: DeadLetterState,
        after: DeadLetterState | None,
        *,
        charged: bool = False,
    ) -> None:
        """Count rows, all of one sort, out of one state and into another."""
        key = ("", *(rows[0][self._at[name]] for name in _COUNTED))
        attempts = sum(row[self._at["attempts"]] for row in rows)
        created_us = sum(row[self._at["created_us"]] for row in rows)
        uncharged = attempts - len(rows) * charged
        out = (-len(rows), -uncharged, *divmod(-created_us, 1_000_000))
        self._connection.execute(_ADD, (*key, str(before), *out))
        if after is not None:
            into = (len(rows), attempts, *divmod(created_us, 1_000_000))
            self._connection.execute(_ADD, (*key, str(after), *into))
