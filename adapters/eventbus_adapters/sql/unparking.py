"""Letting letters go back to the state before a control has parked them, when none closes them any more."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from eventbus_adapters.sql.closures import Closures, all_controls
from eventbus_adapters.sql.counts import COUNTED
from eventbus_adapters.sql.encoding import microseconds
from eventbus_adapters.sql.locking import try_lock
from eventbus_adapters.sql.statements import Statement
from eventbus_dlq.letter import DeadLetterState, Reason

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

    from eventbus_adapters.sql.counts import Deltas

_ABREAST = 32  # controls whose letters go back together, the oldest first
_ROUNDS = 5  # looks at the oldest in one transaction, most of which may be closed by another control
_STATE = COUNTED.index("state")
_ACCEPTED, _PENDING = DeadLetterState.ACCEPTED.value, DeadLetterState.PENDING.value
_PARKED: Final = DeadLetterState.PARKED.value

_REOPENED = Statement("SELECT number FROM {controls} WHERE {reopened} ORDER BY number LIMIT :most")
_OLDEST = """SELECT * FROM (
    SELECT created_us, letter_seq, control FROM {parked} WHERE control = :control_@
    ORDER BY created_us, letter_seq LIMIT :most
) AS oldest_@"""
_FORGET_STALE = Statement(
    """WITH wanted (row_seq) AS (VALUES {rows})
    DELETE FROM {parked} WHERE letter_seq IN (SELECT row_seq FROM wanted)
    AND NOT EXISTS (SELECT 1 FROM {letters} WHERE seq = letter_seq AND {held}) RETURNING letter_seq""",
    row=["BIGINT"],
)
_LOOK = Statement(
    """WITH wanted (row_seq) AS (VALUES {rows})
    SELECT seq, tenant, event_name, handler_id, ordering_key, waits, kind, state_before
    FROM {letters} WHERE seq IN (SELECT row_seq FROM wanted) AND {held} ORDER BY seq {skip_locked}""",
    row=["BIGINT"],
)
_HAND_ON = Statement(
    """WITH wanted (row_seq, number) AS (VALUES {rows})
    UPDATE {parked} SET control = (SELECT number FROM wanted WHERE row_seq = letter_seq)
    WHERE letter_seq IN (SELECT row_seq FROM wanted)""",
    row=["BIGINT", "BIGINT"],
)
_GO_BACK = Statement(
    """WITH wanted (row_seq) AS (VALUES {rows})
    UPDATE {letters} SET
        state = :state, reason = :why, state_before = NULL,
        live = CASE WHEN CAST(:state AS TEXT) = 'accepted' AND kind = '' THEN 1 ELSE 0 END,
        queued_us = CASE WHEN CAST(:state AS TEXT) = 'accepted' THEN created_us END,
        retry_us = CASE WHEN CAST(:state AS TEXT) = 'pending'
            THEN coalesce(retry_us, :now_us) ELSE retry_us END,
        updated_us = :now_us
    WHERE seq IN (SELECT row_seq FROM wanted) RETURNING {counted}""",
    row=["BIGINT"],
    counted=", ".join(COUNTED),
)
_LET_GO = Statement(
    """WITH wanted (row_seq) AS (VALUES {rows})
    DELETE FROM {parked} WHERE letter_seq IN (SELECT row_seq FROM wanted)""",
    row=["BIGINT"],
)
_FINISH = Statement(
    """DELETE FROM {controls} WHERE {reopened}
    AND NOT EXISTS (SELECT 1 FROM {parked} WHERE control = number)"""
)


class Unparked(NamedTuple):
    """How far letting letters go back has come.

    Attributes:
        went: whether any has gone back, or need not any more.
        left: whether there may be more of them.
    """

    went: bool
    left: bool


def unpark_some(connection: Connection, deltas: Deltas, *, limit: int, now: datetime) -> Unparked:
    """Let up to ``limit`` letters go back that no control closes.

    The controls are locked. What somebody else's transaction has locked is left for another time.
    """
    _FINISH.run(connection)
    closures: Closures | None = None
    went = False
    left = limit
    for _ in range(_ROUNDS):
        wanted = _oldest(connection, left) if left > 0 else []
        if not wanted:
            break
        if closures is None:
            closures = Closures(all_controls(connection))
        back, done = _go_back(connection, deltas, wanted, closures, now)
        _FINISH.run(connection)
        left -= back
        went = went or done > 0
        if not done:
            break
    return Unparked(went, bool(_REOPENED.run(connection, most=1)))


def _oldest(connection: Connection, most: int) -> list[int]:
    """Return the rows of the oldest letters that controls have parked which are open now."""
    numbers = [row.number for row in _REOPENED.run(connection, most=_ABREAST)]
    found: list[tuple[int, int]] = []
    start = 0
    while start < len(numbers):
        size = 1 << (len(numbers) - start).bit_length() - 1
        values = {f"control_{at}": number for at, number in enumerate(numbers[start : start + size])}
        rows = _seeks(size).run(connection, most=most, **values)
        found += [(row.created_us, row.letter_seq) for row in rows]
        start += size
    return [seq for _, seq in sorted(found)[:most]]


@lru_cache(maxsize=8)
def _seeks(controls: int) -> Statement:
    return Statement(" UNION ALL ".join(_OLDEST.replace("@", str(number)) for number in range(controls)))


def _go_back(
    connection: Connection, deltas: Deltas, wanted: list[int], closures: Closures, now: datetime
) -> tuple[int, int]:
    """Let letters go back, or hand them on to a control that closes them; return how many did, and of all."""
    listed = [(seq,) for seq in wanted]
    stale = len(_FORGET_STALE.over(connection, listed))
    rows = _LOOK.over(connection, listed)
    handed_on: list[tuple[int, int]] = []
    free: list[Any] = []
    for row in rows:
        closed = closures.closing(row.tenant, row.event_name, row.handler_id, now)
        if closed is None:
            free.append(row)
        else:
            handed_on.append((row.seq, closed.number))
    _HAND_ON.over(connection, handed_on)
    going = _unlocked(connection, free)
    _move(connection, deltas, going, microseconds(now))
    _LET_GO.over(connection, [(row.seq,) for row in going])
    return len(going), len(going) + len(handed_on) + stale


def _unlocked(connection: Connection, rows: list[Any]) -> list[Any]:
    """Return those of ``rows`` whose sequences nobody else has locked; they are locked then."""
    keys = {(row.handler_id, row.ordering_key) for row in rows if row.ordering_key is not None}
    held_up = try_lock(connection, keys, ())
    return [row for row in rows if (row.handler_id, row.ordering_key) not in held_up]


def _move(connection: Connection, deltas: Deltas, rows: list[Any], now_us: int) -> None:
    groups: dict[tuple[str, str | None], list[tuple[int]]] = {}
    for row in rows:
        groups.setdefault(_place_of(row), []).append((row.seq,))
    for (state, why), seqs in groups.items():
        counted = _GO_BACK.over(connection, seqs, state=state, why=why, now_us=now_us)
        after = [tuple(row) for row in counted]
        deltas.take_out([(*row[:_STATE], _PARKED, *row[_STATE + 1 :]) for row in after])
        deltas.take_in(after)


def _place_of(row: Any) -> tuple[str, str | None]:
    """Return state and reason of a letter that goes back.

    Behind another one of its sequence, which has come back from the closed ones, and so has failed, an
    accepted one is parked.
    """
    state = row.state_before
    if state not in (_ACCEPTED, _PENDING):  # it was not parked by a claim: it goes on as what it looks like
        state = _PENDING if row.kind else _ACCEPTED
    if state == _ACCEPTED and row.waits:
        return _PARKED, Reason.SEQUENCE.value
    return state, None
