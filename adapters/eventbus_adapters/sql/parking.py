"""Parking what a control closes: at a claim that would have handed it out, or as it arrives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from eventbus_adapters.sql import sequences
from eventbus_adapters.sql.closures import NOTHING_CLOSED
from eventbus_adapters.sql.counts import COUNTED
from eventbus_adapters.sql.encoding import ROW
from eventbus_adapters.sql.inserting import as_accepted
from eventbus_adapters.sql.locking import share_controls, try_lock
from eventbus_adapters.sql.statements import Statement
from eventbus_dlq.closing import is_held, reason_of
from eventbus_dlq.letter import DeadLetterState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from eventbus_adapters.sql.closures import KnownControls, Numbered
    from eventbus_adapters.sql.counts import Deltas
    from eventbus_adapters.sql.encoding import Value
    from eventbus_dlq.letter import DeadLetter

_STATE = COUNTED.index("state")
_ROW_STATE = ROW.index("state")
_PARKED: Final = DeadLetterState.PARKED.value

_KEYS = Statement(
    """WITH wanted (row_seq) AS (VALUES {rows})
    SELECT seq, handler_id, ordering_key FROM wanted CROSS JOIN {letters}
    WHERE seq = row_seq AND ordering_key IS NOT NULL""",
    row=["BIGINT"],
)
_PARK = Statement(
    """WITH wanted (row_seq) AS (VALUES {rows})
    UPDATE {letters} SET
        state_before = state, state = 'parked', reason = :why, live = 0, queued_us = NULL,
        updated_us = :now_us
    WHERE seq IN (SELECT row_seq FROM wanted) RETURNING state_before, {counted}""",
    row=["BIGINT"],
    counted=", ".join(COUNTED),
)
_HOLD = Statement(
    """WITH wanted (row_seq, number) AS (VALUES {rows})
    INSERT INTO {parked} (letter_seq, control, created_us)
    SELECT seq, number, created_us FROM wanted CROSS JOIN {letters} WHERE seq = row_seq
    ON CONFLICT (letter_seq) DO UPDATE SET control = excluded.control, created_us = excluded.created_us""",
    row=["BIGINT", "BIGINT"],
)
_HOLD_ARRIVED = Statement(
    """WITH wanted (known_id, number) AS (VALUES {rows})
    INSERT INTO {parked} (letter_seq, control, created_us)
    SELECT seq, number, created_us FROM wanted CROSS JOIN {letters} WHERE id = known_id AND {held}
    ON CONFLICT (letter_seq) DO UPDATE SET control = excluded.control, created_us = excluded.created_us""",
    row=["TEXT", "BIGINT"],
)


def park(connection: Connection, deltas: Deltas, closed: Mapping[int, Numbered], now_us: int) -> set[int]:
    """Park claimable letters, each by its control; return the numbers of the rows that were.

    The rows are locked, and so are the controls. What is in a sequence that somebody else has locked is
    left.
    """
    rows = list(closed)
    keyed = _KEYS.over(connection, [(it,) for it in rows])
    keys = {row.seq: (row.handler_id, row.ordering_key) for row in keyed}
    held_up = try_lock(connection, set(keys.values()), ())
    going = [it for it in rows if keys.get(it) not in held_up]
    by_reason: dict[str, list[tuple[int]]] = {}
    for seq in going:
        by_reason.setdefault(reason_of(closed[seq].control).value, []).append((seq,))
    for why, seqs in by_reason.items():
        parked = [tuple(row) for row in _PARK.over(connection, seqs, why=why, now_us=now_us)]
        deltas.take_out([_in_state(counted, before) for before, *counted in parked])
        deltas.take_in([tuple(counted) for _, *counted in parked])
    _HOLD.over(connection, [(seq, closed[seq].number) for seq in going])
    if keys:
        sequences.block(connection, deltas, [keys[it] for it in going if it in keys], now_us)
    return set(going)


def hold_back(
    connection: Connection,
    arrived: Sequence[DeadLetter],
    rows: list[tuple[Value, ...]],
    *,
    known: KnownControls | None,
    now: datetime | None,
) -> dict[str, int]:
    """Have those arrive accepted, among the ones that come parked by a control, which none closes.

    Their ``rows`` are replaced. Returns the ids of the others, each with the control that closes it.
    """
    came = [
        number for number, row in enumerate(rows) if row[_ROW_STATE] == _PARKED and is_held(arrived[number])
    ]
    if not came:
        return {}
    closures = NOTHING_CLOSED
    if known is not None and share_controls(connection):
        closures = known.current(connection)
    held: dict[str, int] = {}
    for number in came:
        letter = arrived[number]
        at = letter.updated_at if now is None else now
        control = closures.closing(letter.tenant, letter.event_name, letter.handler_id, at)
        if control is None:
            rows[number] = as_accepted(rows[number])
        else:
            held[letter.id] = control.number
    return held


def hold_arrived(connection: Connection, held: Mapping[str, int]) -> None:
    """Note which control has parked each of the letters that arrived so, by their ids."""
    _HOLD_ARRIVED.over(connection, list(held.items()))


def _in_state(counted: list[Any], state: str) -> tuple[Any, ...]:
    return (*counted[:_STATE], state, *counted[_STATE + 1 :])
