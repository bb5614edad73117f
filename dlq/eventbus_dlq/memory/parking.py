"""Letters that a control holds back: how they are parked, and how they come back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbus_dlq import closing, moves

if TYPE_CHECKING:
    from datetime import datetime

    from eventbus_dlq.letter import DeadLetter
    from eventbus_dlq.memory.controls import Controls
    from eventbus_dlq.memory.rows import Row, Rows


def park_if_closed(rows: Rows, controls: Controls, row: Row, *, now: datetime) -> bool:
    """Park a letter that would be handed out, if a control closes it; return whether one does."""
    control = controls.closed_by(row.letter, now)
    if control is not None:
        held = moves.parked(row.letter, closing.reason_of(control), now=now)
        rows.put(held, now=now, before=row.letter.state)
    return control is not None


def take_in(rows: Rows, controls: Controls, delivery: DeadLetter, *, now: datetime) -> Row:
    """Keep a new delivery that came parked: so if a control closes it and it has not to wait."""
    row = rows.insert(moves.unparked(delivery, None, now=delivery.updated_at))
    if not row.letter.waits and controls.closed_by(row.letter, now) is not None:
        return rows.put(delivery, now=None, before=row.letter.state)
    return row


def unpark(rows: Rows, controls: Controls, *, limit: int, now: datetime) -> bool:
    """Let up to ``limit`` letters go back that no control closes, the oldest first; tell of any left."""
    free = [it for it in rows.held() if controls.closed_by(it.letter, now) is None]
    for row in free[:limit]:
        rows.put(moves.unparked(row.letter, row.before, now=now), now=None)
    return len(free) > limit
