"""Runs: who may begin one, how it ends, and what becomes of it when its owner has died."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from eventbus_dlq import closing, moves
from eventbus_dlq.errors import DeadLetterNotFound, InvalidTransition, LeaseHeld
from eventbus_dlq.letter import DeadLetterState, check_claim
from eventbus_dlq.memory import parking
from eventbus_dlq.memory.rows import Row, Rows, detached
from eventbus_dlq.store import Claim, Lease, Leased

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from eventbus_dlq.letter import DeadLetter
    from eventbus_dlq.memory.announcements import Announcements
    from eventbus_dlq.memory.controls import Controls
    from eventbus_dlq.store import Settlement


def claim(
    rows: Rows, controls: Controls, dead_letter_id: str, *, owner: str, lease: float, now: datetime
) -> Claim | Exception:
    """Take one letter for a run, or return why not."""
    row = rows.find(dead_letter_id)
    if row is None:
        return DeadLetterNotFound(dead_letter_id)
    control = controls.closed_by(row.letter, now)
    if closing.is_held(row.letter):
        return closing.refusal(dead_letter_id, control)
    try:
        check_claim(dead_letter_id, row.letter.state, waits=row.letter.waits)
    except (LeaseHeld, InvalidTransition) as error:
        return error
    if control is not None:
        return closing.refusal(dead_letter_id, control)
    return _taken(rows, row, owner=owner, lease=lease, now=now)


def claim_due(
    rows: Rows,
    controls: Controls,
    wanted: Mapping[str, int],
    *,
    states: Collection[DeadLetterState],
    limit: int,
    owner: str,
    lease: float,
    now: datetime,
) -> Sequence[Claim]:
    """Take what is due for a run, the most urgent first, within the limits; park what is closed."""
    due = [(since, row) for row in rows.claimable() if (since := _due_since(row, states, now)) is not None]
    due.sort(key=lambda it: (it[1].letter.priority, it[0], it[1].position.number))
    left = dict(wanted)
    claims: list[Claim] = []
    for _, row in due:
        if len(claims) >= limit:
            break
        handler_id = row.letter.handler_id
        if left.get(handler_id, 0) > 0 and not parking.park_if_closed(rows, controls, row, now=now):
            left[handler_id] -= 1
            claims.append(_taken(rows, row, owner=owner, lease=lease, now=now))
    return claims


def _due_since(row: Row, states: Collection[DeadLetterState], now: datetime) -> datetime | None:
    """Return since when a row that may be claimed has been due; None when it is not, or not wanted."""
    if row.letter.state not in states:
        return None
    if row.letter.state is DeadLetterState.ACCEPTED:
        return row.queued_at
    retry_at = row.letter.retry_at
    return retry_at if retry_at is not None and retry_at <= now else None


def _taken(rows: Rows, row: Row, *, owner: str, lease: float, now: datetime) -> Claim:
    running = moves.claimed(row.letter, owner=owner, lease=lease, now=now)
    rows.put(running, now=now, before=row.letter.state)
    return Claim(letter=detached(running), lease=Lease(dead_letter_id=running.id, token=running.token))


def extend(rows: Rows, lease: Lease, *, until: datetime) -> bool:
    """Move the end of a lease; return False when it is lost."""
    row = _owned(rows, lease)
    if row is not None:
        rows.put(replace(row.letter, lease_until=until), now=None, before=row.before)
    return row is not None


def settle(rows: Rows, announcements: Announcements, settlement: Settlement, *, now: datetime) -> bool:
    """Record how a run ended; return False, and change nothing, when the lease is lost."""
    row = _owned(rows, settlement.lease)
    if row is None:
        return False
    letter = moves.settled(row.letter, settlement, row.before, now=now)
    if moves.is_forgotten(row.letter, settlement):
        rows.put(letter, now=now)
        rows.remove(rows[letter.id])
    else:
        announcements.note(rows.put(letter, now=now).letter, at=now)
    return True


def release(rows: Rows, lease: Lease, *, now: datetime) -> bool:
    """Give a letter back; return False, and change nothing, when the lease is lost."""
    row = _owned(rows, lease)
    if row is not None:
        rows.put(moves.released(row.letter, row.before, now=now), now=now)
    return row is not None


def _owned(rows: Rows, lease: Lease) -> Row | None:
    """Return the row that ``lease`` is current for."""
    row = rows.find(lease.dead_letter_id)
    if row is None or row.letter.state is not DeadLetterState.RUNNING or row.letter.token != lease.token:
        return None
    return row


def leased(rows: Rows) -> Sequence[Leased]:
    """Return every letter that is running."""
    running = (row.letter for row in rows if row.letter.state is DeadLetterState.RUNNING)
    return [seen for letter in running if (seen := _as_leased(letter)) is not None]


def rescue(
    rows: Rows, announcements: Announcements, seen: Leased, *, max_crashes: int, now: datetime
) -> DeadLetter | None:
    """Take a letter back from an owner that has died; None when it is not as it was ``seen``."""
    row = rows.find(seen.dead_letter_id)
    if row is None or row.letter.state is not DeadLetterState.RUNNING:
        return None
    if (row.letter.token, row.letter.lease_until) != (seen.token, seen.lease_until):
        return None
    rescued = moves.rescued(row.letter, row.before, max_crashes=max_crashes, now=now)
    letter = rows.put(rescued, now=now).letter
    if letter.crashes >= max_crashes:
        announcements.note(letter, at=now)
    return detached(letter)


def _as_leased(letter: DeadLetter) -> Leased | None:
    if letter.lease_until is None:
        return None
    return Leased(
        dead_letter_id=letter.id,
        token=letter.token,
        lease_until=letter.lease_until,
        owner=letter.lease_owner or "",
        expired=None,
    )
