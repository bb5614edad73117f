"""What a verb makes of the rows it has read: written together at its end, with what follows for sequences."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, delete, update

from eventbus_adapters.sql import sequences
from eventbus_adapters.sql.announcing import announce, exhausted
from eventbus_adapters.sql.counts import COUNTED
from eventbus_adapters.sql.encoding import (
    FAILING,
    ROW,
    STANDING,
    failing_of,
    microseconds,
    row_of,
    standing_of,
    word_of,
)
from eventbus_adapters.sql.prepared import Prepared
from eventbus_adapters.sql.tables import letters
from eventbus_dlq import moves
from eventbus_dlq.letter import OPEN_STATES, DeadLetterState

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import Connection

    from eventbus_adapters.sql.counts import Deltas
    from eventbus_adapters.sql.sequences import Key
    from eventbus_dlq.letter import DeadLetter

EVERYTHING = tuple(name for name in ROW if name not in {"id", "event_id", "handler_id"})
"""The columns that are not how a letter is known."""


@lru_cache
def _saving(names: tuple[str, ...]) -> Prepared:
    values: list[tuple[str, Any]] = [(name, bindparam(f"new_{name}")) for name in names]
    return Prepared(
        update(letters).where(letters.c.seq == bindparam("row_seq")).ordered_values(*values),
        [*(f"new_{name}" for name in names), "row_seq"],
    )


_DELETE = Prepared(delete(letters).where(letters.c.seq == bindparam("row_seq")), ["row_seq"])


_EXHAUSTED = DeadLetterState.EXHAUSTED.value
_SELDOM_CHANGED = ("live", "fingerprint")
"""Columns of indexes: SQLite writes all indexes again that have to do with them, when they are set."""


class Changes:
    """The changes of one verb to rows that it has locked; nothing of them is lost once :meth:`write` returns.

    Args:
        now: when those letters change whose place in their sequence follows from it; None for not at all.
    """

    def __init__(self, connection: Connection, deltas: Deltas, *, now: datetime | None) -> None:
        self._connection = connection
        self._deltas = deltas
        self._now_us = None if now is None else microseconds(now)
        self._waiting: dict[Prepared, list[tuple[Any, ...]]] = {}
        self._exhausted: list[tuple[Any, ...]] = []
        self._left: list[Key] = []
        self._failed: list[Key] = []

    def standing(self, row: Mapping[str, Any], letter: DeadLetter, *, announces: bool = True) -> DeadLetter:
        """Write where ``letter``, at rest, stands now into its ``row``; return it as it is then.

        Its error and history stay as they are. That it is exhausted now is told of, unless it only goes back
        to being so.
        """
        letter = self._placed(row, letter)
        if announces:
            self._note(row, letter)
        self._save(row, STANDING, standing_of(letter, letter.updated_at))
        return letter

    def failing(self, row: Mapping[str, Any], letter: DeadLetter) -> DeadLetter:
        """Write where ``letter`` stands now, and how it failed, into its ``row``; return it as it is then."""
        letter = self._placed(row, letter)
        self._note(row, letter)
        self._save(row, FAILING, failing_of(letter, letter.updated_at))
        return letter

    def everything(self, row: Mapping[str, Any], letter: DeadLetter) -> DeadLetter:
        """Write ``letter`` over its ``row``; only its id, event id and handler id stay."""
        letter = self._placed(row, letter)
        self._note(row, letter)
        after = dict(zip(ROW, row_of(letter, queued_at=letter.updated_at), strict=True))
        self._save(row, EVERYTHING, tuple(after[name] for name in EVERYTHING))
        return letter

    def remove(self, row: Mapping[str, Any]) -> None:
        """Delete a row."""
        self._write(_DELETE, row, ())
        self._deltas.add(row, -1)
        self.left(row)

    def left(self, row: Mapping[str, Any]) -> None:
        """Note that a row, as it was, is open no more."""
        key = sequences.key_of(row)
        if key is not None and row["state"] in OPEN_STATES and not row["waits"]:
            self._left.append(key)

    def write(self) -> None:
        """Write what was gathered, then let the sequences move on."""
        self._flush()
        if self._exhausted:
            announce(self._connection, self._exhausted)
        if self._left:
            sequences.promote(self._connection, self._deltas, self._left, self._now_us)
        if self._failed:
            sequences.block(self._connection, self._deltas, self._failed, self._now_us)

    def _note(self, row: Mapping[str, Any], letter: DeadLetter) -> None:
        """Note that a letter is to be announced, if it has become exhausted."""
        if letter.state is DeadLetterState.EXHAUSTED and row["state"] != _EXHAUSTED:
            told = {**row, "reason": word_of(letter.reason)}
            self._exhausted.append(exhausted(told, microseconds(letter.updated_at)))

    def _save(self, row: Mapping[str, Any], names: tuple[str, ...], values: tuple[Any, ...]) -> None:
        after = dict(zip(names, values, strict=True))
        before = {name: row[name] for name in COUNTED}
        self._deltas.move(before, {**before, **after})
        for name in _SELDOM_CHANGED:
            if name in after and after[name] == row[name]:
                del after[name]
        self._write(_saving(tuple(after)), row, tuple(after.values()))

    def _write(self, statement: Prepared, row: Mapping[str, Any], values: tuple[Any, ...]) -> None:
        self._waiting.setdefault(statement, []).append((*values, row["seq"]))

    def _flush(self) -> None:
        for statement, rows in self._waiting.items():
            statement.many(self._connection, rows)
        self._waiting.clear()

    def _placed(self, row: Mapping[str, Any], letter: DeadLetter) -> DeadLetter:
        """Return ``letter`` with its place in its sequence, and note what its change means for others."""
        key = sequences.key_of(row)
        if key is None:
            return letter
        was_open, is_open = row["state"] in OPEN_STATES, letter.state in OPEN_STATES
        if not is_open:
            self.left(row)
            return moves.replace(letter, waits=False)
        if not was_open:
            self._flush()
            letter = moves.replace(letter, waits=sequences.enter(self._connection, row))
        if sequences.blocks(letter.state, None) and not (
            was_open and sequences.blocks(row["state"], row["state_before"])
        ):
            self._failed.append(key)
        return letter
