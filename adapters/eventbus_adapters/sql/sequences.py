"""Sequences: who is the head, who waits, who is parked; for letters without an ordering key, nothing.

In a blocked sequence no letter but the head is accepted, and in one that is not blocked every letter behind
the head is. So a look at its last two letters tells which of the two it is, however long it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from eventbus_adapters.sql.counts import COUNTED
from eventbus_adapters.sql.statements import Statement
from eventbus_adapters.sql.tables import IN_SEQUENCE
from eventbus_dlq.letter import DeadLetterState
from eventbus_dlq.store import SequenceKey

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from sqlalchemy import Connection

    from eventbus_adapters.sql.counts import Deltas

Key: TypeAlias = "tuple[str, str]"
"""Handler id and ordering key."""

_FAILED_STATES = frozenset({DeadLetterState.PENDING, DeadLetterState.EXHAUSTED, DeadLetterState.PARKED})
_KEY_TYPES = ("TEXT", "TEXT")
_PARTS = {
    "wanted": "WITH wanted (handler, line) AS (VALUES {rows})",
    "of_line": f"handler_id = handler AND ordering_key = line AND {IN_SEQUENCE}",
    "behind": "state = 'parked' AND reason = 'sequence'",
    "now": "CAST(:now_us AS BIGINT)",
    "counted": ", ".join(COUNTED),
}

_LAST_TWO = Statement(
    """{wanted} SELECT handler, line, state, state_before, waits FROM wanted CROSS JOIN {letters}
    WHERE seq IN (SELECT seq FROM {letters} {sequence} WHERE {of_line} ORDER BY seq DESC LIMIT 2)""",
    row=_KEY_TYPES,
    **_PARTS,
)
_FIRST = Statement(
    """{wanted} SELECT seq, waits, {counted}, ({behind}) AS parked
    FROM wanted CROSS JOIN {letters}
    WHERE seq = (SELECT seq FROM {letters} {sequence} WHERE {of_line} ORDER BY seq LIMIT 1)""",
    row=_KEY_TYPES,
    **_PARTS,
)
_HEAD = Statement(
    """SELECT seq, {counted} FROM {letters} {sequence}
    WHERE handler_id = :handler AND ordering_key = :line AND {in_sequence} AND waits = 0
    ORDER BY seq LIMIT 1 {sure}""",
    **_PARTS,
)
_PROMOTE = Statement(
    """WITH wanted (row_seq) AS (VALUES {rows})
    UPDATE {letters} SET waits = 0,
        queued_us = CASE WHEN state = 'accepted' OR {behind}
            THEN coalesce({now}, created_us) ELSE queued_us END,
        updated_us = CASE WHEN {behind} THEN coalesce({now}, updated_us) ELSE updated_us END,
        live = CASE WHEN {behind} AND kind = '' THEN 1 ELSE live END,
        reason = CASE WHEN {behind} THEN NULL ELSE reason END,
        state = CASE WHEN {behind} THEN 'accepted' ELSE state END
    WHERE seq IN (SELECT row_seq FROM wanted)""",
    row=["BIGINT"],
    **_PARTS,
)
_MAKE_WAIT = Statement("UPDATE {letters} SET waits = 1, queued_us = NULL WHERE seq = :row_seq")
_PARK = Statement(
    """{wanted} UPDATE {letters} SET
        state = 'parked', reason = 'sequence', live = 0, queued_us = NULL,
        updated_us = coalesce({now}, updated_us)
    WHERE seq IN (
        SELECT seq FROM wanted CROSS JOIN {letters} {sequence}
        WHERE {of_line} AND state = 'accepted' AND waits = 1
    ) RETURNING {counted}""",
    row=_KEY_TYPES,
    **_PARTS,
)
_KEYS = Statement(
    """WITH RECURSIVE known (line) AS (
        SELECT (SELECT ordering_key FROM {letters} {sequence}
            WHERE handler_id = :handler AND {in_sequence} ORDER BY ordering_key LIMIT 1)
        UNION ALL
        SELECT (SELECT ordering_key FROM {letters} {sequence}
            WHERE handler_id = :handler AND ordering_key > line AND {in_sequence}
            ORDER BY ordering_key LIMIT 1)
        FROM known WHERE line IS NOT NULL
    ) SELECT line FROM known WHERE line IS NOT NULL"""
)


class Line(NamedTuple):
    """What a letter finds that comes last in its sequence.

    Attributes:
        open: whether it has letters.
        blocked: whether one of them has failed or is parked.
    """

    open: bool
    blocked: bool


EMPTY = Line(open=False, blocked=False)


def key_of(row: Mapping[str, Any]) -> Key | None:
    """Return what names the sequence of a row, or None when it is in none."""
    return None if row["ordering_key"] is None else (row["handler_id"], row["ordering_key"])


def blocks(state: str, before: str | None) -> bool:
    """Tell whether an open letter in ``state`` blocks its sequence."""
    if state == DeadLetterState.RUNNING:
        return before != DeadLetterState.ACCEPTED
    return state in _FAILED_STATES


def lines(connection: Connection, keys: Collection[Key]) -> dict[Key, Line]:
    """Return how the sequences of ``keys`` stand."""
    found = dict.fromkeys(keys, EMPTY)
    for row in _LAST_TWO.over(connection, list(found)):
        key = (row.handler, row.line)
        blocked = found[key].blocked or blocks(row.state, row.state_before)
        found[key] = Line(open=True, blocked=blocked)
    return found


def enter(connection: Connection, row: Mapping[str, Any]) -> bool:
    """Find the place of a closed ``row`` that is about to be opened; return whether it waits."""
    handler, line = row["handler_id"], row["ordering_key"]
    heads = _HEAD.run(connection, handler=handler, line=line)
    if not heads:
        return False
    (head,) = heads
    if head.state == DeadLetterState.RUNNING or head.seq < row["seq"]:
        return True
    _MAKE_WAIT.run(connection, row_seq=head.seq)
    return False


def promote(connection: Connection, deltas: Deltas, keys: Collection[Key], now_us: int | None) -> None:
    """Make the first letter of each sequence, whose head has left, its head.

    Without ``now_us`` it counts as claimable since its creation, and as not changed.
    """
    firsts = [row for row in _FIRST.over(connection, list(dict.fromkeys(keys))) if row.waits]
    if not firsts:
        return
    _PROMOTE.over(connection, [(row.seq,) for row in firsts], now_us=now_us)
    for row in firsts:
        if row.parked:
            before = dict(zip(COUNTED, row[2:-1], strict=True))
            deltas.move(before, {**before, "state": DeadLetterState.ACCEPTED.value})


def block(connection: Connection, deltas: Deltas, keys: Collection[Key], now_us: int | None) -> None:
    """Park what is accepted and waits in sequences in each of which one letter has failed now."""
    ends = _LAST_TWO.over(connection, list(dict.fromkeys(keys)))
    free = {(row.handler, row.line) for row in ends if row.state == DeadLetterState.ACCEPTED and row.waits}
    park(connection, deltas, free, now_us)


def park(connection: Connection, deltas: Deltas, keys: Collection[Key], now_us: int | None) -> None:
    """Do the same for sequences that are known to have been free."""
    for parked in _PARK.over(connection, sorted(keys), now_us=now_us):
        after = dict(zip(COUNTED, parked, strict=True))
        deltas.move({**after, "state": DeadLetterState.ACCEPTED.value}, after)


def blocked(connection: Connection, handlers: Iterable[str]) -> frozenset[SequenceKey]:
    """Return the sequences of ``handlers`` that have open letters, with one seek for each."""
    return frozenset(
        SequenceKey(handler, row.line)
        for handler in handlers
        for row in _KEYS.run(connection, handler=handler)
    )
